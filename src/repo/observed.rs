//! What was seen of a repository's points while it was open, for a client that remembers it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::memory::Memory;
use crate::base::PointId;
use crate::format::Point;

/// The newest point of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    pub sequence: u64,
    pub point: PointId,
}

/// What was seen. Any thread may add to it.
#[derive(Debug, Default)]
pub struct Observed {
    seen: Mutex<Seen>,
    /// What was known before, if anything was.
    remembered: OnceLock<Memory>,
    /// Sets of which it was told that they have gone back.
    told: Mutex<BTreeSet<(String, String)>>,
}

/// The points of all that was read and listed.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The newest point of each set, by host and set name.
    pub newest: BTreeMap<(String, String), Newest>,
    /// All points that the last whole listing had, in order; None if there was none.
    pub listed: Option<Vec<PointId>>,
}

impl Observed {
    /// A header was read, or written.
    pub(super) fn point(&self, point: &Point) {
        let mut seen = self.seen();
        let found = Newest {
            sequence: point.sequence,
            point: point.id,
        };
        if let Some(listed) = &mut seen.listed
            && let Err(place) = listed.binary_search(&point.id)
        {
            listed.insert(place, point.id);
        }
        let set = (point.host.clone(), point.set.clone());
        let newest = seen.newest.entry(set).or_insert(found);
        if found.sequence > newest.sequence {
            *newest = found;
        }
    }

    /// All points were listed: these, in order.
    pub(super) fn listing(&self, ids: Vec<PointId>) {
        self.seen().listed = Some(ids);
    }

    /// What was known before the repository was opened. Only the first call counts.
    pub fn remembers(&self, memory: Memory) {
        drop(self.remembered.set(memory));
    }

    /// What was known before.
    pub(super) fn remembered(&self) -> Option<&Memory> {
        self.remembered.get()
    }

    /// Is it the first time that it is to be told that this set has gone back?
    pub(super) fn tells_first(&self, host: &str, set: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert((host.to_owned(), set.to_owned()))
    }

    /// What was seen until now.
    pub fn so_far(&self) -> Seen {
        self.seen().clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
