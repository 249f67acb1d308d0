//! Takes away what a point does not have, below what was restored of it.
//!
//! A directory's names are held against the point's own, not against what was chosen of them: what a glob leaves out of a
//! restore is neither restored nor taken away.

use std::collections::HashSet;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::conflict::file_type;
use super::directories::Directories;
use super::report::Count;
use super::target::{System, join, list, look, open_directory};
use super::task::failure;
use super::walk::Selection;
use super::window::Windows;
use crate::base::{Event, Key, Result};
use crate::format::{FileType, Section};

/// Takes away what the directories of `selection` have and the point has not; in a dry run it is only counted.
///
/// # Errors
/// Those of reading the point, before anything of that directory is taken away; see `Tally::failed`.
pub(super) fn remove(
    selection: &Selection,
    directories: &Directories,
    windows: &Windows<'_>,
    dry_run: bool,
) -> Result<()> {
    let mut descent = windows.target.descent();
    selection.each_directory(&mut |root, selected| {
        windows.tally.go_on()?;
        let Some(path) = directories.path_of(&selected.path) else {
            return Ok(());
        };
        let known = names(selection, &selected.found.key)?;
        let directory = match descent.directory(&path) {
            Ok(directory) => directory,
            // In a dry run it was not made.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => {
                windows.tell_errno(&path, "look into it", error);
                return Ok(());
            }
        };
        let there = match list(directory, b"") {
            Ok(there) => there,
            Err(error) => {
                windows.tell_errno(&path, "list it", error);
                return Ok(());
            }
        };
        for name in there.iter().filter(|name| !known.contains(*name)) {
            let removal = Removal {
                selection,
                root,
                windows,
                dry_run,
            };
            let path = join(&path, name);
            if let Err(error) = removal.remove(directory, name, &path) {
                let shown = windows.target.shown(&path);
                windows
                    .tally
                    .failed(&shown, failure("take it away", error))?;
            }
        }
        Ok(())
    })
}

/// The names that the point has in a directory.
fn names(selection: &Selection, directory: &Key) -> Result<HashSet<Vec<u8>>> {
    let mut names = HashSet::new();
    for section in [Section::Directories, Section::Files] {
        for found in selection.chain().children(directory, section, None) {
            names.insert(found?.key.name().to_vec());
        }
    }
    Ok(names)
}

struct Removal<'a> {
    selection: &'a Selection,
    root: &'a Key,
    windows: &'a Windows<'a>,
    dry_run: bool,
}

impl Removal<'_> {
    /// Takes away what is at `name`, and all below it, but for what globs leave out. Returns whether it is gone.
    fn remove(&self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> System<bool> {
        let Some(stat) = look(parent, name)? else {
            return Ok(true);
        };
        let is_directory = file_type(&stat) == Some(FileType::Directory);
        let mut is_empty = true;
        if is_directory {
            let directory = open_directory(parent, name, OFlags::PATH)?;
            for child in list(parent, name)? {
                is_empty &= self.remove(directory.as_fd(), &child, &join(path, &child))?;
            }
        }
        if !is_empty || !self.selection.chooses(self.root, path, is_directory) {
            return Ok(false);
        }
        if !self.dry_run {
            let flags = match is_directory {
                true => AtFlags::REMOVEDIR,
                false => AtFlags::empty(),
            };
            rustix::fs::unlinkat(parent, name, flags)?;
        }
        let note = format!("delete {}", String::from_utf8_lossy(path));
        self.windows.tally.monitor().event(Event::Note(&note));
        self.windows.tally.add(Count::Deleted, 1);
        Ok(true)
    }
}
