//! `bygone diff`, against rsync(1), diff(1) and patch(1) on the plain trees.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;

use serde_json::Value;

use crate::chain::{Chain, Kept, chain};
use crate::itemized;
use crate::machine::{Machine, path_text, run};

/// Differences by their paths: how they differ, and what of it.
type Told = BTreeMap<Vec<u8>, (String, Vec<String>)>;

/// What `bygone diff` tells, by the path below `top`: how it differs, and what of it.
fn told(objects: &[Value], top: &Path) -> Told {
    let top = top.as_os_str().as_bytes();
    let by_path = objects.iter().map(|object| {
        let path = path_of(object);
        let below = path.strip_prefix(top).unwrap();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let change = object["change"].as_str().unwrap().to_owned();
        let what = match &change[..] {
            "changed" => words(&object["what"]),
            _ => Vec::new(),
        };
        (below.to_vec(), (change, what))
    });
    by_path.collect()
}

/// The bytes of the path in an object.
fn path_of(object: &Value) -> Vec<u8> {
    match object["path_hex"].as_str() {
        None => object["path"].as_str().unwrap().as_bytes().to_vec(),
        Some(digits) => {
            let pairs = (0..digits.len()).step_by(2);
            let bytes = pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
            [b"/".to_vec(), bytes.collect()].concat()
        }
    }
}

