//! `bygone restore` of random trees, through random edits and points of all kinds: what comes back is what was seen of the
//! source, metadata included, whatever was there before, and after however many deaths.
//!
//! The seed is printed; `BYGONE_TEST_SEED=N` repeats a run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::edits::Editor;
use crate::machine::{Machine, path_text, run};
use crate::random::Random;
use crate::snapshot::{Seen, Snapshot, assert_same, snapshot};

/// A tree that changes, and a repository for it.
struct Trees {
    machine: Machine,
    editor: Editor,
}

impl Trees {
    fn new(test: u64, entries: usize) -> Self {
        let seed = match std::env::var("BYGONE_TEST_SEED") {
            Ok(seed) => seed.parse().expect("BYGONE_TEST_SEED is a number"),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                Random::new(now.as_nanos() as u64 ^ test).next()
            }
        };
        println!("seed {seed} (BYGONE_TEST_SEED={seed} repeats this run)");
        let machine = Machine::new();
        let editor = Editor::create(machine.path("random"), seed, entries, 0);
        Self { machine, editor }
    }

    fn back_up(&self, kind: &str) -> String {
        self.machine
            .back_up_with(&[kind, path_text(&self.editor.root)])
    }

    /// POINT:PATH of the whole tree.
    fn all(&self, point: &str) -> String {
        format!("{point}:{}", path_text(&self.editor.root))
    }

    fn restore(&self, point: &str, target: &Path, options: &[&str]) {
        let all = self.all(point);
        let arguments = ["restore", "-q", &all, "--target", path_text(target)];
        self.machine.done(&[&arguments[..], options].concat());
    }
}

/// Nobody can set a file's ctime, and blocks are its file system's own matter.
fn restorable(seen: &mut Seen) {
    seen.ctime = (0, 0);
    seen.blocks = 0;
}

fn assert_restored(what: &str, expected: &Snapshot, target: &Path) {
    assert_same(what, expected, &snapshot(target), restorable);
}

fn plain_copy(from: &Path, to: &Path) {
    run("cp", &["-a", path_text(from), path_text(to)]);
}

/// What rsync finds to differ.
fn differences(tree: &Path, found: &Path) -> String {
    let (tree, found) = (tree.join(""), found.join(""));
    let places = [path_text(&tree), path_text(&found)];
    run(
        "rsync",
        &[&["-naHAXi", "--checksum", "--delete"][..], &places].concat(),
    )
}

#[test]
fn random_trees_come_back_into_a_new_folder_and_over_what_another_point_left() {
    let mut trees = Trees::new(1, 400);
    let mut kept: Vec<(String, Snapshot, PathBuf)> = Vec::new();
    for number in 0..16 {
        let kind = match number % 5 {
            0 => "--full",
            3 => "--differential",
            _ => "--incremental",
        };
        let point = trees.back_up(kind);
        let copy = trees.machine.path(format!("copy-{number}"));
        plain_copy(&trees.editor.root, &copy);
        kept.push((point, snapshot(&trees.editor.root), copy));
        trees.editor.edit(60);
    }
    let over = trees.machine.path("over");
    for (number, (point, seen, copy)) in kept.iter().enumerate() {
        let new = trees.machine.path(format!("new-{number}"));
        trees.restore(point, &new, &[]);
        assert_restored(&format!("point {number} in a new folder"), seen, &new);
        assert_eq!(differences(copy, &new), "", "point {number}");
        trees.restore(point, &over, &["--delete", "--verify"]);
        assert_restored(&format!("point {number} over the one before"), seen, &over);
    }
}

