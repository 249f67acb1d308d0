//! What can be done with a repository: one public function each, given the repository, options and a monitor, and
//! giving a report.
//!
//! Nothing here knows arguments, terminals or the environment; the time of day is passed in where it matters.

pub mod backup;
pub mod check;
pub mod difference;
pub mod dump;
pub mod find;
pub mod history;
pub mod keys;
pub mod list;
mod merging;
mod moment;
pub mod pin;
mod recorded;
pub mod restore;
pub mod select;
mod standing;
pub mod stats;

pub use check::{CheckOptions, CheckReport, Finding, ObjectState, check};
pub use moment::{parse_beginning, parse_moment};

#[cfg(test)]
mod tests {
    use crate::format::Point;

    /// A full point of host `moon` by its id, with nothing in it.
    pub(super) fn point(id: &str) -> Point {
        Point::sample(id.parse().unwrap())
    }
}
