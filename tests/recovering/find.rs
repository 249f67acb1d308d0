//! `bygone find`, against find(1) on the plain trees.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::chain::{Chain, chain};
use crate::itemized::{self, Difference};
use crate::machine::{Machine, path_text};

/// The bytes of the path in an object, below the source.
fn path_below(chain: &Chain, object: &Value) -> Option<Vec<u8>> {
    let path = match object["path_hex"].as_str() {
        None => object["path"].as_str().unwrap().as_bytes().to_vec(),
        Some(digits) => {
            let pairs = (0..digits.len()).step_by(2);
            let bytes = pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
            [b"/".to_vec(), bytes.collect()].concat()
        }
    };
    let top = chain.source.as_os_str().as_bytes();
    let below = path.strip_prefix(top)?;
    Some(below.strip_prefix(b"/").unwrap_or(below).to_vec())
}

/// By path: for each version, the numbers of its first and last point, and how many there are.
type Versions = BTreeMap<Vec<u8>, Vec<(usize, usize, u64)>>;

fn told(chain: &Chain, objects: &[Value]) -> Versions {
    let number = |id: &Value| {
        chain
            .points
            .iter()
            .position(|kept| id == &kept.id[..])
            .unwrap()
    };
    let mut versions = Versions::new();
    for object in objects {
        // What lies above the source is none of the trees' business.
        if let Some(path) = path_below(chain, object) {
            let span = (number(&object["first"]), number(&object["last"]));
            let count = object["points"].as_u64().unwrap();
            versions
                .entry(path)
                .or_default()
                .push((span.0, span.1, count));
        }
    }
    versions
}

/// What find(1) finds in a tree, by these tests.
fn found(tree: &Path, tests: &[&str]) -> BTreeSet<Vec<u8>> {
    let output = Command::new("find")
        .arg(".")
        .args(tests)
        .arg("-print0")
        .current_dir(tree)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let paths = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty());
    paths
        .map(|path| path.strip_prefix(b"./").unwrap_or_default().to_vec())
        .collect()
}

