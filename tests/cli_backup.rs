//! `bygone backup` and what the other commands make of its points, as a script meets them.

#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "support/encryption.rs"]
mod encryption;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Bytes of a file that takes a while to back up.
const LARGE_BYTES: usize = 96 << 20;

/// How long anything here may take at the most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a source tree and an empty repository.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir_all(place.source().join("sub")).unwrap();
        std::fs::write(place.source().join("kept"), "kept").unwrap();
        std::fs::write(place.source().join("sub/changed"), "before").unwrap();
        assert!(place.run(encryption::init_arguments()).status.success());
        place
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("bygone"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TZ", "UTC")
            .env("BYGONE_REPO", self.repository())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        encryption::unlock(&mut command);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
    }

    #[track_caller]
    fn back_up(&self, options: &[&str]) -> Value {
        let source = self.source();
        let mut arguments = vec!["backup", "--json"];
        arguments.extend_from_slice(options);
        arguments.push(source.to_str().unwrap());
        self.json(&arguments)
    }

    fn points(&self) -> Vec<Value> {
        self.json(&["points", "--json"]).as_array().unwrap().clone()
    }
}

/// Waits until `is_so`, or fails.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_not_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn interrupt(child: &Child) {
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
}

#[test]
fn kinds_stand_on_each_other_as_the_points_say() {
    let place = Place::new();
    let first = place.back_up(&[]);
    assert_eq!(
        (&first["kind"], &first["parent"]),
        (&"full".into(), &Value::Null)
    );
    std::fs::write(place.source().join("sub/changed"), "after, and longer").unwrap();
    let second = place.back_up(&["--label", "why=upgrade"]);
    assert_eq!(
        (&second["kind"], &second["parent"]),
        (&"incremental".into(), &first["id"])
    );
    assert_eq!(
        second["chain"],
        serde_json::json!([second["id"], first["id"]])
    );
    let third = place.back_up(&["--differential"]);
    assert_eq!(
        (&third["kind"], &third["parent"]),
        (&"differential".into(), &first["id"])
    );
    assert_eq!(
        third["chain"],
        serde_json::json!([third["id"], first["id"]])
    );
    let fourth = place.back_up(&["--full"]);
    assert_eq!(
        (&fourth["kind"], &fourth["base"]),
        (&"full".into(), &fourth["id"])
    );

    let listed: Vec<Value> = place
        .points()
        .iter()
        .map(|point| point["id"].clone())
        .collect();
    let made = [&fourth, &third, &second, &first].map(|point| point["id"].clone());
    assert_eq!(listed, made, "newest first, also within a second");
    assert_eq!(
        place.json(&["show", "latest", "--json"])["id"],
        fourth["id"]
    );
    assert_eq!(
        place.json(&["show", "latest~2", "--json"])["id"],
        second["id"]
    );
    assert_eq!(
        place.json(&["show", "why=upgrade", "--json"])["id"],
        second["id"]
    );
    assert!(place.run(&["check", "--read-data"]).status.success());
}

#[test]
fn what_backup_prints_is_what_points_and_show_print() {
    let place = Place::new();
    let made = place.back_up(&["--host", "moon", "--set", "home"]);
    let [listed] = &place.points()[..] else {
        panic!("one point was made");
    };
    assert_eq!(&made, listed);
    let shown = place.json(&["show", "latest", "--json"]);
    for (field, value) in listed.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    assert_eq!(
        (&made["host"], &made["set"]),
        (&"moon".into(), &"home".into())
    );
    assert_eq!(made["files"], 2);
    assert_eq!(made["bytes"], 10);
    assert_eq!(made["paths"], serde_json::json!([place.source()]));
}

#[test]
fn nothing_but_the_summary_is_printed_into_a_pipe() {
    let place = Place::new();
    let source = place.source();
    let output = place.run(&["backup", source.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(summary.contains("newly uploaded"), "{summary}");
    assert!(
        !summary.contains('\u{1b}') && !summary.contains('\r'),
        "{summary:?}"
    );
    let output = place.run(&["backup", "-q", source.to_str().unwrap()]);
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b""[..], &b""[..])
    );
}

#[test]
fn a_source_that_is_not_there_is_refused_and_commits_nothing() {
    let place = Place::new();
    let output = place.run(&["backup", "/nothing/like/it"]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        errors.starts_with("bygone: ") && errors.contains("/nothing/like/it"),
        "{errors}"
    );
    assert!(place.points().is_empty());
}

