//! Write-ahead logging for the SQLite databases that this program keeps beside a repository.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

/// How long to wait before the database is asked again.
const PAUSE: Duration = Duration::from_millis(2);

/// Has a database keep a write-ahead log, so that those who read and who writes do not wait for each other.
///
/// Changing the journal is the one thing for which SQLite does not wait as `busy_timeout` says: of several processes that
/// open a new database at once, it refuses all but one. So they ask again, for no longer than `patience`.
///
/// # Errors
/// SQLite's; busy, if others held the database for that long.
pub fn use_write_ahead_log(database: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        match database.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && start.elapsed() < patience =>
            {
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_who_open_a_new_database_at_once_all_get_it() {
        for _ in 0..30 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("database");
            thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| {
                        let database = Connection::open(&path).unwrap();
                        database.busy_timeout(Duration::from_secs(10)).unwrap();
                        use_write_ahead_log(&database, Duration::from_secs(10)).unwrap();
                        database
                            .execute_batch(
                                "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS made (a); COMMIT",
                            )
                            .unwrap();
                    });
                }
            });
        }
    }

    #[test]
    fn who_holds_the_database_for_too_long_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("database");
        let held = Connection::open(&path).unwrap();
        held.execute_batch("CREATE TABLE held (a); BEGIN EXCLUSIVE")
            .unwrap();
        let database = Connection::open(&path).unwrap();
        database.busy_timeout(Duration::ZERO).unwrap();
        let error = use_write_ahead_log(&database, Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    }
}
