//! Real mounts of a repository behind a network of 40 ms and 20 MB/s: what they ask for, how long it takes, and what they do
//! when nothing answers.
//!
//! Needs root and FUSE; a test that lacks them fails and says so. The mounts are of this process, in folders of their own,
//! and are taken away by what serves them.

#[path = "../support/backups.rs"]
mod backups;
#[path = "../support/distant.rs"]
mod distant;

#[path = "../support/written.rs"]
mod written;

mod far;
mod figures;
mod local;
mod outage;
mod random;
mod reading;
mod scale;
