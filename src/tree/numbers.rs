//! The numbers of runs and points that node ids are made from, kept so that inode numbers outlive a mount.
//!
//! A number is given once and never to another. They are kept in an SQLite database at a path that the caller
//! chooses; several mounts may share it at the same time. All known numbers are in memory too, so that only a new
//! run or point costs a transaction. A database that is damaged is set aside and begun anew with a warning: what is
//! lost is the sameness of inode numbers with earlier mounts, never content. So it is where the disk becomes full: from
//! then on they are kept in memory.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use crate::base::{Error, ErrorKind, PointId, Result, RunId};
use crate::cache::{SharedMemory, use_write_ahead_log};

use super::node::{PointNumber, RunNumber};

/// How long to wait for another mount that writes: its transactions take milliseconds.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// The layout of the tables, in the database's user_version. 0 is a new database.
const LAYOUT: i64 = 1;

/// AUTOINCREMENT: a number that was given is not given again, whatever is deleted.
const TABLES: &str = "
    CREATE TABLE runs (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE) STRICT;
    CREATE TABLE points (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE) STRICT;
    PRAGMA user_version = 1;";

/// Numbers runs and points. Any thread may use it.
pub struct Numbers {
    database: Mutex<Connection>,
    runs: RwLock<Known<RunId>>,
    points: RwLock<Known<PointId>>,
    /// After the database, as it is dropped after it; none of one in memory.
    _shared_memory: Option<SharedMemory>,
}

/// Numbers in memory, both ways.
struct Known<Id> {
    number_of: HashMap<Id, u32>,
    id_of: HashMap<u32, Id>,
}

impl Numbers {
    /// Opens the database at `path`, or makes one there. Its folder must exist.
    ///
    /// # Errors
    /// Denied, full or failed, if there can be no database at `path`. A damaged one is no error.
    pub fn open(path: &Path) -> Result<Self> {
        match open_database(path) {
            Ok((database, shared_memory)) => Ok(Self::with(database, Some(shared_memory))),
            Err(Opening::Damaged(problem)) => {
                log::warn!(
                    "{}: {problem}; begun anew: inode numbers differ from those of earlier mounts",
                    path.display()
                );
                set_aside(path)?;
                let (database, shared_memory) =
                    open_database(path).map_err(|failure| failure.into_error(path))?;
                Ok(Self::with(database, Some(shared_memory)))
            }
            Err(failure) => Err(failure.into_error(path)),
        }
    }

    /// Numbers that are forgotten with this object.
    ///
    /// # Errors
    /// Failed, if SQLite has no memory.
    pub fn in_memory() -> Result<Self> {
        let database = open_in_memory().map_err(failed)?;
        Ok(Self::with(database, None))
    }

    fn with(database: Connection, shared_memory: Option<SharedMemory>) -> Self {
        Self {
            database: Mutex::new(database),
            runs: RwLock::new(Known::new()),
            points: RwLock::new(Known::new()),
            _shared_memory: shared_memory,
        }
    }

    /// The number of a run.
    ///
    /// # Errors
    /// Failed, if it is new and cannot be kept, or more were numbered than node ids can tell apart.
    pub(super) fn run(&self, id: &RunId) -> Result<RunNumber> {
        if let Some(number) = read(&self.runs).number_of.get(id) {
            return Ok(RunNumber(*number));
        }
        self.add_runs(&[*id])?;
        read(&self.runs)
            .number_of
            .get(id)
            .map(|number| RunNumber(*number))
            .ok_or_else(|| Error::new(ErrorKind::Failed, format!("run {id} got no number")))
    }

    /// The number of a point.
    ///
    /// # Errors
    /// As for a run.
    pub(super) fn point(&self, id: &PointId) -> Result<PointNumber> {
        if let Some(number) = read(&self.points).number_of.get(id) {
            return Ok(PointNumber(*number));
        }
        self.add_points(&[*id])?;
        read(&self.points)
            .number_of
            .get(id)
            .map(|number| PointNumber(*number))
            .ok_or_else(|| Error::new(ErrorKind::Failed, format!("point {id} got no number")))
    }

    /// The run that has this number, if any was asked about or kept.
    ///
    /// # Errors
    /// Failed, if the database cannot be read.
    pub(super) fn run_of(&self, number: RunNumber) -> Result<Option<RunId>> {
        if let Some(id) = read(&self.runs).id_of.get(&number.0) {
            return Ok(Some(*id));
        }
        let id: Option<[u8; 16]> = {
            let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
            database
                .query_row("SELECT id FROM runs WHERE number = ?1", [number.0], |row| {
                    row.get(0)
                })
                .optional()
                .map_err(failed)?
        };
        Ok(id.map(|id| {
            let id = RunId(id);
            write(&self.runs).add(id, number.0);
            id
        }))
    }

    /// Numbers all these runs in one transaction.
    ///
    /// # Errors
    /// As for one run.
    pub(super) fn add_runs(&self, ids: &[RunId]) -> Result<()> {
        let added = self.add(ids, RunNumber::MAX, "runs", &self.runs, |id| id.0.to_vec())?;
        write(&self.runs).extend(added);
        Ok(())
    }

