//! From a source tree to the packs and the run of a point.
//!
//! `walk` gives the source as a sorted stream of sightings (or `stream`, which was given one file's bytes, makes them up); `plan` merges it with the latest point (the reference) and
//! the point to stand on (the base) into steps; `pipeline` does them: files are visited by workers, chunks placed in
//! frames, entries recorded in order. Everything is a stream: memory does not grow with the number of files, but for
//! the names of the directories that the walk is in, hard links, and a byte for each directory.
//!
//! A file's trouble is a warning and never ends a backup; what could not be read keeps the entry that the reference
//! has, and never looks like a deletion. What a point is, and committing it, is `ops::backup`'s.

mod compare;
mod content;
mod directories;
mod dry;
mod excludes;
mod filesystem;
mod frames;
mod handle;
mod large;
mod level;
mod links;
mod names;
mod observe;
mod pipeline;
mod plan;
mod record;
mod scout;
mod segments;
mod small;
mod sources;
mod status;
mod steps;
mod stream;
mod visit;
mod walk;

pub use content::{Clock, Cutting};
pub use dry::DryStore;
pub use excludes::Excludes;
pub use frames::{ChunkStore, Frames};
pub use handle::Place;
pub use links::LinkedBefore;
pub use observe::{Opened, open as open_seen};
pub use pipeline::{Workshop, run};
pub use plan::{Base, Plan, Step};
pub use record::{OwnerNames, Recorder, Reference, Totals, interrupted};
pub use sources::{Named, Sources};
pub use status::{Identity, Status};
pub use stream::{Stream, StreamContent, path_of_stream, record_stream, sightings_of_stream};
pub use walk::{Seen, Sighting, Walk, WalkOptions};
