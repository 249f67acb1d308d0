//! Pinning: reading a part of a point as a mount would, with a cache that keeps all of it.
//!
//! What is kept is what was read: the repository's config and keys, what tells of points, the blocks and filters that lead
//! to each entry, and its content. So the same part can be browsed and read by a mount that has no network.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::{Error, ErrorKind, Event, Key, Monitor, PointId, Result};
use crate::cache::{CachedStore, Pinning};
use crate::fetch::Fetcher;
use crate::format::{CONFIG_NAME, FileType, KEYS_PREFIX};
use crate::repo::{Catalogue, Repository};
use crate::tree::{NodeId, Numbers, Tree, TreeOptions};

/// What was read is not read again: memory is for what lies side by side.
const MEMORY_BYTES: u64 = 64 << 20;

/// Files that are read side by side, so that many small ones do not each cost a round trip of their own.
const READERS: usize = 8;

/// Files that wait for a reader.
const WAITING_MAX: usize = 256;

/// Bytes of one read.
const READ_BYTES: u32 = 1 << 20;

/// What was pinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PinReport {
    /// Entries of all types.
    pub entries: u64,
    /// Bytes of files' content.
    pub bytes: u64,
    /// Entries that could not be read, each told of by a warning. The pin is incomplete then.
    pub failures: u64,
}

/// An entry whose content is to be read.
struct Job {
    parent: NodeId,
    name: Vec<u8>,
    path: PathBuf,
    file_type: FileType,
    node: NodeId,
}

/// Keeps what is at `path` in a point, and all below it.
///
/// # Errors
/// Usage, if nothing is there; full, if the cache has no room for it; interrupted; and those of the store. What was read
/// until then is kept, and the pin is incomplete.
pub fn pin(
    repository: &Arc<Repository>,
    cache: &CachedStore,
    point: PointId,
    path: &Key,
    monitor: &dyn Monitor,
) -> Result<PinReport> {
    let tree = open_tree(repository, point)?;
    let mut node = NodeId::ROOT;
    let mut file_type = FileType::Directory;
    let pinning = cache.pin(&point, &path.to_path())?;
    read_beside(repository)?;
    for name in path.components() {
        let Some(found) = tree.lookup(node, name)? else {
            cache.unpin(&point, Some(&path.to_path()))?;
            let problem = format!("point {point} has no {path}");
            return Err(Error::new(ErrorKind::Usage, problem));
        };
        (node, file_type) = (found.node, found.file_type);
    }
    let walk = Walk {
        tree: &tree,
        pinning: &pinning,
        monitor,
        entries: AtomicU64::new(1),
        bytes: AtomicU64::new(0),
        failures: AtomicU64::new(0),
    };
    let top = Path::new("/").join(OsStr::from_bytes(&path.to_path()));
    match file_type {
        FileType::Directory => walk.all_below(node, top)?,
        _ => walk.content(node, &top)?,
    }
    let report = walk.report();
    if report.failures == 0 {
        pinning.finish()?;
    }
    Ok(report)
}

/// The point alone: what a mount of all points reads beside it is `read_beside`'s.
fn open_tree(repository: &Arc<Repository>, point: PointId) -> Result<Tree> {
    let fetcher = Fetcher::new(Arc::clone(repository), MEMORY_BYTES);
    let options = TreeOptions {
        point: Some(point),
        ..TreeOptions::default()
    };
    Tree::open(fetcher, Numbers::in_memory()?, options)
}

/// Reads what opening a repository and showing its points takes.
fn read_beside(repository: &Repository) -> Result<()> {
    let store = repository.store();
    store.get(CONFIG_NAME)?;
    for key in store.list(KEYS_PREFIX, "")? {
        store.get(&key.name)?;
    }
    Catalogue::load_hastily(repository)?;
    Ok(())
}

/// A walk over a part of a point that reads all of it.
struct Walk<'a> {
    tree: &'a Tree,
    pinning: &'a Pinning<'a>,
    monitor: &'a dyn Monitor,
    entries: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
}