#[test]
fn a_restore_that_is_killed_again_and_again_is_whole_in_the_end() {
    let mut trees = Trees::new(2, 3000);
    trees.editor.edit(200);
    let point = trees.back_up("--full");
    let seen = snapshot(&trees.editor.root);
    let copy = trees.machine.path("copy");
    plain_copy(&trees.editor.root, &copy);
    let target = trees.machine.path("out");
    let all = trees.all(&point);
    let (mut deaths, mut wait) = (0, Duration::from_millis(20));
    loop {
        let mut child = trees
            .machine
            .bygone(&["restore", "-q", &all, "--target", path_text(&target)])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(wait);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        deaths += 1;
        wait += Duration::from_millis(20);
        if deaths % 4 != 0 {
            continue;
        }
        // Whatever is there under its own name is whole.
        let there = differences(&copy, &target);
        let torn: Vec<&str> = there
            .lines()
            .filter(|line| line.starts_with(">fc"))
            .collect();
        assert_eq!(torn, Vec::<&str>::new());
    }
    println!("killed {deaths} times");
    assert!(deaths > 2);
    trees.restore(&point, &target, &[]);
    assert_restored("after all deaths", &seen, &target);
    assert_eq!(differences(&copy, &target), "");
}

/// A tree of files that are alike here and there, and large ones.
fn alike(machine: &Machine) -> PathBuf {
    let source = machine.folder("alike");
    let mut random = Random::new(5);
    let large = random.bytes(6 << 20);
    let small: Vec<Vec<u8>> = (0..40).map(|_| random.bytes(3000)).collect();
    for number in 0..6 {
        let folder = source.join(format!("folder-{number}"));
        std::fs::create_dir(&folder).unwrap();
        for (number, bytes) in small.iter().enumerate() {
            std::fs::write(folder.join(format!("small-{number}")), bytes).unwrap();
        }
        std::fs::write(folder.join("large"), &large[number << 10..]).unwrap();
    }
    source
}

#[test]
fn each_chunk_is_fetched_and_opened_once_however_many_files_share_it() {
    use bygone::base::Silent;
    use bygone::ops::restore::{OnConflict, RestoreOptions, restore};
    use bygone::store::{LocalStore, Recording, Store};
    use std::sync::Arc;

    let machine = Machine::new();
    let source = alike(&machine);
    machine.back_up_with(&[path_text(&source)]);
    let store = Arc::new(LocalStore::open(&machine.path("repository")).unwrap());
    let recording = Arc::new(Recording::new(store.clone()));
    let repository = crate::encryption::open(recording.clone()).unwrap();
    let point = bygone::repo::points(&repository).unwrap().remove(0);
    recording.take();
    let target = machine.path("out");
    let options = RestoreOptions {
        subtree: bygone::base::Key::from_path(path_text(&source).as_bytes()).unwrap(),
        paths: Vec::new(),
        target: Some(target.clone()),
        dry_run: false,
        on_conflict: OnConflict::IfChanged,
        delete: false,
        verify: false,
        include: Vec::new(),
        exclude: Vec::new(),
        sparse: false,
        owner: true,
        threads: 4,
        tells_each: false,
    };
    let report = restore(&repository, &point, &options, &Silent).unwrap();
    assert_eq!((report.files, report.errors), (6 * 41, 0));
    assert_eq!(differences(&source, &target), "");
    let asked = recording.take();
    let fetched: u64 = asked
        .iter()
        .filter(|request| request.name.starts_with("packs/"))
        .map(|request| request.bytes)
        .sum();
    let packs = store.list("packs/", "").unwrap();
    let stored: u64 = packs.iter().map(|listed| listed.length).sum();
    assert!(fetched > 0 && fetched <= stored, "{fetched} of {stored}");
    // Run again, nothing is fetched.
    restore(&repository, &point, &options, &Silent).unwrap();
    let asked = recording.take();
    assert!(
        !asked
            .iter()
            .any(|request| request.name.starts_with("packs/"))
    );
}

