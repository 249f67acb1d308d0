//! Who reads large files in order, and what is to be fetched ahead of them from a distant store.
//!
//! What is ahead is counted in sealed bytes, which are what the line brings. It is not topped up with every read, or there
//! would be a request for each: more is planned once a quarter of it has been read, for as much again, so that requests are
//! long; the other three keep the line busy meanwhile. It begins with little and doubles.
//!
//! One reading a file: several readers of one file are as one that jumps, and then nothing is ahead of either. The kernel
//! reads ahead too, a little, and may ask for pieces that follow one another in any order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;

use crate::fetch::{AheadBytes, Interest, Interested};

use super::lock;
use super::node::NodeId;

/// Files of which it is known how they are read.
const READINGS_MAX: usize = 32;

/// Who asks for less at a time, and not at the file's beginning, looks something up: the kernel's read ahead asks for more
/// as soon as a reader goes on.
const IN_ORDER_BYTES_MIN: u64 = 32 << 10;

/// How far from where it should go on a read may begin, in bytes: the kernel has two of its largest reads under way.
const OUT_OF_ORDER_BYTES_MAX: u64 = 2 << 20;

/// Sealed bytes that are fetched ahead at first: who reads the beginning may want no more than that.
const FIRST_BYTES: u64 = 384 << 10;

/// More is planned once this part of what was ahead has been read. With a half, a line is not found out to be faster than
/// it was used: half of what is ahead has come when the next is asked for.
const RENEWED_PARTS: u64 = 4;

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
    /// What is fetched ahead, in order; the first ends behind `read_to`.
    stretches: VecDeque<Stretch>,
    /// Sealed bytes to have ahead, of what the line is worth.
    sealed_max: u64,
    /// More is being planned.
    is_planned: bool,
    /// In what is fetched ahead, until the reader goes elsewhere.
    interest: Interest,
}

/// A chunk of a file that is fetched ahead, or zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Where it ends in the file.
    pub(super) end: u64,
    /// What is fetched for it, and what it takes in memory; nothing for zeros.
    pub(super) sealed_bytes: u64,
    pub(super) plain_bytes: u64,
}

/// What is to be planned ahead of a reader.
#[derive(Debug)]
pub(super) struct Due {
    /// From where in the file; as much of it as makes so many bytes of one kind.
    pub(super) from: u64,
    pub(super) bytes: AheadBytes,
    /// In what it is for.
    pub(super) interested: Interested,
}

impl Readings {
    /// These bytes are read, of a file of `size`. Returns what to plan so that the reader has as much ahead as `ahead`
    /// says; `planned` is to be told what has come of it.
    pub(super) fn note(
        &self,
        node: NodeId,
        read: Range<u64>,
        size: u64,
        ahead: AheadBytes,
    ) -> Option<Due> {
        if read.start > 0 && read.end.saturating_sub(read.start) < IN_ORDER_BYTES_MIN {
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
        reading.advance(read.end, size, ahead)
    }

    /// These follow what was ahead of a reader before; none, if they could not be found out.
    pub(super) fn planned(&self, node: NodeId, due: &Due, stretches: &[Stretch]) {
        let mut readings = lock(&self.readings);
        let reading = readings.iter_mut().find(|reading| reading.node == node);
        // Of a reader that has gone elsewhere meanwhile the interest has ended.
        if let Some(reading) = reading.filter(|_| due.interested.is_there()) {
            reading.is_planned = false;
            reading.stretches.extend(stretches);
            if let Some(last) = stretches.last() {
                reading.ahead_to = reading.ahead_to.max(last.end);
            }
        }
    }
}

impl Reading {
    fn begin(node: NodeId, read_to: u64) -> Self {
        Self {
            node,
            read_to,
            ahead_to: read_to,
            stretches: VecDeque::new(),
            sealed_max: FIRST_BYTES,
            is_planned: false,
            interest: Interest::default(),
        }
    }

