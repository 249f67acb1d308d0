//! The bytes of one file, read and placed.
//!
//! A small file without holes is brought whole to whoever groups small chunks. Any other is read piece by piece, cut,
//! hashed and placed as it comes, and what is kept of it meanwhile is one extent list: memory does not grow with the
//! file.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Advice;
use rustix::io::Errno;

use super::compare::Shape;
use super::frames::{Frames, Placing};
use super::segments::{Segment, segment_at};
use super::walk::describe;
use crate::base::{ChunkId, Error, ErrorKind, Monitor, Timestamp};
use crate::chunk::{ContentSizes, Cutter, IMAGE_HEAD_BYTES, is_disk_image, is_zero};
use crate::format::{
    ChunkPlace, Chunking, Content, EXTENT_LIST_SPAN, Extent, ExtentList, INLINE_BYTES_MAX,
    encode_extents,
};
use crate::seal::SealedKind;

/// Bytes that one read asks for.
const READ_BYTES: usize = 1 << 20;

/// A file with more bytes of holes than this has no content hash: hashing zeros takes the time of reading them.
const HASHED_HOLES_BYTES_MAX: u64 = 4 << 30;

/// A file that says that it has no bytes is first read into so many: what most of /proc fit in.
const UNSIZED_START_BYTES: usize = 4 << 10;

/// The most that such a file may have. There are some without end, or as long as the memory of a machine.
const UNSIZED_BYTES_MAX: u64 = EXTENT_LIST_SPAN;

/// How files are cut.
#[derive(Debug, Clone)]
pub struct Cutting {
    small_bytes_max: u64,
    by_content: Cutter,
    fixed: Cutter,
}

/// A file's bytes, as far as they could be dealt with where they were read.
#[derive(Debug)]
pub enum Read {
    /// All is placed.
    Placed(Content),
    /// The file is one small chunk that is yet to be placed.
    Small { id: ChunkId, bytes: Vec<u8> },
}

/// What reading a file gave.
#[derive(Debug)]
pub struct FileRead {
    pub read: Read,
    /// BLAKE3 of the whole; None where one chunk is the file, and for files with too many holes.
    pub content_hash: Option<[u8; 32]>,
    /// How many bytes the file had while it was read.
    pub size: u64,
    /// What its extents are, if they are in lists.
    pub shape: Option<[u8; 32]>,
}

/// Why a file's bytes could not be had.
#[derive(Debug)]
pub enum Failure {
    /// The file's own trouble: told, and the backup goes on.
    File(String),
    /// The backup's.
    Backup(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Backup(error)
    }
}

impl From<Errno> for Failure {
    fn from(problem: Errno) -> Self {
        Self::File(format!("cannot read it: {}", describe(problem)))
    }
}

/// Tells the time.
pub type Clock = fn() -> Timestamp;

/// What reading needs beside the file.
pub struct Reader<'a> {
    pub frames: &'a Frames<'a>,
    pub cutting: &'a Cutting,
    pub monitor: &'a dyn Monitor,
    /// The time now.
    pub clock: Clock,
    /// Bytes that were read from files.
    pub read_bytes: &'a AtomicU64,
}

impl Cutting {
    /// Cuts as the repository's config says, under its seed.
    ///
    /// # Errors
    /// Usage, if its sizes are none that can be.
    pub fn new(chunking: &Chunking, seed: u64) -> Result<Self, Error> {
        let sizes = ContentSizes {
            min: chunking.min_bytes as usize,
            average: chunking.average_bytes as usize,
            max: chunking.max_bytes as usize,
        };
        Ok(Self {
            small_bytes_max: u64::from(chunking.small_bytes_max),
            by_content: Cutter::by_content(sizes, seed)?,
            fixed: Cutter::fixed(u64::from(chunking.fixed_bytes))?,
        })
    }

    /// Is a file of this size one chunk, if it has no holes?
    pub fn is_small(&self, size: u64) -> bool {
        size <= self.small_bytes_max
    }
}

