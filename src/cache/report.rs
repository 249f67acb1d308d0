//! What a cache has, for people; emptying it, and verifying it against the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use rusqlite::OptionalExtension;

use super::database::{KeptRange, hash_of, offset};
use super::failure::failed;
use super::files::{Files, ObjectNumber, read_range};
use super::folder::CacheFolder;
use super::kept::Open;
use super::schema::{BLOCK_BYTES, check_index, open_existing};
use crate::base::{Error, ErrorKind, Event, Monitor, Result};

/// Ranges that are looked at together.
const AT_A_TIME: usize = 256;

/// What one repository's cache has. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFigures {
    /// The repository, as its store names itself.
    pub location: String,
    /// What is taken of the disk for packs.
    pub data_bytes: u64,
    /// What is taken for everything else.
    pub metadata_bytes: u64,
    /// Sealed bytes of it that are pinned.
    pub pinned_bytes: u64,
    /// Objects of which something is kept.
    pub objects: u64,
    pub pins: u64,
    /// When something of it was last read, in seconds since 1970.
    pub used_seconds: Option<i64>,
}

/// What verifying found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyFigures {
    /// Ranges whose bytes are those that came.
    pub good_ranges: u64,
    pub good_bytes: u64,
    /// Ranges that were not, and are dropped.
    pub dropped_ranges: u64,
    pub dropped_bytes: u64,
    /// Files that nobody knew of, and that are removed.
    pub strays: u64,
}

impl CacheFolder {
    /// What it has.
    ///
    /// # Errors
    /// Corrupt, if its index is damaged; denied or failed.
    pub fn figures(&self) -> Result<CacheFigures> {
        let open = self.open_existing()?;
        let totals = open.database.totals()?;
        let count = |query: &str| -> Result<Option<i64>> {
            let row = open
                .database
                .connection
                .query_row(query, [], |row| row.get(0));
            Ok(row.optional().map_err(failed)?.flatten())
        };
        let number = |query: &str| count(query).and_then(|number| offset(number.unwrap_or(0)));
        Ok(CacheFigures {
            location: open.database.about("location")?,
            data_bytes: totals.data,
            metadata_bytes: totals.metadata,
            pinned_bytes: open.pinned_bytes(None)?,
            objects: number("SELECT count(*) FROM objects")?,
            pins: number("SELECT count(*) FROM pins")?,
            used_seconds: count("SELECT max(used) FROM ranges")?.map(|used| used / 1000),
        })
    }

    /// Drops what is kept; what is pinned only if that is wanted too. Returns how many bytes of the disk that were.
    ///
    /// # Errors
    /// Full, if the disk has no room to note which part stays; denied or failed. A damaged cache is emptied.
    pub fn clear(&self, pinned_too: bool) -> Result<u64> {
        match self
            .open_existing()
            .and_then(|open| clear(open, pinned_too))
        {
            Err(error)
                if error.kind() == ErrorKind::Corrupt
                    || error.kind() == ErrorKind::Full && pinned_too =>
            {
                let _lock = self.lock()?;
                self.empty()?;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Full => {
                Err(error.context("all can be dropped, what is pinned too, and not a part of it"))
            }
            result => result,
        }
    }

    /// Reads all that is kept, and drops what is not what it was when it came, and what nobody knows of.
    ///
    /// # Errors
    /// Interrupted, by the monitor; corrupt, if the index itself is damaged; denied, full or failed.
    pub fn verify(&self, monitor: &dyn Monitor) -> Result<VerifyFigures> {
        let mut open = self.open_existing()?;
        check_index(&open.database.connection)?;
        let mut figures = VerifyFigures::default();
        let mut last: Option<KeptRange> = None;
        loop {
            let ranges = open.database.ranges_after(last.as_ref(), AT_A_TIME)?;
            let Some(end) = ranges.last() else { break };
            last = Some(end.clone());
            let mut bad = Vec::new();
            for range in ranges {
                let bytes = range.range.end.saturating_sub(range.range.start);
                match open.is_good(&range) {
                    true => {
                        figures.good_ranges += 1;
                        figures.good_bytes += bytes;
                    }
                    false => {
                        figures.dropped_ranges += 1;
                        figures.dropped_bytes += bytes;
                        bad.push(range);
                    }
                }
                monitor.event(Event::Done { files: 0, bytes });
                if monitor.is_interrupted() {
                    return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
                }
            }
            open.drop_damaged(&bad)?;
        }
        figures.strays = open.remove_strays()?;
        self.remove_other_generations(&open.database.about("generation")?)?;
        Ok(figures)
    }

    fn open_existing(&self) -> Result<Open> {
        let database = open_existing(&self.index())?;
        let files = Files::open(self.objects(&database.about("generation")?))?;
        Ok(Open::with(database, files))
    }
}

fn clear(mut open: Open, pinned_too: bool) -> Result<u64> {
    let before = open.database.totals()?.bytes();
    if pinned_too {
        let database = &open.database.connection;
        database
            .execute_batch(
                "DELETE FROM pinned; DELETE FROM pins; DELETE FROM names; DELETE FROM listed;",
            )
            .map_err(failed)?;
    }
    for is_metadata in [false, true] {
        loop {
            let oldest = open.database.oldest(is_metadata, AT_A_TIME)?;
            if oldest.is_empty() {
                break;
            }
            open.give_up(&oldest)?;
        }
    }
    Ok(before.saturating_sub(open.database.totals()?.bytes()))
}

impl Open {
    fn is_good(&self, range: &KeptRange) -> bool {
        self.files
            .file(range.object)
            .ok()
            .and_then(|file| read_range(&file, &range.range).ok())
            .is_some_and(|bytes| hash_of(&bytes)[..] == range.hash)
    }

