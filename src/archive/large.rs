//! A file that is read piece by piece: cut, hashed and placed as it comes. What is kept of it meanwhile is one extent
//! list, so that memory does not grow with the file.

use std::sync::atomic::Ordering;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Advice;

use super::compare::Shape;
use super::content::{Failure, FileRead, Read, Reader};
use super::frames::Placing;
use super::segments::{Segment, segment_at};
use super::stream::StreamReader;
use crate::base::{ChunkId, Error, ErrorKind};
use crate::chunk::{Cutter, IMAGE_HEAD_BYTES, is_disk_image, is_zero};
use crate::format::{ChunkPlace, Content, EXTENT_LIST_SPAN, Extent, ExtentList, encode_extents};
use crate::seal::SealedKind;

/// Bytes that one read asks for.
const READ_BYTES: usize = 1 << 20;

/// A file with more bytes of holes than this has no content hash: hashing zeros takes the time of reading them.
const HASHED_HOLES_BYTES_MAX: u64 = 4 << 30;

/// Where a file's bytes come from.
pub enum Bytes<'a> {
    /// A file, which can be read anywhere, and has holes.
    File(&'a OwnedFd),
    /// A stream, which can be read on only, and whose length is known when it ends.
    Stream(&'a mut StreamReader),
}

impl Bytes<'_> {
    /// Reads until `bytes` are full or the file ends; gives how many there were. They begin at `offset`, where a stream is.
    fn fill(
        &mut self,
        reader: &Reader<'_>,
        bytes: &mut [u8],
        offset: u64,
    ) -> Result<usize, Failure> {
        match self {
            Self::File(file) => Ok(reader.fill(file, bytes, offset)?),
            Self::Stream(stream) => {
                let filled = stream.fill(reader.monitor, bytes)?;
                reader
                    .read_bytes
                    .fetch_add(filled as u64, Ordering::Relaxed);
                Ok(filled)
            }
        }
    }

    /// Advice that is not taken harms nobody.
    fn advise(&self, offset: u64, length: u64, advice: Advice) {
        if let Self::File(file) = self {
            let length = std::num::NonZeroU64::new(length);
            let _ = rustix::fs::fadvise(file.as_fd(), offset, length, advice);
        }
    }

    fn segment_at(&self, offset: u64, size: u64) -> Result<Segment, Failure> {
        match self {
            Self::File(file) => Ok(segment_at(file, offset, size)?),
            Self::Stream(_) => Ok(Segment::Data(size - offset)),
        }
    }
}

/// A file that is read piece by piece.
pub struct Large<'a> {
    reader: &'a Reader<'a>,
    bytes: Bytes<'a>,
    size: u64,
    cutter: &'a Cutter,
    /// Where the file was dealt with up to.
    offset: u64,
    hasher: Option<blake3::Hasher>,
    holes: u64,
    /// Do its extents stand in lists?
    has_lists: bool,
    /// Does the length come to light only as it is read?
    is_stream: bool,
    /// Extents that are not in a list yet.
    extents: Vec<Placed>,
    lists: Vec<ExtentList>,
    shape: Shape,
}

/// An extent whose place may still be on its way.
enum Placed {
    Chunk(ChunkId, u32, Placing),
    Hole(u64),
    Zeros(u64),
}

