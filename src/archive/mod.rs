//! From the source to a point's run.
mod excludes;
mod filesystem;
mod handle;
mod level;
mod links;
mod names;
mod plan;
mod sources;
mod status;
mod walk;

pub use excludes::Excludes;
pub use handle::Place;
pub use sources::{Named, Sources};
pub use status::{Identity, Status};
pub use walk::{Seen, Sighting, Walk, WalkOptions};
