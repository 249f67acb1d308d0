//! What several test binaries share. Each uses a part of it.

pub mod edits;
pub mod random;
pub mod snapshot;
