//! What is likely to be read next: files lie in runs, and in packs, in the order of a walk.

use std::ops::Range;
use std::sync::Arc;

use crate::base::{PackId, Result};
use crate::fetch::{AheadBytes, Fetcher, Interested};
use crate::format::ChunkPlace;

use super::Tree;
use super::content::Part;
use super::file::{ExtentLists, File, ReadBytes};
use super::node::NodeId;
use super::readings::{Due, Stretch};

/// The longest file that counts as small, in bytes: the longest that is one chunk by default.
const SMALL_FILE_BYTES_MAX: u32 = 128 << 10;

/// Bytes of a large file whose chunks are looked up at a time: a few dozen chunks.
const LOOKED_AT_BYTES: u64 = 4 << 20;

/// So far ahead of what is planned next the extent lists of a large file are fetched: half of what one covers.
const LISTS_AHEAD_BYTES: u64 = 32 << 20;

/// Bytes of a large file that are planned at a time: of one with holes, beyond which little may follow.
const PLANNED_BYTES_MAX: u64 = 256 << 20;

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

    /// Is this where a walk over a directory's files comes to first: a small file, and one of the first two in the order of
    /// rows, of which `cp` may take the second first? Whoever reads these is likely to read the others.
    pub fn begins_a_walk(&self, node: NodeId) -> bool {
        let is_small = |file: &File| file.metadata.size <= u64::from(SMALL_FILE_BYTES_MAX);
        let Ok(file) = self.file(node) else {
            return false;
        };
        let is_third = |before: NodeId| self.file(before).is_ok_and(|it| file.is_beside(&it));
        let two_before = node.row_before().and_then(NodeId::row_before);
        is_small(&file) && !two_before.is_some_and(is_third)
    }

    /// Has chunks fetched before anyone asks for them, as long as somebody is interested; with those of `next`, which
    /// follow them, that lie between them.
    pub fn fetch_ahead(&self, places: &[ChunkPlace], next: &[ChunkPlace], interested: &Interested) {
        let fetcher = self.points.fetcher();
        fetcher.fetch_ahead(places, next, interested);
    }

    /// Does what is read come over a network?
    pub fn is_distant(&self) -> bool {
        self.points.fetcher().repository().store().is_distant()
    }

    /// What a reader in order should have ahead of it. None where reading ahead does not pay.
    pub fn ahead_bytes(&self) -> Option<AheadBytes> {
        self.points.fetcher().ahead_bytes()
    }

    /// Takes note of a read of a large file, and has fetched what its reader asks for next.
    pub(super) fn read_ahead(
        &self,
        node: NodeId,
        file: &Arc<File>,
        offset: u64,
        size: u32,
        ahead: AheadBytes,
    ) {
        let bytes = file.metadata.size;
        if bytes <= u64::from(SMALL_FILE_BYTES_MAX) {
            return;
        }
        let read = offset..offset.saturating_add(u64::from(size)).min(bytes);
        let Some(due) = self.readings.note(node, read, bytes, ahead) else {
            return;
        };
        let (fetcher, readings) = (
            Arc::clone(self.points.fetcher()),
            Arc::clone(&self.readings),
        );
        let (file, lists) = (Arc::clone(file), Arc::clone(&self.extent_lists));
        self.points.fetcher().later(move || {
            if !due.interested.is_there() {
                return;
            }
            let mut stretches = Vec::new();
            match plan(&file, &fetcher, &lists, &due, &mut stretches) {
                Ok(places) => {
                    let at = stretches.last().map_or(due.from, |last| last.end);
                    let next = file.places(&fetcher, &lists, looked_at(at, &file));
                    fetcher.fetch_ahead(&places, &next.unwrap_or_default(), &due.interested);
                }
                Err(error) => log::debug!("a read ahead failed: {error}"),
            }
            readings.planned(node, &due, &stretches);
            // So that no later plan waits for the extent list that it begins with.
            let far = looked_at(due.from.saturating_add(LISTS_AHEAD_BYTES), &file);
            if let Err(error) = file.places(&fetcher, &lists, far) {
                log::debug!("a read ahead failed: {error}");
            }
        });
    }
}

/// The chunks that are due, and where each ends in the file: whole ones, so that the next ones begin where these end.
fn plan(
    file: &File,
    fetcher: &Fetcher,
    lists: &ExtentLists,
    due: &Due,
    stretches: &mut Vec<Stretch>,
) -> Result<Vec<ChunkPlace>> {
    let mut places = Vec::new();
    let (mut at, mut left) = (due.from, due.bytes);
    let end = at.saturating_add(PLANNED_BYTES_MAX);
    while at < file.metadata.size.min(end) {
        for part in file.parts(fetcher, lists, looked_at(at, file))? {
            let stretch = match part {
                Part::Zeros(length) => Stretch::at(at + length),
                Part::Chunk(place, within) => {
                    places.push(place);
                    Stretch {
                        sealed_bytes: u64::from(place.hint.frame_length),
                        plain_bytes: u64::from(place.length),
                        ..Stretch::at(at + u64::from(place.length) - within.start as u64)
                    }
                }
            };
            at = stretch.end;
            left.sealed = left.sealed.saturating_sub(stretch.sealed_bytes);
            left.plain = left.plain.saturating_sub(stretch.plain_bytes);
            stretches.push(stretch);
            if left.sealed == 0 || left.plain == 0 {
                return Ok(places);
            }
        }
    }
    Ok(places)
}

/// The bytes of a file from `at` on that are looked at together.
fn looked_at(at: u64, file: &File) -> Range<u64> {
    let end = file.metadata.size;
    at.min(end)..end.min(at.saturating_add(LOOKED_AT_BYTES))
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
