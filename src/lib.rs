//! bygone: backups as a filesystem.
//!
//! The code map. Each layer imports only from those above it here; `tests/layers.rs` checks that.

/// Errors, ids, paths and their order, limits, byte coding, and the monitor.
pub mod base;

/// Where objects live: the trait, a local directory, memory, and decorators.
pub mod store;

/// Compression, authentication and, one day, encryption of every stored piece.
pub mod seal;

/// How bytes are divided: files into chunks, chunks into frames.
pub mod chunk;

/// Every object of a repository as bytes and as structs, and the way between them.
pub mod format;

/// A repository opened: packs written, chunks found by the index, points listed and committed, leases.
pub mod repo;

/// From a place in the repository to plain, verified bytes, through memory.
pub mod fetch;

/// Runs written and read, and the chain of them that a point stands on: lookup, listing, iteration.
pub mod manifest;

/// A restore point as a tree: node ids, directories, extents. Knows no FUSE.
pub mod tree;

/// From a source tree to the packs and the run of a point.
pub mod archive;

/// What a person asks for, one public function each.
pub mod ops;

/// A tree as a mounted file system.
pub mod fuse;

/// The command line: arguments, one file per command, output as text, JSON or progress.
pub mod cli;
