//! The man pages in `man/` are what the program's own definition of its arguments says, and every command has one.
//!
//! `BYGONE_WRITE_MAN=1 cargo test --test man` writes them anew. Those of the format, of the configuration and of
//! repositories are written by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

const FILES: [(&str, &str); 11] = [
    (
        "/etc/bygone/config.toml, ~/.config/bygone/config.toml",
        "Names of repositories, what backups leave out, and sets; see bygone-config(5).",
    ),
    (
        "REPO/config",
        "The repository's format version, id, chunking and compression.",
    ),
    (
        "REPO/points/",
        "A header for each restore point. Writing it is the commit.",
    ),
    (
        "REPO/catalogue/",
        "Roll-ups of many headers, which save requests.",
    ),
    (
        "REPO/manifests/",
        "Runs of entries: what the points recorded.",
    ),
    ("REPO/index/", "Where each chunk lies."),
    ("REPO/packs/", "The content of files, in frames."),
    (
        "REPO/keys/",
        "The keys of an encrypted repository, one for each password.",
    ),
    ("REPO/leases/", "One for each backup that is running."),
    (
        "~/.cache/bygone/",
        "What was read of distant repositories, sealed as it came.",
    ),
    (
        "~/.local/state/bygone/",
        "What this client remembers of its mounts, and of the repositories that it has used.",
    ),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("man")
}

/// The program and its commands, with all that clap adds.
fn built() -> Command {
    let mut command = bygone::cli::command();
    command.build();
    command
}

fn commands(program: &Command) -> Vec<&Command> {
    program
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .collect()
}

/// File names and texts of all pages.
fn pages() -> Vec<(String, String)> {
    let program = built();
    let names: BTreeSet<String> = commands(&program)
        .iter()
        .map(|command| format!("bygone-{}", command.get_name()))
        .chain(["bygone".to_owned()])
        .collect();
    let mut pages = vec![page("bygone", &program, &names)];
    for command in commands(&program) {
        pages.push(page(
            &format!("bygone-{}", command.get_name()),
            command,
            &names,
        ));
    }
    pages
}

/// What each command of a command does and takes, one section each: so little needs no page of its own.
fn nested_sections(command: &Command) -> String {
    let mut text = String::new();
    for nested in commands(command) {
        let nested = nested
            .clone()
            .mut_args(|argument| match argument.is_global_set() {
                true => argument.hide(true),
                false => argument,
            });
        let mut bytes = Vec::new();
        let man = Man::new(nested.clone());
        // Those that every command takes stand above.
        man.render_synopsis_section(&mut bytes).unwrap();
        man.render_options_section(&mut bytes).unwrap();
        let about = nested.get_about().map(ToString::to_string);
        let rendered = String::from_utf8(bytes).unwrap();
        text.push_str(&format!(
            ".SH {}\n{}.\n",
            nested.get_name().to_uppercase(),
            escaped(&about.unwrap_or_default())
        ));
        text.push_str(
            &rendered
                .replace(".SH SYNOPSIS", ".PP")
                .replace(".SH OPTIONS", ".PP"),
        );
    }
    text
}

fn page(title: &str, command: &Command, names: &BTreeSet<String>) -> (String, String) {
    let has_commands = command.has_subcommands();
    let mut command = command.clone().name(title.to_owned());
    if !has_commands {
        command = command.display_name(title.to_owned());
    }
    let man = Man::new(command.clone())
        .title(title.to_uppercase())
        .section("1")
        .date("")
        .source(format!("bygone {}", env!("CARGO_PKG_VERSION")))
        .manual("bygone");
    let mut bytes = Vec::new();
    man.render_title(&mut bytes).unwrap();
    man.render_name_section(&mut bytes).unwrap();
    man.render_synopsis_section(&mut bytes).unwrap();
    man.render_description_section(&mut bytes).unwrap();
    man.render_options_section(&mut bytes).unwrap();
    if has_commands {
        // The program itself has a page for each.
        if title == "bygone" {
            man.render_subcommands_section(&mut bytes).unwrap();
        }
    }
    let mut text = String::from_utf8(bytes).unwrap();
    if title != "bygone" {
        text.push_str(&nested_sections(&command));
    }
    for section in sections(&help_sections(&command)) {
        text.push_str(&section);
    }
    text.push_str(&exit_status());
    text.push_str(&definitions("ENVIRONMENT", &bygone::cli::ENVIRONMENT));
    text.push_str(&definitions("FILES", &FILES));
    text.push_str(&see_also(title, names));
    (format!("{title}.1"), text)
}

