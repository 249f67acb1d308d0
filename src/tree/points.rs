//! The points of a mount and the runs that they stand on: which is where, opened when first asked for.
//!
//! Two ways lead from a node to its entry. A directory's node names its point, the run's place in the chain and the
//! row. What is no directory is found by its origin, whichever points it is in: at the very row of the run that
//! recorded it first, or by the origin map of any run that holds rows of that one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, ScopedJoinHandle};

use lru::LruCache;

use crate::base::{Error, ErrorKind, Key, Origin, PointId, Result, Row, RunId};
use crate::fetch::{Fetcher, check_may_wait};
use crate::format::{Entry, KeyedRecord, Point, Record, RunReference, Section};
use crate::manifest::{Chain, Found, Run};
use crate::repo::{Catalogue, Repository, with_footers};

use super::attributes::Attributes;
use super::lock;
use super::node::{NodeId, PointNumber, RunNumber, directory_inode};
use super::numbers::Numbers;
use super::recorders::Recorders;

/// Points kept open. The runs that they share are open once.
const OPEN_POINTS_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("it is not 0");

/// Runs kept open, for points that are opened next and for what is found by its origin.
const OPEN_RUNS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("it is not 0");

/// Points that can be opened side by side; more than threads are likely to ask for.
const OPENING_LOCKS: usize = 16;

/// A point whose chain is open.
pub(super) struct OpenPoint {
    pub(super) number: PointNumber,
    pub(super) id: PointId,
    pub(super) chain: Chain,
}

/// All points that are known, and all runs.
pub(super) struct Points {
    fetcher: Arc<Fetcher>,
    numbers: Numbers,
    known: RwLock<Known>,
    open: Mutex<LruCache<PointNumber, Arc<OpenPoint>>>,
    /// Held while a point is opened, so that it is opened once, and others are not kept waiting.
    opening: [Mutex<()>; OPENING_LOCKS],
    runs: Mutex<LruCache<RunId, Arc<Run>>>,
    recorders: Mutex<Recorders>,
}

#[derive(Default)]
struct Known {
    /// The points that are shown.
    shown: HashMap<PointNumber, Arc<Point>>,
    /// One point of those that name a run, and the run's place in it.
    references: HashMap<RunId, (Arc<Point>, usize)>,
    /// Per origin run, the runs that hold rows of it; itself first, if it is there.
    holders: HashMap<RunId, Vec<RunId>>,
}

impl Points {
    pub(super) fn new(fetcher: Arc<Fetcher>, numbers: Numbers) -> Self {
        Self {
            fetcher,
            numbers,
            known: RwLock::default(),
            open: Mutex::new(LruCache::new(OPEN_POINTS_MAX)),
            opening: Default::default(),
            runs: Mutex::new(LruCache::new(OPEN_RUNS_MAX)),
            recorders: Mutex::default(),
        }
    }

    pub(super) fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// Takes points in, and returns the numbers of those that are shown. All runs are numbered here, so that no
    /// reader waits for that.
    pub(super) fn add(
        &self,
        points: &[Arc<Point>],
        is_shown: impl Fn(&Point) -> bool,
    ) -> Result<Vec<(Arc<Point>, PointNumber)>> {
        let shown: Vec<&Arc<Point>> = points.iter().filter(|point| is_shown(point)).collect();
        let ids: Vec<PointId> = shown.iter().map(|point| point.id).collect();
        self.numbers.add_points(&ids)?;
        let references = points.iter().flat_map(|point| &point.runs);
        let runs: Vec<RunId> = references.flat_map(holdings).collect();
        self.numbers.add_runs(&runs)?;
        let numbered = shown
            .into_iter()
            .map(|point| Ok((Arc::clone(point), self.numbers.point(&point.id)?)))
            .collect::<Result<Vec<_>>>()?;
        lock(&self.recorders).add(points);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (point, number) in &numbered {
            known.shown.insert(*number, Arc::clone(point));
        }
        for point in points {
            known.add_runs(point);
        }
        Ok(numbered)
    }

