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
