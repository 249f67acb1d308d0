//! The points of a repository: listed, narrowed and committed.
//!
//! A point is there when its object is. One that cannot be read is reported beside those that can: it costs itself
//! and nothing else.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::base::{Error, ErrorKind, PointId, Result};
use crate::format::{POINTS_PREFIX, Point, RollUpId, point_name};
use crate::store::{Body, read_or_disbelieve};

use super::repository::{Repository, random_bytes};
use super::rolled::{self, Rolled};

/// How far behind the newest known point a refresh looks for new ones: clocks of hosts differ, and a backup takes its
/// id before it commits.
const REFRESH_OVERLAP_SECONDS: i64 = 24 * 60 * 60;

/// Threads that read headers side by side, for a store that takes its time to answer.
const READERS: usize = 8;

/// So few headers are read sooner than threads begin.
const READ_ALONE_MAX: usize = 32;

/// All readable points, oldest first.
///
/// # Errors
/// Those of the store. Points that cannot be read are left out; `Catalogue` has them.
pub fn points(repository: &Repository) -> Result<Vec<Arc<Point>>> {
    Ok(Catalogue::load(repository)?.points())
}

/// Writes the point: the commit, and the only one. All that it stands on must be in the store by now.
///
/// # Errors
/// Exists, if its id is taken; failed, if it contradicts itself or the repository may not be written; and those of
/// the store, after which it may have been committed all the same.
pub fn commit(repository: &Repository, point: &Point) -> Result<()> {
    repository.check_writable()?;
    let bytes = point.encode(repository.seal())?;
    repository
        .store()
        .put_new(&point_name(&point.id), Body::Bytes(&[&bytes]))?;
    repository.observed().point(point);
    Ok(())
}

/// Ids of one second are drawn from this part of what is left above the newest, so that it lasts for many points.
const SAME_SECOND_SHARE: u32 = 16;

/// An id for a point that is committed at `seconds` since 1970. It sorts after `newest`, the newest that is known, if
/// that is of the same second: several backups a second are in order too.
///
/// # Errors
/// Failed, if the system has no randomness to give.
pub fn new_point_id(seconds: i64, newest: Option<&PointId>) -> Result<PointId> {
    let random = u32::from_le_bytes(random_bytes()?);
    let same_second = newest.filter(|newest| newest.seconds == seconds);
    Ok(match same_second.map(|newest| newest.random) {
        None => PointId { seconds, random },
        Some(u32::MAX) => PointId {
            seconds: seconds + 1,
            random,
        },
        Some(taken) => {
            let left = u32::MAX - taken;
            PointId {
                seconds,
                random: taken + 1 + random % left.div_ceil(SAME_SECOND_SHARE),
            }
        }
    })
}

/// What is known of a repository's points.
///
/// Most headers come from roll-ups where there are many, and have no footers then: `with_footers` reads them.
#[derive(Debug, Default)]
pub struct Catalogue {
    points: BTreeMap<PointId, Arc<Point>>,
    damaged: BTreeMap<PointId, Error>,
    foreign: Vec<String>,
    /// Roll-ups that no other supersedes, with the points that each has.
    roll_ups: Vec<(RollUpId, Vec<PointId>)>,
    /// Was it never compared with a listing of all points?
    is_hasty: bool,
}

impl Catalogue {
    /// Lists all points, and reads roll-ups and those headers that are in none.
    ///
    /// # Errors
    /// Those of the store, where they speak of the store and not of one point.
    pub fn load(repository: &Repository) -> Result<Self> {
        let (listed, roll_ups) = match repository.store().is_distant() {
            true => std::thread::scope(|scope| {
                let roll_ups = scope.spawn(|| rolled::roll_ups(repository));
                let listed = list_all(repository);
                let roll_ups = match roll_ups.join() {
                    Ok(listed) => listed,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                (listed, roll_ups.map(Some))
            }),
            false => (list_all(repository), Ok(None)),
        };
        match (listed, roll_ups) {
            // Of what a cache has that was never told all points' names, this is what there is.
            (Err(error), Ok(Some(roll_ups))) if error.kind() == ErrorKind::Unreachable => {
                Self::from_roll_ups(repository, &roll_ups)?.ok_or(error)
            }
            (listed, roll_ups) => Self::of_listing(repository, listed?, roll_ups?),
        }
    }

    /// The points as roll-ups have them, and what came since the day before their newest: a few requests, however many
    /// points there are. What was forgotten since it was rolled up is among them still; `refresh_all` tells. A near
    /// repository, and one without roll-ups, is loaded as by `load`.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load_hastily(repository: &Repository) -> Result<Self> {
        if !repository.store().is_distant() {
            return Self::load(repository);
        }
        let roll_ups = rolled::roll_ups(repository)?;
        match Self::from_roll_ups(repository, &roll_ups)? {
            Some(catalogue) => Ok(catalogue),
            None => {
                let listed = list_all(repository)?;
                Self::of_listing(repository, listed, Some(roll_ups))
            }
        }
    }

