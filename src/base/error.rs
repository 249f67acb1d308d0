//! One error type for the whole library: what went wrong, told to a person, and of which kind, told to a program.
//!
//! The kinds that the design keeps apart (missing, corrupt, denied, unreachable) are never folded into one another:
//! the exit code and the errno of a mount depend on them.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// The result of everything in this library that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it was. The command line makes its exit code of it, the mount its errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Anything that has no kind of its own.
    Failed,
    /// The request itself is wrong: an option, a name, a point that does not exist.
    Usage,
    /// There is no repository at the place named.
    NoRepository,
    /// Something that must be new exists already.
    Exists,
    /// Another process holds what is needed.
    Locked,
    /// The password does not open the repository.
    WrongPassword,
    /// The store or the system refuses access.
    Denied,
    /// The store does not answer.
    Unreachable,
    /// An object, or a part of one, that should be there is not.
    Missing,
    /// An object is there and its content is not what was written.
    Corrupt,
    /// There is no room left where something had to be written.
    Full,
    /// A signal asked for an end.
    Interrupted,
    /// The store would have to be waited for, by a thread that may not: another one asks again. Nobody is ever told.
    WouldWait,
}

/// A failure: its kind, a message for a person, and what caused it.
///
/// A message names the object, the path, what was expected and what to do, in that order, as far as they are known.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure of `kind`, described by `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Bytes of `object` that are not what they must be; `problem` says what was expected and what was found.
    pub fn corrupt(object: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Corrupt,
            format!("{object} is damaged: {problem}"),
        )
    }

    /// `object` should exist and does not.
    pub fn missing(object: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Missing, format!("{object} is missing"))
    }

    /// The system failed an attempt to do `action` (an infinitive: "read /srv/backup/config").
    pub fn io(action: impl fmt::Display, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::Missing,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::Denied
            }
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            io::ErrorKind::TimedOut => ErrorKind::Unreachable,
            _ => ErrorKind::Failed,
        };
        Self {
            kind,
            message: format!("cannot {action}"),
            source: Some(Box::new(source)),
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same failure, with `context` told first: "context: message".
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The same failure, seen as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The errno of the system call behind this failure, where there was one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source
            .as_ref()?
            .downcast_ref::<io::Error>()?
            .raw_os_error()
    }
}

impl fmt::Display for Error {
    /// The message and, after a colon, its cause: one line for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl StdError for Error {}
