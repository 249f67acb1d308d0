//! One directory on the way from the root to where the walk is: its names that are still to be looked at, then its
//! directories that are still to be entered.

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::excludes::{CACHE_TAG_NAME, CACHE_TAG_SIGNATURE};
use super::filesystem::is_pseudo;
use super::handle::{Place, list, open_above, read_start};
use super::names::Names;
use super::sources::Node;
use super::status::{Identity, Status};
use super::walk::{WalkOptions, describe};
use crate::base::Key;

/// Within a source everything is listed; what lies above sources has no scope, and only what is named there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The device that the source lies on, as st_dev encodes it.
    pub device: u64,
}

/// A directory that is to be entered.
#[derive(Debug)]
pub struct Below {
    /// Its recorded name.
    pub name: Box<[u8]>,
    /// Where it is, if not under its recorded name in the directory that it was seen in.
    pub elsewhere: Option<Place>,
    pub identity: Identity,
    pub scope: Option<Scope>,
    pub node: Option<Arc<Node>>,
    /// Its path relative to its source, for globs.
    pub path: Vec<u8>,
    /// Is it on another device than the directory that it lies in, and not named?
    pub leaves_device: bool,
}

/// A directory that was entered.
#[derive(Debug)]
pub struct Level {
    pub key: Key,
    /// None while it is too far above where the walk is.
    pub handle: Option<Arc<OwnedFd>>,
    pub identity: Identity,
    pub scope: Option<Scope>,
    pub below: VecDeque<Below>,
    node: Option<Arc<Node>>,
    path: Vec<u8>,
    names: Names,
    /// The first of the names, which were looked at ahead of the walk.
    looked: VecDeque<(Box<[u8]>, Look)>,
    /// Is what lies in it left out because of a file that marks it?
    is_marked: bool,
}

/// What is at a name, or why it cannot be looked at.
pub type Look = Result<Status, Errno>;

/// What became of entering a directory.
#[derive(Debug)]
pub enum Arrival {
    /// It is listed.
    Open(Level),
    /// It is not to be listed, but for what is named below it, should something be.
    Hidden(Option<Level>),
    /// It could not be listed (to its end): why, and what could.
    Failed(String, Option<Level>),
}

impl Below {
    /// The directory `status`, recorded as `name`, which is at `elsewhere` if not there. `path` is relative to its source.
    pub fn new(
        name: &[u8],
        elsewhere: Option<Place>,
        status: &Status,
        scope: Option<Scope>,
        node: Option<Arc<Node>>,
        path: Vec<u8>,
    ) -> Self {
        Self {
            name: Box::from(name),
            elsewhere,
            identity: status.identity(),
            scope,
            node,
            path,
            leaves_device: false,
        }
    }

    /// Is it where the walk stops: another file system, where only one is wanted, or one that holds no files?
    fn is_border(&self, handle: &OwnedFd, options: &WalkOptions) -> bool {
        self.leaves_device
            && self.scope.is_some_and(|scope| {
                (options.one_file_system && scope.device != self.identity.device)
                    || is_pseudo(handle, self.identity.device)
            })
    }
}

impl Level {
    /// Enters `below` at `place`, whose key is `key`.
    pub fn arrive(key: &Key, place: &Place, mut below: Below, options: &WalkOptions) -> Arrival {
        // A handle that only names it comes first: opening the directory of an automounter would mount something.
        let named = match place.open_path(OFlags::DIRECTORY) {
            Ok(named) => named,
            Err(problem) => return Arrival::Failed(cannot_open(problem), None),
        };
        match Status::of(&named, b"") {
            Ok(status) if status.identity() == below.identity => {}
            Ok(_) => {
                let problem = "another directory took its place while it was looked at";
                return Arrival::Failed(problem.to_string(), None);
            }
            Err(problem) => return Arrival::Failed(cannot_open(problem), None),
        }
        if below.is_border(&named, options) {
            below.scope = None;
            return Arrival::Hidden(Self::of_named(key, below, named));
        }
        if below.scope.is_none() {
            return match Self::of_named(key, below, named) {
                Some(level) => Arrival::Open(level),
                None => Arrival::Hidden(None),
            };
        }
        let itself = Place::itself(Arc::new(named));
        match itself.open(OFlags::DIRECTORY) {
            Ok(handle) => Self::of_listed(key, below, handle, options),
            Err(problem) => {
                below.scope = None;
                let named = itself.directory;
                Arrival::Failed(cannot_open(problem), Self::with_handle(key, below, named))
            }
        }
    }

    /// A level that lists only what is named below it; None if nothing is.
    fn of_named(key: &Key, below: Below, named: OwnedFd) -> Option<Self> {
        Self::with_handle(key, below, Arc::new(named))
    }

