//! `bygone history`, against what rsync(1) says of each pair of neighbours among the plain trees.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::chain::{Chain, chain};
use crate::itemized::{self, Difference};
use crate::machine::{Machine, path_text, run};

/// What a path went through, oldest first: the number of the point, the change, and what changed.
type Events = Vec<(usize, &'static str, Vec<&'static str>)>;

/// What rsync says of pairs of trees, by their numbers.
#[derive(Default)]
struct Pairs(BTreeMap<(usize, usize), BTreeMap<Vec<u8>, Difference>>);

impl Pairs {
    fn of(&mut self, chain: &Chain, old: usize, new: usize) -> &BTreeMap<Vec<u8>, Difference> {
        let trees = (&chain.points[old].tree, &chain.points[new].tree);
        self.0
            .entry((old, new))
            .or_insert_with(|| itemized::differences(trees.0, trees.1))
    }

    /// What differs between two versions of a path that are there; None if nothing does.
    fn what(
        &mut self,
        chain: &Chain,
        old: usize,
        new: usize,
        path: &[u8],
    ) -> Option<Vec<&'static str>> {
        self.of(chain, old, new)
            .get(path)
            .map(|(change, what)| match *change {
                "type" => vec!["type"],
                _ => what.clone(),
            })
    }
}

fn expected(chain: &Chain, pairs: &mut Pairs, path: &[u8]) -> Events {
    let is_there = |number: usize| {
        let tree: &Path = &chain.points[number].tree;
        tree.join(OsStr::from_bytes(path))
            .symlink_metadata()
            .is_ok()
    };
    let mut events = Vec::new();
    let mut last = None;
    let mut was_there = false;
    for number in 0..chain.points.len() {
        match (last, was_there, is_there(number)) {
            (_, false, false) => {}
            (None, _, true) => events.push((number, "added", Vec::new())),
            (_, true, false) => events.push((number, "removed", Vec::new())),
            (Some(last), true, true) => {
                if let Some(what) = pairs.what(chain, last, number, path) {
                    events.push((number, "changed", what));
                }
            }
            (Some(last), false, true) => {
                let what = pairs.what(chain, last, number, path).unwrap_or_default();
                events.push((number, "returned", what));
            }
        }
        was_there = is_there(number);
        if was_there {
            last = Some(number);
        }
    }
    events
}

/// All paths that any of the trees has.
fn paths(chain: &Chain) -> BTreeSet<Vec<u8>> {
    let mut paths = BTreeSet::new();
    let mut folders: Vec<(PathBuf, PathBuf)> = chain
        .points
        .iter()
        .map(|kept| (kept.tree.clone(), PathBuf::new()))
        .collect();
    while let Some((tree, below)) = folders.pop() {
        for entry in fs::read_dir(tree.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push((tree.clone(), path.clone()));
            }
            paths.insert(path.into_os_string().into_encoded_bytes());
        }
    }
    paths
}

/// Of a change of type, what else differs is of no interest here.
fn told(chain: &Chain, objects: &[Value]) -> Events {
    let words = ["content", "mode", "owner", "time", "xattr", "flags", "type"];
    let event = |object: &Value| {
        let point = object["point"].as_str().unwrap();
        let number = chain.points.iter().position(|kept| kept.id == point);
        let told = object["what"].as_array().unwrap();
        let is_told = |word: &&str| told.iter().any(|it| it.as_str() == Some(*word));
        let mut what: Vec<_> = words.into_iter().filter(is_told).collect();
        if what.contains(&"type") {
            what = vec!["type"];
        }
        let changes = ["added", "changed", "removed", "returned"];
        let change = changes.into_iter().find(|word| object["change"] == *word);
        (number.unwrap(), change.unwrap(), what)
    };
    objects.iter().rev().map(event).collect()
}

#[test]
fn every_path_went_through_what_rsync_says() {
    let chain = chain();
    let mut pairs = Pairs::default();
    let paths = paths(chain);
    assert!(paths.len() > 60, "{}", paths.len());
    let mut returned = 0;
    // All of our own, and enough of the project's: each costs a process, and where there is one, a password.
    let own = |path: &[u8]| path.starts_with(b"own");
    let looked_at = paths
        .iter()
        .enumerate()
        .filter(|(number, path)| own(path) || number % 4 == 0);
    for (_, path) in looked_at {
        let whole = chain.source.join(OsStr::from_bytes(path));
        let arguments = [
            OsStr::new("history"),
            OsStr::new("--json"),
            whole.as_os_str(),
        ];
        let objects = chain.objects(0, &arguments);
        let expected = expected(chain, &mut pairs, path);
        assert_eq!(told(chain, &objects), expected, "{}", path.escape_ascii());
        returned += expected
            .iter()
            .filter(|(_, change, _)| *change == "returned")
            .count();
        for object in &objects {
            check_size_and_hash(chain, object, path);
        }
    }
    assert!(returned >= 3, "{returned}");
}

fn check_size_and_hash(chain: &Chain, object: &Value, path: &[u8]) {
    let point = object["point"].as_str().unwrap();
    let kept = chain.points.iter().find(|kept| kept.id == point).unwrap();
    let file = kept.tree.join(OsStr::from_bytes(path));
    match file.symlink_metadata() {
        Err(_) => assert!(object["size"].is_null(), "{object}"),
        Ok(stat) if stat.is_dir() => {}
        Ok(stat) => assert_eq!(object["size"], stat.len(), "{object}"),
    }
    if let Some(hash) = object["hash"].as_str() {
        assert_eq!(
            hash,
            blake3::hash(&fs::read(&file).unwrap()).to_hex().as_str()
        );
    }
    assert_eq!(
        object["hash"].is_string(),
        path == b"own/large" || path == b"own/sparse"
    );
}

