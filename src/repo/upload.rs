//! The threads that put packs and, every few of them, an index run of what they hold.
//!
//! Invariants: an index run names packs that are put, and no others; after a failure nothing more is put, but what was
//! put is still indexed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use crossbeam_channel::Receiver;

use crate::base::{ChunkId, Error, ErrorKind, PackId, Result};
use crate::format::{ChunkPlace, Hint, PackDirectory, pack_name};
use crate::store::Body;

use super::{Index, Repository};

/// Packs that are on their way at once to a store that is far away: they fill the line while the server stores one
/// and another's connection speeds up. Each is in memory until it is put. A disk takes one after the other.
const PACKS_AT_ONCE_DISTANT: usize = 3;

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

/// Chunks whose packs are put and that no index run has yet.
#[derive(Default)]
struct Unindexed {
    places: Vec<ChunkPlace>,
    packs: usize,
}

/// What the writer and the threads share.
pub(super) struct Shared {
    repository: Arc<Repository>,
    /// The index runs of this writer.
    own: Index,
    /// Chunks that no index run has yet.
    pending: RwLock<HashMap<ChunkId, ChunkPlace>>,
    /// The first failure: its kind and its message.
    failure: Mutex<Option<(ErrorKind, String)>>,
    spare: Mutex<Vec<Vec<u8>>>,
    unindexed: Mutex<Unindexed>,
    /// Held while an index run is written, so that two threads do not merge the same runs.
    indexing: Mutex<()>,
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
            unindexed: Mutex::default(),
            indexing: Mutex::new(()),
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

    /// Puts a pack, and an index run where it is time for one.
    fn put(&self, pack: FullPack) -> Result<()> {
        let end = pack.directory.encode(self.repository.seal(), &pack.id)?;
        let body = [Bytes::from(pack.frames), Bytes::from(end)];
        self.repository
            .store()
            .put_new(&pack_name(&pack.id), Body::Shared(&body))?;
        let [frames, end] = body;
        self.count((frames.len() + end.len()) as u64);
        self.keep_buffer(frames);
        match self.add_unindexed(places_of(&pack.id, &pack.directory)) {
            Some(places) => self.index(&places),
            None => Ok(()),
        }
    }

    /// Remembers chunks whose pack is put; gives back all of them once they are many.
    fn add_unindexed(&self, places: Vec<ChunkPlace>) -> Option<Vec<ChunkPlace>> {
        let mut unindexed = self.unindexed();
        unindexed.places.extend(places);
        unindexed.packs += 1;
        let are_many =
            unindexed.packs >= INDEX_PACKS_MAX || unindexed.places.len() >= INDEX_ROWS_MAX;
        are_many.then(|| std::mem::take(&mut *unindexed).places)
    }

    /// Indexes what is left, when no thread puts packs any more.
    pub(super) fn index_rest(&self) -> Result<()> {
        let rest = std::mem::take(&mut *self.unindexed()).places;
        match rest.is_empty() {
            true => Ok(()),
            false => self.index(&rest),
        }
    }

    fn unindexed(&self) -> MutexGuard<'_, Unindexed> {
        self.unindexed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an index run of these chunks, whose packs are put; from then on it answers for them.
    fn index(&self, places: &[ChunkPlace]) -> Result<()> {
        let _indexing = self.indexing.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Keeps the memory of a pack that was put, unless the store still holds on to it.
    fn keep_buffer(&self, frames: Bytes) {
        let Ok(mut buffer) = frames.try_into_mut().map(Vec::from) else {
            return;
        };
        buffer.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }
}

/// How many threads put packs of this repository.
pub(super) fn threads_of(repository: &Repository) -> usize {
    match repository.store().is_distant() {
        true => PACKS_AT_ONCE_DISTANT,
        false => 1,
    }
}

/// Puts packs until no more come, or one has failed.
pub(super) fn upload_all(shared: &Shared, packs: &Receiver<FullPack>) {
    for pack in packs {
        if shared.check().is_err() {
            continue;
        }
        if let Err(error) = shared.put(pack) {
            shared.fail(&error);
        }
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

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::super::{InitOptions, PackWriter};
    use super::*;
    use crate::format::{Chunking, FrameChunk};
    use crate::seal::{Compression, SealedKind};
    use crate::store::{Listed, MemoryStore, Store};

    /// A store that takes its time with packs, and counts how many it is given at once.
    #[derive(Default)]
    struct Slow {
        inner: MemoryStore,
        is_distant: bool,
        under_way: AtomicUsize,
        most: AtomicUsize,
    }

    impl Store for Slow {
        fn get(&self, name: &str) -> Result<Vec<u8>> {
            self.inner.get(name)
        }
        fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
            self.inner.get_range(name, range)
        }
        fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
            self.inner.get_tail(name, length)
        }
        fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
            if name.starts_with("packs/") {
                let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(under_way, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                self.under_way.fetch_sub(1, Ordering::SeqCst);
            }
            self.inner.put_new(name, body)
        }
        fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
            self.inner.list(prefix, from)
        }
        fn delete(&self, name: &str) -> Result<()> {
            self.inner.delete(name)
        }
        fn location(&self) -> String {
            "slow".to_owned()
        }
        fn is_distant(&self) -> bool {
            self.is_distant
        }
    }

    /// How many packs of 20 were on their way at once.
    fn most_at_once(is_distant: bool) -> usize {
        const FRAME_BYTES: u32 = 10_000;
        let store = Arc::new(Slow {
            is_distant,
            ..Slow::default()
        });
        let options = InitOptions {
            chunking: Chunking {
                pack_bytes: FRAME_BYTES,
                ..Chunking::default()
            },
            ..InitOptions::default()
        };
        let repository = Repository::init(store.clone(), &options).unwrap();
        let writer = PackWriter::create(Arc::clone(&repository), false).unwrap();
        for number in 0..20_u8 {
            let plain = vec![number; FRAME_BYTES as usize];
            let mut sealed = Vec::new();
            let kind = SealedKind::Data;
            let seal = repository.seal();
            seal.seal(kind, b"", &plain, Compression::Off, &mut sealed)
                .unwrap();
            let chunk = FrameChunk {
                id: seal.chunk_id(&plain),
                offset: 0,
                length: FRAME_BYTES,
            };
            writer
                .add_frame(kind, &sealed, FRAME_BYTES, &[chunk])
                .unwrap();
        }
        writer.finish().unwrap();
        let packs = store.list("packs/", "").unwrap().len();
        let indexed = Index::open(&repository).unwrap().packs().unwrap().len();
        assert_eq!((packs, indexed), (20, 20));
        store.most.load(Ordering::SeqCst)
    }

    #[test]
    fn a_few_packs_go_at_once_to_where_it_is_far_and_no_more() {
        assert_eq!(most_at_once(true), PACKS_AT_ONCE_DISTANT);
        assert_eq!(most_at_once(false), 1);
    }
}
