//! The index of a cache as the rest of it sees it: objects and their ranges, each statement in one place.

use std::ops::Range;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::failure::failed;
use super::files::ObjectNumber;
use super::ranges::{PIECE_BYTES_MAX, Ranges, pieces};
use super::schema::BLOCK_BYTES;
use super::shared_memory::SharedMemory;
use crate::base::{Error, Result};

/// The open index.
pub(super) struct Database {
    pub(super) connection: Connection,
    /// What SQLite said when it was last asked whether another process has written.
    version: i64,
    /// After the connection, as it is dropped after it.
    _shared_memory: SharedMemory,
}

/// An object of which something is kept.
#[derive(Debug, Clone)]
pub(super) struct KeptObject {
    pub(super) number: ObjectNumber,
    /// Bytes of the whole object, if known.
    pub(super) length: Option<u64>,
    pub(super) ranges: Ranges,
}

/// One range as eviction and verification see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptRange {
    pub(super) object: ObjectNumber,
    pub(super) range: Range<u64>,
    pub(super) hash: Vec<u8>,
}

/// What ranges take of the disk, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) data: u64,
    pub(super) metadata: u64,
}

impl Totals {
    pub(super) fn bytes(&self) -> u64 {
        self.data.saturating_add(self.metadata)
    }
}

/// A number from the index, which anyone may have damaged, as an offset.
pub(super) fn offset(value: i64) -> Result<u64> {
    u64::try_from(value)
        .map_err(|_| Error::corrupt("the cache's index", "it has a negative offset"))
}

/// A range from the index. Whoever damaged it must not make anybody allocate more than a piece.
fn range(start: i64, end: i64) -> Result<Range<u64>> {
    let range = offset(start)?..offset(end)?;
    match range.end.checked_sub(range.start) {
        Some(1..=PIECE_BYTES_MAX) => Ok(range),
        _ => Err(Error::corrupt(
            "the cache's index",
            format!("it has a range from {start} to {end}"),
        )),
    }
}

/// An offset as the index takes it.
pub(super) fn value(offset: u64) -> Result<i64> {
    i64::try_from(offset)
        .map_err(|_| Error::corrupt("the cache's index", "an offset is beyond its range"))
}

/// The hash that a range is verified by without a key: no protection from who writes here, but from the disk.
pub(super) fn hash_of(bytes: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    hash
}

impl Database {
    pub(super) fn new(connection: Connection, shared_memory: SharedMemory) -> Self {
        Self {
            connection,
            version: -1,
            _shared_memory: shared_memory,
        }
    }

    /// Has another process written since this was last asked?
    pub(super) fn has_changed(&mut self) -> Result<bool> {
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(failed)?;
        let has_changed = version != self.version;
        self.version = version;
        Ok(has_changed)
    }

