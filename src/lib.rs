//! bygone: backups as a filesystem.
//!
//! The code map, each layer above those that it may import from; the blank lines keep rustfmt from sorting it.

pub mod base;

pub mod store;

pub mod seal;

pub mod format;

pub mod ops;

pub mod cli;
