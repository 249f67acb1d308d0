//! Real mounts of the real binary: what they show, what calls on them answer, how they come and go, and who may look.
//!
//! Needs root, FUSE, and strace, rsync, acl and util-linux; a test that lacks one of them fails and says so.

mod ahead;
mod commands;
mod errno;
mod merged;
mod near;
mod permissions;
mod shown;
mod whole;

#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/snapshot.rs"]
mod snapshot;
