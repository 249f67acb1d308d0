//! All that a path ever was: its children in all points, and its versions, each under the point that shows it first.
//!
//! A version's name is `@` and the point's id, so that names sort by time, and a file's has the suffix of its path, so that
//! programs know what it is; a real name that begins with `@` gets one more. A file has a new version where `bygone history`
//! tells of a change, a directory also where only something below it changed.
//!
//! The chains of all points are opened when somebody looks first, and stay open until points come or go.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, Weak};

use lru::LruCache;

use crate::base::{Error, Key, Result};
use crate::fetch::{Fetcher, check_may_wait};
use crate::format::{FileType, Point, Section};
use crate::manifest::{Chain, Chains, Changes, Found, Versions};

use super::super::attributes::Attributes;
use super::super::node::{NodeId, PointNumber};
use super::super::points::OpenPoint;
use super::super::views::Views;
use super::super::{Tree, lock};
use super::{Child, Made, child_of_version};

/// What begins the name of a version.
const MARK: u8 = b'@';

/// A longer suffix tells no program what a file is.
const SUFFIX_BYTES_MAX: usize = 16;

/// Paths whose history is kept: those on the way to where somebody looks, and around it.
const HISTORIES_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("it is not 0");

/// Extended attributes that hold ACLs begin so.
const ACL_PREFIX: &[u8] = b"system.posix_acl_";

/// What was found of the history of paths in the points of one picture.
#[derive(Default)]
pub(in super::super) struct Histories {
    looked: Mutex<Option<Looked>>,
    /// Held while the chains are opened, so that they are opened once, and by those who may wait.
    opening: Mutex<()>,
}

struct Looked {
    /// The picture of the points.
    views: Weak<Views>,
    points: Arc<AllPoints>,
    paths: LruCache<Key, Arc<PathHistory>>,
}

/// All points that are shown, open.
struct AllPoints {
    /// By host and set, in the order of their backups.
    sets: Vec<Vec<OpenPoint>>,
    /// Each run once, as a chain of its own: what later ones hide is there too.
    runs: Vec<Chain>,
}

/// What a path ever was.
pub(super) struct PathHistory {
    /// By their names; with the nodes that they have under `points`.
    versions: BTreeMap<Vec<u8>, Attributes>,
    /// The names in it, in any point.
    names: BTreeSet<Vec<u8>>,
    /// Mode, user and group of whoever may see them; None where it never was a directory.
    permissions: Option<(u32, u32, u32)>,
}

impl PathHistory {
    /// These attributes, but for who may see the directory.
    pub(super) fn permitted(&self, view: Attributes) -> Attributes {
        match self.permissions {
            None => view,
            Some((mode, uid, gid)) => Attributes {
                mode,
                uid,
                gid,
                ..view
            },
        }
    }

    /// All that the directory shows of the path's history, in the order of its listing.
    pub(super) fn children<'a>(
        &'a self,
        key: &'a Key,
    ) -> impl Iterator<Item = (Cow<'a, [u8]>, Child)> {
        let names = self.names.iter().filter_map(|name| {
            let made = Made::History(key.child(name).ok()?);
            Some((shown_name(name), Child::Made(made)))
        });
        let versions = self.versions.iter().map(|(name, attributes)| {
            let child = child_of_version(key, *attributes);
            (Cow::Borrowed(&name[..]), child)
        });
        names.chain(versions)
    }
}

impl Tree {
    /// What stands under a name in the history of a path.
    pub(super) fn history_child(
        &self,
        views: &Arc<Views>,
        key: &Key,
        name: &[u8],
    ) -> Result<Option<Child>> {
        let real = match name {
            [MARK, MARK, ..] => &name[1..],
            [MARK, ..] => {
                let history = self.history_of(views, key)?;
                let version = history.versions.get(name);
                return Ok(version.map(|attributes| child_of_version(key, *attributes)));
            }
            _ => name,
        };
        let Ok(child) = key.child(real) else {
            return Ok(None);
        };
        let points = self.all_points(views)?;
        for run in &points.runs {
            if run.lookup(&child)?.is_some() {
                return Ok(Some(Child::Made(Made::History(child))));
            }
        }
        Ok(None)
    }

