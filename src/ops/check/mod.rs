//! Checks a repository: everything but the chunks' bytes, or those too.
//!
//! What is damaged or missing is told object by object as it is found, and then what it costs: each path of each
//! point. The order is that of dependence, points first, then the runs that they name, then packs and index. A chunk
//! counts as lost only if a reader could not have it from any location, so that a damaged copy that has a good
//! twin costs no path. Objects are read here by their own format, piece by piece, rather than through the readers
//! that a mount uses: a reader stops at the first damage, a check goes on behind it.
//!
//! Memory is bounded: a number for each pack and index run, one run's footer and a few blocks, a cache of pack
//! directories, and what is lost of one run at a time. Nothing is repaired here.

mod costs;
mod data;
mod index;
mod keys;
mod leases;
mod locations;
mod origins;
mod packs;
mod points;
mod records;
mod report;
mod run_object;
mod runs;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{Error, ErrorKind, Monitor, PointId, Result, RunId};
use crate::fetch::Fetcher;
use crate::format::Point;
use crate::repo::Repository;

use self::locations::Locations;
use self::packs::Packs;

use self::report::Reporter;
pub use self::report::{CheckReport, Finding, ObjectState};

/// What to check, and how far.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Fetch, open and verify every chunk as well.
    pub read_data: bool,
    /// Only these points, what they stand on and the packs that they use; None for the whole repository.
    pub points: Option<Vec<PointId>>,
}

/// Bytes of memory for pieces that are read to tell what damage costs.
const FETCH_MEMORY_BYTES: u64 = 32 << 20;

/// What the steps of a check share.
struct Check<'a> {
    repository: &'a Arc<Repository>,
    fetcher: Arc<Fetcher>,
    reporter: Reporter<'a>,
    monitor: &'a dyn Monitor,
}

/// Checks the repository, and gives each finding to `found` as it comes. `found` may be called from any thread.
///
/// # Errors
/// Interrupted; unreachable; whatever `found` fails with; and failures of the store that say nothing of its objects.
/// Damage is no error here: it is what the report is about.
pub fn check(
    repository: &Arc<Repository>,
    options: &CheckOptions,
    found: &(dyn Fn(&Finding) -> Result<()> + Sync),
    monitor: &dyn Monitor,
) -> Result<CheckReport> {
    let check = Check {
        repository,
        fetcher: Fetcher::new(Arc::clone(repository), FETCH_MEMORY_BYTES),
        reporter: Reporter::new(found),
        monitor,
    };
    let points = points::check(&check, options.points.as_deref())?;
    let runs = points_of_runs(&points);
    let mut packs = Packs::list(&check)?;
    let mut used = runs::check_all(&check, &runs, Locations::new(&check, &mut packs))?;
    let scope = match options.points {
        Some(_) => {
            used.retain(|pack| packs.length(pack).is_some());
            used.iter().copied().collect()
        }
        None => packs.ids(),
    };
    packs.check_directories(&check, &scope)?;
    index::check(&check, &packs, &used, options.points.is_none())?;
    if options.points.is_none() {
        leases::check(&check)?;
        points::check_roll_ups(&check, &points)?;
        keys::check(&check)?;
    }
    if options.read_data {
        let lost = data::check(&check, &packs, &scope)?;
        if !lost.is_empty() {
            let locations = Locations::of_chunks(&check, &mut packs, &lost);
            costs::of_lost_chunks(&check, &runs, locations)?;
        }
    }
    Ok(check.reporter.finish())
}

/// Every run with all the points that stand on it. Runs that are in most points come with long lists; they are ids
/// and shared headers only.
fn points_of_runs(points: &[Arc<Point>]) -> BTreeMap<RunId, Vec<Arc<Point>>> {
    let mut runs: BTreeMap<RunId, Vec<Arc<Point>>> = BTreeMap::new();
    for point in points {
        for run in &point.runs {
            runs.entry(run.id).or_default().push(Arc::clone(point));
        }
    }
    runs
}

impl Check<'_> {
    /// # Errors
    /// Interrupted, if the monitor says so.
    fn go_on(&self) -> Result<()> {
        if self.monitor.is_interrupted() {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "the check was interrupted",
            ));
        }
        Ok(())
    }
}

/// Does an error speak of an object rather than of the way to it? Then it is a finding, and the check goes on.
fn is_about_object(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::Failed | ErrorKind::Denied => true,
        ErrorKind::Usage
        | ErrorKind::NoRepository
        | ErrorKind::Exists
        | ErrorKind::Locked
        | ErrorKind::WrongPassword
        | ErrorKind::Unreachable
        | ErrorKind::Full
        | ErrorKind::Interrupted
        | ErrorKind::WouldWait => false,
    }
}
