//! A stream that is backed up as if it were a file: read to its end, placed, and then recorded under a path of its own.
//!
//! What lies above that path is made up: directories that everybody may list. A stream that brings the very bytes that
//! the latest point has at the path is the same version of the file, so that its times say when its content came up.
//! Nothing is recorded before all of it was read, and whoever gave it said that it is whole.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::compare::same_content;
use super::content::{Failure, FileRead, Read, Reader};
use super::pipeline::{Watch, Workshop};
use super::plan::{Observe, Step};
use super::record::{Observation, Recorder, Reference, interrupted};
use super::status::{Details, Status};
use super::steps::record_step;
use super::walk::{Seen, Sighting};
use crate::base::{Error, ErrorKind, Key, Monitor, Result, Timestamp};
use crate::format::{Content, FileType, Metadata};

/// How long a stream is waited for before somebody looks whether the backup was interrupted.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Permissions of what a stream is recorded as: a dump may hold what only its owner is to read.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o755;

/// A stream, and what it is to become.
pub struct Stream {
    /// The path that it is recorded as, from the root.
    pub path: PathBuf,
    /// Whose the file is.
    pub uid: u32,
    pub gid: u32,
    /// Where its bytes come from: a pipe, a file, a device.
    pub file: OwnedFd,
    /// Called when it was read to its end: was that all of it?
    pub end: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// A stream that was read and placed.
#[derive(Debug, Clone)]
pub struct StreamContent {
    path: PathBuf,
    status: Status,
    content: Content,
    content_hash: Option<[u8; 32]>,
    shape: Option<[u8; 32]>,
    read_at: Timestamp,
}

/// A stream as it is read: its start can be looked at before.
pub struct StreamReader {
    file: OwnedFd,
    start: Vec<u8>,
    /// How much of the start was taken.
    taken: usize,
}

impl StreamReader {
    fn new(file: OwnedFd) -> Self {
        Self {
            file,
            start: Vec::new(),
            taken: 0,
        }
    }

    /// Its first `count` bytes, fewer if it has no more. They are still to be read.
    ///
    /// # Errors
    /// Backup: it cannot be read, or the backup is to stop.
    pub fn start(
        &mut self,
        monitor: &dyn Monitor,
        count: usize,
    ) -> std::result::Result<&[u8], Failure> {
        let mut start = vec![0; count];
        let read = self.read(monitor, &mut start)?;
        start.truncate(read);
        self.start = start;
        Ok(&self.start)
    }

    /// Of its start, what is still to be read.
    pub fn pending(&self) -> &[u8] {
        &self.start[self.taken..]
    }

    /// Reads until `bytes` are full or the stream ends; gives how many there were.
    ///
    /// # Errors
    /// Backup: it cannot be read, or the backup is to stop.
    pub fn fill(
        &mut self,
        monitor: &dyn Monitor,
        bytes: &mut [u8],
    ) -> std::result::Result<usize, Failure> {
        let known = self.pending().len().min(bytes.len());
        bytes[..known].copy_from_slice(&self.pending()[..known]);
        self.taken += known;
        Ok(known + self.read(monitor, &mut bytes[known..])?)
    }

    fn read(&self, monitor: &dyn Monitor, bytes: &mut [u8]) -> Result<usize> {
        let problem = |problem: Errno| Error::io("read what is to be backed up", problem.into());
        let mut filled = 0;
        while filled < bytes.len() {
            if monitor.is_interrupted() {
                return Err(interrupted());
            }
            let mut awaited = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut awaited, Some(&PATIENCE)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(problem(error)),
            }
            match rustix::io::read(&self.file, &mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(problem(error)),
            }
        }
        Ok(filled)
    }
}

impl StreamContent {
    /// Reads all of `stream`, cuts and places it; and asks whether that was all.
    ///
    /// # Errors
    /// It cannot be read, or is not whole; interrupted; those of the store.
    pub fn read(workshop: &Workshop<'_>, stream: Stream) -> Result<Self> {
        let Stream {
            path,
            uid,
            gid,
            file,
            end,
        } = stream;
        let mut reader = StreamReader::new(file);
        let name = path.file_name().unwrap_or_default().as_bytes();
        let read = place(workshop, &mut reader, name)?;
        end()?;
        let read_at = (workshop.clock)();
        let Read::Placed(content) = read.read else {
            let message = "the stream was read and not placed";
            return Err(Error::new(ErrorKind::Failed, message));
        };
        let mut status = made_up(FileType::Regular, FILE_MODE, read_at);
        (status.uid, status.gid) = (uid, gid);
        status.size = read.size;
        status.blocks = read.size.div_ceil(512);
        Ok(Self {
            path,
            status,
            content,
            content_hash: read.content_hash,
            shape: read.shape,
            read_at,
        })
    }

