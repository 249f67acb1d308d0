//! What a program sees of a failure: one errno for each kind of error.

use fuser::Errno;

use crate::base::ErrorKind;

/// The errno that a system call on the mount fails with.
///
/// Nothing that goes wrong in the repository may look like an answer about the file: a missing object is no missing
/// file (ENOENT), a store that refuses access says nothing about the file's permissions, and so on. All of it is EIO,
/// and the log says what it was. What a program can act upon has an errno of its own.
pub(super) fn errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::Corrupt
        | ErrorKind::Missing
        | ErrorKind::Denied
        | ErrorKind::NoRepository
        | ErrorKind::WrongPassword
        | ErrorKind::Exists
        | ErrorKind::Locked
        | ErrorKind::Full
        | ErrorKind::WouldWait
        | ErrorKind::Unreachable
        | ErrorKind::Failed => Errno::EIO,
        ErrorKind::Interrupted => Errno::EINTR,
        ErrorKind::Usage => Errno::EINVAL,
    }
}
