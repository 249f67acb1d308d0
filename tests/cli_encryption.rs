//! Encrypted repositories on the command line: where passwords come from, what refuses them, keys, and what a client
//! remembers of a repository.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PASSWORD: &str = "open sesame";

/// A home, a source, and perhaps repositories.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// One with a repository that is made with these arguments.
    fn new(arguments: &[&str]) -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(place.path("source")).unwrap();
        fs::write(place.path("source/file"), "what is kept").unwrap();
        place.done(&[&["init"], arguments].concat());
        place
    }

    fn encrypted() -> Self {
        Self::new(&["--encrypt"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with no password.
    fn without(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bygone"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("TZ", "UTC")
            .env("BYGONE_REPO", self.path("repository"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn run_with(&self, password: &str, arguments: &[&str]) -> Output {
        let mut command = self.without(arguments);
        command.env("BYGONE_PASSWORD", password).output().unwrap()
    }

    /// Runs it with a password where `init` or the repository wants one; panics unless all went well and nothing was
    /// warned of.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let wants_one = arguments.contains(&"--encrypt") || self.path("repository/keys").exists();
        let output = match wants_one {
            true => self.run_with(PASSWORD, arguments),
            false => self.without(arguments).output().unwrap(),
        };
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(errors(&output), "");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it at a terminal, where this is typed; what it says comes to its standard output.
    fn at_terminal(&self, command: &str, typed: &str) -> Output {
        let line = format!("{} {command}", env!("CARGO_BIN_EXE_bygone"));
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env_remove("BYGONE_PASSWORD")
            .env("HOME", self.folder.path())
            .env("BYGONE_REPO", self.path("repository"))
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs script: {error}"));
        let mut input = child.stdin.take().unwrap();
        input.write_all(typed.as_bytes()).unwrap();
        // Held open: its end would be the terminal's.
        let output = child.wait_with_output().unwrap();
        drop(input);
        output
    }

    fn back_up(&self) -> String {
        let told = self.done(&["--json", "backup", "--set", "test", "source"]);
        let point: Value = serde_json::from_str(&told).unwrap();
        point["id"].as_str().unwrap().to_owned()
    }

    fn keys(&self, password: &str) -> Vec<Value> {
        let output = self.run_with(password, &["--json", "key", "list"]);
        assert!(output.status.success(), "{}", errors(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The files in which the client remembers repositories.
    fn memories(&self) -> Vec<PathBuf> {
        let folder = self.path(".local/state/bygone/repositories");
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &str) {
    let told = errors(output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(told.contains(words), "{told}");
}

/// Every object of a repository.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => objects(&path),
            false => vec![path],
        })
        .collect()
}

/// Copies a repository.
fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-a").arg(from).arg(to).output();
    assert!(output.unwrap().status.success());
}

#[test]
fn init_says_which_it_made() {
    for (arguments, words, encrypted, padded) in [
        (&[][..], "not encrypted", false, false),
        (&["--encrypt"], "encrypted", true, false),
        (&["--encrypt", "--pad"], "encrypted and padded", true, true),
    ] {
        let place = Place::new(arguments);
        fs::remove_dir_all(place.path("repository")).unwrap();
        let told = place.done(&[&["init"], arguments].concat());
        assert!(told.contains(&format!(": {words}, ")), "{told}");
        fs::remove_dir_all(place.path("repository")).unwrap();
        let told = place.done(&[&["--json", "init"], arguments].concat());
        let made: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&made["encrypted"], &made["padded"]),
            (&encrypted.into(), &padded.into())
        );
    }
    let place = Place::new(&[]);
    let padded = place.without(&["init", "--pad", "other"]).output().unwrap();
    assert_refused(&padded, 2, "--encrypt");
}

#[test]
fn a_wrong_password_and_none_at_all_exit_with_12() {
    let place = Place::encrypted();
    place.back_up();
    for command in [
        &["points"][..],
        &["check"],
        &["backup", "source"],
        &["ls", "latest"],
        &["key", "list"],
    ] {
        let wrong = place.run_with("open, sesame", command);
        assert_refused(&wrong, 12, "the password does not open the repository");
        assert_refused(
            &place.without(command).output().unwrap(),
            12,
            "BYGONE_PASSWORD",
        );
    }
    let wrong = place.run_with("no", &["--json", "points"]);
    assert_refused(&wrong, 12, "\"error\":\"wrong_password\"");
    assert_refused(&place.run_with("", &["points"]), 2, "the password is empty");
}

#[test]
fn passwords_come_from_files_commands_and_a_variable_and_never_show() {
    let place = Place::encrypted();
    place.back_up();
    let file = place.path("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let from_file = ["--password-file", file.to_str().unwrap(), "points"];
    let from_command = ["points", "--password-command", "echo open sesame"];
    for arguments in [from_file, from_command] {
        let output = place.without(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(errors(&output), "");
        // What is named goes before what lies in the environment.
        let output = place.run_with("wrong", &arguments);
        assert!(output.status.success(), "{}", errors(&output));
    }
    let both = [&from_file[..2], &from_command[1..], &["points"]].concat();
    assert_refused(
        &place.without(&both).output().unwrap(),
        2,
        "name one of them",
    );
    let failing = place.without(&["points", "--password-command", "echo secret; false"]);
    let failed = { failing }.output().unwrap();
    assert_refused(&failed, 1, "exit status: 1");
    assert!(!errors(&failed).contains("secret"));
    let absent = place
        .without(&["points", "--password-file", "nowhere"])
        .output();
    assert_refused(&absent.unwrap(), 21, "nowhere");

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let open_to_all = place.without(&from_file).output().unwrap();
    assert!(open_to_all.status.success());
    assert!(errors(&open_to_all).contains("others than its owner"));

    let verbose = place.run_with(PASSWORD, &["-vvv", "check"]);
    assert!(!errors(&verbose).contains(PASSWORD));
    for object in objects(&place.path("repository")) {
        let bytes = fs::read(object).unwrap();
        let tells = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        assert!(!tells(PASSWORD.as_bytes()) && !tells(b"what is kept"));
    }
    for memory in place.memories() {
        assert!(!fs::read_to_string(memory).unwrap().contains(PASSWORD));
    }
}

#[test]
fn a_person_is_asked_at_a_terminal_and_a_new_password_has_to_be_typed_twice() {
    let place = Place::new(&[]);
    let at_terminal =
        |command: &str, typed: &str| place.at_terminal(&format!("-r other {command}"), typed);
    let differing = at_terminal("init --encrypt", "one\ntwo\n");
    assert_eq!(differing.status.code(), Some(2), "{differing:?}");
    assert!(!place.path("other/config").exists());
    let made = at_terminal("init --encrypt", "typed\ntyped\n");
    assert!(made.status.success(), "{made:?}");
    let listed = at_terminal("points", "typed\n");
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(text.contains("Password of the repository") && text.contains("No points"));
}

#[test]
fn a_mistyped_password_may_be_typed_three_times_and_one_that_is_named_is_tried_once() {
    let place = Place::encrypted();
    place.back_up();
    let asked = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.matches("Password of the repository").count()
    };
    let second = place.at_terminal("points", &format!("mistyped\n{PASSWORD}\n"));
    assert!(second.status.success(), "{second:?}");
    assert_eq!(asked(&second), 2, "{second:?}");
    assert!(String::from_utf8_lossy(&second.stdout).contains("try again"));
    let third = place.at_terminal("check", &format!("mis\ntyped\n{PASSWORD}\n"));
    assert!(third.status.success(), "{third:?}");
    let never = place.at_terminal("points", "mis\ntyped\nthrice\n");
    assert_eq!(never.status.code(), Some(12), "{never:?}");
    assert_eq!(asked(&never), 3, "{never:?}");
    for named in ["--password-command 'echo wrong'", "--password-file wrong"] {
        fs::write(place.path("wrong"), "wrong\n").unwrap();
        let output = place.at_terminal(&format!("points {named}"), "");
        assert_eq!(output.status.code(), Some(12), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.matches("does not open").count(), 1, "{text}");
        assert!(asked(&output) == 0 && !text.contains("try again"), "{text}");
    }
}

#[test]
fn keys_are_added_listed_changed_and_removed() {
    let place = Place::encrypted();
    let point = place.back_up();
    let second = ["--new-password-command", "echo second"];
    let added = [&["key", "add", "--label", "laptop"], &second[..]].concat();
    let told = place.done(&added);
    assert!(told.starts_with("Added key "), "{told}");
    let keys = place.keys("second");
    assert_eq!(keys.len(), 2);
    let own = keys.iter().find(|key| key["current"] == true).unwrap();
    assert_eq!(own["label"], "laptop");
    let first = keys.iter().find(|key| key["current"] == false).unwrap();
    let first = first["id"].as_str().unwrap();

    let refused = place.run_with(PASSWORD, &["key", "remove", first]);
    assert_refused(&refused, 2, "the one that the given password opens");
    let unknown = place.run_with("second", &["key", "remove", "zzz"]);
    assert_refused(&unknown, 2, "there is no key");
    let removed = place.run_with("second", &["key", "remove", &first[..12]]);
    assert!(removed.status.success(), "{}", errors(&removed));
    assert_refused(&place.run_with(PASSWORD, &["points"]), 12, "does not open");

    let third = ["--new-password-command", "echo third"];
    let changed = [&["key", "change-password"], &third[..]].concat();
    let changed = place.run_with("second", &changed);
    assert!(changed.status.success(), "{}", errors(&changed));
    assert_refused(&place.run_with("second", &["points"]), 12, "does not open");
    let listed = place.run_with("third", &["points"]);
    assert!(String::from_utf8(listed.stdout).unwrap().contains(&point));
    assert_eq!(place.keys("third").len(), 1);
    let checked = place.run_with("third", &["check", "--read-data"]);
    assert!(checked.status.success(), "{}", errors(&checked));
}

#[test]
fn a_repository_that_is_not_encrypted_has_no_keys() {
    let place = Place::new(&[]);
    let listed = place.without(&["key", "list"]).output().unwrap();
    assert_refused(&listed, 2, "is not encrypted: it has no keys");
}

#[test]
fn a_password_for_what_is_not_encrypted_is_refused_until_one_has_used_it_so() {
    let place = Place::new(&[]);
    let with_one = place.run_with(PASSWORD, &["init", "other"]);
    assert_refused(&with_one, 2, "--encrypt is not");
    // It was made here, and so it is known.
    assert!(place.run_with(PASSWORD, &["points"]).status.success());
    copy(&place.path("repository"), &place.path("unknown"));
    let unknown = ["-r", "unknown", "points"];
    let refused = place.run_with(PASSWORD, &unknown);
    assert_refused(&refused, 2, "leave the password out this once");
    assert!(place.without(&unknown).output().unwrap().status.success());
    assert!(place.run_with(PASSWORD, &unknown).status.success());
}

#[test]
fn a_repository_that_is_not_encrypted_any_more_is_refused_and_nothing_is_written() {
    let place = Place::encrypted();
    place.back_up();
    let plain = Place::new(&[]);
    let repository = place.path("repository");
    fs::remove_dir_all(&repository).unwrap();
    copy(&plain.path("repository"), &repository);
    for output in [
        place.run_with(PASSWORD, &["backup", "source"]),
        place.without(&["backup", "source"]).output().unwrap(),
    ] {
        assert_refused(&output, 20, "was encrypted when it was last used here");
    }
    assert!(!repository.join("points").exists());
    let memory = &place.memories()[0];
    let told = errors(&place.without(&["points"]).output().unwrap());
    assert!(told.contains(memory.to_str().unwrap()), "{told}");
    fs::remove_file(memory).unwrap();
    assert!(
        place
            .without(&["points"])
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn a_repository_that_has_gone_back_is_told_of_and_so_is_another_one() {
    for arguments in [&[][..], &["--encrypt"]] {
        let place = Place::new(arguments);
        let repository = place.path("repository");
        place.back_up();
        copy(&repository, &place.path("old"));
        fs::write(place.path("source/file"), "what is kept later").unwrap();
        let newest = place.back_up();
        fs::remove_dir_all(&repository).unwrap();
        fs::rename(place.path("old"), &repository).unwrap();
        for command in ["points", "points", "check"] {
            let output = place.run_with(PASSWORD, &[command]);
            assert!(output.status.success(), "{}", errors(&output));
            let told = errors(&output);
            assert!(
                told.contains("has gone back") && told.contains(&newest),
                "{told}"
            );
        }
        let json = place.run_with(PASSWORD, &["--json", "points"]);
        assert!(errors(&json).contains("\"type\":\"warning\""));

        let other = Place::new(arguments);
        fs::remove_dir_all(&repository).unwrap();
        copy(&other.path("repository"), &repository);
        let told = errors(&place.run_with(PASSWORD, &["points"]));
        assert!(told.contains("is another repository"), "{told}");
        assert_eq!(errors(&place.run_with(PASSWORD, &["points"])), "");
    }
}

#[test]
fn a_key_that_is_damaged_is_found_and_the_others_go_on_opening() {
    let place = Place::encrypted();
    place.done(&["key", "add", "--new-password-command", "echo second"]);
    let keys = place.keys(PASSWORD);
    let other = keys.iter().find(|key| key["current"] == false).unwrap();
    let name = format!("keys/{}", other["id"].as_str().unwrap());
    let path = place.path("repository").join(&name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    assert_refused(&place.run_with(PASSWORD, &["check"]), 20, "");
    let listed = place.run_with(PASSWORD, &["key", "list"]);
    assert_refused(&listed, 20, &name);
    assert!(place.run_with(PASSWORD, &["points"]).status.success());
    assert_refused(&place.run_with("second", &["points"]), 20, &name);
}