impl<'a> Large<'a> {
    /// A file of `size` bytes, as far as is known, of this name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(
        reader: &'a Reader<'a>,
        bytes: Bytes<'a>,
        name: &[u8],
        size: u64,
    ) -> Result<Self, Failure> {
        let cutting = reader.cutting;
        let is_image = match &bytes {
            Bytes::File(file) => {
                let mut head =
                    vec![0; IMAGE_HEAD_BYTES.min(usize::try_from(size).unwrap_or(usize::MAX))];
                let length = reader.fill(file, &mut head, 0)?;
                // These are read again.
                reader
                    .read_bytes
                    .fetch_sub(length as u64, Ordering::Relaxed);
                is_disk_image(name, &head[..length])
            }
            Bytes::Stream(stream) => is_disk_image(name, stream.pending()),
        };
        bytes.advise(0, 0, Advice::Sequential);
        let is_stream = matches!(bytes, Bytes::Stream(_));
        Ok(Self {
            reader,
            bytes,
            size,
            cutter: match is_image {
                true => &cutting.fixed,
                false => &cutting.by_content,
            },
            offset: 0,
            hasher: Some(blake3::Hasher::new()),
            holes: 0,
            has_lists: size > EXTENT_LIST_SPAN && !is_stream,
            is_stream,
            extents: Vec::new(),
            lists: Vec::new(),
            shape: Shape::new(),
        })
    }

    /// The whole file, which begins with `first`.
    ///
    /// # Errors
    /// File, if it cannot be read; backup, if it cannot be placed, or the backup is to stop.
    pub fn read(mut self, first: Segment) -> Result<FileRead, Failure> {
        let mut segment = first;
        let mut buffer = Vec::new();
        loop {
            match segment {
                Segment::Hole(length) => self.pass_hole(length)?,
                Segment::Data(length) => {
                    if !self.read_data(length, &mut buffer)? {
                        break;
                    }
                }
            }
            if self.offset >= self.size {
                break;
            }
            segment = self.bytes.segment_at(self.offset, self.size)?;
        }
        self.finish()
    }

    /// The bytes up to the end of the list that the offset lies in.
    fn rest_of_list(&self) -> u64 {
        EXTENT_LIST_SPAN - self.offset % EXTENT_LIST_SPAN
    }

    fn pass_hole(&mut self, length: u64) -> Result<(), Failure> {
        self.holes += length;
        self.hash_zeros(length);
        let mut rest = length;
        while rest > 0 {
            self.check_interrupt()?;
            let mut part = rest.min(self.rest_of_list());
            // What is all hole from one list's start to another's end is one list, however long.
            if self.has_lists && self.extents.is_empty() && rest > EXTENT_LIST_SPAN {
                part = rest - rest % EXTENT_LIST_SPAN;
            }
            self.add(Placed::Hole(part), part)?;
            rest -= part;
        }
        Ok(())
    }

    /// Feeds the hash the zeros that a hole reads as, unless they are too many.
    fn hash_zeros(&mut self, length: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        if self.holes > HASHED_HOLES_BYTES_MAX {
            self.hasher = None;
        }
        let Some(hasher) = &mut self.hasher else {
            return;
        };
        let mut rest = length;
        while rest > 0 {
            let part = rest.min(ZEROS.len() as u64);
            hasher.update(&ZEROS[..part as usize]);
            rest -= part;
        }
    }

    /// Reads, cuts and places `length` bytes; false if the file ended before.
    fn read_data(&mut self, length: u64, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
        let end = self.offset + length;
        let mut read_to = self.offset;
        let mut is_whole = true;
        buffer.clear();
        let mut start = 0;
        loop {
            self.check_interrupt()?;
            // As many bytes as a cut may want, never beyond the list's end, where a cut is forced.
            let border = end.min(self.offset + self.rest_of_list());
            if read_to < border && buffer.len() - start < self.cutter.bytes_wanted() {
                buffer.drain(..start);
                start = 0;
                let wanted = usize::try_from(border - read_to).unwrap_or(usize::MAX);
                let wanted = wanted.min(READ_BYTES.max(self.cutter.bytes_wanted()));
                let before = buffer.len();
                buffer.resize(before + wanted, 0);
                let read = self
                    .bytes
                    .fill(self.reader, &mut buffer[before..], read_to)?;
                buffer.truncate(before + read);
                read_to += read as u64;
                if read < wanted {
                    is_whole = false;
                    self.size = read_to;
                }
            }
            let bytes = &buffer[start..];
            if bytes.is_empty() {
                return Ok(is_whole);
            }
            let is_end = !is_whole || read_to >= border;
            let Some(cut) = self.cutter.cut(bytes, self.offset, is_end) else {
                continue;
            };
            let chunk = &buffer[start..start + cut];
            if let Some(hasher) = &mut self.hasher {
                hasher.update(chunk);
            }
            let placed = self.place(chunk)?;
            start += cut;
            self.add(placed, cut as u64)?;
            if self.offset >= end || (!is_whole && self.offset >= read_to) {
                return Ok(is_whole);
            }
        }
    }

    fn place(&self, chunk: &[u8]) -> Result<Placed, Error> {
        if is_zero(chunk) {
            return Ok(Placed::Zeros(chunk.len() as u64));
        }
        let (id, placing) = self.reader.frames.place(SealedKind::Data, chunk)?;
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        Ok(Placed::Chunk(id, length, placing))
    }

    /// Adds an extent, and finishes a list that it fills.
    fn add(&mut self, placed: Placed, length: u64) -> Result<(), Error> {
        self.offset += length;
        match (self.extents.last_mut(), placed) {
            (Some(Placed::Hole(before)), Placed::Hole(more)) => *before += more,
            (Some(Placed::Zeros(before)), Placed::Zeros(more)) => *before += more,
            (_, placed) => self.extents.push(placed),
        }
        if self.offset.is_multiple_of(EXTENT_LIST_SPAN) {
            // By now a stream is known to be no short one.
            self.has_lists |= self.is_stream;
            if self.has_lists {
                self.finish_list()?;
            }
        }
        Ok(())
    }

    /// The gathered extents, each with its place.
    fn take_extents(&mut self) -> Result<Vec<Extent>, Error> {
        let frames = self.reader.frames;
        std::mem::take(&mut self.extents)
            .into_iter()
            .map(|placed| {
                Ok(match placed {
                    Placed::Hole(length) => Extent::Hole(length),
                    Placed::Zeros(length) => Extent::Zeros(length),
                    Placed::Chunk(id, length, placing) => {
                        let hint = frames.wait(&placing)?.hint;
                        Extent::Chunk(ChunkPlace { id, length, hint })
                    }
                })
            })
            .collect()
    }

    fn finish_list(&mut self) -> Result<(), Error> {
        let extents = self.take_extents()?;
        let span = extents.iter().map(Extent::length).sum();
        if span == 0 {
            return Ok(());
        }
        extents.iter().for_each(|extent| self.shape.add(extent));
        let bytes = encode_extents(&extents)?;
        let frames = self.reader.frames;
        let (_, placing) = frames.place(SealedKind::ExtentList, &bytes)?;
        let chunk = frames.wait(&placing)?;
        self.lists.push(ExtentList { chunk, span });
        self.drop_from_page_cache(span);
        Ok(())
    }

    /// What was read is not kept in the page cache, where others' files have more use of the room.
    fn drop_from_page_cache(&self, span: u64) {
        let start = self.offset.saturating_sub(span);
        self.bytes.advise(start, span, Advice::DontNeed);
    }

    fn finish(mut self) -> Result<FileRead, Failure> {
        if self.has_lists {
            self.finish_list()?;
        }
        let content = if self.lists.is_empty() {
            let extents = self.take_extents()?;
            self.drop_from_page_cache(self.offset);
            match extents.is_empty() {
                true => Content::Nothing,
                false => Content::Extents(extents),
            }
        } else {
            Content::Lists(std::mem::take(&mut self.lists))
        };
        let one_chunk = matches!(&content, Content::Extents(extents)
            if matches!(extents[..], [Extent::Chunk(_)]));
        let hash = self.hasher.filter(|_| !one_chunk && self.offset > 0);
        Ok(FileRead {
            read: Read::Placed(content),
            content_hash: hash.map(|hasher| *hasher.finalize().as_bytes()),
            size: self.offset,
            shape: self.has_lists.then(|| self.shape.finish()),
        })
    }

    fn check_interrupt(&self) -> Result<(), Error> {
        self.reader.frames.check()?;
        if self.reader.monitor.is_interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }
}
