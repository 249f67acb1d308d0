//! How the library tells what it is doing: events to a monitor that the caller brings.
//!
//! The library never prints. A monitor must not block for long: events come from the threads that do the work.

use std::path::Path;

/// Something that happened while an operation ran. Sizes are bytes.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message at the level of detail that `-v` shows.
    Note(&'a str),
    /// Something was left out, carried or seen to be wrong, and the operation goes on. The path is absent where it
    /// concerns none.
    Warning(Option<&'a Path>, &'a str),
    /// The operation now works on this path.
    Path(&'a Path),
    /// What is ahead grew: files and bytes more to do than was known.
    Expected { files: u64, bytes: u64 },
    /// Files and bytes more are done.
    Done { files: u64, bytes: u64 },
}

/// Receives events. Also says when to stop.
pub trait Monitor: Send + Sync {
    /// `event` happened.
    fn event(&self, event: Event<'_>);

    /// Should the operation stop as soon as it can, leaving all committed things whole? Asked often.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// A monitor that listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _event: Event<'_>) {}
}
