//! `bygone help`: the help of a command, and of what several commands have in common.

use clap::Command;

use super::context::Context;
use super::near::{listed, nearest};
use super::outcome::{EXIT_STATUSES, Outcome};
use crate::base::{Error, ErrorKind, Result};

/// Show the help of a command, or of what several have in common
///
/// Without NAME, the commands and the topics are listed. The help of a command is what `bygone COMMAND --help` and its
/// man page say.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone help
  bygone help backup
  bygone help point")]
pub struct Arguments {
    /// A command, or a topic
    #[arg(value_name = "NAME")]
    name: Vec<String>,
}

/// The variables that every command minds, and what each does, for the topic and the man pages.
pub const ENVIRONMENT: [(&str, &str); 11] = [
    (
        "BYGONE_REPO",
        "The repository, where -r does not name one. Set and empty is an error.",
    ),
    (
        "BYGONE_PASSWORD",
        "The password of an encrypted repository, where no option names a file or a command that gives it.",
    ),
    (
        "BYGONE_CONFIG",
        "The file of the configuration that is read instead of the system's and the user's; none, if it is empty.",
    ),
    (
        "BYGONE_PAGER, PAGER",
        "What output is read in that is longer than the terminal, less by default; cat, or nothing, for none.",
    ),
    (
        "NO_COLOR",
        "If it is set and not empty, there are no colours, unless --color asks for them.",
    ),
    ("TZ", "The zone in which times are read and shown."),
    (
        "HOME",
        "Where the client's state and the user's configuration are kept, unless the next ones are set.",
    ),
    (
        "XDG_STATE_HOME",
        "The folder of that state, ~/.local/state by default.",
    ),
    (
        "XDG_CONFIG_HOME",
        "The folder of that configuration, ~/.config by default.",
    ),
    (
        "XDG_CACHE_HOME",
        "The folder of the disk cache, ~/.cache by default.",
    ),
    (
        "BYGONE_TEST_FAULT",
        "For tests: abort-before:N, abort-during:N or abort-after:N ends the process at the N-th change to the \
         repository.",
    ),
];

/// A topic: its name, what it is about, and what it says.
struct Topic {
    name: &'static str,
    about: &'static str,
    text: fn() -> String,
}

const TOPICS: [Topic; 6] = [
    Topic {
        name: "point",
        about: "How a restore point is named",
        text: || POINT.to_owned(),
    },
    Topic {
        name: "recovery",
        about: "From a loss to having it back",
        text: || RECOVERY.to_owned(),
    },
    Topic {
        name: "glob",
        about: "What --exclude and its like match",
        text: || GLOB.to_owned(),
    },
    Topic {
        name: "schedule",
        about: "Backups every night, by systemd or cron",
        text: || SCHEDULE.to_owned(),
    },
    Topic {
        name: "environment",
        about: "The variables that every command minds",
        text: || definitions(&ENVIRONMENT),
    },
    Topic {
        name: "exit",
        about: "Exit codes and what they mean",
        text: || {
            let codes = EXIT_STATUSES.map(|(code, meaning)| (code.to_string(), meaning));
            let codes: Vec<_> = codes
                .iter()
                .map(|(code, meaning)| (code.as_str(), *meaning))
                .collect();
            definitions(&codes)
        },
    },
];

const POINT: &str = "\
Wherever a command takes a POINT, any of these names one:

  2026-11-25T12-30-01Z-98d9e6b4   its id, which is its directory in a mount, too
  98d9e6b4                        the last eight digits of its id
  latest                          the newest
  latest~2                        the second before the newest
  why=upgrade                     a label: the newest point that has it
  2026-11-20                      a time: the newest point at or before it
  '2026-11-20 14:30', yesterday, '3 days ago', 'TZ=\"Europe/Berlin\" 2026-11-20'

A time without a zone is one of this machine's. --host, --set, --path and --label
narrow which points are meant: \"latest --host moon\" is the newest of moon. A name
that means no point is an error, which tells what is near.

\"bygone points\" lists them all.
";

const RECOVERY: &str = "\
A file is lost, and nobody knows since when:

  bygone find report.odt               every version of it, over all points
  bygone history ~/report.odt          when it changed, vanished, came back
  bygone diff latest~7 latest /home    what else differs

Looking at it, with any program:

  bygone mount /mnt/past
  ls /mnt/past/latest/home          and cp, grep, find, less, diff -r, ...
  bygone umount /mnt/past

Having it back:

  bygone restore latest ~/report.odt --target /tmp/restored
  bygone restore 2026-11-20 /home/ada --in-place --dry-run

See \"bygone help point\" for how points are named.
";

const GLOB: &str = "\
--exclude, the lines of --exclude-from, and \"exclude\" in the configuration are
written as in a .gitignore file, each relative to each PATH that is backed up:

  *.o            such files and directories, wherever they are
  /target        only directly in PATH
  build/         only a directory
  a/**/z         z at any depth below a
  !keep.o        not this one, though an earlier glob matches it

