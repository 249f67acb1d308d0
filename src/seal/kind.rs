//! What kind of piece is sealed: the first byte of its header, so that none is ever taken for another.

use std::fmt;

use crate::base::limits::{
    BLOCK_PLAIN_BYTES_MAX, FOOTER_PLAIN_BYTES_MAX, FRAME_PLAIN_BYTES_MAX, JSON_BYTES_MAX,
    POINT_PLAIN_BYTES_MAX,
};

/// The kind of a sealed piece. The numbers are the format's: they never change and are never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SealedKind {
    /// A frame in a pack: one chunk or many, of files' content.
    Data = 1,
    /// A frame in a pack: extent lists.
    ExtentList = 2,
    /// A point's header.
    Point = 8,
    /// A roll-up of points' headers.
    RollUp = 9,
    /// A lease, where it must not be read by everyone.
    Lease = 12,
    /// What is known of a password's key.
    KeyDescription = 13,
    /// A block of entries.
    RunBlock = 16,
    /// A run's block index.
    RunBlockIndex = 17,
    /// A part of a run's filters.
    RunFilter = 18,
    /// A run's tables of packs, origin runs and owners.
    RunTable = 19,
    /// A block of a run's origin map.
    RunOrigins = 20,
    /// A run's warnings.
    RunWarnings = 21,
    /// A run's footer.
    RunFooter = 22,
    /// A pack's directory.
    PackDirectory = 32,
    /// A page of an index run's rows.
    Index = 48,
    /// An index run's footer and tables.
    IndexFooter = 49,
}

impl SealedKind {
    /// Plain bytes that a piece of this kind may have: the bound for writers, and what a reader without a tighter
    /// one of its own passes to `open`.
    pub fn plain_bytes_max(self) -> usize {
        match self {
            Self::Data | Self::ExtentList => FRAME_PLAIN_BYTES_MAX,
            Self::Point | Self::RollUp => POINT_PLAIN_BYTES_MAX,
            Self::Lease | Self::KeyDescription => JSON_BYTES_MAX,
            Self::RunBlock | Self::Index => BLOCK_PLAIN_BYTES_MAX,
            Self::RunBlockIndex
            | Self::RunFilter
            | Self::RunTable
            | Self::RunOrigins
            | Self::RunWarnings
            | Self::RunFooter
            | Self::PackDirectory
            | Self::IndexFooter => FOOTER_PLAIN_BYTES_MAX,
        }
    }
}

impl fmt::Display for SealedKind {
    /// With an article, to begin a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "a frame",
            Self::ExtentList => "a frame of extent lists",
            Self::Point => "a point's header",
            Self::RollUp => "a roll-up of points",
            Self::Lease => "a lease",
            Self::KeyDescription => "a key's description",
            Self::RunBlock => "a block of a run",
            Self::RunBlockIndex => "a run's block index",
            Self::RunFilter => "a run's filter",
            Self::RunTable => "a run's table",
            Self::RunOrigins => "a run's origin map",
            Self::RunWarnings => "a run's list of warnings",
            Self::RunFooter => "a run's footer",
            Self::PackDirectory => "a pack's directory",
            Self::Index => "a page of an index run",
            Self::IndexFooter => "an index run's footer",
        })
    }
}
