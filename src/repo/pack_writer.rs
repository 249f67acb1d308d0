//! Writing chunks: frames are gathered into packs, which are put in the background.
//!
//! Invariants: a chunk that this writer reports as having a place is in the repository once `finish` has returned,
//! and so are the index runs that say so; an index run never names a pack that is not there. What was put before an
//! interruption is indexed every few packs, so that the next backup finds it. Packs in memory are few: the one that
//! fills, one that waits, and those that are being put, one to a disk and a few to a store that is far away.
//!
//! It does not compress, and does not know whether two of its callers add the same chunk at once: then it has two
//! places, and either is good.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

use crate::base::{ChunkId, Error, ErrorKind, PackId, Result};
use crate::format::{ChunkPlace, FrameChunk, Hint, PackDirectory};
use crate::seal::SealedKind;

use super::repository::random_bytes;
use super::upload::{FullPack, INDEX_ROWS_MAX, Shared, places_of, threads_of, upload_all};
use super::{Index, Repository, list_packs, read_pack_directory};

/// How many index runs may be live before some are merged: each costs a lookup a page or two.
const LIVE_RUNS_MAX: usize = 16;

/// What a writer put, in bytes: plain ones before compression, stored ones as frames in packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadFigures {
    /// Of chunks that the repository had not had.
    pub newly_uploaded_bytes: u64,
    pub newly_uploaded_stored_bytes: u64,
    /// Of chunks that it had and that were written again.
    pub reuploaded_bytes: u64,
    pub reuploaded_stored_bytes: u64,
    /// All that was put: packs with their directories, and index runs.
    pub stored_bytes: u64,
}

/// Gathers frames into packs and puts them. All methods may be called from any thread.
pub struct PackWriter {
    repository: Arc<Repository>,
    reupload: bool,
    /// What the repository had when it was first asked: a backup without new content never asks.
    known: OnceLock<Index>,
    /// Packs that its index names and that are not there. Empty, almost always.
    missing: OnceLock<HashSet<PackId>>,
    opening: Mutex<()>,
    has_warned: AtomicBool,
    filling: Mutex<Filling>,
    shared: Arc<Shared>,
    figures: Mutex<UploadFigures>,
    uploaders: Option<Uploaders>,
}

/// The pack that fills.
struct Filling {
    id: PackId,
    frames: Vec<u8>,
    directory: PackDirectory,
    chunks: usize,
}

/// The threads that put packs, and the way to them.
struct Uploaders {
    sender: Sender<FullPack>,
    threads: Vec<JoinHandle<()>>,
}

impl PackWriter {
    /// A writer that puts what the repository has not; with `reupload`, all that it is given.
    ///
    /// # Errors
    /// Failed, if this version of bygone may not write to the repository, or no thread can be started.
    pub fn create(repository: Arc<Repository>, reupload: bool) -> Result<Self> {
        repository.check_writable()?;
        let shared = Arc::new(Shared::new(&repository));
        let uploaders = Uploaders::start(&shared, threads_of(&repository))?;
        Ok(Self {
            reupload,
            known: OnceLock::new(),
            missing: OnceLock::new(),
            opening: Mutex::new(()),
            has_warned: AtomicBool::new(false),
            filling: Mutex::new(Filling::new(Vec::new())?),
            shared,
            figures: Mutex::default(),
            uploaders: Some(uploaders),
            repository,
        })
    }

    /// Where a chunk of `length` bytes is, if it need not be added: in the repository, or written before by this
    /// writer; with `reupload` only the latter.
    ///
    /// # Errors
    /// Those of the store. A damaged index is no error: what only it knows is uploaded again.
    pub fn find(&self, id: &ChunkId, length: u32) -> Result<Option<ChunkPlace>> {
        let written = match self.shared.pending(id) {
            Some(place) => Some(place),
            None => self.find_in(self.shared.own(), id, length)?,
        };
        match written.filter(|place| place.length == length) {
            Some(place) => Ok(Some(place)),
            None if self.reupload => Ok(None),
            None => self.find_in(self.known()?, id, length),
        }
    }

