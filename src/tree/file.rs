//! What is no directory: its metadata, and its bytes read without a copy.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::base::{ChunkId, Error, Key, Result};
use crate::fetch::{ChunkBytes, Fetcher};
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
    content: FileContent,
}

/// Bytes of a file: views into what they came from.
#[derive(Clone)]
pub struct ReadBytes {
    slices: Vec<Slice>,
    length: usize,
}

#[derive(Clone)]
enum Slice {
    Chunk(ChunkBytes),
    Zeros(usize),
    Inline(Arc<File>, Range<usize>),
}

impl ReadBytes {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All of them, if they lie side by side.
    pub fn contiguous(&self) -> Option<&[u8]> {
        match &self.slices[..] {
            [] => Some(&[]),
            [only] => only.contiguous(),
            _ => None,
        }
    }

    /// Appends a copy of them.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.length);
        for slice in &self.slices {
            match slice.contiguous() {
                Some(bytes) => out.extend_from_slice(bytes),
                None => out.resize(out.len() + slice.len(), 0),
            }
        }
    }
}

impl fmt::Debug for ReadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBytes({} bytes)", self.length)
    }
}

impl Slice {
    fn len(&self) -> usize {
        match self {
            Self::Chunk(bytes) => bytes.len(),
            Self::Zeros(length) => *length,
            Self::Inline(_, range) => range.len(),
        }
    }

    /// None for more zeros than there is a slice of.
    fn contiguous(&self) -> Option<&[u8]> {
        match self {
            Self::Chunk(bytes) => Some(bytes),
            Self::Zeros(length) => ZEROS.get(..*length),
            Self::Inline(file, range) => match &file.content {
                FileContent::Inline(bytes) => bytes.get(range.clone()),
                _ => None,
            },
        }
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
        self.slices(fetcher, lists, range.clone())
            .and_then(|slices| whole(slices, range))
            .map_err(|error| error.context(format_args!("{} at offset {offset}", self.key)))
    }

    fn slices(
        self: &Arc<Self>,
        fetcher: &Fetcher,
        lists: &ExtentLists,
        range: Range<u64>,
    ) -> Result<Vec<Slice>> {
        match &self.content {
            FileContent::Nothing => Ok(Vec::new()),
            FileContent::Damaged(problem) => Err(Error::corrupt("its content", problem)),
            FileContent::Inline(_) => {
                let range = range.start as usize..range.end as usize;
                Ok(vec![Slice::Inline(Arc::clone(self), range)])
            }
            FileContent::Extents(extents) => fetch_parts(fetcher, extents.parts(range).collect()),
            FileContent::Lists(table) => {
                let mut parts = Vec::new();
                for (list, covered) in table.overlapping(range.clone()) {
                    let extents = extents_of(fetcher, lists, list)?;
                    let start = range.start.saturating_sub(covered.start);
                    let end = range.end.min(covered.end) - covered.start;
                    parts.extend(extents.parts(start..end));
                }
                fetch_parts(fetcher, parts)
            }
        }
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

/// A read is whole or an error: a short one in the middle of a file would read as zeros.
fn whole(slices: Vec<Slice>, range: Range<u64>) -> Result<ReadBytes> {
    let length = slices.iter().map(Slice::len).sum();
    if length as u64 == range.end - range.start {
        Ok(ReadBytes { slices, length })
    } else {
        Err(Error::corrupt("its content", "it does not cover the file"))
    }
}

/// The bytes of parts, those of several chunks fetched together.
fn fetch_parts(fetcher: &Fetcher, parts: Vec<Part>) -> Result<Vec<Slice>> {
    if let [Part::Chunk(place, range)] = &parts[..] {
        let chunk = fetcher.chunk(place)?;
        return Ok(vec![Slice::Chunk(chunk.slice(range.clone()))]);
    }
    let places: Vec<ChunkPlace> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Chunk(place, _) => Some(*place),
            Part::Zeros(_) => None,
        })
        .collect();
    let mut chunks = fetcher.chunks(&places)?.into_iter();
    Ok(parts
        .into_iter()
        .map(|part| match part {
            Part::Zeros(length) => Slice::Zeros(length as usize),
            Part::Chunk(_, range) => {
                let chunk = chunks.next().expect("a chunk comes for each place");
                Slice::Chunk(chunk.slice(range))
            }
        })
        .collect())
}

fn extents_of(
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
