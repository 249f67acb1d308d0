//! Where a file has data, and where holes.

use rustix::fd::AsFd;
use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result};

/// The next so many bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    Data(u64),
    Hole(u64),
}

/// What begins at `offset` of a file of `size` bytes, which are more; as the system tells it at this moment.
///
/// # Errors
/// The system's.
pub fn segment_at(file: impl AsFd, offset: u64, size: u64) -> Result<Segment> {
    let data = match rustix::fs::seek(&file, SeekFrom::Data(offset)) {
        Ok(data) => data.min(size),
        // No data follows. A file that has become shorter answers so too.
        Err(Errno::NXIO) => size,
        // A file system that does not tell holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Segment::Data(size - offset)),
        Err(problem) => return Err(problem),
    };
    if data > offset {
        return Ok(Segment::Hole(data - offset));
    }
    let hole = match rustix::fs::seek(&file, SeekFrom::Hole(offset)) {
        Ok(hole) => hole.min(size),
        Err(Errno::NXIO) => size,
        Err(problem) => return Err(problem),
    };
    // A hole that was punched between the two calls: the next one sees it.
    if hole > offset {
        Ok(Segment::Data(hole - offset))
    } else {
        Ok(Segment::Hole(1))
    }
}
