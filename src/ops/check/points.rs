//! Points: their headers, and the chains that they say they stand on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Check;
use crate::base::{ErrorKind, PointId, Result};
use crate::format::{Point, point_name, roll_up_name};
use crate::repo::{Catalogue, read_roll_up, roll_ups};

/// Checks the headers and chains of these points, or of all, and gives those that can be read.
pub(super) fn check(check: &Check<'_>, only: Option<&[PointId]>) -> Result<Vec<Arc<Point>>> {
    let catalogue = Catalogue::load_each(check.repository)?;
    let is_wanted = |id: &PointId| only.is_none_or(|only| only.contains(id));
    for (id, error) in catalogue.damaged().filter(|(id, _)| is_wanted(id)) {
        tell_damaged(check, *id, error)?;
    }
    for name in catalogue.foreign() {
        check.monitor.event(crate::base::Event::Warning(
            None,
            &format!("{name} is no point's name: nothing will read it"),
        ));
    }
    let all: BTreeMap<PointId, Arc<Point>> = catalogue
        .points()
        .into_iter()
        .map(|point| (point.id, point))
        .collect();
    let unreadable: BTreeSet<PointId> = catalogue.damaged().map(|(id, _)| *id).collect();
    let wanted: Vec<_> = all
        .values()
        .filter(|point| is_wanted(&point.id))
        .cloned()
        .collect();
    for point in &wanted {
        check_chain(check, point, &all, &unreadable)?;
    }
    check
        .reporter
        .count(|report| report.points = wanted.len() as u64);
    Ok(wanted)
}

/// Checks that every roll-up can be read and says of these points what they say themselves. One that does not costs
/// nothing but time.
pub(super) fn check_roll_ups(check: &Check<'_>, points: &[Arc<Point>]) -> Result<()> {
    let points: BTreeMap<PointId, &Point> =
        points.iter().map(|point| (point.id, &**point)).collect();
    for id in roll_ups(check.repository)? {
        let name = roll_up_name(&id);
        let roll_up = match read_roll_up(check.repository, &id) {
            Ok(roll_up) => roll_up,
            Err(error) if error.kind() == ErrorKind::Missing => continue,
            Err(error) => {
                check.reporter.failed(&name, error)?;
                continue;
            }
        };
        let differs = |rolled: &&Point| {
            let own = points.get(&rolled.id);
            own.is_some_and(|own| own.without_footers() != **rolled)
        };
        if let Some(rolled) = roll_up.points.iter().find(differs) {
            let problem = format!("what it has of point {} is not its header", rolled.id);
            check.reporter.damaged(&name, problem)?;
        }
    }
    Ok(())
}

/// A header that cannot be read costs its point, and no other.
fn tell_damaged(check: &Check<'_>, id: PointId, error: &crate::base::Error) -> Result<()> {
    let name = point_name(&id);
    match error.kind() {
        ErrorKind::Missing => check.reporter.missing(&name, error.to_string())?,
        _ => check.reporter.damaged(&name, error.to_string())?,
    }
    check
        .reporter
        .part_lost(id, "all of it: its header cannot be read".to_owned())
}

/// Does a point's chain go on as its parent's does, and is every point of it there?
///
/// That a chain is too long, has a cycle or does not begin with its point is found where its header is decoded.
/// What is missing costs the later points nothing, since each names its runs itself.
fn check_chain(
    check: &Check<'_>,
    point: &Point,
    all: &BTreeMap<PointId, Arc<Point>>,
    unreadable: &BTreeSet<PointId>,
) -> Result<()> {
    for ancestor in &point.lineage {
        if !all.contains_key(ancestor) && !unreadable.contains(ancestor) {
            check.reporter.missing(
                &point_name(ancestor),
                format!("points/{} has it in its chain", point.id),
            )?;
        }
    }
    let Some(parent) = point.parent.and_then(|parent| all.get(&parent)) else {
        return Ok(());
    };
    if parent.lineage != point.lineage[1..] {
        check.reporter.damaged(
            &point_name(&point.id),
            format!(
                "its chain does not go on as that of its parent {} does",
                parent.id
            ),
        )?;
    }
    if parent.host != point.host || parent.set != point.set {
        check.reporter.damaged(
            &point_name(&point.id),
            format!("its parent {} is of another set", parent.id),
        )?;
    }
    Ok(())
}
