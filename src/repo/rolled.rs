//! Roll-ups in the repository: reading those that count, and writing one when enough headers are in none.
//!
//! They grow in tiers, as index runs do: some headers make a small one, several of like size one larger one, which names
//! those that it supersedes. Nothing is deleted, so that a store which only takes new objects will do; names tell which are
//! worth reading. Two backups that roll up at once both write the same headers, which harms nobody. A roll-up that cannot be
//! read costs nothing but time: its points are read themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalogue::{Catalogue, side_by_side};
use super::repository::{Repository, random_bytes};
use crate::base::{ErrorKind, PointId, Result};
use crate::format::{CATALOGUE_PREFIX, Point, ROLLED_IDS_MAX, RollUp, RollUpId, roll_up_name};
use crate::store::{Body, read_or_disbelieve};

/// So many headers that are in no roll-up are worth one.
pub(super) const ROLL_UP_MIN: usize = 32;

/// A roll-up of a tier has so many times the points of one of the tier below; so many of them become one.
const TIER_FACTOR: usize = 8;

/// Points of one roll-up, lest it become too large to be read at once.
const ROLL_UP_MAX: usize = 16 * 1024;

/// Threads that read roll-ups side by side: as many as there are of a repository of a hundred thousand points.
const READERS_MAX: usize = 16;

/// The roll-ups that a repository stands on, and their headers.
#[derive(Debug, Default)]
pub(super) struct Rolled {
    pub(super) points: BTreeMap<PointId, Arc<Point>>,
    /// Those that no other supersedes, each with the points that it has.
    pub(super) live: Vec<(RollUpId, Vec<PointId>)>,
}