fn words(list: &Value) -> Vec<String> {
    let words = list.as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

fn expected(old: &Path, new: &Path) -> Told {
    let differences = itemized::differences(old, new).into_iter();
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    differences
        .map(|(path, (change, what))| (path, (change.to_owned(), owned(what))))
        .collect()
}

/// Panics with what only one of the two has.
fn assert_same(told: &Told, expected: &Told) {
    let only = |one: &Told, other: &Told| -> Vec<String> {
        let only = one
            .iter()
            .filter(|(path, difference)| other.get(*path) != Some(difference));
        only.map(|(path, difference)| format!("{} {difference:?}", path.escape_ascii()))
            .collect()
    };
    let (ours, theirs) = (only(told, expected), only(expected, told));
    assert!(
        ours.is_empty() && theirs.is_empty(),
        "told: {ours:#?}\nexpected: {theirs:#?}"
    );
}

/// Compares two points and their trees; returns how many paths differ.
fn compare(chain: &Chain, old: &Kept, new: &Kept) -> usize {
    let expected = expected(&old.tree, &new.tree);
    let exit_code = i32::from(!expected.is_empty());
    let objects = chain.objects(exit_code, &["diff", "--json", &old.id, &new.id]);
    let told = told(&objects, &chain.source);
    assert_same(&told, &expected);
    for object in &objects {
        check_sizes(object, old, new, chain);
    }
    objects.len()
}

fn check_sizes(object: &Value, old: &Kept, new: &Kept, chain: &Chain) {
    for (kept, field) in [(old, "old_size"), (new, "new_size")] {
        let path = path_of(object);
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        let below = path.strip_prefix(&chain.source).unwrap();
        match kept.tree.join(below).symlink_metadata() {
            Err(_) => assert!(object[field].is_null(), "{object}"),
            Ok(stat) if stat.is_dir() => {}
            Ok(stat) => assert_eq!(object[field], stat.len(), "{object}"),
        }
    }
}

#[test]
fn neighbours_and_distant_points_differ_in_what_rsync_says() {
    let chain = chain();
    let mut differences = 0;
    for pair in chain.points.windows(2) {
        differences += compare(chain, &pair[0], &pair[1]);
    }
    assert!(differences > 100, "{differences}");
    // Across fulls and differentials, and back in time.
    for (old, new) in [
        (0, 23),
        (23, 0),
        (4, 11),
        (12, 14),
        (6, 20),
        (20, 6),
        (9, 10),
    ] {
        compare(chain, &chain.points[old], &chain.points[new]);
    }
}

#[test]
fn a_point_does_not_differ_from_itself() {
    let chain = chain();
    for point in ["latest", "latest~5"] {
        assert_eq!(chain.done(&["diff", point, point]), "");
        assert_eq!(chain.done(&["diff", point, point, "--json"]), "");
        assert_eq!(chain.done(&["diff", point, point, "--stat"]), "");
    }
}

#[test]
fn what_changed_is_told_of_each_change_of_our_own() {
    let chain = chain();
    let own = |name: &str| chain.path(&format!("own/{name}"));
    for (number, name, change, what) in [
        (2, "diary.txt", "changed", &["content", "time"][..]),
        (3, "script", "changed", &["mode"]),
        (4, "letter", "changed", &["owner"]),
        (5, "letter", "changed", &["xattr"]),
        (6, "diary.txt", "removed", &[]),
        (9, "diary.txt", "added", &[]),
        (12, "letter", "changed", &["time"]),
        (19, "folder/deep/leaf", "added", &[]),
    ] {
        let (old, new) = (&chain.points[number - 1].id, &chain.points[number].id);
        let objects = chain.objects(1, &["diff", "--json", old, new, &own(name)]);
        assert_eq!(objects.len(), 1, "{name}");
        assert_eq!(objects[0]["path"], own(name));
        assert_eq!(objects[0]["change"], change, "{name}");
        assert_eq!(words(&objects[0]["what"]), what, "{name}");
    }
    let (old, new) = (&chain.points[6].id, &chain.points[7].id);
    let text = chain.ends(1, &["diff", old, new, &own("turns")]);
    let inside = own("turns/inside");
    assert_eq!(
        text,
        format!(
            "type     {}/  file -> directory\nadded    {inside}  22 B\n",
            own("turns")
        )
    );
}

#[test]
fn sums_are_those_of_the_trees() {
    let chain = chain();
    let (old, new) = (&chain.points[3], &chain.points[16]);
    let sums = chain.objects(1, &["diff", "--stat", "--json", &old.id, &new.id]);
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (path, (change, _)) in expected(&old.tree, &new.tree) {
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        let side = if change == "removed" { old } else { new };
        let is_directory = side.tree.join(path).symlink_metadata().unwrap().is_dir();
        let count = counts.entry(change).or_default();
        count.0 += u64::from(!is_directory);
        count.1 += u64::from(is_directory);
    }
    for change in ["added", "removed", "changed", "type"] {
        let (files, directories) = counts.get(change).copied().unwrap_or_default();
        assert_eq!(sums[0][change]["files"], files, "{change}");
        assert_eq!(sums[0][change]["directories"], directories, "{change}");
    }
    assert_eq!(sums[0]["added"]["old_bytes"], 0);
    let text = chain.ends(1, &["diff", "--stat", &old.id, &new.id]);
    assert!(
        text.starts_with("added ") && text.contains("\nchanged "),
        "{text}"
    );
}

#[test]
fn patch_makes_the_older_text_files_the_newer_ones() {
    let chain = chain();
    // Nothing turns into or from a directory between these, which patch does not do.
    for (old, new) in [(0, 1), (8, 9), (0, 6), (14, 23), (23, 15)] {
        let (old, new) = (&chain.points[old], &chain.points[new]);
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        run("cp", &["-a", path_text(&old.tree), path_text(&copy)]);
        let text = chain.ends(1, &["diff", "--content", &old.id, &new.id]);
        let diff = folder.path().join("diff");
        fs::write(&diff, &text).unwrap();
        let strip = format!("-p{}", chain.source.components().count());
        let places = ["-d", path_text(&copy), "-i", path_text(&diff)];
        run("patch", &[&["-s", "-E", &strip][..], &places].concat());
        for (path, (change, what)) in expected(&old.tree, &new.tree) {
            let path = Path::new(std::ffi::OsStr::from_bytes(&path));
            let is_text = |tree: &Path| {
                let file = tree.join(path);
                let stat = file.symlink_metadata();
                stat.is_ok_and(|stat| stat.is_file() && !fs::read(&file).unwrap().contains(&0))
            };
            if change == "removed"
                && is_text(&old.tree)
                && old.tree.join(path).metadata().unwrap().len() > 0
            {
                assert!(!copy.join(path).exists(), "{}", path.display());
            }
            if change != "type"
                && is_text(&new.tree)
                && (change == "added" || what.contains(&"content".into()))
            {
                let expected = fs::read(new.tree.join(path)).unwrap();
                let patched = fs::read(copy.join(path)).unwrap_or_default();
                assert_eq!(patched, expected, "{}", path.display());
            }
        }
    }
}

#[test]
fn what_is_no_text_is_said_to_be_none() {
    let chain = chain();
    let (old, new) = (&chain.points[7].id, &chain.points[8].id);
    let large = chain.path("own/large");
    let text = chain.ends(1, &["diff", "--content", old, new, &large]);
    assert_eq!(
        text,
        format!("changed  {large}  content, time  3.0 MiB -> 3.0 MiB\n(not text)\n")
    );
    let objects = chain.objects(1, &["diff", "--content", "--json", old, new, &large]);
    assert!(objects[0]["diff"].is_null());
}

#[test]
fn trouble_has_a_code_of_two_or_more() {
    let chain = chain();
    for (exit_code, arguments) in [
        (2, &["diff", "latest"][..]),
        (2, &["diff", "latest", "never"]),
        (2, &["diff", "latest", "latest~1", "/no/such/path"]),
        (2, &["diff", "latest", "--live", "/no/such/path"]),
        (2, &["diff", "latest", "--live", "/usr"]),
        (2, &["diff", "latest", "latest~1", "/", "/"]),
        (
            10,
            &["diff", "-r", "/no/such/repository", "latest", "latest~1"],
        ),
    ] {
        assert_eq!(chain.ends(exit_code, arguments), "", "{arguments:?}");
    }
}

#[test]
fn the_source_as_it_was_left_does_not_differ_from_the_last_point() {
    let chain = chain();
    assert_eq!(chain.done(&["diff", "latest", "--live"]), "");
    // Of an older point, it differs as the last one does.
    let live = chain.objects(1, &["diff", "--json", &chain.points[10].id, "--live"]);
    let last = chain.points.last().unwrap();
    let expected = expected(&chain.points[10].tree, &last.tree);
    assert_same(&told(&live, &chain.source), &expected);
    let narrow = chain.objects(
        1,
        &[
            "diff",
            "--json",
            &chain.points[10].id,
            "--live",
            &chain.path("own/folder"),
        ],
    );
    assert!(!narrow.is_empty() && narrow.len() < live.len());
}

/// A machine with a tree of all kinds of files that is backed up, settled or not.
fn machine_with_tree() -> Machine {
    let machine = Machine::new();
    let source = machine.path("source");
    let at = |name: &str| source.join(name);
    for folder in ["a/b/c", "gone", "skip"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    for (name, text) in [
        ("a/inline", "short\n"),
        ("a/chunk", &"a line of a file\n".repeat(1000)),
        ("a/b/c/deep", "deep\n"),
        ("a/touched", "the same\n"),
        ("a/mode", "the same\n"),
        ("a/same", "the same\n"),
        ("gone/file", "gone\n"),
        ("skip/file", "left out\n"),
    ] {
        fs::write(at(name), text).unwrap();
    }
    fs::write(at("a/large"), "0123456789abcdef".repeat(50_000)).unwrap();
    let sparse = File::create(at("a/sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    sparse.write_all_at(b"data", 2 << 20).unwrap();
    symlink("inline", at("a/link")).unwrap();
    machine
}

fn edit_tree(source: &Path) {
    let at = |name: &str| source.join(name);
    let old = at("a/inline").metadata().unwrap().modified().unwrap();
    // Of the same size and time: only the bytes tell.
    fs::write(at("a/inline"), "SHORT\n").unwrap();
    File::options()
        .write(true)
        .open(at("a/inline"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    let large = File::options().write(true).open(at("a/large")).unwrap();
    large.write_all_at(b"X", 600_000).unwrap();
    let sparse = File::options().write(true).open(at("a/sparse")).unwrap();
    sparse.write_all_at(b"more", 1 << 20).unwrap();
    fs::write(at("a/chunk"), "a line of a file\n".repeat(999)).unwrap();
    File::options()
        .write(true)
        .open(at("a/touched"))
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    fs::set_permissions(at("a/mode"), Permissions::from_mode(0o600)).unwrap();
    chown(at("a/b"), Some(1234), None).unwrap();
    xattr::set(at("a/b/c/deep"), "user.mood", b"merry").unwrap();
    fs::remove_file(at("a/link")).unwrap();
    symlink("large", at("a/link")).unwrap();
    fs::remove_dir_all(at("gone")).unwrap();
    fs::write(at("gone"), "a file now\n").unwrap();
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/file"), "new\n").unwrap();
    fs::write(at("skip/more"), "left out too\n").unwrap();
    // The file gets a change time and a link more, which is no difference.
    fs::hard_link(at("a/same"), at("new/link")).unwrap();
}

#[test]
fn the_live_tree_differs_in_what_rsync_says_and_excludes_stay_out() {
    let machine = machine_with_tree();
    let source = machine.path("source");
    machine.back_up_with(&["--full", "--exclude", "/skip/*"]);
    assert_eq!(machine.done(&["diff", "latest", "--live"]), "");
    let copy = machine.path("copy");
    run("cp", &["-a", path_text(&source), path_text(&copy)]);
    edit_tree(&source);
    let output = machine
        .bygone(&["diff", "latest", "--live", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut expected = expected(&copy, &source);
    expected.remove(&b"skip/more"[..]).unwrap();
    assert_same(&told(&objects, &source), &expected);
    // What lies beside a file of some name can be left out as well: the link beside the new file.
    let marked = [
        "diff",
        "latest",
        "--live",
        "--stat",
        "--json",
        "--exclude-if-present",
        "file",
    ];
    let output = machine.bygone(&marked).output().unwrap();
    let sums: Value = serde_json::from_slice(&output.stdout).unwrap();
    let added = expected
        .iter()
        .filter(|(path, (change, _))| change == "added" && **path != b"new");
    assert_eq!(sums["added"]["files"], added.count() - 1, "{sums}");
    // The text of what is there now.
    let deep = source.join("a/inline");
    let output = machine
        .bygone(&["diff", "latest", "--live", "--content", path_text(&deep)])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\n-short\n+SHORT\n"), "{text}");
}

#[test]
fn damage_is_told_and_is_no_difference() {
    let chain = chain();
    let machine = chain.machine();
    let [old, new] = ["1.0.0", "1.1.0"].map(|version| &chain.of(version).id[..]);
    let shown: Value = serde_json::from_str(&machine.done(&["show", new, "--json"])).unwrap();
    let run = shown["runs"][0].as_str().unwrap();
    let manifest = machine.path(format!("repository/manifests/{run}"));
    let damaged: Vec<u8> = fs::read(&manifest)
        .unwrap()
        .iter()
        .map(|byte| !byte)
        .collect();
    fs::set_permissions(&manifest, Permissions::from_mode(0o644)).unwrap();
    fs::write(&manifest, damaged).unwrap();
    for arguments in [
        &["diff", old, new][..],
        &["history", &chain.path("own/letter")],
        &["find"],
    ] {
        let told = machine.refused(20, arguments);
        assert!(told.contains(run), "{told}");
    }
    // Who does not need it does not mind.
    machine.done(&["diff", old, old]);
}

#[test]
fn what_cannot_be_found_any_more_is_told_as_removed() {
    let machine = machine_with_tree();
    let source = machine.path("source");
    machine.back_up("--full");
    fs::rename(&source, machine.path("elsewhere")).unwrap();
    let output = machine
        .bygone(&["diff", "latest", "--live", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found = run("find", &[path_text(&machine.path("elsewhere"))]);
    assert_eq!(objects.len(), found.lines().count());
    assert!(objects.iter().all(|object| object["change"] == "removed"));
}
