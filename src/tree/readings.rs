//! Who reads large files in order, and what is to be fetched ahead of them from a distant store.
//!
//! One reading a file: several readers of one file are as one that jumps, and then nothing is ahead of either. The kernel
//! reads ahead too, a little, and may ask for pieces that follow one another in any order.

use std::ops::Range;
use std::sync::Mutex;

use crate::fetch::{Interest, Interested};

use super::lock;
use super::node::NodeId;

/// Files of which it is known how they are read.
const READINGS_MAX: usize = 32;

/// Who asks for less at a time looks something up: the kernel's read ahead asks for more as soon as a reader goes on.
const IN_ORDER_BYTES_MIN: u64 = 32 << 10;

/// How far from where it should go on a read may begin, in bytes: the kernel has two of its largest reads under way.
const OUT_OF_ORDER_BYTES_MAX: u64 = 2 << 20;

/// More is fetched once so many parts of what a reader should have ahead have been read.
const RENEWED_PARTS: u64 = 8;

/// How files are being read. The latest in front.
#[derive(Default)]
pub(super) struct Readings {
    readings: Mutex<Vec<Reading>>,
}

struct Reading {
    node: NodeId,
    /// Up to here it was read.
    read_to: u64,
    /// Up to here it is read or fetched ahead.
    ahead_to: u64,
    /// In what is fetched ahead, until the reader goes elsewhere.
    interest: Interest,
}

impl Readings {
    /// These bytes are read, of a file of `size`. Returns what to fetch ahead so that the reader has `ahead_bytes` ahead.
    pub(super) fn note(
        &self,
        node: NodeId,
        read: Range<u64>,
        size: u64,
        ahead_bytes: u64,
    ) -> Option<(Range<u64>, Interested)> {
        if read.end.saturating_sub(read.start) < IN_ORDER_BYTES_MIN {
            return None;
        }
        let mut readings = lock(&self.readings);
        let place = readings.iter().position(|reading| reading.node == node);
        match place {
            Some(place) => readings[..=place].rotate_right(1),
            None => {
                readings.truncate(READINGS_MAX - 1);
                readings.insert(0, Reading::begin(node, 0));
            }
        }
        let reading = &mut readings[0];
        if !reading.goes_on_with(&read) {
            *reading = Reading::begin(node, read.end);
            return None;
        }
        let range = reading.advance(read.end, size, ahead_bytes)?;
        Some((range, reading.interest.watch()))
    }
}

impl Reading {
    fn begin(node: NodeId, read_to: u64) -> Self {
        Self {
            node,
            read_to,
            ahead_to: read_to,
            interest: Interest::default(),
        }
    }

    fn goes_on_with(&self, read: &Range<u64>) -> bool {
        let nearest = self.read_to.saturating_sub(OUT_OF_ORDER_BYTES_MAX);
        let furthest = self.read_to.saturating_add(OUT_OF_ORDER_BYTES_MAX);
        // From the start only at the start: what jumps to the second page has not read the first.
        let furthest = if self.read_to == 0 { 0 } else { furthest };
        (nearest..=furthest).contains(&read.start)
    }

    fn advance(&mut self, read_to: u64, size: u64, ahead_bytes: u64) -> Option<Range<u64>> {
        self.read_to = self.read_to.max(read_to);
        let from = self.ahead_to.max(self.read_to);
        let to = size.min(self.read_to.saturating_add(ahead_bytes));
        let is_due = to > from && (to == size || to - from >= ahead_bytes / RENEWED_PARTS);
        if !is_due {
            return None;
        }
        self.ahead_to = to;
        Some(from..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(7);
    const MIB: u64 = 1 << 20;
    const AHEAD: u64 = 4 * MIB;
    const SIZE: u64 = 100 * MIB;

    fn note(readings: &Readings, read: Range<u64>) -> Option<Range<u64>> {
        let (range, interested) = readings.note(NODE, read, SIZE, AHEAD)?;
        assert!(interested.is_there());
        Some(range)
    }

    #[test]
    fn who_reads_in_order_has_so_much_ahead_each_byte_fetched_once() {
        let readings = Readings::default();
        let mut end = MIB;
        for start in (0..SIZE).step_by(MIB as usize) {
            if let Some(range) = note(&readings, start..start + MIB) {
                assert_eq!(range.start, end.max(start + MIB));
                end = range.end;
            }
            assert!(end >= SIZE.min(start + MIB + AHEAD * 7 / 8), "{start}");
            assert!(end <= start + MIB + AHEAD);
        }
        assert_eq!(end, SIZE);
    }

    #[test]
    fn pieces_that_the_kernel_asks_for_out_of_order_are_in_order() {
        let readings = Readings::default();
        assert!(note(&readings, 0..MIB).is_some());
        assert!(note(&readings, 2 * MIB..3 * MIB).is_some());
        assert_eq!(note(&readings, MIB..2 * MIB), None, "it is ahead already");
        assert!(note(&readings, 3 * MIB..4 * MIB).is_some());
    }

    #[test]
    fn who_jumps_or_reads_a_little_has_nothing_ahead_and_a_jump_ends_the_interest() {
        let readings = Readings::default();
        let (_, interested) = readings.note(NODE, 0..MIB, SIZE, AHEAD).unwrap();
        assert_eq!(note(&readings, MIB..MIB + 4096), None);
        assert!(interested.is_there());
        for start in [50, 20, 90] {
            assert_eq!(note(&readings, start * MIB..(start + 1) * MIB), None);
            assert!(!interested.is_there());
        }
        assert!(note(&readings, 91 * MIB..92 * MIB).is_some());
        assert_eq!(
            readings
                .note(NodeId(8), MIB..2 * MIB, SIZE, AHEAD)
                .map(drop),
            None
        );
    }

    #[test]
    fn files_that_nobody_reads_any_more_are_forgotten() {
        let readings = Readings::default();
        let (_, interested) = readings.note(NODE, 0..MIB, SIZE, AHEAD).unwrap();
        for node in 0..READINGS_MAX as u64 {
            readings.note(NodeId(100 + node), 0..MIB, SIZE, AHEAD);
        }
        assert_eq!(lock(&readings.readings).len(), READINGS_MAX);
        assert!(!interested.is_there());
    }
}
