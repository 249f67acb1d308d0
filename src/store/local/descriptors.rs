//! Open files, kept for the next read: packs and runs are read range by range, and opening costs more than reading.

use std::fs::File;
use std::io;
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, pread};

/// How many files stay open. Few enough for the usual limit of 1,024 descriptors a process, many enough for the
/// runs and packs of a year of daily points, which a tree that is read in order goes through again and again.
const OPEN_FILES_MAX: NonZeroUsize = NonZeroUsize::new(512).expect("it is not zero");

/// The longest file that the system is asked to bring into its page cache whole when it is opened, in bytes. A chain of
/// many small points has small packs and runs, which are read here and there: to read one whole takes a disk with
/// arms about as long as to find one range in it, and other disks less than to find a dozen.
const BROUGHT_WHOLE_BYTES_MAX: u64 = 1 << 20;

/// An open file and its length, which never changes.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    pub(super) length: u64,
}

impl OpenFile {
    /// The `length` bytes at `offset`, fewer only where the file ends.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            match pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The vector may have got more room than was asked for.
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// The files that were read last, by object name.
#[derive(Debug)]
pub(super) struct Descriptors {
    open: Mutex<LruCache<String, Arc<OpenFile>>>,
}

impl Descriptors {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            open: Mutex::new(LruCache::new(OPEN_FILES_MAX)),
        }
    }

    /// The file of the object `name`, if it is open.
    pub(super) fn get(&self, name: &str) -> Option<Arc<OpenFile>> {
        self.lock().get(name).cloned()
    }

    /// Opens the file of the object `name`, which lies at `path`.
    pub(super) fn open(&self, name: &str, path: &Path) -> io::Result<Arc<OpenFile>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let length = metadata.len();
        if length <= BROUGHT_WHOLE_BYTES_MAX {
            // A hint: whoever reads waits for what it needs, with it or without.
            let _hint = fadvise(&file, 0, NonZeroU64::new(length), Advice::WillNeed);
        }
        let open = Arc::new(OpenFile { file, length });
        self.lock().put(name.to_owned(), Arc::clone(&open));
        Ok(open)
    }

    /// Closes an object's file.
    pub(super) fn forget(&self, name: &str) {
        self.lock().pop(name);
    }

    /// Closes files that were deleted meanwhile: while they are open, they take up room. A mount, which lists points
    /// every few seconds for as long as it stands, gives room back in this way.
    pub(super) fn forget_deleted(&self) {
        let mut open = self.lock();
        let deleted: Vec<String> = open
            .iter()
            .filter(|(_, open)| {
                open.file
                    .metadata()
                    .is_ok_and(|metadata| metadata.nlink() == 0)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in deleted {
            open.pop(&name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<String, Arc<OpenFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
