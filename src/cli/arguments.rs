//! Groups of arguments that several commands share.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::cache_use::CacheArguments;
use super::password::PasswordArguments;
use super::place::StoreArguments;
use super::terminal::Color;
use crate::repo::PointFilter;
use crate::store::Location;

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct GlobalArguments {
    /// The repository: a folder, or a URL of kind s3, gs, az, https (WebDAV) or sftp
    #[arg(
        short,
        long,
        global = true,
        value_name = "REPO",
        env = "BYGONE_REPO",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().try_map(repository_place),
        help_heading = "Global options"
    )]
    pub repo: Option<Location>,

    #[command(flatten)]
    pub store: StoreArguments,

    #[command(flatten)]
    pub cache: CacheArguments,

    /// Print JSON: one document, or one object a line where a command streams; warnings and errors too
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,

    /// Print only what was asked for, warnings and errors: no progress, no summary
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,

    /// Print and log more; twice for details, three times for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,

    /// When to show colours; auto is on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        help_heading = "Global options"
    )]
    pub color: Color,

    /// Never start a pager, $BYGONE_PAGER, $PAGER or less, for what is longer than the terminal
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_pager: bool,

    #[command(flatten)]
    pub password: PasswordArguments,
}

/// Narrows which points a POINT argument can mean.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which points")]
pub struct PointFilterArguments {
    /// Only points of this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,

    /// Only points of this set
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,

    /// Only points that hold this path, as recorded
    #[arg(long, value_name = "PATH")]
    pub path: Option<PathBuf>,

    /// Only points with this label; all of them, if given several times
    #[arg(long, value_name = "K=V", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
}

impl PointFilterArguments {
    /// The filter that was typed.
    pub fn to_filter(&self) -> PointFilter {
        PointFilter {
            host: self.host.clone(),
            set: self.set.clone(),
            path: self.path.clone(),
            labels: self.label.clone(),
        }
    }
}

/// Narrows over which points a command looks that has a PATH of its own.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which points")]
pub struct SetFilterArguments {
    /// Only points of this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,

    /// Only points of this set
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,

    /// Only points with this label; all of them, if given several times
    #[arg(long, value_name = "K=V", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
}

impl SetFilterArguments {
    /// The filter that was typed.
    pub fn to_filter(&self) -> PointFilter {
        PointFilter {
            host: self.host.clone(),
            set: self.set.clone(),
            path: None,
            labels: self.label.clone(),
        }
    }
}

/// Reads a size in bytes: `128K`, `128KiB` (both 1024 bytes each), `1.5MB` (10^6), `4096`.
///
/// # Errors
/// Says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    // What dd(1) and its like mean by one letter.
    let is_binary = text.ends_with(['K', 'M', 'G', 'T', 'k', 'm', 'g', 't']);
    let whole = if is_binary {
        format!("{text}iB")
    } else {
        text.to_owned()
    };
    // A sign would be taken for part of the number.
    let begins = whole.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let size = whole.parse::<ByteSize>().ok().filter(|_| begins);
    size.map(|size| size.as_u64())
        .ok_or_else(|| "expected a size such as 4096, 128K or 1.5MiB".to_owned())
}

/// Reads how long something may take: `30`, `30s` (seconds both) or `2m`. Not nothing, and no more than a day.
///
/// # Errors
/// Says what was expected.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    seconds
        .filter(|seconds| (1..=24 * 60 * 60).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "expected seconds or minutes, such as 30 or 2m".to_owned())
}

/// Reads a label, `K=V`: the key is not empty, the value may be and may contain `=`.
///
/// # Errors
/// Says what was expected.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected a key and a value, as in K=V".to_owned()),
    }
}

/// A host's or a set's name. An empty one comes from a variable that is not set, and would begin a set of its own.
///
/// # Errors
/// Says what was expected.
pub fn parse_name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty: name one, or leave the option out".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads a repository's place, and refuses one that says nothing, rather than taking the working directory for it.
///
/// # Errors
/// Says what is wrong with it, without repeating what may be secret.
pub(super) fn repository_place(place: OsString) -> Result<Location, String> {
    if place.as_encoded_bytes().trim_ascii().is_empty() {
        Err("the repository's place is empty: name one, or unset BYGONE_REPO".to_owned())
    } else {
        Location::parse(&place).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("128K"), Ok(128 << 10));
        assert_eq!(parse_size("1.5MiB"), Ok(3 << 19));
        assert_eq!(parse_size("2MB"), Ok(2_000_000));
        assert!(
            ["much", "-1", "+1", "", "K"]
                .iter()
                .all(|text| parse_size(text).is_err())
        );
    }

    #[test]
    fn a_timeout_is_in_seconds_or_minutes_and_never_nothing() {
        assert_eq!(parse_timeout("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_timeout("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_timeout("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "0", "-1", "1h", "1.5", "2000m", "99999999999999999999m"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_says_something() {
        assert_eq!(parse_name("moon"), Ok("moon".to_owned()));
        assert!(parse_name("").is_err() && parse_name(" ").is_err());
    }

    #[test]
    fn a_label_is_a_key_and_a_value() {
        let label = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(parse_label("why=upgrade"), label("why", "upgrade"));
        assert_eq!(parse_label("a=b=c"), label("a", "b=c"));
        assert_eq!(parse_label("a="), label("a", ""));
        assert!(parse_label("=b").is_err() && parse_label("ab").is_err());
    }
}
