//! The monitor of the command line: a progress line on a terminal, none when piped, and warnings as they come.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Output, size, text_of};
use crate::base::{Event, Monitor};

/// How often the line is drawn anew at most: often enough to look alive, too rarely to cost anything.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// Shows what an operation does, and passes interrupts on to it.
pub struct Progress<'a> {
    output: &'a Output,
    interrupted: Arc<AtomicBool>,
    line: Option<Line>,
}

/// The line on the terminal and the figures in it.
struct Line {
    bar: ProgressBar,
    started: Instant,
    drawn: Mutex<Instant>,
    files: AtomicU64,
    files_expected: AtomicU64,
}

/// Is there a progress line?
pub(super) fn is_shown(output: &Output) -> bool {
    !output.is_quiet() && !output.is_json() && std::io::stderr().is_terminal()
}

impl<'a> Progress<'a> {
    /// A monitor that prints by way of `output` and stops the operation once `interrupted` is set.
    pub(super) fn new(output: &'a Output, interrupted: Arc<AtomicBool>) -> Self {
        let shown = is_shown(output);
        Self {
            output,
            interrupted,
            line: shown.then(Line::new),
        }
    }

    /// Takes the line away: what is printed next stands where it was.
    pub fn finish(&self) {
        if let Some(line) = &self.line {
            line.bar.finish_and_clear();
        }
    }

    /// Prints without tearing the line.
    pub(super) fn beside_the_line<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.line {
            Some(line) => line.bar.suspend(print),
            None => print(),
        }
    }
}

impl Monitor for Progress<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Note(message) => self.beside_the_line(|| self.output.note(message)),
            Event::Warning(path, message) => {
                self.beside_the_line(|| self.output.warning(path, message));
            }
            Event::Path(path) => {
                if let Some(line) = &self.line {
                    line.show(path);
                }
            }
            Event::Expected { files, bytes } => {
                if let Some(line) = &self.line {
                    line.files_expected.fetch_add(files, Ordering::Relaxed);
                    line.bar.inc_length(bytes);
                }
            }
            Event::Done { files, bytes } => {
                if let Some(line) = &self.line {
                    line.files.fetch_add(files, Ordering::Relaxed);
                    line.bar.inc(bytes);
                }
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Line {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(
            ProgressStyle::with_template("{spinner} {prefix} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Self {
            bar,
            started: Instant::now(),
            drawn: Mutex::new(Instant::now()),
            files: AtomicU64::new(0),
            files_expected: AtomicU64::new(0),
        }
    }

    /// Shows the figures and `path`, if the last drawing is long enough ago.
    fn show(&self, path: &Path) {
        // Another thread that is drawing draws for this one too.
        let Ok(mut drawn) = self.drawn.try_lock() else {
            return;
        };
        if drawn.elapsed() < DRAWN_EVERY {
            return;
        }
        *drawn = Instant::now();
        self.bar.set_prefix(self.figures());
        self.bar
            .set_message(text_of(path.as_os_str().as_encoded_bytes()));
        self.bar.tick();
    }

    /// Files, bytes, rate and time left.
    fn figures(&self) -> String {
        figures(
            self.files.load(Ordering::Relaxed),
            self.files_expected.load(Ordering::Relaxed),
            self.bar.position(),
            self.bar.length().unwrap_or(0),
            self.started.elapsed(),
        )
    }
}

/// The text of the figures after `elapsed`: what is expected is left out where it is not known.
fn figures(
    files: u64,
    files_expected: u64,
    bytes: u64,
    bytes_expected: u64,
    elapsed: Duration,
) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = bytes as f64 / seconds;
    let mut text = if files_expected > files {
        format!("{files} of {files_expected} files")
    } else {
        format!("{files} files")
    };
    text.push_str(&format!(", {}", size(bytes)));
    if bytes_expected > bytes {
        text.push_str(&format!(" of {}", size(bytes_expected)));
    }
    text.push_str(&format!(", {}/s", size(rate as u64)));
    if bytes_expected > bytes && rate >= 1.0 {
        let left = (bytes_expected - bytes) as f64 / rate;
        text.push_str(&format!(", {} left", minutes_and_seconds(left as u64)));
    }
    text
}

fn minutes_and_seconds(seconds: u64) -> String {
    match seconds {
        3600.. => format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
        _ => format!("{}:{:02}", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_files_bytes_rate_and_time_left() {
        let known = figures(3, 10, 2 << 20, 8 << 20, Duration::from_secs(2));
        assert_eq!(
            known,
            "3 of 10 files, 2.0 MiB of 8.0 MiB, 1.0 MiB/s, 0:06 left"
        );
        let unknown = figures(3, 0, 2 << 20, 0, Duration::from_secs(2));
        assert_eq!(unknown, "3 files, 2.0 MiB, 1.0 MiB/s");
    }

    #[test]
    fn long_times_have_hours() {
        assert_eq!(minutes_and_seconds(3725), "1:02:05");
    }
}