    fn with_handle(key: &Key, below: Below, handle: Arc<OwnedFd>) -> Option<Self> {
        let has_named = below
            .node
            .as_ref()
            .is_some_and(|node| !node.children.is_empty());
        has_named.then(|| Self::new(key, below, handle, Names::new()))
    }

    fn of_listed(key: &Key, below: Below, handle: OwnedFd, options: &WalkOptions) -> Arrival {
        let mut names = Names::new();
        let listed = list(&handle, &mut names);
        let is_source = below.path.is_empty();
        let mut level = Self::new(key, below, Arc::new(handle), names);
        if let Err(problem) = listed {
            let problem = format!("cannot list it to its end: {}", describe(problem));
            return Arrival::Failed(problem, Some(level));
        }
        level.is_marked = !is_source && level.has_marker(options);
        if level.is_marked {
            Arrival::Hidden(Some(level))
        } else {
            Arrival::Open(level)
        }
    }

    /// Adds what is named below the directory to what is in it.
    fn new(key: &Key, below: Below, handle: Arc<OwnedFd>, mut names: Names) -> Self {
        let named = below.node.iter().flat_map(|node| node.children.keys());
        named.for_each(|name| names.push(name));
        names.sort();
        Self {
            key: key.clone(),
            handle: Some(handle),
            identity: below.identity,
            scope: below.scope,
            below: VecDeque::new(),
            node: below.node,
            path: below.path,
            names,
            looked: VecDeque::new(),
            is_marked: false,
        }
    }

    /// Where `name` is, while the handle is open.
    pub fn place_of(&self, name: &[u8]) -> Option<Place> {
        self.handle.as_ref().map(|handle| Place {
            directory: Arc::clone(handle),
            name: Box::from(name),
        })
    }

    /// The next name, and what is there if it was looked at already.
    pub fn next_name(&mut self) -> Option<(Box<[u8]>, Option<Look>)> {
        match self.looked.pop_front() {
            Some((name, status)) => Some((name, Some(status))),
            None => Some((self.names.pop().map(Box::from)?, None)),
        }
    }

    /// Looks at the first `count` names, all of which lie in this directory itself.
    pub fn look_ahead(&mut self, count: usize) {
        let Some(handle) = &self.handle else {
            return;
        };
        while self.looked.len() < count
            && let Some(name) = self.names.pop()
        {
            let status = Status::of(&**handle, name);
            self.looked.push_back((Box::from(name), status));
        }
    }

    /// What was looked at ahead and is still to come.
    pub fn looked(&self) -> impl ExactSizeIterator<Item = (&[u8], &Look)> {
        self.looked.iter().map(|(name, status)| (&**name, status))
    }

    /// Is `name` left out because something marks the directory? What does so is not.
    pub fn hides(&self, name: &[u8], options: &WalkOptions) -> bool {
        let marks = (options.exclude_caches && name == CACHE_TAG_NAME)
            || options.markers.iter().any(|marker| marker == name);
        self.is_marked && !marks
    }

    /// What is named at or below `name`.
    pub fn child_node(&self, name: &[u8]) -> Option<Arc<Node>> {
        self.node.as_ref()?.children.get(name).cloned()
    }

    /// The path of `name` relative to the source.
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.len());
        if !self.path.is_empty() {
            path.extend_from_slice(&self.path);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Opens the handle again, if it was closed, by the way up from `child`; says why if that is not possible.
    pub fn reopen_from(&mut self, child: Option<&OwnedFd>) -> Result<(), String> {
        if self.handle.is_some() {
            return Ok(());
        }
        let found = child
            .ok_or(Errno::BADF)
            .and_then(open_above)
            .and_then(|above| Status::of(&above, b"").map(|status| (above, status)));
        match found {
            Ok((above, status)) if status.identity() == self.identity => {
                self.handle = Some(Arc::new(above));
                Ok(())
            }
            Ok(_) => Err("a directory above it was moved while the backup ran".to_string()),
            Err(problem) => Err(cannot_open(problem)),
        }
    }

    fn has_marker(&self, options: &WalkOptions) -> bool {
        (options.exclude_caches && self.has_cache_tag())
            || options
                .markers
                .iter()
                .any(|marker| self.names.contains(marker))
    }

    fn has_cache_tag(&self) -> bool {
        self.names.contains(CACHE_TAG_NAME)
            && self.place_of(CACHE_TAG_NAME).is_some_and(|tag| {
                read_start(&tag, CACHE_TAG_SIGNATURE.len())
                    .is_ok_and(|start| start == CACHE_TAG_SIGNATURE)
            })
    }
}

fn cannot_open(problem: Errno) -> String {
    format!("cannot open it: {}", describe(problem))
}
