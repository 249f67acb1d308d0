//! The thread that puts packs and, every few of them, an index run of what they hold.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crossbeam_channel::Receiver;

use crate::base::{ChunkId, Error, ErrorKind, PackId, Result};
use crate::format::{ChunkPlace, Hint, PackDirectory, pack_name};
use crate::store::Body;

use super::{Index, Repository};

/// Packs that are put before an index run names them: what an interruption costs the next backup.
const INDEX_PACKS_MAX: usize = 4;

/// Chunks that wait for an index run, and chunks of one pack, whose places are in memory until then.
pub(super) const INDEX_ROWS_MAX: usize = 64 << 10;

/// Index runs that one writer has before it merges them: a long backup writes thousands.
const OWN_RUNS_MAX: usize = 8;

/// Buffers of packs that are kept to be filled again: a fresh one costs a page fault every 4 KiB.
const SPARE_BUFFERS_MAX: usize = 1;

/// A pack whose frames are complete.
pub(super) struct FullPack {
    pub(super) id: PackId,
    pub(super) frames: Vec<u8>,
    pub(super) directory: PackDirectory,
}

/// What the writer and the thread share.
pub(super) struct Shared {
    repository: Arc<Repository>,
    /// The index runs of this writer.
    own: Index,
    /// Chunks that no index run has yet.
    pending: RwLock<HashMap<ChunkId, ChunkPlace>>,
    /// The first failure: its kind and its message.
    failure: Mutex<Option<(ErrorKind, String)>>,
    spare: Mutex<Vec<Vec<u8>>>,
    stored_bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(repository: &Arc<Repository>) -> Self {
        Self {
            repository: Arc::clone(repository),
            own: Index::empty_for_writer(repository),
            pending: RwLock::default(),
            failure: Mutex::new(None),
            spare: Mutex::default(),
            stored_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn own(&self) -> &Index {
        &self.own
    }

    /// The place of a chunk that no index run has yet.
    pub(super) fn pending(&self, id: &ChunkId) -> Option<ChunkPlace> {
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        pending.get(id).copied()
    }

    pub(super) fn add_pending(&self, places: &[ChunkPlace]) {
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.extend(places.iter().map(|place| (place.id, *place)));
    }

    /// Fails as the first pack failed that could not be put.
    pub(super) fn check(&self) -> Result<()> {
        match &*self.failure() {
            Some((kind, message)) => Err(Error::new(*kind, message.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn fail(&self, error: &Error) {
        self.failure()
            .get_or_insert_with(|| (error.kind(), error.to_string()));
    }

    /// An empty buffer, with the memory of a pack that was put, if there is one.
    pub(super) fn spare_buffer(&self) -> Vec<u8> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    /// Bytes that were put so far.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    fn failure(&self) -> MutexGuard<'_, Option<(ErrorKind, String)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a pack, and returns the places of its chunks.
    fn put(&self, pack: FullPack) -> Result<Vec<ChunkPlace>> {
        let end = pack.directory.encode(self.repository.seal(), &pack.id)?;
        let body = [pack.frames.as_slice(), end.as_slice()];
        self.repository
            .store()
            .put_new(&pack_name(&pack.id), Body::Bytes(&body))?;
        self.count((pack.frames.len() + end.len()) as u64);
        let places = places_of(&pack.id, &pack.directory);
        self.keep_buffer(pack.frames);
        Ok(places)
    }

    /// Writes an index run of these chunks, whose packs are put; from then on it answers for them.
    fn index(&self, places: &[ChunkPlace]) -> Result<()> {
        self.count(self.own.write(places)?);
        let packs: HashSet<PackId> = places.iter().map(|place| place.hint.pack).collect();
        {
            let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
            pending.retain(|_, place| !packs.contains(&place.hint.pack));
        }
        // Only a help for later lookups: the backup does not fail for it.
        match self.own.merge(OWN_RUNS_MAX) {
            Ok(bytes) => self.count(bytes),
            Err(error) => log::warn!("cannot merge index runs: {error}"),
        }
        Ok(())
    }

    /// So many bytes more were put.
    pub(super) fn count(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn keep_buffer(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }
}

/// Puts packs until no more come. After a failure nothing more is put, but what was put is still indexed.
pub(super) fn upload_all(shared: &Shared, packs: &Receiver<FullPack>) {
    let mut unindexed = Vec::new();
    let mut packs_put = 0;
    for pack in packs {
        if shared.check().is_err() {
            continue;
        }
        let result = shared.put(pack).and_then(|places| {
            unindexed.extend(places);
            packs_put += 1;
            if packs_put < INDEX_PACKS_MAX && unindexed.len() < INDEX_ROWS_MAX {
                return Ok(());
            }
            packs_put = 0;
            shared.index(&std::mem::take(&mut unindexed))
        });
        if let Err(error) = result {
            shared.fail(&error);
        }
    }
    if !unindexed.is_empty()
        && let Err(error) = shared.index(&unindexed)
    {
        shared.fail(&error);
    }
}

/// Where a pack's chunks are: all that an index needs, from the pack alone.
pub(super) fn places_of(pack: &PackId, directory: &PackDirectory) -> Vec<ChunkPlace> {
    directory
        .frames()
        .iter()
        .flat_map(|frame| {
            frame.chunks.iter().map(|chunk| ChunkPlace {
                id: chunk.id,
                length: chunk.length,
                hint: Hint {
                    pack: *pack,
                    frame_offset: frame.offset,
                    frame_length: frame.length,
                    offset_in_frame: chunk.offset,
                },
            })
        })
        .collect()
}
