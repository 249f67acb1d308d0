//! All versions of one path: what each of many points has there.
//!
//! A run is asked once, however many points stand on it, and one that does not have the path says so by its filters: no
//! block of it is read.

use std::collections::HashMap;

use crate::base::{Key, Result, RunId};
use crate::format::run::filter_hash;
use crate::format::{KeyedRecord, Section};

use super::chain::{Chain, Found, SECTIONS, found};
use super::run::Run;

/// What runs record of one path, as far as they were asked.
pub struct Versions {
    key: Key,
    hash: u64,
    /// None for a run that has nothing of it.
    records: HashMap<(RunId, Section), Option<KeyedRecord>>,
}

impl Versions {
    /// The versions of this path; nothing is asked yet.
    pub fn of(key: &Key) -> Self {
        Self {
            key: key.clone(),
            hash: filter_hash(key.as_bytes()),
            records: HashMap::new(),
        }
    }

    /// The path's live entry in a chain. Chains of one repository may follow in any order.
    ///
    /// # Errors
    /// Those of reading a run.
    pub fn in_chain(&mut self, chain: &Chain) -> Result<Option<Found>> {
        for section in SECTIONS {
            for (place, run) in chain.runs().iter().enumerate() {
                if let Some(record) = self.in_run(run, section)? {
                    match found(place, run.id(), record.clone()) {
                        Some(found) => return Ok(Some(found)),
                        None => break,
                    }
                }
            }
        }
        Ok(None)
    }

    fn in_run(&mut self, run: &Run, section: Section) -> Result<Option<&KeyedRecord>> {
        let asked = (run.id(), section);
        if !self.records.contains_key(&asked) {
            let may_have =
                !run.has_filters() || run.may_have(section, self.key.as_bytes(), self.hash)?;
            let record = match may_have {
                true => run.lookup(section, &self.key)?,
                false => None,
            };
            self.records.insert(asked, record);
        }
        Ok(self.records.get(&asked).and_then(Option::as_ref))
    }
}
