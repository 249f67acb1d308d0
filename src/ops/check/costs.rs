//! What damage costs: the paths of points whose live entry is one that is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Check;
use super::locations::Locations;
use super::records::each_entry;
use super::runs::{open_quietly, read_tables};
use crate::base::{Key, Result, Row, RunId};
use crate::format::Point;
use crate::manifest::Chain;

/// Lost entries that are gathered before the points are asked for them: a chain is opened once for so many.
const GATHERED_MAX: usize = 10_000;

/// An entry of a run whose content is not to be had.
pub(super) struct Lost {
    pub(super) key: Key,
    pub(super) row: Row,
    pub(super) problem: String,
}

/// Gathers what is lost of one run, and tells which points that concerns.
pub(super) struct Costs<'a> {
    check: &'a Check<'a>,
    run: RunId,
    points: &'a [Arc<Point>],
    lost: Vec<Lost>,
}

impl<'a> Costs<'a> {
    pub(super) fn new(check: &'a Check<'a>, run: RunId, points: &'a [Arc<Point>]) -> Self {
        Self {
            check,
            run,
            points,
            lost: Vec::new(),
        }
    }

    /// An entry is lost.
    pub(super) fn add(&mut self, lost: Lost) -> Result<()> {
        self.lost.push(lost);
        if self.lost.len() == GATHERED_MAX {
            self.tell()?;
        }
        Ok(())
    }

    /// Something is lost that cannot be named by its paths.
    pub(super) fn lose_part(&self, what: &str) -> Result<()> {
        let problem = format!("run {}: {what}", self.run);
        self.points
            .iter()
            .try_for_each(|point| self.check.reporter.part_lost(point.id, problem.clone()))
    }

    /// Tells of what was not told yet.
    pub(super) fn finish(mut self) -> Result<()> {
        self.tell()
    }

    fn tell(&mut self) -> Result<()> {
        let lost = std::mem::take(&mut self.lost);
        if lost.is_empty() {
            return Ok(());
        }
        for point in self.points {
            self.check.go_on()?;
            match Chain::open(&self.check.fetcher, point) {
                Ok(chain) => self.tell_of_point(point, &chain, &lost)?,
                Err(error) => self
                    .check
                    .reporter
                    .part_lost(point.id, format!("its chain cannot be opened: {error}"))?,
            }
        }
        Ok(())
    }

    /// Tells which of the lost entries are this point's live ones: newer runs may hide them.
    fn tell_of_point(&self, point: &Point, chain: &Chain, lost: &[Lost]) -> Result<()> {
        for Lost { key, row, problem } in lost {
            let problem = match chain.lookup(key) {
                Ok(Some(found))
                    if found.row == *row && chain.runs()[found.run].id() == self.run =>
                {
                    problem.clone()
                }
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            self.check
                .reporter
                .path_lost(point.id, key.clone(), problem)?;
        }
        Ok(())
    }
}

/// Tells which paths need a chunk that `locations` answers for and cannot be had.
pub(super) fn of_lost_chunks<'a>(
    check: &'a Check<'a>,
    runs: &BTreeMap<RunId, Vec<Arc<Point>>>,
    mut locations: Locations<'a, '_>,
) -> Result<()> {
    for (id, points) in runs {
        check.go_on()?;
        let Some(object) = open_quietly(check, *id, points) else {
            continue;
        };
        let Ok(tables) = read_tables(&object) else {
            continue;
        };
        let mut costs = Costs::new(check, *id, points);
        each_entry(&object, &tables, |key, row, entry| {
            match locations.problem(entry)? {
                Some(problem) => costs.add(Lost { key, row, problem }),
                None => Ok(()),
            }
        })?;
        costs.finish()?;
    }
    Ok(())
}
