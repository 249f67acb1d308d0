//! The directories above the points: `points`, `ids`, `labels`, `hosts` and the root, with their symlinks. Of what is made
//! when somebody looks (see `made`) only the names at the root are here.
//!
//! A `Views` is a picture of all points that are shown, made anew when a point comes. It is a value: nothing in it
//! changes, and the numbers of its directories pass from one picture to the next. Knows nothing of what is in a point.
//!
//! Names that a file cannot have (labels and hosts hold any text) are written with `%` and two digits for '/', NUL
//! and '%' itself, for the dots of "." and "..", and as a lone `%` if they are empty.

use std::collections::{BTreeMap, HashMap};

use crate::base::{PointId, Timestamp};
use crate::format::{FileType, Point};

use super::attributes::{Attributes, DirectoryEntry, Lifetime};
use super::made::ROOTS;
use super::node::{NodeId, PointNumber};

/// Bytes in a block of st_blocks.
const BLOCK_BYTES: u64 = 512;

/// Set in every cookie of an entry, so that the small ones stay free for whoever calls.
const COOKIE: u64 = 1 << 62;
/// Above it a cookie has what the entry is, below it the entry's number.
const COOKIE_KIND_SHIFT: u32 = 48;

/// A point as the views know it.
#[derive(Debug, Clone)]
pub(super) struct ShownPoint {
    pub(super) id: PointId,
    pub(super) number: PointNumber,
    pub(super) host: String,
    pub(super) labels: BTreeMap<String, String>,
    /// When it committed.
    pub(super) end: Timestamp,
}

/// Who owns the directories and symlinks that no point holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// A directory of the views.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Directory {
    Root,
    Points,
    Ids,
    Labels,
    Hosts,
    LabelKey(String),
    LabelValue(String, String),
    Host(String),
}

/// All views at one moment.
pub(super) struct Views {
    owner: Owner,
    /// Places in `contents`, which are the directories' numbers.
    numbers: HashMap<Directory, usize>,
    contents: Vec<Contents>,
    ids: HashMap<PointNumber, (PointId, Timestamp)>,
    /// Oldest first.
    order: Vec<PointNumber>,
}

/// What a directory holds, in the order of its listing, and since when.
#[derive(Default)]
struct Contents {
    entries: Vec<ViewEntry>,
    places: HashMap<Vec<u8>, usize>,
    mtime: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ViewTarget {
    Directory(usize),
    /// One that is made when somebody looks.
    Made(u64),
    Point(PointNumber),
    /// A symlink to a point, so many levels below the root; the newest point's is told from that point's own.
    Symlink {
        levels: u8,
        point: PointNumber,
        latest: bool,
    },
}

struct ViewEntry {
    name: Vec<u8>,
    target: ViewTarget,
}

/// What differs between two pictures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names, each with its directory, that stand for something else now, or for nothing, or did not before.
    pub entries: Vec<(NodeId, Vec<u8>)>,
    /// Directories whose content changed.
    pub inodes: Vec<NodeId>,
}

impl Changes {
    /// Is everything as before?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.inodes.is_empty()
    }
}

impl Views {
    /// The views of no point at all.
    pub(super) fn empty(owner: Owner) -> Self {
        Self {
            owner,
            numbers: HashMap::new(),
            contents: Vec::new(),
            ids: HashMap::new(),
            order: Vec::new(),
        }
        .with_points(&[])
    }

    /// The views of `points`, oldest first. Directories that these views know keep their numbers.
    pub(super) fn with_points(&self, points: &[ShownPoint]) -> Self {
        let mut views = Self {
            owner: self.owner,
            numbers: self.numbers.clone(),
            contents: self.contents.iter().map(|_| Contents::default()).collect(),
            order: points.iter().map(|point| point.number).collect(),
            ids: points
                .iter()
                .map(|point| (point.number, (point.id, point.end)))
                .collect(),
        };
        let root = views.directory(Directory::Root);
        if let Some(latest) = points.last() {
            views.add_symlink(root, b"latest".to_vec(), 0, latest, true);
        }
        let [all, ids, labels, hosts] = [
            ("points", Directory::Points),
            ("ids", Directory::Ids),
            ("labels", Directory::Labels),
            ("hosts", Directory::Hosts),
        ]
        .map(|(name, directory)| views.add_directory(root, name, directory));
        for (name, number) in ROOTS {
            views.add(root, name.into(), ViewTarget::Made(number));
        }
        for point in points {
            let id = point.id.to_string().into_bytes();
            views.add(all, id, ViewTarget::Point(point.number));
            views.add_symlink(ids, point.id.short().into_bytes(), 1, point, false);
        }
        views.add_labels(labels, points);
        views.add_hosts(hosts, points);
        views.set_times(points);
        views
    }

