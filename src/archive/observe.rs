//! One file, opened: what only opening it tells.
//!
//! A file is opened by its place and looked at again through the handle, so that all that is recorded of it is of one
//! file, whatever was renamed in between. What is no regular file and no directory is never opened for reading.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::handle::Place;
use super::status::{Details, Status};
use super::walk::describe;
use crate::format::{FileType, Xattr};

/// How often a file may turn into another type between being looked at and being opened.
const TURNS_MAX: usize = 3;

/// Bytes that the names of a file's extended attributes usually fit in, and one value.
const NAMES_BYTES: usize = 1024;
const VALUE_BYTES: usize = 256;

/// The system's bound on either.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// A file with what opening it told.
#[derive(Debug)]
pub struct Opened {
    pub status: Status,
    pub details: Details,
    /// A regular file, for reading; None for all else.
    pub file: Option<OwnedFd>,
}

/// Opens the file at `place`, which was seen to be of `seen_type`.
///
/// # Errors
/// Why it could not be opened, for a person; `None` if it is gone.
pub fn open(place: &Place, seen_type: FileType) -> Result<Opened, Option<String>> {
    let was_directory = seen_type == FileType::Directory;
    let mut file_type = seen_type;
    for _ in 0..TURNS_MAX {
        match open_as(place, file_type) {
            Ok(opened) => {
                let is_directory = opened.status.is_directory();
                if is_directory == was_directory {
                    return Ok(opened);
                }
                let problem = "it turned into another type of file while the backup ran";
                return Err(Some(problem.to_string()));
            }
            Err(Turn::Into(now)) => file_type = now,
            Err(Turn::Failed(Errno::NOENT)) => return Err(None),
            Err(Turn::Failed(problem)) => {
                return Err(Some(format!("cannot read it: {}", describe(problem))));
            }
        }
    }
    Err(Some(
        "it keeps changing its type while the backup runs".to_string(),
    ))
}

/// Why a file was not opened as the type that was expected.
enum Turn {
    Into(FileType),
    Failed(Errno),
}

impl From<Errno> for Turn {
    fn from(problem: Errno) -> Self {
        Self::Failed(problem)
    }
}

fn open_as(place: &Place, file_type: FileType) -> Result<Opened, Turn> {
    match file_type {
        FileType::Regular => open_regular(place),
        FileType::Directory => open_directory(place),
        _ => open_named(place, file_type),
    }
}

fn open_regular(place: &Place) -> Result<Opened, Turn> {
    let file = match place.open(OFlags::empty()) {
        Ok(file) => file,
        // What a symlink, a socket or a device without a driver answer.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(turn(place)?),
        Err(problem) => return Err(problem.into()),
    };
    let status = Status::of(&file, b"")?;
    if status.file_type != FileType::Regular {
        return Err(Turn::Into(status.file_type));
    }
    let details = Details {
        target: Vec::new(),
        xattrs: xattrs_of_open(&file)?,
        chattr: chattr(&file),
    };
    Ok(Opened {
        status,
        details,
        file: Some(file),
    })
}

fn open_directory(place: &Place) -> Result<Opened, Turn> {
    let handle = match place.open(OFlags::DIRECTORY) {
        Ok(handle) => handle,
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(turn(place)?),
        // What cannot be listed can be looked at all the same.
        Err(Errno::ACCESS | Errno::PERM) => return open_named(place, FileType::Directory),
        Err(problem) => return Err(problem.into()),
    };
    let details = Details {
        target: Vec::new(),
        xattrs: xattrs_of_open(&handle)?,
        chattr: chattr(&handle),
    };
    Ok(Opened {
        status: Status::of(&handle, b"")?,
        details,
        file: None,
    })
}

/// Looks at a file by a handle that only names it.
fn open_named(place: &Place, expected: FileType) -> Result<Opened, Turn> {
    let handle = place.open_path(OFlags::empty())?;
    let status = Status::of(&handle, b"")?;
    if status.file_type != expected {
        return Err(Turn::Into(status.file_type));
    }
    let target = if status.file_type == FileType::Symlink {
        rustix::fs::readlinkat(&handle, "", Vec::new())?.into_bytes()
    } else {
        Vec::new()
    };
    let details = Details {
        target,
        xattrs: xattrs_of_named(&handle)?,
        chattr: 0,
    };
    Ok(Opened {
        status,
        details,
        file: None,
    })
}

/// What the file at `place` turned into.
fn turn(place: &Place) -> Result<Turn, Errno> {
    Status::of(&*place.directory, &place.name).map(|status| Turn::Into(status.file_type))
}

/// The flags of chattr(1); 0 where a file system has none.
fn chattr(file: impl AsFd) -> u32 {
    rustix::fs::ioctl_getflags(file).map_or(0, |flags| flags.bits())
}

fn xattrs_of_open(file: &OwnedFd) -> Result<Vec<Xattr>, Errno> {
    xattrs(
        |names| rustix::fs::flistxattr(file, names),
        |name, value| rustix::fs::fgetxattr(file, name, value),
    )
}

/// Through /proc, as a handle that only names a file has no calls of its own. The link there leads to the very file of
/// the handle, also where that is a symlink.
fn xattrs_of_named(handle: &OwnedFd) -> Result<Vec<Xattr>, Errno> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    xattrs(
        |names| rustix::fs::listxattr(&path, names),
        |name, value| rustix::fs::getxattr(&path, name, value),
    )
}

/// All extended attributes in order of their names; none where the file system has none. One that goes away or may not
/// be read, as some of the system's namespaces, is left out.
fn xattrs(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>, Errno> {
    let names = match fill(NAMES_BYTES, &list) {
        Ok(names) => names,
        // NOENT: /proc is not mounted. NODATA, OPNOTSUPP: there are none on this file system.
        Err(Errno::OPNOTSUPP | Errno::NODATA | Errno::NOSYS | Errno::NOENT) => {
            return Ok(Vec::new());
        }
        Err(problem) => return Err(problem),
    };
    let mut xattrs = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        match fill(VALUE_BYTES, |value: &mut [u8]| get(name, value)) {
            Ok(value) => xattrs.push(Xattr {
                name: name.to_vec(),
                value,
            }),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => {}
            Err(problem) => return Err(problem),
        }
    }
    xattrs.sort();
    xattrs.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(xattrs)
}

/// What `read` fills, with a larger buffer once the usual one is too small.
fn fill(usual: usize, read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; usual];
    let length = match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.resize(XATTR_BYTES_MAX, 0);
            read(&mut buffer)?
        }
        length => length?,
    };
    buffer.truncate(length);
    Ok(buffer)
}
