//! Pins: what is kept for use offline, whatever else is read.
//!
//! While a pin is being made, every range that this process reads or fetches through the cache belongs to it. Who pins
//! reads all that a mount would; what that is, is not known here.

use std::ops::Range;

use rusqlite::{OptionalExtension, params};

use super::database::{offset, value};
use super::failure::failed;
use super::files::ObjectNumber;
use super::kept::{Cache, Open};
use crate::base::{Error, ErrorKind, PointId, Result};

/// So many ranges are written together at the latest.
const PENDING_MAX: usize = 256;

/// A subtree of a point that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub point: PointId,
    /// The path in the point, without a slash before it; empty for all of the point.
    pub path: Vec<u8>,
    /// When it was begun, in seconds since 1970.
    pub made_seconds: i64,
    /// Is all of it kept? Not, if pinning was cut short, or something was found damaged since.
    pub is_complete: bool,
    /// Sealed bytes that are kept for it.
    pub bytes: u64,
}

/// The pin that is being made, if any, and what belongs to it and is not written yet.
#[derive(Default)]
pub(super) struct PinState {
    current: Option<i64>,
    pending: Vec<(ObjectNumber, Range<u64>)>,
    failure: Option<Error>,
}

impl PinState {
    /// Notes that a range was read.
    pub(super) fn add(&mut self, number: ObjectNumber, range: &Range<u64>) {
        if self.current.is_some() {
            self.pending.push((number, range.clone()));
        }
    }

    /// Notes that something could not be kept.
    pub(super) fn fail(&mut self, error: Error) {
        if self.current.is_some() {
            self.failure.get_or_insert(error);
        }
    }

    /// Is it time to write?
    pub(super) fn is_due(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }
}

/// A pin that is being made. Dropped before it is finished, it stays, as incomplete.
pub struct Pinning<'a> {
    cache: &'a Cache,
    number: i64,
}

impl<'a> Pinning<'a> {
    /// Begins a pin, or goes on with one.
    pub(super) fn begin(cache: &'a Cache, point: &PointId, path: &[u8]) -> Result<Self> {
        let made = cache.now() / 1000;
        let number = cache.attempt(|open| {
            let number = open.pin_number(point, path, made)?;
            open.pin.current = Some(number);
            open.pin.failure = None;
            Ok(number)
        })?;
        let number = number.ok_or_else(no_cache)?;
        Ok(Self { cache, number })
    }

    /// Fails if something could not be kept.
    ///
    /// # Errors
    /// Full, if there is no room for it; else what went wrong.
    pub fn check(&self) -> Result<()> {
        let failure = self
            .cache
            .attempt(|open| Ok(open.pin.failure.take()))?
            .ok_or_else(no_cache)?;
        failure.map_or(Ok(()), Err)
    }

    /// Ends it: all of it is kept.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn finish(self) -> Result<()> {
        self.check()?;
        self.cache
            .attempt(|open| {
                open.flush()?;
                let update = "UPDATE pins SET is_complete = 1 WHERE number = ?1";
                let database = &open.database.connection;
                database.execute(update, [self.number]).map_err(failed)
            })?
            .ok_or_else(no_cache)?;
        Ok(())
    }
}

impl Drop for Pinning<'_> {
    fn drop(&mut self) {
        self.cache.with(|open| {
            open.flush()?;
            open.pin = PinState::default();
            Ok(())
        });
    }
}

fn no_cache() -> Error {
    Error::new(
        ErrorKind::Failed,
        "the cache is damaged, and nothing can be pinned in it",
    )
}

impl Open {
    fn pin_number(&self, point: &PointId, path: &[u8], made: i64) -> Result<i64> {
        let insert = "INSERT INTO pins (point, path, made, is_complete) VALUES (?1, ?2, ?3, 0)
            ON CONFLICT (point, path) DO UPDATE SET is_complete = 0 RETURNING number";
        let row = params![point.to_string(), path, made];
        let database = &self.database.connection;
        database
            .query_row(insert, row, |row| row.get(0))
            .map_err(failed)
    }

    /// Writes which ranges belong to the pin that is being made.
    pub(super) fn flush_pinned(&mut self) -> Result<()> {
        let Some(pin) = self.pin.current else {
            return Ok(());
        };
        let pending = std::mem::take(&mut self.pin.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin()?;
        for (number, range) in pending {
            let row = [pin, number.0, value(range.start)?, value(range.end)?];
            let insert = "INSERT INTO pinned VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT DO UPDATE SET end = max(end, excluded.end)";
            transaction
                .prepare_cached(insert)
                .and_then(|mut insert| insert.execute(row))
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    /// All pins, oldest first.
    pub(super) fn pins(&self) -> Result<Vec<Pin>> {
        let query = "SELECT number, point, path, made, is_complete FROM pins ORDER BY number";
        let mut statement = self.database.connection.prepare(query).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut pins = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let point: String = row.get(1).map_err(failed)?;
            pins.push(Pin {
                point: point.parse()?,
                path: row.get(2).map_err(failed)?,
                made_seconds: row.get(3).map_err(failed)?,
                is_complete: row.get(4).map_err(failed)?,
                bytes: self.pinned_bytes(Some(row.get(0).map_err(failed)?))?,
            });
        }
        Ok(pins)
    }

    /// Sealed bytes that are kept for one pin, or for any.
    pub(super) fn pinned_bytes(&self, pin: Option<i64>) -> Result<u64> {
        let query = "SELECT coalesce(sum(end - start), 0) FROM ranges r WHERE EXISTS (
            SELECT 1 FROM pinned p WHERE p.object = r.object AND p.start < r.end AND p.end > r.start
            AND p.pin = coalesce(?1, p.pin))";
        let bytes = self
            .database
            .connection
            .query_row(query, [pin], |row| row.get(0))
            .map_err(failed)?;
        offset(bytes)
    }

    /// Gives pins up: one, or all of a point. Returns how many.
    pub(super) fn unpin(&mut self, point: &PointId, path: Option<&[u8]>) -> Result<u64> {
        self.is_stuck_until = i64::MIN;
        let transaction = self.database.begin()?;
        let mut count = 0;
        loop {
            let delete = "DELETE FROM pins WHERE number = (
                SELECT number FROM pins WHERE point = ?1 AND path = coalesce(?2, path) LIMIT 1
                ) RETURNING number";
            let number: Option<i64> = transaction
                .query_row(delete, params![point.to_string(), path], |row| row.get(0))
                .optional()
                .map_err(failed)?;
            let Some(number) = number else { break };
            transaction
                .execute("DELETE FROM pinned WHERE pin = ?1", [number])
                .map_err(failed)?;
            count += 1;
        }
        transaction.commit().map_err(failed)?;
        Ok(count)
    }
}
