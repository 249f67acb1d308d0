//! A restore point, or a whole repository, as a tree of nodes: lookups, listings, attributes, content.
//!
//! Knows no FUSE and keeps no state that anybody could observe: a node id says where its entry is, a cookie where a
//! listing goes on, and all that is remembered here is remembered for speed and within bounds. In a point nothing
//! ever changes; what does (the views above the points) is made anew by `poll`, which says what to invalidate.
//!
//! Invariants: a read is whole or an error. What two points inherit is one node (a directory: one inode number). The
//! roots of points share nothing.

mod ahead;
mod attributes;
mod content;
mod file;
mod listing;
mod made;
mod node;
mod numbers;
mod points;
mod readings;
mod recorders;
mod remembered;
mod resolve;
mod root;
mod views;
mod xattrs;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{Error, ErrorKind, PointId, Result};
use crate::fetch::{Counters, Fetcher};
use crate::repo::{Catalogue, PointFilter};

use file::{ExtentLists, File};
use listing::{Listing, Stop};
use made::{Comparisons, Histories, MadeNodes};
use node::Node;
use points::Points;
use readings::Readings;
use remembered::Remembered;
use resolve::Directory;
use root::Root;
use views::Views;

pub use ahead::{FramePlace, SmallFile};
pub use attributes::{Attributes, DirectoryEntry, Lifetime};
pub use content::SeekFor;
pub use file::{ReadBytes, WholeChunk};
pub use made::ResolvePoint;
pub use node::NodeId;
pub use numbers::Numbers;
pub use views::{Changes, Owner};

/// Bytes of memory for what is remembered, beside the fetcher's. A directory takes some 400 bytes, a small file 500;
/// the room for files is such that the table of a file of a terabyte has its place too.
const DIRECTORIES_BYTES_MAX: u64 = 2 << 20;
const FILES_BYTES_MAX: u64 = 8 << 20;
const LISTINGS_BYTES_MAX: u64 = 4 << 20;
const EXTENT_LISTS_BYTES_MAX: u64 = 4 << 20;

/// What a tree shows.
#[derive(Debug, Default)]
pub struct TreeOptions {
    /// This point at the root; all points in views if None.
    pub point: Option<PointId>,
    /// Which points the views show.
    pub filter: PointFilter,
    /// Who owns the views.
    pub owner: Owner,
    /// What finds the points that a name below `diff` means; ids alone are known if None.
    pub resolve_point: Option<ResolvePoint>,
    /// What is known of the points already; they are looked for if None.
    pub catalogue: Option<Catalogue>,
}

/// What `df` tells. Nothing is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sum of all files' sizes over all points that are shown.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// A tree of nodes. Any thread may use it.
pub struct Tree {
    points: Points,
    root: Root,
    directories: Remembered<NodeId, Directory>,
    files: Remembered<NodeId, File>,
    listings: Remembered<(NodeId, u64), Listing>,
    extent_lists: Arc<ExtentLists>,
    readings: Arc<Readings>,
    made: MadeNodes,
    histories: Histories,
    comparisons: Comparisons,
    resolve_point: Option<ResolvePoint>,
}

impl Tree {
    /// A tree of the fetcher's repository.
    ///
    /// # Errors
    /// Missing, if the one point is not there; and those of reading the points' headers.
    pub fn open(fetcher: Arc<Fetcher>, numbers: Numbers, options: TreeOptions) -> Result<Self> {
        let repository = Arc::clone(fetcher.repository());
        let points = Points::new(fetcher, numbers);
        let resolve_point = options.resolve_point;
        let root = Root::open(&repository, &points, options)?;
        Ok(Self {
            points,
            root,
            directories: Remembered::new(DIRECTORIES_BYTES_MAX),
            files: Remembered::new(FILES_BYTES_MAX),
            listings: Remembered::new(LISTINGS_BYTES_MAX),
            extent_lists: Arc::new(Remembered::new(EXTENT_LISTS_BYTES_MAX)),
            readings: Arc::default(),
            made: MadeNodes::new(),
            histories: Histories::default(),
            comparisons: Comparisons::default(),
            resolve_point,
        })
    }