A later glob overrules an earlier one. What lies in a directory that is left out
is not looked at, so that \"!\" cannot take it back. What PATH names is backed up
even where a glob matches it. Empty lines and those that # begins say nothing.

--exclude-caches and --exclude-if-present leave out what lies in marked
directories, and keep the directory and its mark.
";

const SCHEDULE: &str = "\
scripts/install brings timers for systemd that back up a set every night, and in
full every week. A set is described in /etc/bygone/config.toml:

  [repository.home]
  place = \"/srv/backup\"

  [set.laptop]
  repository = \"home\"
  paths = [\"/home\", \"/etc\"]

  systemctl enable --now bygone-backup@laptop.timer bygone-backup-full@laptop.timer
  journalctl -u 'bygone-backup@*'

With cron, the same is

  30 2 * * 1-6  root  bygone -q backup --set laptop
  30 2 * * 0    root  bygone -q backup --set laptop --full

An exit code of 3 means that a point was committed and something was left out.
Backups, mounts and other backups never wait for each other.
";

/// Prints the help.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let output = context.output();
    let mut program = super::command();
    program.build();
    match &arguments.name[..] {
        [] => output.line(overview(&program))?,
        names => match command_named(&program, names) {
            Some(command) => {
                let help = command.clone().render_long_help();
                match output.shows_colors() {
                    true => output.line(help.ansi())?,
                    false => output.line(help)?,
                }
            }
            None => output.bytes(topic(&program, &names.join(" "))?.as_bytes())?,
        },
    }
    Ok(Outcome::Done)
}

fn command_named<'a>(program: &'a Command, names: &[String]) -> Option<&'a Command> {
    names
        .iter()
        .try_fold(program, |command, name| command.find_subcommand(name))
}

fn topic(program: &Command, name: &str) -> Result<String> {
    if let Some(topic) = TOPICS.iter().find(|topic| topic.name == name) {
        return Ok((topic.text)());
    }
    let commands = program.get_subcommands().map(Command::get_name);
    let near = nearest(name, commands.chain(TOPICS.iter().map(|topic| topic.name)));
    let hint = match near.is_empty() {
        true => "bygone help lists what there is".to_owned(),
        false => format!("near are {}", listed(&near)),
    };
    Err(Error::new(
        ErrorKind::Usage,
        format!("there is no command and no topic {name:?}; {hint}"),
    ))
}

fn overview(program: &Command) -> String {
    let mut text = String::from("Commands, each with its --help and its man page:\n\n");
    let commands = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    for command in commands {
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        text.push_str(&format!("  {:<12} {about}\n", command.get_name()));
    }
    text.push_str("\nTopics:\n\n");
    for topic in &TOPICS {
        text.push_str(&format!("  {:<12} {}\n", topic.name, topic.about));
    }
    text.push_str("\nMan pages beside those of the commands: bygone-config(5), bygone-format(5), bygone-repositories(7)");
    text
}

fn definitions(items: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (term, meaning) in items {
        text.push_str(&format!("  {term}\n      {meaning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_found_fits_a_terminal_and_is_no_command() {
        let mut program = super::super::command();
        program.build();
        for known in &TOPICS {
            assert!(
                program.find_subcommand(known.name).is_none(),
                "{}",
                known.name
            );
            assert!(overview(&program).contains(known.about));
            assert!(!topic(&program, known.name).unwrap().is_empty());
        }
        for text in [POINT, RECOVERY, GLOB, SCHEDULE] {
            assert!(text.lines().all(|line| line.len() <= 84), "{text}");
        }
    }

    #[test]
    fn every_command_that_a_topic_shows_is_one_and_takes_what_is_shown() {
        let lines = [POINT, RECOVERY, GLOB, SCHEDULE]
            .into_iter()
            .flat_map(str::lines);
        let mut seen = 0;
        for line in lines.filter_map(|line| line.strip_prefix("  bygone ")) {
            // What follows after two blanks explains it.
            let typed = line.split("  ").next().unwrap();
            let typed = typed.split('|').next().unwrap();
            let words = std::iter::once("bygone").chain(typed.split_whitespace());
            let parsed = super::super::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            seen += 1;
        }
        assert!(seen > 5, "{seen}");
    }

    #[test]
    fn what_is_no_topic_is_told_with_what_is_near() {
        let program = super::super::command();
        let told = |name: &str| topic(&program, name).unwrap_err().to_string();
        assert_eq!(
            told("globs"),
            "there is no command and no topic \"globs\"; near are glob"
        );
        assert_eq!(
            told("bakup"),
            "there is no command and no topic \"bakup\"; near are backup"
        );
        assert_eq!(
            told("zebra"),
            "there is no command and no topic \"zebra\"; bygone help lists what there is"
        );
    }
}
