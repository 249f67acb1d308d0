//! A repository: a store whose objects have meaning.
//!
//! Everything here writes new objects only, in the order that keeps a repository whole whenever it stops: packs, the
//! index of what they hold, (the manifest, a floor above,) and the point, whose appearance is the commit. Reading
//! takes no lock. What a point's runs say is not known here.

mod catalogue;
mod index;
mod keys;
mod lease;
mod memory;
mod observed;
mod pack_writer;
mod packs;
mod point_filter;
mod repository;
mod rolled;
mod upload;

pub use catalogue::{
    Catalogue, commit, new_point_id, newest_of_chains, point_ids, points, read_point, with_footers,
};
pub use index::{Index, IndexLocation};
pub use keys::{Key, add_key, change_password, keys, remove_key};
pub use lease::{Lease, leases};
pub use memory::{Memory, Warning, warnings};
pub use observed::{Newest, Observed, Seen};
pub use pack_writer::{PackWriter, UploadFigures};
pub use packs::{list_packs, read_pack_directory};
pub use point_filter::{PointFilter, recorded_paths};
pub use repository::{Closed, Encryption, InitOptions, Repository};
pub use rolled::{read_roll_up, roll_up, roll_ups};

pub use crate::format::FrameChunk;