    /// Reads the header of every point itself, and no roll-up: for whoever looks for damage.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load_each(repository: &Repository) -> Result<Self> {
        let mut catalogue = Self::default();
        let listed = list_all(repository)?;
        catalogue.take_in(repository, listed)?;
        Ok(catalogue)
    }

    fn of_listing(
        repository: &Repository,
        listed: Vec<String>,
        roll_ups: Option<Vec<RollUpId>>,
    ) -> Result<Self> {
        let mut catalogue = Self::default();
        let roll_ups = match roll_ups {
            Some(roll_ups) => roll_ups,
            // A few headers are read sooner than it is found out whether there are roll-ups.
            None if listed.len() < READ_ALONE_MAX => Vec::new(),
            None => rolled::roll_ups(repository)?,
        };
        if !roll_ups.is_empty() {
            let Rolled { mut points, live } = Rolled::load(repository, &roll_ups)?;
            let listed: HashSet<PointId> =
                listed.iter().filter_map(|name| point_of(name)).collect();
            points.retain(|id, _| listed.contains(id));
            catalogue.take_rolled(repository, points, live);
        }
        catalogue.take_in(repository, listed)?;
        Ok(catalogue)
    }

    /// None, if there are no roll-ups.
    fn from_roll_ups(repository: &Repository, roll_ups: &[RollUpId]) -> Result<Option<Self>> {
        let Some(newest) = roll_ups.iter().map(|id| id.newest).max() else {
            return Ok(None);
        };
        let from = refresh_from(&newest);
        let (rolled, listed) = std::thread::scope(|scope| {
            let rolled = scope.spawn(|| Rolled::load(repository, roll_ups));
            let listed = repository.store().names(POINTS_PREFIX, &from);
            match rolled.join() {
                Ok(rolled) => (rolled, listed),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        let (Rolled { mut points, live }, listed) = (rolled?, listed?);
        let there: HashSet<PointId> = listed.iter().filter_map(|name| point_of(name)).collect();
        points.retain(|id, _| point_name(id) < from || there.contains(id));
        let mut catalogue = Self {
            is_hasty: true,
            ..Self::default()
        };
        catalogue.take_rolled(repository, points, live);
        catalogue.take_in(repository, listed)?;
        Ok(Some(catalogue))
    }

    /// Reads the points that have come since, and returns them, oldest first. Looks from a day before the newest
    /// that is known: what is older and new (a copied point), and what was forgotten, only `load` finds.
    ///
    /// # Errors
    /// Those of the store; what is known stays so.
    pub fn refresh(&mut self, repository: &Repository) -> Result<Vec<Arc<Point>>> {
        let from = self
            .points
            .keys()
            .chain(self.damaged.keys())
            .max()
            .map(refresh_from);
        let listed = repository
            .store()
            .names(POINTS_PREFIX, from.as_deref().unwrap_or_default())?;
        self.take_in(repository, listed)
    }

    /// Lists all points anew, and returns those that have come, oldest first, and those that are gone.
    ///
    /// # Errors
    /// Those of the store; what is known stays so.
    pub fn refresh_all(
        &mut self,
        repository: &Repository,
    ) -> Result<(Vec<Arc<Point>>, Vec<PointId>)> {
        let listed = list_all(repository)?;
        let there: HashSet<PointId> = listed.iter().filter_map(|name| point_of(name)).collect();
        let new = self.take_in(repository, listed)?;
        let known = self.points.keys().filter(|id| !there.contains(id));
        let gone: Vec<PointId> = known.copied().collect();
        self.points.retain(|id, _| there.contains(id));
        self.damaged.retain(|id, _| there.contains(id));
        self.is_hasty = false;
        Ok((new, gone))
    }

    /// Was it never compared with a listing of all points? `refresh_all` does.
    pub fn is_hasty(&self) -> bool {
        self.is_hasty
    }

    /// The newest points of all chains, newest first: those that no newer point stands on.
    pub fn newest_of_chains(&self) -> Vec<Arc<Point>> {
        let mut below = HashSet::new();
        let mut newest = Vec::new();
        for point in self.points.values().rev() {
            if !below.contains(&point.id) {
                below.extend(point.lineage.iter().copied());
                newest.push(Arc::clone(point));
            }
        }
        newest
    }

    /// Roll-ups that no other supersedes, with the points that each has.
    pub(super) fn roll_ups(&self) -> &[(RollUpId, Vec<PointId>)] {
        &self.roll_ups
    }

    /// The readable points that are in no roll-up, oldest first.
    pub(super) fn unrolled_ids(&self) -> impl Iterator<Item = PointId> {
        let rolled: HashSet<PointId> = self
            .roll_ups
            .iter()
            .flat_map(|(_, ids)| ids.iter().copied())
            .collect();
        let ids = self.points.keys().copied();
        ids.filter(move |id| !rolled.contains(id))
    }

    /// Are there enough points in no roll-up to make one, if another one comes?
    pub fn is_roll_up_due(&self) -> bool {
        self.unrolled_ids().count() + 1 >= rolled::ROLL_UP_MIN
    }

    /// The readable points, oldest first.
    pub fn points(&self) -> Vec<Arc<Point>> {
        self.points.values().cloned().collect()
    }

    /// The points that are there and cannot be read, and why.
    pub fn damaged(&self) -> impl Iterator<Item = (&PointId, &Error)> {
        self.damaged.iter()
    }

    /// Objects where points lie whose names are no point's.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// Takes what roll-ups have.
    fn take_rolled(
        &mut self,
        repository: &Repository,
        points: BTreeMap<PointId, Arc<Point>>,
        roll_ups: Vec<(RollUpId, Vec<PointId>)>,
    ) {
        for point in points.values() {
            repository.observed().point(point);
        }
        self.points = points;
        self.roll_ups = roll_ups;
    }

    /// Reads what a listing has and this has not.
    fn take_in(&mut self, repository: &Repository, listed: Vec<String>) -> Result<Vec<Arc<Point>>> {
        let mut unread = Vec::new();
        for name in listed {
            let Some(id) = point_of(&name) else {
                if !self.foreign.contains(&name) {
                    self.foreign.push(name);
                }
                continue;
            };
            if !self.points.contains_key(&id) && !self.damaged.contains_key(&id) {
                unread.push(id);
            }
        }
        let mut new = Vec::new();
        for (id, read) in read_points(repository, &unread) {
            match read {
                Ok(point) => new.push(Arc::new(point)),
                // It was forgotten since it was listed.
                Err(error) if error.kind() == ErrorKind::Missing => {}
                Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
                Err(error) => {
                    log::warn!("a point cannot be read, and is passed over: {error}");
                    self.damaged.insert(id, error);
                }
            }
        }
        self.points
            .extend(new.iter().map(|point| (point.id, Arc::clone(point))));
        Ok(new)
    }
}

/// The names of all points.
fn list_all(repository: &Repository) -> Result<Vec<String>> {
    let listed = repository.store().names(POINTS_PREFIX, "")?;
    let mut ids: Vec<PointId> = listed.iter().filter_map(|name| point_of(name)).collect();
    ids.sort_unstable();
    repository.observed().listing(ids);
    Ok(listed)
}

/// The point whose object has this name; None for a name that is no point's.
fn point_of(name: &str) -> Option<PointId> {
    name.strip_prefix(POINTS_PREFIX)?.parse().ok()
}

/// From where a listing must begin that is to have all that came since `newest`.
fn refresh_from(newest: &PointId) -> String {
    point_name(&PointId {
        seconds: newest.seconds.saturating_sub(REFRESH_OVERLAP_SECONDS),
        random: 0,
    })
}

/// The header with the footers of small runs, which one from a roll-up has not: one request, where each footer would be
/// one.
///
/// # Errors
/// Unreachable, if the store does not answer. A header that cannot be read now is given back as it is: its runs are there.
pub fn with_footers<'a>(repository: &Repository, point: &'a Point) -> Result<Cow<'a, Point>> {
    if point.has_footers() {
        return Ok(Cow::Borrowed(point));
    }
    match read_point(repository, point.id) {
        Ok(whole) => Ok(Cow::Owned(whole)),
        Err(error) if error.kind() == ErrorKind::Unreachable => Err(error),
        Err(error) => {
            log::debug!("a header is used without its footers: {error}");
            Ok(Cow::Borrowed(point))
        }
    }
}

