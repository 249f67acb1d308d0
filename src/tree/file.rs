//! What is no directory: its metadata, and its bytes read without a copy.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::base::{ChunkId, Error, Key, Result};
use crate::fetch::{ChunkBytes, ChunkPart, Fetcher, Gathered};
use crate::format::{ChunkPlace, Entry, Extent, ExtentList, FileType, Metadata, decode_extents};

use super::ahead::FramePlace;
use super::content::{FileContent, Part, SeekFor, Table};
use super::remembered::Remembered;

/// The longest run of zeros that is shown in one piece: the largest read that the kernel makes.
const ZEROS_BYTES: usize = 1 << 20;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// Extent lists kept decoded: each takes some 50 KiB and serves 64 MiB of a file.
pub(super) type ExtentLists = Remembered<ChunkId, Table<Extent>>;

/// An entry that is no directory, ready to be read.
pub(super) struct File {
    key: Key,
    pub(super) metadata: Metadata,
    pub(super) content: FileContent,
    /// BLAKE3 of the content, where it is recorded.
    pub(super) content_hash: Option<[u8; 32]>,
}

/// Bytes of a file: a view into what they came from, or gathered from several chunks.
#[derive(Clone)]
pub struct ReadBytes(Bytes);

/// A chunk of a file, and where it begins in the file.
pub struct WholeChunk {
    /// In bytes.
    pub offset: u64,
    pub bytes: ChunkBytes,
}

#[derive(Clone)]
enum Bytes {
    Chunk {
        /// The whole of it, which begins at `offset` in the file.
        whole: ChunkBytes,
        offset: u64,
        range: Range<usize>,
    },
    Gathered(Gathered),
    Zeros(usize),
    Inline(Arc<File>, Range<usize>),
}

impl ReadBytes {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Bytes::Chunk { range, .. } => range.len(),
            Bytes::Gathered(bytes) => bytes.len(),
            Bytes::Zeros(length) => *length,
            Bytes::Inline(_, range) => range.len(),
        }
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, side by side. None for more zeros than the largest read that the kernel makes.
    pub fn contiguous(&self) -> Option<&[u8]> {
        match &self.0 {
            Bytes::Chunk { whole, range, .. } => whole.get(range.clone()),
            Bytes::Gathered(bytes) => Some(bytes),
            Bytes::Zeros(length) => ZEROS.get(..*length),
            Bytes::Inline(file, range) => match &file.content {
                FileContent::Inline(bytes) => bytes.get(range.clone()),
                _ => None,
            },
        }
    }

    /// The chunk that they are a part of, if they are a part of one, and it was opened for them and not before.
    pub fn just_opened(&self) -> Option<WholeChunk> {
        match &self.0 {
            Bytes::Chunk {
                whole,
                offset,
                range,
            } if whole.is_new() && range.len() < whole.len() => Some(WholeChunk {
                offset: *offset,
                bytes: whole.clone(),
            }),
            _ => None,
        }
    }

    /// Appends a copy of them.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        match self.contiguous() {
            Some(bytes) => out.extend_from_slice(bytes),
            None => out.resize(out.len() + self.len(), 0),
        }
    }
}

impl fmt::Debug for ReadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBytes({} bytes)", self.len())
    }
}

impl File {
    pub(super) fn new(key: Key, entry: Entry) -> Self {
        let content = match entry.metadata.file_type {
            FileType::Regular => FileContent::new(entry.content, entry.metadata.size),
            _ => FileContent::Nothing,
        };
        Self {
            key,
            metadata: entry.metadata,
            content,
            content_hash: entry.content_hash,
        }
    }

    /// Where its bytes are, if it is one chunk or inline, not empty, and not longer than `bytes_max`. None within for
    /// bytes that are inline.
    pub(super) fn frame_if_small(&self, bytes_max: u64) -> Option<Option<FramePlace>> {
        if self.metadata.size > bytes_max {
            return None;
        }
        match &self.content {
            FileContent::Inline(_) => Some(None),
            FileContent::Extents(extents) => match extents.items() {
                [Extent::Chunk(chunk)] => {
                    let hint = &chunk.hint;
                    Some(Some(FramePlace::new(hint.pack, hint.frame_offset)))
                }
                _ => None,
            },
            FileContent::Nothing | FileContent::Lists(_) | FileContent::Damaged(_) => None,
        }
    }

