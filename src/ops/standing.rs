//! What a backup stands on: its kind in the end, the point to compare with, and the point that its chain goes on from.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::archive::Sources;
use crate::base::limits::CHAIN_MAX;
use crate::base::{Error, ErrorKind, Event, Monitor, PointId, Result};
use crate::format::{Point, PointKind};
use crate::repo::{Catalogue, Repository, with_footers};

use super::backup::BackupOptions;

/// Where a new point stands among those of its set.
pub struct Standing {
    pub kind: PointKind,
    pub set: String,
    /// One more than the set's latest.
    pub sequence: u64,
    /// The newest point of all that are known, which the new one's id sorts after.
    pub newest: Option<PointId>,
    /// The set's latest point, or the one that was asked for: what is unchanged, carried, and of which origin.
    pub reference: Option<Arc<Point>>,
    /// What the new point's chain goes on from, which decides what is recorded; None for a full one. With all footers,
    /// which the new point's header is to have.
    pub base: Option<Arc<Point>>,
    /// With the new point there are enough headers in no roll-up to make one.
    pub is_roll_up_due: bool,
}

/// Finds out where a backup with `options` of `sources` stands. Says so if it becomes a full one.
///
/// # Errors
/// Usage, for a parent that is not there or of another set; those of the store.
pub fn stand(
    repository: &Repository,
    options: &BackupOptions,
    sources: &Sources,
    monitor: &dyn Monitor,
) -> Result<Standing> {
    let catalogue = Catalogue::load(repository)?;
    let points = catalogue.points();
    let asked = options
        .parent
        .map(|id| find_parent(&points, id, options))
        .transpose()?;
    let set = match (&options.set, &asked) {
        (Some(set), _) => set.clone(),
        (None, Some(parent)) => parent.set.clone(),
        (None, None) => set_of_paths(sources),
    };
    let in_set = || {
        points
            .iter()
            .filter(|point| point.host == options.host && point.set == set)
    };
    let latest = in_set()
        .max_by_key(|point| (point.sequence, point.id))
        .cloned();
    let sequence = latest.as_ref().map_or(0, |latest| latest.sequence + 1);
    let reference = asked.clone().or(latest);
    let base = match options.kind {
        PointKind::Full | PointKind::Synthetic => None,
        PointKind::Incremental => reference.clone(),
        PointKind::Differential => match &asked {
            Some(asked) => points.iter().find(|point| point.id == asked.base).cloned(),
            None => in_set()
                .filter(|point| point.kind.is_base())
                .max_by_key(|point| (point.sequence, point.id))
                .cloned(),
        },
    };
    let base = base
        .filter(|base| has_room(base, monitor))
        .map(|base| with_footers(repository, &base).map(|whole| Arc::new(whole.into_owned())))
        .transpose()?;
    let kind = match &base {
        Some(_) => options.kind,
        None => {
            if options.kind != PointKind::Full {
                let message = format!(
                    "this will be a full backup: there is no point of set {set:?} of host {} to stand on",
                    options.host
                );
                monitor.event(Event::Note(&message));
            }
            PointKind::Full
        }
    };
    Ok(Standing {
        kind,
        set,
        sequence,
        newest: points.last().map(|newest| newest.id),
        is_roll_up_due: catalogue.is_roll_up_due(),
        reference,
        base,
    })
}

fn find_parent(points: &[Arc<Point>], id: PointId, options: &BackupOptions) -> Result<Arc<Point>> {
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    let parent = points
        .iter()
        .find(|point| point.id == id)
        .ok_or_else(|| usage(format!("there is no point {id} to stand on")))?;
    if parent.host != options.host {
        let message = format!(
            "point {id} is of host {}, not of {}: a chain lies within one host and set (see --host)",
            parent.host, options.host
        );
        return Err(usage(message));
    }
    match &options.set {
        Some(set) if *set != parent.set => Err(usage(format!(
            "point {id} is of set {:?}, not of {set:?}: a chain lies within one host and set",
            parent.set
        ))),
        _ => Ok(Arc::clone(parent)),
    }
}

/// Can a chain that goes on from `base` be one point and one run longer?
fn has_room(base: &Point, monitor: &dyn Monitor) -> bool {
    let has_room = base.lineage.len() < CHAIN_MAX && base.runs.len() < CHAIN_MAX;
    if !has_room {
        let message = format!(
            "the chain of point {} is as long as a chain can be",
            base.id
        );
        monitor.event(Event::Note(&message));
    }
    has_room
}

/// The name of a set that was given none: its recorded paths, in order.
fn set_of_paths(sources: &Sources) -> String {
    let mut paths: Vec<_> = sources
        .named()
        .iter()
        .map(|source| String::from_utf8_lossy(source.recorded.as_os_str().as_bytes()))
        .collect();
    paths.sort();
    paths.join(",")
}
