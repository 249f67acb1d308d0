//! Which blocks to fetch beside the one that is asked for. It only ever decides what comes along in a request: a wrong
//! guess costs bytes, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

/// Sealed bytes of the files' blocks that come in one request when they are read in order.
const SEQUENTIAL_BYTES_MAX: u64 = 512 << 10;

/// Sealed bytes of the directories' blocks that come in one request, whatever is asked for.
const NEIGHBOURS_BYTES_MAX: u64 = 256 << 10;

/// Blocks of directories that are neighbours: at some 16 KiB sealed, what one request may bring.
const NEIGHBOURS: u64 = 16;

/// Blocks ahead at most, for blocks that compress very well.
const AHEAD_MAX: u64 = 64;

/// The same where a request waits out a network's delay, in which as many bytes could have come: of files' blocks when the
/// first of them is asked for, and when they are read in order; and of the directories' blocks.
const DISTANT_FIRST: u64 = 16;
const DISTANT_BYTES_MAX: u64 = 1 << 20;
const DISTANT_NEIGHBOURS: u64 = 64;

/// Groups of neighbours that are told apart; more share a bit, and may then be fetched block by block.
const GROUP_WORDS: usize = 16;

/// What to fetch: blocks from `first` to before `end`, of `bytes_max` sealed bytes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) bytes_max: u64,
}

/// For blocks that are mostly read in order: the further that goes on, the more come along. Who reads may be several
/// readers one after the other, such as those of one directory each.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Up to this block, not included, blocks came along.
    end: AtomicU64,
    /// How many came with the last request.
    count: AtomicU64,
}

impl ReadAhead {
    /// What to fetch from a distant store when `block`, which is not in memory, is asked for.
    pub(super) fn plan_distant(&self, block: u64) -> Window {
        let goes_on = block == self.end.load(Ordering::Relaxed);
        let last = if goes_on {
            self.count.load(Ordering::Relaxed)
        } else {
            0
        };
        Window {
            first: block,
            end: block + (last * 2).clamp(DISTANT_FIRST, AHEAD_MAX),
            bytes_max: DISTANT_BYTES_MAX,
        }
    }

    /// What to fetch from a distant store before anyone asks, now that `block`, which was in memory, is read: once for each
    /// window that came, when half of it is behind.
    pub(super) fn plan_next(&self, block: u64) -> Option<Window> {
        let end = self.end.load(Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        let is_due = count >= DISTANT_FIRST && (end - count / 2..end).contains(&block);
        if !is_due {
            return None;
        }
        let next = end + (count * 2).min(AHEAD_MAX);
        let claimed = self
            .end
            .compare_exchange(end, next, Ordering::Relaxed, Ordering::Relaxed);
        claimed.ok()?;
        self.count.store(next - end, Ordering::Relaxed);
        Some(Window {
            first: end,
            end: next,
            bytes_max: DISTANT_BYTES_MAX,
        })
    }

    /// What to fetch when `block` is asked for; None if nothing but itself.
    pub(super) fn plan(&self, block: u64) -> Option<Window> {
        let end = self.end.load(Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        if block == end {
            let ahead = (count * 2).clamp(1, AHEAD_MAX);
            return Some(Window {
                first: block,
                end: block + ahead,
                bytes_max: SEQUENTIAL_BYTES_MAX,
            });
        }
        if block > end || block + count < end {
            self.fetched(block, block + 1);
        }
        None
    }

    /// Blocks from `first` to before `end` came.
    pub(super) fn fetched(&self, first: u64, end: u64) {
        self.end.store(end, Ordering::Relaxed);
        self.count.store(end - first, Ordering::Relaxed);
    }
}

/// For blocks that are few and read all over: each request brings the neighbours on both sides, once.
#[derive(Debug, Default)]
pub(super) struct Neighbourhoods {
    fetched: [AtomicU64; GROUP_WORDS],
}

impl Neighbourhoods {
    /// What to fetch when `block` is asked for; None if nothing but itself.
    pub(super) fn plan(&self, block: u64) -> Option<Window> {
        let group = block / NEIGHBOURS;
        let word = &self.fetched[(group / 64) as usize % GROUP_WORDS];
        let bit = 1 << (group % 64);
        if word.load(Ordering::Relaxed) & bit != 0
            || word.fetch_or(bit, Ordering::Relaxed) & bit != 0
        {
            return None;
        }
        Some(Window {
            first: group * NEIGHBOURS,
            end: (group + 1) * NEIGHBOURS,
            bytes_max: NEIGHBOURS_BYTES_MAX,
        })
    }
}

/// What to fetch from a distant store when a block of directories that is not in memory is asked for: those around it, in
/// groups, so that what one request brought another does not bring again.
pub(super) fn distant_neighbours(block: u64) -> Window {
    let first = block / DISTANT_NEIGHBOURS * DISTANT_NEIGHBOURS;
    Window {
        first,
        end: first + DISTANT_NEIGHBOURS,
        bytes_max: DISTANT_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_on_in_order_brings_ever_more() {
        let ahead = ReadAhead::default();
        let mut ends = Vec::new();
        for block in 0..200 {
            if let Some(window) = ahead.plan(block) {
                assert_eq!(window.first, block);
                ahead.fetched(window.first, window.end);
                ends.push(window.end);
            }
        }
        assert_eq!(ends, [1, 3, 7, 15, 31, 63, 127, 191, 255]);
    }

    #[test]
    fn what_is_asked_for_here_and_there_comes_alone() {
        let ahead = ReadAhead::default();
        for block in [900, 17, 300, 5] {
            assert_eq!(ahead.plan(block), None);
        }
        // One after the last is a beginning.
        assert!(ahead.plan(6).is_some_and(|window| window.end == 8));
    }

    #[test]
    fn neighbours_come_along_once() {
        let neighbours = Neighbourhoods::default();
        let window = neighbours.plan(37).unwrap();
        assert_eq!((window.first, window.end), (32, 48));
        assert_eq!(neighbours.plan(40), None);
        assert!(neighbours.plan(48).is_some());
    }

    #[test]
    fn from_afar_even_the_first_block_brings_many() {
        let ahead = ReadAhead::default();
        let mut ends = Vec::new();
        let mut block = 1000;
        while block < 1200 {
            let window = ahead.plan_distant(block);
            assert_eq!(window.first, block);
            ahead.fetched(window.first, window.end);
            block = window.end;
            ends.push(block);
        }
        assert_eq!(ends, [1016, 1048, 1112, 1176, 1240]);
        let next: Vec<u64> = (1176..1500)
            .filter_map(|block| ahead.plan_next(block))
            .map(|window| window.first)
            .collect();
        assert_eq!(next, [1240, 1304, 1368, 1432, 1496]);
        assert_eq!(ahead.plan_next(3), None);
        let window = distant_neighbours(130);
        assert_eq!((window.first, window.end), (128, 192));
    }
}
