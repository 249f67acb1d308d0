//! Frames in memory, and the chunks in them: each is checked against its id once, then handed out without a copy.

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{ChunkId, Error, Result};
use crate::format::ChunkPlace;
use crate::seal::{Seal, SealedKind};

use super::buffer::Buffer;

/// Shorter chunks are checked each time: to hash so little costs no more than to look up that it was done.
const REMEMBERED_BYTES_MIN: usize = 1 << 10;

/// The plain bytes of a fetched frame, and which of its chunks were found to be what their ids say.
pub(super) struct Frame {
    kind: SealedKind,
    plain: Buffer,
    /// In order; at most one for each `REMEMBERED_BYTES_MIN` bytes of the frame, and one more.
    verified: Mutex<Vec<Verified>>,
}

/// A range of the frame whose bytes have this id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Verified {
    offset: u32,
    length: u32,
    id: ChunkId,
}

impl Frame {
    pub(super) fn new(kind: SealedKind, plain: Buffer) -> Self {
        Self {
            kind,
            plain,
            verified: Mutex::new(Vec::new()),
        }
    }

    /// What the frame and all that it may come to remember takes in memory, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let remembered = (self.plain.len() / REMEMBERED_BYTES_MIN + 1) * size_of::<Verified>();
        (self.plain.room_bytes() + remembered + size_of::<Self>()) as u64
    }

    /// The chunk of `place` in this frame.
    ///
    /// # Errors
    /// Corrupt, if the frame has not these bytes, or they are not the chunk's.
    pub(super) fn chunk(self: &Arc<Self>, seal: &Seal, place: &ChunkPlace) -> Result<ChunkBytes> {
        let offset = place.hint.offset_in_frame;
        let range = offset as usize..offset as usize + place.length as usize;
        let bytes = self.plain.get(range.clone()).ok_or_else(|| {
            let problem = format!("the frame has {} bytes, too few for it", self.plain.len());
            damaged(place, &problem)
        })?;
        let wanted = Verified {
            offset,
            length: place.length,
            id: place.id,
        };
        let is_new = !self.is_verified(&wanted);
        if is_new {
            check_id(seal, self.kind, place, bytes)?;
            self.remember(wanted);
        }
        Ok(ChunkBytes {
            frame: Arc::clone(self),
            range,
            is_new,
        })
    }

    fn is_verified(&self, wanted: &Verified) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.binary_search(wanted).is_ok()
    }

    fn remember(&self, found: Verified) {
        if (found.length as usize) < REMEMBERED_BYTES_MIN {
            return;
        }
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() <= self.plain.len() / REMEMBERED_BYTES_MIN
            && let Err(place) = verified.binary_search(&found)
        {
            verified.insert(place, found);
        }
    }
}

/// Are these the bytes of the chunk of `place`?
///
/// # Errors
/// Corrupt, if they are not.
pub(super) fn check_id(
    seal: &Seal,
    kind: SealedKind,
    place: &ChunkPlace,
    bytes: &[u8],
) -> Result<()> {
    if seal.chunk_id_in(kind, bytes) == place.id {
        Ok(())
    } else {
        Err(damaged(place, "its bytes do not have its id"))
    }
}

fn damaged(place: &ChunkPlace, problem: &str) -> Error {
    Error::corrupt(
        format_args!("chunk {} at {}", place.id, place.hint.offset_in_frame),
        problem,
    )
}

/// Bytes of a verified chunk: a view into its frame, which stays in memory for as long as the view does.
#[derive(Clone)]
pub struct ChunkBytes {
    frame: Arc<Frame>,
    range: Range<usize>,
    is_new: bool,
}

impl ChunkBytes {
    /// Were they verified for this very call, and not before? Those of the shortest chunks are each time.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

impl Deref for ChunkBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.frame.plain[self.range.clone()]
    }
}

impl std::fmt::Debug for ChunkBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkBytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PackId, RepositoryId};
    use crate::fetch::buffer::Buffers;
    use crate::format::Hint;

    fn seal() -> Seal {
        Seal::unencrypted(&RepositoryId([1; 16]))
    }

    fn frame_of(plain: &[u8]) -> Arc<Frame> {
        let mut buffer = Arc::new(Buffers::default()).take(plain.len());
        buffer.copy_from_slice(plain);
        Arc::new(Frame::new(SealedKind::Data, buffer))
    }

    fn place(plain: &[u8], offset: u32, length: u32) -> ChunkPlace {
        ChunkPlace {
            id: seal().chunk_id(&plain[offset as usize..][..length as usize]),
            length,
            hint: Hint {
                pack: PackId([2; 16]),
                frame_offset: 0,
                frame_length: 0,
                offset_in_frame: offset,
            },
        }
    }

    #[test]
    fn a_chunk_is_checked_once_and_handed_out_without_a_copy() {
        let plain: Vec<u8> = (0..8192_u32).map(|number| number as u8).collect();
        let frame = frame_of(&plain);
        let mut news = Vec::new();
        for _ in 0..3 {
            let chunk = frame.chunk(&seal(), &place(&plain, 100, 4000)).unwrap();
            assert_eq!(&*chunk, &plain[100..4100]);
            assert!(std::ptr::eq(&chunk[0], &frame.plain[100]));
            news.push(chunk.is_new());
        }
        assert_eq!(news, [true, false, false]);
        assert_eq!(frame.verified.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_chunk_with_another_id_or_outside_the_frame_is_refused() {
        let plain = vec![3; 4096];
        let frame = frame_of(&plain);
        let good = place(&plain, 0, 2048);
        assert!(frame.chunk(&seal(), &good).is_ok());
        let mut longer = good;
        longer.length += 1;
        assert!(frame.chunk(&seal(), &longer).is_err());
        let mut outside = good;
        outside.hint.offset_in_frame = u32::MAX;
        outside.length = u32::MAX;
        assert!(frame.chunk(&seal(), &outside).is_err());
        let mut other = good;
        other.id = ChunkId([0; 32]);
        let error = frame.chunk(&seal(), &other).unwrap_err().to_string();
        assert!(error.contains(&other.id.to_string()), "{error}");
    }
}
