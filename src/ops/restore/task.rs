//! One thing that is put in place: made under a name of its own, filled, given its metadata, and only then renamed.
//!
//! Invariant: under its own name there is what was there before, or all of it. The name beside it is the same each time,
//! so that what a killed restore left behind is taken up by the next.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType as SystemType, IFlags, Mode, OFlags};
use rustix::io::Errno;

use super::metadata::{Problems, Thing, describe, name_handle};
use super::target::{Descent, System, remove_tree};
use crate::base::{Error, ErrorKind, Result};
use crate::format::{FileType, Metadata};

/// Files that are open at a time; more are closed between one part and the next.
const OPEN_MAX: usize = 1024;

/// A run of zeros that becomes a hole where holes are wanted: a block of most file systems.
const HOLE_BYTES: usize = 4 << 10;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What is done to one path.
pub(super) struct Task {
    /// Below the target.
    pub(super) path: Vec<u8>,
    pub(super) metadata: Metadata,
    pub(super) work: Work,
    /// Parts that are not written yet, and one for whoever plans them.
    pending: AtomicUsize,
    has_failed: AtomicBool,
    /// Its last bytes may be a hole.
    ends_in_hole: AtomicBool,
    file: Mutex<Temporary>,
}

/// What there is to do.
pub(super) enum Work {
    /// Make it; a file that stands in its entry has these bytes.
    Make { inline: Vec<u8> },
    /// It has its content: only its metadata may differ.
    Settle,
}

/// How tasks are done.
pub(super) struct Manner {
    pub(super) owner: bool,
    pub(super) sparse: bool,
    /// May a directory with things in it be taken away for a file?
    pub(super) delete: bool,
    open: AtomicUsize,
}

#[derive(Default)]
struct Temporary {
    is_made: bool,
    file: Option<Arc<OwnedFd>>,
}

/// What a settled thing was.
pub(super) enum Settled {
    Unchanged,
    Changed(Problems),
}

impl Manner {
    pub(super) fn new(owner: bool, sparse: bool, delete: bool) -> Self {
        Self {
            owner,
            sparse,
            delete,
            open: AtomicUsize::new(0),
        }
    }
}

impl Task {
    pub(super) fn new(path: Vec<u8>, metadata: Metadata, work: Work) -> Self {
        Self {
            path,
            metadata,
            work,
            pending: AtomicUsize::new(1),
            has_failed: AtomicBool::new(false),
            ends_in_hole: AtomicBool::new(false),
            file: Mutex::default(),
        }
    }