impl Walk<'_> {
    fn all_below(&self, directory: NodeId, path: PathBuf) -> Result<()> {
        let (sender, receiver) = bounded(WAITING_MAX);
        thread::scope(|scope| {
            for _ in 0..READERS {
                let jobs = receiver.clone();
                scope.spawn(move || self.read_all(&jobs));
            }
            drop(receiver);
            self.list_all(directory, path, sender)
        })?;
        self.pinning.check()
    }

    /// Lists directories, and hands what they have to the readers.
    fn list_all(&self, directory: NodeId, path: PathBuf, readers: Sender<Job>) -> Result<()> {
        let mut directories = vec![(directory, path)];
        while let Some((directory, path)) = directories.pop() {
            self.go_on()?;
            let jobs = match self.list(directory, &path) {
                Ok(jobs) => jobs,
                Err(error) => {
                    self.failed(&path, &error)?;
                    continue;
                }
            };
            for job in jobs {
                if job.file_type == FileType::Directory {
                    directories.push((job.node, job.path.clone()));
                }
                if readers.send(job).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn list(&self, directory: NodeId, path: &Path) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        let (mut cookie, mut before) = (0, None);
        while before != Some(cookie) {
            before = Some(cookie);
            self.tree.list(directory, cookie, &mut |entry| {
                jobs.push(Job {
                    parent: directory,
                    name: entry.name.to_vec(),
                    path: path.join(OsStr::from_bytes(entry.name)),
                    file_type: entry.file_type,
                    node: entry.node,
                });
                cookie = entry.cookie;
                true
            })?;
        }
        self.entries.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        self.monitor.event(Event::Expected {
            files: jobs.len() as u64,
            bytes: 0,
        });
        Ok(jobs)
    }

    fn read_all(&self, jobs: &Receiver<Job>) {
        for job in jobs {
            // The walk itself ends as soon as it sees it, and then the jobs do.
            if self.monitor.is_interrupted() {
                continue;
            }
            self.monitor.event(Event::Path(&job.path));
            if let Err(error) = self.read(&job) {
                self.warn(&job.path, &error);
            }
            self.monitor.event(Event::Done { files: 1, bytes: 0 });
        }
    }

    /// Looks an entry up by its name, as whoever names a path does, and reads its content.
    fn read(&self, job: &Job) -> Result<()> {
        self.tree.lookup(job.parent, &job.name)?;
        match job.file_type {
            FileType::Regular => self.content(job.node, &job.path),
            _ => Ok(()),
        }
    }

    fn content(&self, node: NodeId, path: &Path) -> Result<()> {
        let size = self.tree.attributes(node)?.size;
        self.monitor.event(Event::Expected {
            files: 0,
            bytes: size,
        });
        let mut offset = 0;
        while offset < size {
            self.go_on()?;
            let length = READ_BYTES.min(u32::try_from(size - offset).unwrap_or(READ_BYTES));
            let read = self
                .tree
                .read(node, offset, length)
                .map_err(|error| error.context(path.display()))?;
            let bytes = read.len() as u64;
            if bytes == 0 {
                break;
            }
            offset += bytes;
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.monitor.event(Event::Done { files: 0, bytes });
        }
        Ok(())
    }

    /// A directory that cannot be listed costs itself, unless the store does not answer at all.
    fn failed(&self, path: &Path, error: &Error) -> Result<()> {
        if error.kind() == ErrorKind::Unreachable {
            return Err(Error::new(error.kind(), error.to_string()));
        }
        self.warn(path, error);
        Ok(())
    }

    fn warn(&self, path: &Path, error: &Error) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let message = error.to_string();
        self.monitor.event(Event::Warning(Some(path), &message));
    }

    /// Fails if it is time to stop.
    fn go_on(&self) -> Result<()> {
        if self.monitor.is_interrupted() {
            let message = "pinning was interrupted; pin again to go on";
            return Err(Error::new(ErrorKind::Interrupted, message));
        }
        self.pinning.check()
    }

    fn report(&self) -> PinReport {
        PinReport {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}
