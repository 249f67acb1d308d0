//! `bygone restore`, held against the plain trees by rsync.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::chain::{Chain, Kept, chain};
use crate::machine::{path_text, run};

/// Where a test restores to, taken away at its end.
struct Out(tempfile::TempDir);

impl Out {
    fn new() -> Self {
        let prefix = "bygone-restored-";
        Self(tempfile::Builder::new().prefix(prefix).tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// What rsync would do to make `found` what `tree` is: nothing, if it is.
fn differences(tree: &Path, found: &Path) -> String {
    let (tree, found) = (tree.join(""), found.join(""));
    let options = ["-naHAXi", "--checksum", "--delete"];
    run(
        "rsync",
        &[&options[..], &[path_text(&tree), path_text(&found)]].concat(),
    )
}

fn assert_restored(tree: &Path, found: &Path) {
    assert_eq!(differences(tree, found), "", "{}", found.display());
}

/// POINT:PATH of the whole source.
fn all_of(chain: &Chain, point: &Kept) -> String {
    format!("{}:{}", point.id, path_text(&chain.source))
}

/// The summary of a restore, which ends with this exit code.
fn restored(exit_code: i32, arguments: &[&str]) -> serde_json::Value {
    let printed = chain().ends(exit_code, &[&["restore", "--json"], arguments].concat());
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn every_point_is_restored_as_it_was() {
    let (chain, out) = (chain(), Out::new());
    for point in &chain.points {
        let target = out.path(&point.id);
        let report = restored(0, &[&all_of(chain, point), "--target", path_text(&target)]);
        assert_restored(&point.tree, &target);
        assert_eq!(report["errors"], 0, "{report}");
    }
}

#[test]
fn one_point_after_another_into_one_folder_with_delete_is_each_of_them() {
    let (chain, out) = (chain(), Out::new());
    let target = out.path("out");
    for point in chain.points.iter().rev() {
        let report = restored(
            0,
            &[
                &all_of(chain, point),
                "--delete",
                "--target",
                path_text(&target),
            ],
        );
        assert_restored(&point.tree, &target);
        assert_eq!(report["errors"], 0, "{report}");
    }
}

#[test]
fn a_second_restore_writes_nothing_and_a_verified_one_finds_a_changed_byte() {
    let (chain, out) = (chain(), Out::new());
    let point = chain.points.last().unwrap();
    let target = out.path("out");
    let all = all_of(chain, point);
    let first = restored(0, &[&all, "--target", path_text(&target), "--verify"]);
    assert!(first["files"].as_u64().unwrap() > 20, "{first}");
    let second = restored(0, &[&all, "--target", path_text(&target)]);
    for nothing in ["files", "bytes", "directories", "others", "links", "metadata"] {
        assert_eq!(second[nothing], 0, "{nothing}: {second}");
    }
    let total = |report: &serde_json::Value| {
        ["files", "others", "links", "unchanged"]
            .map(|name| report[name].as_u64().unwrap())
            .iter()
            .sum::<u64>()
    };
    assert_eq!(total(&first), total(&second));
    assert_eq!(first["verified"], first["files"].as_u64().unwrap() + first["links"].as_u64().unwrap());

    // Of the same size and time: only who reads it can tell.
    let letter = target.join("own/letter");
    let mtime = fs::metadata(&letter).unwrap().modified().unwrap();
    let bytes = fs::read(&letter).unwrap();
    fs::write(&letter, bytes.to_ascii_uppercase()).unwrap();
    fs::File::open(&letter).unwrap().set_modified(mtime).unwrap();
    let blind = restored(0, &[&all, "--target", path_text(&target)]);
    assert_eq!(blind["files"], 0, "{blind}");
    let seen = restored(0, &[&all, "--target", path_text(&target), "--verify"]);
    assert_eq!(seen["files"], 1, "{seen}");
    assert_restored(&point.tree, &target);
}

#[test]
fn a_path_lands_below_the_target_by_its_whole_path_and_point_colon_path_is_the_root() {
    let (chain, out) = (chain(), Out::new());
    let point = chain.points.last().unwrap();
    let own = chain.path("own");
    let target = out.path("whole");
    let report = restored(0, &[&point.id, &own, "--target", path_text(&target)]);
    assert_eq!(report["errors"], 0);
    let landed = target.join(own.trim_start_matches('/'));
    assert_restored(&point.tree.join("own"), &landed);
    let above = landed.parent().unwrap();
    assert_eq!(fs::read_dir(above).unwrap().count(), 1);
    assert_eq!(
        fs::metadata(above).unwrap().mtime_nsec(),
        fs::metadata(&point.tree).unwrap().mtime_nsec()
    );

    let target = out.path("root");
    let subtree = format!("{}:{own}", point.id);
    restored(0, &[&subtree, "--target", path_text(&target)]);
    assert_restored(&point.tree.join("own"), &target);

    let target = out.path("inner");
    restored(
        0,
        &[&all_of(chain, point), "own/letter", "--target", path_text(&target)],
    );
    let names = run("find", &[path_text(&target), "-printf", "%P "]);
    assert_eq!(names, " own own/letter ");

    let target = out.path("file");
    let subtree = format!("{}:{own}/letter", point.id);
    restored(0, &[&subtree, "--target", path_text(&target)]);
    let read = |path: PathBuf| fs::read(path).unwrap();
    assert_eq!(read(target.join("letter")), read(point.tree.join("own/letter")));
}

#[test]
fn a_symlink_in_the_target_is_never_followed() {
    let (chain, out) = (chain(), Out::new());
    let point = chain.points.last().unwrap();
    let (target, outside) = (out.path("out"), out.path("outside"));
    fs::create_dir_all(target.join("own")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, Permissions::from_mode(0o750)).unwrap();
    fs::write(outside.join("secret"), "not to be touched").unwrap();
    // Where a directory belongs, where a file belongs, and where something is made before it is renamed.
    symlink(&outside, target.join("project")).unwrap();
    symlink(outside.join("secret"), target.join("own/letter")).unwrap();
    let before = run("find", &[path_text(&outside), "-printf", "%p %m %T@ %s\n"]);
    let report = restored(0, &[&all_of(chain, point), "--target", path_text(&target)]);
    assert_eq!(report["errors"], 0, "{report}");
    assert_restored(&point.tree, &target);
    let after = run("find", &[path_text(&outside), "-printf", "%p %m %T@ %s\n"]);
    assert_eq!(before, after);

    // On the way to what was named nothing is replaced, and nothing is followed.
    let elsewhere = out.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let own = chain.path("own");
    let first = own.trim_start_matches('/').split('/').next().unwrap();
    symlink(&outside, elsewhere.join(first)).unwrap();
    let report = restored(3, &[&point.id, &own, "--target", path_text(&elsewhere)]);
    assert_ne!(report["errors"], 0);
    assert_eq!(run("find", &[path_text(&outside), "-printf", "%p %m %T@ %s\n"]), before);
    for rule in ["skip", "rename", "overwrite", "if-newer"] {
        let target = out.path(rule);
        fs::create_dir(&target).unwrap();
        symlink(&outside, target.join("project")).unwrap();
        let all = all_of(chain, point);
        restored(0, &[&all, "--on-conflict", rule, "--target", path_text(&target)]);
        let now = run("find", &[path_text(&outside), "-printf", "%p %m %T@ %s\n"]);
        assert_eq!(now, before, "{rule}");
    }
}
