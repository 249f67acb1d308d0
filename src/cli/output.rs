//! How things are printed: results to standard output as text or JSON, warnings and errors to standard error.
//!
//! Text is for people and may change. JSON has stable, documented fields: numbers are exact, times are RFC 3339.
//! A write that fails is returned, never a panic: a reader such as `head` may go at any time.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytesize::ByteSize;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};
use log::Level;
use serde::Serialize;

use super::outcome;
use super::terminal::{self, Color, Paint, Sink};
use crate::base::{Error, Result};

/// Standard output and standard error, and the options that say how to use them.
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: u8,
    terminal: bool,
    color: Color,
    standard: Mutex<BufWriter<Sink>>,
}

impl Output {
    /// Output as the global options say.
    pub(super) fn new(json: bool, quiet: bool, verbose: u8) -> Self {
        Self {
            json,
            quiet,
            verbose,
            terminal: io::stdout().is_terminal(),
            color: Color::default(),
            standard: Mutex::new(BufWriter::with_capacity(64 << 10, Sink::new(false))),
        }
    }

    /// The same in colours, as `color` says, and in a pager, if `may_page` and there is a terminal for it.
    pub(super) fn on_terminal(self, color: Color, may_page: bool) -> Self {
        let sink = Sink::new(may_page && self.terminal && io::stdin().is_terminal());
        Self {
            color,
            standard: Mutex::new(BufWriter::with_capacity(64 << 10, sink)),
            ..self
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

    /// `text` for standard output, in the colour of `paint` if colours are wanted there.
    pub fn painted(&self, paint: Paint, text: &str) -> String {
        match self.shows_colors() {
            true => paint.on(text),
            false => text.to_owned(),
        }
    }

    /// A unified diff for standard output: what comes and what goes in colours, if they are wanted there.
    pub fn painted_diff<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        match self.shows_colors() {
            true => Cow::Owned(terminal::painted_diff(text)),
            false => Cow::Borrowed(text),
        }
    }

    /// Are colours wanted on standard output?
    pub fn shows_colors(&self) -> bool {
        self.color.is_wanted(self.terminal) && !self.json
    }

    /// Writes a table. On a terminal that is too narrow for it, what may take several lines does, and then the columns
    /// with the headers `expendable` are left out, the first one first.
    pub fn table(&self, mut table: Table, expendable: &[&str]) -> Result<()> {
        if self.terminal
            && let Some(width) = terminal::width()
        {
            fit(&mut table, usize::from(width), expendable);
        }
        self.line(table.trim_fmt())
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

    /// Hands what was written to whoever reads it, and waits until they have read it, if that is in a pager; who leaves
    /// that has seen enough. Nothing is written after this.
    pub(super) fn finish(&self) -> Result<()> {
        let mut standard = self.lock();
        let flushed = standard.flush().map_err(write_error);
        match standard.get_mut().close() {
            true => Ok(()),
            false => flushed,
        }
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
            let name = self.painted_error(Paint::Bad, "bygone:");
            print_error_line(&format!("{name} {}", visible(&error.to_string())));
        }
    }

    /// `text` for standard error.
    fn painted_error(&self, paint: Paint, text: &str) -> String {
        match self.color.is_wanted(io::stderr().is_terminal()) {
            true => paint.on(text),
            false => text.to_owned(),
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
        let name = self.painted_error(Paint::Warning, "bygone: warning:");
        match path {
            Some(path) => print_error_line(&format!(
                "{name} {}: {}",
                text_of(path.as_os_str().as_encoded_bytes()),
                visible(message)
            )),
            None => print_error_line(&format!("{name} {}", visible(message))),
        }
    }

    /// Tells of what `-v` shows, on standard error.
    pub(super) fn note(&self, message: &str) {
        if self.verbose > 0 && !self.json {
            print_error_line(&format!("bygone: {}", visible(message)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BufWriter<Sink>> {
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

/// Columns whose text may be cut into several lines; all others are names and numbers, to be copied.
const CUT: [&str; 8] = [
    "HOST",
    "PATHS",
    "PATH",
    "LABELS",
    "LABEL",
    "SET",
    "WHAT",
    "REPOSITORY",
];

/// The least width of those.
const CUT_COLUMNS_MIN: usize = 12;

/// Makes `table` no wider than `width`, as far as its columns and the headers of those that are `expendable` allow.
fn fit(table: &mut Table, width: usize, expendable: &[&str]) {
    let headers: Vec<String> = table
        .header()
        .map(|header| header.cell_iter().map(|cell| cell.content()).collect())
        .unwrap_or_default();
    let widths: Vec<usize> = table
        .column_max_content_widths()
        .into_iter()
        .map(usize::from)
        .collect();
    let is_cut = |index: usize| CUT.contains(&headers[index].as_str());
    // With what stands between it and the next column.
    let needed = |index: usize| match is_cut(index) {
        true => widths[index].min(CUT_COLUMNS_MIN.max(headers[index].len())) + 2,
        false => widths[index] + 2,
    };
    let mut shown: Vec<usize> = (0..headers.len().min(widths.len())).collect();
    for name in expendable {
        if shown.iter().map(|index| needed(*index)).sum::<usize>() <= width {
            break;
        }
        shown.retain(|index| headers[*index] != *name);
    }
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    for (index, column) in table.column_iter_mut().enumerate() {
        if !shown.contains(&index) {
            column.set_constraint(ColumnConstraint::Hidden);
        } else if !is_cut(index) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
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
    fn a_table_fits_as_narrow_a_terminal_as_its_columns_allow() {
        let wide = |width: usize| {
            let mut table = table(&["ID", "TIME", "PATHS", "FILES"], &[3]);
            table.add_row(["2026-id", "12:30", "/home/ada /home/charles /etc", "7"]);
            fit(&mut table, width, &["TIME", "FILES"]);
            table.trim_fmt()
        };
        assert_eq!(
            wide(80),
            "ID       TIME   PATHS                         FILES\n\
             2026-id  12:30  /home/ada /home/charles /etc      7"
        );
        assert_eq!(
            wide(45),
            "ID       TIME   PATHS               FILES\n\
             2026-id  12:30  /home/ada               7\n                /home/charles /etc"
        );
        assert!(
            !wide(30).contains("TIME") && wide(30).contains("FILES"),
            "{}",
            wide(30)
        );
        assert!(
            !wide(20).contains("FILES") && wide(20).contains("2026-id"),
            "{}",
            wide(20)
        );
        for width in 24..80 {
            let longest = wide(width).lines().map(str::len).max().unwrap();
            assert!(longest <= width, "{width}: {}", wide(width));
        }
    }

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
