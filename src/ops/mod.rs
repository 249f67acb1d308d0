//! What can be done with a repository: one public function each, given the repository, options and a monitor, and
//! giving a report.
//!
//! Nothing here knows arguments, terminals or the environment; the time of day is passed in where it matters.

pub mod backup;
pub mod check;
pub mod keys;
pub mod list;
mod merging;
mod moment;
pub mod pin;
pub mod select;
mod standing;

pub use check::{CheckOptions, CheckReport, Finding, ObjectState, check};
pub use moment::parse_moment;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::base::{PointId, RunId};
    use crate::format::{Features, Figures, Moment, Point, PointKind, RunReference};

    /// A full point of host `moon` by its id, with nothing in it.
    pub(super) fn point(id: &str) -> Point {
        let id: PointId = id.parse().unwrap();
        let moment = Moment {
            time: jiff::Timestamp::from_second(id.seconds).unwrap(),
            offset_seconds: 0,
        };
        Point {
            id,
            features: Features::default(),
            kind: PointKind::Full,
            parent: None,
            base: id,
            lineage: vec![id],
            sequence: 0,
            runs: vec![RunReference {
                id: RunId([1; 16]),
                length: 100,
                footer_length: 10,
                origins: Vec::new(),
                footer: None,
            }],
            host: "moon".into(),
            set: "home".into(),
            user: "selene".into(),
            sources: vec!["/home".into()],
            mapping: Vec::new(),
            excludes: Vec::new(),
            labels: BTreeMap::new(),
            start: moment,
            end: moment,
            partial: false,
            warnings: 0,
            figures: Figures::default(),
        }
    }
}
