//! What is likely to be read next: files lie in runs, and in packs, in the order of a walk.

use std::sync::Arc;

use crate::base::{PackId, Result};
use crate::fetch::Interested;
use crate::format::ChunkPlace;

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

impl Tree {
    /// Where the first `bytes_max` bytes of a file's content are. Nothing if the node is no file, or cannot be read.
    pub fn places(&self, node: NodeId, bytes_max: u64) -> Vec<ChunkPlace> {
        let places = self.file(node).and_then(|file| {
            let end = file.metadata.size.min(bytes_max);
            file.places(self.points.fetcher(), &self.extent_lists, 0..end)
        });
        places.unwrap_or_default()
    }

    /// Has chunks fetched before anyone asks for them, as long as somebody is interested.
    pub fn fetch_ahead(&self, places: &[ChunkPlace], interested: &Interested) {
        self.points.fetcher().fetch_ahead(places, interested);
    }

    /// Does what is read come over a network?
    pub fn is_distant(&self) -> bool {
        self.points.fetcher().repository().store().is_distant()
    }

    /// How many bytes a reader in order should have ahead of it. None where reading ahead does not pay.
    pub fn ahead_bytes(&self) -> Option<u64> {
        self.points.fetcher().ahead_bytes()
    }

    /// Takes note of a read of a large file, and has fetched what its reader asks for next.
    pub(super) fn read_ahead(
        &self,
        node: NodeId,
        file: &Arc<File>,
        offset: u64,
        size: u32,
        ahead_bytes: u64,
    ) {
        let bytes = file.metadata.size;
        if bytes <= u64::from(SMALL_FILE_BYTES_MAX) {
            return;
        }
        let read = offset..offset.saturating_add(u64::from(size)).min(bytes);
        let Some((range, interested)) = self.readings.note(node, read, bytes, ahead_bytes) else {
            return;
        };
        let fetcher = Arc::clone(self.points.fetcher());
        let (file, lists) = (Arc::clone(file), Arc::clone(&self.extent_lists));
        self.points.fetcher().later(move || {
            if !interested.is_there() {
                return;
            }
            match file.places(&fetcher, &lists, range) {
                Ok(places) => fetcher.fetch_ahead(&places, &interested),
                Err(error) => log::debug!("a read ahead failed: {error}"),
            }
        });
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
