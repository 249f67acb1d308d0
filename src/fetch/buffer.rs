//! Memory for plain bytes that is used again: to get half a megabyte from the system, zeroed page by page, costs a good
//! part of what it costs to decompress into it, and what was used last still lies in the processor's cache.
//!
//! Long ones are mapped, each by itself, and go back to the system when they are dropped: among what malloc has at hand,
//! the blocks of a listing would leave gaps in which no frame finds room, and a mount's memory would pass its bound.
//!
//! Invariant: what waits to be used again never exceeds `FREE_BYTES_MAX`. Buffers hold what they held before: whoever
//! takes one fills it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

/// Bytes that may wait: for each of two threads the largest read that the kernel makes, and a dozen frames.
const FREE_BYTES_MAX: usize = 8 << 20;

/// Shorter ones are left to the allocator, which keeps them at hand itself.
const REUSED_BYTES_MIN: usize = 32 << 10;

/// Longer ones are rare.
const REUSED_BYTES_MAX: usize = 1 << 20;

/// Room is made in so many steps from one power of two to the next, so that frames of different lengths fit each
/// other's: full frames of small files are all of one step.
const STEPS: usize = 8;

/// Longer rooms than this are mapped: those of blocks of runs, and of frames.
const MAPPED_BYTES_MIN: usize = 48 << 10;

/// Rooms that are mapped at a time: a quarter of the mappings that the system lets a process have.
const MAPPED_MAX: usize = 16 << 10;

/// Memory of a fixed length.
enum Room {
    Allocated(Box<[u8]>),
    Mapped(MmapMut),
}

/// Buffers that wait to be used again.
#[derive(Default)]
pub(super) struct Buffers {
    free: Mutex<Free>,
    /// How many rooms are mapped.
    mapped: AtomicUsize,
}

#[derive(Default)]
struct Free {
    /// The one that came last at the end.
    rooms: VecDeque<Room>,
    bytes: usize,
}

/// Some bytes, whose memory is used again once they are dropped.
pub(super) struct Buffer {
    room: Room,
    length: usize,
    buffers: Arc<Buffers>,
}

impl Buffers {
    /// A buffer of `length` bytes, whatever they are.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let room_bytes = room_bytes(length);
        let waiting = is_reused(room_bytes)
            .then(|| self.lock().take(room_bytes))
            .flatten();
        Buffer {
            room: waiting.unwrap_or_else(|| self.make(room_bytes)),
            length,
            buffers: Arc::clone(self),
        }
    }

    /// Room for so many bytes, which are zero.
    fn make(&self, bytes: usize) -> Room {
        if bytes >= MAPPED_BYTES_MIN
            && self.mapped.load(Ordering::Relaxed) < MAPPED_MAX
            && let Ok(mapped) = MmapMut::map_anon(bytes)
        {
            self.mapped.fetch_add(1, Ordering::Relaxed);
            return Room::Mapped(mapped);
        }
        Room::Allocated(vec![0; bytes].into_boxed_slice())
    }

    /// Gives a room back to the system.
    fn give_back(&self, room: Room) {
        if matches!(room, Room::Mapped(_)) {
            self.mapped.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::Allocated(Box::default())
    }
}

/// The room that is made for so many bytes.
pub(super) fn room_bytes(length: usize) -> usize {
    if (REUSED_BYTES_MIN..=REUSED_BYTES_MAX).contains(&length) {
        let step = length.next_power_of_two() / 2 / STEPS;
        length.next_multiple_of(step)
    } else {
        length
    }
}

fn is_reused(room_bytes: usize) -> bool {
    (REUSED_BYTES_MIN..=REUSED_BYTES_MAX).contains(&room_bytes)
}

impl Free {
    /// The room of so many bytes that came last.
    fn take(&mut self, bytes: usize) -> Option<Room> {
        let place = self.rooms.iter().rposition(|room| room.len() == bytes)?;
        let room = self.rooms.remove(place)?;
        self.bytes -= room.len();
        Some(room)
    }

    /// Keeps a room, and returns those that have waited longest and are too many.
    fn put(&mut self, room: Room) -> Vec<Room> {
        self.bytes += room.len();
        self.rooms.push_back(room);
        let mut leaving = Vec::new();
        while self.bytes > FREE_BYTES_MAX
            && let Some(room) = self.rooms.pop_front()
        {
            self.bytes -= room.len();
            leaving.push(room);
        }
        leaving
    }
}

impl Buffer {
    /// What it takes in memory, in bytes.
    pub(super) fn room_bytes(&self) -> usize {
        self.room.len()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let room = std::mem::take(&mut self.room);
        if is_reused(room.len()) {
            let leaving = self.buffers.lock().put(room);
            // Without the lock.
            leaving
                .into_iter()
                .for_each(|room| self.buffers.give_back(room));
        } else {
            self.buffers.give_back(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_dropped_is_used_again_for_what_fits_it() {
        let buffers = Arc::new(Buffers::default());
        let first = buffers.take(100_000);
        assert_eq!((first.len(), first.room_bytes()), (100_000, 104 << 10));
        let address = first.as_ptr();
        drop(first);
        let other = buffers.take(200_000);
        assert_ne!(other.as_ptr(), address);
        let again = buffers.take(99_000);
        assert_eq!((again.as_ptr(), again.len()), (address, 99_000));
    }

    #[test]
    fn what_waits_has_a_bound_and_the_tiny_and_the_huge_do_not_wait() {
        let buffers = Arc::new(Buffers::default());
        for length in [0, 1, REUSED_BYTES_MIN - 1, REUSED_BYTES_MAX + 1] {
            assert_eq!(buffers.take(length).len(), length);
            assert_eq!(buffers.lock().bytes, 0);
        }
        let many: Vec<Buffer> = (1..40).map(|step| buffers.take(step * 20_000)).collect();
        drop(many);
        let free = buffers.lock();
        let counted: usize = free.rooms.iter().map(|room| room.len()).sum();
        assert_eq!(counted, free.bytes);
        assert!(free.bytes <= FREE_BYTES_MAX && free.bytes > FREE_BYTES_MAX / 2);
        let is_mapped = |room: &&Room| matches!(room, Room::Mapped(_));
        let mapped = free.rooms.iter().filter(is_mapped).count();
        assert!(mapped > 0 && mapped == buffers.mapped.load(Ordering::Relaxed));
    }
}
