//! What is likely to be read next: files lie in runs, and in packs, in the order of a walk.

use std::collections::HashMap;
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
const PLANNED_BYTES: u64 = 4 << 20;

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
                Ok(places) => fetcher.fetch_ahead(&places, &due.interested),
                Err(error) => log::debug!("a read ahead failed: {error}"),
            }
            readings.planned(node, &due, &stretches);
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
    let (mut at, mut sealed) = (due.range.start, 0);
    while at < due.range.end && sealed < due.sealed_bytes {
        let before = at;
        for part in file.parts(fetcher, lists, planned_from(at, file))? {
            let sealed_bytes = match part {
                Part::Zeros(length) => {
                    at += length;
                    0
                }
                Part::Chunk(place, within) => {
                    at += u64::from(place.length) - within.start as u64;
                    places.push(place);
                    u64::from(place.hint.frame_length)
                }
            };
            stretches.push(Stretch {
                end: at,
                sealed_bytes,
            });
            sealed += sealed_bytes;
            if sealed >= due.sealed_bytes || at >= due.range.end {
                break;
            }
        }
        if at == before {
            break;
        }
    }
    let next = file.places(fetcher, lists, planned_from(at, file))?;
    places.extend(between(&places, &next));
    Ok(places)
}

/// The bytes of a file from `at` on that are looked at together.
fn planned_from(at: u64, file: &File) -> Range<u64> {
    let end = file.metadata.size;
    at.min(end)..end.min(at.saturating_add(PLANNED_BYTES))
}

/// Those of `next` that lie between `places`, each in the same pack. A file's chunks are sealed by several threads and lie
/// in its packs as these got ready: what is left out between the others would be a request for each chunk later on.
fn between(places: &[ChunkPlace], next: &[ChunkPlace]) -> Vec<ChunkPlace> {
    let mut spans: HashMap<PackId, (u32, u32)> = HashMap::new();
    for hint in places.iter().map(|place| &place.hint) {
        let span = spans.entry(hint.pack).or_insert((u32::MAX, 0));
        *span = (span.0.min(hint.frame_offset), span.1.max(hint.frame_offset));
    }
    let is_between = |place: &&ChunkPlace| {
        let span = spans.get(&place.hint.pack);
        span.is_some_and(|(first, last)| (first..last).contains(&&place.hint.frame_offset))
    };
    next.iter().filter(is_between).copied().collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ChunkId;
    use crate::format::Hint;

    fn chunk(pack: u8, frame_offset: u32) -> ChunkPlace {
        ChunkPlace {
            id: ChunkId([0; 32]),
            length: 1,
            hint: Hint {
                pack: PackId([pack; 16]),
                frame_offset,
                frame_length: 10,
                offset_in_frame: 0,
            },
        }
    }

    #[test]
    fn what_lies_between_chunks_in_their_pack_comes_with_them() {
        let places = [chunk(1, 20), chunk(1, 40), chunk(2, 60)];
        let next = [
            chunk(1, 10),
            chunk(1, 30),
            chunk(1, 50),
            chunk(2, 50),
            chunk(3, 30),
        ];
        assert_eq!(between(&places, &next), [chunk(1, 30)]);
    }
}
