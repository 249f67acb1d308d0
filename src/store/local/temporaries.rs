//! Files that are being written, before they have their names.
//!
//! A writer holds a lock on a file of its own, `tmp/<writer>`, for as long as it lives; what it writes lies beside it
//! as `tmp/<writer>-<number>`. A lock that can be had belongs to a writer that is dead, whatever it died of, so that
//! clearing away needs neither ages nor process ids. Where a file system has no locks nothing is cleared away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{Error, Result};

use super::DIRECTORY_MODE;
use crate::store::Body;

/// Permissions of every file of a repository.
const FILE_MODE: u32 = 0o600;

/// Digits in a writer's name.
const WRITER_DIGITS: usize = 32;

/// How many bytes of a file are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A writer's place for what it has not finished. Gone when dropped.
#[derive(Debug)]
pub(super) struct Temporaries {
    /// The locked file; what is written lies beside it.
    path: PathBuf,
    /// Holds the lock by being open.
    _lock: File,
    next: AtomicU64,
}

impl Temporaries {
    /// A place in `folder`, which is made where it does not exist; what dead writers left there goes.
    pub(super) fn claim(folder: &Path) -> Result<Self> {
        let failed = |error| Error::io(format_args!("write to {}", folder.display()), error);
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        clear_stale(folder).map_err(failed)?;
        loop {
            if let Some(claimed) = Self::try_claim(folder).map_err(failed)? {
                return Ok(claimed);
            }
        }
    }

    /// None if another writer cleared the file away before it was locked.
    fn try_claim(folder: &Path) -> io::Result<Option<Self>> {
        let mut random = [0; WRITER_DIGITS / 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(name);
        let lock = create_new(&path)?;
        match lock.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
            _ => {}
        }
        if lock.metadata()?.nlink() == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            path,
            _lock: lock,
            next: AtomicU64::new(1),
        }))
    }

    /// A new empty file.
    pub(super) fn create(&self) -> Result<Temporary> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut path = self.path.clone().into_os_string();
        path.push(format!("-{number}"));
        let path = PathBuf::from(path);
        let file = create_new(&path)
            .map_err(|error| Error::io(format_args!("create {}", path.display()), error))?;
        Ok(Temporary {
            path,
            file,
            is_published: false,
        })
    }
}

impl Drop for Temporaries {
    fn drop(&mut self) {
        // If it cannot be removed, the next writer will: nobody holds its lock then.
        let _ = fs::remove_file(&self.path);
    }
}

/// A file without its name yet. Gone when dropped, unless it was published.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    file: File,
    is_published: bool,
}

impl Temporary {
    /// Where it lies until it is renamed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the whole body and waits until the disk has it.
    pub(super) fn write(&self, body: Body<'_>) -> io::Result<()> {
        let mut file = &self.file;
        match body {
            Body::Bytes(pieces) => {
                for piece in pieces {
                    file.write_all(piece)?;
                }
            }
            Body::Shared(pieces) => {
                for piece in pieces {
                    file.write_all(piece)?;
                }
            }
            Body::File(source) => copy(source, file)?,
        }
        file.sync_data()
    }

    /// It was renamed, and is nobody's temporary any more.
    pub(super) fn forget(mut self) {
        self.is_published = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_published {
            // If it cannot be removed, a later writer will, once this one is dead.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Copies a file from its first byte, wherever its position is, and leaves that where it is.
fn copy(source: &File, mut target: &File) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let length = match source.read_at(&mut buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if length == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..length])?;
        offset += length as u64;
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Removes what dead writers left. Files that no writer of ours named are none of its business.
fn clear_stale(folder: &Path) -> io::Result<()> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| writer_of(name).is_some())
        .collect();
    names.sort_unstable();
    for of_one_writer in names.chunk_by(|one, other| writer_of(one) == writer_of(other)) {
        let Some(writer) = of_one_writer.first().and_then(|name| writer_of(name)) else {
            continue;
        };
        // The lock is held until all is removed, so that no two writers clear away the same.
        if let Some(_lock) = lock_of_dead(&folder.join(writer))? {
            for name in of_one_writer.iter().rev() {
                remove_if_there(&folder.join(name))?;
            }
        }
    }
    Ok(())
}

/// The writer that a name in the folder belongs to.
pub(super) fn writer_of(name: &str) -> Option<&str> {
    let (writer, rest) = name.split_at_checked(WRITER_DIGITS)?;
    let is_ours = writer.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            }));
    is_ours.then_some(writer)
}

/// Is the writer whose lock lies at `path` dead? If so, what keeps others from finding it so: the lock, if it is
/// there (it is made before all else of its writer and removed after it).
fn lock_of_dead(path: &Path) -> io::Result<Option<Option<File>>> {
    let lock = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
        result => result?,
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(Some(lock))),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => Ok(None),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
