//! Failures of the index, told apart by what the cache does about them.

use rusqlite::ErrorCode;

use crate::base::{Error, ErrorKind};

/// A failure of SQLite: full, corrupt, locked, denied or failed.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::Full,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ErrorKind::Corrupt,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Locked,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            ErrorKind::Denied
        }
        _ => not_of_sqlite(&error),
    };
    Error::new(kind, format!("the cache's index: {error}"))
}

/// A table or a value that cannot be as this code wrote it is damage; so is an input or output error in the index.
fn not_of_sqlite(error: &rusqlite::Error) -> ErrorKind {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::SqlInputError { .. } => ErrorKind::Corrupt,
        rusqlite::Error::SqliteFailure(failure, _)
            if matches!(
                failure.code,
                ErrorCode::Unknown | ErrorCode::SystemIoFailure
            ) =>
        {
            ErrorKind::Corrupt
        }
        _ => ErrorKind::Failed,
    }
}