/// The ids of all points that are listed, oldest first. Reads no header.
///
/// # Errors
/// Those of the store.
pub fn point_ids(repository: &Repository) -> Result<Vec<PointId>> {
    let mut ids: Vec<PointId> = list_all(repository)?
        .iter()
        .filter_map(|name| point_of(name))
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The newest point of each chain, newest first: those that no newer point stands on. Reads their headers and no
/// others. Those that cannot be read are left out.
///
/// # Errors
/// Those of the store, where they speak of the store and not of one point.
pub fn newest_of_chains(repository: &Repository) -> Result<Vec<Point>> {
    let mut below = HashSet::new();
    let mut newest = Vec::new();
    for id in point_ids(repository)?.into_iter().rev() {
        if below.contains(&id) {
            continue;
        }
        match read_point(repository, id) {
            Ok(point) => {
                below.extend(point.lineage.iter().copied());
                newest.push(point);
            }
            Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
            Err(error) => log::debug!("a point is passed over: {error}"),
        }
    }
    Ok(newest)
}

/// The headers of these points, in order: many are read side by side. Ends early where the store does not answer.
fn read_points(repository: &Repository, ids: &[PointId]) -> Vec<(PointId, Result<Point>)> {
    let read_some = |ids: &[PointId]| {
        let mut read = Vec::with_capacity(ids.len());
        for id in ids {
            let point = read_point(repository, *id);
            let is_end = matches!(&point, Err(error) if error.kind() == ErrorKind::Unreachable);
            read.push((*id, point));
            if is_end {
                break;
            }
        }
        read
    };
    let alone_max = match repository.store().is_distant() {
        true => 1,
        false => READ_ALONE_MAX,
    };
    let readers = match ids.len() > alone_max {
        true => READERS,
        false => 1,
    };
    side_by_side(ids, readers, read_some)
}

/// What `read` makes of all ids, in order, read by so many threads.
pub(super) fn side_by_side<Id: Sync, T: Send>(
    ids: &[Id],
    readers: usize,
    read: impl Fn(&[Id]) -> Vec<T> + Copy + Send,
) -> Vec<T> {
    if readers <= 1 || ids.len() <= 1 {
        return read(ids);
    }
    std::thread::scope(|scope| {
        let parts = ids.chunks(ids.len().div_ceil(readers));
        let readers: Vec<_> = parts.map(|ids| scope.spawn(move || read(ids))).collect();
        let read = readers.into_iter().flat_map(|reader| match reader.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        read.collect()
    })
}

/// The header of one point.
///
/// # Errors
/// Missing, if there is no such point; corrupt, if its header is damaged; and those of the store.
pub fn read_point(repository: &Repository, id: PointId) -> Result<Point> {
    let name = point_name(&id);
    let point = read_or_disbelieve(repository.store(), &name, || {
        Point::decode(repository.seal(), id, &repository.store().get(&name)?)
    })?;
    repository.observed().point(&point);
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::super::InitOptions;
    use super::*;
    use crate::format::PointKind;
    use crate::store::{
        Effect, Fault, FaultPlan, MemoryStore, Moment as FaultMoment, Operations, Recording,
        RequestKind, Store,
    };

    const DAY: i64 = 24 * 60 * 60;

    fn id(seconds: i64) -> PointId {
        PointId {
            seconds,
            random: seconds as u32,
        }
    }

    fn point(id: PointId) -> Point {
        Point::sample(id)
    }

    fn repository(store: Arc<dyn Store>) -> Arc<Repository> {
        Repository::init(store, &InitOptions::default()).unwrap()
    }

    fn ids(points: &[Arc<Point>]) -> Vec<i64> {
        points.iter().map(|point| point.id.seconds).collect()
    }

    #[test]
    fn ids_of_one_second_rise_until_the_second_is_full() {
        let mut newest = new_point_id(7, None).unwrap();
        for _ in 0..100 {
            let next = new_point_id(7, Some(&newest)).unwrap();
            assert!(next > newest && next.seconds == 7);
            newest = next;
        }
        let full = PointId {
            seconds: 7,
            random: u32::MAX,
        };
        assert_eq!(new_point_id(7, Some(&full)).unwrap().seconds, 8);
        assert_eq!(new_point_id(9, Some(&full)).unwrap().seconds, 9);
    }

    #[test]
    fn what_is_committed_is_listed_oldest_first_and_once() {
        let repository = repository(Arc::new(MemoryStore::new()));
        for seconds in [3 * DAY, DAY, 2 * DAY] {
            commit(&repository, &point(id(seconds))).unwrap();
        }
        let again = commit(&repository, &point(id(DAY))).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exists);
        assert_eq!(ids(&points(&repository).unwrap()), [DAY, 2 * DAY, 3 * DAY]);
    }

    #[test]
    fn many_points_are_read_once_each_and_a_damaged_one_among_them_costs_itself() {
        let store = Arc::new(MemoryStore::new());
        let recording = Arc::new(Recording::new(store.clone()));
        let repository = repository(recording.clone());
        for number in 0..100 {
            commit(&repository, &point(id(DAY + number))).unwrap();
        }
        store.damage(&point_name(&id(DAY + 50)), b"nonsense");
        recording.take();
        let catalogue = Catalogue::load(&repository).unwrap();
        assert_eq!(recording.take().len(), 102);
        let expected: Vec<i64> = (0..100).filter(|number| *number != 50).collect();
        let found: Vec<i64> = ids(&catalogue.points())
            .iter()
            .map(|seconds| seconds - DAY)
            .collect();
        assert_eq!(found, expected);
        assert_eq!(catalogue.damaged().count(), 1);
    }

    #[test]
    fn a_refresh_reads_new_points_only_even_from_clocks_that_lag() {
        let recording = Arc::new(Recording::new(Arc::new(MemoryStore::new())));
        let repository = repository(recording.clone());
        let mut catalogue = Catalogue::load(&repository).unwrap();
        assert!(catalogue.refresh(&repository).unwrap().is_empty());
        for seconds in [10 * DAY, 20 * DAY] {
            commit(&repository, &point(id(seconds))).unwrap();
        }
        assert_eq!(
            ids(&catalogue.refresh(&repository).unwrap()),
            [10 * DAY, 20 * DAY]
        );
        for seconds in [20 * DAY - DAY / 2, 21 * DAY] {
            commit(&repository, &point(id(seconds))).unwrap();
        }
        recording.take();
        let new = catalogue.refresh(&repository).unwrap();
        assert_eq!(ids(&new), [20 * DAY - DAY / 2, 21 * DAY]);
        let reads = recording
            .take()
            .iter()
            .filter(|request| request.kind == RequestKind::Get)
            .count();
        assert_eq!(reads, 2);
        assert_eq!(catalogue.points().len(), 4);
    }

    #[test]
    fn a_damaged_point_costs_itself_and_a_strange_file_nothing() {
        let store = Arc::new(MemoryStore::new());
        let repository = repository(store.clone());
        for seconds in [DAY, 2 * DAY] {
            commit(&repository, &point(id(seconds))).unwrap();
        }
        let name = point_name(&id(DAY));
        let mut bytes = store.get(&name).unwrap();
        bytes[30] ^= 1;
        store.damage(&name, &bytes);
        store.damage("points/README", b"hello");
        let catalogue = Catalogue::load(&repository).unwrap();
        assert_eq!(ids(&catalogue.points()), [2 * DAY]);
        let damaged: Vec<_> = catalogue.damaged().collect();
        assert_eq!(damaged.len(), 1);
        assert_eq!(
            (*damaged[0].0, damaged[0].1.kind()),
            (id(DAY), ErrorKind::Corrupt)
        );
        assert_eq!(catalogue.foreign(), ["points/README"]);
    }

    #[test]
    fn the_newest_of_each_chain_is_found_without_the_headers_below_it() {
        let recording = Arc::new(Recording::new(Arc::new(MemoryStore::new())));
        let repository = repository(recording.clone());
        // Two chains whose points come in turns.
        let mut lineages = [Vec::new(), Vec::new()];
        for number in 0..20 {
            let lineage: &mut Vec<PointId> = &mut lineages[number as usize % 2];
            lineage.insert(0, id(DAY + number));
            let mut point = point(id(DAY + number));
            point.lineage = lineage.clone();
            point.base = lineage[lineage.len() - 1];
            point.parent = lineage.get(1).copied();
            if point.parent.is_some() {
                point.kind = PointKind::Incremental;
            }
            commit(&repository, &point).unwrap();
        }
        recording.take();
        let newest = newest_of_chains(&repository).unwrap();
        let newest: Vec<i64> = newest.iter().map(|point| point.id.seconds - DAY).collect();
        assert_eq!(newest, [19, 18]);
        assert_eq!(recording.take().len(), 3);
        assert_eq!(point_ids(&repository).unwrap().len(), 20);
    }

    #[test]
    fn a_store_that_stops_answering_is_no_damage() {
        let store = Arc::new(MemoryStore::new());
        let writing = repository(store.clone());
        commit(&writing, &point(id(DAY))).unwrap();
        // The config, the listing, and then the point.
        let plan = FaultPlan {
            operations: Operations::Reads,
            at: 3,
            moment: FaultMoment::Before,
            effect: Effect::Fail(ErrorKind::Unreachable),
        };
        let repository = Repository::open(Arc::new(Fault::new(store, plan))).unwrap();
        let mut catalogue = Catalogue::default();
        let error = catalogue.refresh(&repository).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert_eq!(ids(&catalogue.refresh(&repository).unwrap()), [DAY]);
    }
}