    /// Adds a sealed frame of `plain_length` plain bytes, in which these chunks lie, and tells where they are now.
    /// Waits while the pack before is still being put.
    ///
    /// # Errors
    /// Failed, if no pack can hold it; and whatever failed in putting an earlier pack.
    pub fn add_frame(
        &self,
        kind: SealedKind,
        sealed: &[u8],
        plain_length: u32,
        chunks: &[FrameChunk],
    ) -> Result<Vec<ChunkPlace>> {
        self.shared.check()?;
        self.count(sealed.len() as u64, chunks)?;
        let pack_bytes = self.repository.config().chunking.pack_bytes as usize;
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if !filling.frames.is_empty() && filling.frames.len() + sealed.len() > pack_bytes {
            self.send(&mut filling)?;
        }
        if filling.frames.capacity() == 0 {
            filling.frames.reserve_exact(pack_bytes.max(sealed.len()));
        }
        let places = filling.add(kind, sealed, plain_length, chunks)?;
        self.shared.add_pending(&places);
        if filling.frames.len() >= pack_bytes || filling.chunks >= INDEX_ROWS_MAX {
            self.send(&mut filling)?;
        }
        Ok(places)
    }

    /// Puts what is left, and the index of it, and merges index runs where they have become many.
    ///
    /// # Errors
    /// Whatever failed in putting any of it: then no chunk that was added may be relied on.
    pub fn finish(mut self) -> Result<UploadFigures> {
        {
            let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
            if !filling.frames.is_empty() {
                self.send(&mut filling)?;
            }
        }
        self.stop();
        self.shared.check()?;
        let mut figures = *self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.stored_bytes = self.shared.stored_bytes();
        if figures.stored_bytes > 0 {
            // Only a help for later lookups: the backup does not fail for it.
            match self.merge_runs() {
                Ok(bytes) => figures.stored_bytes += bytes,
                Err(error) => log::warn!("cannot merge index runs: {error}"),
            }
        }
        Ok(figures)
    }

    fn merge_runs(&self) -> Result<u64> {
        let index = self.known()?;
        index.refresh()?;
        index.merge(LIVE_RUNS_MAX)
    }

    /// Hands the pack that fills to the uploader, and begins another one.
    fn send(&self, filling: &mut Filling) -> Result<()> {
        let next = Filling::new(self.shared.spare_buffer())?;
        let full = std::mem::replace(filling, next);
        let pack = FullPack {
            id: full.id,
            frames: full.frames,
            directory: full.directory,
        };
        let is_sent = self
            .uploaders
            .as_ref()
            .is_some_and(|uploaders| uploaders.sender.send(pack).is_ok());
        match is_sent {
            true => self.shared.check(),
            false => Err(Error::new(
                ErrorKind::Failed,
                "packs are no longer uploaded: the threads that did it have ended",
            )),
        }
    }

    /// Waits until all packs that were sent are put, or have failed, and indexes what is put.
    fn stop(&mut self) {
        let Some(Uploaders { sender, threads }) = self.uploaders.take() else {
            return;
        };
        drop(sender);
        for thread in threads {
            if thread.join().is_err() {
                self.shared.fail(&Error::new(
                    ErrorKind::Failed,
                    "a thread that uploads packs has panicked",
                ));
            }
        }
        if let Err(error) = self.shared.index_rest() {
            self.shared.fail(&error);
        }
    }

