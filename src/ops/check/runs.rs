//! Runs: every piece of their objects, and every record in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Check;
use super::costs::Costs;
use super::locations::Locations;
use super::origins::{OriginsProbe, knows_origins};
use super::records::RecordsCheck;
use super::run_object::RunObject;
use crate::base::{ByteReader, Error, ErrorKind, Event, PackId, Result, RunId};
use crate::format::run::{
    Counts, Filter, Owners, PieceAt, RUN_TRAILER_BYTES, Sequence, SequenceAt, Table,
    decode_origin_row, decode_warning,
};
use crate::format::{Point, RunReference, Section, Tables, point_name, run_name};
use crate::seal::SealedKind;

/// Checks every run that points stand on, and gives the packs that their entries use.
pub(super) fn check_all<'a>(
    check: &'a Check<'a>,
    runs: &BTreeMap<RunId, Vec<Arc<Point>>>,
    mut locations: Locations<'a, '_>,
) -> Result<BTreeSet<PackId>> {
    for (id, points) in runs {
        check.go_on()?;
        check.monitor.event(Event::Path(run_name(id).as_ref()));
        check.reporter.count(|report| report.runs += 1);
        let Some(object) = open(check, *id, points)? else {
            continue;
        };
        check_references(check, &object, points)?;
        let mut costs = Costs::new(check, *id, points);
        RunCheck {
            check,
            object: &object,
            points,
            costs: &mut costs,
        }
        .all(&mut locations)?;
        costs.finish()?;
    }
    Ok(locations.into_used())
}

/// Opens a run, and tells what is wrong with it. None if it cannot be read at all.
fn open<'a>(
    check: &'a Check<'a>,
    id: RunId,
    points: &[Arc<Point>],
) -> Result<Option<RunObject<'a>>> {
    let error = match RunObject::open(check, id) {
        Ok(object) => return Ok(Some(object)),
        Err(error) => error,
    };
    let problem = error.to_string();
    let is_missing = error.kind() == ErrorKind::Missing;
    check.reporter.failed(&run_name(&id), error)?;
    let by_point = if is_missing {
        None
    } else {
        open_by_points(check, id, points)
    };
    if by_point.is_none() {
        for point in points {
            check.reporter.part_lost(
                point.id,
                format!("all that run {id} records of it: {problem}"),
            )?;
        }
    }
    Ok(by_point)
}

/// Opens a run by its own footer or, if that is damaged, by one that a point has of it, as a reader would.
pub(super) fn open_quietly<'a>(
    check: &'a Check<'a>,
    id: RunId,
    points: &[Arc<Point>],
) -> Option<RunObject<'a>> {
    RunObject::open(check, id)
        .ok()
        .or_else(|| open_by_points(check, id, points))
}

fn open_by_points<'a>(
    check: &'a Check<'a>,
    id: RunId,
    points: &[Arc<Point>],
) -> Option<RunObject<'a>> {
    references(id, points)
        .find_map(|(_, reference)| RunObject::open_by_point(check, reference).ok())
}

/// The table of ids, by which entries name packs and runs.
///
/// # Errors
/// Corrupt, if it is damaged; and those of the store.
pub(super) fn read_tables(object: &RunObject<'_>) -> Result<Tables> {
    let plain = object.piece(
        SealedKind::RunTable,
        Table::Ids as u8,
        0,
        &object.footer.ids,
    )?;
    Tables::decode(&mut ByteReader::new("the table of ids", &plain))
}

/// What points say of a run.
fn references(id: RunId, points: &[Arc<Point>]) -> impl Iterator<Item = (&Point, &RunReference)> {
    points
        .iter()
        .flat_map(|point| point.runs.iter().map(move |run| (&**point, run)))
        .filter(move |(_, run)| run.id == id)
}

