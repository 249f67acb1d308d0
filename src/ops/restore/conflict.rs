//! What happens to a file where something stands already: decided by what `lstat` tells of it.

use std::cmp::Ordering;

use rustix::fd::BorrowedFd;
use rustix::fs::{FileType as SystemType, Stat};

use super::metadata::has_mtime;
use crate::format::{Entry, FileType};

/// What to do where something stands already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Replace it.
    Overwrite,
    /// Leave it.
    Skip,
    /// Replace it if the point's was modified later.
    IfNewer,
    /// Replace it unless it is what the point has: of the same type, size and modification time, or the same target.
    #[default]
    IfChanged,
    /// Leave it, and restore under another name beside it, unless it is what the point has.
    Rename,
}

/// What to do with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Put it there.
    Write,
    /// It has the content already: see to its metadata.
    Same,
    /// Leave what is there, which has the content or not.
    Skip { is_same: bool },
    /// Put it beside what is there.
    Rename,
}

/// What to do with `entry`, which is no directory, where `there` stands at `name` in `directory`.
pub(super) fn judge(
    rule: OnConflict,
    entry: &Entry,
    there: &Stat,
    (directory, name): (BorrowedFd<'_>, &[u8]),
) -> Verdict {
    let is_same = || looks_same(entry, there) && has_target(entry, directory, name);
    match rule {
        OnConflict::Overwrite => Verdict::Write,
        OnConflict::Skip => Verdict::Skip { is_same: false },
        OnConflict::IfNewer if is_newer(entry, there) => Verdict::Write,
        OnConflict::IfNewer => Verdict::Skip { is_same: false },
        OnConflict::IfChanged if is_same() => Verdict::Same,
        OnConflict::IfChanged => Verdict::Write,
        OnConflict::Rename if is_same() => Verdict::Skip { is_same: true },
        OnConflict::Rename => Verdict::Rename,
    }
}

/// Was the entry modified later than what is there?
pub(super) fn is_newer(entry: &Entry, there: &Stat) -> bool {
    let mtime = entry.metadata.mtime;
    match mtime.seconds.cmp(&there.st_mtime) {
        Ordering::Equal => u64::from(mtime.nanoseconds) > there.st_mtime_nsec as u64,
        order => order == Ordering::Greater,
    }
}

/// Is it, by all that `lstat` tells, what the entry was recorded from?
fn looks_same(entry: &Entry, there: &Stat) -> bool {
    let metadata = &entry.metadata;
    if file_type(there) != Some(metadata.file_type) {
        return false;
    }
    // A name more than the point knows of may be anybody's: what is done to this one would be done to that.
    let links_max = if entry.group.is_some() { metadata.links } else { 1 };
    if there.st_nlink as u64 > links_max {
        return false;
    }
    match metadata.file_type {
        FileType::Regular => {
            there.st_size as u64 == metadata.size && has_mtime(there, metadata.mtime)
        }
        FileType::CharacterDevice | FileType::BlockDevice => there.st_rdev == metadata.rdev,
        _ => true,
    }
}

/// Does a symlink lead where the entry's does?
fn has_target(entry: &Entry, directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    entry.metadata.file_type != FileType::Symlink
        || rustix::fs::readlinkat(directory, name, Vec::new())
            .is_ok_and(|target| target.as_bytes() == entry.metadata.target)
}

/// The type of what is there; None for one that no point has.
pub(super) fn file_type(there: &Stat) -> Option<FileType> {
    Some(match SystemType::from_raw_mode(there.st_mode) {
        SystemType::RegularFile => FileType::Regular,
        SystemType::Directory => FileType::Directory,
        SystemType::Symlink => FileType::Symlink,
        SystemType::Fifo => FileType::Fifo,
        SystemType::Socket => FileType::Socket,
        SystemType::CharacterDevice => FileType::CharacterDevice,
        SystemType::BlockDevice => FileType::BlockDevice,
        SystemType::Unknown => return None,
    })
}