    /// The point with this number, open.
    ///
    /// # Errors
    /// Missing, for a number of no point that is shown; and those of opening its chain.
    pub(super) fn open(&self, number: PointNumber) -> Result<Arc<OpenPoint>> {
        if let Some(open) = lock(&self.open).get(&number) {
            return Ok(Arc::clone(open));
        }
        check_may_wait(format_args!("the chain of point number {}", number.0))?;
        let _opening = lock(&self.opening[number.0 as usize % OPENING_LOCKS]);
        if let Some(open) = lock(&self.open).get(&number) {
            return Ok(Arc::clone(open));
        }
        let point = self
            .header(number)
            .ok_or_else(|| Error::missing(format_args!("the point with number {}", number.0)))?;
        let runs = self
            .runs_of(&point)
            .map_err(|error| error.context(format_args!("point {}", point.id)))?;
        let open = Arc::new(OpenPoint {
            number,
            id: point.id,
            chain: Chain::of_runs(runs),
        });
        lock(&self.open).put(number, Arc::clone(&open));
        Ok(open)
    }

    /// The runs of a point, open. Its header is read for the footers in it, if it comes from a roll-up and a run is not
    /// open yet.
    fn runs_of(&self, point: &Point) -> Result<Vec<Arc<Run>>> {
        let are_open = point
            .runs
            .iter()
            .all(|run| lock(&self.runs).contains(&run.id));
        let whole = match are_open || point.has_footers() {
            true => Cow::Borrowed(point),
            false => Cow::Owned(self.whole_header(point)?),
        };
        match self.fetcher.ahead_bytes() {
            None => whole.runs.iter().map(|run| self.run_of(run)).collect(),
            Some(_) => self.runs_side_by_side(&whole),
        }
    }

    fn whole_header(&self, point: &Point) -> Result<Point> {
        let point = point.clone();
        self.fetcher
            .ask_in_time("the point's header", move |repository| {
                with_footers(repository, &point).map(Cow::into_owned)
            })
    }

    /// The same from a distant store: those whose footers have to be fetched are opened at the same time, and what all
    /// are likely to be asked for next is on its way then.
    fn runs_side_by_side(&self, point: &Point) -> Result<Vec<Arc<Run>>> {
        let runs: Vec<Result<Arc<Run>>> = thread::scope(|scope| {
            let opening: Vec<_> = point
                .runs
                .iter()
                .map(|reference| match reference.footer {
                    Some(_) => Opening::Done(self.run_of(reference)),
                    None => Opening::UnderWay(scope.spawn(|| self.run_of(reference))),
                })
                .collect();
            opening.into_iter().map(Opening::end).collect()
        });
        let runs = runs.into_iter().collect::<Result<Vec<_>>>()?;
        for run in &runs {
            let run = Arc::clone(run);
            self.fetcher.later(move || run.fetch_ahead());
        }
        Ok(runs)
    }

