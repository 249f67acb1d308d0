//! What a person sees at a terminal that a pipe does not: colours, a pager, tables that fit; and help.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::machine::{Machine, path_text};

/// What a line of shell shows on a terminal of so many columns and its exit code, given these keys.
fn at_terminal(machine: &Machine, columns: u32, line: &str, keys: &str) -> (String, i32) {
    let program = env!("CARGO_BIN_EXE_bygone");
    let line = format!("stty cols {columns} rows 10; bygone() {{ {program} \"$@\"; }}; {line}");
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .current_dir(machine.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    for (name, value) in machine.bygone::<&str>(&[]).get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    for name in ["PAGER", "BYGONE_PAGER", "LESS", "NO_COLOR"] {
        command.env_remove(name);
    }
    let mut child = command
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .env("TZ", "UTC")
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs script: {error}"));
    let mut typed = child.stdin.take().unwrap();
    typed.write_all(keys.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(typed);
    let shown = String::from_utf8(output.stdout).unwrap();
    (shown.replace('\r', ""), output.status.code().unwrap())
}

/// What it shows, without any key.
#[track_caller]
fn shown(machine: &Machine, line: &str) -> String {
    let (shown, code) = at_terminal(machine, 100, line, "");
    assert_eq!(code, 0, "{shown}");
    shown
}

fn with_points() -> Machine {
    let machine = Machine::new();
    for number in 0..30 {
        fs::create_dir(machine.path(format!("source/folder-{number}"))).unwrap();
    }
    std::os::unix::fs::symlink("folder-1", machine.path("source/link")).unwrap();
    machine.back_up_with(&[
        "--label",
        "what=something-with-a-long-name",
        "--host",
        "moon",
    ]);
    machine.back_up("--incremental");
    machine
}

#[test]
fn long_output_is_read_in_the_pager_that_is_named_and_only_at_a_terminal() {
    let machine = with_points();
    let numbering = "export BYGONE_PAGER='sed s/^/paged:/'; ";
    let source = machine.path("source");
    let list = format!("ls latest {}", source.display());
    let paged = shown(&machine, &format!("{numbering} bygone {list}"));
    assert_eq!(paged.matches("paged:").count(), 31, "{paged}");
    for line in [
        format!("{numbering} bygone --no-pager {list}"),
        format!("{numbering} bygone {list} | cat"),
        format!("BYGONE_PAGER=cat bygone {list}"),
        format!("BYGONE_PAGER= PAGER='sed s/^/paged:/' bygone {list}"),
    ] {
        let plain = shown(&machine, &line);
        assert_eq!(plain.matches("folder-").count(), 30, "{line}: {plain}");
        assert!(!plain.contains("paged:"), "{line}");
    }
    let paged = shown(
        &machine,
        &format!("export PAGER='sed s/^/paged:/'; bygone {list}"),
    );
    assert!(paged.contains("paged:"), "{paged}");
    // Who leaves it has seen enough, which is no failure.
    let some = shown(
        &machine,
        &format!(
            "export BYGONE_PAGER='head -n 2'; bygone -r {} {list} -R",
            path_text(&machine.path("repository"))
        ),
    );
    assert_eq!(some.matches("folder-").count(), 2, "{some}");
    // What fails says so, and shows no empty pager.
    let (told, code) = at_terminal(
        &machine,
        100,
        &format!("{numbering} bygone ls nonesuch"),
        "",
    );
    assert!(
        code == 2 && told.contains("no point is") && !told.contains("paged:"),
        "{told}"
    );
}

#[test]
fn less_shows_what_is_longer_than_the_terminal_and_steps_aside_for_what_is_not() {
    let machine = with_points();
    let short = shown(&machine, "bygone points");
    assert_eq!(short.matches("full").count(), 2, "{short}");
    let list = format!("bygone ls latest {}", machine.path("source").display());
    let (long, code) = at_terminal(&machine, 100, &list, " q");
    assert_eq!(code, 0, "{long}");
    let seen = long.matches("folder-").count();
    assert!((9..30).contains(&seen), "{seen}: {long}");
}

#[test]
fn colours_are_for_terminals_unless_somebody_says_otherwise() {
    let machine = with_points();
    let source = machine.path("source");
    let list = format!("ls --no-pager latest {}", source.display());
    let blue = "\u{1b}[34mfolder-0\u{1b}[0m";
    let colored = shown(&machine, &format!("bygone {list}"));
    assert!(colored.contains(blue), "{colored:?}");
    assert!(colored.contains("\u{1b}[36mlink\u{1b}[0m"), "{colored:?}");
    for line in [
        format!("bygone --color never {list}"),
        format!("bygone {list} --color=never"),
        format!("NO_COLOR=1 bygone {list}"),
        format!("TERM=dumb bygone {list}"),
        format!("bygone {list} | cat"),
        format!("bygone {list} --json --color always"),
        "bygone --color never --help".to_owned(),
        "NO_COLOR=1 bygone help backup | cat".to_owned(),
    ] {
        let plain = shown(&machine, &line);
        assert!(!plain.contains('\u{1b}'), "{line}: {plain:?}");
    }
    for line in [
        format!("bygone --color always {list} | cat"),
        format!("NO_COLOR=1 bygone --color always {list}"),
        format!("NO_COLOR= bygone {list}"),
    ] {
        assert!(shown(&machine, &line).contains(blue), "{line}");
    }
    fs::write(source.join("folder-0/new"), "").unwrap();
    machine.back_up("--incremental");
    let differing = shown(&machine, "bygone --no-pager diff latest~1 latest || true");
    assert!(
        differing.contains("\u{1b}[32madded    \u{1b}[0m/"),
        "{differing:?}"
    );
    let (told, _) = at_terminal(&machine, 100, "bygone show nonesuch", "");
    assert!(
        told.starts_with("\u{1b}[1m\u{1b}[31mbygone:\u{1b}[0m no point is"),
        "{told:?}"
    );
    let (told, _) = at_terminal(&machine, 100, "TZ=No/Where bygone --color never points", "");
    assert!(told.starts_with("bygone: warning: TZ names"), "{told:?}");
    let help = shown(&machine, "bygone --color always help backup | cat");
    assert!(help.contains('\u{1b}'), "{help}");
}

#[test]
fn tables_fit_the_terminal_and_are_whole_in_a_pipe() {
    let machine = with_points();
    for columns in [60, 80, 100, 132, 200] {
        let (table, _) = at_terminal(&machine, columns, "bygone --no-pager points", "");
        let longest = table
            .lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap();
        assert!(longest <= columns as usize, "{columns}:\n{table}");
        assert_eq!(
            table.matches("2026-").count() >= 2,
            table.contains("ID"),
            "{table}"
        );
    }
    let whole = machine.done(&["points"]);
    assert_eq!(whole.lines().count(), 3, "{whole}");
    for header in [
        "ID", "TIME", "KIND", "CHAIN", "HOST", "PATHS", "LABELS", "FILES", "SIZE", "NEW DATA",
    ] {
        assert!(whole.contains(header), "{header}: {whole}");
    }
}

#[test]
fn help_is_there_for_commands_and_for_what_they_have_in_common() {
    let machine = Machine::bare();
    let overview = machine.done(&["help"]);
    for name in [
        "  backup  ",
        "  mount  ",
        "  point  ",
        "  recovery  ",
        "  exit  ",
    ] {
        assert!(overview.contains(name), "{name}: {overview}");
    }
    assert!(machine.done(&["help", "point"]).contains("latest~2"));
    assert!(machine.done(&["help", "exit"]).contains("  20\n"));
    assert_eq!(
        machine.done(&["help", "backup"]).trim(),
        machine.done(&["backup", "--help"]).trim()
    );
    assert!(
        machine
            .done(&["help", "key", "list"])
            .contains("bygone key list")
    );
    let told = machine.refused(2, &["help", "pont"]);
    assert!(told.contains("near are point"), "{told}");
}