    fn add_labels(&mut self, labels: usize, points: &[ShownPoint]) {
        let mut tree: BTreeMap<&str, BTreeMap<&str, Vec<&ShownPoint>>> = BTreeMap::new();
        for point in points {
            for (key, value) in &point.labels {
                let values = tree.entry(key).or_default();
                values.entry(value).or_default().push(point);
            }
        }
        for (key, values) in tree {
            let of_key = Directory::LabelKey(key.to_owned());
            let of_key = self.add_directory(labels, key, of_key);
            for (value, points) in values {
                let of_value = Directory::LabelValue(key.to_owned(), value.to_owned());
                let of_value = self.add_directory(of_key, value, of_value);
                self.add_point_symlinks(of_value, 3, &points);
            }
        }
    }

    fn add_hosts(&mut self, hosts: usize, points: &[ShownPoint]) {
        let mut tree: BTreeMap<&str, Vec<&ShownPoint>> = BTreeMap::new();
        for point in points {
            tree.entry(&point.host).or_default().push(point);
        }
        for (host, points) in tree {
            let directory = self.add_directory(hosts, host, Directory::Host(host.to_owned()));
            self.add_point_symlinks(directory, 2, &points);
        }
    }

    /// `latest` and a symlink for each point, by its id.
    fn add_point_symlinks(&mut self, directory: usize, levels: u8, points: &[&ShownPoint]) {
        if let Some(latest) = points.last() {
            self.add_symlink(directory, b"latest".to_vec(), levels, latest, true);
        }
        for point in points {
            let id = point.id.to_string().into_bytes();
            self.add_symlink(directory, id, levels, point, false);
        }
    }

    /// The number of a directory, given now if it is new.
    fn directory(&mut self, directory: Directory) -> usize {
        let next = self.contents.len();
        let number = *self.numbers.entry(directory).or_insert(next);
        if number == next {
            self.contents.push(Contents::default());
        }
        number
    }

    fn add_directory(&mut self, parent: usize, name: &str, directory: Directory) -> usize {
        let number = self.directory(directory);
        self.add(parent, file_name(name), ViewTarget::Directory(number));
        number
    }

    fn add_symlink(
        &mut self,
        parent: usize,
        name: Vec<u8>,
        levels: u8,
        point: &ShownPoint,
        latest: bool,
    ) {
        let target = ViewTarget::Symlink {
            levels,
            point: point.number,
            latest,
        };
        self.add(parent, name, target);
    }

    /// A name that is taken goes to the one who comes later: of two points with one short id the newer is found.
    fn add(&mut self, parent: usize, name: Vec<u8>, target: ViewTarget) {
        let contents = &mut self.contents[parent];
        match contents.places.get(&name) {
            Some(place) => contents.entries[*place].target = target,
            None => {
                contents.places.insert(name.clone(), contents.entries.len());
                contents.entries.push(ViewEntry { name, target });
            }
        }
    }

    /// A directory's mtime is the commit of the newest point below it, and moves with each commit even if two come
    /// in one second or from clocks that differ: the nanoseconds count the points.
    fn set_times(&mut self, points: &[ShownPoint]) {
        let mut newest: HashMap<usize, (i64, u32)> = HashMap::new();
        for point in points {
            let labels = point.labels.iter().flat_map(|(key, value)| {
                [
                    Directory::LabelKey(key.clone()),
                    Directory::LabelValue(key.clone(), value.clone()),
                ]
            });
            let all = [
                Directory::Root,
                Directory::Points,
                Directory::Ids,
                Directory::Labels,
                Directory::Hosts,
                Directory::Host(point.host.clone()),
            ];
            for directory in all.into_iter().chain(labels) {
                let number = self.directory(directory);
                let (seconds, count) = newest.entry(number).or_insert((point.id.seconds, 0));
                *seconds = point.id.seconds.max(*seconds);
                *count += 1;
            }
        }
        for (number, (seconds, count)) in newest {
            self.contents[number].mtime = Timestamp {
                seconds,
                nanoseconds: count % 1_000_000_000,
            };
        }
    }

