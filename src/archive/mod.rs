//! From the source to a point's run.
mod content;
mod excludes;
mod filesystem;
mod frames;
mod handle;
mod level;
mod links;
mod names;
mod observe;
mod plan;
mod segments;
mod sources;
mod status;
mod walk;

pub use excludes::Excludes;
pub use handle::Place;
pub use sources::{Named, Sources};
pub use status::{Identity, Status};
pub use walk::{Seen, Sighting, Walk, WalkOptions};
