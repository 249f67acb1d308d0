//! Where chunks go: those that the repository has are found, the others are sealed in frames and put into packs.
//!
//! Any thread may ask for a chunk to be placed. Sealing is work for whoever is free: frames wait in a short queue that
//! the workers empty, and who would have to wait for room in it, or for a frame of someone else, seals one meanwhile.
//! So memory is bounded and nobody ever waits for a thread that waits.
//!
//! A chunk that is already on its way is not sent twice.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::base::{ChunkId, Error, ErrorKind, Result};
use crate::chunk::Group;
use crate::format::{ChunkPlace, FrameChunk};
use crate::seal::{Compression, Seal, SealedKind};

/// How long who waits for a frame sleeps before it looks whether there is another one to seal.
const NAP: Duration = Duration::from_millis(2);

/// What knows chunks and takes frames: the repository's pack writer, or what stands in for it in a dry run.
pub trait ChunkStore: Send + Sync {
    /// Where a chunk of this id and length is, if it is known.
    ///
    /// # Errors
    /// Those of reading the index.
    fn find(&self, id: &ChunkId, length: u32) -> Result<Option<ChunkPlace>>;

    /// Takes a sealed frame and tells where its chunks are now.
    ///
    /// # Errors
    /// Those of the store.
    fn add_frame(
        &self,
        kind: SealedKind,
        sealed: &[u8],
        plain_length: u32,
        chunks: &[FrameChunk],
    ) -> Result<Vec<ChunkPlace>>;
}

/// Where a chunk is, or will be told to be.
#[derive(Debug, Clone)]
pub enum Placing {
    At(ChunkPlace),
    Soon(Arc<OnceLock<ChunkPlace>>),
}

impl Placing {
    /// Is the place known by now?
    pub fn is_known(&self) -> bool {
        match self {
            Self::At(_) => true,
            Self::Soon(place) => place.get().is_some(),
        }
    }
}

/// A chunk of a group that is still open.
#[derive(Debug, Clone)]
pub struct Grouped {
    pub id: ChunkId,
    pub place: Arc<OnceLock<ChunkPlace>>,
}

/// A frame that waits to be sealed.
struct Unsealed {
    kind: SealedKind,
    plain: Vec<u8>,
    chunks: Vec<FrameChunk>,
    places: Vec<Arc<OnceLock<ChunkPlace>>>,
}

/// Places chunks. See the module.
pub struct Frames<'a> {
    store: &'a dyn ChunkStore,
    seal: &'a Seal,
    compression: Compression,
    queue: Sender<Unsealed>,
    waiting: Receiver<Unsealed>,
    on_their_way: Mutex<HashMap<ChunkId, Arc<OnceLock<ChunkPlace>>>>,
    placed: Condvar,
    failure: Mutex<Option<Error>>,
}

impl<'a> Frames<'a> {
    /// Chunks are found in and given to `store`; up to `queued_max` frames wait to be sealed.
    pub fn new(
        store: &'a dyn ChunkStore,
        seal: &'a Seal,
        compression: Compression,
        queued_max: usize,
    ) -> Self {
        let (queue, waiting) = crossbeam_channel::bounded(queued_max);
        Self {
            store,
            seal,
            compression,
            queue,
            waiting,
            on_their_way: Mutex::new(HashMap::new()),
            placed: Condvar::new(),
            failure: Mutex::new(None),
        }
    }

    /// The seal that names chunks.
    pub fn seal(&self) -> &Seal {
        self.seal
    }

    /// Where the chunk is or will be; None if nobody has it.
    ///
    /// # Errors
    /// Those of the index.
    pub fn find(&self, id: &ChunkId, length: u32) -> Result<Option<Placing>> {
        let on_their_way = self.on_their_way();
        self.find_with(&on_their_way, id, length)
    }

    /// Places a chunk that is a frame by itself.
    ///
    /// # Errors
    /// Those of the index and of the store.
    pub fn place(&self, kind: SealedKind, plain: &[u8]) -> Result<(ChunkId, Placing)> {
        let id = self.seal.chunk_id_in(kind, plain);
        let length = length_of(plain);
        let place = {
            let mut on_their_way = self.on_their_way();
            if let Some(placing) = self.find_with(&on_their_way, &id, length)? {
                return Ok((id, placing));
            }
            let place = Arc::new(OnceLock::new());
            on_their_way.insert(id, Arc::clone(&place));
            place
        };
        let chunk = FrameChunk {
            id,
            offset: 0,
            length,
        };
        self.submit(Unsealed {
            kind,
            plain: plain.to_vec(),
            chunks: vec![chunk],
            places: vec![Arc::clone(&place)],
        })?;
        Ok((id, Placing::Soon(place)))
    }

    /// Places the chunks of a group, which is complete.
    ///
    /// # Errors
    /// Those of the store.
    pub fn place_group(&self, group: Group<Grouped>) -> Result<()> {
        let mut chunks = Vec::with_capacity(group.chunks.len());
        let mut places = Vec::with_capacity(group.chunks.len());
        {
            let mut on_their_way = self.on_their_way();
            for chunk in group.chunks {
                on_their_way.insert(chunk.tag.id, Arc::clone(&chunk.tag.place));
                chunks.push(FrameChunk {
                    id: chunk.tag.id,
                    offset: chunk.offset,
                    length: chunk.length,
                });
                places.push(chunk.tag.place);
            }
        }
        self.submit(Unsealed {
            kind: SealedKind::Data,
            plain: group.bytes,
            chunks,
            places,
        })
    }