#[test]
fn the_table_is_newest_first_and_for_people() {
    let chain = chain();
    let text = chain.done(&["history", &chain.path("own/letter")]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("POINT"), "{text}");
    let expected = [
        (15, "changed", "xattr"),
        (12, "changed", "time"),
        (5, "changed", "xattr"),
        (4, "changed", "owner"),
        (0, "added", "13 B"),
    ];
    assert_eq!(lines.len(), expected.len() + 1, "{text}");
    for (line, (number, change, what)) in lines[1..].iter().zip(expected) {
        assert!(line.starts_with(&chain.points[number].id), "{text}");
        assert!(line.contains(change) && line.contains(what), "{text}");
    }
}

#[test]
fn text_differences_between_neighbours_are_those_of_diff() {
    let chain = chain();
    let diary = chain.path("own/diary.txt");
    let text = chain.done(&["history", "--diff", &diary]);
    let objects = chain.objects(0, &["history", "--diff", "--json", &diary]);
    let diffs: Vec<&str> = objects
        .iter()
        .filter_map(|object| object["diff"].as_str())
        .collect();
    // Newest first; the one that came back is held against the one that vanished.
    let pairs = [(16, 17), (5, 9), (1, 2)];
    assert_eq!(diffs.len(), pairs.len(), "{text}");
    for ((old, new), diff) in pairs.into_iter().zip(diffs) {
        let file = |number: usize| chain.points[number].tree.join("own/diary.txt");
        let (old, new) = (file(old), file(new));
        let output = std::process::Command::new("diff")
            .args(["-u", path_text(&old), path_text(&new)])
            .output()
            .unwrap();
        let expected = String::from_utf8(output.stdout).unwrap();
        let hunks = |text: &str| text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(hunks(diff), hunks(&expected));
        assert!(text.contains(diff), "{text}");
    }
}

#[test]
fn a_path_that_no_point_has_is_refused() {
    let chain = chain();
    assert_eq!(chain.ends(2, &["history", &chain.path("own/never")]), "");
    assert_eq!(chain.ends(2, &["history", "/no/such"]), "");
    assert_eq!(
        chain.ends(2, &["history", &chain.path("own/letter"), "--host", "sun"]),
        ""
    );
}

#[test]
fn sets_have_histories_of_their_own_and_those_of_other_paths_say_nothing() {
    let machine = Machine::new();
    let letter = machine.path("source/letter");
    fs::write(&letter, "one\n").unwrap();
    let first = machine.back_up("--full");
    let other = machine.folder("other");
    fs::write(other.join("x"), "x\n").unwrap();
    // Of the same name, and of another path: the letter has not vanished.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    machine.done(&["backup", "-q", "--set", "test", path_text(&other)]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    machine.done(&[
        "backup",
        "-q",
        "--set",
        "second",
        path_text(&machine.path("source")),
    ]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    run("rm", &[path_text(&letter)]);
    let last = machine.back_up("--incremental");
    let text = machine.done(&["history", "--json", path_text(&letter)]);
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = objects
        .iter()
        .map(|object| {
            (
                object["set"].as_str().unwrap(),
                object["change"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("test", "removed"), ("second", "added"), ("test", "added")]
    );
    assert_eq!(
        (&objects[0]["point"], &objects[2]["point"]),
        (&Value::from(last), &Value::from(first))
    );
    let table = machine.done(&["history", path_text(&letter)]);
    assert!(table.contains(":second"), "{table}");
}

/// The points that `bygone points --path` lists, oldest first.
fn listed(chain: &Chain, path: &str, more: &[&str]) -> Vec<String> {
    let text = chain.done(&[&["points", "--json", "--path", path][..], more].concat());
    let points: Vec<Value> = serde_json::from_str(&text).unwrap();
    let ids = points
        .iter()
        .rev()
        .map(|point| point["id"].as_str().unwrap().to_owned());
    ids.collect()
}

#[test]
fn points_are_listed_in_which_a_path_or_what_is_below_it_differs() {
    let chain = chain();
    let trees: Vec<&Path> = chain
        .points
        .iter()
        .map(|kept| &kept.tree as &Path)
        .collect();
    let pairs: Vec<_> = trees
        .windows(2)
        .map(|pair| itemized::differences(pair[0], pair[1]))
        .collect();
    for path in [
        "own/letter",
        "own/diary.txt",
        "own/turns",
        "own/folder",
        "own",
        "project/src",
        "project/Cargo.toml",
        "",
    ] {
        let is_within = |other: &[u8]| Path::new(OsStr::from_bytes(other)).starts_with(path);
        let mut expected: Vec<&str> = Vec::new();
        if trees[0].join(path).symlink_metadata().is_ok() {
            expected.push(&chain.points[0].id);
        }
        for (number, differences) in pairs.iter().enumerate() {
            if differences.keys().any(|other| is_within(other)) {
                expected.push(&chain.points[number + 1].id);
            }
        }
        assert_eq!(listed(chain, &chain.path(path), &[]), expected, "{path}");
    }
    assert_eq!(listed(chain, &chain.path("own/never"), &[]), [""; 0]);
    assert_eq!(
        listed(
            chain,
            &chain.path("own/letter"),
            &["--label", "release=0.4.6"]
        ),
        [&chain.points[4].id[..]]
    );
    // What lies above the source has no letter that differs, but a source.
    assert!(listed(chain, "/", &[]).len() > 20);
}