    /// Drops ranges, and says of pins that lose something that they are incomplete.
    fn drop_damaged(&mut self, ranges: &[KeptRange]) -> Result<()> {
        for KeptRange { object, .. } in ranges {
            let update = "UPDATE pins SET is_complete = 0
                WHERE number IN (SELECT pin FROM pinned WHERE object = ?1)";
            let database = &self.database.connection;
            database.execute(update, [object.0]).map_err(failed)?;
        }
        self.give_up(ranges)
    }

    /// Removes files of no object, and gives back the room of bytes that no range has: what `kill -9` left.
    fn remove_strays(&mut self) -> Result<u64> {
        let kept = self.kept_by_object()?;
        let mut strays = 0;
        for number in self.files.numbers()? {
            match kept.get(&number) {
                None => {
                    self.files.remove(number)?;
                    strays += 1;
                }
                Some(ranges) => self.punch_between(number, ranges)?,
            }
        }
        Ok(strays)
    }

    fn kept_by_object(&self) -> Result<BTreeMap<ObjectNumber, BTreeSet<(u64, u64)>>> {
        let mut kept: BTreeMap<ObjectNumber, BTreeSet<(u64, u64)>> = BTreeMap::new();
        let mut last: Option<KeptRange> = None;
        loop {
            let ranges = self.database.ranges_after(last.as_ref(), AT_A_TIME)?;
            for KeptRange { object, range, .. } in &ranges {
                let of_object = kept.entry(*object).or_default();
                of_object.insert((range.start, range.end));
            }
            match ranges.into_iter().next_back() {
                Some(range) => last = Some(range),
                None => return Ok(kept),
            }
        }
    }

    fn punch_between(&self, number: ObjectNumber, ranges: &BTreeSet<(u64, u64)>) -> Result<()> {
        let file = self.files.file(number)?;
        let metadata = file
            .metadata()
            .map_err(|error| Error::io("look at a file of the cache", error))?;
        let blocks: u64 = ranges
            .iter()
            .map(|(start, end)| (end - start).div_ceil(BLOCK_BYTES) + 1)
            .sum();
        if metadata.blocks() * 512 <= blocks * BLOCK_BYTES {
            return Ok(());
        }
        let mut next = 0;
        for (start, end) in ranges
            .iter()
            .copied()
            .chain([(metadata.len(), metadata.len())])
        {
            let gap: Range<u64> = next..start;
            if !gap.is_empty() {
                self.files.punch(number, &gap)?;
            }
            next = end.max(next);
        }
        Ok(())
    }
}
