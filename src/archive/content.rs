//! The bytes of one file, read and placed.
//!
//! A small file without holes is brought whole to whoever groups small chunks. Any other is read piece by piece (see
//! `large`), and so is a stream that turns out to be no small file.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::frames::Frames;
use super::large::{Bytes, Large};
use super::segments::{Segment, segment_at};
use super::stream::StreamReader;
use super::walk::describe;
use crate::base::{ChunkId, Error, Monitor, Timestamp};
use crate::chunk::{ContentSizes, Cutter, IMAGE_HEAD_BYTES, is_zero};
use crate::format::{ChunkPlace, Chunking, Content, EXTENT_LIST_SPAN, Extent, INLINE_BYTES_MAX};
use crate::seal::SealedKind;

/// A file that says that it has no bytes is first read into so many: what most of /proc fit in.
const UNSIZED_START_BYTES: usize = 4 << 10;

/// The most that such a file may have. There are some without end, or as long as the memory of a machine.
const UNSIZED_BYTES_MAX: u64 = EXTENT_LIST_SPAN;

/// The most that a stream may have, which is the most that a file can.
const STREAM_BYTES_MAX: u64 = i64::MAX as u64;

/// How files are cut.
#[derive(Debug, Clone)]
pub struct Cutting {
    small_bytes_max: u64,
    pub(super) by_content: Cutter,
    pub(super) fixed: Cutter,
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
            Large::new(self, Bytes::File(file), name, size)?.read(first)
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
        let whole = Large::new(self, Bytes::File(file), name, UNSIZED_BYTES_MAX)?
            .read(Segment::Data(UNSIZED_BYTES_MAX))?;
        if whole.size == UNSIZED_BYTES_MAX {
            return Err(Failure::File(format!(
                "it says that it has no bytes, and does not end within {} MiB",
                UNSIZED_BYTES_MAX >> 20
            )));
        }
        Ok(whole)
    }

    /// Reads a stream to its end and places all of it.
    ///
    /// # Errors
    /// Backup, always: there is nothing to go on with.
    pub fn read_stream(&self, stream: &mut StreamReader, name: &[u8]) -> Result<FileRead, Failure> {
        let small_bytes_max = usize::try_from(self.cutting.small_bytes_max).unwrap_or(usize::MAX);
        let wanted = small_bytes_max.saturating_add(1).max(IMAGE_HEAD_BYTES);
        let start = stream.start(self.monitor, wanted)?;
        if start.len() > small_bytes_max {
            return Large::new(self, Bytes::Stream(stream), name, STREAM_BYTES_MAX)?
                .read(Segment::Data(STREAM_BYTES_MAX));
        }
        let bytes = start.to_vec();
        self.read_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let whole = self.small(bytes);
        let Read::Small { id, bytes } = whole.read else {
            return Ok(whole);
        };
        let (_, placing) = self.frames.place(SealedKind::Data, &bytes)?;
        let hint = self.frames.wait(&placing)?.hint;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let place = ChunkPlace { id, length, hint };
        Ok(FileRead {
            read: Read::Placed(Content::Extents(vec![Extent::Chunk(place)])),
            ..whole
        })
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
    pub(super) fn fill(
        &self,
        file: &OwnedFd,
        bytes: &mut [u8],
        offset: u64,
    ) -> Result<usize, Errno> {
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