    /// One part more is to be written.
    pub(super) fn expect_part(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// Some of its bytes are not written at all.
    pub(super) fn expect_hole(&self) {
        self.ends_in_hole.store(true, Ordering::Relaxed);
    }

    /// One part is written, or all are planned. Is it the last? Then the task is to be finished.
    pub(super) fn part_done(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Takes note that it cannot succeed any more. Was that not known yet?
    pub(super) fn fail(&self) -> bool {
        !self.has_failed.swap(true, Ordering::Relaxed)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Writes bytes of the file.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write(
        &self,
        descent: &mut Descent<'_>,
        manner: &Manner,
        offset: u64,
        bytes: &[u8],
    ) -> System<()> {
        let file = self.open(descent, manner)?;
        if manner.sparse {
            self.write_sparse(&file, offset, bytes)?;
        } else {
            write_all(&file, offset, bytes)?;
        }
        if manner.open.load(Ordering::Relaxed) > OPEN_MAX && self.lock().file.take().is_some() {
            manner.open.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes zeros where the source had them written.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write_zeros(
        &self,
        descent: &mut Descent<'_>,
        manner: &Manner,
        mut offset: u64,
        mut length: u64,
    ) -> System<()> {
        let file = self.open(descent, manner)?;
        while length > 0 {
            let bytes = length.min(ZEROS.len() as u64);
            write_all(&file, offset, &ZEROS[..bytes as usize])?;
            offset += bytes;
            length -= bytes;
        }
        Ok(())
    }

    fn write_sparse(&self, file: &OwnedFd, offset: u64, bytes: &[u8]) -> System<()> {
        // Blocks are the file's, whatever the offset of the bytes in it.
        let head = (offset.next_multiple_of(HOLE_BYTES as u64) - offset) as usize;
        let (head, blocks) = bytes.split_at(head.min(bytes.len()));
        write_all(file, offset, head)?;
        let mut at = offset + head.len() as u64;
        for run in blocks
            .chunks(HOLE_BYTES)
            .collect::<Vec<_>>()
            .chunk_by(|one, next| is_zero(one) == is_zero(next))
        {
            let length: usize = run.iter().map(|block| block.len()).sum();
            if is_zero(run[0]) {
                self.expect_hole();
            } else {
                let start = (at - offset) as usize;
                write_all(file, at, &bytes[start..start + length])?;
            }
            at += length as u64;
        }
        Ok(())
    }

    /// The file under its temporary name, made or opened again.
    fn open(&self, descent: &mut Descent<'_>, manner: &Manner) -> System<Arc<OwnedFd>> {
        let mut temporary = self.lock();
        if let Some(file) = &temporary.file {
            return Ok(Arc::clone(file));
        }
        let (directory, name) = descent.place(&self.path)?;
        let beside = beside(name);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = if temporary.is_made {
            rustix::fs::openat(directory, &beside, flags, Mode::empty())?
        } else {
            make_anew(directory, &beside, || {
                let flags = flags | OFlags::CREATE | OFlags::EXCL;
                rustix::fs::openat(directory, &beside, flags, Mode::RUSR | Mode::WUSR)
            })?
        };
        if !temporary.is_made && self.metadata.chattr & IFlags::NOCOW.bits() != 0 {
            // Only an empty file takes it; where it cannot be had, nothing but speed is lost.
            let _refused = super::metadata::give_flags(&file, IFlags::NOCOW.bits());
        }
        temporary.is_made = true;
        let file = Arc::new(file);
        temporary.file = Some(Arc::clone(&file));
        manner.open.fetch_add(1, Ordering::Relaxed);
        Ok(file)
    }

    /// Completes what all parts were written of, gives it its metadata, and puts it in place.
    ///
    /// # Errors
    /// It is not in place then, and nothing is left beside it.
    pub(super) fn finish(&self, descent: &mut Descent<'_>, manner: &Manner) -> Result<Problems> {
        let result = self
            .complete(descent, manner)
            .map_err(|error| failure("write it", error))
            .and_then(|problems| self.put_in_place(descent, manner).map(|()| problems));
        if result.is_err() {
            self.abandon(descent, manner);
        }
        result
    }

    fn complete(&self, descent: &mut Descent<'_>, manner: &Manner) -> System<Problems> {
        let metadata = &self.metadata;
        if metadata.file_type == FileType::Regular {
            let file = self.open(descent, manner)?;
            if let Work::Make { inline } = &self.work
                && !inline.is_empty()
            {
                write_all(&file, 0, inline)?;
            }
            if self.ends_in_hole.load(Ordering::Relaxed) {
                rustix::fs::ftruncate(&file, metadata.size)?;
            }
            let now = rustix::fs::fstat(&file)?;
            let problems = Thing::Open(file.as_fd()).give(metadata, &now, manner.owner);
            self.close(manner);
            return Ok(problems);
        }
        let (directory, name) = descent.place(&self.path)?;
        let beside = beside(name);
        make_anew(directory, &beside, || self.make_special(directory, &beside))?;
        self.lock().is_made = true;
        let handle = name_handle(directory, &beside)?;
        let now = rustix::fs::fstat(&handle)?;
        Ok(Thing::Named(&handle).give(metadata, &now, manner.owner))
    }

    fn make_special(&self, directory: BorrowedFd<'_>, name: &[u8]) -> System<()> {
        let metadata = &self.metadata;
        let system_type = match metadata.file_type {
            FileType::Symlink => {
                return rustix::fs::symlinkat(&metadata.target[..], directory, name);
            }
            FileType::Fifo => SystemType::Fifo,
            FileType::Socket => SystemType::Socket,
            FileType::CharacterDevice => SystemType::CharacterDevice,
            FileType::BlockDevice => SystemType::BlockDevice,
            FileType::Regular | FileType::Directory => return Err(Errno::INVAL),
        };
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(directory, name, system_type, mode, metadata.rdev)
    }

    fn put_in_place(&self, descent: &mut Descent<'_>, manner: &Manner) -> Result<()> {
        let (directory, name) = descent
            .place(&self.path)
            .map_err(|error| failure("open its directory", error))?;
        put(directory, &beside(name), name, manner.delete)
    }

    /// Takes away what is beside its place.
    pub(super) fn abandon(&self, descent: &mut Descent<'_>, manner: &Manner) {
        self.close(manner);
        let mut temporary = self.lock();
        if !std::mem::take(&mut temporary.is_made) {
            return;
        }
        if let Ok((directory, name)) = descent.place(&self.path) {
            // What stays behind is taken up by the next restore.
            let _gone = rustix::fs::unlinkat(directory, beside(name), AtFlags::empty());
        }
    }

    /// Sees to the metadata of what has its content.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn settle(&self, descent: &mut Descent<'_>, manner: &Manner) -> System<Settled> {
        let (directory, name) = descent.place(&self.path)?;
        let handle = name_handle(directory, name)?;
        let now = rustix::fs::fstat(&handle)?;
        let thing = Thing::Named(&handle);
        Ok(match thing.has(&self.metadata, &now, manner.owner) {
            true => Settled::Unchanged,
            false => Settled::Changed(thing.give(&self.metadata, &now, manner.owner)),
        })
    }

    fn close(&self, manner: &Manner) {
        if self.lock().file.take().is_some() {
            manner.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Temporary> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name under which `name` is made: of a fixed length, as names may not be longer than what is there.
pub(super) fn beside(name: &[u8]) -> Vec<u8> {
    let hash = blake3::hash(name).to_hex();
    format!(".bygone-{}.part", &hash[..16]).into_bytes()
}

/// Makes something by `make`, once more if a killed restore left something there.
pub(super) fn make_anew<T>(
    directory: BorrowedFd<'_>,
    name: &[u8],
    make: impl Fn() -> System<T>,
) -> System<T> {
    match make() {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
            make()
        }
        made => made,
    }
}

/// Renames what is at `from` to `to`; a directory there makes way if it is empty, or `delete` says that it may.
///
/// # Errors
/// It does not, or what the system says.
pub(super) fn put(directory: BorrowedFd<'_>, from: &[u8], to: &[u8], delete: bool) -> Result<()> {
    let rename = || rustix::fs::renameat(directory, from, directory, to);
    match rename() {
        Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {}
        result => return result.map_err(|error| failure("put it in place", error)),
    }
    make_way(directory, to, delete)?;
    rename().map_err(|error| failure("put it in place", error))
}

/// Takes a directory away that is where something else belongs.
///
/// # Errors
/// Something is in it, and `delete` does not say that it may go.
pub(super) fn make_way(directory: BorrowedFd<'_>, name: &[u8], delete: bool) -> Result<()> {
    let removed = match delete {
        true => remove_tree(directory, name).map(drop),
        false => rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR),
    };
    match removed {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Error::new(
            ErrorKind::Exists,
            "a directory that is not empty is in its place; --delete takes such away",
        )),
        result => result.map_err(|error| failure("take away the directory in its place", error)),
    }
}

/// An error of the system, as one of ours.
pub(super) fn failure(action: &str, error: Errno) -> Error {
    match error {
        Errno::NOTDIR | Errno::LOOP => Error::new(
            ErrorKind::Failed,
            format!(
                "cannot {action}: something above it is no directory: a symlink is not followed ({})",
                describe(error)
            ),
        ),
        error => Error::io(action, error.into()),
    }
}

fn write_all(file: &OwnedFd, mut offset: u64, mut bytes: &[u8]) -> System<()> {
    while !bytes.is_empty() {
        let written = match rustix::io::pwrite(file, bytes, offset) {
            Err(Errno::INTR) => continue,
            Ok(0) => return Err(Errno::IO),
            written => written?,
        };
        offset += written as u64;
        bytes = &bytes[written..];
    }
    Ok(())
}

fn is_zero(block: &[u8]) -> bool {
    block == &ZEROS[..block.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::restore::target::Target;

    fn file(size: u64) -> Metadata {
        Metadata {
            file_type: FileType::Regular,
            mode: 0o640,
            uid: 0,
            gid: 0,
            mtime: crate::base::Timestamp::default(),
            ctime: crate::base::Timestamp::default(),
            btime: None,
            size,
            blocks: 0,
            links: 1,
            rdev: 0,
            target: Vec::new(),
            xattrs: Vec::new(),
            chattr: 0,
            inode: 1,
            device: 0,
        }
    }

    #[test]
    fn a_file_appears_under_its_name_only_once_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let mut descent = target.descent();
        // What a killed restore left behind.
        let left = folder
            .path()
            .join(std::str::from_utf8(&beside(b"name")).unwrap());
        std::fs::write(left, "left behind, and longer than what is to come").unwrap();
        let manner = Manner::new(false, false, false);
        let task = Task::new(b"name".to_vec(), file(6), Work::Make { inline: Vec::new() });
        task.write(&mut descent, &manner, 3, b"def").unwrap();
        task.write(&mut descent, &manner, 0, b"abc").unwrap();
        assert!(!folder.path().join("name").exists());
        task.finish(&mut descent, &manner).unwrap();
        assert_eq!(
            std::fs::read(folder.path().join("name")).unwrap(),
            b"abcdef"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn zeros_become_holes_in_whole_blocks_wherever_a_part_begins() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let mut descent = target.descent();
        let mut bytes = vec![0; 1 << 20];
        bytes[5000] = 1;
        let manner = Manner::new(false, true, false);
        let size = 100 + bytes.len() as u64;
        let task = Task::new(
            b"name".to_vec(),
            file(size),
            Work::Make { inline: Vec::new() },
        );
        task.write(&mut descent, &manner, 0, &[7; 100]).unwrap();
        task.write(&mut descent, &manner, 100, &bytes).unwrap();
        task.finish(&mut descent, &manner).unwrap();
        let path = folder.path().join("name");
        let found = std::fs::read(&path).unwrap();
        assert!(found[..100] == [7; 100] && found[100..] == bytes);
        assert!(std::fs::metadata(&path).unwrap().blocks() <= 64);
    }

    #[test]
    fn what_is_abandoned_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let mut descent = target.descent();
        let manner = Manner::new(false, false, false);
        let task = Task::new(b"name".to_vec(), file(3), Work::Make { inline: Vec::new() });
        task.write(&mut descent, &manner, 0, b"abc").unwrap();
        task.abandon(&mut descent, &manner);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
