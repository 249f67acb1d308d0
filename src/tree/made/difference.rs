//! What differs between two points, as trees with just that: what came, what changed (as the second point has it), what
//! went. What is of another type now has changed.
//!
//! A directory stands there by itself where it came or went, or where its mode, owner, extended attributes or flags changed;
//! others only lead to what is below. Made when somebody looks, by the merge that skips what both points inherit, and kept
//! for the pairs that were looked at last: their paths take some hundred bytes of memory each.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use lru::LruCache;

use crate::base::{Error, Key, PointId, Result};
use crate::fetch::check_may_wait;
use crate::format::{FileType, Point};
use crate::manifest::{Aspect, Difference, Differences};

use super::super::attributes::Attributes;
use super::super::node::{NodeId, PointNumber};
use super::super::points::OpenPoint;
use super::super::resolve::Directory;
use super::super::views::Views;
use super::super::{Tree, lock};
use super::{Child, Made, Pair};

/// Pairs whose differences are kept.
const KEPT_PAIRS: NonZeroUsize = NonZeroUsize::new(4).expect("it is not 0");

/// What stands between the names of two points.
const BETWEEN: &str = "..";

/// Finds the point that a text means among those that are shown, oldest first.
pub type ResolvePoint = fn(&str, &[Arc<Point>]) -> Result<PointId>;

/// A way in which paths differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Part {
    Added,
    Changed,
    Removed,
}

impl Part {
    pub(super) const ALL: [Self; 3] = [Self::Added, Self::Changed, Self::Removed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }

    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|part| part.name().as_bytes() == name)
    }
}

/// The differences between the pairs that were looked at last.
pub(in super::super) struct Comparisons(Mutex<LruCache<(PointNumber, PointNumber), Arc<Compared>>>);

impl Default for Comparisons {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT_PAIRS)))
    }
}

/// What differs between two points.
#[derive(Default)]
pub(super) struct Compared {
    /// For each part, what its directories have.
    parts: [HashMap<Key, BTreeMap<Vec<u8>, Differing>>; Part::ALL.len()],
}

enum Differing {
    Directory,
    File(Box<Attributes>),
}

impl Compared {
    /// What stands under a name in a directory of a part.
    pub(super) fn child(
        &self,
        pair: &Arc<Pair>,
        part: Part,
        directory: &Key,
        name: &[u8],
    ) -> Option<Child> {
        let differing = self.parts[part as usize].get(directory)?.get(name)?;
        differing.child(pair, part, directory, name)
    }

    /// All that a directory of a part has, in the order of its listing.
    pub(super) fn children<'a>(
        &'a self,
        pair: &'a Arc<Pair>,
        part: Part,
        directory: &'a Key,
    ) -> impl Iterator<Item = (Cow<'a, [u8]>, Child)> {
        let children = self.parts[part as usize].get(directory);
        children
            .into_iter()
            .flatten()
            .filter_map(move |(name, differing)| {
                let child = differing.child(pair, part, directory, name)?;
                Some((Cow::Borrowed(&name[..]), child))
            })
    }

    fn add(&mut self, part: Part, key: &Key, differing: Differing) {
        let tree = &mut self.parts[part as usize];
        let Some(mut directory) = key.parent() else {
            return;
        };
        let children = tree.entry(directory.clone()).or_default();
        match differing {
            // It may have been put there as the way to something below it.
            Differing::Directory => {
                let place = children.entry(key.name().to_vec());
                place.or_insert(Differing::Directory);
            }
            file => {
                children.insert(key.name().to_vec(), file);
            }
        }
        while let Some(above) = directory.parent() {
            let name = directory.name().to_vec();
            let siblings = tree.entry(above.clone()).or_default();
            if siblings.insert(name, Differing::Directory).is_some() {
                return;
            }
            directory = above;
        }
    }
}

impl Differing {
    fn child(&self, pair: &Arc<Pair>, part: Part, directory: &Key, name: &[u8]) -> Option<Child> {
        Some(match self {
            Self::File(attributes) => Child::Real(**attributes),
            Self::Directory => Child::Made(Made::Part {
                pair: Arc::clone(pair),
                part,
                key: directory.child(name).ok()?,
            }),
        })
    }
}

impl Tree {
    /// Pairs of points that follow one another in their set.
    pub(super) fn neighbours(&self, views: &Views) -> Vec<Pair> {
        let sets = self.sets(views);
        let pairs = sets.iter().flat_map(|set| set.windows(2));
        pairs
            .filter_map(|pair| match pair {
                [(old, from), (new, to)] => Some(Pair {
                    name: format!("{}{BETWEEN}{}", from.id, to.id).into_bytes(),
                    old: *old,
                    new: *new,
                }),
                _ => None,
            })
            .collect()
    }

