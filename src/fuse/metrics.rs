//! The figures of a mount as Prometheus reads them from a file, by the textfile collector of its node exporter.
//!
//! The file is always whole: it is written under another name, which the collector passes over, and then renamed. It stays
//! when the mount ends, with `bygone_mount_up 0`, so that a mount which is missed can be told from one that never was.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::figures::Source;
use crate::base::{Error, ErrorKind, Result};

/// How often the file is written: collectors read it once or several times a minute.
pub(super) const WRITTEN_EVERY: Duration = Duration::from_secs(15);

/// Readable for the collector, which runs as a user of its own.
const MODE: u32 = 0o644;

/// A file of metrics, and which mount they are of.
pub(super) struct MetricsFile {
    path: PathBuf,
    labels: String,
}

impl MetricsFile {
    /// Metrics of the mount at `place` are written to `path`.
    pub(super) fn new(path: &Path, place: &Path, repository: &str) -> Self {
        let labels = format!(
            "mount_point=\"{}\",repository=\"{}\"",
            escaped(&place.to_string_lossy()),
            escaped(repository)
        );
        Self {
            path: path.to_owned(),
            labels,
        }
    }

    /// Writes the figures of now.
    ///
    /// # Errors
    /// As the system says; what was there before is there still.
    pub(super) fn write(&self, source: &Source, is_up: bool) -> Result<()> {
        let Some(name) = self.path.file_name() else {
            let told = format!("{} names no file", self.path.display());
            return Err(Error::new(ErrorKind::Usage, told));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let temporary = self.path.with_file_name(hidden);
        let written = fs::write(&temporary, self.text(source, is_up))
            .and_then(|()| fs::set_permissions(&temporary, Permissions::from_mode(MODE)))
            .and_then(|()| fs::rename(&temporary, &self.path));
        written.map_err(|error| {
            // It may not even be there.
            let _gone = fs::remove_file(&temporary);
            Error::io(format!("write {}", self.path.display()), error)
        })
    }

    fn text(&self, source: &Source, is_up: bool) -> String {
        let mut text = Text {
            labels: &self.labels,
            text: String::new(),
        };
        let (counts, fetched) = (&source.counts, source.tree.fetched());
        text.gauge("up", "Is it mounted?", u64::from(is_up));
        text.gauge(
            "start_time_seconds",
            "When it was mounted, in seconds since 1970.",
            source.since,
        );
        text.head(
            "requests_total",
            "Requests of the kernel, by kind.",
            "counter",
        );
        for (kind, count) in counts.by_kind() {
            text.sample("requests_total", &format!(",kind=\"{kind}\""), count);
        }
        for (name, help, value) in [
            ("errors_total", "Requests that failed.", counts.errors()),
            (
                "read_bytes_total",
                "Bytes of files that readers were given.",
                counts.read_bytes(),
            ),
            (
                "cache_hits_total",
                "Pieces that were in memory when they were needed.",
                fetched.hits,
            ),
            (
                "cache_misses_total",
                "Pieces that were not.",
                fetched.misses,
            ),
            (
                "store_requests_total",
                "Requests to the repository.",
                fetched.requests,
            ),
            (
                "store_read_bytes_total",
                "Bytes that these brought.",
                fetched.fetched_bytes,
            ),
        ] {
            text.head(name, help, "counter");
            text.sample(name, "", value);
        }
        text.gauge(
            "cache_bytes",
            "Bytes in memory of what was fetched.",
            fetched.cached_bytes,
        );
        text.text
    }
}

/// Metrics in the text format of Prometheus, version 0.0.4.
struct Text<'a> {
    labels: &'a str,
    text: String,
}

impl Text<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.sample(name, "", value);
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP bygone_mount_{name} {help}"));
        self.line(format_args!("# TYPE bygone_mount_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, more_labels: &str, value: u64) {
        let labels = self.labels;
        self.line(format_args!(
            "bygone_mount_{name}{{{labels}{more_labels}}} {value}"
        ));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a text takes whatever is written to it");
    }
}

/// A label's value, between its quotation marks.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_can_be_a_label() {
        assert_eq!(escaped("/a \"b\"\\\n"), "/a \\\"b\\\"\\\\\\n");
    }
}
