//! Writing chunks: frames are gathered into packs, which are put in the background.
//!
//! Invariants: a chunk that this writer reports as having a place is in the repository once `finish` has returned,
//! and so are the index runs that say so; an index run never names a pack that is not there. What was put before an
//! interruption is indexed every few packs, so that the next backup finds it. Two packs are in memory at most: the
//! one that fills and the one that is being put.
//!
//! It does not compress, and does not know whether two of its callers add the same chunk at once: then it has two
//! places, and either is good.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

use crate::base::{ChunkId, Error, ErrorKind, PackId, Result};
use crate::format::{ChunkPlace, FrameChunk, Hint, PackDirectory};
use crate::seal::SealedKind;

use super::repository::random_bytes;
use super::upload::{FullPack, INDEX_ROWS_MAX, Shared, upload_all};
use super::{Index, Repository};

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
    opening: Mutex<()>,
    has_warned: AtomicBool,
    filling: Mutex<Filling>,
    shared: Arc<Shared>,
    figures: Mutex<UploadFigures>,
    uploader: Option<Uploader>,
}

/// The pack that fills.
struct Filling {
    id: PackId,
    frames: Vec<u8>,
    directory: PackDirectory,
    chunks: usize,
}

/// The thread that puts packs, and the way to it.
struct Uploader {
    sender: Sender<FullPack>,
    thread: JoinHandle<()>,
}

impl PackWriter {
    /// A writer that puts what the repository has not; with `reupload`, all that it is given.
    ///
    /// # Errors
    /// Failed, if this version of bygone may not write to the repository, or no thread can be started.
    pub fn create(repository: Arc<Repository>, reupload: bool) -> Result<Self> {
        repository.check_writable()?;
        let shared = Arc::new(Shared::new(&repository));
        // Without a queue: a full pack waits in the hands of whoever filled it, so that no third one is in memory.
        let (sender, receiver) = crossbeam_channel::bounded(0);
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("upload".to_owned())
            .spawn(move || upload_all(&for_thread, &receiver))
            .map_err(|error| Error::io("start a thread", error))?;
        Ok(Self {
            reupload,
            known: OnceLock::new(),
            opening: Mutex::new(()),
            has_warned: AtomicBool::new(false),
            filling: Mutex::new(Filling::new(Vec::new())?),
            shared,
            figures: Mutex::default(),
            uploader: Some(Uploader { sender, thread }),
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
            .uploader
            .as_ref()
            .is_some_and(|uploader| uploader.sender.send(pack).is_ok());
        match is_sent {
            true => self.shared.check(),
            false => Err(Error::new(
                ErrorKind::Failed,
                "packs are no longer uploaded: the thread that did it has ended",
            )),
        }
    }

    /// Waits until all packs that were sent are put, or have failed.
    fn stop(&mut self) {
        if let Some(Uploader { sender, thread }) = self.uploader.take() {
            drop(sender);
            if thread.join().is_err() {
                self.shared.fail(&Error::new(
                    ErrorKind::Failed,
                    "the thread that uploads packs has panicked",
                ));
            }
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
        Ok(self.known.get_or_init(|| index))
    }

    /// A chunk's place by an index; what a damaged index cannot tell is not there.
    fn find_in(&self, index: &Index, id: &ChunkId, length: u32) -> Result<Option<ChunkPlace>> {
        match index.find(id) {
            Ok(places) => Ok(places.into_iter().find(|place| place.length == length)),
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