    pub(super) fn history_of(&self, views: &Arc<Views>, key: &Key) -> Result<Arc<PathHistory>> {
        let points = self.all_points(views)?;
        if let Some(looked) = &mut *lock(&self.histories.looked)
            && let Some(history) = looked.paths.get(key)
        {
            return Ok(Arc::clone(history));
        }
        check_may_wait(format_args!("the history of {key}"))?;
        let history = self.look_at(&points, key);
        let history = history.map_err(|error| error.context(format_args!("history of {key}")))?;
        let history = Arc::new(history);
        if let Some(looked) = &mut *lock(&self.histories.looked)
            && Arc::ptr_eq(&looked.points, &points)
        {
            looked.paths.put(key.clone(), Arc::clone(&history));
        }
        Ok(history)
    }

    fn all_points(&self, views: &Arc<Views>) -> Result<Arc<AllPoints>> {
        if let Some(points) = self.points_of(views) {
            return Ok(points);
        }
        check_may_wait("the chains of all points")?;
        let _opening = lock(&self.histories.opening);
        if let Some(points) = self.points_of(views) {
            return Ok(points);
        }
        let points = Arc::new(self.open_all(views)?);
        *lock(&self.histories.looked) = Some(Looked {
            views: Arc::downgrade(views),
            points: Arc::clone(&points),
            paths: LruCache::new(HISTORIES_MAX),
        });
        Ok(points)
    }

    /// The points of a picture, if they are open.
    fn points_of(&self, views: &Arc<Views>) -> Option<Arc<AllPoints>> {
        let looked = lock(&self.histories.looked);
        let is_of_now = |looked: &&Looked| looked.views.as_ptr() == Arc::as_ptr(views);
        let looked = looked.as_ref().filter(is_of_now);
        looked.map(|looked| Arc::clone(&looked.points))
    }

    fn open_all(&self, views: &Views) -> Result<AllPoints> {
        let mut chains = Chains::new(self.points.fetcher());
        let (mut sets, mut runs, mut met) = (Vec::new(), Vec::new(), HashSet::new());
        for headers in self.sets(views) {
            let mut set = Vec::new();
            for (number, point) in headers {
                let in_point = |error: Error| error.context(format_args!("point {}", point.id));
                let chain = chains.open(&point).map_err(in_point)?;
                let new = chain.runs().iter().filter(|run| met.insert(run.id()));
                runs.extend(new.map(|run| Chain::of_runs(vec![Arc::clone(run)])));
                set.push(OpenPoint {
                    number,
                    id: point.id,
                    chain,
                });
            }
            sets.push(set);
        }
        Ok(AllPoints { sets, runs })
    }

    /// The points that are shown, by host and set, each in the order of its backups.
    pub(super) fn sets(&self, views: &Views) -> Vec<Vec<(PointNumber, Arc<Point>)>> {
        let mut sets: BTreeMap<(String, String), Vec<_>> = BTreeMap::new();
        for number in views.points() {
            if let Some(point) = self.points.header(number) {
                let set = sets.entry((point.host.clone(), point.set.clone()));
                set.or_default().push((number, point));
            }
        }
        let mut sets: Vec<_> = sets.into_values().collect();
        for set in &mut sets {
            set.sort_by_key(|(_, point)| (point.sequence, point.id));
        }
        sets
    }

