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
fn a_second_restore_writes_nothing_but_what_was_changed() {
    let (chain, out) = (chain(), Out::new());
    let point = chain.points.last().unwrap();
    let target = out.path("out");
    let all = all_of(chain, point);
    let first = restored(0, &[&all, "--target", path_text(&target), "--verify"]);
    assert!(first["files"].as_u64().unwrap() > 20, "{first}");
    let second = restored(0, &[&all, "--target", path_text(&target)]);
    for nothing in [
        "files",
        "bytes",
        "directories",
        "others",
        "links",
        "metadata",
    ] {
        assert_eq!(second[nothing], 0, "{nothing}: {second}");
    }
    let total = |report: &serde_json::Value| {
        ["files", "others", "links", "unchanged"]
            .map(|name| report[name].as_u64().unwrap())
            .iter()
            .sum::<u64>()
    };
    assert_eq!(total(&first), total(&second));
    assert_eq!(
        first["verified"],
        first["files"].as_u64().unwrap() + first["links"].as_u64().unwrap()
    );

    // Of the same size and time: only who reads it can tell.
    let letter = target.join("own/letter");
    let mtime = fs::metadata(&letter).unwrap().modified().unwrap();
    let bytes = fs::read(&letter).unwrap();
    fs::write(&letter, bytes.to_ascii_uppercase()).unwrap();
    fs::File::open(&letter)
        .unwrap()
        .set_modified(mtime)
        .unwrap();
    let seen = restored(0, &[&all, "--target", path_text(&target)]);
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
        &[
            &all_of(chain, point),
            "own/letter",
            "--target",
            path_text(&target),
        ],
    );
    let names = run("find", &[path_text(&target), "-printf", "%P "]);
    assert_eq!(names, " own own/letter ");

    let target = out.path("file");
    let subtree = format!("{}:{own}/letter", point.id);
    restored(0, &[&subtree, "--target", path_text(&target)]);
    let read = |path: PathBuf| fs::read(path).unwrap();
    assert_eq!(
        read(target.join("letter")),
        read(point.tree.join("own/letter"))
    );
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
    assert_eq!(
        run("find", &[path_text(&outside), "-printf", "%p %m %T@ %s\n"]),
        before
    );
    for rule in ["skip", "rename", "overwrite", "if-newer"] {
        let target = out.path(rule);
        fs::create_dir(&target).unwrap();
        symlink(&outside, target.join("project")).unwrap();
        let all = all_of(chain, point);
        restored(
            0,
            &[&all, "--on-conflict", rule, "--target", path_text(&target)],
        );
        let now = run("find", &[path_text(&outside), "-printf", "%p %m %T@ %s\n"]);
        assert_eq!(now, before, "{rule}");
    }
}