/// Is the run what the points that stand on it take it for?
fn check_references(
    check: &Check<'_>,
    object: &RunObject<'_>,
    points: &[Arc<Point>],
) -> Result<()> {
    for (point, reference) in references(object.id, points) {
        let footer_length = u64::from(reference.footer_length);
        let is_as_expected = reference.length == object.length
            && footer_length == object.sealed_footer.len() as u64
            && reference
                .footer
                .as_ref()
                .is_none_or(|footer| *footer == object.sealed_footer);
        if !is_as_expected {
            check.reporter.damaged(
                &point_name(&point.id),
                format!(
                    "it stands on {} of {} bytes with a footer of {footer_length}, which has {} bytes and a footer of {}",
                    object.name,
                    reference.length,
                    object.length,
                    object.sealed_footer.len()
                ),
            )?;
        }
    }
    Ok(())
}

/// The check of one run.
struct RunCheck<'a, 'b> {
    check: &'a Check<'a>,
    object: &'b RunObject<'a>,
    /// Those that stand on it.
    points: &'b [Arc<Point>],
    costs: &'b mut Costs<'a>,
}

impl RunCheck<'_, '_> {
    fn all(&mut self, locations: &mut Locations<'_, '_>) -> Result<()> {
        self.bytes()?;
        self.owners()?;
        self.filters()?;
        let origins_are_whole = self.origins()?;
        self.warnings()?;
        let Some(tables) = self.tables()? else {
            return self
                .costs
                .lose_part("all that it records: its table of ids cannot be read");
        };
        self.check_known_origins(&tables)?;
        let first = references(self.object.id, self.points).next();
        let origins = first
            .filter(|_| origins_are_whole)
            .and_then(|(_, reference)| OriginsProbe::open(self.check, reference));
        self.records(&tables, origins, locations)
    }

    fn check_known_origins(&self, tables: &Tables) -> Result<()> {
        for (point, reference) in references(self.object.id, self.points) {
            if !knows_origins(reference, tables) {
                self.check.reporter.damaged(
                    &point_name(&point.id),
                    format!(
                        "it names other runs than those whose rows {} holds",
                        self.object.name
                    ),
                )?;
            }
        }
        Ok(())
    }

    fn damaged(&self, problem: impl Into<String>) -> Result<()> {
        self.check.reporter.damaged(&self.object.name, problem)
    }

    fn failed(&self, place: impl std::fmt::Display, error: Error) -> Result<()> {
        self.check
            .reporter
            .failed(&self.object.name, error.context(place))
    }

    /// Does every byte of the object belong to a piece? Then all are covered by a tag that is checked.
    fn bytes(&self) -> Result<()> {
        let footer = &self.object.footer;
        let apart = |at: &PieceAt| match at {
            PieceAt::Inline(_) => 0,
            PieceAt::Apart { length, .. } => u64::from(*length),
        };
        let index = |sequence: &SequenceAt| {
            sequence
                .index
                .iter()
                .map(|part| apart(&part.at))
                .sum::<u64>()
        };
        let sequences: u64 = footer
            .sequences
            .iter()
            .map(|sequence| sequence.length + index(sequence))
            .sum();
        let filters: u64 = footer
            .filters
            .iter()
            .flatten()
            .flatten()
            .map(|part| apart(&part.at))
            .sum();
        let all = sequences
            + filters
            + apart(&footer.ids)
            + apart(&footer.owners)
            + self.object.sealed_footer.len() as u64
            + RUN_TRAILER_BYTES as u64;
        if all == self.object.length {
            return Ok(());
        }
        self.damaged(format!(
            "its pieces have {all} bytes, and it has {}",
            self.object.length
        ))
    }

    fn tables(&self) -> Result<Option<Tables>> {
        match read_tables(self.object) {
            Ok(tables) => Ok(Some(tables)),
            Err(error) => self.failed("table of ids", error).map(|()| None),
        }
    }