    /// Numbers all these points in one transaction.
    ///
    /// # Errors
    /// As for one point.
    pub(super) fn add_points(&self, ids: &[PointId]) -> Result<()> {
        let added = self.add(ids, PointNumber::MAX, "points", &self.points, |id| {
            id.to_string()
        })?;
        write(&self.points).extend(added);
        Ok(())
    }

    fn add<Id: Copy + Eq + std::hash::Hash, Bound: rusqlite::ToSql>(
        &self,
        ids: &[Id],
        number_max: u32,
        table: &str,
        known: &RwLock<Known<Id>>,
        value: impl Fn(&Id) -> Bound,
    ) -> Result<Vec<(Id, u32)>> {
        let unknown: Vec<Id> = {
            // Points that share runs name each of them again.
            let known = read(known);
            let mut met = HashSet::new();
            ids.iter()
                .filter(|id| !known.number_of.contains_key(id) && met.insert(**id))
                .copied()
                .collect()
        };
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        match number(&mut database, &unknown, number_max, table, &value) {
            Err(error) if error.kind() == ErrorKind::Full => {
                log::warn!(
                    "{error}; inode numbers of what is new will not be those of other mounts"
                );
                *database = copy_to_memory(&database).map_err(failed)?;
                number(&mut database, &unknown, number_max, table, &value)
            }
            result => result,
        }
    }
}

/// Gives these the numbers that the database has for them, and new ones in one transaction.
fn number<Id: Copy, Bound: rusqlite::ToSql>(
    database: &mut Connection,
    ids: &[Id],
    number_max: u32,
    table: &str,
    value: impl Fn(&Id) -> Bound,
) -> Result<Vec<(Id, u32)>> {
    // A chain names hundreds of runs, and most mounts have been asked about them before: only what no mount
    // knows is worth a transaction that others wait for.
    let Kept { mut numbered, new } = kept(database, ids, number_max, table, &value)?;
    if new.is_empty() {
        return Ok(numbered);
    }
    let transaction = database
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    {
        let mut insert = transaction
            .prepare(&format!(
                "INSERT INTO {table} (id) VALUES (?1) ON CONFLICT DO NOTHING"
            ))
            .map_err(failed)?;
        for id in &new {
            insert.execute([value(id)]).map_err(failed)?;
        }
    }
    let inserted = kept(&transaction, &new, number_max, table, &value)?;
    numbered.extend(inserted.numbered);
    transaction.commit().map_err(failed)?;
    Ok(numbered)
}

/// Ids with the numbers that the database has for them, and those that it has not.
struct Kept<Id> {
    numbered: Vec<(Id, u32)>,
    new: Vec<Id>,
}

/// What the database has of these.
fn kept<Id: Copy, Bound: rusqlite::ToSql>(
    database: &Connection,
    ids: &[Id],
    number_max: u32,
    table: &str,
    value: impl Fn(&Id) -> Bound,
) -> Result<Kept<Id>> {
    let mut select = database
        .prepare(&format!("SELECT number FROM {table} WHERE id = ?1"))
        .map_err(failed)?;
    let mut numbered = Vec::with_capacity(ids.len());
    let mut new = Vec::new();
    for id in ids {
        let number: Option<i64> = select
            .query_row([value(id)], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        match number {
            Some(number) => numbered.push((*id, in_bounds(number, number_max, table)?)),
            None => new.push(*id),
        }
    }
    Ok(Kept { numbered, new })
}

impl<Id: Copy + Eq + std::hash::Hash> Known<Id> {
    fn new() -> Self {
        Self {
            number_of: HashMap::new(),
            id_of: HashMap::new(),
        }
    }

    fn add(&mut self, id: Id, number: u32) {
        self.number_of.insert(id, number);
        self.id_of.insert(number, id);
    }

    fn extend(&mut self, added: Vec<(Id, u32)>) {
        for (id, number) in added {
            self.add(id, number);
        }
    }
}

/// Why a database could not be opened.
enum Opening {
    /// What is there is no database of this layout.
    Damaged(String),
    Failed(Error),
}

impl Opening {
    fn into_error(self, path: &Path) -> Error {
        let error = match self {
            Self::Damaged(problem) => Error::corrupt("it", problem),
            Self::Failed(error) => error,
        };
        error.context(path.display())
    }
}

impl From<rusqlite::Error> for Opening {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Failed(failed(error)),
        }
    }
}