    /// The points that are shown, oldest first.
    pub(super) fn points(&self) -> impl Iterator<Item = PointNumber> {
        self.order.iter().copied()
    }

    /// What `name` is in a directory. None for a name that is not there.
    pub(super) fn lookup(&self, directory: u64, name: &[u8]) -> Option<NodeId> {
        let contents = self.contents(directory)?;
        let place = contents.places.get(name)?;
        Some(contents.entries[*place].target.node())
    }

    /// The attributes of a directory. None for one that is not there.
    pub(super) fn directory_attributes(&self, number: u64) -> Option<Attributes> {
        let contents = self.contents(number)?;
        let node = directory_node(number as usize);
        let below = contents
            .entries
            .iter()
            .filter(|entry| entry.target.file_type() == FileType::Directory);
        Some(Attributes {
            file_type: FileType::Directory,
            mode: 0o555,
            links: 2 + below.count() as u64,
            ..self.attributes(node, contents.mtime)
        })
    }

    /// The attributes of a symlink. None if its point is not there.
    pub(super) fn symlink_attributes(&self, levels: u8, point: PointNumber) -> Option<Attributes> {
        let (_, end) = self.ids.get(&point)?;
        let size = self.target(levels, point)?.len() as u64;
        Some(Attributes {
            size,
            blocks: size.div_ceil(BLOCK_BYTES),
            ..self.attributes(NodeId::view_symlink(levels, point), *end)
        })
    }

    fn attributes(&self, node: NodeId, time: Timestamp) -> Attributes {
        Attributes {
            node,
            inode: node.0,
            file_type: FileType::Symlink,
            mode: 0o777,
            uid: self.owner.uid,
            gid: self.owner.gid,
            mtime: time,
            ctime: time,
            btime: None,
            size: 0,
            blocks: 0,
            links: 1,
            rdev: 0,
            lifetime: Lifetime::Short,
        }
    }

    /// Where a symlink leads. None if its point is not there.
    pub(super) fn target(&self, levels: u8, point: PointNumber) -> Option<Vec<u8>> {
        let (id, _) = self.ids.get(&point)?;
        Some(format!("{}points/{id}", "../".repeat(usize::from(levels))).into_bytes())
    }

    /// Lists a directory from the place after `cookie`, 0 for the start, until `emit` says that it is full. None for
    /// a directory that is not there.
    pub(super) fn list(
        &self,
        directory: u64,
        cookie: u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Option<()> {
        let entries = &self.contents(directory)?.entries;
        let start = if cookie & COOKIE == 0 {
            0
        } else {
            let last = entries
                .iter()
                .position(|entry| entry.target.cookie() == cookie);
            // Where what was listed last has gone meanwhile, nothing is repeated.
            last.map_or(entries.len(), |last| last + 1)
        };
        for entry in &entries[start..] {
            let goes_on = emit(DirectoryEntry {
                name: &entry.name,
                node: entry.target.node(),
                file_type: entry.target.file_type(),
                cookie: entry.target.cookie(),
                attributes: self.attributes_of(entry.target),
            });
            if !goes_on {
                break;
            }
        }
        Some(())
    }

    fn attributes_of(&self, target: ViewTarget) -> Option<Attributes> {
        match target {
            ViewTarget::Directory(number) => self.directory_attributes(number as u64),
            ViewTarget::Symlink { levels, point, .. } => self.symlink_attributes(levels, point),
            ViewTarget::Point(_) | ViewTarget::Made(_) => None,
        }
    }

    /// What is different from `before`.
    pub(super) fn changes_since(&self, before: &Self) -> Changes {
        let mut changes = Changes::default();
        let nothing = Contents::default();
        for (number, contents) in self.contents.iter().enumerate() {
            let node = directory_node(number);
            let earlier = before.contents.get(number).unwrap_or(&nothing);
            let gone = contents.names_that_differ(earlier);
            let come = earlier.names_that_differ(contents);
            let mut names: Vec<Vec<u8>> = gone.chain(come).map(<[u8]>::to_vec).collect();
            names.sort();
            names.dedup();
            if !names.is_empty() || contents.mtime != earlier.mtime {
                changes.inodes.push(node);
            }
            changes
                .entries
                .extend(names.into_iter().map(|name| (node, name)));
        }
        changes
    }

    fn contents(&self, number: u64) -> Option<&Contents> {
        self.contents.get(usize::try_from(number).ok()?)
    }
}

impl Contents {
    fn names_that_differ<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a [u8]> {
        self.entries.iter().filter_map(|entry| {
            let place = other.places.get(&entry.name);
            let same = place.is_some_and(|place| other.entries[*place].target == entry.target);
            (!same).then_some(&entry.name[..])
        })
    }
}

impl ViewTarget {
    fn node(self) -> NodeId {
        match self {
            Self::Directory(number) => directory_node(number),
            Self::Made(number) => NodeId::view_directory(number),
            Self::Point(point) => NodeId::point_root(point),
            Self::Symlink { levels, point, .. } => NodeId::view_symlink(levels, point),
        }
    }

