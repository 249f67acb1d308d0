//! How a command ends, and the exit code of each ending: the one place that knows them.

use std::process::ExitCode;

use crate::base::{Error, ErrorKind, Result};

/// How a command ended that did what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// It is done, and something had to be left out or carried: a backup with warnings is committed.
    Warnings,
    /// The repository was read and is damaged.
    Damage,
    /// What was compared differs.
    Differs,
}

/// The exit code after SIGINT or SIGTERM: what a shell shows for a command that SIGINT ended.
pub(super) const INTERRUPTED: u8 = 130;

/// The exit code when whoever read standard output has gone: what a shell shows for a command that SIGPIPE ended.
const READER_GONE: u8 = 141;

/// The exit code of a comparison that found differences, as of diff(1).
const DIFFERS: u8 = 1;

const USAGE: u8 = 2;

/// Every exit code and what it means, for the man pages. A test holds it against the code.
pub const EXIT_STATUSES: [(u8, &str); 16] = [
    (0, "All is well."),
    (
        DIFFERS,
        "It failed, for a reason that has no code of its own. Of diff: something differs.",
    ),
    (
        USAGE,
        "The request is wrong: an option, a name, a point that does not exist. Of diff: also what is 1 elsewhere.",
    ),
    (
        3,
        "Done, with warnings: a backup is committed, and something was left out or carried.",
    ),
    (10, "There is no repository at the place named."),
    (11, "Another process holds what is needed."),
    (12, "The password does not open the repository."),
    (13, "The store or the system refuses access."),
    (14, "The store does not answer."),
    (
        15,
        "There is no room left where something had to be written.",
    ),
    (16, "Something that must be new exists already."),
    (
        20,
        "Damage: an object is not what was written; or check found damaged or missing objects.",
    ),
    (21, "An object or a file that should be there is missing."),
    (INTERRUPTED, "SIGINT or SIGTERM asked for an end."),
    (READER_GONE, "Whoever read standard output has gone."),
    (101, "An error in bygone itself: please report it."),
];

/// The exit code of a command's result. `compares`: the command is a comparison, whose 1 means that something differs, and
/// which fails with 2 where others do with 1.
pub(super) fn exit_code(result: &Result<Outcome>, compares: bool) -> ExitCode {
    ExitCode::from(match result {
        Ok(outcome) => outcome_code(*outcome),
        Err(error) => failure_code(error, compares),
    })
}

/// The exit code that `error` ends a command with; see `exit_code`.
pub(super) fn failure_code(error: &Error, compares: bool) -> u8 {
    match error_code(error) {
        DIFFERS if compares => USAGE,
        code => code,
    }
}

/// Prints what clap has to say (help, the version, or what is wrong with the arguments), and gives the exit code.
pub(super) fn of_parsing(error: &clap::Error) -> ExitCode {
    match error.print() {
        Ok(()) if error.use_stderr() => ExitCode::from(USAGE),
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(READER_GONE),
    }
}

/// The exit code that `error` ends the process with.
pub(super) fn error_code(error: &Error) -> u8 {
    if is_reader_gone(error) {
        return READER_GONE;
    }
    kind_code(error.kind())
}

/// Is it about standard output, which nobody reads any more? Then nobody has to be told.
pub(super) fn is_reader_gone(error: &Error) -> bool {
    error.raw_os_error() == Some(libc::EPIPE)
}

fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Done => 0,
        Outcome::Warnings => 3,
        Outcome::Damage => 20,
        Outcome::Differs => DIFFERS,
    }
}

fn kind_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Failed | ErrorKind::WouldWait => 1,
        ErrorKind::Usage => USAGE,
        ErrorKind::NoRepository => 10,
        ErrorKind::Locked => 11,
        ErrorKind::WrongPassword => 12,
        ErrorKind::Denied => 13,
        ErrorKind::Unreachable => 14,
        ErrorKind::Full => 15,
        ErrorKind::Exists => 16,
        ErrorKind::Corrupt => 20,
        ErrorKind::Missing => 21,
        ErrorKind::Interrupted => INTERRUPTED,
    }
}

/// The word for a kind of error in JSON.
pub(super) fn kind_word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Failed | ErrorKind::WouldWait => "failed",
        ErrorKind::Usage => "usage",
        ErrorKind::NoRepository => "no_repository",
        ErrorKind::Locked => "locked",
        ErrorKind::WrongPassword => "wrong_password",
        ErrorKind::Denied => "denied",
        ErrorKind::Unreachable => "unreachable",
        ErrorKind::Full => "full",
        ErrorKind::Exists => "exists",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Missing => "missing",
        ErrorKind::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ErrorKind; 12] = [
        ErrorKind::Failed,
        ErrorKind::Usage,
        ErrorKind::NoRepository,
        ErrorKind::Exists,
        ErrorKind::Locked,
        ErrorKind::WrongPassword,
        ErrorKind::Denied,
        ErrorKind::Unreachable,
        ErrorKind::Missing,
        ErrorKind::Corrupt,
        ErrorKind::Full,
        ErrorKind::Interrupted,
    ];

    #[test]
    fn every_exit_code_is_documented_and_every_kind_has_its_own() {
        let outcomes = [
            Outcome::Done,
            Outcome::Warnings,
            Outcome::Damage,
            Outcome::Differs,
        ]
        .map(outcome_code);
        let kinds = KINDS.map(kind_code);
        for code in outcomes.iter().chain(&kinds) {
            assert!(
                EXIT_STATUSES.iter().any(|(known, _)| known == code),
                "{code}"
            );
        }
        let mut distinct = kinds.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), kinds.len());
    }

    #[test]
    fn a_comparison_that_fails_is_told_from_one_that_found_something() {
        let failed = Error::new(ErrorKind::Failed, "it broke");
        assert_eq!(failure_code(&failed, false), 1);
        assert_eq!(failure_code(&failed, true), 2);
        let damaged = Error::new(ErrorKind::Corrupt, "it is damaged");
        assert_eq!(failure_code(&damaged, true), 20);
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_failures() {
        let closed = Error::io("write", std::io::Error::from_raw_os_error(libc::EPIPE));
        assert_eq!(error_code(&closed), 141);
        let full = Error::io("write", std::io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(error_code(&full), 15);
    }
}
