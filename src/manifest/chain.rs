//! A chain: the runs of a point seen as one tree. Newest wins on the exact key of each section, tombstones hide.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::base::{Error, Key, Origin, Result, Row, RunId};
use crate::fetch::Fetcher;
use crate::format::run::filter_hash;
use crate::format::{Entry, KeyedRecord, Point, Record, Section};
use crate::repo::with_footers;

use super::cursor::Cursor;
use super::merge::{Merge, Source};
use super::run::Run;

/// The sections, in the order in which a key's records in both are told.
pub(super) const SECTIONS: [Section; 2] = [Section::Directories, Section::Files];

/// The runs that a point stands on. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct Chain {
    runs: Arc<[Arc<Run>]>,
}

/// A live entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub key: Key,
    /// The place in the chain of the run that records it: 0 is the newest.
    pub run: usize,
    /// Its row there.
    pub row: Row,
    pub entry: Box<Entry>,
    /// Where this version of it was first recorded: the entry's own origin, or else this row.
    pub origin: Origin,
}

impl Chain {
    /// The chain of a point. Reads the footers that the point does not have itself, and nothing else; where the point comes
    /// from a roll-up, its header for those that are in there.
    ///
    /// # Errors
    /// Those of `Run::open`, here and below.
    pub fn open(fetcher: &Arc<Fetcher>, point: &Point) -> Result<Self> {
        let runs = with_footers(fetcher.repository(), point)?
            .runs
            .iter()
            .map(|reference| Run::open(fetcher, reference))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self::of_runs(runs))
    }

    /// The chain of these runs, newest first: for one who keeps runs that several points share.
    pub fn of_runs(runs: Vec<Arc<Run>>) -> Self {
        Self { runs: runs.into() }
    }

    /// The runs, newest first.
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// The live entry of a key.
    ///
    /// # Errors
    /// See `open`.
    pub fn lookup(&self, key: &Key) -> Result<Option<Found>> {
        let hash = OnceCell::new();
        for section in SECTIONS {
            if let Some(found) = self.lookup_with(key, section, &hash)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The live entry of a key in one section, for one who knows its type.
    ///
    /// # Errors
    /// See `open`.
    pub fn lookup_in(&self, section: Section, key: &Key) -> Result<Option<Found>> {
        self.lookup_with(key, section, &OnceCell::new())
    }

    /// What a row of the chain's run at place `run` records; None if that is a tombstone.
    ///
    /// # Errors
    /// See `open`.
    pub fn row(&self, run: usize, section: Section, row: Row) -> Result<Option<Found>> {
        let Some(reader) = self.runs.get(run) else {
            return Err(Error::corrupt(
                "a chain",
                format_args!("its run {run} was asked for, of {}", self.runs.len()),
            ));
        };
        Ok(found(run, reader.id(), reader.row(section, row)?))
    }

    /// The newest row, not of a directory, that has this origin or is of the group of its first member; as the place
    /// of its run in the chain and the row there.
    ///
    /// # Errors
    /// See `open`.
    pub fn row_of_origin(&self, origin: Origin) -> Result<Option<(usize, Row)>> {
        for (place, run) in self.runs.iter().enumerate() {
            if let Some(row) = run.row_of_origin(origin)? {
                return Ok(Some((place, row)));
            }
        }
        Ok(None)
    }

    /// The live entries directly in a directory, of one section, in order of names; those that follow the name `after`.
    pub fn children(&self, directory: &Key, section: Section, after: Option<&[u8]>) -> Entries {
        let prefix = directory.children_prefix();
        let mut from = prefix.clone();
        if let Some(name) = after {
            // No name has a zero, so that nothing lies between.
            from.extend_from_slice(name);
            from.push(0);
        }
        let hash = OnceCell::new();
        let merge = self.merge(&[section], &from, &prefix, |run| {
            if !run.has_filters() {
                return Ok(true);
            }
            let hash = *hash.get_or_init(|| filter_hash(&prefix));
            run.may_have_children_with(section, &prefix, hash)
        });
        Entries::new(None, merge)
    }

    /// The live entries of a subtree, its root among them, in order of keys.
    pub fn entries(&self, below: &Key) -> Entries {
        let prefix = below.descendants_prefix();
        // The root's key begins with the prefix of all that is below it, no other directory's does.
        let itself = (!below.is_root()).then(|| self.lookup(below));
        let merge = self.merge(&SECTIONS, &prefix, &prefix, |_| Ok(true));
        Entries::new(itself.and_then(Result::transpose), merge)
    }

    /// The live entries of a subtree that are in one section, its root if that is, in order of keys.
    pub fn entries_in(&self, section: Section, below: &Key) -> Entries {
        let prefix = below.descendants_prefix();
        let itself = (!below.is_root()).then(|| self.lookup_in(section, below));
        let merge = self.merge(&[section], &prefix, &prefix, |_| Ok(true));
        Entries::new(itself.and_then(Result::transpose), merge)
    }

    fn lookup_with(
        &self,
        key: &Key,
        section: Section,
        hash: &OnceCell<u64>,
    ) -> Result<Option<Found>> {
        for (place, run) in self.runs.iter().enumerate() {
            if run.has_filters() {
                let hash = *hash.get_or_init(|| filter_hash(key.as_bytes()));
                if !run.may_have(section, key.as_bytes(), hash)? {
                    continue;
                }
            }
            if let Some(record) = run.lookup(section, key)? {
                return Ok(found(place, run.id(), record));
            }
        }
        Ok(None)
    }

    /// All that these sections of the runs that are wanted have from `from` on, as far as it begins with `prefix`.
    pub(super) fn merge(
        &self,
        sections: &[Section],
        from: &[u8],
        prefix: &[u8],
        is_wanted: impl Fn(&Run) -> Result<bool>,
    ) -> Result<Merge> {
        let mut sources = Vec::new();
        for (place, run) in self.runs.iter().enumerate() {
            if !is_wanted(run)? {
                continue;
            }
            for section in sections {
                if let Some(cursor) = Cursor::open(run, *section, from, prefix.to_vec())? {
                    sources.push(Source { run: place, cursor });
                }
            }
        }
        Merge::new(sources)
    }
}

/// A record as a live entry; None for a tombstone.
pub(super) fn found(place: usize, run: RunId, record: KeyedRecord) -> Option<Found> {
    let KeyedRecord { key, row, record } = record;
    match record {
        Record::Tombstone { .. } => None,
        Record::Entry(entry) => Some(Found {
            key,
            run: place,
            row,
            origin: entry.origin.unwrap_or(Origin { run, row }),
            entry,
        }),
    }
}

/// Goes through live entries as an iterator. After an error it ends.
pub struct Entries {
    first: Option<Result<Found>>,
    merge: Option<Result<Merge>>,
}

impl Entries {
    fn new(first: Option<Result<Found>>, merge: Result<Merge>) -> Self {
        Self {
            first,
            merge: Some(merge),
        }
    }

    fn step(merge: &mut Merge) -> Result<Option<Found>> {
        while let Some(Source { run, cursor }) = merge.advance()? {
            if let Record::Entry(entry) = cursor.record()? {
                let row = cursor.row();
                let run_id = cursor.run_id();
                return Ok(Some(Found {
                    key: cursor.to_key()?,
                    run: *run,
                    row,
                    origin: entry.origin.unwrap_or(Origin { run: run_id, row }),
                    entry,
                }));
            }
        }
        Ok(None)
    }
}

impl Iterator for Entries {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = match self.first.take() {
            Some(first) => Some(first),
            None => match self.merge.as_mut()? {
                Ok(merge) => Self::step(merge).transpose(),
                Err(_) => self.merge.take().and_then(Result::err).map(Err),
            },
        };
        if !matches!(step, Some(Ok(_))) {
            self.merge = None;
        }
        step
    }
}