    fn file_type(self) -> FileType {
        match self {
            Self::Directory(_) | Self::Made(_) | Self::Point(_) => FileType::Directory,
            Self::Symlink { .. } => FileType::Symlink,
        }
    }

    /// Names the entry in its directory, whatever comes and goes around it.
    fn cookie(self) -> u64 {
        let (kind, number) = match self {
            Self::Symlink { latest: true, .. } => (0, 0),
            Self::Symlink { point, .. } | Self::Point(point) => (1, u64::from(point.0)),
            Self::Directory(number) => (2, number as u64),
            Self::Made(number) => (2, number),
        };
        COOKIE | kind << COOKIE_KIND_SHIFT | number
    }
}

/// The first directory is the mount's root.
fn directory_node(number: usize) -> NodeId {
    match number {
        0 => NodeId::ROOT,
        _ => NodeId::view_directory(number as u64),
    }
}

/// Any text as the name of a file.
fn file_name(text: &str) -> Vec<u8> {
    let escaped = match text {
        "" => "%".to_owned(),
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => text
            .replace('%', "%25")
            .replace('/', "%2F")
            .replace('\0', "%00"),
    };
    escaped.into_bytes()
}

impl ShownPoint {
    /// What the views show of a point.
    pub(super) fn of(point: &Point, number: PointNumber) -> Self {
        let end = point.end.time;
        Self {
            id: point.id,
            number,
            host: point.host.clone(),
            labels: point.labels.clone(),
            end: Timestamp {
                seconds: end.as_second() - i64::from(end.subsec_nanosecond() < 0),
                nanoseconds: end.subsec_nanosecond().rem_euclid(1_000_000_000) as u32,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(number: u32, host: &str, labels: &[(&str, &str)]) -> ShownPoint {
        ShownPoint {
            id: PointId {
                seconds: 1_700_000_000 + i64::from(number),
                random: number,
            },
            number: PointNumber(number),
            host: host.to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            end: Timestamp::default(),
        }
    }

    fn number(node: NodeId) -> u64 {
        match node.decode().unwrap() {
            super::super::node::Node::Root => 0,
            super::super::node::Node::ViewDirectory(number) => number,
            other => panic!("{other:?} is no view directory"),
        }
    }

    fn resolve(views: &Views, path: &str) -> Option<NodeId> {
        path.split('/').try_fold(NodeId::ROOT, |node, name| {
            views.lookup(number(node), name.as_bytes())
        })
    }

    fn names(views: &Views, directory: NodeId, cookie: u64, count: usize) -> (Vec<String>, u64) {
        let (mut names, mut last) = (Vec::new(), cookie);
        views
            .list(number(directory), cookie, &mut |entry| {
                if names.len() == count {
                    return false;
                }
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                last = entry.cookie;
                true
            })
            .unwrap();
        (names, last)
    }

    fn some_points() -> Vec<ShownPoint> {
        vec![
            shown(1, "alpha", &[("env", "a/b"), ("kind", "..")]),
            shown(2, "beta", &[("env", "")]),
            shown(3, "alpha", &[("env", "a/b")]),
        ]
    }

    #[test]
    fn every_point_is_found_by_id_short_id_label_and_host() {
        let views = Views::empty(Owner::default()).with_points(&some_points());
        let (root, _) = names(&views, NodeId::ROOT, 0, 10);
        assert_eq!(
            root,
            [
                "latest", "points", "ids", "labels", "hosts", "history", "diff"
            ]
        );
        let id = some_points()[0].id;
        assert_eq!(
            resolve(&views, &format!("points/{id}")),
            Some(NodeId::point_root(PointNumber(1)))
        );
        for (path, levels, point) in [
            ("latest".to_owned(), 0, 3),
            (format!("ids/{}", id.short()), 1, 1),
            (format!("hosts/alpha/{id}"), 2, 1),
            ("hosts/alpha/latest".to_owned(), 2, 3),
            ("hosts/beta/latest".to_owned(), 2, 2),
            (format!("labels/env/a%2Fb/{id}"), 3, 1),
            ("labels/env/a%2Fb/latest".to_owned(), 3, 3),
            ("labels/env/%/latest".to_owned(), 3, 2),
            ("labels/kind/%2E%2E/latest".to_owned(), 3, 1),
        ] {
            let node = resolve(&views, &path);
            let expected = NodeId::view_symlink(levels, PointNumber(point));
            assert_eq!(node, Some(expected), "{path}");
            let target = views.target(levels, PointNumber(point)).unwrap();
            let depth = path.matches('/').count();
            let up = "../".repeat(depth);
            let to = some_points()[point as usize - 1].id;
            assert_eq!(target, format!("{up}points/{to}").into_bytes(), "{path}");
        }
        assert_eq!(resolve(&views, "points/absent"), None);
        assert_eq!(resolve(&views, "hosts/gamma"), None);
    }

    #[test]
    fn a_listing_goes_on_where_it_stopped_though_points_come() {
        let views = Views::empty(Owner::default()).with_points(&some_points());
        let points = resolve(&views, "points").unwrap();
        let (first, cookie) = names(&views, points, 0, 2);
        let mut more = some_points();
        more.push(shown(4, "alpha", &[]));
        // One from a slow clock sorts before what was listed.
        more.insert(
            0,
            ShownPoint {
                number: PointNumber(5),
                ..shown(0, "alpha", &[])
            },
        );
        let later = views.with_points(&more);
        assert_eq!(resolve(&later, "points"), Some(points));
        let (rest, _) = names(&later, points, cookie, 10);
        assert_eq!(first.len(), 2);
        assert_eq!(rest, [more[3].id.to_string(), more[4].id.to_string()]);
    }

    #[test]
    fn a_new_point_changes_what_leads_to_it_and_nothing_else() {
        let views = Views::empty(Owner::default()).with_points(&some_points());
        assert!(
            views
                .with_points(&some_points())
                .changes_since(&views)
                .is_empty()
        );
        let mut more = some_points();
        more.push(shown(4, "beta", &[]));
        let later = views.with_points(&more);
        let changes = later.changes_since(&views);
        let node = |path: &str| resolve(&later, path).unwrap();
        let id = more[3].id;
        let expected = [
            (NodeId::ROOT, "latest".to_owned()),
            (node("points"), id.to_string()),
            (node("ids"), id.short()),
            (node("hosts/beta"), id.to_string()),
            (node("hosts/beta"), "latest".to_owned()),
        ]
        .map(|(node, name)| (node, name.into_bytes()));
        for entry in &expected {
            assert!(changes.entries.contains(entry), "{entry:?}");
        }
        assert_eq!(changes.entries.len(), expected.len());
        assert!(!changes.inodes.contains(&node("hosts/alpha")));
        assert!(!changes.inodes.contains(&node("labels/env")));
        assert!(changes.inodes.contains(&NodeId::ROOT));
        assert_ne!(resolve(&views, "latest"), resolve(&later, "latest"));
    }

    #[test]
    fn an_mtime_moves_with_each_commit_even_within_a_second() {
        let mut points = some_points();
        for point in &mut points {
            point.id.seconds = 1_700_000_000;
        }
        let two = Views::empty(Owner::default()).with_points(&points[..2]);
        let three = two.with_points(&points);
        let mtime = |views: &Views| views.directory_attributes(0).unwrap().mtime;
        assert!(mtime(&two) < mtime(&three));
    }

    #[test]
    fn without_points_there_is_no_latest_and_the_rest_is_empty() {
        let views = Views::empty(Owner { uid: 7, gid: 8 });
        assert_eq!(resolve(&views, "latest"), None);
        let points = resolve(&views, "points").unwrap();
        assert!(names(&views, points, 0, 10).0.is_empty());
        let attributes = views.directory_attributes(0).unwrap();
        assert_eq!(
            (attributes.uid, attributes.gid, attributes.links),
            (7, 8, 8)
        );
    }
}
