//! The command line: arguments, one file per command, output as text, JSON or progress, exit codes.
//!
//! What was typed is parsed here and turned into options of `ops`, which knows no clap, no terminal and no
//! environment: all three are met in this layer only. Every command is `run(&Arguments, &Context) -> Result<Outcome>`;
//! standard output carries its result and nothing else, warnings and errors go to standard error.

mod arguments;
mod aws_profile;
mod background;
mod backup;
mod cache;
mod cache_use;
mod check;
mod context;
mod diff;
mod dump;
mod entry_fields;
mod find;
mod history;
mod init;
mod key;
mod logging;
mod ls;
mod mount;
mod mount_help;
mod mount_log;
mod mount_options;
mod outcome;
mod output;
mod password;
mod pin;
mod place;
mod point_object;
mod points;
mod progress;
mod remembered;
mod restore;
mod show;
mod stats;
mod umount;
mod unpin;
mod watcher;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::arguments::GlobalArguments;
use self::context::Context;
use self::outcome::Outcome;
use self::output::Output;
use crate::base::{Error, ErrorKind, Result};

pub use self::outcome::EXIT_STATUSES;

/// Backups as a filesystem.
#[derive(Debug, Parser)]
#[command(
    name = "bygone",
    version,
    about = "Backups as a filesystem: full, incremental and differential restore points that mount",
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Examples:
  bygone init /srv/backup                     make a repository
  bygone -r /srv/backup backup /home /etc     back two folders up
  bygone -r /srv/backup points                list the restore points
  bygone -r /srv/backup mount /mnt/past       browse all of them; copy out with cp"
)]
struct CommandLine {
    #[command(flatten)]
    global: GlobalArguments,
    #[command(subcommand)]
    command: Command,
}

/// Every command that there is.
#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Arguments),
    Key(key::Arguments),
    Backup(backup::Arguments),
    Points(points::Arguments),
    Show(show::Arguments),
    Ls(ls::Arguments),
    Find(find::Arguments),
    History(history::Arguments),
    Diff(diff::Arguments),
    Stats(stats::Arguments),
    Restore(restore::Arguments),
    Dump(dump::Arguments),
    Check(check::Arguments),
    Cache(cache::Arguments),
    Pin(pin::Arguments),
    Unpin(unpin::Arguments),
    Mount(mount::Arguments),
    Umount(umount::Arguments),
}

impl Command {
    /// Starts the log: on standard error, but for a mount's, which moves once it is in the background.
    fn start_log(&self, verbose: u8, json: bool) {
        match self {
            Self::Mount(_) => mount_log::start(verbose, json),
            _ => logging::start(verbose, json),
        }
    }

    /// Does it end as diff(1) does?
    fn compares(&self) -> bool {
        matches!(self, Self::Diff(_))
    }

    fn run(&self, context: &Context) -> Result<Outcome> {
        match self {
            Self::Init(arguments) => init::run(arguments, context),
            Self::Key(arguments) => key::run(arguments, context),
            Self::Backup(arguments) => backup::run(arguments, context),
            Self::Points(arguments) => points::run(arguments, context),
            Self::Show(arguments) => show::run(arguments, context),
            Self::Ls(arguments) => ls::run(arguments, context),
            Self::Find(arguments) => find::run(arguments, context),
            Self::History(arguments) => history::run(arguments, context),
            Self::Diff(arguments) => diff::run(arguments, context),
            Self::Stats(arguments) => stats::run(arguments, context),
            Self::Restore(arguments) => restore::run(arguments, context),
            Self::Dump(arguments) => dump::run(arguments, context),
            Self::Check(arguments) => check::run(arguments, context),
            Self::Cache(arguments) => cache::run(arguments, context),
            Self::Pin(arguments) => pin::run(arguments, context),
            Self::Unpin(arguments) => unpin::run(arguments, context),
            Self::Mount(arguments) => mount::run(arguments, context),
            Self::Umount(arguments) => umount::run(arguments, context),
        }
    }
}

/// All that can be typed, for man pages and completions: the same that `--help` is made from.
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Runs what the process's arguments say, and gives its exit code.
pub fn main() -> ExitCode {
    raise_open_files();
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) if error.use_stderr() && asks_for_json() => {
            return refused_as_json(&error);
        }
        Err(error) => return outcome::of_parsing(&error),
    };
    line.command
        .start_log(line.global.verbose, line.global.json);
    let context = Context::new(&line.global);
    let result = line
        .command
        .run(&context)
        .and_then(|outcome| context.output().flush().map(|()| outcome));
    context.remember();
    let compares = line.command.compares();
    if let Err(error) = &result {
        let exit_code = outcome::failure_code(error, compares);
        context.output().error(error, exit_code);
    }
    outcome::exit_code(&result, compares)
}

/// Files that may be open at once, where the system lets a process ask for more than the usual 1,024: a backup holds
/// the directories ahead of it open, a mount the objects that it reads from.
const OPEN_FILES: u64 = 4096;

/// Raises the limit on open files to `OPEN_FILES`, as far as the system allows.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = limit
        .maximum
        .map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < raised) {
        let raised = Rlimit {
            current: Some(raised),
            ..limit
        };
        if let Err(problem) = setrlimit(Resource::Nofile, raised) {
            // All is slower then, and nothing is wrong.
            log::debug!("the limit on open files stays as it is: {problem}");
        }
    }
}

/// Was JSON asked for on a command line that cannot be parsed?
fn asks_for_json() -> bool {
    std::env::args_os()
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

/// Tells what is wrong with the arguments as any other error is told to a script.
fn refused_as_json(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let error = Error::new(ErrorKind::Usage, message);
    Output::new(true, false, 0).error(&error, outcome::error_code(&error));
    outcome::exit_code(&Err(error), false)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        super::command().debug_assert();
    }
}
