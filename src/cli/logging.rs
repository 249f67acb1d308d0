//! The log of commands that run in the foreground: to standard error, as `-v` says.

use std::io::Write;

use log::LevelFilter;

use super::output::log_line;

/// Starts the log: warnings without `-v`, then information, details, everything. Other crates' details stay out of it
/// until the last. Each message is a line of text, or a JSON object if `json` says so.
///
/// A command that keeps its log elsewhere (a mount in the background) does not call it.
pub(super) fn start(verbose: u8, json: bool) {
    let (own, others) = match verbose {
        0 => (LevelFilter::Warn, LevelFilter::Error),
        1 => (LevelFilter::Info, LevelFilter::Warn),
        2 => (LevelFilter::Debug, LevelFilter::Info),
        _ => (LevelFilter::Trace, LevelFilter::Debug),
    };
    env_logger::Builder::new()
        .filter_level(others)
        .filter_module("bygone", own)
        .format(move |line, record| {
            let message = record.args().to_string();
            writeln!(line, "{}", log_line(json, record.level(), &message))
        })
        .init();
}