    fn known(&self) -> Result<&Index> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let index = Index::open_for_writer(&self.repository)?;
        // Only a help: without it, what an interrupted backup uploaded last is uploaded again.
        if let Err(error) = self.compare_with_packs(&index) {
            log::warn!("cannot compare the index with the packs: {error}");
        }
        Ok(self.known.get_or_init(|| index))
    }

    /// Holds the index against the packs that there are: what lay in a lost pack is not there, whatever the index says.
    fn compare_with_packs(&self, index: &Index) -> Result<()> {
        // In this order: a pack that another backup puts meanwhile is only listed.
        let indexed = index.packs()?;
        let listed: HashSet<PackId> = list_packs(&self.repository)?
            .into_iter()
            .map(|(pack, _)| pack)
            .collect();
        let missing: HashSet<PackId> = indexed
            .iter()
            .filter(|pack| !listed.contains(*pack))
            .copied()
            .collect();
        if !missing.is_empty() {
            log::warn!(
                "packs are missing that the index names ({}): what lay in them is uploaded again where it is read",
                missing.len()
            );
        }
        self.missing.get_or_init(|| missing);
        self.index_stray_packs(
            index,
            listed.into_iter().filter(|pack| !indexed.contains(pack)),
        )
    }

    /// Indexes packs that no index run names: those that a backup put last before it was killed.
    fn index_stray_packs(&self, index: &Index, strays: impl Iterator<Item = PackId>) -> Result<()> {
        let mut places = Vec::new();
        for pack in strays {
            match read_pack_directory(&self.repository, &pack) {
                Ok(directory) => places.extend(places_of(&pack, &directory)),
                Err(error) => log::warn!("no index names a pack, and it cannot be read: {error}"),
            }
            if places.len() >= INDEX_ROWS_MAX {
                self.shared
                    .count(index.write(&std::mem::take(&mut places))?);
            }
        }
        if !places.is_empty() {
            self.shared.count(index.write(&places)?);
        }
        Ok(())
    }

    fn is_missing(&self, pack: &PackId) -> bool {
        self.missing
            .get()
            .is_some_and(|missing| missing.contains(pack))
    }

    /// A chunk's place by an index; what a damaged index cannot tell is not there.
    fn find_in(&self, index: &Index, id: &ChunkId, length: u32) -> Result<Option<ChunkPlace>> {
        match index.find(id) {
            Ok(places) => Ok(places
                .into_iter()
                .find(|place| place.length == length && !self.is_missing(&place.hint.pack))),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing) => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "the index is damaged, what it cannot tell is uploaded again: {error}"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Counts a frame as new or written again, by its chunks.
    fn count(&self, sealed_bytes: u64, chunks: &[FrameChunk]) -> Result<()> {
        let mut new_bytes = 0;
        let mut old_bytes = 0;
        for chunk in chunks {
            let is_old = self.reupload
                && self
                    .find_in(self.known()?, &chunk.id, chunk.length)?
                    .is_some();
            *(if is_old {
                &mut old_bytes
            } else {
                &mut new_bytes
            }) += u64::from(chunk.length);
        }
        let old_stored_bytes = (sealed_bytes * old_bytes)
            .checked_div(old_bytes + new_bytes)
            .unwrap_or_default();
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.newly_uploaded_bytes += new_bytes;
        figures.newly_uploaded_stored_bytes += sealed_bytes - old_stored_bytes;
        figures.reuploaded_bytes += old_bytes;
        figures.reuploaded_stored_bytes += old_stored_bytes;
        Ok(())
    }
}

impl Drop for PackWriter {
    /// Whoever gives up still leaves an index of the packs that are put.
    fn drop(&mut self) {
        self.stop();
    }
}

impl Uploaders {
    fn start(shared: &Arc<Shared>, count: usize) -> Result<Self> {
        // Without a queue: a full pack waits in the hands of whoever filled it, so that no other one is in memory.
        let (sender, receiver) = crossbeam_channel::bounded(0);
        let start = |_| {
            let (shared, receiver) = (Arc::clone(shared), receiver.clone());
            std::thread::Builder::new()
                .name("upload".to_owned())
                .spawn(move || upload_all(&shared, &receiver))
                .map_err(|error| Error::io("start a thread", error))
        };
        let threads = (0..count).map(start).collect::<Result<_>>()?;
        Ok(Self { sender, threads })
    }
}

impl Filling {
    fn new(frames: Vec<u8>) -> Result<Self> {
        Ok(Self {
            id: PackId(random_bytes()?),
            frames,
            directory: PackDirectory::new(),
            chunks: 0,
        })
    }

