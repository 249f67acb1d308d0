//! Completions in the shells themselves: each is given the script that is installed for it, and the key is pressed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::machine::{Machine, assert_success, path_text};

/// A machine with a point that has a label, its configuration, and the program in PATH.
struct Typist {
    machine: Machine,
    point: String,
}

impl Typist {
    fn new() -> Self {
        let machine = Machine::new();
        let point = machine.back_up_with(&["--label", "why=upgrade"]);
        let text = format!(
            "[repository.home]\nplace = {:?}\n[set.laptop]\npaths = ['/etc']\n",
            machine.path("repository")
        );
        fs::write(machine.path("config.toml"), text).unwrap();
        let program = machine.folder("bin").join("bygone");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bygone"), program).unwrap();
        Self { machine, point }
    }

    /// The script for a shell, in a file.
    fn script(&self, shell: &str) -> PathBuf {
        let file = self.machine.path(shell);
        fs::write(&file, self.machine.done(&["completions", shell])).unwrap();
        file
    }

    /// What a shell prints that runs `text`.
    fn run(&self, shell: &str, text: &str) -> String {
        let own = path_text(&self.machine.path("bin")).to_owned();
        let path = format!("{own}:{}", std::env::var("PATH").unwrap());
        // As the program is run otherwise, with its repository and whatever opens it.
        let program = self.machine.bygone::<&str>(&[]);
        let mut command = Command::new(shell);
        command
            .args(["-c", text])
            .current_dir(self.machine.path(""));
        for (name, value) in program.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        let output = command
            .env("PATH", path)
            .env("BYGONE_CONFIG", self.machine.path("config.toml"))
            .env("TERM", "dumb")
            .env("HOME", self.machine.path(""))
            .output()
            .unwrap_or_else(|error| panic!("this test needs {shell}: {error}"));
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is typed, and what each shell is to make of it when the key is pressed at its end.
    fn lines(&self) -> [(String, &str); 6] {
        let begun = &self.point[..self.point.len() - 3];
        [
            ("bygone show la".to_owned(), "latest"),
            (format!("bygone show {begun}"), &self.point),
            ("bygone ls wh".to_owned(), "why=upgrade"),
            ("bygone -r ho".to_owned(), "home"),
            ("bygone backup --set la".to_owned(), "laptop"),
            ("bygone compl".to_owned(), "completions"),
        ]
    }
}

#[test]
fn bash_completes_points_repositories_sets_and_commands() {
    let typist = Typist::new();
    let script = typist.script("bash");
    for (line, expected) in typist.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let text = format!(
            "source {script}; COMP_WORDS=({line}); COMP_CWORD={index}; COMP_TYPE=9
             _clap_complete_bygone bygone {last} ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p bygone",
            script = script.display(),
            index = words.len() - 1,
            last = words[words.len() - 1],
        );
        let told = typist.run("bash", &text);
        let (completed, registered) = told.split_once('\n').unwrap();
        assert_eq!(completed, expected, "{line}");
        assert!(
            registered.contains("-F _clap_complete_bygone bygone"),
            "{registered}"
        );
    }
}

#[test]
fn fish_completes_points_repositories_sets_and_commands() {
    let typist = Typist::new();
    let script = typist.script("fish");
    for (line, expected) in typist.lines() {
        let text = format!("source {}; complete -C '{line}'", script.display());
        let told = typist.run("fish", &text);
        let completed: Vec<&str> = told
            .lines()
            .map(|line| line.split('\t').next().unwrap())
            .collect();
        assert_eq!(completed, [expected], "{line}");
    }
}

#[test]
fn zsh_completes_points_repositories_sets_and_commands() {
    let typist = Typist::new();
    let script = typist.script("zsh");
    // A shell in a terminal of its own, to which the keys are sent once its editor has the terminal. What stands on the
    // terminal comes in pieces, so that a key of our own (^T) writes each completed line to a file, and empties it.
    let completed = typist.machine.path("completed");
    let keys = typist.machine.path("keys.zsh");
    let setting = format!(
        "PS1=; autoload -U compinit; compinit -D; source {}
         take() {{ print -r -- $BUFFER >>{}; BUFFER= }}; zle -N take; bindkey '^T' take
         zle-line-init() {{ print -n rea''dy }}; zle -N zle-line-init",
        script.display(),
        completed.display()
    );
    fs::write(&keys, setting).unwrap();
    let mut text = format!(
        "zmodload zsh/zpty; zpty z zsh -f -i; zpty -w z 'source {}'; zpty -r z told '*ready*'; : >{}\n",
        keys.display(),
        completed.display()
    );
    for (number, (line, _)) in typist.lines().iter().enumerate() {
        text.push_str(&format!(
            "zpty -w -n z $'{line}\\t\\x14'
             for try in {{1..600}}; do [[ $(wc -l <{}) -gt {number} ]] && break; sleep 0.05; done\n",
            completed.display()
        ));
    }
    text.push_str("zpty -d z");
    typist.run("zsh", &text);
    let told = fs::read_to_string(&completed).unwrap();
    let expected = typist.lines().map(|(line, expected)| {
        let (start, _) = line.rsplit_once(' ').unwrap();
        format!("{start} {expected} \n")
    });
    assert_eq!(told, expected.concat());
}

#[test]
fn nobody_is_asked_for_a_password_or_told_of_trouble_who_presses_the_key() {
    let typist = Typist::new();
    let machine = &typist.machine;
    let ask = |repository: &str| {
        let output = machine
            .bygone(&["--", "bygone", "-r", repository, "show", ""])
            .env("BYGONE_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", "4")
            .output()
            .unwrap();
        assert_success(&output);
        let told = |bytes| String::from_utf8(bytes).unwrap();
        (told(output.stdout), told(output.stderr))
    };
    let (points, trouble) = ask(path_text(&machine.path("repository")));
    assert!(points.contains(&typist.point), "{points:?}");
    assert_eq!(trouble, "");
    let (points, trouble) = ask("/no/such/repository");
    assert!(!points.contains("latest"), "{points:?}");
    assert_eq!(trouble, "");
}
