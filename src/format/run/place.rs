//! Where the pieces of a run lie, and what they are sealed with.

use std::fmt;

use bytes::Bytes;

use crate::base::limits::FOOTER_PLAIN_BYTES_MAX;
use crate::base::{ByteReader, ByteWriter, Result, RunId};
use crate::format::Section;
use crate::seal::{SEAL_OVERHEAD_BYTES, SealedKind, sealed_bytes_max};

/// The plain bytes up to which a piece stands in the footer instead of by itself: a request saved for few bytes.
pub const INLINE_PIECE_BYTES_MAX: usize = 1024;

/// The sequences of blocks that a run has. The numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Sequence {
    /// The records of directories.
    Directories = 0,
    /// The records of everything else.
    Files = 1,
    /// The origin map.
    Origins = 2,
    /// What the backup warned of.
    Warnings = 3,
}

impl Sequence {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 4] = [
        Self::Directories,
        Self::Files,
        Self::Origins,
        Self::Warnings,
    ];

    /// The kind that its blocks are sealed as.
    pub fn block_kind(self) -> SealedKind {
        match self {
            Self::Directories | Self::Files => SealedKind::RunBlock,
            Self::Origins => SealedKind::RunOrigins,
            Self::Warnings => SealedKind::RunWarnings,
        }
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directories => "its directories",
            Self::Files => "its files",
            Self::Origins => "its origin map",
            Self::Warnings => "its warnings",
        })
    }
}

impl From<Section> for Sequence {
    fn from(section: Section) -> Self {
        match section {
            Section::Directories => Self::Directories,
            Section::Files => Self::Files,
        }
    }
}

/// The tables that a run has. The numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// The packs and origin runs that entries name by ordinal.
    Ids = 0,
    /// The names of owners.
    Owners = 1,
}

/// The filters that a run has, unless it is a base run. The numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Filter {
    /// Keys of directories.
    DirectoryKeys = 0,
    /// Keys of everything else.
    FileKeys = 1,
    /// What the keys of a directory's children begin with, where a child is a directory.
    DirectoryParents = 2,
    /// The same, where a child is anything else.
    FileParents = 3,
}

impl Filter {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 4] = [
        Self::DirectoryKeys,
        Self::FileKeys,
        Self::DirectoryParents,
        Self::FileParents,
    ];

    /// The filter of a section's keys.
    pub fn of_keys(section: Section) -> Self {
        match section {
            Section::Directories => Self::DirectoryKeys,
            Section::Files => Self::FileKeys,
        }
    }

    /// The filter of the parents of a section's keys.
    pub fn of_parents(section: Section) -> Self {
        match section {
            Section::Directories => Self::DirectoryParents,
            Section::Files => Self::FileParents,
        }
    }
}

/// What a piece of a run is sealed with: the run's id, which sequence, table or filter it belongs to, and its number
/// there. None is ever taken for another, since the sealed kind is authenticated too.
pub fn associated_data(run: &RunId, part_of: u8, number: u64) -> [u8; 25] {
    let mut associated = [0; 25];
    associated[..16].copy_from_slice(&run.0);
    associated[16] = part_of;
    associated[17..].copy_from_slice(&number.to_le_bytes());
    associated
}

/// A piece that the footer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PieceAt {
    /// Its plain bytes, in the footer itself.
    Inline(Bytes),
    /// Its place in the run's object, and its sealed length.
    Apart { offset: u64, length: u32 },
}

const INLINE: u8 = 0;
const APART: u8 = 1;

impl PieceAt {
    /// A piece without a byte.
    pub fn empty() -> Self {
        Self::Inline(Bytes::new())
    }

    pub(super) fn encode(&self, writer: &mut ByteWriter) {
        match self {
            Self::Inline(plain) => {
                writer.u8(INLINE);
                writer.framed(plain);
            }
            Self::Apart { offset, length } => {
                writer.u8(APART);
                writer.varint(*offset);
                writer.varint(u64::from(*length));
            }
        }
    }

    /// `end` is where the run's pieces end and its footer begins.
    pub(super) fn decode(reader: &mut ByteReader<'_>, end: u64) -> Result<Self> {
        match reader.u8()? {
            INLINE => {
                let plain = reader.framed(INLINE_PIECE_BYTES_MAX)?;
                Ok(Self::Inline(Bytes::copy_from_slice(plain)))
            }
            APART => {
                let offset = reader.varint()?;
                let length = reader.varint_u32()?;
                if !is_sealed_length(length) || !lies_before(offset, u64::from(length), end) {
                    return Err(reader.corrupt("a piece lies outside of its run"));
                }
                Ok(Self::Apart { offset, length })
            }
            other => Err(reader.corrupt(&format!("a piece is at a place of kind {other}"))),
        }
    }
}

/// Can a sealed piece of a run have this length?
pub(super) fn is_sealed_length(length: u32) -> bool {
    (SEAL_OVERHEAD_BYTES..=sealed_bytes_max(FOOTER_PLAIN_BYTES_MAX)).contains(&(length as usize))
}

/// Does a range of bytes end at or before `end`?
pub(super) fn lies_before(offset: u64, length: u64, end: u64) -> bool {
    offset.checked_add(length).is_some_and(|last| last <= end)
}