/// A folder with what is in the way of `own`, and what was restored over it by this rule.
fn with_conflicts(rule: &str) -> (Out, PathBuf, serde_json::Value) {
    let (chain, out) = (chain(), Out::new());
    let target = out.path("out");
    let at = |name: &str| target.join(name);
    fs::create_dir(&target).unwrap();
    fs::write(at("letter"), "mine, and newer").unwrap();
    fs::write(at("script"), "mine, and older").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
    fs::File::open(at("script"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    fs::write(at("link"), "no link").unwrap();
    fs::write(at("folder"), "no folder").unwrap();
    fs::create_dir(at("turns")).unwrap();
    fs::write(at("extra"), "the point has no such thing").unwrap();
    let point = chain.points.last().unwrap();
    let all = format!("{}:{}", point.id, chain.path("own"));
    let report = restored(
        0,
        &[&all, "--on-conflict", rule, "--target", path_text(&target)],
    );
    (out, target, report)
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn what_is_in_the_way_is_replaced_by_default_and_when_told_to() {
    let own = chain().points.last().unwrap().tree.join("own");
    for rule in ["if-changed", "overwrite"] {
        let (_out, target, report) = with_conflicts(rule);
        assert_eq!(
            differences(&own, &target),
            "*deleting   extra\n",
            "{rule}: {report}"
        );
        assert_eq!(report["errors"], 0);
    }
}

#[test]
fn what_is_in_the_way_is_left_if_so_told() {
    let (_out, target, report) = with_conflicts("skip");
    assert_eq!(text(target.join("letter")), "mine, and newer");
    assert_eq!(text(target.join("script")), "mine, and older");
    assert_eq!(text(target.join("folder")), "no folder");
    assert!(target.join("turns").is_dir() && target.join("large").is_file());
    assert!(report["skipped"].as_u64().unwrap() >= 6, "{report}");
}

#[test]
fn what_is_in_the_way_is_replaced_only_by_what_is_newer_if_so_told() {
    let (_out, target, _) = with_conflicts("if-newer");
    assert_eq!(text(target.join("letter")), "mine, and newer");
    assert_eq!(text(target.join("script")), "#!/bin/sh\necho a script\n");
}

#[test]
fn what_is_in_the_way_stays_and_the_points_come_beside_it_if_so_told() {
    let chain = chain();
    let point = chain.points.last().unwrap();
    let (_out, target, report) = with_conflicts("rename");
    let beside = |name: &str| target.join(format!("{name}.restored-{}", point.id));
    assert_eq!(text(target.join("letter")), "mine, and newer");
    assert_eq!(text(beside("letter")), "Dear Selene,\n");
    assert_eq!(text(target.join("folder")), "no folder");
    assert_eq!(text(beside("folder").join("deep/leaf")), "back again\n");
    assert_eq!(report["renamed"], 5, "{report}");
    // Once more: all is there, under one name or the other.
    let all = format!("{}:{}", point.id, chain.path("own"));
    let again = restored(
        0,
        &[
            &all,
            "--on-conflict",
            "rename",
            "--target",
            path_text(&target),
        ],
    );
    assert_eq!(
        (&again["files"], &again["errors"]),
        (&0.into(), &0.into()),
        "{again}"
    );
}

#[test]
fn a_directory_with_things_in_it_makes_way_for_a_file_only_with_delete() {
    let (chain, out) = (chain(), Out::new());
    let target = out.path("out");
    fs::create_dir_all(target.join("letter")).unwrap();
    fs::write(target.join("letter/inside"), "something").unwrap();
    let point = chain.points.last().unwrap();
    let all = format!("{}:{}", point.id, chain.path("own"));
    let report = restored(3, &[&all, "--target", path_text(&target)]);
    assert_eq!(report["errors"], 1, "{report}");
    assert_eq!(text(target.join("letter/inside")), "something");
    assert_eq!(
        fs::read_dir(&target)
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with(".bygone-")
            })
            .count(),
        0
    );
    restored(0, &[&all, "--delete", "--target", path_text(&target)]);
    assert_restored(&point.tree.join("own"), &target);
}

#[test]
fn a_dry_run_tells_what_a_restore_does_and_does_nothing() {
    let (chain, out) = (chain(), Out::new());
    let target = out.path("out");
    let all = all_of(chain, chain.points.last().unwrap());
    let counts = |mut report: serde_json::Value| {
        report.as_object_mut().unwrap().remove("dry_run");
        report
    };
    for before in 0..2 {
        let planned = restored(0, &[&all, "--dry-run", "--target", path_text(&target)]);
        assert_eq!(planned["dry_run"], true);
        assert_eq!(target.exists(), before > 0);
        let done = restored(0, &[&all, "--target", path_text(&target)]);
        assert_eq!(counts(planned), counts(done));
    }
    fs::write(target.join("own/extra"), "extra").unwrap();
    fs::remove_file(target.join("own/letter")).unwrap();
    let planned = restored(
        0,
        &[
            &all,
            "--dry-run",
            "--delete",
            "--target",
            path_text(&target),
        ],
    );
    assert_eq!(
        (&planned["files"], &planned["deleted"]),
        (&1.into(), &1.into()),
        "{planned}"
    );
    assert!(target.join("own/extra").exists() && !target.join("own/letter").exists());
}

#[test]
fn globs_choose_and_leave_out_and_protect_from_delete() {
    let (chain, out) = (chain(), Out::new());
    let point = chain.points.last().unwrap();
    let all = all_of(chain, point);
    let files = |target: &Path| {
        let printed = run(
            "find",
            &[
                path_text(target),
                "-name",
                "[a-z]*",
                "!",
                "-name",
                "no*",
                "-type",
                "f",
                "-printf",
                "%P\n",
            ],
        );
        let mut names: Vec<String> = printed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let target = out.path("included");
    restored(
        0,
        &[
            &all,
            "--include",
            "leaf",
            "--include",
            "/own/one",
            "--target",
            path_text(&target),
        ],
    );
    assert_eq!(files(&target), ["own/folder/deep/leaf", "own/one"]);
    let directories = run(
        "find",
        &[path_text(&target), "-type", "d", "-printf", "%P %T@\n"],
    );
    let expected = ["", "own", "own/folder", "own/folder/deep"];
    let names: Vec<&str> = directories
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(names, expected);
    assert_eq!(
        fs::metadata(target.join("own"))
            .unwrap()
            .modified()
            .unwrap(),
        fs::metadata(point.tree.join("own"))
            .unwrap()
            .modified()
            .unwrap()
    );

    let target = out.path("excluded");
    let excludes = ["--exclude", "/project/", "--exclude", "*r*"];
    restored(
        0,
        &[
            &[all.as_str()],
            &excludes[..],
            &["--target", path_text(&target)],
        ]
        .concat(),
    );
    let names = files(&target);
    assert!(names.contains(&"own/one".to_owned()) && !names.contains(&"own/letter".to_owned()));
    assert!(!target.join("project").exists() && !target.join("own/folder").exists());
    fs::write(target.join("own/remarks"), "left out, so not taken away").unwrap();
    fs::write(target.join("own/added"), "taken away").unwrap();
    let report = restored(
        0,
        &[
            &[all.as_str(), "--delete"],
            &excludes[..],
            &["--target", path_text(&target)],
        ]
        .concat(),
    );
    assert_eq!(report["deleted"], 1, "{report}");
    assert!(target.join("own/remarks").exists() && !target.join("own/added").exists());
}

#[test]
fn holes_are_kept_and_made_of_zeros_if_wished() {
    use std::os::unix::fs::FileExt;
    let machine = crate::machine::Machine::new();
    let source = machine.folder("source");
    let zeros = fs::File::create(source.join("zeros")).unwrap();
    zeros.write_all_at(&vec![0; 4 << 20], 0).unwrap();
    zeros.write_all_at(b"an end", 4 << 20).unwrap();
    let mixed = fs::File::create(source.join("mixed")).unwrap();
    mixed.write_all_at(b"a beginning", 0).unwrap();
    mixed.write_all_at(&vec![0; 40_000], 20_000).unwrap();
    mixed.set_len(64 << 20).unwrap();
    let point = machine.back_up_with(&[path_text(&source)]);
    let subtree = format!("{point}:{}", path_text(&source));
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    for (options, name) in [(&[][..], "plain"), (&["--sparse"], "sparse")] {
        let target = machine.path(name);
        let to = [
            "restore",
            &subtree,
            "--verify",
            "--target",
            path_text(&target),
        ];
        machine.done(&[&to[..], options].concat());
        assert_restored(&source, &target);
        assert!(blocks(&target.join("mixed")) < 1024);
        let is_sparse = !options.is_empty();
        assert_eq!(blocks(&target.join("zeros")) < 1024, is_sparse, "{name}");
        assert!(!is_sparse || blocks(&target.join("mixed")) <= 8);
    }
}

#[test]
fn in_place_is_where_the_point_recorded_it_and_delete_takes_a_path() {
    let machine = crate::machine::Machine::new();
    let source = machine.folder("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/file"), "as it was").unwrap();
    fs::write(source.join("gone"), "to come back").unwrap();
    let kept = machine.path("kept");
    let point = machine.back_up_with(&[path_text(&source)]);
    run("cp", &["-a", path_text(&source), path_text(&kept)]);
    fs::write(source.join("a/b/file"), "as it became").unwrap();
    fs::remove_file(source.join("gone")).unwrap();
    fs::write(source.join("a/added"), "new").unwrap();
    let above = fs::metadata(machine.path(".")).unwrap().modified().unwrap();
    let refused = machine.refused(2, &["restore", &point, "--in-place", "--delete"]);
    assert!(refused.contains("takes a PATH"), "{refused}");
    machine.done(&["restore", &point, "--in-place"]);
    assert_eq!(differences(&kept, &source), "*deleting   a/added\n");
    fs::write(source.join("a/added"), "new").unwrap();
    fs::write(source.join("stays"), "beside what was named").unwrap();
    let folder = source.join("a");
    machine.done(&[
        "restore",
        &point,
        path_text(&folder),
        "--in-place",
        "--delete",
    ]);
    assert_restored(&kept.join("a"), &folder);
    assert!(source.join("stays").exists());
    assert_eq!(
        fs::metadata(machine.path(".")).unwrap().modified().unwrap(),
        above
    );
}
