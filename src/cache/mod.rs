//! The disk cache: what was read of a distant store once is local from then on, in mounts to come too.
//!
//! A decorator of a store. It keeps *sealed bytes as they came*, and so nothing plain at rest, by object and range; of
//! what they mean it knows only which folder an object lies in. The layout, below the cache's directory:
//!
//! ```text
//! <hash of the location>/        one folder a repository, 0700
//!     index.sqlite (-wal, -shm)  what is kept: objects, ranges, listings, pins
//!     objects-<generation>/<n>   the bytes of the object with the number n, at the offsets that they have in it
//!     lock                       held by whoever begins a damaged cache anew
//! ```
//!
//! - **Ranges.** An object's file is sparse: ranges are written where they belong, in pieces of at most 1 MiB which are
//!   rows of the index with the time of their last use and a hash. A read is answered if rows cover all of it; else what
//!   lacks between the first missing byte and the last is fetched by one request. The bytes are written first and their
//!   row then, so that what `kill -9` leaves is bytes that nobody knows of.
//! - **Several processes** share a folder. The index (WAL) is the truth; a process remembers what it read of it until
//!   another one writes. A file that another process began anew is missed, and the index is opened again.
//! - **Trust.** Nothing here is trusted. Whoever opens a sealed piece verifies it, and calls `Store::disbelieve` where
//!   that fails: all that is kept of the object is dropped, and asked for again. An index that is damaged is begun anew. A
//!   folder of another user is not used; one that others may enter is closed to them.
//! - **Eviction** is by recency, one row after the other, by punching holes. What lies in packs goes first; metadata
//!   (everything else) only once packs have less than an eighth of the room. What is pinned stays.
//! - **A full disk** (see also `shared_memory`) costs what is oldest, and if that is not enough, what has just come is not kept. No failure of the
//!   cache is a failure of a read: it is told in the log, and the store is asked instead.
//! - **What may change** (the config, keys, listings) is asked of the store each time, and kept for when it does not
//!   answer: then what is known is given, after a short wait, with a warning. So a new mount works without a network as far as
//!   the cache reaches; what it lacks is unreachable until the store answers again, and nothing need be started anew. A
//!   listing from a name on renews that part of what is known; all of a listing is known only if all was ever asked for.
//!
//! Deliberately not here: prefetching, and any knowledge of what sealed bytes contain.

mod ahead;
mod database;
mod failure;
mod files;
mod folder;
mod kept;
mod kinds;
mod listing;
mod outage;
mod pins;
mod ranges;
mod report;
mod room;
mod schema;
mod shared_memory;
mod store;
mod wal;

use std::path::PathBuf;

pub use folder::{CacheFolder, folder_of, folders};
pub use pins::{Pin, Pinning};
pub use report::{CacheFigures, VerifyFigures};
pub use shared_memory::SharedMemory;
pub use store::CachedStore;
pub use wal::use_write_ahead_log;

/// Where a cache is and how much it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder below which each repository has one of its own.
    pub directory: PathBuf,
    /// Bytes that a repository's cache may take; by default 10 GiB or a tenth of the free space, the smaller.
    pub bytes_max: Option<u64>,
}

#[cfg(test)]
mod tests;
