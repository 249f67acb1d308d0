//! `bygone completions`: what a shell needs to complete commands, and what it then asks this program for.
//!
//! The scripts of the shells know nothing themselves: at each press of the key they call this program, with
//! `BYGONE_COMPLETE` set and the words typed so far, so that they know points, repositories and sets as they are.
//! Whoever waits for that waits at most `PATIENCE`, is never asked for a password, and is told of no trouble: there are
//! then no names, and nothing else is wrong.

use std::ffi::{OsStr, OsString};
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Parser;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Shells};
use rustix::stdio::dup2_stderr;

use super::arguments::GlobalArguments;
use super::config::Config;
use super::context::Context;
use super::outcome::Outcome;
use super::output::local_time;
use super::point_object::committed;
use crate::base::{Error, ErrorKind, Result};
use crate::format::Point;
use crate::repo::Catalogue;

/// Set by a shell that asks for completions, to its name.
const VARIABLE: &str = "BYGONE_COMPLETE";

/// How long a person who pressed a key is kept waiting for names.
const PATIENCE: Duration = Duration::from_secs(2);

/// Points that are shown at most where nothing was typed yet.
const POINTS_MAX: usize = 50;

/// Print what a shell needs to complete commands, points and repositories
///
/// scripts/install puts it where the shells look for it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone completions bash >~/.local/share/bash-completion/completions/bygone
  bygone completions zsh >~/.zfunc/_bygone
  bygone completions fish >~/.config/fish/completions/bygone.fish")]
pub struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// A shell that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// Prints the shell's script.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let shells = Shells::builtins();
    let name = arguments.shell.name();
    let shell = shells.completer(name).ok_or_else(|| {
        Error::new(
            ErrorKind::Failed,
            format!("{name} cannot be served in this build"),
        )
    })?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "bygone", "bygone", "bygone", &mut script)
        .map_err(|error| Error::io("write the completions", error))?;
    context.output().bytes(&script)?;
    Ok(Outcome::Done)
}

/// Answers a shell that asks for completions; false if this is not what the process was started for.
pub(super) fn answer(command: fn() -> clap::Command) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    // The line that is being typed stands on the terminal.
    if let Ok(nothing) = std::fs::File::options().write(true).open("/dev/null") {
        // Where that is not possible, a warning may show up there, which harms nobody.
        let _shown = dup2_stderr(&nothing);
    }
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(move || with_completers(command()))
        .var(VARIABLE)
        .bin("bygone")
        .try_complete(std::env::args_os(), directory.as_deref())
        // A shell shows nothing then, which is all that can be done.
        .unwrap_or(true)
}

/// Lets what names a point, a repository or a set be completed.
fn with_completers(command: clap::Command) -> clap::Command {
    let is_backup = command.get_name() == "backup";
    let command = command.mut_args(|argument| {
        let names = argument.get_value_names().unwrap_or_default();
        let is = |wanted: &str| names.iter().any(|name| name.as_str() == wanted);
        if is("POINT") || is("POINT:PATH") || is("A") || is("B") {
            argument.add(ArgValueCompleter::new(points))
        } else if is("REPO") {
            argument.add(ArgValueCompleter::new(repositories))
        } else if is_backup && argument.get_long() == Some("set") {
            argument.add(ArgValueCompleter::new(sets))
        } else {
            argument
        }
    });
    command.mut_subcommands(with_completers)
}

fn repositories(typed: &OsStr) -> Vec<CompletionCandidate> {
    let config = Config::load().unwrap_or_default();
    let names = config.repositories.iter();
    let mut candidates: Vec<_> = names
        .filter(|(name, _)| begins(name, typed))
        .map(|(name, repository)| {
            CompletionCandidate::new(name).help(Some(repository.place.to_string().into()))
        })
        .collect();
    candidates.extend(PathCompleter::dir().complete(typed));
    candidates
}

fn sets(typed: &OsStr) -> Vec<CompletionCandidate> {
    let config = Config::load().unwrap_or_default();
    let names = config.sets.keys().filter(|name| begins(name, typed));
    names.map(CompletionCandidate::new).collect()
}

fn points(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str().map(ToOwned::to_owned) else {
        return Vec::new();
    };
    let (sender, receiver) = channel();
    // If it takes longer than anybody waits, it ends with the process.
    let asked = std::thread::Builder::new().spawn(move || {
        let found = known_points().unwrap_or_default();
        // Nobody listens any more if it took too long.
        let _late = sender.send(found);
    });
    if asked.is_err() {
        return Vec::new();
    }
    let known = receiver.recv_timeout(PATIENCE).unwrap_or_default();
    candidates(&typed, &known)
}

