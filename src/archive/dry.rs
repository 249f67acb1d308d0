//! A dry run's stand-in for the pack writer: it knows what the repository has, and only counts what would be put.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{ChunkId, PackId, Result};
use crate::format::{ChunkPlace, FrameChunk, Hint};
use crate::repo::{Index, PackWriter, Repository, UploadFigures};
use crate::seal::SealedKind;

use super::frames::ChunkStore;

impl ChunkStore for PackWriter {
    fn find(&self, id: &ChunkId, length: u32) -> Result<Option<ChunkPlace>> {
        Self::find(self, id, length)
    }

    fn add_frame(
        &self,
        kind: SealedKind,
        sealed: &[u8],
        plain_length: u32,
        chunks: &[FrameChunk],
    ) -> Result<Vec<ChunkPlace>> {
        Self::add_frame(self, kind, sealed, plain_length, chunks)
    }
}

/// Takes frames and keeps nothing of them.
pub struct DryStore {
    known: Index,
    reupload: bool,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    places: HashMap<ChunkId, ChunkPlace>,
    figures: UploadFigures,
}

impl DryStore {
    /// One that knows the repository's chunks; with `reupload` all of them would be put anew.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(repository: &Arc<Repository>, reupload: bool) -> Result<Self> {
        Ok(Self {
            known: Index::open(repository)?,
            reupload,
            counted: Mutex::default(),
        })
    }

    /// What would have been put.
    pub fn figures(&self) -> UploadFigures {
        self.counted().figures
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_known(&self, id: &ChunkId, length: u32) -> Result<Option<ChunkPlace>> {
        let places = self.known.find(id)?;
        Ok(places.into_iter().find(|place| place.length == length))
    }
}

impl ChunkStore for DryStore {
    fn find(&self, id: &ChunkId, length: u32) -> Result<Option<ChunkPlace>> {
        if let Some(place) = self.counted().places.get(id) {
            return Ok(Some(*place));
        }
        if self.reupload {
            return Ok(None);
        }
        self.find_known(id, length)
    }

    fn add_frame(
        &self,
        _kind: SealedKind,
        sealed: &[u8],
        _plain_length: u32,
        chunks: &[FrameChunk],
    ) -> Result<Vec<ChunkPlace>> {
        let mut known_bytes = 0;
        let mut new_bytes = 0;
        for chunk in chunks {
            let is_known = self.reupload && self.find_known(&chunk.id, chunk.length)?.is_some();
            let bytes = if is_known {
                &mut known_bytes
            } else {
                &mut new_bytes
            };
            *bytes += u64::from(chunk.length);
        }
        let mut counted = self.counted();
        let stored = sealed.len() as u64;
        counted.figures.stored_bytes += stored;
        // A frame of both is split by the plain bytes.
        let known_stored = stored * known_bytes / (known_bytes + new_bytes).max(1);
        counted.figures.reuploaded_bytes += known_bytes;
        counted.figures.reuploaded_stored_bytes += known_stored;
        counted.figures.newly_uploaded_bytes += new_bytes;
        counted.figures.newly_uploaded_stored_bytes += stored - known_stored;
        let frame_length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        Ok(chunks
            .iter()
            .map(|chunk| {
                let hint = Hint {
                    pack: PackId([0; 16]),
                    frame_offset: 0,
                    frame_length,
                    offset_in_frame: chunk.offset,
                };
                let place = ChunkPlace {
                    id: chunk.id,
                    length: chunk.length,
                    hint,
                };
                counted.places.insert(chunk.id, place);
                place
            })
            .collect())
    }
}
