//! All paths of many points: for each, what every point has there.
//!
//! One merge over all runs that any of the points stands on, each read once, however many points there are. Nothing is
//! hidden in it: which record a point shows is settled for each path, by which of its runs is the newest.
//!
//! The two sections are told apart, as no point has a path in both: what was a file and is a directory comes twice, each
//! time with the points in which it was that.

use std::collections::HashMap;

use crate::base::{Key, Origin, Result, RunId};
use crate::format::{Entry, Record, Section};

use super::chain::{Chain, SECTIONS};
use super::cursor::Cursor;
use super::merge::{Merge, Source};

/// Goes through the paths of many points, in order of keys.
pub struct Timeline {
    merge: Merge,
    /// For each run, by its number in the merge: the points that stand on it.
    standing: Vec<Vec<Standing>>,
    points: usize,
}

/// A point that stands on a run.
#[derive(Clone, Copy)]
struct Standing {
    point: usize,
    /// The run's place in the point's chain: the lower, the newer.
    place: usize,
}

/// What many points have at one path, in one section.
pub struct PathVersions {
    pub key: Key,
    pub section: Section,
    /// What runs record of it.
    records: Vec<Option<Version>>,
    /// By the number of a point, the record that it shows.
    shown: Vec<Option<usize>>,
}

/// An entry as a run records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Where it was first recorded.
    pub origin: Origin,
    pub entry: Box<Entry>,
}

impl PathVersions {
    /// What each point has, in the order in which their chains were given.
    pub fn by_point(&self) -> impl Iterator<Item = Option<&Version>> {
        let shown = self.shown.iter();
        shown.map(|record| self.records.get((*record)?)?.as_ref())
    }
}

impl Timeline {
    /// All that these chains have below a directory; of the root, itself too.
    ///
    /// # Errors
    /// Those of reading a run, here and below.
    pub fn open(chains: &[Chain], below: &Key) -> Result<Self> {
        let prefix = below.descendants_prefix();
        let mut numbers: HashMap<RunId, usize> = HashMap::new();
        let mut standing: Vec<Vec<Standing>> = Vec::new();
        let mut sources = Vec::new();
        for (point, chain) in chains.iter().enumerate() {
            for (place, run) in chain.runs().iter().enumerate() {
                let number = *numbers.entry(run.id()).or_insert(standing.len());
                if number == standing.len() {
                    standing.push(Vec::new());
                    for section in SECTIONS {
                        let cursor = Cursor::open(run, section, &prefix, prefix.clone())?;
                        sources.extend(cursor.map(|cursor| Source {
                            run: number,
                            cursor,
                        }));
                    }
                }
                standing[number].push(Standing { point, place });
            }
        }
        let mut merge = Merge::of_all(sources)?;
        merge.advance()?;
        Ok(Self {
            merge,
            standing,
            points: chains.len(),
        })
    }

    /// The next path that is wanted, by the bytes of its key and its section; None at the end. Of others no record is
    /// decoded. It may be of no point at all, if all that is left of it are tombstones.
    pub fn next(
        &mut self,
        is_wanted: &mut dyn FnMut(&[u8], Section) -> bool,
    ) -> Result<Option<PathVersions>> {
        let mut key = Vec::new();
        while let Some(source) = self.merge.current() {
            key.clear();
            key.extend_from_slice(source.cursor.key());
            let section = source.cursor.section();
            if is_wanted(&key, section) {
                return self.take(Key::from_bytes(key)?, section).map(Some);
            }
            while self.is_at(&key, section) {
                self.merge.advance()?;
            }
        }
        Ok(None)
    }

    /// All that is recorded of a key, which is the next one.
    fn take(&mut self, key: Key, section: Section) -> Result<PathVersions> {
        let mut records = Vec::new();
        let mut newest: Vec<Option<(usize, usize)>> = vec![None; self.points];
        while let Some(Source { run, cursor }) = self.merge.current()
            && self.is_at(key.as_bytes(), section)
        {
            for Standing { point, place } in &self.standing[*run] {
                let newest = &mut newest[*point];
                if newest.is_none_or(|(newest, _)| *place < newest) {
                    *newest = Some((*place, records.len()));
                }
            }
            records.push(match cursor.record()? {
                Record::Tombstone { .. } => None,
                Record::Entry(entry) => Some(Version {
                    origin: entry.origin.unwrap_or(Origin {
                        run: cursor.run_id(),
                        row: cursor.row(),
                    }),
                    entry,
                }),
            });
            self.merge.advance()?;
        }
        let shown = newest
            .into_iter()
            .map(|newest| newest.map(|(_, record)| record));
        Ok(PathVersions {
            key,
            section,
            records,
            shown: shown.collect(),
        })
    }

    fn is_at(&self, key: &[u8], section: Section) -> bool {
        let cursor = self.merge.current().map(|source| &source.cursor);
        cursor.is_some_and(|cursor| cursor.section() == section && cursor.key() == key)
    }
}
