//! How bytes are divided: files into chunks, chunks into frames. Pure functions over bytes.
//!
//! Cut points depend on the bytes, the parameters and the repository's seed alone, so that equal content is cut alike
//! whenever and wherever it is backed up. Nothing here reads a file, hashes, compresses or knows what a pack is.

mod cut;
mod group;
mod image;

pub use cut::{ContentSizes, Cutter, is_zero};
pub use group::{Group, Grouped, Grouping};
pub use image::{IMAGE_HEAD_BYTES, is_disk_image};
