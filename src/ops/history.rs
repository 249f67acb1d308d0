//! Every version of one path: when it appeared, changed, vanished and came back; and the points in which it did.
//!
//! Told set by set, as another set's points say nothing of this one's; within a set in the order of its backups, which is
//! the sequence's and no clock's.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::recorded::RecordedSources;
use crate::base::{Error, ErrorKind, Key, Origin, PointId, Result};
use crate::fetch::Fetcher;
use crate::format::{Entry, Point};
use crate::manifest::{Chain, Chains, Changes, Differences, Found, Versions};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It is there for the first time.
    Added,
    /// It differs from what the point before has.
    Changed,
    /// It is gone.
    Removed,
    /// It is back after it was gone.
    Returned,
}

impl Happening {
    /// The word that people and programs read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Returned => "returned",
        }
    }
}

/// A version of a path, or its end, with the first point that shows it.
#[derive(Debug, Clone)]
pub struct PathEvent {
    pub point: Arc<Point>,
    pub happening: Happening,
    /// What differs from the version before, if there was one.
    pub changes: Changes,
    /// The version before, of the same set, if there was one.
    pub before: Option<Arc<Entry>>,
    /// The version; None if the path is gone.
    pub entry: Option<Arc<Entry>>,
}

/// What happened to `key` over `points`, newest first. Points of other paths say nothing of it.
///
/// # Errors
/// Usage, if no point has it; and those of reading runs.
pub fn history(fetcher: &Arc<Fetcher>, points: &[Arc<Point>], key: &Key) -> Result<Vec<PathEvent>> {
    let mut chains = Chains::new(fetcher);
    let mut versions = Versions::of(key);
    let mut histories = Vec::new();
    for points in by_set(points, key)?.into_values() {
        let mut set = SetHistory::default();
        for point in points {
            let in_point = |error: Error| error.context(format_args!("point {}", point.id));
            let chain = chains.open(&point).map_err(in_point)?;
            let found = versions.in_chain(&chain).map_err(in_point)?;
            let found = found.map(|found| (found.origin, found.entry));
            set.add(fetcher, &point, found).map_err(in_point)?;
        }
        histories.push(set.events);
    }
    let events = newest_first(histories);
    if events.is_empty() {
        return Err(Error::new(ErrorKind::Usage, format!("no point has {key}")));
    }
    Ok(events)
}

/// The points, of those given, in which `key` or anything below it differs from the set's point before: from nothing, if it
/// is there for the first time.
///
/// # Errors
/// Those of reading runs.
pub fn points_that_differ(
    fetcher: &Arc<Fetcher>,
    points: &[Arc<Point>],
    key: &Key,
) -> Result<HashSet<PointId>> {
    let mut chains = Chains::new(fetcher);
    let mut versions = Versions::of(key);
    let mut differing = HashSet::new();
    for points in by_set(points, key)?.into_values() {
        let mut before: Option<(Chain, Found)> = None;
        for point in points {
            let in_point = |error: Error| error.context(format_args!("point {}", point.id));
            let chain = chains.open(&point).map_err(in_point)?;
            let found = versions.in_chain(&chain).map_err(in_point)?;
            let differs = match (&before, &found) {
                (None, None) => false,
                (Some((_, before)), Some(found)) if before.origin == found.origin => false,
                (Some((before, _)), Some(_)) => {
                    let mut differences = Differences::between(fetcher, before, &chain, key);
                    differences.next().transpose().map_err(in_point)?.is_some()
                }
                _ => true,
            };
            if differs {
                differing.insert(point.id);
            }
            before = found.map(|found| (chain, found));
        }
    }
    Ok(differing)
}

type HostAndSet<'a> = (&'a str, &'a str);

/// Points by host and set, each set's in the order of its backups; those that can have the path.
fn by_set<'a>(
    points: &'a [Arc<Point>],
    key: &Key,
) -> Result<BTreeMap<HostAndSet<'a>, Vec<Arc<Point>>>> {
    let mut sets: BTreeMap<_, Vec<Arc<Point>>> = BTreeMap::new();
    for point in points {
        if RecordedSources::of([&**point])?.can_have(key) {
            let set = sets.entry((&point.host[..], &point.set[..])).or_default();
            set.push(Arc::clone(point));
        }
    }
    for points in sets.values_mut() {
        points.sort_by_key(|point| (point.sequence, point.id));
    }
    Ok(sets)
}

/// What happened in one set, oldest first.
#[derive(Default)]
struct SetHistory {
    events: Vec<PathEvent>,
    /// The last version, and whether it is still there.
    last: Option<(Origin, Arc<Entry>)>,
    is_there: bool,
}

impl SetHistory {
    fn add(
        &mut self,
        fetcher: &Fetcher,
        point: &Arc<Point>,
        found: Option<(Origin, Box<Entry>)>,
    ) -> Result<()> {
        let before = self.last.as_ref().map(|(_, entry)| Arc::clone(entry));
        let (happening, changes) = match (&self.last, &found) {
            (_, None) if !self.is_there => return Ok(()),
            (_, None) => (Happening::Removed, Changes::default()),
            (None, Some(_)) => (Happening::Added, Changes::default()),
            (Some((last, _)), Some((origin, _))) if self.is_there && last == origin => {
                return Ok(());
            }
            (Some((_, last)), Some((_, entry))) => {
                let changes = Changes::between(fetcher, last, entry)?;
                match self.is_there {
                    // The system touched what no command tells.
                    true if changes.is_empty() => return Ok(()),
                    true => (Happening::Changed, changes),
                    false => (Happening::Returned, changes),
                }
            }
        };
        self.is_there = found.is_some();
        if let Some((origin, entry)) = found {
            self.last = Some((origin, Arc::from(entry)));
        }
        let last = self.last.as_ref().filter(|_| self.is_there);
        self.events.push(PathEvent {
            point: Arc::clone(point),
            happening,
            changes,
            before,
            entry: last.map(|(_, entry)| Arc::clone(entry)),
        });
        Ok(())
    }
}

/// The events of all sets, merged from their ends.
fn newest_first(mut histories: Vec<Vec<PathEvent>>) -> Vec<PathEvent> {
    let mut events = Vec::new();
    loop {
        let last = |history: &&mut Vec<PathEvent>| history.last().map(|event| event.point.id);
        let newest = histories.iter_mut().max_by_key(last);
        match newest.and_then(Vec::pop) {
            Some(event) => events.push(event),
            None => return events,
        }
    }
}
