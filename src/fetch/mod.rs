//! From a place in the repository to plain, verified bytes: memory, then the store.
//!
//! What is fetched are *pieces* of runs and *frames* of packs, each sealed by itself; both lie in one memory cache.
//! Neighbours that are asked for together come in one request. A chunk that is missing or damaged where its hint
//! says is looked for in the index, and again once the index was listed anew, before it is called so.
//!
//! Invariants: one fetch per piece or frame that is kept, however many ask at once; the cache never exceeds its limit;
//! no byte of a chunk is returned before the chunk was found to have its id. Nothing here knows what pieces mean.

mod ahead;
mod batch;
mod buffer;
mod crew;
mod distant;
mod frame;
mod gathered;
mod line;
mod memory;
mod parts;
mod patience;
mod recover;
mod scan;
mod segmented;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Error, Result, RunId};
use crate::format::ChunkPlace;
use crate::repo::Repository;
use crate::seal::SealedKind;

use batch::{PlaceKey, Wanted};
use buffer::{Buffers, room_bytes};
use distant::Distant;
use frame::Frame;
use memory::{Memory, Weigh};
use recover::Locations;

pub use ahead::{AheadBytes, Interest, Interested};
pub use frame::ChunkBytes;
pub use gathered::Gathered;
pub use parts::ChunkPart;
pub use patience::{DEFAULT_TIMEOUT, by_deadline};
pub use segmented::SegmentedCache;
pub(crate) use waiting::check_may_wait;
pub use waiting::{WaitLimit, may_wait};

/// A sealed piece of a run.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    pub run: RunId,
    /// Its first byte in the run.
    pub offset: u64,
    /// Sealed bytes.
    pub length: u32,
    pub kind: SealedKind,
    /// What it was sealed with: its place.
    pub associated: &'a [u8],
}

/// What the fetcher did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pieces and frames that were in memory, or already on their way.
    pub hits: u64,
    /// Those that were not.
    pub misses: u64,
    /// Frames that were fetched, verified and decompressed.
    pub frames: u64,
    /// Requests to the store for pieces and frames.
    pub requests: u64,
    /// Bytes that these brought.
    pub fetched_bytes: u64,
    /// Bytes in memory now.
    pub cached_bytes: u64,
    /// The most that were ever in memory at a time.
    pub cached_bytes_peak: u64,
    /// The most that may be.
    pub cached_bytes_max: u64,
}

/// Fetches pieces and chunks of one repository. Any thread may use it.
pub struct Fetcher {
    repository: Arc<Repository>,
    memory: Memory<PlaceKey, Cached>,
    buffers: Arc<Buffers>,
    locations: Locations,
    /// How the store is asked, if it is distant.
    distant: Option<Arc<Distant>>,
    /// Sealed bytes that are under way before anyone asked for them.
    ahead_under_way: AtomicU64,
    frames: AtomicU64,
    requests: AtomicU64,
    fetched_bytes: AtomicU64,
}

/// What the memory cache keeps.
#[derive(Clone)]
enum Cached {
    Piece(Bytes),
    Frame(Arc<Frame>),
}

impl Fetcher {
    /// A fetcher that keeps at most `memory_bytes` bytes of plain pieces and frames in memory.
    pub fn new(repository: Arc<Repository>, memory_bytes: u64) -> Arc<Self> {
        Self::with_timeout(repository, memory_bytes, DEFAULT_TIMEOUT)
    }

    /// The same; where the store is distant, it is waited for no longer than `timeout`, or until the deadline of the
    /// thread that waits.
    pub fn with_timeout(
        repository: Arc<Repository>,
        memory_bytes: u64,
        timeout: Duration,
    ) -> Arc<Self> {
        let distant = repository
            .store()
            .is_distant()
            .then(|| Arc::new(Distant::new(&repository, memory_bytes, timeout)));
        Arc::new(Self {
            repository,
            distant,
            ahead_under_way: AtomicU64::new(0),
            memory: Memory::new(memory_bytes),
            buffers: Arc::default(),
            locations: Locations::default(),
            frames: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
        })
    }

