//! Open files, kept for the next read: packs and runs are read range by range, and opening costs more than reading.

use std::fs::File;
use std::io;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, pread};
use rustix::process::{Resource, getrlimit};

use super::neighbourhood::Neighbourhood;

/// How many files stay open. Few enough for the usual limit of 1,024 descriptors a process, many enough for the
/// runs and packs of a year of daily points, which a tree that is read in order goes through again and again.
const OPEN_FILES_MAX: NonZeroUsize = NonZeroUsize::new(512).expect("it is not zero");

/// The longest file that the system is asked to bring into its page cache whole when it is opened, in bytes. A chain of
/// many small points has small packs and runs, which are read here and there: to read one whole takes a disk with
/// arms about as long as to find one range in it, and other disks less than to find a dozen.
const BROUGHT_WHOLE_BYTES_MAX: u64 = 1 << 20;

/// Files that stay open take one descriptor in so many that the process may have: of the usual 1,024, all of the above.
const DESCRIPTORS_PARTS: u64 = 2;

/// An open file and its length, which never changes.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    pub(super) length: u64,
    neighbourhood: Mutex<Neighbourhood>,
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
        self.ask_for_neighbours(&(offset..offset + bytes.len() as u64));
        Ok(bytes)
    }

    /// Asks the system for what is likely to be read soon after `range`.
    fn ask_for_neighbours(&self, range: &Range<u64>) {
        let wanted = {
            let mut neighbourhood = self
                .neighbourhood
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            neighbourhood.note(range, self.length)
        };
        let Some(wanted) = wanted else { return };
        if let Some(length) = NonZeroU64::new(wanted.end.saturating_sub(wanted.start)) {
            // Where a file system does not know this, the next reader waits longer, and that is all.
            let _unheard = fadvise(&self.file, wanted.start, Some(length), Advice::WillNeed);
        }
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
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let part = usize::try_from(descriptors / DESCRIPTORS_PARTS).unwrap_or(usize::MAX);
        let most = NonZeroUsize::new(part).unwrap_or(NonZeroUsize::MIN);
        Self {
            open: Mutex::new(LruCache::new(most.min(OPEN_FILES_MAX))),
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
        let open = Arc::new(OpenFile {
            file,
            length,
            neighbourhood: Mutex::default(),
        });
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