#[test]
fn names_of_any_bytes_come_out_of_ls_as_they_went_in() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let names: [&[u8]; 5] = [
        b"caf\xe9",
        b"new\nline",
        b"\x1b[31mred",
        b"back\\slash",
        b"-rf",
    ];
    let folder = place.source().join("names");
    std::fs::create_dir(&folder).unwrap();
    for name in names {
        std::fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    place.back_up(&[]);
    let output = place.run(&["ls", "latest", folder.to_str().unwrap()]);
    let mut expected = names;
    expected.sort_unstable();
    let listed: Vec<u8> = expected
        .iter()
        .flat_map(|name| [name, &b"\n"[..]].concat())
        .collect();
    assert_eq!(output.stdout, listed, "raw into a pipe");
    let output = place.run(&["ls", "latest", folder.to_str().unwrap(), "--json"]);
    let objects: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), names.len());
    let hex: String = [folder.as_os_str().as_bytes(), b"/caf\xe9"]
        .concat()
        .iter()
        .skip(1)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let found = objects
        .iter()
        .find(|object| !object["path_hex"].is_null())
        .unwrap();
    assert_eq!(found["path_hex"], Value::from(hex));
}

#[test]
fn a_backup_that_is_interrupted_exits_with_130_and_commits_nothing() {
    let place = Place::new();
    let mut noise = vec![0; LARGE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    std::fs::write(place.source().join("large"), noise).unwrap();
    let source = place.source();
    let child = place
        .command(&["backup", source.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first pack is there: it has begun, and is far from its end.
    wait_until("a pack", || is_not_empty(&place.repository().join("packs")));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("interrupted"), "{errors}");
    assert!(place.points().is_empty());
    assert!(place.run(&["check"]).status.success());
    let next = place.back_up(&[]);
    assert!(
        next["newly_uploaded_bytes"].as_u64().unwrap() < LARGE_BYTES as u64,
        "what was uploaded is not uploaded again"
    );
}

/// Flips a bit in the largest file of `folder`.
fn damage(folder: &Path) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort_by_key(|file| file.metadata().unwrap().len());
    let largest = files.pop().unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let place = bytes.len() / 3;
    bytes[place] ^= 4;
    std::fs::remove_file(&largest).unwrap();
    std::fs::write(&largest, bytes).unwrap();
}

#[test]
fn a_full_backup_does_without_a_damaged_latest_point() {
    let place = Place::new();
    place.back_up(&[]);
    damage(&place.repository().join("manifests"));
    let source = place.source();
    let source = source.to_str().unwrap();

    let incremental = place.run(&["backup", source]);
    assert_eq!(incremental.status.code(), Some(20));
    let told = String::from_utf8_lossy(&incremental.stderr).into_owned();
    assert!(told.contains("--full"), "{told}");

    let full = place.run(&["backup", "--full", source]);
    let told = String::from_utf8_lossy(&full.stderr).into_owned();
    assert_eq!(full.status.code(), Some(3), "{told}");
    assert!(told.contains("cannot be compared with"), "{told}");
    // The point itself says so, too.
    assert_eq!(place.points()[0]["warnings"], 1);
    assert!(place.run(&["check", "latest"]).status.success());
    let next = place.back_up(&[]);
    assert_eq!(next["kind"], "incremental");
}

#[test]
fn the_repository_is_no_source() {
    let place = Place::new();
    for path in [place.repository(), place.repository().join("config")] {
        let output = place.run(&["backup", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
    }
    assert_eq!(place.points(), Vec::<Value>::new());
}

#[test]
fn a_damaged_point_is_told_of_once_and_as_json_where_that_was_asked_for() {
    let place = Place::new();
    place.back_up(&[]);
    place.back_up(&[]);
    damage(&place.repository().join("points"));
    let source = place.source();
    let output = place.run(&["backup", "--json", source.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 1, "{told}");
    let warning: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(warning["type"], "warning");
}

#[test]
fn a_dry_run_names_the_set_and_takes_its_time() {
    let place = Place::new();
    let first = place.back_up(&[]);
    let dry = place.back_up(&["--dry-run"]);
    assert_eq!(dry["set"], first["set"]);
    assert!(dry["duration_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_is_wrong_with_the_arguments_is_json_where_that_was_asked_for() {
    let place = Place::new();
    let output = place.run(&["points", "--json", "--no-such-option"]);
    assert_eq!(output.status.code(), Some(2));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(
        (&error["type"], &error["exit_code"]),
        (&"error".into(), &2.into())
    );
}

#[test]
fn a_check_of_no_point_at_all_finds_nothing_out_and_says_so() {
    let place = Place::new();
    place.back_up(&[]);
    assert_eq!(
        place.run(&["check", "--host", "mistyped"]).status.code(),
        Some(2)
    );
}

/// Runs the program with `input` on its standard input.
fn run_with_input(place: &Place, arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    let mut child = place
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that refuses its arguments does not read.
            let _refused = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

#[track_caller]
fn told(output: &Output, exit_code: i32) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit_code), "{told}");
    told
}

fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

/// What `ls -R` lists of the latest point that lies in the source, without its path.
fn listed(place: &Place) -> Vec<String> {
    let output = place.run(&["ls", "-R", "latest"]);
    let start = format!("{}/", place.source().display());
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.lines().filter_map(|path| path.strip_prefix(&start));
    paths.map(ToOwned::to_owned).collect()
}

#[test]
fn a_stream_becomes_the_one_file_of_its_point_whatever_its_length() {
    let place = Place::new();
    // Nothing, inline, one chunk, several, and both sides of where extents go into lists.
    let span = 64 << 20;
    let all = noise(span + 1);
    for length in [0, 5, 10_000, 300_000, span, span + 1] {
        let bytes = &all[..length];
        let arguments = ["backup", "--stdin", "--stdin-name", "db/dump", "--json"];
        let output = run_with_input(&place, &arguments, bytes);
        assert_eq!(told(&output, 0), "");
        let point: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(point["bytes"], length);
        assert_eq!(point["paths"], serde_json::json!(["/db/dump"]));
        let file = place.json(&["ls", "latest", "/db", "--json"]);
        assert_eq!(
            (&file["size"], &file["mode"]),
            (&length.into(), &0o600.into())
        );
        // The same bytes from a file, which other code reads, are found to be the same.
        let file = place.source().join("same");
        std::fs::write(&file, bytes).unwrap();
        let same = place.json(&[
            "backup",
            "--json",
            "--as",
            "/db/dump",
            file.to_str().unwrap(),
        ]);
        assert_eq!(same["newly_uploaded_bytes"], 0, "{length}");
    }
    assert!(place.run(&["check", "--read-data"]).status.success());
}

#[test]
fn a_stream_that_brings_the_same_is_no_new_version() {
    let place = Place::new();
    let arguments = ["backup", "--stdin", "--stdin-name", "dump", "--json"];
    let times = || place.json(&["ls", "latest", "--json"])["mtime"].clone();
    run_with_input(&place, &arguments, b"the same");
    let first = times();
    run_with_input(&place, &arguments, b"the same");
    assert_eq!(times(), first, "its content came up then");
    assert_eq!(place.points().len(), 2);
    let skipping = [&arguments[..], &["--skip-if-unchanged"]].concat();
    told(&run_with_input(&place, &skipping, b"the same"), 0);
    assert_eq!(place.points().len(), 2);
    told(&run_with_input(&place, &skipping, b"another"), 0);
    assert_eq!(place.points().len(), 3);
    assert_ne!(times(), first);
}

#[test]
fn a_command_that_fails_commits_nothing_and_one_that_does_not_is_backed_up() {
    let place = Place::new();
    let start = [
        "backup",
        "--stdin-name",
        "dump",
        "--stdin-from-command",
        "--",
    ];
    let run = |command: &[&str]| place.run(&[&start[..], command].concat());
    let message = "bygone: the command sh failed (exit status: 3): nothing was committed\n";
    assert_eq!(told(&run(&["sh", "-c", "seq 100000; exit 3"]), 1), message);
    let message = "bygone: the command sh failed (signal: 9 (SIGKILL)): nothing was committed\n";
    assert_eq!(told(&run(&["sh", "-c", "echo a; kill -9 $$"]), 1), message);
    let message =
        "bygone: cannot run the command nonesuch: No such file or directory (os error 2)\n";
    assert_eq!(told(&run(&["nonesuch", "-x"]), 2), message);
    assert!(place.points().is_empty());
    assert_eq!(told(&run(&["seq", "-w", "1000"]), 0), "");
    assert_eq!(place.json(&["ls", "latest", "--json"])["size"], 5000);
}

#[test]
fn a_stream_that_never_ends_can_be_interrupted_and_its_command_ends_too() {
    let place = Place::new();
    let process = place.folder.path().join("process");
    let script = format!("echo $$ >{}; exec sleep 1000", process.display());
    let command = ["sh", "-c", &script];
    let start = [
        "backup",
        "--stdin-name",
        "dump",
        "--stdin-from-command",
        "--",
    ];
    let child = place
        .command(&[&start[..], &command].concat())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = || std::fs::read_to_string(&process).unwrap_or_default();
    wait_until("the command", || text().ends_with('\n'));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert!(told(&output, 130).contains("nothing was committed"));
    assert!(!Path::new("/proc").join(text().trim()).exists());
    assert!(place.points().is_empty());
}

#[test]
fn lists_name_what_is_backed_up_and_the_set() {
    let place = Place::new();
    let lines = place.folder.path().join("lines");
    std::fs::write(&lines, "source/kept\n\nsource/sub\n").unwrap();
    let point = place.json(&["backup", "--json", "--files-from", "lines"]);
    assert_eq!(listed(&place), ["kept", "sub", "sub/changed"]);
    assert_eq!(point["set"], lines.to_str().unwrap());

    std::fs::write(place.source().join("new\nline"), "x").unwrap();
    let input = b"source/new\nline\0source/kept\0";
    let arguments = ["backup", "--files-from0", "-", "--set", "recent"];
    told(&run_with_input(&place, &arguments, input), 0);
    // Of the name with a line's end in it, the second line begins otherwise.
    assert_eq!(listed(&place), ["kept", "new"]);

    // However many they are, the table of points stays one.
    let many: Vec<u8> = (0..20_000)
        .flat_map(|number| format!("source/gone-{number}\0").into_bytes())
        .collect();
    let many = [&many[..], b"source/kept\0"].concat();
    let arguments = ["backup", "-q", "--files-from0", "-", "--set", "recent"];
    let output = run_with_input(&place, &arguments, &many);
    assert_eq!(output.status.code(), Some(3), "most of them are gone");
    let listed = String::from_utf8(place.run(&["points"]).stdout).unwrap();
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.contains(" and 19993 more"), "{listed}");

    let refused = |arguments: &[&str]| told(&place.run(arguments), 2);
    let message =
        "bygone: cannot read the list of paths in gone: No such file or directory (os error 2)\n";
    assert_eq!(refused(&["backup", "--files-from", "gone"]), message);
    let message = "bygone: there is no path in /dev/null\n";
    assert_eq!(refused(&["backup", "--files-from", "/dev/null"]), message);
}

#[test]
fn what_is_named_is_backed_up_even_where_a_glob_or_a_marker_would_leave_it_out() {
    let place = Place::new();
    for name in ["a.o", "sub/b.o", "sub/.nobackup"] {
        std::fs::write(place.source().join(name), "x").unwrap();
    }
    let options = ["--exclude", "*.o", "--exclude-if-present", ".nobackup"];
    place.back_up(&options);
    assert_eq!(listed(&place), ["kept", "sub", "sub/.nobackup"]);
    let named = place.source().join("sub/b.o");
    place.back_up(&[&options[..], &[named.to_str().unwrap()]].concat());
    assert_eq!(listed(&place), ["kept", "sub", "sub/.nobackup", "sub/b.o"]);
}

#[test]
fn a_list_of_globs_that_is_not_there_is_a_wrong_request() {
    let place = Place::new();
    let output = place.run(&["backup", "--exclude-from", "gone", "source"]);
    let message = "bygone: cannot read the globs in gone: No such file or directory (os error 2)\n";
    assert_eq!(told(&output, 2), message);
}

#[test]
fn no_point_is_made_where_nothing_changed_if_that_was_asked_for() {
    let place = Place::new();
    let first = place.back_up(&["--skip-if-unchanged"]);
    assert!(first["id"].is_string(), "there was nothing to compare with");
    // It was read within the minute in which it was written: it is read again, and found to be the same.
    for kind in ["--incremental", "--full", "--differential"] {
        // A neighbour of the source's own makes another version of the directory above both, and is none of its business.
        std::fs::create_dir(place.source().with_file_name(kind)).unwrap();
        let skipped = place.back_up(&[kind, "--skip-if-unchanged"]);
        assert_eq!(skipped["unchanged_since"], first["id"], "{kind}");
    }
    assert_eq!(place.points().len(), 1);
    let dry = place.back_up(&["--skip-if-unchanged", "--dry-run"]);
    assert_eq!(dry["unchanged_since"], first["id"]);
    type Edit = fn(&Path);
    let edits: [(&str, Edit); 4] = [
        ("content", |source| {
            std::fs::write(source.join("kept"), "KEPT").unwrap()
        }),
        ("an empty directory", |source| {
            std::fs::create_dir(source.join("new")).unwrap()
        }),
        ("a mode", |source| {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(source.join("kept"), mode).unwrap();
        }),
        ("an end", |source| {
            std::fs::remove_file(source.join("sub/changed")).unwrap()
        }),
    ];
    for (what, edit) in edits {
        edit(&place.source());
        let point = place.back_up(&["--skip-if-unchanged"]);
        assert!(point["id"].is_string(), "{what}");
    }
    let excluded = place.back_up(&["--skip-if-unchanged", "--exclude", "kept"]);
    assert!(
        excluded["id"].is_string(),
        "what is newly left out is a change"
    );
}

#[test]
fn a_time_zone_that_is_not_known_is_warned_of() {
    let place = Place::new();
    let output = place
        .command(&["points"])
        .env("TZ", "Nowhere/At_all")
        .output()
        .unwrap();
    let message = "bygone: warning: TZ names a time zone that is not known here, Nowhere/At_all: times are in UTC\n";
    assert_eq!(told(&output, 0), message);
    for zone in ["", "UTC", "CET-1CEST,M3.5.0,M10.5.0/3"] {
        let output = place.command(&["points"]).env("TZ", zone).output().unwrap();
        assert_eq!(told(&output, 0), "", "{zone}");
    }
}