/// What `--help` shows after the options.
fn help_sections(command: &Command) -> String {
    command
        .get_after_long_help()
        .or_else(|| command.get_after_help())
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Turns `Examples:` and its like, each at the beginning of a line, into sections; what follows is set as it stands.
fn sections(help: &str) -> Vec<String> {
    let mut sections = Vec::new();
    for line in help.lines() {
        let heading = line.split_once(':').filter(|(name, _)| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|character| character.is_ascii_alphabetic() || character == ' ')
        });
        match heading {
            Some((name, rest)) if !line.starts_with(' ') => {
                let mut section = format!(".SH {}\n", quoted(&name.to_uppercase()));
                if !rest.trim().is_empty() {
                    section.push_str(&format!("{}\n.PP\n", escaped(&sentence(rest.trim()))));
                }
                section.push_str(".nf\n");
                sections.push(section);
            }
            _ => {
                let section = sections
                    .last_mut()
                    .expect("help after the options begins with a heading");
                section.push_str(&escaped(line.strip_prefix("  ").unwrap_or(line)));
                section.push('\n');
            }
        }
    }
    sections
        .iter()
        .map(|section| format!("{}\n.fi\n", section.trim_end()))
        .collect()
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), characters.as_str())
}

fn quoted(text: &str) -> String {
    if text.contains(' ') {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}

/// A line that roff shows as it is.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

fn exit_status() -> String {
    let codes: Vec<(String, &str)> = bygone::cli::EXIT_STATUSES
        .iter()
        .map(|(code, meaning)| (code.to_string(), *meaning))
        .collect();
    let codes: Vec<(&str, &str)> = codes
        .iter()
        .map(|(code, meaning)| (code.as_str(), *meaning))
        .collect();
    definitions("EXIT STATUS", &codes)
}

fn definitions(heading: &str, items: &[(&str, &str)]) -> String {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (term, meaning) in items {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*meaning)]);
    }
    roff.to_roff()
}

fn see_also(title: &str, names: &BTreeSet<String>) -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut parts = Vec::new();
    for name in names.iter().filter(|name| *name != title) {
        parts.extend([bold(name), roman("(1), ")]);
    }
    parts.extend([bold("bygone-config"), roman("(5), ")]);
    parts.extend([bold("bygone-format"), roman("(5), ")]);
    parts.extend([bold("bygone-repositories"), roman("(7)")]);
    roff.text(parts);
    roff.to_roff()
}

#[test]
fn the_pages_are_what_the_help_says() {
    let write = std::env::var_os("BYGONE_WRITE_MAN").is_some_and(|value| value == "1");
    let mut stale = Vec::new();
    for (name, text) in pages() {
        let path = folder().join(&name);
        if write {
            fs::create_dir_all(folder()).unwrap();
            fs::write(&path, &text).unwrap();
        } else if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "{} not what --help says: run BYGONE_WRITE_MAN=1 cargo test --test man",
        stale.join(", ")
    );
}

#[test]
fn every_page_belongs_to_a_command() {
    let known: BTreeSet<String> = pages().into_iter().map(|(name, _)| name).collect();
    let stray: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".1") && !known.contains(name))
        .collect();
    assert!(stray.is_empty(), "no such command: {}", stray.join(", "));
}

#[test]
fn every_page_has_all_sections() {
    for (name, text) in pages() {
        for heading in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "ENVIRONMENT",
            "FILES",
            "\"SEE ALSO\"",
        ] {
            assert!(
                text.contains(&format!(".SH {heading}\n")),
                "{name} lacks {heading}"
            );
        }
    }
}

#[test]
fn every_help_has_an_example_that_calls_its_command() {
    for command in commands(&built()) {
        let help = help_sections(command);
        let examples = help
            .split_once("Examples:")
            .map_or("", |(_, examples)| examples);
        let called = examples.lines().any(|line| {
            line.contains("bygone")
                && line
                    .split_whitespace()
                    .any(|word| word == command.get_name())
        });
        assert!(called, "bygone {} has no example", command.get_name());
    }
}
