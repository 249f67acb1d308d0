//! Reads files back and holds them against the point: a chunk's id names its bytes, so that nothing of the repository but
//! entries is read for it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::content::each_extent;
use super::directories::Directories;
use super::report::Count;
use super::target::{Descent, System};
use super::task::failure;
use super::walk::Selection;
use super::window::Windows;
use crate::base::{Error, ErrorKind, Result};
use crate::fetch::Fetcher;
use crate::format::{Content, Entry, Extent, FileType};
use crate::seal::SealedKind;

/// Files that are compared at a time: some 20 MiB of entries.
pub(super) const LIKELY_MAX: usize = 32 << 10;

/// Zeros that are read at a time.
const ZEROS_BYTES: u64 = 1 << 20;

/// Which of these have the content that their entries say?
///
/// # Errors
/// Interrupted; and those of fetching extent lists.
pub(super) fn compare(
    windows: &Windows<'_>,
    likely: &[(Vec<u8>, Box<Entry>)],
) -> Result<Vec<bool>> {
    let next = AtomicUsize::new(0);
    let same = Mutex::new(vec![false; likely.len()]);
    windows.side_by_side(&|| {
        let mut descent = windows.target.descent();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, entry)) = likely.get(number) else {
                return Ok(());
            };
            windows.tally.go_on()?;
            let is_same = match open(&mut descent, path) {
                Ok(file) => has_content(windows.fetcher, &file, entry)?,
                // It is written anew, which tells if that cannot be.
                Err(_) => false,
            };
            same.lock().unwrap_or_else(PoisonError::into_inner)[number] = is_same;
        }
    })?;
    Ok(same.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Reads all files of a selection back but those that were passed over, and tells of each that is not what the point has.
///
/// # Errors
/// Those of `compare`, and of reading the point.
pub(super) fn verify(
    selection: &Selection,
    directories: &Directories,
    passed_over: &HashSet<Vec<u8>>,
    windows: &Windows<'_>,
) -> Result<()> {
    let mut due = Vec::new();
    selection.each(&mut |selected| {
        if selected.found.entry.metadata.file_type != FileType::Regular {
            return Ok(());
        }
        let Some(path) = directories.path_of(&selected.path) else {
            return Ok(());
        };
        if !passed_over.contains(&path) {
            due.push((path, selected.found.entry));
        }
        match due.len() >= LIKELY_MAX {
            true => verify_some(windows, &mut due),
            false => Ok(()),
        }
    })?;
    verify_some(windows, &mut due)
}

fn verify_some(windows: &Windows<'_>, due: &mut Vec<(Vec<u8>, Box<Entry>)>) -> Result<()> {
    let same = compare(windows, due)?;
    for ((path, _), is_same) in due.drain(..).zip(same) {
        if is_same {
            windows.tally.add(Count::Verified, 1);
        } else {
            let problem = "what was read back is not what the point has";
            windows
                .tally
                .complain(&windows.target.shown(&path), problem);
        }
    }
    Ok(())
}

fn open(descent: &mut Descent<'_>, path: &[u8]) -> Result<OwnedFd> {
    let (directory, name) = descent
        .place(path)
        .map_err(|error| failure("open its directory", error))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
        .map_err(|error| failure("open it", error))
}

/// Has an open file the content of `entry`?
fn has_content(fetcher: &Fetcher, file: &OwnedFd, entry: &Entry) -> Result<bool> {
    let size = rustix::fs::fstat(file).map(|stat| stat.st_size as u64);
    if size.ok() != Some(entry.metadata.size) {
        return Ok(false);
    }
    if let Content::Inline(bytes) = &entry.content {
        return Ok(read(file, 0, bytes.len()).is_ok_and(|found| found == *bytes));
    }
    let seal = fetcher.repository().seal();
    let differs = || Error::new(ErrorKind::Exists, "it differs");
    let compared = each_extent(fetcher, &entry.content, &mut |offset, extent| {
        let is_same = match extent {
            Extent::Chunk(place) => read(file, offset, place.length as usize)
                .is_ok_and(|bytes| seal.chunk_id_in(SealedKind::Data, &bytes) == place.id),
            Extent::Hole(length) | Extent::Zeros(length) => is_zero(file, offset, *length),
        };
        if is_same { Ok(()) } else { Err(differs()) }
    });
    match compared {
        Err(error) if error.kind() == ErrorKind::Exists => Ok(false),
        compared => compared.map(|()| true),
    }
}

/// Are there `length` zeros at `offset`? Holes are passed over.
fn is_zero(file: &OwnedFd, offset: u64, length: u64) -> bool {
    let end = offset + length;
    let mut at = offset;
    while at < end {
        at = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return true,
            Err(_) => at,
        };
        if at >= end {
            return true;
        }
        let bytes = ZEROS_BYTES.min(end - at);
        match read(file, at, bytes as usize) {
            Ok(found) if found.iter().all(|byte| *byte == 0) => at += bytes,
            _ => return false,
        }
    }
    true
}

fn read(file: &OwnedFd, offset: u64, length: usize) -> System<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match rustix::io::pread(file, &mut bytes[filled..], offset + filled as u64) {
            Err(Errno::INTR) => {}
            Ok(0) => return Err(Errno::IO),
            read => filled += read?,
        }
    }
    Ok(bytes)
}