    /// What `name` is in a directory. None if there is none.
    ///
    /// # Errors
    /// Missing, if there is no such directory; and those of reading a run.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Option<Attributes>> {
        if let Some((views, number)) = self.view_directory(parent)? {
            if let Some(made) = self.made.get(number) {
                return self.lookup_made(&views, &made, name);
            }
            let node = views.lookup(number, name);
            return node.map(|node| self.attributes(node)).transpose();
        }
        let directory = self.directory(parent)?;
        let Ok(key) = directory.key.child(name) else {
            return Ok(None);
        };
        let point = &directory.point;
        let found = point
            .chain
            .lookup(&key)
            .map_err(|error| error.context(format_args!("point {}, {key}", point.id)))?;
        found.map(|found| self.take_note(point, found)).transpose()
    }

    /// What `stat` tells of a node.
    ///
    /// # Errors
    /// Missing, if there is no such node; and those of reading a run.
    pub fn attributes(&self, node: NodeId) -> Result<Attributes> {
        match node.decode()? {
            Node::ViewSymlink { levels, point } => self
                .views()
                .and_then(|views| views.symlink_attributes(levels, point))
                .ok_or_else(|| no_node(node)),
            Node::File { .. } => {
                let file = self.file(node)?;
                Ok(Attributes::of_entry(node, node.0, &file.metadata))
            }
            _ => match self.view_directory(node)? {
                Some((views, number)) => match self.made.get(number) {
                    Some(made) => self.attributes_of_made(&views, node, &made),
                    None => views
                        .directory_attributes(number)
                        .ok_or_else(|| no_node(node)),
                },
                None => Ok(self.directory(node)?.attributes),
            },
        }
    }

    /// Gives the entries of a directory to `emit`, from the place after `cookie` (0: from the start), until it
    /// answers that it is full and did not take the entry. What is not a directory comes first. Cookies up to 2^32
    /// are given to no entry, and mean the start: they are the caller's, for "." and "..".
    ///
    /// # Errors
    /// Missing, if there is no such directory; usage, for a cookie that did not come from it; and those of reading a
    /// run, if no entry could be given.
    pub fn list(
        &self,
        directory: NodeId,
        cookie: u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<()> {
        if let Some((views, number)) = self.view_directory(directory)? {
            if let Some(made) = self.made.get(number) {
                return self.list_made(&views, &made, cookie, emit);
            }
            return views
                .list(number, cookie, emit)
                .ok_or_else(|| no_node(directory));
        }
        let open = self.directory(directory)?;
        let (point, key) = (&*open.point, &open.key);
        let in_listing =
            |error: Error| error.context(format_args!("point {}, listing of {key}", point.id));
        let mut place = cookie;
        let listing = match self.listings.take(&(directory, cookie)) {
            Some(listing) => Arc::unwrap_or_clone(listing),
            None => Listing::open(&self.points, point, key, cookie).map_err(in_listing)?,
        };
        let stop = listing
            .run(&self.points, point, key, &mut place, emit)
            .map_err(in_listing)?;
        if let Stop::Full(listing) | Stop::End(listing) = stop {
            let weight = listing.weight();
            self.listings
                .insert((directory, place), Arc::new(listing), weight);
        }
        Ok(())
    }

    /// Where a symlink leads; empty for what is none.
    ///
    /// # Errors
    /// Like those of `attributes`.
    pub fn target(&self, node: NodeId) -> Result<Vec<u8>> {
        match node.decode()? {
            Node::ViewSymlink { levels, point } => self
                .views()
                .and_then(|views| views.target(levels, point))
                .ok_or_else(|| no_node(node)),
            Node::File { .. } => Ok(self.file(node)?.metadata.target.clone()),
            _ => Ok(Vec::new()),
        }
    }

    /// Bytes of a file from `offset`: `size` of them, or as many as there are before its end.
    ///
    /// # Errors
    /// Missing, if there is no such file; corrupt, missing or unreachable, if any of the bytes cannot be had: the
    /// message names path, offset, chunk and pack. What is no regular file has no bytes.
    pub fn read(&self, node: NodeId, offset: u64, size: u32) -> Result<ReadBytes> {
        let file = self.file(node)?;
        let fetcher = self.points.fetcher();
        // First, so that it is on its way while this waits for what was asked for.
        if let Some(ahead) = fetcher.ahead_bytes() {
            self.read_ahead(node, &file, offset, size, ahead);
        }
        file.read(fetcher, &self.extent_lists, offset, size)
    }

    /// The first data or hole of a file at or after `offset`. None if `offset` is not before the file's end, or no
    /// data follows. A file's end counts as a hole.
    ///
    /// # Errors
    /// Like those of `read`.
    pub fn seek(&self, node: NodeId, offset: u64, what: SeekFor) -> Result<Option<u64>> {
        self.file(node)?
            .seek(self.points.fetcher(), &self.extent_lists, offset, what)
    }

    /// What `df` tells.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        self.points.each_header(|point| {
            usage.bytes = usage.bytes.saturating_add(point.figures.bytes);
            usage.entries = usage.entries.saturating_add(point.figures.entries);
        });
        usage
    }

    /// What was fetched for this tree so far.
    pub fn fetched(&self) -> Counters {
        self.points.fetcher().counters()
    }

    /// Looks for points that have come, and returns what to invalidate. Nothing ever changes where one point is the
    /// root.
    ///
    /// # Errors
    /// Those of listing the points and reading their headers; nothing has changed then.
    pub fn poll(&self) -> Result<Changes> {
        let Root::Views(views) = &self.root else {
            return Ok(Changes::default());
        };
        views.poll(self.points.fetcher().repository(), &self.points)
    }

    /// Is one point at the root? Then nothing ever changes, and no directory is shared with another point.
    pub fn is_one_point(&self) -> bool {
        matches!(self.root, Root::Point(_))
    }

    /// For how long a name that a directory lacks stays away.
    pub fn lifetime_of_names(&self, directory: NodeId) -> Lifetime {
        match directory.decode() {
            Ok(Node::Directory { .. } | Node::PointRoot(_)) => Lifetime::Forever,
            Ok(Node::Root) if self.is_one_point() => Lifetime::Forever,
            _ => Lifetime::Short,
        }
    }

    /// Does anything have extended attributes? None where that would have to be looked for: a single point knows.
    pub fn has_xattrs(&self) -> Option<bool> {
        let Root::Point(number) = self.root else {
            return None;
        };
        let open = self.points.open(number).ok()?;
        let runs = open.chain.runs();
        Some(runs.iter().any(|run| run.counts().with_xattrs > 0))
    }

    fn views(&self) -> Option<Arc<Views>> {
        match &self.root {
            Root::Point(_) => None,
            Root::Views(views) => Some(views.current()),
        }
    }
}

fn no_node(node: NodeId) -> Error {
    Error::new(
        ErrorKind::Missing,
        format!("there is no node {:#x} in this mount", node.0),
    )
}

/// Locks what a panicking thread may have left: all that these locks guard is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
