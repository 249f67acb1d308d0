//! The memory that processes share an SQLite database by, its file `-shm`, which SQLite maps: on a full disk, a write to a
//! part of it that has no block yet would end the process with SIGBUS.
//!
//! SQLite writes a byte of each page of 4 KiB so that it has blocks; on a file system of smaller blocks the rest of the page
//! has none. So all of it is given blocks here, right after it was mapped first, and nothing is opened on a disk that has no
//! room for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};

use crate::base::{Error, ErrorKind, Result};

/// What SQLite maps at first, 32 KiB for the first 4,062 pages of the log, and as much again. The log is written back
/// after 1,000 pages.
const SHARED_BYTES: u64 = 64 << 10;

/// A database is not opened where less is free: an empty one takes some 100 KiB with its log.
const FREE_BYTES_MIN: u64 = 1 << 20;

/// By device and inode. None is closed that is still there: closing one would take away the locks that SQLite has on the
/// same file through another descriptor, as POSIX has it.
static OPENED: LazyLock<Mutex<HashMap<(u64, u64), File>>> = LazyLock::new(Mutex::default);

/// The shared memory of a database that is open. Dropped after the connection to it: descriptors of shared memory that is
/// gone are closed then. SQLite deletes it with the last connection.
#[derive(Debug)]
pub struct SharedMemory(());

impl SharedMemory {
    /// Fails where the disk of the database at `path` is full: before it is opened.
    ///
    /// # Errors
    /// Full.
    pub fn check_room(path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(path);
        let is_full = statvfs(folder)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FREE_BYTES_MIN);
        match is_full {
            true => Err(Error::new(
                ErrorKind::Full,
                format!("there is no room at {}", folder.display()),
            )),
            false => Ok(()),
        }
    }

    /// Gives all of the shared memory of the database at `path`, which is open and was read from, its blocks.
    ///
    /// # Errors
    /// Full, if there are none left; denied or failed.
    pub fn allocate(path: &Path) -> Result<Self> {
        let path = shared_memory_of(path);
        match try_allocate(&path) {
            // A file system that cannot map has another kind of log.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            result => {
                result.map_err(|error| Error::io(format!("use {}", path.display()), error))?;
            }
        }
        Ok(Self(()))
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|_, file| file.metadata().is_ok_and(|metadata| metadata.nlink() > 0));
    }
}

fn try_allocate(path: &Path) -> io::Result<()> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let metadata = fs::symlink_metadata(path)?;
    let file = match opened.entry((metadata.dev(), metadata.ino())) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => place.insert(
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(OFlags::NOFOLLOW.bits() as i32)
                .open(path)?,
        ),
    };
    Ok(fallocate(&*file, FallocateFlags::empty(), 0, SHARED_BYTES)?)
}

fn shared_memory_of(database: &Path) -> PathBuf {
    let mut name: OsString = database.as_os_str().to_owned();
    name.push("-shm");
    PathBuf::from(name)
}