/// The roll-ups that there are.
///
/// # Errors
/// Those of the store.
pub fn roll_ups(repository: &Repository) -> Result<Vec<RollUpId>> {
    let listed = repository.store().list(CATALOGUE_PREFIX, "")?;
    let names = listed
        .iter()
        .map(|listed| &listed.name[CATALOGUE_PREFIX.len()..]);
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// Reads one roll-up.
///
/// # Errors
/// Corrupt, if it is damaged; and those of the store.
pub fn read_roll_up(repository: &Repository, id: &RollUpId) -> Result<RollUp> {
    let name = roll_up_name(id);
    read_or_disbelieve(repository.store(), &name, || {
        RollUp::decode(repository.seal(), id, &repository.store().get(&name)?)
    })
}

impl Rolled {
    /// Reads roll-ups, side by side: first those that reach further than all others, then those of the rest that none
    /// of them supersedes.
    ///
    /// # Errors
    /// Unreachable, if the store does not answer. One that cannot be read is passed over, with a word in the log.
    pub(super) fn load(repository: &Repository, ids: &[RollUpId]) -> Result<Self> {
        let mut rolled = Self::default();
        let mut superseded = BTreeSet::new();
        let (mut wave, mut rest): (Vec<RollUpId>, Vec<RollUpId>) = ids
            .iter()
            .partition(|id| !ids.iter().any(|other| is_within(id, other)));
        while !wave.is_empty() {
            for (id, read) in read_all(repository, &wave) {
                match read {
                    Ok(roll_up) => {
                        superseded
                            .extend(roll_up.supersedes.iter().copied().filter(|it| *it != id));
                        rolled.add(id, roll_up);
                    }
                    Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
                    Err(error) if error.kind() == ErrorKind::Missing => {}
                    Err(error) => log::warn!("a roll-up of points cannot be read: {error}"),
                }
            }
            rest.retain(|id| !superseded.contains(id));
            wave = std::mem::take(&mut rest);
        }
        rolled.live.retain(|(id, _)| !superseded.contains(id));
        Ok(rolled)
    }

    fn add(&mut self, id: RollUpId, roll_up: RollUp) {
        let ids = roll_up.points.iter().map(|point| point.id).collect();
        self.live.push((id, ids));
        let points = roll_up.points.into_iter();
        self.points
            .extend(points.map(|point| (point.id, Arc::new(point))));
    }
}

/// Does `other` reach as far as `id` both ways, and further? Of two that reach as far, one is within the other.
fn is_within(id: &RollUpId, other: &RollUpId) -> bool {
    let reaches = other.oldest <= id.oldest && id.newest <= other.newest;
    let is_equal = other.oldest == id.oldest && id.newest == other.newest;
    reaches && !is_equal
}

fn read_all(repository: &Repository, ids: &[RollUpId]) -> Vec<(RollUpId, Result<RollUp>)> {
    let read_some = |ids: &[RollUpId]| -> Vec<_> {
        let read = ids.iter().map(|id| (*id, read_roll_up(repository, id)));
        read.collect()
    };
    side_by_side(ids, ids.len().min(READERS_MAX), read_some)
}

/// Writes a roll-up of the headers that are in none, if there are enough, and of roll-ups that it is time to merge with
/// it. Returns whether one was written.
///
/// # Errors
/// Those of the store, of its reading and of its writing.
pub fn roll_up(repository: &Repository) -> Result<bool> {
    let catalogue = Catalogue::load(repository)?;
    if catalogue.unrolled_ids().count() < ROLL_UP_MIN {
        return Ok(false);
    }
    let (points, supersedes) = choose(&catalogue);
    let (Some(oldest), Some(newest)) = (points.first(), points.last()) else {
        return Ok(false);
    };
    let id = RollUpId {
        oldest: oldest.id,
        newest: newest.id,
        random: u64::from_le_bytes(random_bytes()?),
    };
    let points = points.iter().map(|point| Point::clone(point)).collect();
    let roll_up = RollUp { supersedes, points };
    let bytes = roll_up.encode(repository.seal(), &id)?;
    let name = roll_up_name(&id);
    repository.store().put_new(&name, Body::Bytes(&[&bytes]))?;
    Ok(true)
}

/// The points of the next roll-up, oldest first, and what it supersedes: while there are enough roll-ups of its size, it
/// takes them in and grows.
fn choose(catalogue: &Catalogue) -> (Vec<Arc<Point>>, Vec<RollUpId>) {
    let live = catalogue.roll_ups();
    let mut chosen: BTreeSet<PointId> = catalogue.unrolled_ids().collect();
    let mut supersedes: Vec<RollUpId> = Vec::new();
    loop {
        let tier = tier(chosen.len());
        let like: Vec<_> = live
            .iter()
            .filter(|(id, ids)| self::tier(ids.len()) <= tier && !supersedes.contains(id))
            .collect();
        let count: usize = like.iter().map(|(_, ids)| ids.len()).sum();
        if like.len() + 1 < TIER_FACTOR || chosen.len() + count > ROLL_UP_MAX {
            break;
        }
        for (id, ids) in like {
            chosen.extend(ids);
            supersedes.push(*id);
        }
    }
    let mut room = ROLLED_IDS_MAX;
    let mut points = catalogue.points();
    points.retain(|point| chosen.contains(&point.id));
    let fitting = points.iter().take_while(|point| {
        let origins: usize = point.runs.iter().map(|run| run.origins.len() + 1).sum();
        let left = room.checked_sub(origins + point.lineage.len());
        room = left.unwrap_or(0);
        left.is_some()
    });
    let count = fitting.count();
    points.truncate(count);
    (points, supersedes)
}

fn tier(points: usize) -> u32 {
    (points / ROLL_UP_MIN).max(1).ilog(TIER_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::super::{InitOptions, commit};
    use super::*;

    use crate::format::{POINTS_PREFIX, point_name};
    use crate::store::{Listed, MemoryStore, Recording, RequestKind, Store};
    use std::ops::Range;

    const DAY: i64 = 24 * 60 * 60;

    /// A store in memory that says that it is far away.
    struct Distant(Arc<MemoryStore>);

    impl Store for Distant {
        fn get(&self, name: &str) -> Result<Vec<u8>> {
            self.0.get(name)
        }
        fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
            self.0.get_range(name, range)
        }
        fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
            self.0.get_tail(name, length)
        }
        fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
            self.0.put_new(name, body)
        }
        fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
            self.0.list(prefix, from)
        }
        fn delete(&self, name: &str) -> Result<()> {
            self.0.delete(name)
        }
        fn location(&self) -> String {
            self.0.location()
        }
        fn is_distant(&self) -> bool {
            true
        }
    }

    /// A repository in memory, whose points are a day apart.
    struct Bench {
        memory: Arc<MemoryStore>,
        recording: Arc<Recording>,
        repository: Arc<Repository>,
    }

    impl Bench {
        fn new() -> Self {
            let memory = Arc::new(MemoryStore::new());
            let recording = Arc::new(Recording::new(Arc::new(Distant(memory.clone()))));
            Self {
                repository: Repository::init(recording.clone(), &InitOptions::default()).unwrap(),
                recording,
                memory,
            }
        }

        fn commit(&self, days: Range<i64>) {
            for day in days {
                commit(&self.repository, &point(day)).unwrap();
            }
        }

        /// Commits points, and rolls up as often as backups would.
        fn back_up(&self, days: Range<i64>) {
            for first in days.clone().step_by(ROLL_UP_MIN) {
                self.commit(first..days.end.min(first + ROLL_UP_MIN as i64));
                roll_up(&self.repository).unwrap();
            }
        }

        fn asked(&self) -> Vec<(RequestKind, String)> {
            let requests = self.recording.take().into_iter();
            requests
                .map(|request| (request.kind, request.name))
                .collect()
        }
    }

    fn id(day: i64) -> PointId {
        PointId {
            seconds: day * DAY,
            random: day as u32,
        }
    }

    fn point(day: i64) -> Point {
        let mut point = Point::sample(id(day));
        point.sequence = day as u64;
        point.runs[0].footer = Some(vec![1; 50]);
        point
    }

    fn days(catalogue: &Catalogue) -> Vec<i64> {
        let points = catalogue.points();
        points.iter().map(|point| point.id.seconds / DAY).collect()
    }

    #[test]
    fn many_points_are_a_few_requests() {
        let bench = Bench::new();
        bench.commit(0..1000);
        assert!(roll_up(&bench.repository).unwrap());
        bench.commit(1000..1010);
        bench.asked();
        let catalogue = Catalogue::load_hastily(&bench.repository).unwrap();
        assert!(catalogue.is_hasty());
        assert_eq!(days(&catalogue), (0..1010).collect::<Vec<_>>());
        let asked = bench.asked();
        assert_eq!(asked.len(), 3 + 10, "{asked:?}");
        let catalogue = Catalogue::load(&bench.repository).unwrap();
        assert_eq!(days(&catalogue), (0..1010).collect::<Vec<_>>());
        assert_eq!(bench.asked().len(), 3 + 10);
        assert!(!roll_up(&bench.repository).unwrap());
    }

    #[test]
    fn roll_ups_grow_in_tiers_and_few_are_read() {
        let bench = Bench::new();
        bench.back_up(0..700);
        let ids = roll_ups(&bench.repository).unwrap();
        assert_eq!(ids.len(), 21);
        bench.asked();
        let catalogue = Catalogue::load(&bench.repository).unwrap();
        assert_eq!(days(&catalogue), (0..700).collect::<Vec<_>>());
        let is_roll_up =
            |name: &str| name.len() > CATALOGUE_PREFIX.len() && name.starts_with(CATALOGUE_PREFIX);
        let read = bench
            .asked()
            .iter()
            .filter(|(_, name)| is_roll_up(name))
            .count();
        assert_eq!(read, 7, "two of 256 points and five of 32");
        assert_eq!(catalogue.roll_ups().len(), 7);
    }

    #[test]
    fn a_header_from_a_roll_up_is_the_points_own_but_for_footers() {
        let bench = Bench::new();
        bench.commit(0..40);
        roll_up(&bench.repository).unwrap();
        let catalogue = Catalogue::load(&bench.repository).unwrap();
        bench.asked();
        let rolled = &catalogue.points()[7];
        assert_eq!(**rolled, point(7).without_footers());
        let whole = super::super::with_footers(&bench.repository, rolled).unwrap();
        assert_eq!(*whole, point(7));
        let again = super::super::with_footers(&bench.repository, &whole).unwrap();
        assert_eq!(*again, point(7));
        assert_eq!(bench.asked().len(), 1);
    }

    #[test]
    fn what_was_forgotten_is_not_there_and_the_hasty_find_out() {
        let bench = Bench::new();
        bench.commit(0..50);
        roll_up(&bench.repository).unwrap();
        bench.memory.lose(&point_name(&id(3)));
        bench.memory.lose(&point_name(&id(49)));
        let whole = Catalogue::load(&bench.repository).unwrap();
        assert!(!days(&whole).contains(&3) && days(&whole).len() == 48);
        let mut hasty = Catalogue::load_hastily(&bench.repository).unwrap();
        assert!(days(&hasty).contains(&3) && !days(&hasty).contains(&49));
        bench.commit(60..61);
        let (new, gone) = hasty.refresh_all(&bench.repository).unwrap();
        assert_eq!((new.len(), gone), (1, vec![id(3)]));
        assert_eq!(
            days(&hasty),
            days(&Catalogue::load(&bench.repository).unwrap())
        );
        assert!(!hasty.is_hasty());
    }

    #[test]
    fn a_point_that_comes_late_is_found_and_rolled_up_too() {
        let bench = Bench::new();
        bench.commit(0..10);
        bench.commit(20..60);
        roll_up(&bench.repository).unwrap();
        bench.commit(10..20);
        bench.commit(100..130);
        assert!(roll_up(&bench.repository).unwrap());
        let expected: Vec<i64> = (0..60).chain(100..130).collect();
        assert_eq!(
            days(&Catalogue::load_hastily(&bench.repository).unwrap()),
            expected
        );
        bench.asked();
        Catalogue::load(&bench.repository).unwrap();
        assert_eq!(bench.asked().len(), 4);
    }

    #[test]
    fn a_damaged_roll_up_costs_time_and_nothing_else() {
        let bench = Bench::new();
        bench.back_up(0..300);
        for id in roll_ups(&bench.repository).unwrap() {
            bench.memory.damage(&roll_up_name(&id), b"nonsense");
        }
        bench.memory.damage("catalogue/README", b"hello");
        for catalogue in [Catalogue::load, Catalogue::load_each] {
            let catalogue = catalogue(&bench.repository).unwrap();
            assert_eq!(days(&catalogue), (0..300).collect::<Vec<_>>());
            assert_eq!(catalogue.damaged().count(), 0);
        }
        let mut hasty = Catalogue::load_hastily(&bench.repository).unwrap();
        hasty.refresh_all(&bench.repository).unwrap();
        assert_eq!(days(&hasty).len(), 300);
    }

    #[test]
    fn a_roll_up_that_only_a_damaged_one_supersedes_is_read() {
        let bench = Bench::new();
        bench.back_up(0..256);
        let ids = roll_ups(&bench.repository).unwrap();
        let largest = ids
            .iter()
            .find(|id| ids.iter().all(|it| it == *id || is_within(it, id)));
        bench
            .memory
            .damage(&roll_up_name(largest.unwrap()), b"nonsense");
        bench.asked();
        let catalogue = Catalogue::load(&bench.repository).unwrap();
        assert_eq!(days(&catalogue).len(), 256);
        let headers = bench
            .asked()
            .iter()
            .filter(|(kind, name)| *kind == RequestKind::Get && name.starts_with(POINTS_PREFIX))
            .count();
        assert_eq!(headers, 32, "those of the last roll-up alone");
    }
}
