//! bygone: backups as a filesystem.
//!
//! The code map. Each layer imports only from those above it here; `tests/layers.rs` checks that.

/// Errors, ids, paths and their order, limits, byte coding, and the monitor.
pub mod base;

/// Where objects live: the trait, a local directory, memory, and decorators.
pub mod store;

/// Compression, authentication and, if wanted, encryption of every stored piece.
pub mod seal;

/// Cutting files into chunks and grouping small ones into frames: pure functions over bytes.
pub mod chunk;

/// Every object of a repository as bytes and as structs, and the way between them.
pub mod format;

/// The disk cache: sealed bytes of a distant store, kept on this machine.
pub mod cache;

/// A repository: opening it, writing and reading packs, the index, the catalogue of points, leases.
pub mod repo;

/// From a place in the repository to plain, verified bytes, through memory.
pub mod fetch;

/// Runs of entries: writing, reading, merging, and the chain behind a point.
pub mod manifest;

/// Restore points as a tree of nodes that can be looked up, listed and read. Knows no FUSE.
pub mod tree;

/// From a source tree to a run and packs: the walk, the plan, the pipeline.
pub mod archive;

/// What a person asks for, one public function each.
pub mod ops;

/// The mount: from FUSE requests to the tree.
pub mod fuse;

/// The command line: arguments, one file per command, output as text, JSON or progress.
pub mod cli;
