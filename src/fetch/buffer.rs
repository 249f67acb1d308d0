//! Memory for plain bytes that is used again. To get half a megabyte from the system, zeroed page by page, costs a
//! third of what it costs to decompress into it; and what was used last still lies in the processor's cache.
//!
//! Invariant: what waits to be used again never exceeds `FREE_BYTES_MAX`. Buffers hold what they held before: whoever
//! takes one fills it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that may wait: for each of two threads the largest read that the kernel makes, and some frames.
const FREE_BYTES_MAX: usize = 4 << 20;

/// Shorter ones are left to the allocator, which keeps them at hand itself.
const REUSED_BYTES_MIN: usize = 32 << 10;

/// Longer ones are rare.
const REUSED_BYTES_MAX: usize = 1 << 20;

/// Room is made in steps of so many bytes, so that frames of different lengths fit each other's.
const STEP_BYTES: usize = 16 << 10;

/// Buffers that wait to be used again.
#[derive(Default)]
pub(super) struct Buffers {
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    /// The one that came last at the end.
    rooms: VecDeque<Box<[u8]>>,
    bytes: usize,
}

/// Some bytes, whose memory is used again once they are dropped.
pub(super) struct Buffer {
    room: Box<[u8]>,
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
            room: waiting.unwrap_or_else(|| vec![0; room_bytes].into_boxed_slice()),
            length,
            buffers: Arc::clone(self),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room that is made for so many bytes.
fn room_bytes(length: usize) -> usize {
    if (REUSED_BYTES_MIN..=REUSED_BYTES_MAX).contains(&length) {
        length.next_multiple_of(STEP_BYTES)
    } else {
        length
    }
}

fn is_reused(room_bytes: usize) -> bool {
    (REUSED_BYTES_MIN..=REUSED_BYTES_MAX).contains(&room_bytes)
}

impl Free {
    /// The room of so many bytes that came last.
    fn take(&mut self, bytes: usize) -> Option<Box<[u8]>> {
        let place = self.rooms.iter().rposition(|room| room.len() == bytes)?;
        let room = self.rooms.remove(place)?;
        self.bytes -= room.len();
        Some(room)
    }

    /// Keeps a room, and returns those that have waited longest and are too many.
    fn put(&mut self, room: Box<[u8]>) -> Vec<Box<[u8]>> {
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
            // Freed here, without the lock.
            drop(leaving);
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
        assert_eq!((first.len(), first.room_bytes()), (100_000, 7 * STEP_BYTES));
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
    }
}
