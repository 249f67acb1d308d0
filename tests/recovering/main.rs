//! From "it was there once" to having it back: finding, comparing and restoring on the history of a real project, each
//! held against what other tools say of plain copies.
//!
//! Needs root, FUSE, curl, tar, rsync, diffutils and findutils, and the network the first time; bash, zsh, fish, less,
//! script and systemd-analyze for how the program is met at a terminal and installed. A test that lacks one of them fails
//! and says so.

mod chain;
mod completions;
mod config;
mod diff;
mod dump;
mod find;
mod history;
mod install;
mod itemized;
mod mistakes;
mod restore;
mod restored_trees;
mod stats;
mod terminal;
mod views;

#[path = "../support/backups.rs"]
mod backups;
#[path = "../support/edits.rs"]
mod edits;
#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../support/encryption.rs"]
mod encryption;
#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/snapshot.rs"]
mod snapshot;
