//! Giving the kernel the whole of a chunk of which a little was asked for.
//!
//! A page that is read at random costs the decompression of its chunk, 128 KiB or so, and the kernel keeps that one page.
//! So once it has its answer, it is given the chunk's other pages too, into its page cache: whoever comes back to the
//! neighbourhood asks nothing. The kernel's own squashfs does the same. Only what was just decompressed is given, so
//! that it is given once for as long as memory keeps it, and nothing while the last one is still under way: then there is
//! no processor to spare. Those who read in order, or small files, ask for more at a time.
//!
//! What is given was verified like any answer. Giving is done by a thread that serves no requests, since the kernel may
//! hold a page that one of them waits for. What fails here costs time only.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::ahead::{Gate, store_header};
use crate::tree::{NodeId, ReadBytes, WholeChunk};

/// Who asks for more than so many bytes at a time reads in order.
const LITTLE_BYTES_MAX: usize = 32 << 10;

/// A chunk that is longer takes too much of the page cache for a guess.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Chunks that may wait to be given.
const DUE_MAX: usize = 2;

/// The kernel takes whole pages only.
const PAGE_BYTES: u64 = 4 << 10;

/// Notes of what a little was read, on the threads that serve.
pub(super) struct Littles {
    due: Sender<(NodeId, WholeChunk)>,
}

/// Gives chunks, on a thread of its own, through a descriptor of the mount's device.
pub(super) struct Giver {
    device: OwnedFd,
    due: Receiver<(NodeId, WholeChunk)>,
    gate: Gate,
}

/// The two ends of it. The giver, whose gate is that of the other pushes, ends when the notes are dropped.
pub(super) fn whole(device: OwnedFd, gate: Gate) -> (Littles, Giver) {
    let (sender, receiver) = bounded(DUE_MAX);
    let giver = Giver {
        device,
        due: receiver,
        gate,
    };
    (Littles { due: sender }, giver)
}

impl Littles {
    /// These bytes of `node` were read, and the answer was sent.
    pub(super) fn note(&self, node: NodeId, read: &ReadBytes) {
        if read.len() > LITTLE_BYTES_MAX {
            return;
        }
        let Some(whole) = read.just_opened() else {
            return;
        };
        if whole.bytes.len() <= CHUNK_BYTES_MAX {
            // If too many wait, this one is not given.
            let _is_full = self.due.try_send((node, whole));
        }
    }
}

impl Giver {
    /// Gives until nobody can note anything any more.
    pub(super) fn run(self) {
        while let Ok((node, whole)) = self.due.recv() {
            self.give(node, &whole);
        }
    }

    fn give(&self, node: NodeId, whole: &WholeChunk) {
        let Some((offset, bytes)) = whole_pages(whole.offset, &whole.bytes) else {
            return;
        };
        let Ok(length) = u32::try_from(bytes.len()) else {
            return;
        };
        let header = store_header(node, offset, length);
        let pieces = [IoSlice::new(&header), IoSlice::new(bytes)];
        // Refused where the kernel has forgotten the node meanwhile.
        let _given = self.gate.pass(|| rustix::io::writev(&self.device, &pieces));
    }
}

/// Those of the bytes at `offset` that fill whole pages. None if there are none.
fn whole_pages(offset: u64, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let start = offset.next_multiple_of(PAGE_BYTES);
    let end = (offset + bytes.len() as u64) / PAGE_BYTES * PAGE_BYTES;
    let pages = bytes.get((start - offset) as usize..end.checked_sub(offset)? as usize)?;
    (!pages.is_empty()).then_some((start, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_are_given() {
        let bytes = vec![0; 3 * PAGE_BYTES as usize];
        let given = |offset, length: usize| {
            whole_pages(offset, &bytes[..length]).map(|(start, pages)| (start, pages.len()))
        };
        assert_eq!(given(0, 12_288), Some((0, 12_288)));
        assert_eq!(given(4096, 12_287), Some((4096, 8192)));
        assert_eq!(given(1, 12_288), Some((4096, 8192)));
        assert_eq!(given(4095, 4097), Some((4096, 4096)));
        for (offset, length) in [(0, 0), (0, 4095), (1, 4096), (4095, 2), (1, 8190)] {
            assert_eq!(given(offset, length), None, "{length} at {offset}");
        }
    }
}
