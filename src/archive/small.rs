//! Small chunks on their way into shared frames: each is found, or joins the group that is open.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::frames::{Frames, Grouped, Placing};
use crate::base::{ChunkId, Result};
use crate::chunk::Grouping;
use crate::format::ChunkPlace;

/// Places small chunks, in the order in which they come.
pub struct SmallChunks<'a> {
    frames: &'a Frames<'a>,
    grouping: Grouping<Grouped>,
    /// The chunks of the group that is open.
    open: HashMap<ChunkId, Arc<OnceLock<ChunkPlace>>>,
}

impl<'a> SmallChunks<'a> {
    /// Frames of at most `frame_bytes` plain bytes.
    pub fn new(frames: &'a Frames<'a>, frame_bytes: usize) -> Self {
        Self {
            frames,
            grouping: Grouping::new(frame_bytes),
            open: HashMap::new(),
        }
    }

    /// Where a chunk of a file of `owner`, met at this step of the walk, is or will be. One that joins the open group has its place only after a
    /// later chunk, or `finish`, has completed the group.
    ///
    /// # Errors
    /// Those of the index and of the store.
    pub fn place(&mut self, id: ChunkId, bytes: &[u8], owner: u32, step: u64) -> Result<Placing> {
        if let Some(place) = self.open.get(&id) {
            return Ok(Placing::Soon(Arc::clone(place)));
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if let Some(placing) = self.frames.find(&id, length)? {
            return Ok(placing);
        }
        let place = Arc::new(OnceLock::new());
        let tag = Grouped {
            id,
            place: Arc::clone(&place),
        };
        if let Some(complete) = self.grouping.add(owner, step, bytes, tag) {
            self.open.clear();
            self.frames.place_group(complete)?;
        }
        self.open.insert(id, Arc::clone(&place));
        Ok(Placing::Soon(place))
    }

    /// Is a chunk in the group that is open?
    pub fn is_open(&self, id: &ChunkId) -> bool {
        self.open.contains_key(id)
    }

    /// The place of a chunk, once it has one; completes the group for it if need be.
    ///
    /// # Errors
    /// Those of the store.
    pub fn wait(&mut self, id: &ChunkId, placing: &Placing) -> Result<ChunkPlace> {
        if self.is_open(id) {
            self.open.clear();
            if let Some(group) = self.grouping.finish() {
                self.frames.place_group(group)?;
            }
        }
        self.frames.wait(placing)
    }
}