/// What rsync says of each tree and the one before.
fn neighbours(chain: &'static Chain) -> &'static [BTreeMap<Vec<u8>, Difference>] {
    static NEIGHBOURS: OnceLock<Vec<BTreeMap<Vec<u8>, Difference>>> = OnceLock::new();
    NEIGHBOURS.get_or_init(|| {
        let pairs = chain.points.windows(2);
        pairs
            .map(|pair| itemized::differences(&pair[0].tree, &pair[1].tree))
            .collect()
    })
}

/// The versions of what find(1) finds: a new one begins where the tree before has not the path, or has it otherwise.
fn expected(chain: &'static Chain, points: std::ops::Range<usize>, tests: &[&str]) -> Versions {
    let mut versions = Versions::new();
    for number in points {
        let here = found(&chain.points[number].tree, tests);
        let is_same = |path: &[u8]| {
            let before = number
                .checked_sub(1)
                .map(|before| &neighbours(chain)[before]);
            before.is_some_and(|differences| !differences.contains_key(path))
        };
        for path in &here {
            let spans = versions.entry(path.clone()).or_default();
            match spans.last_mut() {
                Some((_, last, count)) if *last + 1 == number && is_same(path) => {
                    *last = number;
                    *count += 1;
                }
                _ => spans.push((number, number, 1)),
            }
        }
    }
    versions
}

fn check(arguments: &[&str], tests: &[&str]) -> Versions {
    let chain = chain();
    let objects = chain.objects(0, &[&["find", "--json"][..], arguments].concat());
    let told = told(chain, &objects);
    let expected = expected(chain, 0..chain.points.len(), tests);
    let keys: BTreeSet<_> = told.keys().chain(expected.keys()).collect();
    for path in keys {
        let shown = path.escape_ascii();
        assert_eq!(
            told.get(path),
            expected.get(path),
            "{shown} by {arguments:?}"
        );
    }
    for object in &objects {
        check_fields(chain, object);
    }
    told
}

fn check_fields(chain: &Chain, object: &Value) {
    let Some(path) = path_below(chain, object) else {
        return;
    };
    for field in ["first", "last"] {
        let kept = chain
            .points
            .iter()
            .find(|kept| object[field] == kept.id[..])
            .unwrap();
        let file = kept.tree.join(OsStr::from_bytes(&path));
        let stat = file.symlink_metadata().unwrap();
        if !stat.is_dir() {
            assert_eq!(object["size"], stat.len(), "{object}");
        }
        let mtime: jiff::Timestamp = object["mtime"].as_str().unwrap().parse().unwrap();
        assert_eq!(
            (mtime.as_second(), i64::from(mtime.subsec_nanosecond())),
            (stat.mtime(), stat.mtime_nsec())
        );
        let file_type = object["type"].as_str().unwrap();
        assert_eq!(file_type == "file", stat.is_file(), "{object}");
        assert_eq!(file_type == "directory", stat.is_dir(), "{object}");
        assert_eq!(file_type == "symlink", stat.is_symlink(), "{object}");
        if let Some(hash) = object["hash"].as_str() {
            assert_eq!(
                hash,
                blake3::hash(&fs::read(&file).unwrap()).to_hex().as_str()
            );
        }
    }
}

#[test]
fn everything_is_found_once_a_version() {
    let versions = check(&[], &[]);
    let diary = &versions[&b"own/diary.txt"[..]];
    assert_eq!(diary[..], [(0, 1, 2), (2, 5, 4), (9, 16, 8), (17, 19, 3)]);
    // A file, then a directory, then a file.
    assert_eq!(versions[&b"own/turns"[..]].len(), 3);
    assert!(versions.contains_key(&b"own/no text \xff"[..]));
}

#[test]
fn names_types_and_sizes_are_those_of_find() {
    for (arguments, tests) in [
        (&["*.rs"][..], &["-name", "*.rs"][..]),
        (
            &["*.toml", "*.md"],
            &["(", "-name", "*.toml", "-o", "-name", "*.md", ")"],
        ),
        (
            &["*.rs", "!test_*"],
            &["-name", "*.rs", "!", "-name", "test_*"],
        ),
        (&["--iname", "readme*"], &["-iname", "readme*"]),
        (&["--type", "d"], &["-type", "d"]),
        (&["--type", "l,p"], &["-type", "l,p"]),
        (
            &["--type", "f", "--size", "+10K"],
            &["-type", "f", "-size", "+10240c"],
        ),
        (
            &["--type", "f", "--size", "-100"],
            &["-type", "f", "-size", "-100c"],
        ),
        (
            &["--type", "f", "--size", "13"],
            &["-type", "f", "-size", "13c"],
        ),
        (
            &["--regex", r"/src/[^/]*\.rs$"],
            &["-regex", r".*/src/[^/]*\.rs"],
        ),
        (&["l*", "--type", "f"], &["-name", "l*", "-type", "f"]),
        (&["no such name"], &["-name", "no such name"]),
    ] {
        check(arguments, tests);
    }
    let own = chain().path("own/*");
    check(
        &["--path", &own],
        &["-path", "./own/*", "!", "-path", "./own/*/*"],
    );
    let below = chain().path("project/src/**");
    check(
        &["--path", &below, "*.rs"],
        &["-path", "./project/src/*", "-name", "*.rs"],
    );
}

#[test]
fn newer_is_that_of_find() {
    for time in ["2020-09-13 12:30:00Z", "2020-09-14", "@1600009000"] {
        check(
            &["--type", "f", "--newer", time],
            &["-type", "f", "-newermt", time],
        );
    }
}

#[test]
fn a_range_of_points_is_looked_at_alone() {
    let chain = chain();
    let id = |number: usize| &chain.points[number].id[..];
    let ranges = [
        (format!("{}..{}", id(4), id(12)), 4..13),
        (format!("{}..", id(20)), 20..24),
        (format!("..{}", id(3)), 0..4),
        ("release=1.0.0".to_owned(), 16..17),
        ("latest~2..latest~1".to_owned(), 21..23),
    ];
    for (range, points) in ranges {
        let objects = chain.objects(0, &["find", "--json", "--point", &range]);
        assert_eq!(
            told(chain, &objects),
            expected(chain, points, &[]),
            "{range}"
        );
    }
    assert_eq!(chain.ends(2, &["find", "--point", "latest..latest~1"]), "");
}

#[test]
fn a_line_has_size_time_span_and_path() {
    let chain = chain();
    let text = chain.done(&["find", "letter", "--point", "..latest~20"]);
    let points = &chain.points;
    assert_eq!(text.lines().count(), 1, "{text}");
    let span = format!("{} .. {}", points[0].id, points[3].id);
    let end = format!("  {span}  {}\n", chain.path("own/letter"));
    assert!(
        text.trim_start().starts_with("13 B  ") && text.ends_with(&end),
        "{text}"
    );
    // Names are written byte for byte.
    let output = chain.bygone(&["find", "no text*"]).output().unwrap();
    assert!(output.stdout.ends_with(b"/own/no text \xff\n"));
}

#[test]
fn what_cannot_be_looked_for_is_refused() {
    let chain = chain();
    for arguments in [
        &["find", "a/b"][..],
        &["find", "[z-a]"],
        &["find", "--regex", "("],
        &["find", "--newer", "whenever"],
        &["find", "--size", "much"],
        &["find", "--type", "x"],
        &["find", "--point", "never..latest"],
    ] {
        assert_eq!(chain.ends(2, arguments), "", "{arguments:?}");
    }
}

#[test]
fn sets_have_versions_of_their_own() {
    let machine = Machine::new();
    let letter = machine.path("source/letter");
    fs::write(&letter, "one\n").unwrap();
    machine.back_up("--full");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    machine.done(&[
        "backup",
        "-q",
        "--set",
        "second",
        path_text(&machine.path("source")),
    ]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    machine.back_up("--incremental");
    let text = machine.done(&["find", "letter", "--json"]);
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let counts: Vec<_> = objects
        .iter()
        .map(|object| object["points"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [2, 1]);
    let of_one = machine.done(&["find", "letter", "--set", "second"]);
    assert_eq!(of_one.lines().count(), 1);
}
