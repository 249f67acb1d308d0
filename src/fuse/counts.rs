//! What a mount did: requests answered by kind, and what was put into the page cache unasked.
//!
//! Counted for the line that a mount logs at its end, and for whoever asks. Counters are relaxed: each is right, and a
//! line that is made while requests are served need not be of one instant.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fetch::Counters;

/// The kinds of requests that are told apart, in the order of the line. What is refused whatever it asks is not counted:
/// the kernel does most of that by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    Lookup,
    Getattr,
    Readdir,
    Readdirplus,
    Read,
    Readlink,
    Listxattr,
    Getxattr,
    Lseek,
    Access,
    Statfs,
}

/// All kinds, each at the place that its number says.
const KINDS: [RequestKind; 11] = [
    RequestKind::Lookup,
    RequestKind::Getattr,
    RequestKind::Readdir,
    RequestKind::Readdirplus,
    RequestKind::Read,
    RequestKind::Readlink,
    RequestKind::Listxattr,
    RequestKind::Getxattr,
    RequestKind::Lseek,
    RequestKind::Access,
    RequestKind::Statfs,
];

impl RequestKind {
    /// What the kernel's documents call it, in small letters.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Getattr => "getattr",
            Self::Readdir => "readdir",
            Self::Readdirplus => "readdirplus",
            Self::Read => "read",
            Self::Readlink => "readlink",
            Self::Listxattr => "listxattr",
            Self::Getxattr => "getxattr",
            Self::Lseek => "lseek",
            Self::Access => "access",
            Self::Statfs => "statfs",
        }
    }
}

/// What was done since the mount began.
#[derive(Debug, Default)]
pub(super) struct Counts {
    served: [AtomicU64; KINDS.len()],
    errors: AtomicU64,
    read_bytes: AtomicU64,
    pushed_files: AtomicU64,
    pushed_bytes: AtomicU64,
}

impl Counts {
    /// A request of this kind is answered.
    pub(super) fn served(&self, kind: RequestKind) {
        self.served[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A request failed.
    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A reader was given so many bytes.
    pub(super) fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// All requests that were answered.
    pub(super) fn requests(&self) -> u64 {
        self.by_kind().map(|(_, count)| count).sum()
    }

    /// Requests that were answered, by the names of their kinds.
    pub(super) fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().map(|kind| {
            let count = self.served[kind as usize].load(Ordering::Relaxed);
            (kind.name(), count)
        })
    }

    /// Requests that failed.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Bytes that readers were given.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// A file of so many bytes was put into the page cache.
    pub(super) fn pushed(&self, bytes: u64) {
        self.pushed_files.fetch_add(1, Ordering::Relaxed);
        self.pushed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All of it in one line, with what the fetcher counted. Kinds of requests that never came are left out.
    pub(super) fn line<'a>(&'a self, fetched: &'a Counters) -> impl fmt::Display + 'a {
        Line {
            counts: self,
            fetched,
        }
    }
}

/// The form that the man page shows; programs read it.
struct Line<'a> {
    counts: &'a Counts,
    fetched: &'a Counters,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("served")?;
        for (name, count) in self.counts.by_kind() {
            if count > 0 {
                write!(f, " {name}={count}")?;
            }
        }
        write!(
            f,
            "; pushed files={} bytes={}",
            self.counts.pushed_files.load(Ordering::Relaxed),
            self.counts.pushed_bytes.load(Ordering::Relaxed),
        )?;
        let fetched = self.fetched;
        write!(
            f,
            "; frames opened={}; fetched requests={} bytes={}; cache bytes={} peak={} limit={}",
            fetched.frames,
            fetched.requests,
            fetched.fetched_bytes,
            fetched.cached_bytes,
            fetched.cached_bytes_peak,
            fetched.cached_bytes_max,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_place_that_its_number_says() {
        for (place, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }

    #[test]
    fn the_line_has_what_came_and_leaves_out_what_never_did() {
        let counts = Counts::default();
        counts.served(RequestKind::Read);
        counts.served(RequestKind::Lookup);
        counts.served(RequestKind::Read);
        counts.pushed(70);
        counts.pushed(5);
        let fetched = Counters {
            hits: 1,
            misses: 2,
            frames: 3,
            requests: 4,
            fetched_bytes: 5,
            cached_bytes: 6,
            cached_bytes_peak: 7,
            cached_bytes_max: 8,
        };
        assert_eq!(
            counts.line(&fetched).to_string(),
            "served lookup=1 read=2; pushed files=2 bytes=75; frames opened=3; fetched requests=4 bytes=5; \
             cache bytes=6 peak=7 limit=8"
        );
    }
}
