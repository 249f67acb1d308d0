//! Manifests: runs written and read, and the chain of them that a point stands on.
//!
//! A run is an immutable sorted stream of records in two sections. A chain merges the streams of its runs: newest
//! wins on the exact key, tombstones hide. Nothing is read before it is asked for, and no more is kept than one block
//! for each run that takes part; what was read lies in the fetcher's memory.
//!
//! Invariants: keys rise strictly within a section, which every reader checks as it goes; a row, once written, names
//! the same record for ever.
//!
//! Deliberately not here: what a backup records (`archive`), node ids and listings as a mount sees them (`tree`).

mod blocks_writer;
mod chain;
mod chains;
mod changes;
mod cursor;
mod difference;
mod filter_writer;
mod merge;
mod merged;
mod origin_sorter;
mod pieces;
mod read_ahead;
mod run;
mod spill;
#[cfg(test)]
mod tests;
mod timeline;
mod versions;
mod writer;

pub use chain::{Chain, Entries, Found};
pub use chains::Chains;
pub use changes::{Aspect, Changes};
pub use cursor::Records;
pub use difference::{Difference, Differences};
pub use merged::merge_newest;
pub use run::Run;
pub use spill::Spill;
pub use timeline::{PathVersions, Timeline, Version};
pub use versions::Versions;
pub use writer::RunWriter;
