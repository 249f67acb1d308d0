//! Open files of the source. Everything is opened relative to the directory that was listed, never through a symlink,
//! and never in a way that could block or touch a device.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::{Errno, Result};

use super::names::Names;
use super::status::Status;
use crate::format::FileType;

/// Bytes of directory entries that one system call brings: few enough that malloc needs no fresh pages for each directory.
const LIST_BYTES: usize = 32 << 10;

/// Where a file was seen: a name in a directory that is held open, however long its path is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory.
    pub directory: Arc<OwnedFd>,
    /// The name in it; "." for the directory itself.
    pub name: Box<[u8]>,
}

impl Place {
    /// The directory itself.
    pub fn itself(directory: Arc<OwnedFd>) -> Self {
        Self {
            directory,
            name: Box::from(&b"."[..]),
        }
    }

    /// The file at an absolute path without "." and "..", whatever its length. Nothing above it may be a symlink.
    ///
    /// # Errors
    /// The system's; LOOP or NOTDIR if something above it is no directory.
    pub fn of_path(path: &Path) -> Result<Self> {
        let mut place = Self::itself(Arc::new(open_root()?));
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            if *place.name != *b"." {
                place.directory = Arc::new(place.open_path(OFlags::DIRECTORY)?);
            }
            place.name = Box::from(name.as_bytes());
        }
        Ok(place)
    }

    /// The file at this place for reading its bytes or, with `OFlags::DIRECTORY` in `more`, its names. Does not follow
    /// a symlink, does not wait for a fifo's writer, and leaves the access time alone where the system permits it.
    ///
    /// # Errors
    /// The system's; LOOP for a symlink.
    pub fn open(&self, more: OFlags) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC
            | more;
        match self.open_with(flags | OFlags::NOATIME) {
            // Only the owner and root may leave the access time alone.
            Err(Errno::PERM) => self.open_with(flags),
            opened => opened,
        }
    }

    /// A handle that names the file, of whatever type, and opens nothing.
    ///
    /// # Errors
    /// The system's.
    pub fn open_path(&self, more: OFlags) -> Result<OwnedFd> {
        self.open_with(OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | more)
    }

    fn open_with(&self, flags: OFlags) -> Result<OwnedFd> {
        rustix::fs::openat(&*self.directory, &*self.name, flags, Mode::empty())
    }
}

/// The root directory, as a handle that names it.
///
/// # Errors
/// The system's.
pub fn open_root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(rustix::fs::CWD, "/", flags, Mode::empty())
}

/// The directory above `directory`, as a handle that names it.
///
/// # Errors
/// The system's.
pub fn open_above(directory: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, "..", flags, Mode::empty())
}

/// Adds the names in `directory` to `names`, in the system's order.
///
/// # Errors
/// The system's; names that were read before it stay in `names`.
pub fn list(directory: impl AsFd, names: &mut Names) -> Result<()> {
    let mut buffer = Vec::with_capacity(LIST_BYTES);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(())
}

/// The first `length` bytes of a regular file, fewer of a shorter one.
///
/// # Errors
/// The system's; INVAL if it is no regular file.
pub fn read_start(place: &Place, length: usize) -> Result<Vec<u8>> {
    let file = place.open(OFlags::empty())?;
    if Status::of(&file, b"")?.file_type != FileType::Regular {
        return Err(Errno::INVAL);
    }
    let mut start = vec![0; length];
    let read = rustix::io::pread(&file, &mut start, 0)?;
    start.truncate(read);
    Ok(start)
}
