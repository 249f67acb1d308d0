//! What a reader does whose hint failed: it asks the index for other locations, and asks again once the index was
//! listed anew, since the chunk may have moved after this process began.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{ChunkId, Error, ErrorKind, PackId, Result};
use crate::format::{ChunkPlace, Hint};
use crate::repo::Index;
use crate::seal::SealedKind;

use super::batch::Wanted;
use super::waiting::check_may_wait;
use super::{ChunkBytes, Fetcher};

/// The index, opened when the first hint fails: most mounts never need it.
#[derive(Default)]
pub(super) struct Locations {
    index: Mutex<Option<Arc<Index>>>,
    /// Packs and the offsets of frames in them that were told of.
    told: Mutex<BTreeSet<(PackId, u32)>>,
}

/// Frames that are told of once. Beyond so many a log is long already, and memory counts.
const TOLD_MAX: usize = 4096;

impl Locations {
    /// Was nothing said yet of the frame at `hint`? A lost pack would fill the log with a line for each chunk.
    fn is_news(&self, hint: &Hint) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() >= TOLD_MAX || told.insert((hint.pack, hint.frame_offset))
    }
}

impl Fetcher {
    /// The chunk of `place` from anywhere but its hint, which failed with `first`.
    ///
    /// # Errors
    /// `first`, with the chunk named, if no other location has the chunk whole. A store that does not answer, or is not
    /// waited for, says nothing of a chunk, so that `first` comes back at once.
    pub(super) fn recover(
        &self,
        kind: SealedKind,
        place: &ChunkPlace,
        first: Error,
    ) -> Result<ChunkBytes> {
        if matches!(first.kind(), ErrorKind::Unreachable | ErrorKind::WouldWait) {
            return Err(first);
        }
        check_may_wait(format_args!("the index, for chunk {}", place.id))?;
        let wanted = Wanted::frame(kind, place);
        if self.is_disbelieved(wanted.key.object, &first) {
            self.memory.forget(&wanted.key);
            if let Ok(chunk) = self.chunk_at(kind, place) {
                return Ok(chunk);
            }
        }
        let mut tried = vec![place.hint];
        for anew in [false, true] {
            for hint in self.other_locations(&place.id, anew) {
                if tried.contains(&hint) {
                    continue;
                }
                tried.push(hint);
                if let Ok(chunk) = self.chunk_at(kind, &ChunkPlace { hint, ..*place }) {
                    if self.locations.is_news(&place.hint) {
                        log::warn!("{first}; read from pack {} instead", hint.pack);
                    }
                    return Ok(chunk);
                }
            }
        }
        Err(first.context(format_args!("chunk {}", place.id)))
    }

    /// Where else the chunk may be. An index that cannot be read is logged and offers nothing: the first failure is
    /// what the reader must hear of.
    fn other_locations(&self, id: &ChunkId, anew: bool) -> Vec<Hint> {
        let found = self.index(anew).and_then(|index| index.find(id));
        match found {
            Ok(places) => places.into_iter().map(|place| place.hint).collect(),
            Err(error) => {
                log::warn!("cannot look for other locations of chunk {id}: {error}");
                Vec::new()
            }
        }
    }

    fn index(&self, anew: bool) -> Result<Arc<Index>> {
        let mut index = self
            .locations
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*index {
            Some(opened) => {
                if anew {
                    opened.refresh()?;
                }
                Ok(Arc::clone(opened))
            }
            None => Ok(Arc::clone(
                index.insert(Arc::new(Index::open(self.repository())?)),
            )),
        }
    }
}