    fn owners(&self) -> Result<()> {
        let at = &self.object.footer.owners;
        let decoded = self
            .object
            .piece(SealedKind::RunTable, Table::Owners as u8, 0, at)
            .and_then(|plain| Owners::decode(&plain));
        decoded.map_or_else(|error| self.failed("table of owners", error), |_| Ok(()))
    }

    /// A damaged filter costs every lookup that asks it.
    fn filters(&mut self) -> Result<()> {
        for filter in Filter::ALL {
            for (number, part) in self
                .object
                .footer
                .filter(filter)
                .unwrap_or_default()
                .iter()
                .enumerate()
            {
                let opened =
                    self.object
                        .piece(SealedKind::RunFilter, filter as u8, number as u64, &part.at);
                if let Err(error) = opened {
                    self.failed(
                        format_args!("part {number} of filter {}", filter as u8),
                        error,
                    )?;
                    self.costs
                        .lose_part("what is looked up by a filter that cannot be read")?;
                }
            }
        }
        Ok(())
    }

    /// Tells whether all of the origin map can be read.
    fn origins(&mut self) -> Result<bool> {
        let rows = self.object.footer.sequence(Sequence::Files).rows;
        let is_whole = self.sequence(Sequence::Origins, |body| {
            decode_origin_row(body, rows).map(drop)
        })?;
        if !is_whole {
            self.costs
                .lose_part("what is found by origins that cannot be read")?;
        }
        Ok(is_whole)
    }

    fn warnings(&mut self) -> Result<()> {
        self.sequence(Sequence::Warnings, |body| decode_warning(body).map(drop))
            .map(drop)
    }

    /// Checks a sequence that is no section: its blocks, and each entry by `decode`. Tells whether all is well.
    fn sequence(
        &mut self,
        sequence: Sequence,
        decode: impl Fn(&[u8]) -> Result<()>,
    ) -> Result<bool> {
        let mut rows = 0;
        let mut is_whole = true;
        self.object.each_block(sequence, |found| {
            let checked = found.block.and_then(|block| {
                rows += block.count() as u64;
                let mut cursor = block.cursor();
                while cursor.advance()? {
                    decode(cursor.body())?;
                }
                Ok(())
            });
            is_whole &= checked.is_ok();
            checked.or_else(|error| self.failed(&found.place, error))
        })?;
        let expected = self.object.footer.sequence(sequence).rows;
        if is_whole && rows != expected {
            self.damaged(format!("{sequence} have {rows} rows, not {expected}"))?;
        }
        Ok(is_whole && rows == expected)
    }

    /// Checks both sections, record by record.
    fn records(
        &mut self,
        tables: &Tables,
        mut origins: Option<OriginsProbe>,
        locations: &mut Locations<'_, '_>,
    ) -> Result<()> {
        let mut counts = Counts::default();
        let mut is_whole = true;
        for section in [Section::Directories, Section::Files] {
            // The map has files only, which come last.
            let probe = origins.take_if(|_| section == Section::Files);
            let mut records = RecordsCheck::new(self.check, self.object, section, tables, probe);
            self.object
                .each_block(section.into(), |found| match &found.block {
                    Ok(block) => {
                        records.check_block(&found, block, &mut counts, locations, self.costs)
                    }
                    Err(_) => records.skip_block(found, self.costs),
                })?;
            is_whole &= records.is_whole();
            origins = records.into_origins().or(origins);
        }
        let entries = self.object.footer.sequence(Sequence::Origins).rows;
        let problem = origins.and_then(|origins| origins.problem_in_all(entries));
        if let Some(problem) = problem.filter(|_| is_whole) {
            self.damaged(problem)?;
        }
        self.check
            .reporter
            .count(|report| report.records += counts.directories + counts.files);
        if is_whole && counts != self.object.footer.counts {
            let expected = &self.object.footer.counts;
            return self.damaged(format!(
                "its records count {counts:?}, and its footer says {expected:?}"
            ));
        }
        Ok(())
    }
}
