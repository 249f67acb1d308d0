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
    /// Replace it unless it is what the point has.
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
    /// It is what the point has, by all that `lstat` tells: surely so, or only if its content is, too.
    Same { is_sure: bool },
    /// Leave what is there.
    Skip,
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
    let otherwise = match rule {
        OnConflict::Overwrite => return Verdict::Write,
        OnConflict::Skip => return Verdict::Skip,
        OnConflict::IfNewer if is_newer(entry, there) => return Verdict::Write,
        OnConflict::IfNewer => return Verdict::Skip,
        OnConflict::IfChanged => Verdict::Write,
        OnConflict::Rename => Verdict::Rename,
    };
    if !looks_same(entry, there) || !has_target(entry, directory, name) {
        return otherwise;
    }
    let is_sure = entry.metadata.file_type != FileType::Regular || is_untouched(entry, there);
    Verdict::Same { is_sure }
}

/// Is it the very file that the entry was recorded from, and was nothing done to it since?
fn is_untouched(entry: &Entry, there: &Stat) -> bool {
    let (metadata, flags) = (&entry.metadata, &entry.flags);
    let is_reliable = !flags.unsettled && !flags.changed_while_read && !flags.carried;
    let ctime = (there.st_ctime, there.st_ctime_nsec);
    let recorded = (
        metadata.ctime.seconds,
        u64::from(metadata.ctime.nanoseconds),
    );
    is_reliable && there.st_ino == metadata.inode && ctime == recorded
}

/// Was the entry modified later than what is there?
pub(super) fn is_newer(entry: &Entry, there: &Stat) -> bool {
    let mtime = entry.metadata.mtime;
    match mtime.seconds.cmp(&there.st_mtime) {
        Ordering::Equal => u64::from(mtime.nanoseconds) > there.st_mtime_nsec,
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
    let links_max = if entry.group.is_some() {
        metadata.links
    } else {
        1
    };
    if there.st_nlink > links_max {
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