    /// The repository that this fetches from.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// The plain bytes of a run's piece.
    ///
    /// # Errors
    /// Missing, if the run is not there; corrupt, if the piece is not what was sealed; denied, unreachable or failed
    /// as the store has it. The message names run and offset.
    pub fn piece(&self, piece: &Piece<'_>) -> Result<Bytes> {
        let wanted = Wanted::piece(piece);
        let cached = match self.memory.get(&wanted.key) {
            Some(cached) => cached,
            None => self.fetch_one(&wanted)?,
        };
        cached.into_piece()
    }

    /// Is a piece in memory, or on its way? Asking does not count as use.
    pub fn has_piece(&self, piece: &Piece<'_>) -> bool {
        self.memory.is_known(&Wanted::piece(piece).key)
    }

    /// The plain bytes of several pieces, in the order asked. Neighbours come in one request.
    ///
    /// # Errors
    /// The first failure among them, as `piece` has it.
    pub fn pieces(&self, pieces: &[Piece<'_>]) -> Result<Vec<Bytes>> {
        let wanted: Vec<Wanted<'_>> = pieces.iter().map(Wanted::piece).collect();
        self.fetch(&wanted)
            .into_iter()
            .map(|cached| cached?.into_piece())
            .collect()
    }

    /// A chunk of a file's content, verified.
    ///
    /// # Errors
    /// Missing or corrupt, if no location has it whole; denied, unreachable or failed as the store has it. The
    /// message names chunk, pack and offset.
    pub fn chunk(&self, place: &ChunkPlace) -> Result<ChunkBytes> {
        self.chunk_of(SealedKind::Data, place)
    }

    /// Can a chunk be had without a network: from memory, a disk of this machine, or its cache?
    pub fn has_chunk_here(&self, place: &ChunkPlace) -> bool {
        self.is_here(&Wanted::frame(SealedKind::Data, place))
    }

    /// The same of a chunk that is an extent list.
    pub fn has_extent_list_here(&self, place: &ChunkPlace) -> bool {
        self.is_here(&Wanted::frame(SealedKind::ExtentList, place))
    }

    /// A chunk that is an extent list, verified.
    ///
    /// # Errors
    /// Those of `chunk`.
    pub fn extent_list(&self, place: &ChunkPlace) -> Result<ChunkBytes> {
        self.chunk_of(SealedKind::ExtentList, place)
    }

    /// What this did so far.
    pub fn counters(&self) -> Counters {
        let memory = self.memory.counters();
        Counters {
            hits: memory.hits,
            misses: memory.misses,
            frames: self.frames.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            fetched_bytes: self.fetched_bytes.load(Ordering::Relaxed),
            cached_bytes: memory.bytes,
            cached_bytes_peak: memory.bytes_peak,
            cached_bytes_max: memory.bytes_max,
        }
    }

    fn chunk_of(&self, kind: SealedKind, place: &ChunkPlace) -> Result<ChunkBytes> {
        self.chunk_at(kind, place)
            .or_else(|error| self.recover(kind, place, error))
    }

    /// The chunk where its hint says, and nowhere else.
    fn chunk_at(&self, kind: SealedKind, place: &ChunkPlace) -> Result<ChunkBytes> {
        let wanted = Wanted::frame(kind, place);
        let cached = match self.memory.get(&wanted.key) {
            Some(cached) => cached,
            None => self.fetch_one(&wanted)?,
        };
        self.verified(cached, place)
    }

    fn verified(&self, cached: Cached, place: &ChunkPlace) -> Result<ChunkBytes> {
        cached
            .into_frame()?
            .chunk(self.repository.seal(), place)
            .map_err(|error| {
                let hint = &place.hint;
                error.context(format_args!(
                    "pack {}, frame at {}",
                    hint.pack, hint.frame_offset
                ))
            })
    }
}

impl Weigh for Cached {
    fn weight(&self) -> u64 {
        match self {
            Self::Piece(bytes) => (room_bytes(bytes.len()) + size_of::<Self>()) as u64,
            Self::Frame(frame) => frame.weight(),
        }
    }
}

impl Cached {
    fn into_piece(self) -> Result<Bytes> {
        match self {
            Self::Piece(bytes) => Ok(bytes),
            Self::Frame(_) => Err(Error::corrupt("a run", "a frame lies where a piece should")),
        }
    }

    fn into_frame(self) -> Result<Arc<Frame>> {
        match self {
            Self::Frame(frame) => Ok(frame),
            Self::Piece(_) => Err(Error::corrupt(
                "a pack",
                "a piece lies where a frame should",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
