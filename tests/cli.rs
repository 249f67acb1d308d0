//! The program as a person and a script meet it: exit codes, messages, JSON.

#[expect(
    dead_code,
    reason = "it serves several test binaries, each of which uses a part"
)]
#[path = "support/sample.rs"]
mod sample;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use bygone::repo::Repository;
use bygone::store::LocalStore;
use serde_json::Value;
use tempfile::TempDir;

use sample::{FULL, INCREMENTAL};

/// A folder with the sample repository in it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn with_sample() -> Self {
        let place = Self::empty();
        let store = LocalStore::create(&place.repository()).unwrap();
        sample::make(Arc::new(store));
        place
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// The program, in a zone and with a home of its own, without a repository.
    fn bygone(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("bygone"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TZ", "UTC")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.bygone(arguments);
        Ran(command
            .env("BYGONE_REPO", self.repository())
            .output()
            .unwrap())
    }

    fn object(&self, prefix: &str) -> PathBuf {
        first_file(&self.repository().join(prefix)).expect("an object is there")
    }
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_dir() {
            first_file(&path)
        } else {
            Some(path)
        }
    })
}

/// What a run of the program came to.
struct Ran(Output);

impl Ran {
    fn text(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn errors(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// Holds the exit code against what is expected.
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        let errors = self.errors();
        assert_eq!(self.0.status.code(), Some(code), "{errors}{}", self.text());
        self
    }

    #[track_caller]
    fn says(self, message: &str) -> Self {
        let errors = self.errors();
        assert!(errors.contains(message), "{errors}");
        self
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn a_command_without_a_repository_says_how_to_name_one() {
    let place = Place::empty();
    for command in [
        &["points"][..],
        &["show", "latest"],
        &["ls", "latest"],
        &["check"],
    ] {
        let ran = Ran(place.bygone(command).output().unwrap());
        ran.exits(2)
            .says("no repository is named: give -r REPO, set BYGONE_REPO, or configure");
    }
}

#[test]
fn a_place_without_a_repository_is_told_apart() {
    let place = Place::empty();
    place.run(&["points"]).exits(10);
    std::fs::create_dir(place.repository()).unwrap();
    place
        .run(&["points"])
        .exits(10)
        .says("there is no repository");
}

#[test]
fn an_environment_that_names_nothing_is_refused() {
    let place = Place::empty();
    for value in ["", "  "] {
        let ran = Ran(place
            .bygone(&["points"])
            .env("BYGONE_REPO", value)
            .output()
            .unwrap());
        ran.exits(2).says("unset BYGONE_REPO");
    }
    let mut command = place.bygone(&["-r", "x", "init"]);
    let ran = Ran(command
        .env("BYGONE_TEST_FAULT", "abort-sometime")
        .output()
        .unwrap());
    ran.exits(2).says("abort-before:N");
}

#[test]
fn wrong_arguments_exit_with_2() {
    let place = Place::empty();
    for arguments in [
        &["frobnicate"][..],
        &["points", "--label", "x"],
        &["init", "--compression", "20"],
        &["init", "--chunk-size", "much"],
        &["init", "--chunk-size", "5"],
        &["ls"],
        &[],
    ] {
        let ran = place.run(arguments);
        assert!(!ran.errors().is_empty());
        ran.exits(2);
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let place = Place::empty();
    let help = place.run(&["--help"]).exits(0);
    assert!(help.text().contains("Examples:"));
    assert!(
        place
            .run(&["--version"])
            .exits(0)
            .text()
            .starts_with("bygone 0.")
    );
    for command in ["init", "points", "show", "ls", "check", "mount", "umount"] {
        let help = place.run(&[command, "--help"]).exits(0).text();
        assert!(help.contains("Examples:"), "{command}");
    }
}

#[test]
fn init_makes_a_repository_and_says_of_what_kind() {
    let place = Place::empty();
    let ran = place
        .run(&[
            "init",
            "--json",
            "--chunk-size",
            "256K",
            "--compression",
            "off",
        ])
        .exits(0);
    let made = ran.json();
    assert_eq!(made["encrypted"], false);
    assert_eq!(made["chunk_bytes"], 256 << 10);
    assert_eq!(made["compression"], "off");
    assert_eq!(made["repository"].as_str().unwrap().len(), 32);
    assert_eq!(
        place.run(&["points", "--json"]).exits(0).json(),
        Value::Array(Vec::new())
    );
    assert_eq!(place.run(&["points"]).exits(0).text(), "No points.\n");
    place.run(&["check"]).exits(0);
}

#[test]
fn init_refuses_a_place_that_is_not_empty_and_leaves_it_alone() {
    let place = Place::empty();
    place.run(&["init"]).exits(0);
    place
        .run(&["init"])
        .exits(16)
        .says("a repository is there already");
    let full = place.folder.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join(".hidden"), "x").unwrap();
    place
        .run(&["init", "full"])
        .exits(16)
        .says("it is not empty, it has .hidden");
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);
    std::fs::write(place.folder.path().join("file"), "x").unwrap();
    place.run(&["init", "file"]).exits(1);
}

#[test]
fn init_takes_its_place_as_an_argument_or_by_r() {
    let place = Place::empty();
    place.run(&["init", "one"]).exits(0);
    Ran(place.bygone(&["-r", "two", "init"]).output().unwrap()).exits(0);
    Ran(place.bygone(&["init", "-r", "three"]).output().unwrap()).exits(0);
    for name in ["one", "two", "three"] {
        assert!(
            place.folder.path().join(name).join("config").is_file(),
            "{name}"
        );
    }
}

#[test]
fn points_are_listed_newest_first_with_every_documented_field() {
    let place = Place::with_sample();
    let points = place.run(&["points", "--json"]).exits(0).json();
    let [newest, oldest] = &points.as_array().unwrap()[..] else {
        panic!("{points}");
    };
    assert_eq!(newest["id"], INCREMENTAL);
    assert_eq!(newest["kind"], "incremental");
    assert_eq!(newest["time"], "2026-11-21T21:00:00Z");
    assert_eq!(newest["start"], "2026-11-21T22:00:00+01:00");
    assert_eq!(newest["parent"], FULL);
    assert_eq!(newest["base"], FULL);
    assert_eq!(newest["chain"], serde_json::json!([INCREMENTAL, FULL]));
    assert_eq!(newest["runs"].as_array().unwrap().len(), 2);
    assert_eq!(newest["runs"][1], oldest["runs"][0]);
    assert_eq!(
        newest["paths"],
        serde_json::json!(["/docs", "/image", "/large"])
    );
    assert_eq!(newest["labels"], serde_json::json!({"why": "nightly"}));
    assert_eq!(
        (&oldest["parent"], &oldest["base"]),
        (&Value::Null, &Value::from(FULL))
    );
    let expected = [
        "base",
        "bytes",
        "chain",
        "directories",
        "duration_seconds",
        "end",
        "entries",
        "entries_recorded",
        "files",
        "host",
        "id",
        "kind",
        "labels",
        "newly_uploaded_bytes",
        "newly_uploaded_stored_bytes",
        "parent",
        "partial",
        "paths",
        "read_bytes",
        "reuploaded_bytes",
        "reuploaded_stored_bytes",
        "runs",
        "sequence",
        "set",
        "start",
        "stored_bytes",
        "time",
        "user",
        "warnings",
    ];
    let mut found = keys(newest);
    found.sort_unstable();
    assert_eq!(found, expected);
    let text = place.run(&["points"]).exits(0).text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("ID"));
    assert!(
        lines[1].starts_with(INCREMENTAL) && lines[2].starts_with(FULL),
        "{text}"
    );
}

#[test]
fn filters_narrow_the_list_and_what_a_point_means() {
    let place = Place::with_sample();
    let count = |arguments: &[&str]| {
        place
            .run(arguments)
            .exits(0)
            .json()
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        count(&["points", "--json", "--host", "moon", "--set", "home"]),
        2
    );
    assert_eq!(count(&["points", "--json", "--host", "mars"]), 0);
    assert_eq!(
        count(&[
            "points",
            "--json",
            "--label",
            "why=nightly",
            "--path",
            "/docs/deep"
        ]),
        2
    );
    assert_eq!(count(&["points", "--json", "--label", "why=other"]), 0);
    place
        .run(&["show", "latest", "--host", "mars"])
        .exits(2)
        .says("leaves all out");
}

#[test]
fn every_form_of_a_point_is_understood() {
    let place = Place::with_sample();
    for (text, id) in [
        (FULL, FULL),
        ("1f3a9c2e", FULL),
        ("latest", INCREMENTAL),
        ("latest~1", FULL),
        ("2026-11-20", FULL),
        ("2026-11-21T20:59", FULL),
        ("2026-11-21T21:00", INCREMENTAL),
        ("2026-11-21T23:00+01:00", INCREMENTAL),
        ("why=nightly", INCREMENTAL),
    ] {
        assert_eq!(
            place.run(&["show", text, "--json"]).exits(0).json()["id"],
            id,
            "{text}"
        );
    }
}

#[test]
fn an_unknown_point_is_refused_with_what_is_near() {
    let place = Place::with_sample();
    place
        .run(&["show", "1f3a9c2f"])
        .exits(2)
        .says("near are 1f3a9c2e");
    place.run(&["ls", "latst"]).exits(2).says("near are latest");
    place
        .run(&["show", "2026-11-19"])
        .exits(2)
        .says(&format!("the oldest is {FULL}"));
    place
        .run(&["show", "latest~7"])
        .exits(2)
        .says("2 points, so latest~1 is the oldest");
    place
        .run(&["check", "nothing-like-it"])
        .exits(2)
        .says("`bygone points` lists them");
}

#[test]
fn a_short_id_of_two_points_is_refused_with_both() {
    let place = Place::with_sample();
    let store = LocalStore::open(&place.repository()).unwrap();
    let repository = Repository::open(Arc::new(store)).unwrap();
    let first = bygone::repo::read_point(&repository, sample::id(FULL)).unwrap();
    let twin = "2026-11-22T00-00-00Z-1f3a9c2e";
    bygone::repo::commit(
        &repository,
        &sample::point(sample::id(twin), None, first.runs.clone()),
    )
    .unwrap();
    place
        .run(&["show", "1f3a9c2e"])
        .exits(2)
        .says(&format!("{FULL}, {twin}"));
    place.run(&["show", twin]).exits(0);
}

#[test]
fn show_tells_everything_and_draws_the_chain() {
    let place = Place::with_sample();
    let shown = place.run(&["show", "latest", "--json"]).exits(0).json();
    assert_eq!(shown["warnings"], 1);
    assert_eq!(shown["warning_list"][0]["path"], "/docs/secret");
    assert_eq!(
        shown["warning_list"][0]["message"],
        "cannot read it: Permission denied"
    );
    assert_eq!(shown["excludes"], serde_json::json!(["*.o"]));
    let text = place.run(&["show", "latest"]).exits(0).text();
    let chain: Vec<&str> = text.lines().skip_while(|line| *line != "Chain").collect();
    assert!(
        chain[1].contains(&format!("● {INCREMENTAL}  incremental")),
        "{text}"
    );
    assert_eq!(chain[2].trim(), "│");
    assert!(chain[3].contains(&format!("◆ {FULL}  full")), "{text}");
    assert!(text.contains("/docs/secret: cannot read it"), "{text}");
}

#[test]
fn ls_lists_a_directory_a_tree_or_one_file() {
    let place = Place::with_sample();
    let list = |arguments: &[&str]| place.run(arguments).exits(0).text();
    assert_eq!(list(&["ls", "latest"]), "docs\nimage\nlarge\n");
    assert_eq!(
        list(&["ls", "latest", "/docs"]),
        "a.txt\nb.txt\ndeep\nlink\nnew\n"
    );
    assert_eq!(
        list(&["ls", "latest~1", "docs/"]),
        "a.txt\nb.txt\ndeep\nlink\n"
    );
    assert_eq!(
        list(&["ls", "latest~1", "/docs/deep", "-R"]),
        "/docs/deep/inline\n"
    );
    assert_eq!(list(&["ls", "latest", "/docs/deep"]), "");
    assert_eq!(list(&["ls", "latest", "/docs/a.txt"]), "a.txt\n");
    let long = list(&["ls", "-l", "latest", "/docs"]);
    assert!(long.contains("lrw-r-----   1 selene   100"), "{long}");
    assert!(long.contains("2023-11-14 22:13 link -> a.txt"), "{long}");
    place
        .run(&["ls", "latest", "/nothing"])
        .exits(2)
        .says("the point has no /nothing");
    place.run(&["ls", "latest", "/docs/../x"]).exits(2);
}

#[test]
fn ls_gives_an_object_a_line_in_json() {
    let place = Place::with_sample();
    let lines = place
        .run(&["ls", "latest", "-R", "--json"])
        .exits(0)
        .lines();
    assert_eq!(lines.len(), 8);
    let image = lines.iter().find(|line| line["path"] == "/image").unwrap();
    assert_eq!(image["type"], "file");
    assert_eq!(image["size"], 113_000);
    assert_eq!(image["user"], "selene");
    assert_eq!(image["group"], Value::Null);
    assert_eq!(image["mtime"], "2023-11-14T22:13:20.000000005Z");
}

#[test]
fn check_is_quiet_about_a_sound_repository() {
    let place = Place::with_sample();
    for arguments in [
        &["check"][..],
        &["check", "--read-data"],
        &["check", "--read-data", "latest~1"],
    ] {
        let text = place.run(arguments).exits(0).text();
        assert!(text.ends_with("No damage found.\n"), "{text}");
    }
    let lines = place
        .run(&["check", "--read-data", "--json"])
        .exits(0)
        .lines();
    let [summary] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(
        (&summary["type"], &summary["ok"]),
        (&Value::from("summary"), &Value::from(true))
    );
    assert_eq!(
        (&summary["points"], &summary["runs"], &summary["packs"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert_eq!(summary["verified_chunks"], summary["chunks"]);
    assert_eq!(place.run(&["check", "-q"]).exits(0).text(), "");
}

#[test]
fn check_names_the_object_and_every_path_that_it_costs() {
    let place = Place::with_sample();
    let pack = place.object("packs");
    let mut bytes = std::fs::read(&pack).unwrap();
    // In each of the frame's files, the shortest of which has 700 bytes.
    for byte in bytes[30..3000].iter_mut().step_by(500) {
        *byte ^= 1;
    }
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    place.run(&["check"]).exits(0);
    let ran = place.run(&["check", "--read-data", "--json"]).exits(20);
    let lines = ran.lines();
    let name = format!(
        "packs/{}",
        pack.strip_prefix(place.repository().join("packs"))
            .unwrap()
            .display()
    );
    assert_eq!(lines[0]["type"], "object");
    assert_eq!(lines[0]["state"], "damaged");
    assert_eq!(lines[0]["object"], Value::from(name));
    assert!(
        lines[0]["message"].as_str().unwrap().contains("frame at 0"),
        "{}",
        lines[0]
    );
    let lost: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| line["type"] == "path")
        .map(|line| {
            (
                line["point"].as_str().unwrap(),
                line["path"].as_str().unwrap(),
            )
        })
        .collect();
    let mut expected = [
        (FULL, "/docs/a.txt"),
        (FULL, "/docs/b.txt"),
        (INCREMENTAL, "/docs/a.txt"),
        (INCREMENTAL, "/docs/b.txt"),
        (INCREMENTAL, "/docs/new"),
    ];
    let mut lost = lost;
    lost.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lost, expected);
    assert_eq!(lines.last().unwrap()["ok"], false);
    let text = place.run(&["check", "--read-data"]).exits(20).text();
    assert!(
        text.contains(&format!("lost: {INCREMENTAL} /docs/new: ")),
        "{text}"
    );
}

#[test]
fn check_of_one_point_does_not_look_at_others() {
    let place = Place::with_sample();
    std::fs::write(place.repository().join("points").join(FULL), "nonsense").unwrap();
    place.run(&["check", FULL]).exits(20).says("is damaged");
    place.run(&["check"]).exits(20);
    place.run(&["check", "--read-data", "latest"]).exits(0);
    let ran = place.run(&["points", "--json"]).exits(20);
    assert_eq!(ran.json().as_array().unwrap().len(), 1);
}

#[test]
fn a_damaged_or_lost_config_is_damage() {
    let place = Place::with_sample();
    let config = place.repository().join("config");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, good.replacen('1', "2", 1)).unwrap();
    let lines = place.run(&["check", "--json"]).exits(20).lines();
    assert_eq!(
        (&lines[0]["object"], &lines[0]["state"]),
        (&"config".into(), &"damaged".into())
    );
    std::fs::remove_file(&config).unwrap();
    let lines = place.run(&["check", "--json"]).exits(20).lines();
    assert_eq!(
        (&lines[0]["object"], &lines[0]["state"]),
        (&"config".into(), &"missing".into())
    );
    place.run(&["points"]).exits(21);
}

#[test]
fn errors_are_json_objects_when_json_is_asked_for() {
    let place = Place::with_sample();
    let ran = place.run(&["show", "nothing-like-it", "--json"]).exits(2);
    let error: Value = serde_json::from_str(&ran.errors()).unwrap();
    assert_eq!(
        (&error["type"], &error["error"], &error["exit_code"]),
        (&"error".into(), &"usage".into(), &2.into())
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("nothing-like-it")
    );
    assert_eq!(ran.text(), "");
}

#[test]
fn a_reader_that_goes_early_is_no_error_of_ours() {
    let place = Place::with_sample();
    for command in [
        &["ls", "-R", "latest"][..],
        &["points"],
        &["check"],
        &["show", "latest"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        // Closed before the process starts, and so before it can write anything.
        drop(reader);
        let output = place
            .bygone(command)
            .env("BYGONE_REPO", place.repository())
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{command:?}");
        assert_eq!(output.status.code(), Some(141), "{command:?}");
    }
}

#[test]
fn a_reader_that_takes_one_line_gets_it() {
    let place = Place::with_sample();
    let mut child = place
        .bygone(&["ls", "-R", "latest"])
        .env("BYGONE_REPO", place.repository())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "/docs\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_disk_that_is_full_is_told() {
    let place = Place::with_sample();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = place.bygone(&["points"]);
    let output = command
        .env("BYGONE_REPO", place.repository())
        .stdout(full)
        .output()
        .unwrap();
    Ran(output)
        .exits(15)
        .says("cannot write to standard output");
}
