//! Origins: does a run lead from every origin and link group of its records to a row that has it, and do the points
//! that stand on it know whose rows it holds? A mount finds an unchanged file by that, whichever runs were merged.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Check;
use crate::base::{Origin, Row, RunId};
use crate::format::{Entry, RunReference, Tables};
use crate::manifest::Run;

/// Asks one run for the origins of its records, as a reader would.
pub(super) struct OriginsProbe {
    run: Arc<Run>,
    /// Entries of the origin map that led to the very row that was checked.
    led: u64,
}

impl OriginsProbe {
    /// Of a run whose origin map can be read. None if the reader cannot open it, which is told elsewhere.
    pub(super) fn open(check: &Check<'_>, reference: &RunReference) -> Option<Self> {
        let run = Run::open(&check.fetcher, reference).ok()?;
        Some(Self { run, led: 0 })
    }

    /// What is wrong with how an entry, at this row of the files, is found; None if nothing is.
    pub(super) fn problem(&mut self, row: Row, entry: &Entry) -> Option<String> {
        let group = entry.group.filter(|group| Some(*group) != entry.origin);
        let own = self.run.id();
        [entry.origin, group]
            .into_iter()
            .flatten()
            .filter(|origin| origin.run != own)
            .find_map(|origin| self.problem_of_origin(row, origin))
    }

    /// Several rows may have one origin, and the first of them is found.
    fn problem_of_origin(&mut self, row: Row, origin: Origin) -> Option<String> {
        let Origin {
            run,
            row: origin_row,
        } = origin;
        match self.run.row_of_origin(origin) {
            Ok(Some(found)) if found == row => {
                self.led += 1;
                None
            }
            Ok(Some(found)) if found < row => None,
            Ok(_) => Some(format!(
                "row {} is not found by its origin, row {} of run {run}",
                row.0, origin_row.0
            )),
            Err(error) => Some(error.to_string()),
        }
    }

    /// What is wrong with the origin map, of so many entries, when all records were asked about.
    pub(super) fn problem_in_all(&self, entries: u64) -> Option<String> {
        let led = self.led;
        (led != entries).then(|| {
            format!("its origin map has {entries} entries, and {led} lead to a row of that origin")
        })
    }
}

/// Does a point know which other runs' rows a run holds?
pub(super) fn knows_origins(reference: &RunReference, tables: &Tables) -> bool {
    let other = |runs: &[RunId]| -> BTreeSet<RunId> {
        let others = runs.iter().filter(|run| **run != reference.id);
        others.copied().collect()
    };
    other(&reference.origins) == other(tables.runs())
}