    /// What is to be recorded of `file`: the stream itself, or a directory above it. What the reference has is looked
    /// at, lest what is made up make another version of what is the same.
    fn observation(
        &self,
        file: &Observe<()>,
        reference: Option<&Reference>,
    ) -> Result<Observation> {
        let before = file.before.as_ref().map(|before| &*before.entry);
        let mut observation = Observation {
            status: file.seen.status.clone(),
            details: Details::default(),
            content: Content::Nothing,
            content_hash: None,
            shape: None,
            changed_while_read: false,
            read_at: self.read_at,
        };
        let is_same = if file.seen.status.is_directory() {
            before.is_some_and(|before| before.metadata.file_type == FileType::Directory)
        } else {
            observation.content = self.content.clone();
            observation.content_hash = self.content_hash;
            observation.shape = self.shape;
            match (before, reference) {
                (Some(before), Some(reference)) => {
                    same_but_for_times(&before.metadata, &self.status)
                        && same_content(
                            &reference.fetcher,
                            &before.content,
                            &self.content,
                            self.shape,
                        )?
                }
                _ => false,
            }
        };
        if let Some(before) = before
            && is_same
        {
            observation.status.learn(&before.metadata);
            observation.details.xattrs = before.metadata.xattrs.clone();
            observation.details.chattr = before.metadata.chattr;
        }
        Ok(observation)
    }
}

/// What a walk over a file system with nothing but the stream in it would see.
///
/// # Errors
/// The path is none that can be recorded.
pub fn sightings_of_stream(content: &StreamContent) -> Result<Vec<Sighting<()>>> {
    let whole = Key::from_path(content.path.as_os_str().as_bytes())?;
    let mut sightings = Vec::new();
    let mut key = Key::root();
    let mut seen = |key: &Key, status: Status| {
        sightings.push(Sighting::Entry(Seen {
            key: key.clone(),
            status,
            place: (),
            repeats: false,
        }));
    };
    for name in whole.components() {
        seen(
            &key,
            made_up(FileType::Directory, DIRECTORY_MODE, content.read_at),
        );
        key = key.child(name)?;
    }
    seen(&key, content.status.clone());
    Ok(sightings)
}

/// Does all `steps`, of which those that open a file get what is known of the stream.
///
/// # Errors
/// Those of the steps, of the reference and of the store.
pub fn record_stream(
    content: &StreamContent,
    steps: impl Iterator<Item = Result<Step<()>>>,
    reference: Option<&Reference>,
    recorder: &mut Recorder<'_>,
) -> Result<()> {
    for step in steps {
        if let Some(file) = record_step(recorder, step?)? {
            let observation = content.observation(&file, reference)?;
            recorder.observed(*file, observation)?;
        }
    }
    Ok(())
}

/// Reads the stream on this thread, while the others seal.
fn place(workshop: &Workshop<'_>, stream: &mut StreamReader, name: &[u8]) -> Result<FileRead> {
    let reader = Reader {
        frames: workshop.frames,
        cutting: workshop.cutting,
        monitor: workshop.monitor,
        clock: workshop.clock,
        read_bytes: workshop.read_bytes,
    };
    let read = std::thread::scope(|scope| {
        let (no_requests, requests) = crossbeam_channel::unbounded::<()>();
        for _ in 0..workshop.workers {
            let requests = requests.clone();
            scope.spawn(move || {
                let _watch = Watch(workshop.frames);
                workshop.frames.work(&requests, drop);
            });
        }
        let read = reader.read_stream(stream, name);
        // The workers end when there can be no requests any more.
        drop(no_requests);
        read
    });
    let failure = match read {
        Ok(read) => return workshop.frames.take_failure().map_or(Ok(read), Err),
        Err(Failure::Backup(error)) => error,
        Err(Failure::File(problem)) => Error::new(ErrorKind::Failed, problem),
    };
    // If another thread failed, that is the reason.
    Err(workshop.frames.take_failure().unwrap_or(failure))
}

fn made_up(file_type: FileType, mode: u32, time: Timestamp) -> Status {
    Status {
        file_type,
        mode,
        uid: 0,
        gid: 0,
        mtime: time,
        ctime: time,
        btime: None,
        size: 0,
        blocks: 0,
        links: 1,
        rdev: 0,
        inode: 0,
        device: 0,
    }
}

fn same_but_for_times(before: &Metadata, now: &Status) -> bool {
    before.file_type == now.file_type
        && before.mode == now.mode
        && before.uid == now.uid
        && before.gid == now.gid
        && before.size == now.size
}

/// The recorded path of a stream that is to be called `name`: from the root, with or without a slash.
///
/// # Errors
/// Usage, if it is none that can be recorded.
pub fn path_of_stream(name: &Path) -> Result<PathBuf> {
    let key = Key::from_path(name.as_os_str().as_bytes())?;
    if key == Key::root() {
        let message = "a stream needs a name, and the root is none";
        return Err(Error::new(ErrorKind::Usage, message));
    }
    Ok(super::record::path_of(&key))
}
