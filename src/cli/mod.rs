//! The command line: arguments, one file per command, output as text, JSON or progress, exit codes.
//!
//! What was typed is parsed here and turned into options of `ops`, which knows no clap, no terminal and no
//! environment: all three are met in this layer only. Every command is `run(&Arguments, &Context) -> Result<Outcome>`;
//! standard output carries its result and nothing else, warnings and errors go to standard error.

mod arguments;
mod aws_profile;
mod background;
mod backup;
mod backup_input;
mod backup_report;
mod cache;
mod cache_use;
mod check;
mod completions;
mod config;
mod config_file;
mod context;
mod diff;
mod dump;
mod entry_fields;
mod find;
mod help;
mod history;
mod init;
mod key;
mod logging;
mod ls;
mod mount;
mod mount_help;
mod mount_log;
mod mount_options;
mod mounts;
mod near;
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
mod terminal;
mod umount;
mod unpin;
mod watcher;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::arguments::GlobalArguments;
use self::config::Config;
use self::context::Context;
use self::outcome::Outcome;
use self::output::Output;
use self::terminal::Color;
use crate::base::{Error, ErrorKind, Result};

pub use self::help::ENVIRONMENT;
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
    Mounts(mounts::Arguments),
    Umount(umount::Arguments),
    Completions(completions::Arguments),
    Help(help::Arguments),
}

impl Command {
    /// Starts the log: on standard error, but for a mount's, which moves once it is in the background.
    fn start_log(&self, verbose: u8, json: bool) {
        match self {
            Self::Mount(_) => mount_log::start(verbose, json),
            _ => logging::start(verbose, json),
        }
    }

    /// Puts what a command's own options say of all commands' where it belongs.
    fn apply_options(&mut self, global: &mut GlobalArguments) -> Result<()> {
        match self {
            Self::Mount(arguments) => mount::apply_options(arguments, global),
            _ => Ok(()),
        }
    }

    /// Reads the configuration, and fills in from it what nobody typed. What takes mounts away does without: no mistake in
    /// a file is to keep anybody from that.
    fn configure(&mut self, global: &mut GlobalArguments) -> Result<Config> {
        let set = match self {
            Self::Mounts(_) | Self::Umount(_) | Self::Completions(_) | Self::Help(_) => {
                return Ok(Config::default());
            }
            Self::Init(arguments) => {
                global.repo = arguments.take_place().or(global.repo.take());
                None
            }
            Self::Backup(arguments) => arguments.configured_set(),
            _ => None,
        };
        let config = Config::load()?;
        config.apply(set, global)?;
        Ok(config)
    }

    /// Can its output be so long that it is to be read in a pager? What shows progress, or asks for something, has the
    /// terminal for itself.
    fn may_page(&self) -> bool {
        match self {
            Self::Points(_)
            | Self::Show(_)
            | Self::Ls(_)
            | Self::Find(_)
            | Self::History(_)
            | Self::Stats(_)
            | Self::Help(_) => true,
            Self::Diff(arguments) => !arguments.shows_progress(),
            _ => false,
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
            Self::Mounts(arguments) => mounts::run(arguments, context),
            Self::Umount(arguments) => umount::run(arguments, context),
            Self::Completions(arguments) => completions::run(arguments, context),
            Self::Help(arguments) => help::run(arguments, context),
        }
    }
}

/// All that can be typed, for man pages and completions: the same that `--help` is made from.
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Runs what the process's arguments say, and gives its exit code.
pub fn main() -> ExitCode {
    if completions::answer(command) {
        return ExitCode::SUCCESS;
    }
    raise_open_files();
    let color = Color::typed(std::env::args_os());
    let parsed = command().color(color.for_help()).try_get_matches();
    let parsed = parsed.and_then(|matches| CommandLine::from_arg_matches(&matches));
    let mut line = match parsed {
        Ok(line) => line,
        Err(error) if error.use_stderr() && asks_for_json() => {
            return refused_as_json(&error);
        }
        Err(error) => return outcome::of_parsing(&error),
    };
    line.command
        .start_log(line.global.verbose, line.global.json);
    let applied = line.command.apply_options(&mut line.global);
    let (config, configured) = match line.command.configure(&mut line.global) {
        Ok(config) => (config, Ok(())),
        Err(error) => (Config::default(), Err(error)),
    };
    let context = Context::new(&line.global, config, line.command.may_page());
    context.warn_of_zone();
    let result = applied
        .and(configured)
        .and_then(|()| line.command.run(&context));
    let result = seen_to_its_end(result, context.output());
    context.remember();
    let compares = line.command.compares();
    if let Err(error) = &result {
        let exit_code = outcome::failure_code(error, compares);
        context.output().error(error, exit_code);
    }
    outcome::exit_code(&result, compares)
}

/// The result of a command, once whoever reads its output has it. Who leaves a pager has seen enough: that is no failure.
fn seen_to_its_end(result: Result<Outcome>, output: &Output) -> Result<Outcome> {
    let finished = output.finish();
    match (result, finished) {
        (Err(error), Ok(())) if outcome::is_reader_gone(&error) => Ok(Outcome::Done),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(outcome), Ok(())) => Ok(outcome),
    }
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
