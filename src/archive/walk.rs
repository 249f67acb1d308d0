//! The source tree as a sorted stream of sightings.
//!
//! Everything comes in the order of keys: what lies in a directory, then what lies below each of its directories in
//! turn. Nothing is followed out of a source: directories are opened relative to their parents and never through a
//! symlink, and one that is not the one that was seen is not listed. Memory is bounded by the names in the directories
//! on the way from the root to where the walk is; file handles by `HANDLES_MAX`.
//!
//! Scouts list directories ahead of it where that is safe (see `scout`). The walk reads statuses and names only. It opens no file (a cache directory's tag apart), decides nothing about the
//! parent point, and takes no failure for an absence.

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::io::Errno;

use super::excludes::Excludes;
use super::handle::{Place, open_root};
use super::level::{Arrival, Below, Level, Look, Scope};
use super::scout::{Scouts, errand};
use super::sources::{Node, Sources};
use super::status::{Identity, Status};
use crate::base::{Error, Key, Result};

/// Handles of directories above where the walk is that are kept open. Deeper trees are climbed by "..", so that a path
/// of any depth can be walked within the usual limit of 1,024 files.
const HANDLES_MAX: usize = 128;

/// What the walk saw, or could not see, at a key.
#[derive(Debug)]
pub enum Sighting<P = Place> {
    /// There is a file.
    Entry(Seen<P>),
    /// There is something that cannot be looked at; all below it, should it be a directory, cannot either.
    Unreadable { key: Key, problem: String },
    /// The directory, which was seen, cannot be listed, or not to its end.
    Unlisted { key: Key, problem: String },
    /// This, and all below it, is left out on purpose.
    Excluded { key: Key },
    /// What lies below this directory is left out on purpose, but for what is seen there.
    ExcludedBelow { key: Key },
    /// This was listed and was gone when it was looked at.
    Vanished { key: Key },
}

/// A file that the walk saw.
#[derive(Debug, Clone)]
pub struct Seen<P = Place> {
    pub key: Key,
    pub status: Status,
    /// Where it can be opened.
    pub place: P,
    /// Is it one more link to a file that was met already? The walk does not know: the plan does.
    pub repeats: bool,
}

/// What a walk leaves out.
#[derive(Debug, Clone)]
pub struct WalkOptions {
    /// Globs, relative to each source.
    pub excludes: Excludes,
    /// Leave out what lies in directories that are marked as caches.
    pub exclude_caches: bool,
    /// Leave out what lies in directories that have a file of such a name.
    pub markers: Vec<Vec<u8>>,
    /// Stay on the file system of each source.
    pub one_file_system: bool,
    /// Directories that are left out wherever they turn up: the repository's own.
    pub never: Vec<Identity>,
}

/// The walk over all sources. See the module.
#[derive(Debug)]
pub struct Walk {
    options: WalkOptions,
    scouts: Scouts,
    are_elsewhere: bool,
    levels: Vec<Level>,
    /// What is to be told before the walk goes on.
    told: VecDeque<Sighting>,
}

impl Walk {
    /// A walk over `sources` that begins at the root.
    ///
    /// # Errors
    /// The root directory cannot be looked at.
    pub fn new(sources: &Sources, options: WalkOptions) -> Result<Self> {
        let root = || -> std::result::Result<_, Errno> {
            let place = match &sources.root().live {
                Some(live) => Place::of_path(live)?,
                None => Place::itself(Arc::new(open_root()?)),
            };
            let status = Status::of(&*place.directory, &place.name)?;
            Ok((place, status))
        };
        let (place, status) =
            root().map_err(|problem| Error::io("look at the root directory", problem.into()))?;
        let mut walk = Self {
            scouts: Scouts::new(options.clone()),
            options,
            are_elsewhere: sources.are_elsewhere(),
            levels: Vec::new(),
            told: VecDeque::new(),
        };
        let node = Some(Arc::clone(sources.root()));
        let scope = scope_of_source(node.as_deref(), &status);
        let key = Key::root();
        let below = Below::new(b"", Some(place.clone()), &status, scope, node, Vec::new());
        walk.told.push_back(Sighting::Entry(Seen {
            key: key.clone(),
            status,
            place: place.clone(),
            repeats: false,
        }));
        walk.enter(key, &place, below);
        Ok(walk)
    }