impl From<Error> for Opening {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn open_in_memory() -> rusqlite::Result<Connection> {
    let database = Connection::open_in_memory()?;
    database.execute_batch(TABLES)?;
    Ok(database)
}

/// The same numbers in memory.
fn copy_to_memory(database: &Connection) -> rusqlite::Result<Connection> {
    let memory = open_in_memory()?;
    for table in ["runs", "points"] {
        let mut select = database.prepare(&format!("SELECT number, id FROM {table}"))?;
        let mut insert = memory.prepare(&format!("INSERT INTO {table} VALUES (?1, ?2)"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            insert.execute((row.get::<_, Value>(0)?, row.get::<_, Value>(1)?))?;
        }
    }
    Ok(memory)
}

fn open_database(path: &Path) -> std::result::Result<(Connection, SharedMemory), Opening> {
    SharedMemory::check_room(path)?;
    let mut database = Connection::open(path)?;
    database.busy_timeout(BUSY_WAIT)?;
    use_write_ahead_log(&database, BUSY_WAIT)?;
    user_version(&database)?;
    let shared_memory = SharedMemory::allocate(path)?;
    // A number that a power cut takes back was in no mount that survived it.
    database.pragma_update(None, "synchronous", "normal")?;
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match user_version(&transaction)? {
        0 => transaction.execute_batch(TABLES)?,
        LAYOUT => check_tables(&transaction)?,
        other => {
            let problem = format!("its layout is {other}, this program knows {LAYOUT}");
            return Err(Opening::Damaged(problem));
        }
    }
    transaction.commit()?;
    Ok((database, shared_memory))
}

fn user_version(database: &Connection) -> rusqlite::Result<i64> {
    database.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Reads all of it once: it is small, and damage must show now, when it can still be begun anew.
fn check_tables(database: &Connection) -> std::result::Result<(), Opening> {
    let verdict: String = database.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Opening::Damaged(verdict));
    }
    for table in ["runs", "points"] {
        let count = format!("SELECT count(number) FROM {table}");
        database
            .query_row(&count, [], |row| row.get::<_, i64>(0))
            .map_err(|error| Opening::Damaged(error.to_string()))?;
    }
    Ok(())
}

/// Moves a damaged database and its journal out of the way; one damaged earlier is replaced.
fn set_aside(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let from = with_suffix(path, suffix);
        let to = with_suffix(path, &format!(".damaged{suffix}"));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format_args!("rename {}", from.display()), error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn in_bounds(number: i64, max: u32, what: &str) -> Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=max).contains(number))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Failed,
                format!(
                    "more than {max} {what} were numbered; delete the mount's state to begin anew"
                ),
            )
        })
}

fn failed(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::Full,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => ErrorKind::Denied,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Locked,
        _ => ErrorKind::Failed,
    };
    Error::new(kind, format!("the numbers of runs and points: {error}"))
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn run(number: u8) -> RunId {
        RunId([number; 16])
    }

    fn point(random: u32) -> PointId {
        PointId {
            seconds: 1_700_000_000,
            random,
        }
    }

    #[test]
    fn numbers_outlive_the_object_and_are_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        let first = Numbers::open(&path).unwrap();
        let (one, two) = (first.run(&run(1)).unwrap(), first.run(&run(2)).unwrap());
        let of_point = first.point(&point(1)).unwrap();
        assert!(one.0 >= 1 && two.0 >= 1 && one != two && of_point.0 >= 1);
        drop(first);
        let second = Numbers::open(&path).unwrap();
        assert_eq!(second.run_of(two).unwrap(), Some(run(2)));
        assert_eq!(second.run(&run(2)).unwrap(), two);
        assert_eq!(second.run(&run(1)).unwrap(), one);
        assert_eq!(second.point(&point(1)).unwrap(), of_point);
        assert_eq!(second.run_of(RunNumber(99)).unwrap(), None);
    }

    #[test]
    fn mounts_that_share_a_database_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        let numbers: Vec<Vec<RunNumber>> = thread::scope(|scope| {
            let mounts: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let numbers = Numbers::open(&path).unwrap();
                        (0..50).map(|id| numbers.run(&run(id)).unwrap()).collect()
                    })
                })
                .collect();
            mounts
                .into_iter()
                .map(|mount| mount.join().unwrap())
                .collect()
        });
        assert!(numbers.iter().all(|of_mount| *of_mount == numbers[0]));
    }

    #[test]
    fn a_damaged_database_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
        let numbers = Numbers::open(&path).unwrap();
        let number = numbers.run(&run(1)).unwrap();
        drop(numbers);
        assert_eq!(Numbers::open(&path).unwrap().run(&run(1)).unwrap(), number);
        assert!(folder.path().join("numbers.damaged").exists());
        // Half of a database, as a full disk may leave one.
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(Numbers::open(&path).unwrap().run(&run(1)).is_ok());
    }

    #[test]
    fn a_place_where_no_database_can_be_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Numbers::open(&folder.path().join("absent/numbers")).is_err());
    }

    #[test]
    fn many_are_numbered_at_once_in_memory() {
        let numbers = Numbers::in_memory().unwrap();
        let ids: Vec<RunId> = (0..200).map(run).collect();
        numbers.add_runs(&ids).unwrap();
        let given: std::collections::HashSet<_> =
            ids.iter().map(|id| numbers.run(id).unwrap()).collect();
        assert_eq!(given.len(), 200);
    }
}