    fn add(
        &mut self,
        kind: SealedKind,
        sealed: &[u8],
        plain_length: u32,
        chunks: &[FrameChunk],
    ) -> Result<Vec<ChunkPlace>> {
        let frame_offset = self
            .directory
            .add(kind, sealed.len(), plain_length, chunks)?;
        self.frames.extend_from_slice(sealed);
        self.chunks += chunks.len();
        let frame_length = self.directory.end() - frame_offset;
        let place = |chunk: &FrameChunk| ChunkPlace {
            id: chunk.id,
            length: chunk.length,
            hint: Hint {
                pack: self.id,
                frame_offset,
                frame_length,
                offset_in_frame: chunk.offset,
            },
        };
        Ok(chunks.iter().map(place).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::InitOptions;
    use super::*;
    use crate::format::{Chunking, INDEX_PREFIX, prefix_of};
    use crate::seal::Compression;
    use crate::store::{Fault, FaultPlan, MemoryStore, Moment, Recording, RequestKind};

    /// Packs so small that a test fills many.
    const PACK_BYTES: u32 = 20_000;

    fn small_packs() -> InitOptions {
        InitOptions {
            chunking: Chunking {
                pack_bytes: PACK_BYTES,
                ..Chunking::default()
            },
            ..InitOptions::default()
        }
    }

    fn repository() -> (Arc<MemoryStore>, Arc<Repository>) {
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store.clone(), &small_packs()).unwrap();
        (store, repository)
    }

    /// The plain bytes of a frame with two chunks, no two frames alike.
    fn plain(number: u32) -> Vec<u8> {
        let mut bytes = vec![0; 1000];
        blake3::Hasher::new()
            .update(&number.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn chunks(repository: &Repository, number: u32) -> [FrameChunk; 2] {
        let plain = plain(number);
        [(0, 300), (300, 700)].map(|(offset, length)| FrameChunk {
            id: repository
                .seal()
                .chunk_id(&plain[offset as usize..(offset + length) as usize]),
            offset,
            length,
        })
    }

    fn add(writer: &PackWriter, number: u32) -> Result<Vec<ChunkPlace>> {
        let repository = &writer.repository;
        let mut sealed = Vec::new();
        let (kind, off) = (SealedKind::Data, Compression::Off);
        repository
            .seal()
            .seal(kind, b"", &plain(number), off, &mut sealed)?;
        writer.add_frame(kind, &sealed, 1000, &chunks(repository, number))
    }

    fn writer(repository: &Arc<Repository>) -> PackWriter {
        PackWriter::create(Arc::clone(repository), false).unwrap()
    }

    /// Reads a chunk by its place and checks it against its id.
    fn assert_readable(repository: &Repository, place: &ChunkPlace) {
        let hint = place.hint;
        let range = u64::from(hint.frame_offset)..u64::from(hint.frame_offset + hint.frame_length);
        let sealed = repository
            .store()
            .get_range(&crate::format::pack_name(&hint.pack), range)
            .unwrap();
        let plain = repository
            .seal()
            .open(SealedKind::Data, b"", &sealed, 1000)
            .unwrap();
        let start = hint.offset_in_frame as usize;
        let chunk = &plain[start..start + place.length as usize];
        assert_eq!(repository.seal().chunk_id(chunk), place.id);
    }

    /// Every place that an index run names is readable; returns the chunks that are known.
    fn known_chunks(repository: &Arc<Repository>) -> BTreeSet<[u8; 16]> {
        let index = Index::open(repository).unwrap();
        assert!(index.damaged().is_empty());
        let mut known = BTreeSet::new();
        for run in index.run_ids() {
            let visit = |location: super::super::IndexLocation| {
                let directory = read_pack_directory(repository, &location.hint.pack)?;
                let places = places_of(&location.hint.pack, &directory);
                let place = places
                    .iter()
                    .find(|place| prefix_of(&place.id) == location.prefix)
                    .expect("the pack that the index names has the chunk");
                assert_eq!((place.hint, place.length), (location.hint, location.length));
                assert_readable(repository, place);
                known.insert(location.prefix);
                Ok(())
            };
            index.for_each_location(&run, visit).unwrap();
        }
        known
    }

    #[test]
    fn chunks_are_found_at_once_after_finish_and_by_the_next_writer() {
        let (_, repository) = repository();
        let first = writer(&repository);
        let mut places = Vec::new();
        for number in 0..200 {
            let added = add(&first, number).unwrap();
            for place in &added {
                assert_eq!(first.find(&place.id, place.length).unwrap(), Some(*place));
            }
            places.extend(added);
        }
        let figures = first.finish().unwrap();
        assert_eq!(figures.newly_uploaded_bytes, 200_000);
        assert_eq!(figures.newly_uploaded_stored_bytes, 200 * 1024);
        assert_eq!(figures.reuploaded_bytes, 0);
        let next = writer(&repository);
        for place in &places {
            assert_readable(&repository, place);
            assert_eq!(next.find(&place.id, place.length).unwrap(), Some(*place));
            assert_eq!(next.find(&place.id, place.length + 1).unwrap(), None);
        }
        let unknown = chunks(&repository, 1000)[0];
        assert_eq!(next.find(&unknown.id, unknown.length).unwrap(), None);
        assert_eq!(next.finish().unwrap(), UploadFigures::default());
    }

    #[test]
    fn what_lay_in_a_lost_pack_is_taken_again_whatever_the_index_says() {
        let (_, repository) = repository();
        let first = writer(&repository);
        let place = add(&first, 1).unwrap()[0];
        first.finish().unwrap();
        let store = repository.store();
        store
            .delete(&crate::format::pack_name(&place.hint.pack))
            .unwrap();

        let second = writer(&repository);
        assert_eq!(second.find(&place.id, place.length).unwrap(), None);
        let again = add(&second, 1).unwrap()[0];
        second.finish().unwrap();
        let third = writer(&repository);
        assert_eq!(third.find(&place.id, place.length).unwrap(), Some(again));
    }

    #[test]
    fn what_is_put_is_what_the_figures_say() {
        let (store, repository) = repository();
        let before: usize = store.objects().values().map(|object| object.len()).sum();
        let writer = writer(&repository);
        for number in 0..500 {
            add(&writer, number).unwrap();
        }
        let figures = writer.finish().unwrap();
        let after: usize = store.objects().values().map(|object| object.len()).sum();
        assert_eq!(figures.stored_bytes, (after - before) as u64);
    }

    #[test]
    fn a_writer_that_is_given_nothing_asks_and_writes_nothing() {
        let (store, _) = repository();
        let recording = Arc::new(Recording::new(store));
        let repository = Repository::open(recording.clone()).unwrap();
        recording.take();
        writer(&repository).finish().unwrap();
        assert!(recording.take().is_empty());
    }

    #[test]
    fn packs_are_of_the_size_that_the_config_says() {
        let (_, repository) = repository();
        let writer = writer(&repository);
        for number in 0..100 {
            add(&writer, number).unwrap();
        }
        writer.finish().unwrap();
        let packs = list_packs(&repository).unwrap();
        assert_eq!(packs.len(), 6);
        let directories = packs.iter().map(|(id, length)| {
            let directory = read_pack_directory(&repository, id).unwrap();
            assert!(directory.end() <= PACK_BYTES && *length > u64::from(directory.end()));
            directory
        });
        assert_eq!(
            directories
                .map(|directory| directory.frames().len())
                .sum::<usize>(),
            100
        );
    }

    #[test]
    fn reupload_writes_again_and_counts_apart() {
        let (_, repository) = repository();
        let first = writer(&repository);
        let old = add(&first, 1).unwrap()[0];
        first.finish().unwrap();
        let again = PackWriter::create(Arc::clone(&repository), true).unwrap();
        assert_eq!(again.find(&old.id, old.length).unwrap(), None);
        let new = add(&again, 1).unwrap()[0];
        assert_eq!(again.find(&old.id, old.length).unwrap(), Some(new));
        add(&again, 2).unwrap();
        let figures = again.finish().unwrap();
        assert_eq!(
            (figures.newly_uploaded_bytes, figures.reuploaded_bytes),
            (1000, 1000)
        );
        assert_eq!(figures.reuploaded_stored_bytes, 1024);
        let found = Index::open(&repository).unwrap().find(&old.id).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.contains(&old) && found.contains(&new));
    }

    #[test]
    fn many_threads_add_and_two_writers_commit_at_once() {
        let (_, repository) = repository();
        std::thread::scope(|scope| {
            for half in 0..2 {
                let repository = &repository;
                scope.spawn(move || {
                    let writer = writer(repository);
                    std::thread::scope(|scope| {
                        for thread in 0..4 {
                            let writer = &writer;
                            scope.spawn(move || {
                                for number in 0..100 {
                                    add(writer, half * 300 + thread * 100 + number).unwrap();
                                }
                            });
                        }
                    });
                    writer.finish().unwrap();
                });
            }
        });
        assert_eq!(known_chunks(&repository).len(), 2 * 700);
    }

    #[test]
    fn index_runs_merge_where_they_become_many_and_lose_nothing() {
        let (store, repository) = repository();
        for number in 0..60 {
            let writer = writer(&repository);
            add(&writer, number).unwrap();
            writer.finish().unwrap();
        }
        let index = Index::open(&repository).unwrap();
        assert!(index.run_ids().len() <= LIVE_RUNS_MAX);
        assert_eq!(known_chunks(&repository).len(), 120);
        // What was superseded may go, as a prune lets it, and nothing is lost.
        let live: Vec<String> = index
            .run_ids()
            .iter()
            .map(crate::format::index_name)
            .collect();
        for name in store
            .objects()
            .keys()
            .filter(|name| name.starts_with(INDEX_PREFIX))
        {
            if !live.contains(name) {
                store.lose(name);
            }
        }
        assert_eq!(known_chunks(&repository).len(), 120);
    }

    #[test]
    fn an_index_can_be_rebuilt_from_packs_alone() {
        let (store, repository) = repository();
        let first = writer(&repository);
        let places: Vec<ChunkPlace> = (0..200)
            .flat_map(|number| add(&first, number).unwrap())
            .collect();
        first.finish().unwrap();
        for name in store
            .objects()
            .keys()
            .filter(|name| name.starts_with(INDEX_PREFIX))
        {
            store.lose(name);
        }
        assert!(known_chunks(&repository).is_empty());
        let rebuilt = Index::empty_for_writer(&repository);
        for (pack, _) in list_packs(&repository).unwrap() {
            let directory = read_pack_directory(&repository, &pack).unwrap();
            rebuilt.write(&places_of(&pack, &directory)).unwrap();
        }
        let index = Index::open(&repository).unwrap();
        for place in places {
            assert_eq!(index.find(&place.id).unwrap(), [place]);
        }
    }

    #[test]
    fn a_damaged_index_run_costs_another_upload_at_most() {
        for from_end in [false, true] {
            let (store, repository) = repository();
            let first = writer(&repository);
            let place = add(&first, 1).unwrap()[0];
            first.finish().unwrap();
            let (name, object) = store
                .objects()
                .into_iter()
                .find(|(name, _)| name.starts_with(INDEX_PREFIX))
                .unwrap();
            let mut damaged = object.to_vec();
            damaged[if from_end { object.len() - 1 } else { 0 }] ^= 1;
            store.damage(&name, &damaged);
            let next = writer(&repository);
            let known = next.find(&place.id, place.length).unwrap();
            // Without a footer no run names the pack, which is then found by its own directory.
            assert_eq!(known, from_end.then_some(place));
            let again = known.unwrap_or_else(|| add(&next, 1).unwrap()[0]);
            next.finish().unwrap();
            let found = Index::open(&repository).unwrap().find(&place.id).unwrap();
            assert_eq!(found, [again]);
        }
    }

    #[test]
    fn packs_that_no_index_names_are_found_by_the_next_writer() {
        let (store, repository) = repository();
        let first = writer(&repository);
        let place = add(&first, 1).unwrap()[0];
        first.finish().unwrap();
        for (name, _) in store.objects() {
            if name.starts_with(INDEX_PREFIX) {
                repository.store().delete(&name).unwrap();
            }
        }
        let next = writer(&repository);
        assert_eq!(next.find(&place.id, place.length).unwrap(), Some(place));
        next.finish().unwrap();
        let found = Index::open(&repository).unwrap().find(&place.id).unwrap();
        assert_eq!(found, [place]);
    }

    #[test]
    fn a_failure_at_any_change_is_told_and_leaves_an_index_that_tells_the_truth() {
        let kinds = [ErrorKind::Full, ErrorKind::Unreachable, ErrorKind::Denied];
        for moment in [Moment::Before, Moment::After] {
            for at in 1.. {
                let store = Arc::new(MemoryStore::new());
                Repository::init(store.clone(), &small_packs()).unwrap();
                let kind = kinds[at as usize % kinds.len()];
                let fault = Arc::new(Fault::new(store.clone(), FaultPlan::fail(moment, at, kind)));
                let faulty = Repository::open(fault.clone()).unwrap();
                let writer = writer(&faulty);
                let added = (0..200).try_for_each(|number| add(&writer, number).map(drop));
                let outcome = added.and_then(|()| writer.finish());
                let whole = Repository::open(store).unwrap();
                let known = known_chunks(&whole).len();
                match outcome {
                    Ok(_) if fault.changes() < at => break,
                    // Of all that is put only the merging of runs may fail without a word.
                    Ok(_) => assert_eq!(known, 400),
                    Err(error) => assert_eq!(error.kind(), kind),
                }
                // Packs that were put before the failure are known to the next backup, but for a few.
                let packs = list_packs(&whole).unwrap().len();
                assert!(
                    known / 2 + 19 * 5 >= packs * 19,
                    "{known} chunks of {packs} packs"
                );
            }
        }
    }

    #[test]
    fn giving_up_leaves_an_index_of_what_was_put() {
        let (store, _) = repository();
        let recording = Arc::new(Recording::new(store));
        let repository = Repository::open(recording.clone()).unwrap();
        let writer = writer(&repository);
        for number in 0..50 {
            add(&writer, number).unwrap();
        }
        drop(writer);
        let packs = recording
            .take()
            .iter()
            .filter(|request| {
                request.kind == RequestKind::PutNew && request.name.starts_with("packs/")
            })
            .count();
        assert_eq!(packs, 2);
        assert_eq!(known_chunks(&repository).len(), 2 * 2 * 19);
    }
}
