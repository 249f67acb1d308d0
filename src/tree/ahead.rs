//! What is likely to be read next: files lie in runs, and in packs, in the order of a walk.

use std::sync::Arc;

use crate::base::{PackId, Result};

use super::Tree;
use super::file::{File, ReadBytes};
use super::node::NodeId;

/// The longest file that counts as small, in bytes: the longest that is one chunk by default.
const SMALL_FILE_BYTES_MAX: u32 = 128 << 10;

/// A frame by its place: two files of one frame cost one fetch and one decompression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    pack: PackId,
    offset: u32,
}

/// A file that is one chunk, or stands in its entry: it can be had whole at once.
pub struct SmallFile {
    /// Its node.
    pub node: NodeId,
    /// The frame that it is in; None if its entry has it.
    pub frame: Option<FramePlace>,
    file: Arc<File>,
}

impl Tree {
    /// The small file that was first recorded so many rows after `node`, in the same run. None if something else, or
    /// nothing that can be read, stands there.
    pub fn small_file_after(&self, node: NodeId, rows: u64) -> Option<SmallFile> {
        let node = node.rows_later(rows)?;
        // Damage is told when somebody reads it, not when it is guessed that somebody may.
        let file = self.file(node).ok()?;
        let frame = file.frame_if_small(u64::from(SMALL_FILE_BYTES_MAX))?;
        Some(SmallFile { node, frame, file })
    }

    /// The whole of a small file.
    ///
    /// # Errors
    /// Like those of `read`.
    pub fn read_small_file(&self, small: &SmallFile) -> Result<ReadBytes> {
        let whole = SMALL_FILE_BYTES_MAX;
        let fetcher = self.points.fetcher();
        small.file.read(fetcher, &self.extent_lists, 0, whole)
    }
}

impl SmallFile {
    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.file.metadata.size
    }
}

impl FramePlace {
    pub(super) fn new(pack: PackId, offset: u32) -> Self {
        Self { pack, offset }
    }
}