/// What begins with what was typed: `latest`, labels, ids, and short ids once a letter of one was typed.
fn candidates(typed: &str, newest_first: &[Candidate]) -> Vec<CompletionCandidate> {
    let mut candidates = Vec::new();
    if "latest".starts_with(typed) && !newest_first.is_empty() {
        candidates.push(CompletionCandidate::new("latest"));
    }
    let mut labels: Vec<&String> = newest_first
        .iter()
        .flat_map(|point| &point.labels)
        .collect();
    labels.sort_unstable();
    labels.dedup();
    let labels = labels.into_iter().filter(|label| label.starts_with(typed));
    candidates.extend(labels.map(CompletionCandidate::new));
    let help = |point: &Candidate| Some(point.help.clone().into());
    let ids = newest_first
        .iter()
        .filter(|point| point.id.starts_with(typed));
    candidates.extend(
        ids.take(POINTS_MAX)
            .map(|point| CompletionCandidate::new(&point.id).help(help(point))),
    );
    if !typed.is_empty() {
        let short = newest_first
            .iter()
            .filter(|point| point.short.starts_with(typed));
        candidates.extend(
            short
                .take(POINTS_MAX)
                .map(|point| CompletionCandidate::new(&point.short).help(help(point))),
        );
    }
    candidates
}

/// A point as it may be named.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    id: String,
    short: String,
    labels: Vec<String>,
    help: String,
}

impl From<&Point> for Candidate {
    fn from(point: &Point) -> Self {
        let labels = point.labels.iter();
        Self {
            id: point.id.to_string(),
            short: point.id.short(),
            labels: labels
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
            help: format!(
                "{} {} {}",
                local_time(committed(point)),
                point.kind.word(),
                point.host
            ),
        }
    }
}

/// The points of the repository that the words typed so far name, newest first.
fn known_points() -> Result<Vec<Candidate>> {
    /// The arguments that say which repository is meant.
    #[derive(Parser)]
    struct Globals {
        #[command(flatten)]
        global: GlobalArguments,
    }
    let words = repository_words(std::env::args_os());
    let mut globals = Globals::try_parse_from(words)
        .map_err(|error| Error::new(ErrorKind::Usage, error.to_string()))?
        .global;
    globals.quiet = true;
    let config = Config::load()?;
    config.apply(None, &mut globals)?;
    let context = Context::new(&globals, config, false);
    let repository = context.open_repository_asking(1, &mut || {
        let password = context.password();
        match password.is_given() {
            true => password.existing(context.output()),
            false => Err(Error::new(
                ErrorKind::WrongPassword,
                "nobody is to be asked",
            )),
        }
    })?;
    let catalogue = Catalogue::load_hastily(&repository)?;
    let points = catalogue.points();
    Ok(points
        .iter()
        .rev()
        .map(|point| Candidate::from(&**point))
        .collect())
}

/// Of all words, those that name a repository. Bash takes a colon for a word of its own.
fn repository_words(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = vec![OsString::from("bygone")];
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "-r" || text == "--repo" {
            let Some(mut place) = words.next() else {
                break;
            };
            while words.peek().is_some_and(|next| next == ":") {
                place.extend(words.next());
                place.extend(words.next());
            }
            kept.extend([word, place]);
        } else if text.starts_with("--repo=") {
            kept.push(word);
        }
    }
    kept
}

fn begins(name: &str, typed: &OsStr) -> bool {
    typed.to_str().is_some_and(|typed| name.starts_with(typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_completed_by_all_that_names_them() {
        let point = |id: &str, short: &str, label: &str| Candidate {
            id: id.to_owned(),
            short: short.to_owned(),
            labels: vec![label.to_owned()],
            help: String::new(),
        };
        let known = [
            point("2026-11-25T01-00-00Z-0000000b", "0000000b", "why=upgrade"),
            point("2026-11-24T01-00-00Z-2600000a", "2600000a", "why=upgrade"),
        ];
        let values = |typed: &str| -> Vec<String> {
            let candidates = candidates(typed, &known);
            let values = candidates.iter().map(|one| one.get_value());
            values
                .map(|value| value.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(values("la"), ["latest"]);
        assert_eq!(values("w"), ["why=upgrade"]);
        assert_eq!(values("2"), [&known[0].id, &known[1].id, "2600000a"]);
        assert_eq!(
            values(""),
            ["latest", "why=upgrade", &known[0].id, &known[1].id]
        );
        assert!(candidates("", &[]).is_empty());
    }

    #[test]
    fn the_repository_is_found_among_the_words_also_where_bash_cuts_it() {
        let words = |line: &str| {
            let words = line.split(' ').map(OsString::from);
            let kept = repository_words(words).into_iter();
            kept.skip(1)
                .map(|word| word.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(words("bygone -r home show"), ["-r", "home"]);
        assert_eq!(words("bygone ls --repo=/a latest"), ["--repo=/a"]);
        assert_eq!(
            words("bygone -r s3 : //bucket/a show"),
            ["-r", "s3://bucket/a"]
        );
        assert!(words("bygone show -r").is_empty());
    }
}
