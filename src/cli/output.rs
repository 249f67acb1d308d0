//! How things are printed: results to standard output as text or JSON, warnings and errors to standard error.
//!
//! Text is for people and may change. JSON has stable, documented fields: numbers are exact, times are RFC 3339.
//! A write that fails is returned, never a panic: a reader such as `head` may go at any time.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytesize::ByteSize;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use log::Level;
use serde::Serialize;

use super::outcome;
use crate::base::{Error, Result};

/// Standard output and standard error, and the options that say how to use them.
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: u8,
    terminal: bool,
    standard: Mutex<BufWriter<Stdout>>,
}

impl Output {
    /// Output as the global options say.
    pub(super) fn new(json: bool, quiet: bool, verbose: u8) -> Self {
        Self {
            json,
            quiet,
            verbose,
            terminal: io::stdout().is_terminal(),
            standard: Mutex::new(BufWriter::with_capacity(64 << 10, io::stdout())),
        }
    }

    /// Was JSON asked for?
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Was `-q` given?
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// How often `-v` was given.
    pub fn verbose(&self) -> u8 {
        self.verbose
    }

    /// Does a person read standard output?
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Standard output is closed or full, like those of all the others.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        self.lock().write_all(bytes).map_err(write_error)
    }

    /// Writes a line of text.
    pub fn line(&self, text: impl std::fmt::Display) -> Result<()> {
        writeln!(self.lock(), "{text}").map_err(write_error)
    }

    /// Writes a whole result as one indented JSON document.
    pub fn document(&self, value: &impl Serialize) -> Result<()> {
        let mut standard = self.lock();
        serde_json::to_writer_pretty(&mut *standard, value)
            .map_err(io::Error::from)
            .and_then(|()| standard.write_all(b"\n"))
            .map_err(write_error)
    }

    /// Writes one object of a stream, on a line of its own.
    pub fn object(&self, value: &impl Serialize) -> Result<()> {
        let mut standard = self.lock();
        serde_json::to_writer(&mut *standard, value)
            .map_err(io::Error::from)
            .and_then(|()| standard.write_all(b"\n"))
            .map_err(write_error)
    }

    /// Hands what was written to whoever reads it.
    pub fn flush(&self) -> Result<()> {
        self.lock().flush().map_err(write_error)
    }

    /// Tells of an error, which ends the process with `exit_code`, on standard error; unless it is that nobody reads
    /// standard output any more.
    pub(super) fn error(&self, error: &Error, exit_code: u8) {
        if outcome::is_reader_gone(error) {
            return;
        }
        if self.json {
            let object = ErrorObject {
                kind: "error",
                error: outcome::kind_word(error.kind()),
                message: error.to_string(),
                exit_code,
            };
            print_error_object(&object);
        } else {
            print_error_line(&format!("bygone: {}", visible(&error.to_string())));
        }
    }

    /// Tells of a warning on standard error, about `path` if there is one.
    pub(super) fn warning(&self, path: Option<&Path>, message: &str) {
        if self.json {
            print_error_object(&WarningObject {
                kind: "warning",
                path: path.map(|path| path.to_string_lossy().into_owned()),
                message,
            });
            return;
        }
        match path {
            Some(path) => print_error_line(&format!(
                "bygone: warning: {}: {}",
                text_of(path.as_os_str().as_encoded_bytes()),
                visible(message)
            )),
            None => print_error_line(&format!("bygone: warning: {}", visible(message))),
        }
    }

    /// Tells of what `-v` shows, on standard error.
    pub(super) fn note(&self, message: &str) {
        if self.verbose > 0 && !self.json {
            print_error_line(&format!("bygone: {}", visible(message)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BufWriter<Stdout>> {
        // A thread that panicked while it printed leaves a buffer that is still one.
        self.standard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct ErrorObject {
    #[serde(rename = "type")]
    kind: &'static str,
    error: &'static str,
    message: String,
    exit_code: u8,
}

#[derive(Serialize)]
struct WarningObject<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    path: Option<String>,
    message: &'a str,
}

/// Standard error may be closed; then there is nobody to tell, and nothing is lost but the telling.
fn print_error_line(line: &str) {
    let _closed = writeln!(io::stderr().lock(), "{line}");
}

fn print_error_object(object: &impl Serialize) {
    if let Ok(line) = serde_json::to_string(object) {
        print_error_line(&line);
    }
}

/// A message of the log as standard error has it, without the end of the line.
pub(super) fn log_line(json: bool, level: Level, message: &str) -> String {
    let kind = level_word(level);
    let path = None;
    let object = WarningObject {
        kind,
        path,
        message,
    };
    match serde_json::to_string(&object) {
        Ok(line) if json => line,
        _ => format!("bygone: {kind}: {}", visible(message)),
    }
}

/// How a log names a level.
pub(super) fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn write_error(error: io::Error) -> Error {
    Error::io("write to standard output", error)
}

/// A table with `headers`, whose columns in `right` (numbers) are aligned to the right; no frame, so that it can be
/// cut and sorted.
pub fn table(headers: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headers.to_vec());
    for (index, column) in table.column_iter_mut().enumerate() {
        let left = if index == 0 { 0 } else { 1 };
        column.set_padding((left, 1));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A number of bytes as people read it: `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A number of things, in words: `1 pack`, `2 packs`.
pub fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// A number of things whose plural is no mere s.
pub fn of_two(count: u64, one: &str, several: &str) -> String {
    let noun = if count == 1 { one } else { several };
    format!("{count} {noun}")
}

/// A moment as people of this machine's zone read it: `2026-11-23 04:17:19`.
pub fn local_time(time: jiff::Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// A name of any bytes as a terminal may show it: control characters, and what is not UTF-8, are escaped, and so
/// is the backslash that escapes them.
pub fn text_of(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' || character.is_control() || is_deceptive(character) {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A message as a terminal may show it: it can quote names, whose control characters a terminal would obey.
fn visible(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for character in message.chars() {
        if character.is_control() || is_deceptive(character) {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// Characters that show nothing and change how what follows them is shown: a name could look like another one.
fn is_deceptive(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_what_a_terminal_would_obey() {
        assert_eq!(text_of("grün 木".as_bytes()), "grün 木");
        assert_eq!(text_of(b"a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(text_of(b"caf\xe9\\"), "caf\\xe9\\\\");
        assert_eq!(text_of("a\u{202e}gpj.exe".as_bytes()), "a\\u{202e}gpj.exe");
    }

    #[test]
    fn sizes_are_shown_as_people_read_them() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536 << 10), "1.5 MiB");
    }
}