    /// The pair that a name means; None if it means none.
    pub(super) fn pair_named(&self, views: &Views, name: &[u8]) -> Result<Option<Arc<Pair>>> {
        let text = std::str::from_utf8(name).ok();
        let Some((old, new)) = text.and_then(|text| text.split_once(BETWEEN)) else {
            return Ok(None);
        };
        let numbers: Vec<PointNumber> = views.points().collect();
        let headers = numbers.iter().map(|number| self.points.header(*number));
        let Some(points) = headers.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let meant = |text: &str| {
            let resolve = self.resolve_point?;
            let id = match text.parse::<PointId>() {
                Ok(id) => id,
                Err(_) => resolve(text, &points).ok()?,
            };
            let place = points.iter().position(|point| point.id == id)?;
            Some(numbers[place])
        };
        let pair = meant(old).zip(meant(new)).map(|(old, new)| {
            Arc::new(Pair {
                name: name.to_vec(),
                old,
                new,
            })
        });
        Ok(pair)
    }

    /// What differs between the points of a pair.
    pub(super) fn compared(&self, pair: &Pair) -> Result<Arc<Compared>> {
        let points = (pair.old, pair.new);
        if let Some(compared) = lock(&self.comparisons.0).get(&points) {
            return Ok(Arc::clone(compared));
        }
        check_may_wait("what differs between two points")?;
        let compared = self.compare(pair).map_err(|error| {
            let name = String::from_utf8_lossy(&pair.name);
            error.context(format_args!("comparing {name}"))
        })?;
        let compared = Arc::new(compared);
        lock(&self.comparisons.0).put(points, Arc::clone(&compared));
        Ok(compared)
    }

    fn compare(&self, pair: &Pair) -> Result<Compared> {
        let (old, new) = (self.points.open(pair.old)?, self.points.open(pair.new)?);
        let mut compared = Compared::default();
        let fetcher = self.points.fetcher();
        for difference in Differences::between(fetcher, &old.chain, &new.chain, &Key::root()) {
            let Difference {
                key,
                old: before,
                new: after,
                changes,
            } = difference?;
            let (part, point, found): (_, &OpenPoint, _) = match (before, after) {
                (None, Some(after)) => (Part::Added, &new, after),
                (Some(before), None) => (Part::Removed, &old, before),
                (Some(_), Some(after)) => (Part::Changed, &new, after),
                (None, None) => continue,
            };
            let is_directory = found.entry.metadata.file_type == FileType::Directory;
            let differing = match is_directory {
                false => Differing::File(Box::new(self.points.attributes(point, &found)?)),
                // Its time changes with each name in it.
                true if part == Part::Changed && changes.iter().eq([Aspect::Time]) => continue,
                true => Differing::Directory,
            };
            compared.add(part, &key, differing);
        }
        Ok(compared)
    }

    /// A directory as the point of a part has it.
    pub(super) fn compared_directory(
        &self,
        pair: &Pair,
        part: Part,
        key: &Key,
    ) -> Result<Arc<Directory>> {
        let number = match part {
            Part::Removed => pair.old,
            Part::Added | Part::Changed => pair.new,
        };
        if key.is_root() {
            return self.directory(NodeId::point_root(number));
        }
        let point = self.points.open(number)?;
        let found = point.chain.lookup(key)?;
        let found = found.ok_or_else(|| Error::missing(format_args!("{key}")))?;
        let attributes = self.take_note(&point, found)?;
        self.directory(attributes.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Key {
        Key::from_path(path.as_bytes()).unwrap()
    }

    #[test]
    fn all_directories_on_the_way_to_what_differs_are_there() {
        let mut compared = Compared::default();
        for path in ["a/b/c", "a", "a/b/d", "e"] {
            compared.add(Part::Added, &key(path), Differing::Directory);
        }
        let names = |directory: &str, part: Part| -> Vec<String> {
            let children = compared.parts[part as usize].get(&key(directory));
            let names = children.into_iter().flat_map(BTreeMap::keys);
            names
                .map(|name| String::from_utf8(name.clone()).unwrap())
                .collect()
        };
        assert_eq!(names("", Part::Added), ["a", "e"]);
        assert_eq!(names("a", Part::Added), ["b"]);
        assert_eq!(names("a/b", Part::Added), ["c", "d"]);
        assert!(names("", Part::Changed).is_empty());
    }
}
