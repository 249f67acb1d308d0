//! What can be done with a repository: one public function each, given the repository, options and a monitor, and
//! giving a report.
//!
//! Nothing here knows arguments, terminals or the environment; the time of day is passed in where it matters.

mod moment;

pub use moment::parse_moment;