    /// The place of a chunk, once it has one. Seals frames while it waits. The chunk's group must be complete.
    ///
    /// # Errors
    /// The failure of whoever sealed it, or of another frame.
    pub fn wait(&self, placing: &Placing) -> Result<ChunkPlace> {
        let place = match placing {
            Placing::At(place) => return Ok(*place),
            Placing::Soon(place) => place,
        };
        loop {
            if let Some(place) = place.get() {
                return Ok(*place);
            }
            self.check()?;
            if let Ok(frame) = self.waiting.try_recv() {
                self.place_frame(frame)?;
                continue;
            }
            let on_their_way = self.on_their_way();
            if place.get().is_none() {
                let nap = self.placed.wait_timeout(on_their_way, NAP);
                drop(nap.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Works until `requests` ends: seals the frames that wait, and serves a request when there are none. A failure to
    /// place a frame is everybody's.
    pub fn work<T>(&self, requests: &Receiver<T>, mut serve: impl FnMut(T)) {
        loop {
            crossbeam_channel::select_biased! {
                recv(self.waiting) -> frame => match frame {
                    // A failure is told to all who wait, and to whoever asks next.
                    Ok(frame) => drop(self.place_frame(frame)),
                    Err(_) => return,
                },
                recv(requests) -> request => match request {
                    Ok(request) => serve(request),
                    Err(_) => break,
                },
            }
        }
        while let Ok(frame) = self.waiting.try_recv() {
            drop(self.place_frame(frame));
        }
    }

    /// Makes everyone who waits, or asks for a place, fail.
    pub fn fail(&self, error: Error) {
        self.failure().get_or_insert(error);
        self.placed.notify_all();
    }

    /// Did another thread fail?
    ///
    /// # Errors
    /// Of the kind of that failure, which `take_failure` has itself.
    pub fn check(&self) -> Result<()> {
        match &*self.failure() {
            None => Ok(()),
            Some(error) => Err(Error::new(
                error.kind(),
                "another part of the backup failed",
            )),
        }
    }

    /// The failure that made all others fail, if there was one.
    pub fn take_failure(&self) -> Option<Error> {
        self.failure().take()
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, frame: Unsealed) -> Result<()> {
        self.check()?;
        match self.queue.try_send(frame) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(frame)) => self.place_frame(frame),
            Err(TrySendError::Disconnected(_)) => Err(Error::new(
                ErrorKind::Failed,
                "frames cannot be sealed any more",
            )),
        }
    }

    /// Places a frame; who waits for it is not always who places it, so that a failure is everybody's.
    fn place_frame(&self, frame: Unsealed) -> Result<()> {
        self.try_place(frame).or_else(|error| {
            self.fail(error);
            self.check()
        })
    }

    fn try_place(&self, frame: Unsealed) -> Result<()> {
        let mut sealed = Vec::new();
        self.seal
            .seal(frame.kind, &[], &frame.plain, self.compression, &mut sealed)?;
        let plain_length = length_of(&frame.plain);
        let placed = self
            .store
            .add_frame(frame.kind, &sealed, plain_length, &frame.chunks)?;
        let mut on_their_way = self.on_their_way();
        for ((place, slot), chunk) in placed.into_iter().zip(&frame.places).zip(&frame.chunks) {
            // Another thread may have sent the same chunk, which then has two places.
            slot.get_or_init(|| place);
            on_their_way.remove(&chunk.id);
        }
        drop(on_their_way);
        self.placed.notify_all();
        Ok(())
    }

    fn find_with(
        &self,
        on_their_way: &HashMap<ChunkId, Arc<OnceLock<ChunkPlace>>>,
        id: &ChunkId,
        length: u32,
    ) -> Result<Option<Placing>> {
        if let Some(place) = on_their_way.get(id) {
            return Ok(Some(Placing::Soon(Arc::clone(place))));
        }
        Ok(self.store.find(id, length)?.map(Placing::At))
    }

    fn on_their_way(&self) -> MutexGuard<'_, HashMap<ChunkId, Arc<OnceLock<ChunkPlace>>>> {
        self.on_their_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunks and frames are far below 4 GiB; sealing refuses what is not.
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepositoryId;

    /// Has nothing and takes nothing.
    struct Full;

    impl ChunkStore for Full {
        fn find(&self, _: &ChunkId, _: u32) -> Result<Option<ChunkPlace>> {
            Ok(None)
        }

        fn add_frame(
            &self,
            _: SealedKind,
            _: &[u8],
            _: u32,
            _: &[FrameChunk],
        ) -> Result<Vec<ChunkPlace>> {
            Err(Error::new(ErrorKind::Full, "there is no room"))
        }
    }

    #[test]
    fn whoever_waits_for_a_frame_that_another_thread_failed_to_place_fails_too() {
        let seal = Seal::unencrypted(&RepositoryId([1; 16]));
        let frames = Frames::new(&Full, &seal, Compression::Off, 4);
        let (_, first) = frames.place(SealedKind::Data, b"first").unwrap();
        // It takes the frame, being there, and fails.
        let another = Placing::Soon(Arc::default());
        frames.wait(&another).unwrap_err();
        let waiting = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| frames.wait(&first).unwrap_err());
            let patience = std::time::Instant::now() + Duration::from_secs(5);
            while !waiter.is_finished() && std::time::Instant::now() < patience {
                std::thread::sleep(NAP);
            }
            let waits_on = !waiter.is_finished();
            frames.fail(Error::new(ErrorKind::Failed, "the test is over"));
            waits_on
        });
        assert!(!waiting, "it waits for what nobody will place");
        assert_eq!(frames.take_failure().unwrap().kind(), ErrorKind::Full);
    }
}
