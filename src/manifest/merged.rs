//! Writes one run in place of several that are neighbours in a chain.
//!
//! The merged run records what the newest of its sources does of each key, and every row names its origin, so that
//! nodes, inode numbers and cached pages stay those of the runs that it replaces; its origin map leads from there to
//! the rows here. Content stays where it is: extents, extent lists and their hints are copied, and so are link
//! groups and whatever a later version appended to an entry.
//!
//! A tombstone stays for as long as an older run may have its key. Warnings are left behind: a point's are in its own
//! run, which is the newest it names and which its own backup never merges. The sources are read, and nothing else:
//! whoever stands on them goes on doing so.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{Origin, Result};
use crate::format::run::{Owner, filter_hash};
use crate::format::{Record, RunReference, Section};
use crate::repo::Repository;

use super::chain::{Chain, SECTIONS};
use super::cursor::Cursor;
use super::merge::{Merge, Source};
use super::run::Run;
use super::writer::RunWriter;

/// Records between two looks at whether to go on: some milliseconds.
const RECORDS_BETWEEN_LOOKS: u64 = 4096;

/// Writes a run that stands for the `count` newest runs of a chain. `go_on` is asked now and then, and ends the work
/// with its error.
///
/// # Errors
/// Those of reading the runs, of writing one, and of `go_on`; nothing is left behind then.
pub fn merge_newest(
    repository: &Repository,
    chain: &Chain,
    count: usize,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<RunReference> {
    let (sources, older) = chain.runs().split_at(count);
    // A base run has no filters, and with it no older run is left.
    let mut merging = Merging {
        writer: RunWriter::create(repository, !older.is_empty())?,
        older,
        devices: Devices::of(count),
        records: 0,
        go_on,
    };
    for section in SECTIONS {
        merging.section(section, sources)?;
    }
    merging.owners(sources)?;
    merging.writer.finish()
}

struct Merging<'a> {
    writer: RunWriter<'a>,
    /// The runs of the chain that are not merged.
    older: &'a [Arc<Run>],
    devices: Devices,
    records: u64,
    go_on: &'a dyn Fn() -> Result<()>,
}

impl Merging<'_> {
    fn section(&mut self, section: Section, runs: &[Arc<Run>]) -> Result<()> {
        let mut sources = Vec::with_capacity(runs.len());
        for (run, reader) in runs.iter().enumerate() {
            let cursor = Cursor::open(reader, section, b"", Vec::new())?;
            sources.extend(cursor.map(|cursor| Source { run, cursor }));
        }
        let mut merge = Merge::new(sources)?;
        while let Some(source) = merge.advance()? {
            self.take(section, source)?;
        }
        Ok(())
    }

    fn take(&mut self, section: Section, source: &Source) -> Result<()> {
        if self.records.is_multiple_of(RECORDS_BETWEEN_LOOKS) {
            (self.go_on)()?;
        }
        self.records += 1;
        let cursor = &source.cursor;
        let mut record = cursor.record()?;
        match &mut record {
            Record::Tombstone { .. } => {
                if !self.may_be_older(section, cursor.key())? {
                    return Ok(());
                }
            }
            Record::Entry(entry) => {
                entry.origin.get_or_insert(Origin {
                    run: cursor.run_id(),
                    row: cursor.row(),
                });
                let device = &mut entry.metadata.device;
                *device = self.devices.ordinal(source.run, *device);
            }
        }
        self.writer
            .append(&cursor.to_key()?, section, &record)
            .map(drop)
    }

    /// May a run that is not merged have the key? A no is certain.
    fn may_be_older(&self, section: Section, key: &[u8]) -> Result<bool> {
        let hash = filter_hash(key);
        for run in self.older {
            if run.may_have(section, key, hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the owners' names over. The newest comes first: a name that is learnt stays.
    fn owners(&mut self, sources: &[Arc<Run>]) -> Result<()> {
        for run in sources {
            let owners = run.owners()?;
            for (id, name) in owners.users {
                self.writer.owner(&Owner::User { id, name });
            }
            for (id, name) in owners.groups {
                self.writer.owner(&Owner::Group { id, name });
            }
        }
        Ok(())
    }
}

/// Gives the devices of all sources ordinals of one run. Which of theirs are the same nobody can tell, so that each
/// source's are told apart from the others'.
struct Devices {
    ordinals: HashMap<(usize, u32), u32>,
}

impl Devices {
    /// Of so many sources. The oldest one's first device keeps its 0, which costs no byte: most entries have it.
    fn of(sources: usize) -> Self {
        Self {
            ordinals: HashMap::from([((sources.saturating_sub(1), 0), 0)]),
        }
    }

    fn ordinal(&mut self, source: usize, ordinal: u32) -> u32 {
        let next = u32::try_from(self.ordinals.len()).unwrap_or(u32::MAX);
        *self.ordinals.entry((source, ordinal)).or_insert(next)
    }
}
