//! Making room: what was not used for longest goes, one range after the other.

use super::database::{KeptRange, Totals};
use super::kept::Open;
use super::schema::BLOCK_BYTES;
use crate::base::{Error, ErrorKind, Result};

/// Packs keep this part of the room before metadata has to leave for them.
const DATA_PARTS: u64 = 8;

/// More than is needed is freed, this part of the room, so that not every read has to.
const SLACK_PARTS: u64 = 64;

/// Ranges that are looked at together.
const AT_A_TIME: usize = 64;

/// How long to wait, in milliseconds, before looking again for something that is not pinned.
const STUCK_WAIT: i64 = 60_000;

impl Open {
    /// Evicts until `bytes` more have their place.
    ///
    /// # Errors
    /// Full, if all is pinned or the cache is smaller than that; and those of the index and the disk.
    pub(super) fn make_room(&mut self, bytes: u64, bytes_max: u64, now: i64) -> Result<()> {
        let needed = bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
        let kept = self.database.totals()?.bytes();
        if kept.saturating_add(needed) <= bytes_max {
            return Ok(());
        }
        let too_much = kept.saturating_add(needed) - bytes_max;
        if needed > bytes_max || now < self.is_stuck_until {
            return Err(no_room(bytes_max));
        }
        let freed = self.evict_below(too_much, bytes_max / SLACK_PARTS, bytes_max / DATA_PARTS)?;
        if freed < too_much {
            self.is_stuck_until = now.saturating_add(STUCK_WAIT);
            return Err(no_room(bytes_max));
        }
        Ok(())
    }

    /// Evicts at least so many bytes, if there are any that are not pinned: the disk is full.
    pub(super) fn evict(&mut self, bytes: u64) -> Result<u64> {
        let data_min = self.database.totals()?.bytes() / DATA_PARTS;
        self.evict_below(bytes, 0, data_min)
    }

    /// Evicts `needed` bytes and some more, packs first while they have more than `data_min`. Returns how many.
    fn evict_below(&mut self, needed: u64, slack: u64, data_min: u64) -> Result<u64> {
        // What was used a moment ago must count, and what is being pinned.
        self.flush()?;
        let wanted = needed.saturating_add(slack);
        let mut freed = 0;
        while freed < wanted {
            let Totals { data, .. } = self.database.totals()?;
            let metadata_first = data <= data_min;
            let mut oldest = self.database.oldest(metadata_first, AT_A_TIME)?;
            if oldest.is_empty() {
                oldest = self.database.oldest(!metadata_first, AT_A_TIME)?;
            }
            if oldest.is_empty() {
                break;
            }
            let mut enough = 0;
            let count = oldest.iter().take_while(|range| {
                let is_needed = enough < wanted - freed;
                enough += taken(range);
                is_needed
            });
            let count = count.count();
            oldest.truncate(count);
            self.give_up(&oldest)?;
            freed += oldest.iter().map(taken).sum::<u64>();
        }
        Ok(freed)
    }

    /// Gives ranges up. On a disk without room for a word in the index, their bytes go first: a row whose bytes are gone is
    /// found out when it is read.
    pub(super) fn give_up(&mut self, ranges: &[KeptRange]) -> Result<()> {
        let emptied = match self.database.remove_ranges(ranges) {
            Err(error) if error.kind() == ErrorKind::Full => {
                self.punch(ranges)?;
                self.database.remove_ranges(ranges)?
            }
            result => result?,
        };
        for range in ranges {
            self.let_go(range.object, range.range.start);
        }
        for object in &emptied {
            self.let_object_go(*object);
            self.files.remove(*object)?;
        }
        let left: Vec<KeptRange> = ranges
            .iter()
            .filter(|range| !emptied.contains(&range.object))
            .cloned()
            .collect();
        self.punch(&left)
    }

    fn punch(&self, ranges: &[KeptRange]) -> Result<()> {
        ranges
            .iter()
            .try_for_each(|range| self.files.punch(range.object, &range.range))
    }
}

/// What a range takes of the disk, as the index counts it.
fn taken(range: &KeptRange) -> u64 {
    let bytes = range.range.end.saturating_sub(range.range.start);
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

fn no_room(bytes_max: u64) -> Error {
    Error::new(
        ErrorKind::Full,
        format!(
            "the cache's {bytes_max} bytes are full of what is pinned, or too few: give a larger --cache-size"
        ),
    )
}