    /// The header of a point that is shown.
    pub(super) fn header(&self, number: PointNumber) -> Option<Arc<Point>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.shown.get(&number).map(Arc::clone)
    }

    /// Calls `visit` with the header of each point that is shown.
    pub(super) fn each_header(&self, visit: impl FnMut(&Arc<Point>)) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.shown.values().for_each(visit);
    }

    /// The attributes of what was found in a point.
    pub(super) fn attributes(&self, point: &OpenPoint, found: &Found) -> Result<Attributes> {
        let metadata = &found.entry.metadata;
        if metadata.file_type.section() == Section::Files {
            let identity = found.entry.group.unwrap_or(found.origin);
            let node = NodeId::file(self.numbers.run(&identity.run)?, identity.row)?;
            return Ok(Attributes::of_entry(node, node.0, metadata));
        }
        let node = NodeId::directory(point.number, found.run, found.row)?;
        let inode = self.directory_inode(found.origin)?;
        Ok(Attributes::of_entry(node, inode, metadata))
    }

    /// The inode number that all directories of this origin share.
    pub(super) fn directory_inode(&self, origin: Origin) -> Result<u64> {
        directory_inode(self.numbers.run(&origin.run)?, origin.row)
    }

    /// The id of a run by its number; None if none has it.
    ///
    /// # Errors
    /// Failed, if the numbers cannot be read.
    pub(super) fn run_id(&self, run: RunNumber) -> Result<Option<RunId>> {
        self.numbers.run_of(run)
    }

    /// The point that recorded what is first found in this run.
    ///
    /// # Errors
    /// Those of listing the points, where not all of them are known.
    pub(super) fn recorder(&self, run: &RunId) -> Result<Option<PointId>> {
        if let Some(point) = lock(&self.recorders).own(run) {
            return Ok(Some(point));
        }
        if lock(&self.recorders).needs_all() {
            check_may_wait(format_args!("the point that recorded run {run}"))?;
            let ask = |repository: &Repository| Catalogue::load(repository);
            let catalogue = self.fetcher.ask_in_time("the points", ask)?;
            lock(&self.recorders).add_all(&catalogue.points());
        }
        Ok(lock(&self.recorders).recorder(run))
    }

    /// The entry that was first recorded as this row of this run's files, and a path that it has.
    ///
    /// # Errors
    /// Missing, if no run that is known holds it; else the first failure of those that should.
    pub(super) fn entry_of_origin(&self, run: RunNumber, row: Row) -> Result<(Key, Box<Entry>)> {
        let unknown = || Error::missing(format_args!("row {} of run number {}", row.0, run.0));
        let run = self.numbers.run_of(run)?.ok_or_else(unknown)?;
        let origin = Origin { run, row };
        let mut failure = None;
        for holder in self.holders(&run) {
            match self.entry_in(&holder, origin) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::WouldWait => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            Error::missing(format_args!(
                "the entry first recorded as row {} of run {run}",
                row.0
            ))
        }))
    }

    /// The runs to ask for rows of an origin run.
    fn holders(&self, origin: &RunId) -> Vec<RunId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.holders.get(origin).cloned().unwrap_or_default()
    }

    fn entry_in(&self, holder: &RunId, origin: Origin) -> Result<Option<(Key, Box<Entry>)>> {
        let run = self.run(holder)?;
        let Some(row) = run.row_of_origin(origin)? else {
            return Ok(None);
        };
        let KeyedRecord { key, record, .. } = run.row(Section::Files, row)?;
        match record {
            Record::Entry(entry) => Ok(Some((key, entry))),
            Record::Tombstone { .. } => Err(Error::corrupt(
                format_args!("run {holder}"),
                format_args!(
                    "row {} of its files is the origin of an entry and a tombstone",
                    row.0
                ),
            )),
        }
    }

    /// The run of this id, open.
    fn run(&self, id: &RunId) -> Result<Arc<Run>> {
        if let Some(run) = lock(&self.runs).get(id) {
            return Ok(Arc::clone(run));
        }
        let reference = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let (point, place) = known
                .references
                .get(id)
                .ok_or_else(|| Error::missing(format_args!("run {id}")))?;
            point.runs[*place].clone()
        };
        self.run_of(&reference)
    }

    /// The run that this refers to, open.
    fn run_of(&self, reference: &RunReference) -> Result<Arc<Run>> {
        if let Some(run) = lock(&self.runs).get(&reference.id) {
            return Ok(Arc::clone(run));
        }
        let run = Run::open(&self.fetcher, reference)?;
        lock(&self.runs).put(reference.id, Arc::clone(&run));
        Ok(run)
    }
}

/// A run that is being opened.
enum Opening<'a> {
    Done(Result<Arc<Run>>),
    UnderWay(ScopedJoinHandle<'a, Result<Arc<Run>>>),
}

impl Opening<'_> {
    fn end(self) -> Result<Arc<Run>> {
        match self {
            Self::Done(run) => run,
            Self::UnderWay(thread) => match thread.join() {
                Ok(run) => run,
                Err(panic) => resume_unwind(panic),
            },
        }
    }
}

impl Known {
    fn add_runs(&mut self, point: &Arc<Point>) {
        for (place, reference) in point.runs.iter().enumerate() {
            if self.references.contains_key(&reference.id) {
                continue;
            }
            self.references
                .insert(reference.id, (Arc::clone(point), place));
            for origin in holdings(reference) {
                let holders = self.holders.entry(origin).or_default();
                if origin == reference.id {
                    holders.insert(0, reference.id);
                } else {
                    holders.push(reference.id);
                }
            }
        }
    }
}

/// The runs that a run holds rows of, itself among them.
fn holdings(reference: &RunReference) -> impl Iterator<Item = RunId> {
    std::iter::once(reference.id).chain(
        reference
            .origins
            .iter()
            .copied()
            .filter(|origin| *origin != reference.id),
    )
}
