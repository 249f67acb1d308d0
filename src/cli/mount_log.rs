//! The log of a mount: to standard error until it goes into the background, then to a file or to the system's log.
//!
//! The system's log is the socket `/dev/log`, which journald and every syslog daemon listen at. Each message is sent
//! by itself, so that a log daemon that starts anew loses nothing but what comes meanwhile.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use jiff::Zoned;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::output::{level_word, log_line};
use crate::base::{Error, Result};

/// Where log daemons listen.
const SYSTEM_LOG: &str = "/dev/log";

/// The facility of daemons, as syslog(3) numbers them; a message's priority is this plus its severity.
const FACILITY_DAEMON: u8 = 3 << 3;

/// How fuser says so, which has no other way of telling.
const LATE_REPLIES: [&str; 2] = [
    "Failed to send FUSE reply: No such file or directory (os error 2)",
    "Failed to send FUSE reply: No such device (os error 19)",
];

/// The one log of the process.
static LOG: MountLog = MountLog {
    sink: RwLock::new(Sink::StandardError { json: false }),
};

struct MountLog {
    sink: RwLock<Sink>,
}

/// Where messages go.
enum Sink {
    StandardError { json: bool },
    File(File),
    System,
}

/// Starts the log on standard error: warnings, and more with each `-v`; as JSON if `json` says so.
pub(super) fn start(verbose: u8, json: bool) {
    *LOG.sink.write().unwrap_or_else(PoisonError::into_inner) = Sink::StandardError { json };
    // It fails only where a log was started before, which then goes on.
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(level(verbose));
    }
}

/// From here on messages go to `file` if there is one, else, in the background, to the system's log, with the coming
/// and going of mounts among them.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn settle(file: Option<&Path>, in_background: bool, verbose: u8) -> Result<()> {
    let sink = match file {
        Some(path) => Sink::File(open(path)?),
        None if in_background => Sink::System,
        None => return Ok(()),
    };
    *LOG.sink.write().unwrap_or_else(PoisonError::into_inner) = sink;
    log::set_max_level(level(verbose).max(LevelFilter::Info));
    Ok(())
}

/// Does anything listen for the system's log?
pub(super) fn system_log_listens() -> bool {
    UnixDatagram::unbound().is_ok_and(|socket| socket.connect(SYSTEM_LOG).is_ok())
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| Error::io(format!("open the log {}", path.display()), error))
}

fn level(verbose: u8) -> LevelFilter {
    match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

impl Log for MountLog {
    /// Other crates are heard when they warn, and when everything was asked for.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
            || metadata.target().starts_with("bygone")
            || log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || is_late_reply(record) {
            return;
        }
        let level = record.level();
        let message = record.args();
        let sink = self.sink.read().unwrap_or_else(PoisonError::into_inner);
        // There is no one to tell of a log that cannot be written.
        let _unwritten = match &*sink {
            Sink::StandardError { json } => {
                writeln!(
                    std::io::stderr(),
                    "{}",
                    log_line(*json, level, &message.to_string())
                )
            }
            // In one write, so that the lines of several threads and mounts do not mix.
            Sink::File(file) => {
                let mut file = file;
                file.write_all(file_line(level, &message.to_string(), &Zoned::now()).as_bytes())
            }
            Sink::System => send(&system_line(level, &message.to_string(), &Zoned::now())),
        };
    }

    fn flush(&self) {}
}

/// Is it that a reply found nobody who waits for it? So it is where a reader was interrupted, or the mount was taken away
/// in use: no error of anyone's.
fn is_late_reply(record: &Record<'_>) -> bool {
    record.target().starts_with("fuser")
        && log::max_level() < LevelFilter::Trace
        && LATE_REPLIES.contains(&record.args().to_string().as_str())
}

/// Sends a line to the system's log, or lets it go: a request never waits for a log daemon.
fn send(line: &str) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(line.as_bytes(), SYSTEM_LOG).map(drop)
}

fn file_line(level: Level, message: &str, now: &Zoned) -> String {
    format!(
        "{} [{}] {}: {message}\n",
        now.strftime("%Y-%m-%dT%H:%M:%S%:z"),
        std::process::id(),
        level_word(level)
    )
}

/// A message as syslog daemons take it on their local socket: priority, local time, name and process, text.
fn system_line(level: Level, message: &str, now: &Zoned) -> String {
    format!(
        "<{}>{} bygone[{}]: {message}",
        FACILITY_DAEMON + severity(level),
        now.strftime("%b %e %H:%M:%S"),
        std::process::id()
    )
}

/// The severity as syslog(3) numbers it: 3 is an error, 7 is for debugging.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Zoned {
        "2026-11-03T12:00:05+01:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn a_line_for_the_system_has_priority_time_name_and_text() {
        let line = system_line(Level::Error, "a pack is damaged", &noon());
        let expected = format!(
            "<27>Nov  3 12:00:05 bygone[{}]: a pack is damaged",
            std::process::id()
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_line_of_a_file_has_the_zone_and_ends_the_line() {
        let line = file_line(Level::Warn, "odd", &noon());
        let expected = format!(
            "2026-11-03T12:00:05+01:00 [{}] warning: odd\n",
            std::process::id()
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_reply_that_nobody_waits_for_is_no_error() {
        let record = |target, message| {
            let arguments = format_args!("Failed to send FUSE reply: {message}").to_string();
            is_late_reply(
                &Record::builder()
                    .target(target)
                    .args(format_args!("{arguments}"))
                    .build(),
            )
        };
        assert!(record(
            "fuser::reply",
            "No such file or directory (os error 2)"
        ));
        assert!(!record("fuser::reply", "Invalid argument (os error 22)"));
        assert!(!record(
            "bygone::fuse",
            "No such file or directory (os error 2)"
        ));
    }

    #[test]
    fn more_is_logged_with_each_v() {
        assert_eq!(level(0), LevelFilter::Warn);
        assert_eq!(level(1), LevelFilter::Info);
        assert_eq!(level(9), LevelFilter::Trace);
    }
}
