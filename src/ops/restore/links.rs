//! Hard links: the first of a group is a file like any other, those that follow become links to it once it is in place.

use std::collections::HashMap;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::conflict::OnConflict;
use super::report::{Count, Tally};
use super::target::{Descent, Target, look};
use super::task::{beside, failure, make_anew, put};
use super::window::Windows;
use crate::base::{Origin, Result};

/// The groups of which not all members have come.
#[derive(Default)]
pub(super) struct Links {
    groups: HashMap<Origin, Group>,
    /// Those to be made: to which, and where.
    due: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Group {
    first: Vec<u8>,
    /// How many members may still come.
    expected: u64,
}

impl Links {
    /// Did one of this group come?
    pub(super) fn is_known(&self, group: Origin) -> bool {
        self.groups.contains_key(&group)
    }

    /// The first of a group of `links` is at `path`.
    pub(super) fn lead(&mut self, group: Origin, path: &[u8], links: u64) {
        if links > 1 {
            let group_of = Group {
                first: path.to_vec(),
                expected: links - 1,
            };
            self.groups.insert(group, group_of);
        }
    }

    /// Another one belongs at `path`.
    pub(super) fn follow(&mut self, group: Origin, path: Vec<u8>) {
        let Some(known) = self.groups.get_mut(&group) else {
            return;
        };
        self.due.push((known.first.clone(), path));
        known.expected -= 1;
        if known.expected == 0 {
            self.groups.remove(&group);
        }
    }

    /// Counts those that are due, and forgets them: what a dry run does, where there is anything or not.
    pub(super) fn count(&mut self, tally: &Tally<'_>, target: Option<&Target>) {
        for (first, path) in std::mem::take(&mut self.due) {
            let is_made = target.is_some_and(|target| is_link(target, &first, &path));
            tally.add(
                if is_made {
                    Count::Unchanged
                } else {
                    Count::Links
                },
                1,
            );
        }
    }

    /// Makes those that are due.
    ///
    /// # Errors
    /// See `Tally::failed`.
    pub(super) fn make(&mut self, windows: &Windows<'_>, rule: OnConflict) -> Result<()> {
        let mut from = windows.target.descent();
        let mut to = windows.target.descent();
        for (first, path) in std::mem::take(&mut self.due) {
            windows.tally.go_on()?;
            match link(
                &mut from,
                &mut to,
                &first,
                &path,
                rule,
                windows.manner.delete,
            ) {
                Ok(true) => windows.tally.add(Count::Links, 1),
                Ok(false) => windows.tally.add(Count::Unchanged, 1),
                Err(error) => windows.tally.failed(&windows.target.shown(&path), error)?,
            }
        }
        Ok(())
    }
}

/// Is `path` one more name of what is at `first`?
fn is_link(target: &Target, first: &[u8], path: &[u8]) -> bool {
    let identity = |path: &[u8]| {
        let mut descent = target.descent();
        let (directory, name) = descent.place(path).ok()?;
        let there = look(directory, name).ok()??;
        Some((there.st_dev, there.st_ino))
    };
    let (first, path) = (identity(first), identity(path));
    first.is_some() && first == path
}

/// Makes `path` a link to what is at `first`. Returns false if it is one.
fn link(
    from: &mut Descent<'_>,
    to: &mut Descent<'_>,
    first: &[u8],
    path: &[u8],
    rule: OnConflict,
    delete: bool,
) -> Result<bool> {
    let in_system = |error| failure("link it", error);
    let (from, first) = from.place(first).map_err(in_system)?;
    let (to, name) = to.place(path).map_err(in_system)?;
    let is_known = |stat: &rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let source = look(from, first)
        .map_err(in_system)?
        .ok_or_else(|| failure("link it to its first name", Errno::NOENT))?;
    if let Some(there) = look(to, name).map_err(in_system)?
        && is_known(&there) == is_known(&source)
        && rule != OnConflict::Overwrite
    {
        return Ok(false);
    }
    let beside = beside(name);
    make_anew(to, &beside, || {
        rustix::fs::linkat(from, first, to, &beside, AtFlags::empty())
    })
    .map_err(in_system)?;
    let placed = put(to, &beside, name, delete);
    // Renaming one name of a file to another of the same file does nothing, and says nothing.
    let _gone = rustix::fs::unlinkat(to, &beside, AtFlags::empty());
    placed.map(|()| true)
}
