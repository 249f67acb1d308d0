//! The directories of a restore: made before what belongs into them, given their metadata after it.

use std::collections::{HashMap, HashSet};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::conflict::{OnConflict, file_type, is_newer};
use super::metadata::{Thing, give_flags, late_flags, name_handle};
use super::report::{Count, Tally};
use super::target::{Descent, System, join, look, open_directory, split};
use super::task::failure;
use super::walk::Selected;
use super::window::Windows;
use crate::base::{Error, ErrorKind, Result};
use crate::format::{FileType, Metadata};

/// The owner's rights: without them nothing can be put into a directory.
const OWNER_RIGHTS: u32 = 0o700;

/// Where directories went that did not go where they belong.
#[derive(Default)]
pub(super) struct Directories {
    /// By the path where each belongs. None: nowhere, and nothing below it.
    diverted: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// Those that keep the metadata that they have.
    kept: HashSet<Vec<u8>>,
    /// Those above what was restored that are to be given metadata.
    above: Vec<(Vec<u8>, Metadata)>,
    /// Those that their owner cannot work in once they have their mode.
    closed: Vec<(Vec<u8>, Metadata)>,
}

/// How directories are made.
pub(super) struct Making<'a> {
    pub(super) rule: OnConflict,
    pub(super) dry_run: bool,
    /// Those above what was named belong to others if they are there.
    pub(super) in_place: bool,
    /// Ends the name of what is renamed.
    pub(super) suffix: &'a str,
}

/// What stands where a directory belongs.
enum There {
    Nothing,
    Directory(Stat),
    Else(Stat),
}

impl Directories {
    /// Where what belongs at `path` goes; None if nothing can go there.
    pub(super) fn path_of(&self, path: &[u8]) -> Option<Vec<u8>> {
        if self.diverted.is_empty() {
            return Some(path.to_vec());
        }
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = slashes.map(|(place, _)| place).chain([path.len()]);
        // A directory below a renamed one was diverted by the new name of that: the deepest counts.
        let mut now = path.to_vec();
        for end in ends {
            if let Some(to) = self.diverted.get(&path[..end]) {
                now = [to.as_ref()?, &path[end..]].concat();
            }
        }
        Some(now)
    }

    /// Makes a directory, unless it is there.
    ///
    /// # Errors
    /// See `Tally::failed`.
    pub(super) fn make(
        &mut self,
        selected: &Selected,
        descent: Option<&mut Descent<'_>>,
        making: &Making<'_>,
        tally: &Tally<'_>,
        shown: &dyn Fn(&[u8]) -> std::path::PathBuf,
    ) -> Result<()> {
        let Some(path) = self.path_of(&selected.path) else {
            tally.add(Count::Skipped, 1);
            return Ok(());
        };
        let metadata = &selected.found.entry.metadata;
        let made = match descent {
            Some(descent) => self.make_at(selected, &path, descent, making, tally),
            None => Ok(!path.is_empty()),
        };
        match made {
            Ok(true) => {
                tally.add(Count::Directories, 1);
                if selected.is_above {
                    self.above.push((path, metadata.clone()));
                }
            }
            Ok(false) if selected.is_above && !making.in_place => {
                self.above.push((path, metadata.clone()));
            }
            Ok(false) => {}
            Err(error) => {
                self.diverted.insert(selected.path.clone(), None);
                let problem = error.context("nothing below it is restored");
                tally.failed(&shown(&path), problem)?;
            }
        }
        Ok(())
    }

    /// Returns whether it was made anew.
    fn make_at(
        &mut self,
        selected: &Selected,
        path: &[u8],
        descent: &mut Descent<'_>,
        making: &Making<'_>,
        tally: &Tally<'_>,
    ) -> Result<bool> {
        if path.is_empty() {
            return Ok(false);
        }
        let (directory, name) = match descent.place(path) {
            Ok(place) => place,
            // In a dry run what is above it was not made.
            Err(Errno::NOENT) if making.dry_run => return Ok(true),
            Err(error) => return Err(failure("open its directory", error)),
        };
        let there = look_for(directory, name).map_err(|error| failure("look at it", error))?;
        match there {
            There::Nothing => {}
            There::Directory(stat) => {
                self.keep(selected, &stat, path, making);
                if !making.dry_run && !self.kept.contains(path) {
                    open_up(directory, name, &stat);
                }
                return Ok(false);
            }
            There::Else(_) if selected.is_above => {
                return Err(Error::new(
                    ErrorKind::Exists,
                    "something else is where a directory on the way to what was named should be: it is not followed",
                ));
            }
            There::Else(stat) => match making.rule {
                OnConflict::Rename => {
                    let name = [name, making.suffix.as_bytes()].concat();
                    let renamed = join(split(path).0, &name);
                    self.diverted
                        .insert(selected.path.clone(), Some(renamed.clone()));
                    tally.add(Count::Renamed, 1);
                    return make_anyway(directory, &name, making.dry_run);
                }
                OnConflict::Skip => return Ok(self.skip(selected, tally)),
                OnConflict::IfNewer if !is_newer(&selected.found.entry, &stat) => {
                    return Ok(self.skip(selected, tally));
                }
                _ if making.dry_run => {}
                _ => rustix::fs::unlinkat(directory, name, AtFlags::empty())
                    .map_err(|error| failure("take away what is in its place", error))?,
            },
        }
        make_anyway(directory, name, making.dry_run)
    }

    fn skip(&mut self, selected: &Selected, tally: &Tally<'_>) -> bool {
        self.diverted.insert(selected.path.clone(), None);
        tally.add(Count::Skipped, 1);
        false
    }