    fn goes_on_with(&self, read: &Range<u64>) -> bool {
        let nearest = self.read_to.saturating_sub(OUT_OF_ORDER_BYTES_MAX);
        // What was ahead may have been read without a request, from what the kernel was given.
        let furthest = self.read_to.saturating_add(OUT_OF_ORDER_BYTES_MAX);
        let furthest = furthest.max(self.ahead_to);
        // From the start only at the start: what jumps to the second page has not read the first.
        let furthest = if self.read_to == 0 { 0 } else { furthest };
        (nearest..=furthest).contains(&read.start)
    }

    fn advance(&mut self, read_to: u64, size: u64, ahead: AheadBytes) -> Option<Due> {
        self.read_to = self.read_to.max(read_to);
        while let Some(stretch) = self.stretches.front()
            && stretch.end <= self.read_to
        {
            self.stretches.pop_front();
        }
        let (sealed, plain) = self.stretches.iter().fold((0, 0), |(sealed, plain), it| {
            (sealed + it.sealed_bytes, plain + it.plain_bytes)
        });
        let sealed_max = self.sealed_max.min(ahead.sealed);
        let from = self.ahead_to.max(self.read_to);
        let is_due = !self.is_planned
            && from < size
            && sealed <= sealed_max - sealed_max / RENEWED_PARTS
            && plain <= ahead.plain - ahead.plain / RENEWED_PARTS;
        if !is_due {
            return None;
        }
        self.is_planned = true;
        self.sealed_max = (self.sealed_max * 2).min(ahead.sealed.max(FIRST_BYTES));
        Some(Due {
            from,
            bytes: AheadBytes {
                sealed: sealed_max - sealed,
                plain: ahead.plain - plain,
            },
            interested: self.interest.watch(),
        })
    }
}

impl Stretch {
    /// Zeros that end here.
    pub(super) fn at(end: u64) -> Self {
        Self {
            end,
            sealed_bytes: 0,
            plain_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(7);
    const MIB: u64 = 1 << 20;
    const AHEAD: AheadBytes = AheadBytes {
        sealed: 4 * MIB,
        plain: 16 * MIB,
    };
    const SIZE: u64 = 200 * MIB;

    /// Notes a read, and plans what is due in chunks of 128 KiB, of which a part so large is sealed.
    fn read(readings: &Readings, read: Range<u64>, parts: u64) -> Option<(Range<u64>, u64)> {
        const CHUNK: u64 = 128 << 10;
        let due = readings.note(NODE, read, SIZE, AHEAD)?;
        assert!(due.interested.is_there());
        let (mut stretches, mut sealed, mut end) = (Vec::new(), 0, due.from);
        while sealed < due.bytes.sealed && end - due.from < due.bytes.plain && end < SIZE {
            end = (end / CHUNK + 1) * CHUNK;
            sealed += CHUNK / parts;
            stretches.push(Stretch {
                end,
                sealed_bytes: CHUNK / parts,
                plain_bytes: CHUNK,
            });
        }
        readings.planned(NODE, &due, &stretches);
        Some((due.from..end, sealed))
    }

    #[test]
    fn what_is_ahead_is_planned_in_long_stretches_each_byte_once_however_well_it_is_compressed() {
        for parts in [1, 3, 7] {
            let readings = Readings::default();
            let (mut end, mut plans) = (MIB, Vec::new());
            for start in (0..SIZE).step_by(MIB as usize) {
                let read_to = start + MIB;
                if let Some((range, sealed)) = read(&readings, start..read_to, parts) {
                    assert_eq!(range.start, end.max(read_to));
                    end = range.end;
                    plans.push(sealed);
                }
                assert!(end <= read_to + AHEAD.plain + MIB);
                let is_enough = (end.max(read_to) - read_to) / parts >= AHEAD.sealed / 2;
                let is_much = end.max(read_to) - read_to >= AHEAD.plain / 2;
                assert!(start < 8 * MIB || end == SIZE || is_enough || is_much);
            }
            assert_eq!(end, SIZE);
            // The last one is what is left; the first two are little.
            assert!(plans.pop().is_some());
            let plans = &plans[2..];
            // With room for 16 MiB, of what is a seventh when it is sealed: a quarter of that.
            let shortest = plans.iter().min().unwrap();
            assert!(*shortest >= MIB / 2, "1/{parts}: {plans:?}");
        }
    }

    #[test]
    fn it_begins_with_little_and_doubles() {
        let readings = Readings::default();
        let mut most = Vec::new();
        for start in (0..8 * MIB).step_by(MIB as usize / 8) {
            if let Some((_, sealed)) = read(&readings, start..start + MIB / 8, 1) {
                most.push(sealed * 8 / MIB);
            }
        }
        assert_eq!(most[..4], [3, 4, 7, 13]);
    }

    #[test]
    fn nothing_is_planned_twice_at_a_time_and_what_fails_may_be_planned_again() {
        let readings = Readings::default();
        let due = readings.note(NODE, 0..MIB, SIZE, AHEAD).unwrap();
        assert!(readings.note(NODE, MIB..2 * MIB, SIZE, AHEAD).is_none());
        readings.planned(NODE, &due, &[]);
        let again = readings.note(NODE, 2 * MIB..3 * MIB, SIZE, AHEAD).unwrap();
        assert_eq!(again.from, 3 * MIB);
    }

    #[test]
    fn pieces_that_the_kernel_asks_for_out_of_order_are_in_order() {
        let readings = Readings::default();
        let mut end = MIB;
        let interested = readings.note(NODE, 0..MIB, SIZE, AHEAD).unwrap().interested;
        lock(&readings.readings)[0].is_planned = false;
        for start in [2, 1, 4, 3, 5] {
            if let Some((range, _)) = read(&readings, start * MIB..(start + 1) * MIB, 1) {
                assert!(range.start >= end, "it is ahead already");
                end = range.end;
            }
        }
        assert!(interested.is_there());
    }

    #[test]
    fn who_jumps_or_reads_a_little_has_nothing_ahead_and_a_jump_ends_the_interest() {
        let readings = Readings::default();
        let due = readings.note(NODE, 0..MIB, SIZE, AHEAD).unwrap();
        assert_eq!(read(&readings, MIB..MIB + 4096, 1), None);
        assert!(due.interested.is_there());
        for start in [50, 20, 90] {
            assert_eq!(read(&readings, start * MIB..(start + 1) * MIB, 1), None);
            assert!(!due.interested.is_there());
        }
        // What was planned for who has gone says nothing of who is here.
        let stretch = Stretch {
            end: 200 * MIB,
            sealed_bytes: MIB,
            plain_bytes: MIB,
        };
        readings.planned(NODE, &due, &[stretch]);
        assert!(read(&readings, 91 * MIB..92 * MIB, 1).is_some());
        let other = readings.note(NodeId(8), MIB..2 * MIB, SIZE, AHEAD);
        assert!(other.is_none());
    }

    #[test]
    fn the_first_read_is_followed_however_short_and_a_long_hole_takes_no_room() {
        let readings = Readings::default();
        let due = readings.note(NODE, 0..16 << 10, SIZE, AHEAD).unwrap();
        assert_eq!((due.from, due.bytes.sealed), (16 << 10, FIRST_BYTES));
        readings.planned(NODE, &due, &[Stretch::at(100 * MIB)]);
        let read = 16 << 10..48 << 10;
        let due = readings.note(NODE, read, SIZE, AHEAD).unwrap();
        assert_eq!((due.from, due.bytes.plain), (100 * MIB, AHEAD.plain));
    }

    #[test]
    fn files_that_nobody_reads_any_more_are_forgotten() {
        let readings = Readings::default();
        let due = readings.note(NODE, 0..MIB, SIZE, AHEAD).unwrap();
        for node in 0..READINGS_MAX as u64 {
            readings.note(NodeId(100 + node), 0..MIB, SIZE, AHEAD);
        }
        assert_eq!(lock(&readings.readings).len(), READINGS_MAX);
        assert!(!due.interested.is_there());
    }
}
