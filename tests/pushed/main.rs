//! Mounts that are pushed: many readers at once, a store that hangs, limits that pinch, signals and sudden deaths. A
//! mount may become slower by any of it, but never wrong, and never dead.
//!
//! Shortened, as continuous integration has them, in a minute. Whole, by hand, in half an hour:
//! `BYGONE_PUSHED=whole cargo test --release --test pushed -- --test-threads=1`. Needs root and FUSE.

mod death;
mod files;
mod hanging;
mod limits;
mod readers;

#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../support/encryption.rs"]
mod encryption;
#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/random.rs"]
mod random;

use std::fs;
use std::time::Duration;

use machine::Mount;

/// What nothing here takes, unless it hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Are the tests to be run whole, and not as short as they may be?
fn is_whole() -> bool {
    match std::env::var("BYGONE_PUSHED") {
        Ok(value) if value == "whole" => true,
        Ok(value) => panic!("BYGONE_PUSHED is {value:?}: it must be whole, or not set"),
        Err(_) => false,
    }
}

/// How many descriptors a mount's process has open.
fn descriptors(mount: &Mount) -> usize {
    let list = format!("/proc/{}/fd", mount.process.as_raw_nonzero());
    fs::read_dir(list).unwrap().count()
}

/// A figure of `/proc/PID/status` of a mount's process, in bytes: `VmRSS` is the memory that it has now.
fn memory(mount: &Mount, name: &str) -> u64 {
    let path = format!("/proc/{}/status", mount.process.as_raw_nonzero());
    let text = fs::read_to_string(path).unwrap();
    let figure = text.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = figure.unwrap().trim_matches([':', ' ', '\t', 'k', 'B']);
    kibibytes.parse::<u64>().unwrap() << 10
}