    /// Does it lie in the same directory as another?
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.key.parent() == other.key.parent()
    }

    /// Memory that it takes, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let own = size_of::<Self>() + self.key.as_bytes().len() + self.metadata.target.len();
        let xattrs: usize = self
            .metadata
            .xattrs
            .iter()
            .map(|xattr| size_of_val(xattr) + xattr.name.len() + xattr.value.len())
            .sum();
        (own + xattrs) as u64 + self.content.weight()
    }

    /// The bytes from `offset`, `size` of them or as many as there are before the file's end.
    ///
    /// # Errors
    /// Those of fetching a chunk; the message names path and offset. Nothing is returned in part.
    pub(super) fn read(
        self: &Arc<Self>,
        fetcher: &Fetcher,
        lists: &ExtentLists,
        offset: u64,
        size: u32,
    ) -> Result<ReadBytes> {
        let end = self
            .metadata
            .size
            .min(offset.saturating_add(u64::from(size)));
        let range = offset.min(end)..end;
        self.bytes(fetcher, lists, range)
            .map(ReadBytes)
            .map_err(|error| error.context(format_args!("{} at offset {offset}", self.key)))
    }

    fn bytes(
        self: &Arc<Self>,
        fetcher: &Fetcher,
        lists: &ExtentLists,
        range: Range<u64>,
    ) -> Result<Bytes> {
        if let FileContent::Inline(_) = &self.content {
            let range = range.start as usize..range.end as usize;
            return Ok(Bytes::Inline(Arc::clone(self), range));
        }
        let parts = self.parts(fetcher, lists, range.clone())?;
        fetch_parts(fetcher, parts, range)
    }

    /// The parts that make up `range`, in order; none of bytes that are inline.
    ///
    /// # Errors
    /// Those of fetching an extent list; corrupt, if the content is.
    pub(super) fn parts(
        &self,
        fetcher: &Fetcher,
        lists: &ExtentLists,
        range: Range<u64>,
    ) -> Result<Vec<Part>> {
        match &self.content {
            FileContent::Nothing | FileContent::Inline(_) => Ok(Vec::new()),
            FileContent::Damaged(problem) => Err(Error::corrupt("its content", problem)),
            FileContent::Extents(extents) => Ok(extents.parts(range).collect()),
            FileContent::Lists(table) => {
                let mut parts = Vec::new();
                for (list, covered) in table.overlapping(range.clone()) {
                    let extents = extents_of(fetcher, lists, list)?;
                    let start = range.start.saturating_sub(covered.start);
                    let end = range.end.min(covered.end) - covered.start;
                    parts.extend(extents.parts(start..end));
                }
                Ok(parts)
            }
        }
    }

    /// Where the chunks are that `range` is in, in order.
    ///
    /// # Errors
    /// Those of fetching an extent list.
    pub(super) fn places(
        &self,
        fetcher: &Fetcher,
        lists: &ExtentLists,
        range: Range<u64>,
    ) -> Result<Vec<ChunkPlace>> {
        let places = self.parts(fetcher, lists, range)?.into_iter();
        Ok(places
            .filter_map(|part| match part {
                Part::Chunk(place, _) => Some(place),
                Part::Zeros(_) => None,
            })
            .collect())
    }

    /// The first place at or after `offset` that is what is looked for. None if `offset` is at or behind the file's
    /// end, or no data follows it.
    ///
    /// # Errors
    /// Those of fetching an extent list.
    pub(super) fn seek(
        &self,
        fetcher: &Fetcher,
        lists: &ExtentLists,
        offset: u64,
        what: SeekFor,
    ) -> Result<Option<u64>> {
        if offset >= self.metadata.size {
            return Ok(None);
        }
        let found = self
            .seek_inside(fetcher, lists, offset, what)
            .map_err(|error| error.context(format_args!("{} at offset {offset}", self.key)))?;
        let behind_the_end = (what == SeekFor::Hole).then_some(self.metadata.size);
        Ok(found.or(behind_the_end))
    }

    fn seek_inside(
        &self,
        fetcher: &Fetcher,
        lists: &ExtentLists,
        offset: u64,
        what: SeekFor,
    ) -> Result<Option<u64>> {
        match &self.content {
            FileContent::Nothing => Ok(None),
            FileContent::Damaged(problem) => Err(Error::corrupt("its content", problem)),
            FileContent::Inline(_) => Ok((what == SeekFor::Data).then_some(offset)),
            FileContent::Extents(extents) => Ok(extents.seek(offset, what)),
            FileContent::Lists(table) => {
                for (list, covered) in table.overlapping(offset..table.end()) {
                    let extents = extents_of(fetcher, lists, list)?;
                    let start = offset.saturating_sub(covered.start);
                    if let Some(found) = extents.seek(start, what) {
                        return Ok(Some(covered.start + found));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// The bytes of parts, which make up `range` of a file. A read is whole or an error: a short one in the middle of a file would
/// read as zeros.
fn fetch_parts(fetcher: &Fetcher, parts: Vec<Part>, range: Range<u64>) -> Result<Bytes> {
    let length = range.end - range.start;
    if parts.iter().map(Part::length).sum::<u64>() != length {
        return Err(Error::corrupt("its content", "it does not cover the file"));
    }
    match &parts[..] {
        [] => Ok(Bytes::Zeros(0)),
        [Part::Zeros(_)] => Ok(Bytes::Zeros(length as usize)),
        [Part::Chunk(place, within)] => Ok(Bytes::Chunk {
            whole: fetcher.chunk(place)?,
            offset: range.start - within.start as u64,
            range: within.clone(),
        }),
        _ => fetcher
            .gather(length as usize, |room| fill(fetcher, parts, room))
            .map(Bytes::Gathered),
    }
}

/// Fills `room`, which is as long as all parts are together.
fn fill(fetcher: &Fetcher, parts: Vec<Part>, mut room: &mut [u8]) -> Result<()> {
    let mut chunks = Vec::with_capacity(parts.len());
    for part in parts {
        let (into, rest) = room.split_at_mut(part.length() as usize);
        room = rest;
        match part {
            Part::Zeros(_) => into.fill(0),
            Part::Chunk(place, range) => chunks.push(ChunkPart { place, range, into }),
        }
    }
    fetcher.read_parts(&mut chunks)
}

/// The extents in a list, fetched unless they are remembered.
///
/// # Errors
/// Those of fetching it; corrupt, if it is not what was written.
pub(super) fn extents_of(
    fetcher: &Fetcher,
    lists: &ExtentLists,
    list: &ExtentList,
) -> Result<Arc<Table<Extent>>> {
    if let Some(extents) = lists.get(&list.chunk.id) {
        // The span is the file's word, the list the chunk's: one that lies must not share the other's table.
        if extents.end() == list.span {
            return Ok(extents);
        }
    }
    let bytes = fetcher.extent_list(&list.chunk)?;
    let extents = decode_extents(&bytes, list.span)
        .and_then(Table::new)
        .map_err(|error| error.context(format_args!("chunk {}", list.chunk.id)))?;
    let extents = Arc::new(extents);
    lists.insert(list.chunk.id, Arc::clone(&extents), extents.weight());
    Ok(extents)
}