    fn look_at(&self, points: &AllPoints, key: &Key) -> Result<PathHistory> {
        let mut records = Versions::of(key);
        let mut versions = BTreeMap::new();
        let mut permissions = Permissions::default();
        let fetcher = self.points.fetcher();
        for set in &points.sets {
            let mut before: Option<Found> = None;
            for point in set {
                let found = records.in_chain(&point.chain)?;
                if let Some(found) = &found
                    && is_new_version(fetcher, before.as_ref(), found)?
                {
                    permissions.add(found);
                    let attributes = self.version_attributes(point, found)?;
                    let name = version_name(&point.id.to_string(), found);
                    versions.insert(name, attributes);
                }
                before = found;
            }
        }
        let mut names = BTreeSet::new();
        for run in &points.runs {
            for section in [Section::Files, Section::Directories] {
                for found in run.children(key, section, None) {
                    names.insert(found?.key.name().to_vec());
                }
            }
        }
        Ok(PathHistory {
            versions,
            names,
            permissions: permissions.of_all(),
        })
    }

    fn version_attributes(&self, point: &OpenPoint, found: &Found) -> Result<Attributes> {
        if found.key.is_root() {
            let node = NodeId::point_root(point.number);
            return Ok(self.directory(node)?.attributes);
        }
        self.points.attributes(point, found)
    }
}

fn is_new_version(fetcher: &Fetcher, before: Option<&Found>, found: &Found) -> Result<bool> {
    let Some(before) = before.filter(|before| before.origin != found.origin) else {
        return Ok(before.is_none());
    };
    let types = [before, found].map(|found| found.entry.metadata.file_type);
    if types == [FileType::Directory; 2] {
        return Ok(true);
    }
    let changes = Changes::between(fetcher, &before.entry, &found.entry)?;
    Ok(!changes.is_empty())
}

/// Who may see what was ever in a directory: whom all of its versions let in. The kernel knows no ACL here, so that a group
/// that one may limit is kept out, and so is everybody where owners differ.
#[derive(Default)]
struct Permissions {
    of_all: Option<(u32, u32, u32)>,
}

impl Permissions {
    fn add(&mut self, found: &Found) {
        let metadata = &found.entry.metadata;
        if metadata.file_type != FileType::Directory {
            return;
        }
        let has_acl = metadata
            .xattrs
            .iter()
            .any(|xattr| xattr.name.starts_with(ACL_PREFIX));
        let mode = metadata.mode & if has_acl { 0o505 } else { 0o555 };
        let (uid, gid) = (metadata.uid, metadata.gid);
        self.of_all = Some(match self.of_all {
            None => (mode, uid, gid),
            Some((others, uid, gid)) if (uid, gid) == (metadata.uid, metadata.gid) => {
                (others & mode, uid, gid)
            }
            Some(_) => (0, 0, 0),
        });
    }

    fn of_all(&self) -> Option<(u32, u32, u32)> {
        self.of_all
    }
}

/// A real name, as it stands beside versions.
fn shown_name(name: &[u8]) -> Cow<'_, [u8]> {
    match name.first() {
        Some(&MARK) => Cow::Owned([&[MARK], name].concat()),
        _ => Cow::Borrowed(name),
    }
}

fn version_name(point: &str, found: &Found) -> Vec<u8> {
    let mut name = vec![MARK];
    name.extend_from_slice(point.as_bytes());
    if found.entry.metadata.file_type == FileType::Regular {
        name.extend_from_slice(suffix(found.key.name()));
    }
    name
}

/// What tells programs the type of a file: its last dot and what follows. Empty if it has none.
fn suffix(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 && name.len() - dot <= SUFFIX_BYTES_MAX => &name[dot..],
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_what_programs_go_by() {
        for (name, expected) in [
            ("letter.txt", ".txt"),
            ("archive.tar.gz", ".gz"),
            (".profile", ""),
            ("Makefile", ""),
            ("ends.", "."),
            ("a.sentence that has a dot in it", ""),
        ] {
            assert_eq!(suffix(name.as_bytes()), expected.as_bytes(), "{name}");
        }
    }

    #[test]
    fn a_real_name_never_looks_like_a_version() {
        assert_eq!(&*shown_name(b"@home"), b"@@home");
        assert_eq!(&*shown_name(b"@@"), b"@@@");
        assert_eq!(&*shown_name(b"home"), b"home");
    }
}