    /// A text that was written when the index was made.
    pub(super) fn about(&self, key: &str) -> Result<String> {
        let query = "SELECT value FROM about WHERE key = ?1";
        self.connection
            .query_row(query, [key], |row| row.get(0))
            .map_err(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => {
                    Error::corrupt("the cache's index", format!("it lacks its {key}"))
                }
                error => failed(error),
            })
    }

    /// What is kept of an object.
    pub(super) fn object(&self, name: &str) -> Result<Option<KeptObject>> {
        let found: Option<(i64, Option<i64>)> = self
            .connection
            .prepare_cached("SELECT number, length FROM objects WHERE name = ?1")
            .and_then(|mut statement| {
                let row = statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?)));
                row.optional()
            })
            .map_err(failed)?;
        let Some((number, length)) = found else {
            return Ok(None);
        };
        let mut ranges = Ranges::default();
        let mut statement = self
            .connection
            .prepare_cached("SELECT start, end, used FROM ranges WHERE object = ?1")
            .map_err(failed)?;
        let mut rows = statement.query([number]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let at = range(row.get(0).map_err(failed)?, row.get(1).map_err(failed)?)?;
            ranges.insert(at, row.get(2).map_err(failed)?);
        }
        Ok(Some(KeptObject {
            number: ObjectNumber(number),
            length: length.map(offset).transpose()?,
            ranges,
        }))
    }

    /// The number of an object, given now if it has none, and its length if that is known.
    pub(super) fn number(&self, name: &str, length: Option<u64>) -> Result<ObjectNumber> {
        let length = length.map(value).transpose()?;
        let insert = "INSERT INTO objects (name, length) VALUES (?1, ?2)
            ON CONFLICT (name) DO UPDATE SET length = coalesce(excluded.length, length)
            RETURNING number";
        self.connection
            .prepare_cached(insert)
            .and_then(|mut statement| statement.query_row(params![name, length], |row| row.get(0)))
            .map(ObjectNumber)
            .map_err(failed)
    }

    /// Notes that `bytes` are in the object's file from `start` on, for as far as they were not before. Returns which
    /// ranges are new; none, if the object was given up meanwhile.
    pub(super) fn add_ranges(
        &mut self,
        number: ObjectNumber,
        start: u64,
        bytes: &[u8],
        is_metadata: bool,
        now: i64,
    ) -> Result<Vec<Range<u64>>> {
        let transaction = self.begin()?;
        if !is_known(&transaction, number)? {
            return Ok(Vec::new());
        }
        let whole = start..start + bytes.len() as u64;
        let known = known_between(&transaction, number, &whole)?;
        let mut added = Vec::new();
        for range in known.gaps(&whole).iter().flat_map(pieces) {
            let piece = &bytes[(range.start - start) as usize..(range.end - start) as usize];
            let row = params![
                number.0,
                value(range.start)?,
                value(range.end)?,
                now,
                is_metadata,
                hash_of(piece)
            ];
            transaction
                .prepare_cached("INSERT INTO ranges VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
                .and_then(|mut insert| insert.execute(row))
                .map_err(failed)?;
            added.push(range);
        }
        transaction.commit().map_err(failed)?;
        Ok(added)
    }

    /// Notes when ranges were last used: object, start and time.
    pub(super) fn touch(&mut self, touched: &[(ObjectNumber, u64, i64)]) -> Result<()> {
        let transaction = self.begin()?;
        for (number, start, used) in touched {
            let row = params![number.0, value(*start)?, used];
            transaction
                .prepare_cached("UPDATE ranges SET used = ?3 WHERE object = ?1 AND start = ?2")
                .and_then(|mut update| update.execute(row))
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    /// Gives an object up, with all its ranges. Returns its number, if anything was known of it.
    pub(super) fn remove_object(&mut self, name: &str) -> Result<Option<ObjectNumber>> {
        let transaction = self.begin()?;
        let query = "DELETE FROM objects WHERE name = ?1 RETURNING number";
        let number: Option<i64> = transaction
            .query_row(query, [name], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        if let Some(number) = number {
            transaction
                .execute("DELETE FROM ranges WHERE object = ?1", [number])
                .map_err(failed)?;
            transaction
                .execute("DELETE FROM pinned WHERE object = ?1", [number])
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(number.map(ObjectNumber))
    }

    /// Gives ranges up, and objects that have none left; returns those.
    pub(super) fn remove_ranges(&mut self, ranges: &[KeptRange]) -> Result<Vec<ObjectNumber>> {
        let transaction = self.begin()?;
        let mut emptied = Vec::new();
        for KeptRange { object, range, .. } in ranges {
            let start = value(range.start)?;
            transaction
                .prepare_cached("DELETE FROM ranges WHERE object = ?1 AND start = ?2")
                .and_then(|mut delete| delete.execute([object.0, start]))
                .map_err(failed)?;
            let delete = "DELETE FROM objects WHERE number = ?1
                AND NOT EXISTS (SELECT 1 FROM ranges WHERE object = ?1)";
            let count = transaction
                .prepare_cached(delete)
                .and_then(|mut delete| delete.execute([object.0]))
                .map_err(failed)?;
            if count > 0 {
                emptied.push(*object);
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(emptied)
    }

    /// Up to `count` ranges that were not used for longest and are not pinned.
    pub(super) fn oldest(&self, is_metadata: bool, count: usize) -> Result<Vec<KeptRange>> {
        let query = "SELECT object, start, end, hash FROM ranges r WHERE is_metadata = ?1
            AND NOT EXISTS (SELECT 1 FROM pinned p
                WHERE p.object = r.object AND p.start < r.end AND p.end > r.start)
            ORDER BY used LIMIT ?2";
        self.select_ranges(query, params![is_metadata, count as i64])
    }

    /// Up to `count` ranges after the one of `after`, in order of objects and places.
    pub(super) fn ranges_after(
        &self,
        after: Option<&KeptRange>,
        count: usize,
    ) -> Result<Vec<KeptRange>> {
        let (object, start) = match after {
            Some(after) => (after.object.0, value(after.range.start)?),
            None => (i64::MIN, i64::MIN),
        };
        let query = "SELECT object, start, end, hash FROM ranges
            WHERE (object, start) > (?1, ?2) ORDER BY object, start LIMIT ?3";
        self.select_ranges(query, params![object, start, count as i64])
    }

    fn select_ranges(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<KeptRange>> {
        let mut statement = self.connection.prepare_cached(query).map_err(failed)?;
        let mut rows = statement.query(parameters).map_err(failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            found.push(KeptRange {
                object: ObjectNumber(row.get(0).map_err(failed)?),
                range: range(row.get(1).map_err(failed)?, row.get(2).map_err(failed)?)?,
                hash: row.get(3).map_err(failed)?,
            });
        }
        Ok(found)
    }

    /// What all ranges take of the disk.
    pub(super) fn totals(&self) -> Result<Totals> {
        let blocks = |is_metadata: bool| -> Result<u64> {
            let query = "SELECT blocks FROM totals WHERE is_metadata = ?1";
            let blocks = self
                .connection
                .prepare_cached(query)
                .and_then(|mut statement| statement.query_row([is_metadata], |row| row.get(0)))
                .map_err(failed)?;
            Ok(offset(blocks)?.saturating_mul(BLOCK_BYTES))
        };
        Ok(Totals {
            data: blocks(false)?,
            metadata: blocks(true)?,
        })
    }

    /// A change of several rows: all of it or nothing.
    pub(super) fn begin(&mut self) -> Result<Transaction<'_>> {
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)
    }
}

fn is_known(transaction: &Transaction<'_>, number: ObjectNumber) -> Result<bool> {
    transaction
        .prepare_cached("SELECT 1 FROM objects WHERE number = ?1")
        .and_then(|mut statement| statement.exists([number.0]))
        .map_err(failed)
}

/// The ranges of an object that overlap with `wanted`, as they are now.
fn known_between(
    transaction: &Transaction<'_>,
    number: ObjectNumber,
    wanted: &Range<u64>,
) -> Result<Ranges> {
    let query = "SELECT start, end FROM ranges WHERE object = ?1 AND start < ?3 AND end > ?2";
    let mut statement = transaction.prepare_cached(query).map_err(failed)?;
    let mut rows = statement
        .query(params![number.0, value(wanted.start)?, value(wanted.end)?])
        .map_err(failed)?;
    let mut known = Ranges::default();
    while let Some(row) = rows.next().map_err(failed)? {
        let at = range(row.get(0).map_err(failed)?, row.get(1).map_err(failed)?)?;
        known.insert(at, 0);
    }
    Ok(known)
}
