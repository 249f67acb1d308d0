//! Real mounts of the real binary: what they show, what calls on them answer, how they come and go, and who may look.
//!
//! Needs root, FUSE, and strace, rsync, acl and util-linux; a test that lacks one of them fails and says so.

mod ahead;
mod commands;
mod encrypted;
mod errno;
mod merged;
mod near;
mod permissions;
mod shown;
mod whole;

#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../support/encryption.rs"]
mod encryption;
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/snapshot.rs"]
mod snapshot;
