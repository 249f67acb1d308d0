//! The tables of the cache's index, and opening it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::database::Database;
use super::failure::failed;
use super::shared_memory::SharedMemory;
use super::wal::use_write_ahead_log;
use crate::base::{Error, Result};

/// How long to wait for another process that writes: its transactions take milliseconds.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// The layout of the tables, in the database's user_version. 0 is a new database.
const LAYOUT: i64 = 1;

/// Bytes of a block of a file system: what a range takes of the disk is counted in these.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// AUTOINCREMENT: numbers of objects are names of files, and are never given to another. The sums are kept by triggers,
/// so that no statement can forget them; blocks are counted, as a range of three bytes takes a whole one.
const TABLES: &str = "
    CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE objects (
        number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, length INTEGER
    ) STRICT;
    CREATE TABLE ranges (
        object INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, used INTEGER NOT NULL,
        is_metadata INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (object, start)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX ranges_by_use ON ranges (is_metadata, used);
    CREATE TABLE totals (is_metadata INTEGER PRIMARY KEY, blocks INTEGER NOT NULL) STRICT;
    INSERT INTO totals VALUES (0, 0), (1, 0);
    CREATE TRIGGER range_came AFTER INSERT ON ranges BEGIN
        UPDATE totals SET blocks = blocks + (new.end - new.start + 4095) / 4096
        WHERE is_metadata = new.is_metadata;
    END;
    CREATE TRIGGER range_left AFTER DELETE ON ranges BEGIN
        UPDATE totals SET blocks = blocks - (old.end - old.start + 4095) / 4096
        WHERE is_metadata = old.is_metadata;
    END;
    CREATE TABLE names (name TEXT PRIMARY KEY, length INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE listed (prefix TEXT PRIMARY KEY, first TEXT NOT NULL, asked TEXT) STRICT, WITHOUT ROWID;
    CREATE TABLE pins (
        number INTEGER PRIMARY KEY AUTOINCREMENT, point TEXT NOT NULL, path BLOB NOT NULL,
        made INTEGER NOT NULL, is_complete INTEGER NOT NULL, UNIQUE (point, path)
    ) STRICT;
    CREATE TABLE pinned (
        pin INTEGER NOT NULL, object INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL,
        PRIMARY KEY (pin, object, start)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX pinned_by_object ON pinned (object, start);
    PRAGMA user_version = 1;";

/// Opens the index at `path`, or makes one there of a repository at `location`.
///
/// # Errors
/// Corrupt, if what is there is no index of this layout; full, denied, locked or failed.
pub(super) fn open_index(path: &Path, location: &str) -> Result<Database> {
    SharedMemory::check_room(path)?;
    let mut database = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    use_write_ahead_log(&database, BUSY_WAIT).map_err(failed)?;
    layout(&database)?;
    let shared_memory = SharedMemory::allocate(path)?;
    let transaction = database
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    match layout(&transaction)? {
        0 => make_tables(&transaction, location).map_err(failed)?,
        LAYOUT => {}
        other => return Err(other_layout(other)),
    }
    transaction.commit().map_err(failed)?;
    Ok(Database::new(database, shared_memory))
}

/// Opens an index that must be there.
///
/// # Errors
/// Those of `open_index`.
pub(super) fn open_existing(path: &Path) -> Result<Database> {
    SharedMemory::check_room(path)?;
    let database = connect(path, OpenFlags::empty())?;
    let found = layout(&database)?;
    let shared_memory = SharedMemory::allocate(path)?;
    match found {
        LAYOUT => Ok(Database::new(database, shared_memory)),
        other => Err(other_layout(other)),
    }
}

/// Reads all of an index once.
///
/// # Errors
/// Corrupt, if it is damaged.
pub(super) fn check_index(database: &Connection) -> Result<()> {
    let verdict: String = database
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(failed)?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(Error::corrupt("the cache's index", verdict)),
    }
}

fn connect(path: &Path, create: OpenFlags) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | create;
    let database = Connection::open_with_flags(path, flags).map_err(failed)?;
    database.busy_timeout(BUSY_WAIT).map_err(failed)?;
    // What a power cut takes back of it is fetched again.
    database
        .pragma_update(None, "synchronous", "normal")
        .map_err(failed)?;
    Ok(database)
}

fn layout(database: &Connection) -> Result<i64> {
    database
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed)
}

fn other_layout(found: i64) -> Error {
    let problem = format!("its layout is {found}, this program knows {LAYOUT}");
    Error::corrupt("the cache's index", problem)
}

fn make_tables(database: &Connection, location: &str) -> rusqlite::Result<()> {
    database.execute_batch(TABLES)?;
    database.execute("INSERT INTO about VALUES ('location', ?1)", [location])?;
    // Files of an index that was given up have other names: nobody takes them for these.
    database.execute(
        "INSERT INTO about VALUES ('generation', lower(hex(randomblob(8))))",
        [],
    )?;
    Ok(())
}