    /// What is at the next name of the deepest level, which a scout may have seen; None if there is nothing to tell.
    fn look(&mut self, name: &[u8], seen: Option<Look>) -> Result<Option<Sighting>> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(None);
        };
        let key = level.key.child(name)?;
        let node = level.child_node(name);
        if level.hides(name, &self.options) && node.is_none() {
            return Ok(None);
        }
        let is_scouted = seen.is_some();
        let found = match seen {
            Some(status) => seen_at(level, name, status),
            None => find(level, name, node.as_deref(), self.are_elsewhere),
        };
        let (place, status) = match found {
            Ok(found) => found,
            Err(Errno::NOENT) if node.is_none() => return Ok(Some(Sighting::Vanished { key })),
            Err(problem) => {
                let problem = format!("cannot look at it: {}", describe(problem));
                return Ok(Some(Sighting::Unreadable { key, problem }));
            }
        };
        if self.options.never.contains(&status.identity()) {
            return Ok(Some(Sighting::Excluded { key }));
        }
        let path = level.path_of(name);
        let is_excluded = level.scope.is_some()
            && !self.options.excludes.is_empty()
            && self
                .options
                .excludes
                .match_path(&path, status.is_directory());
        if is_excluded && node.is_none() {
            return Ok(Some(Sighting::Excluded { key }));
        }
        if status.is_directory() {
            let inherited = if is_excluded { None } else { level.scope };
            let scope = scope_of_source(node.as_deref(), &status).or(inherited);
            let is_source = node.as_ref().is_some_and(|node| node.source.is_some());
            let path = if is_source { Vec::new() } else { path };
            let elsewhere = (*place.name != *name || node_lies_elsewhere(node.as_deref()))
                .then(|| place.clone());
            let mut below = Below::new(name, elsewhere, &status, scope, node, path);
            below.leaves_device = !is_source && status.device != level.identity.device;
            level.below.push_back(below);
            // Those in a directory that a scout saw have been sent by it.
            if !is_scouted && let Some(errand) = errand(level, name, &status, &self.options) {
                self.scouts.send(errand);
            }
        }
        Ok(Some(Sighting::Entry(Seen {
            key,
            status,
            place,
            repeats: false,
        })))
    }

    /// Makes `below` the deepest level, as far as it can be opened and is to be listed, and says what cannot.
    fn enter(&mut self, key: Key, place: &Place, below: Below) {
        let arrival = self
            .scouts
            .take(&key)
            .map(Arrival::Open)
            .unwrap_or_else(|| Level::arrive(&key, place, below, &self.options));
        match arrival {
            Arrival::Open(level) => {
                self.levels.push(level);
                self.close_far_handles();
            }
            Arrival::Hidden(level) => {
                self.told.push_back(Sighting::ExcludedBelow { key });
                self.levels.extend(level);
            }
            Arrival::Failed(problem, level) => {
                self.told.push_back(Sighting::Unlisted { key, problem });
                self.levels.extend(level);
            }
        }
    }

    /// Closes the handle of the level that is now too far above the deepest one.
    fn close_far_handles(&mut self) {
        if let Some(far) = self.levels.len().checked_sub(HANDLES_MAX)
            && let Some(level) = self.levels.get_mut(far)
        {
            level.handle = None;
        }
    }

    /// Goes back up from the deepest level, and opens the handle of the one above it again if it was closed.
    fn leave(&mut self) {
        let Some(left) = self.levels.pop() else {
            return;
        };
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        if let Err(problem) = level.reopen_from(left.handle.as_deref()) {
            // Where they lie is not known any more, so that none of them can be listed.
            for below in std::mem::take(&mut level.below) {
                if let Ok(key) = level.key.child(&below.name) {
                    let problem = problem.clone();
                    self.told.push_back(Sighting::Unlisted { key, problem });
                }
            }
        }
    }

    fn step(&mut self) -> Result<Option<Sighting>> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(Some(told));
            }
            let Some(level) = self.levels.last_mut() else {
                return Ok(None);
            };
            if let Some((name, seen)) = level.next_name() {
                if let Some(sighting) = self.look(&name, seen)? {
                    return Ok(Some(sighting));
                }
            } else if let Some(below) = level.below.pop_front() {
                let key = level.key.child(&below.name)?;
                match below
                    .elsewhere
                    .clone()
                    .or_else(|| level.place_of(&below.name))
                {
                    Some(place) => self.enter(key, &place, below),
                    None => {
                        let problem = "the directory above it is not open".to_string();
                        return Ok(Some(Sighting::Unlisted { key, problem }));
                    }
                }
            } else {
                self.leave();
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Result<Sighting>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// Where `name` is and what it is. A named source may lie elsewhere, and where what lies above it does not exist, the
/// directory above stands in.
fn find(
    level: &Level,
    name: &[u8],
    node: Option<&Node>,
    are_elsewhere: bool,
) -> std::result::Result<(Place, Status), Errno> {
    let here = level.place_of(name).ok_or(Errno::BADF)?;
    let place = match node.and_then(|node| node.live.as_deref()) {
        Some(live) => Place::of_path(live)?,
        None => here.clone(),
    };
    let status = Status::of(&*place.directory, &place.name);
    let stands_above = node.is_some_and(|node| node.source.is_none());
    let is_usable = status.as_ref().is_ok_and(Status::is_directory);
    if are_elsewhere && stands_above && !is_usable {
        let place = Place::itself(here.directory);
        let status = Status::of(&*place.directory, &place.name)?;
        return Ok((place, status));
    }
    status.map(|status| (place, status))
}

/// Where `name` is, whose status is known.
fn seen_at(
    level: &Level,
    name: &[u8],
    status: Look,
) -> std::result::Result<(Place, Status), Errno> {
    let place = level.place_of(name).ok_or(Errno::BADF)?;
    Ok((place, status?))
}

/// The scope that begins where a source does.
fn scope_of_source(node: Option<&Node>, status: &Status) -> Option<Scope> {
    node.and_then(|node| node.source).map(|_| Scope {
        device: status.device,
    })
}

fn node_lies_elsewhere(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.live.is_some())
}

/// What the system says, for a person.
pub fn describe(problem: Errno) -> String {
    let problem = std::io::Error::from(problem).to_string();
    match problem.find(" (os error") {
        Some(end) => problem[..end].to_string(),
        None => problem,
    }
}

#[cfg(test)]
mod tests;