#[test]
fn damage_costs_the_files_that_it_is_in_and_nothing_else() {
    let machine = Machine::new();
    let source = alike(&machine);
    std::fs::write(source.join("precious"), Random::new(9).bytes(200_000)).unwrap();
    let point = machine.back_up_with(&["--full", path_text(&source)]);
    // Of a point that has the rest, only what is new is in the last pack.
    let lost = source.join("lost");
    std::fs::write(&lost, Random::new(11).bytes(300_000)).unwrap();
    let before = run(
        "find",
        &[path_text(&machine.path("repository/packs")), "-type", "f"],
    );
    let later = machine.back_up_with(&[path_text(&source)]);
    let after = run(
        "find",
        &[path_text(&machine.path("repository/packs")), "-type", "f"],
    );
    let new: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(line))
        .collect();
    assert!(!new.is_empty());
    for pack in new {
        std::fs::write(pack, "nothing of it is left").unwrap();
    }
    let target = machine.path("out");
    let all = format!("{later}:{}", path_text(&source));
    let told = machine.refused(3, &["restore", &all, "--target", path_text(&target)]);
    assert_eq!(told.matches("warning").count(), 1, "{told}");
    assert!(told.contains("out/lost: "), "{told}");
    let left: Vec<String> = differences(&source, &target)
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(left, [">f+++++++++ lost"]);
    let archive = machine.refused(3, &["dump", &later, path_text(&source)]);
    assert!(archive.contains("lost: "), "{archive}");
    machine.refused(20, &["dump", &later, path_text(&lost)]);
    machine.done(&[
        "restore",
        &point,
        path_text(&source),
        "--target",
        path_text(&machine.path("fine")),
    ]);
}

#[test]
fn a_full_disk_ends_it_and_leaves_nothing_torn() {
    let machine = Machine::new();
    let source = alike(&machine);
    let point = machine.back_up_with(&[path_text(&source)]);
    let small = machine.mount_memory("small");
    run("mount", &["-o", "remount,size=8m", path_text(&small)]);
    let all = format!("{point}:{}", path_text(&source));
    let told = machine.refused(15, &["restore", &all, "--target", path_text(&small)]);
    assert!(told.contains("No space left"), "{told}");
    let parts = run("find", &[path_text(&small), "-name", "*.part"]);
    assert_eq!(parts, "");
    run("mount", &["-o", "remount,size=80m", path_text(&small)]);
    machine.done(&["restore", &all, "--target", path_text(&small)]);
    assert_eq!(differences(&source, &small), "");
}

#[test]
fn an_interrupt_ends_it_leaving_nothing_half_made() {
    let mut trees = Trees::new(3, 3000);
    trees.editor.edit(10);
    let point = trees.back_up("--full");
    let target = trees.machine.path("out");
    let all = trees.all(&point);
    let mut child = trees
        .machine
        .bygone(&["restore", "-q", &all, "--target", path_text(&target)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !target.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(30));
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(
        status.code(),
        Some(130),
        "it was done before it could be interrupted"
    );
    assert_eq!(run("find", &[path_text(&target), "-name", "*.part"]), "");
}

#[test]
fn who_may_not_give_files_away_restores_what_is_theirs() {
    let machine = Machine::new();
    let source = machine.folder("shared");
    std::fs::write(source.join("theirs"), "of another user").unwrap();
    std::os::unix::fs::chown(source.join("theirs"), Some(1234), Some(1234)).unwrap();
    std::fs::create_dir(source.join("closed")).unwrap();
    std::fs::write(source.join("closed/inside"), "in a folder that is closed").unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    std::fs::set_permissions(source.join("closed"), closed).unwrap();
    let point = machine.back_up_with(&[path_text(&source)]);
    run(
        "chmod",
        &["-R", "a+rX", path_text(&machine.path("repository"))],
    );
    let out = machine.folder("out");
    let state = machine.folder("other-state");
    run("chmod", &["777", path_text(&out), path_text(&state)]);
    let line = |options: &str| {
        format!(
            "XDG_STATE_HOME={} BYGONE_CONFIG= {} -r {} restore {point}:{} --target {}/restored {options}",
            state.display(),
            env!("CARGO_BIN_EXE_bygone"),
            machine.path("repository").display(),
            source.display(),
            out.display()
        )
    };
    if !crate::machine::other_user_can(&format!("test -x {}", env!("CARGO_BIN_EXE_bygone"))) {
        panic!("this test runs the program as another user, who cannot reach it");
    }
    for _ in 0..2 {
        assert!(
            !crate::machine::other_user_can(&line("")),
            "theirs cannot be given away"
        );
        assert!(crate::machine::other_user_can(&line("--no-owner")));
    }
    let left = run(
        "rsync",
        &[
            "-nrlptDi",
            "--checksum",
            "--delete",
            path_text(&source.join("")),
            path_text(&out.join("restored/")),
        ],
    );
    assert_eq!(left, "");
}
