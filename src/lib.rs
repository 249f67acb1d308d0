//! bygone: backups as a filesystem.
//!
//! The code map, each layer above those that it may import from:
pub mod archive;
pub mod base;
pub mod chunk;
pub mod format;
pub mod store;