    /// Notes a directory that is there and stays as it is, if it does.
    fn keep(&mut self, selected: &Selected, stat: &Stat, path: &[u8], making: &Making<'_>) {
        let keeps = match making.rule {
            OnConflict::Overwrite | OnConflict::IfChanged => false,
            OnConflict::Skip | OnConflict::Rename => true,
            OnConflict::IfNewer => !is_newer(&selected.found.entry, stat),
        };
        if keeps || (selected.is_above && making.in_place) {
            self.kept.insert(path.to_vec());
        }
    }

    /// Gives a directory its metadata, now that all is in it.
    pub(super) fn settle(
        &mut self,
        selected: &Selected,
        descent: &mut Descent<'_>,
        windows: &Windows<'_>,
    ) {
        let Some(path) = self.path_of(&selected.path) else {
            return;
        };
        if self.kept.contains(&path) {
            return;
        }
        let metadata = &selected.found.entry.metadata;
        if metadata.mode & OWNER_RIGHTS != OWNER_RIGHTS {
            self.closed.push((path, metadata.clone()));
            return;
        }
        settle(&path, metadata, descent, windows);
    }

    /// Gives their metadata to those that had to wait for all others.
    pub(super) fn settle_last(&mut self, descent: &mut Descent<'_>, windows: &Windows<'_>) {
        let closed = std::mem::take(&mut self.closed);
        let above = std::mem::take(&mut self.above);
        for (path, metadata) in closed.iter().rev().chain(above.iter().rev()) {
            if !self.kept.contains(path) {
                settle(path, metadata, descent, windows);
            }
        }
    }
}

fn look_for(directory: BorrowedFd<'_>, name: &[u8]) -> System<There> {
    Ok(match look(directory, name)? {
        None => There::Nothing,
        Some(stat) if file_type(&stat) == Some(FileType::Directory) => There::Directory(stat),
        Some(stat) => There::Else(stat),
    })
}

/// Makes a directory; one that is there is as good.
fn make_anyway(directory: BorrowedFd<'_>, name: &[u8], dry_run: bool) -> Result<bool> {
    if dry_run {
        return Ok(true);
    }
    match rustix::fs::mkdirat(directory, name, Mode::RWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) if matches!(look_for(directory, name), Ok(There::Directory(_))) => {
            Ok(false)
        }
        Err(error) => Err(failure("make it", error)),
    }
}

/// Gives the owner of a directory the right to work in it, until it gets its own mode.
fn open_up(directory: BorrowedFd<'_>, name: &[u8], stat: &Stat) {
    if stat.st_mode & OWNER_RIGHTS == OWNER_RIGHTS || rustix::process::geteuid().is_root() {
        return;
    }
    // Where it does not succeed, what is put in it fails, and is told.
    if let Ok(file) = open_directory(directory, name, OFlags::RDONLY) {
        let mode = Mode::from_raw_mode(stat.st_mode | OWNER_RIGHTS);
        let _refused = rustix::fs::fchmod(&file, mode);
    }
}

fn settle(path: &[u8], metadata: &Metadata, descent: &mut Descent<'_>, windows: &Windows<'_>) {
    let result = settle_at(path, metadata, descent, windows);
    if let Err(error) = result {
        windows.tell_errno(path, "give it its metadata", error);
        return;
    }
    if let Some(flags) = late_flags(metadata) {
        let mut late = windows
            .late
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        late.push((path.to_vec(), flags));
    }
}

fn settle_at(
    path: &[u8],
    metadata: &Metadata,
    descent: &mut Descent<'_>,
    windows: &Windows<'_>,
) -> System<()> {
    let owner = windows.manner.owner;
    let give = |thing: &Thing<'_>, now: &Stat| {
        if !thing.has(metadata, now, owner) {
            windows.tell(path, thing.give(metadata, now, owner));
        }
    };
    let (directory, name) = descent.place(path)?;
    let name = if path.is_empty() { b"." } else { name };
    match open_directory(directory, name, OFlags::RDONLY) {
        Ok(file) => give(&Thing::Open(file.as_fd()), &rustix::fs::fstat(&file)?),
        Err(Errno::ACCESS) => {
            let handle = name_handle(directory, name)?;
            give(&Thing::Named(&handle), &rustix::fs::fstat(&handle)?);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Sets the flags of chattr(1) after which nothing else can be done to a file or a directory.
pub(super) fn close(windows: &Windows<'_>) {
    let mut late = windows
        .late
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut descent = windows.target.descent();
    for (path, flags) in late.drain(..) {
        if let Err(error) = close_at(&path, flags, &mut descent) {
            windows.tell_errno(&path, "set its flags of chattr(1)", error);
        }
    }
}

fn close_at(path: &[u8], flags: u32, descent: &mut Descent<'_>) -> System<()> {
    let (directory, name) = descent.place(path)?;
    let name = if path.is_empty() { b"." } else { name };
    let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, open, Mode::empty())?;
    give_flags(&file, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_directory_goes_where_that_went() {
        let mut directories = Directories::default();
        let path = |directories: &Directories, path: &str| {
            let path = directories.path_of(path.as_bytes())?;
            Some(String::from_utf8(path).unwrap())
        };
        assert_eq!(path(&directories, "a/b").as_deref(), Some("a/b"));
        let mut divert = |from: &str, to: Option<&str>| {
            let to = to.map(|to| to.as_bytes().to_vec());
            directories.diverted.insert(from.as_bytes().to_vec(), to);
        };
        divert("a", Some("a.new"));
        divert("a/b", Some("a.new/b.new"));
        divert("lost", None);
        for (from, to) in [
            ("a", Some("a.new")),
            ("a/c", Some("a.new/c")),
            ("a/b/c", Some("a.new/b.new/c")),
            ("ab", Some("ab")),
            ("lost/deep/down", None),
        ] {
            assert_eq!(path(&directories, from).as_deref(), to, "{from}");
        }
    }
}
