//! What differs between two chains: a merge of the runs that only one of them has.
//!
//! Runs at the end of both chains are skipped: what they say, they say to both. A key that is in no other run has the
//! same entry on both sides. One that only one side's own runs record is looked up in the runs that are shared, and so
//! the time is that of the runs that differ. An entry of one origin is one version and is passed over unseen.
//!
//! Deliberately not here: which paths a person wants to hear of, and what is done with the versions.

use std::sync::Arc;

use crate::base::{Key, Result};
use crate::fetch::Fetcher;
use crate::format::KeyedRecord;

use super::chain::{Chain, Found, SECTIONS, found};
use super::changes::Changes;
use super::merge::{Merge, Source};
use super::run::Run;

/// A path that two points show differently. One of `old` and `new` is there at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub key: Key,
    /// Its entry in the first chain.
    pub old: Option<Found>,
    /// Its entry in the second one.
    pub new: Option<Found>,
    /// What differs, if both are there. Not nothing.
    pub changes: Changes,
}

/// What a side's own runs say of a key in each section: nothing, or that it has an entry or none.
type Said = [Option<Option<Found>>; SECTIONS.len()];

/// A key, and its entries in the first chain and in the second.
type Pair = (Key, Option<Found>, Option<Found>);

/// Goes through the differences between two chains, in order of keys. After an error it ends.
pub struct Differences {
    fetcher: Arc<Fetcher>,
    /// The subtree's root, until it was told.
    itself: Option<(Chain, Chain, Key)>,
    /// None once all was told.
    sides: Option<Result<Sides>>,
}

struct Sides {
    old: Side,
    new: Side,
    /// The runs that both have.
    shared: Chain,
}

/// The runs that one of the chains has for itself, and a place among what they record.
struct Side {
    merge: Merge,
    /// How many they are.
    runs: usize,
}

impl Differences {
    /// What differs at `below` and below it, of two chains of the fetcher's repository.
    pub fn between(fetcher: &Arc<Fetcher>, old: &Chain, new: &Chain, below: &Key) -> Self {
        Self {
            fetcher: Arc::clone(fetcher),
            // The root's key begins with the prefix of all that is below it, no other directory's does.
            itself: (!below.is_root()).then(|| (old.clone(), new.clone(), below.clone())),
            sides: Some(Sides::open(old, new, &below.descendants_prefix())),
        }
    }

    fn advance(&mut self) -> Result<Option<Difference>> {
        if let Some((old, new, key)) = self.itself.take() {
            let (old, new) = (old.lookup(&key)?, new.lookup(&key)?);
            if let Some(difference) = self.difference(key, old, new)? {
                return Ok(Some(difference));
            }
        }
        loop {
            let step = match &mut self.sides {
                None => return Ok(None),
                Some(Ok(sides)) => sides.advance()?,
                Some(Err(_)) => {
                    let error = self.sides.take().and_then(Result::err);
                    return error.map_or(Ok(None), Err);
                }
            };
            let Some((key, old, new)) = step else {
                return Ok(None);
            };
            if let Some(difference) = self.difference(key, old, new)? {
                return Ok(Some(difference));
            }
        }
    }

    fn difference(
        &self,
        key: Key,
        old: Option<Found>,
        new: Option<Found>,
    ) -> Result<Option<Difference>> {
        let changes = match (&old, &new) {
            (None, None) => return Ok(None),
            (Some(old), Some(new)) => {
                if old.origin == new.origin {
                    return Ok(None);
                }
                let changes = Changes::between(&self.fetcher, &old.entry, &new.entry)?;
                if changes.is_empty() {
                    return Ok(None);
                }
                changes
            }
            _ => Changes::default(),
        };
        Ok(Some(Difference {
            key,
            old,
            new,
            changes,
        }))
    }
}

impl Iterator for Differences {
    type Item = Result<Difference>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.advance().transpose();
        if !matches!(step, Some(Ok(_))) {
            self.sides = None;
        }
        step
    }
}

impl Sides {
    fn open(old: &Chain, new: &Chain, prefix: &[u8]) -> Result<Self> {
        let runs = old.runs().iter().rev().zip(new.runs().iter().rev());
        let count = runs.take_while(|(old, new)| old.id() == new.id()).count();
        let (old_runs, _) = old.runs().split_at(old.runs().len() - count);
        let (new_runs, shared) = new.runs().split_at(new.runs().len() - count);
        Ok(Self {
            old: Side::open(old_runs, prefix)?,
            new: Side::open(new_runs, prefix)?,
            shared: Chain::of_runs(shared.to_vec()),
        })
    }

    /// What both chains have at the next key that one's own runs record. None at the end.
    fn advance(&mut self) -> Result<Option<Pair>> {
        let key = match (self.old.key(), self.new.key()) {
            (None, None) => return Ok(None),
            (Some(old), Some(new)) => old.min(new),
            (Some(key), None) | (None, Some(key)) => key,
        };
        let key = Key::from_bytes(key.to_vec())?;
        let (mut old, mut new) = (self.old.take(&key)?, self.new.take(&key)?);
        for (section, (old, new)) in SECTIONS.into_iter().zip(old.iter_mut().zip(&mut new)) {
            // Of a section in which neither says anything, both have the same, and it is hidden by the other section
            // or hides it on both sides.
            if old.is_some() != new.is_some() {
                let below = self.shared.lookup_in(section, &key)?;
                old.get_or_insert_with(|| self.old.above(below.clone()));
                new.get_or_insert_with(|| self.new.above(below));
            }
        }
        Ok(Some((key, live(old), live(new))))
    }
}

impl Side {
    fn open(runs: &[Arc<Run>], prefix: &[u8]) -> Result<Self> {
        let chain = Chain::of_runs(runs.to_vec());
        let mut merge = chain.merge(&SECTIONS, prefix, prefix, |_| Ok(true))?;
        merge.advance()?;
        Ok(Self {
            merge,
            runs: runs.len(),
        })
    }

    /// The next key; None at the end.
    fn key(&self) -> Option<&[u8]> {
        self.merge.current().map(|source| source.cursor.key())
    }

    /// What is said of `key`, if it is the next one.
    fn take(&mut self, key: &Key) -> Result<Said> {
        let mut said = Said::default();
        while let Some(Source { run, cursor }) = self.merge.current()
            && cursor.key() == key.as_bytes()
        {
            let record = KeyedRecord {
                key: key.clone(),
                row: cursor.row(),
                record: cursor.record()?,
            };
            said[cursor.section() as usize] = Some(found(*run, cursor.run_id(), record));
            self.merge.advance()?;
        }
        Ok(said)
    }

    /// What lies in the shared runs, as an entry of this side's whole chain.
    fn above(&self, below: Option<Found>) -> Option<Found> {
        below.map(|found| Found {
            run: found.run + self.runs,
            ..found
        })
    }
}

/// A key has one entry at most.
fn live(said: Said) -> Option<Found> {
    said.into_iter().flatten().flatten().next()
}
