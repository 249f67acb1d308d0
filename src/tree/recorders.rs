//! Which point recorded what: from the run that an entry was first recorded in to the point whose backup wrote that run.
//!
//! A point's own run is its newest, and no backup ever merges its own. Where that point was forgotten, the oldest one that
//! still holds rows of the run stands for it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{PointId, RunId};
use crate::format::Point;

/// All points that are known, by the runs that are their own.
#[derive(Default)]
pub(super) struct Recorders {
    points: Vec<Arc<Point>>,
    own: HashMap<RunId, PointId>,
    /// Runs whose point is gone, and who stands for it.
    standing: HashMap<RunId, Option<PointId>>,
    has_all: bool,
}

impl Recorders {
    /// Takes points in.
    pub(super) fn add(&mut self, points: &[Arc<Point>]) {
        for point in points {
            if let Some(newest) = point.runs.first() {
                self.own.entry(newest.id).or_insert(point.id);
            }
        }
        self.points.extend(points.iter().map(Arc::clone));
        self.standing.clear();
    }

    /// Takes all points in that there are.
    pub(super) fn add_all(&mut self, points: &[Arc<Point>]) {
        self.points.clear();
        self.add(points);
        self.has_all = true;
    }

    /// Are points wanting, because the mount shows one only?
    pub(super) fn needs_all(&self) -> bool {
        !self.has_all && self.points.len() == 1
    }

    /// The point whose own run this is.
    pub(super) fn own(&self, run: &RunId) -> Option<PointId> {
        self.own.get(run).copied()
    }

    /// The point that recorded the run, or the oldest that has some of it.
    pub(super) fn recorder(&mut self, run: &RunId) -> Option<PointId> {
        if let Some(point) = self.own(run) {
            return Some(point);
        }
        if let Some(point) = self.standing.get(run) {
            return *point;
        }
        let holds = |point: &&Arc<Point>| {
            let mut runs = point.runs.iter();
            runs.any(|reference| reference.id == *run || reference.origins.contains(run))
        };
        let holding = self.points.iter().filter(holds);
        let oldest = holding.map(|point| point.id).min();
        self.standing.insert(*run, oldest);
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::RunReference;

    fn run(number: u8, origins: &[u8]) -> RunReference {
        RunReference {
            id: RunId([number; 16]),
            length: 0,
            footer_length: 0,
            origins: origins.iter().map(|origin| RunId([*origin; 16])).collect(),
            footer: None,
        }
    }

    fn point(seconds: i64, runs: Vec<RunReference>) -> Arc<Point> {
        let id = PointId { seconds, random: 0 };
        Arc::new(Point {
            runs,
            ..Point::sample(id)
        })
    }

    #[test]
    fn a_run_is_told_by_its_own_point_or_by_the_oldest_that_holds_it() {
        let mut recorders = Recorders::default();
        recorders.add(&[
            point(30, vec![run(3, &[]), run(9, &[1, 2])]),
            point(20, vec![run(2, &[1]), run(1, &[])]),
        ]);
        let mut told = |number: u8| {
            let found = recorders.recorder(&RunId([number; 16]));
            found.map(|point| point.seconds)
        };
        assert_eq!([3, 2].map(&mut told), [Some(30), Some(20)]);
        assert_eq!([1, 9, 1].map(&mut told), [Some(20), Some(30), Some(20)]);
        assert_eq!(told(7), None);
    }
}