impl Reader<'_> {
    /// Reads the first `size` bytes of a regular file; fewer if it has become shorter. One of 0 is read to its end.
    ///
    /// # Errors
    /// File, if it cannot be read; backup, if it cannot be placed, or the backup is to stop.
    pub fn read(&self, file: &OwnedFd, name: &[u8], size: u64) -> Result<FileRead, Failure> {
        if size == 0 {
            return self.read_unsized(file, name);
        }
        let first = segment_at(file, 0, size)?;
        if self.cutting.is_small(size) && first == Segment::Data(size) {
            self.read_small(file, size)
        } else {
            Large::new(self, file, name, size)?.read(first)
        }
    }

    fn read_small(&self, file: &OwnedFd, size: u64) -> Result<FileRead, Failure> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        let read = self.fill(file, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(self.small(bytes))
    }

    /// A file of `size` 0, which in /proc is told of files that have bytes all the same: they come to light only by
    /// reading.
    fn read_unsized(&self, file: &OwnedFd, name: &[u8]) -> Result<FileRead, Failure> {
        let mut start = [0; UNSIZED_START_BYTES];
        let read = self.fill(file, &mut start, 0)?;
        if read < start.len() {
            return Ok(self.small(start[..read].to_vec()));
        }
        // These are read again.
        self.read_bytes.fetch_sub(read as u64, Ordering::Relaxed);
        let whole = Large::new(self, file, name, UNSIZED_BYTES_MAX)?
            .read(Segment::Data(UNSIZED_BYTES_MAX))?;
        if whole.size == UNSIZED_BYTES_MAX {
            return Err(Failure::File(format!(
                "it says that it has no bytes, and does not end within {} MiB",
                UNSIZED_BYTES_MAX >> 20
            )));
        }
        Ok(whole)
    }

    /// A file that is in memory whole.
    fn small(&self, bytes: Vec<u8>) -> FileRead {
        let size = bytes.len() as u64;
        if bytes.is_empty() {
            placed(Content::Nothing, 0)
        } else if bytes.len() <= INLINE_BYTES_MAX {
            placed(Content::Inline(bytes), size)
        } else if is_zero(&bytes) {
            placed(Content::Extents(vec![Extent::Zeros(size)]), size)
        } else {
            let id = self.frames.seal().chunk_id(&bytes);
            FileRead {
                read: Read::Small { id, bytes },
                content_hash: None,
                size,
                shape: None,
            }
        }
    }

    /// Reads until `bytes` are full or the file ends; gives how many there were.
    fn fill(&self, file: &OwnedFd, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::pread(file, &mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(problem) => return Err(problem),
            }
        }
        self.read_bytes.fetch_add(filled as u64, Ordering::Relaxed);
        Ok(filled)
    }
}

fn placed(content: Content, size: u64) -> FileRead {
    FileRead {
        read: Read::Placed(content),
        content_hash: None,
        size,
        shape: None,
    }
}

/// A file that is read piece by piece.
struct Large<'a> {
    reader: &'a Reader<'a>,
    file: &'a OwnedFd,
    size: u64,
    cutter: &'a Cutter,
    /// Where the file was dealt with up to.
    offset: u64,
    hasher: Option<blake3::Hasher>,
    holes: u64,
    /// Do its extents stand in lists?
    has_lists: bool,
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
    fn new(
        reader: &'a Reader<'a>,
        file: &'a OwnedFd,
        name: &[u8],
        size: u64,
    ) -> Result<Self, Errno> {
        let mut head = vec![0; IMAGE_HEAD_BYTES.min(usize::try_from(size).unwrap_or(usize::MAX))];
        let length = reader.fill(file, &mut head, 0)?;
        // These are read again.
        reader
            .read_bytes
            .fetch_sub(length as u64, Ordering::Relaxed);
        let cutting = reader.cutting;
        let cutter = if is_disk_image(name, &head[..length]) {
            &cutting.fixed
        } else {
            &cutting.by_content
        };
        // An advice that is not taken harms nobody, here and below.
        let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
        Ok(Self {
            reader,
            file,
            size,
            cutter,
            offset: 0,
            hasher: Some(blake3::Hasher::new()),
            holes: 0,
            has_lists: size > EXTENT_LIST_SPAN,
            extents: Vec::new(),
            lists: Vec::new(),
            shape: Shape::new(),
        })
    }

    /// The whole file, which begins with `first`.
    fn read(mut self, first: Segment) -> Result<FileRead, Failure> {
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
            segment = segment_at(self.file, self.offset, self.size)?;
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
                    .reader
                    .fill(self.file, &mut buffer[before..], read_to)?;
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
        if self.has_lists && self.offset.is_multiple_of(EXTENT_LIST_SPAN) {
            self.finish_list()?;
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
        let _ = rustix::fs::fadvise(
            self.file.as_fd(),
            start,
            std::num::NonZeroU64::new(span),
            Advice::DontNeed,
        );
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
