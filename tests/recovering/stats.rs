//! `bygone stats`, against sums over the plain trees and the repository's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bygone::format::PointKind;
use serde_json::Value;

use crate::chain::chain;
use crate::machine::{Machine, path_text, run};

/// All regular files below a folder, each path by itself.
fn files(folder: &Path) -> Vec<PathBuf> {
    let printed = run(
        "find",
        &[path_text(folder), "-type", "f", "-print0"].map(str::to_owned),
    );
    let paths = printed.split('\0').filter(|path| !path.is_empty());
    paths.map(PathBuf::from).collect()
}

/// The sum of the sizes of all regular files in it, one of several links counted once.
fn plain_bytes(folder: &Path) -> u64 {
    let told = run(
        "find",
        &[path_text(folder), "-type", "f", "-printf", "%i %s\\n"],
    );
    let files: BTreeSet<&str> = told.lines().collect();
    let sizes = files.iter().map(|file| file.split_once(' ').unwrap().1);
    sizes.map(|size| size.parse::<u64>().unwrap()).sum()
}

fn stats(arguments: &[&str]) -> Value {
    let text = chain().done(&[&["stats", "--json"][..], arguments].concat());
    serde_json::from_str(&text).unwrap()
}

#[test]
fn plain_bytes_are_those_of_all_trees() {
    let chain = chain();
    let all = stats(&[]);
    let expected: u64 = chain
        .points
        .iter()
        .map(|kept| plain_bytes(&kept.tree))
        .sum();
    assert_eq!(all["plain_bytes"], expected);
    assert_eq!(all["points"], 24);
    // Of each kind of point.
    for kind in [
        PointKind::Full,
        PointKind::Incremental,
        PointKind::Differential,
    ] {
        let kept = chain.points.iter().rfind(|kept| kept.kind == kind).unwrap();
        assert_eq!(stats(&[&kept.id])["plain_bytes"], plain_bytes(&kept.tree));
    }
}

#[test]
fn objects_are_the_files_of_the_repository() {
    let chain = chain();
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut whole = 0;
    for file in files(&chain.repository) {
        let below = file.strip_prefix(&chain.repository).unwrap();
        let kind = below
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let bytes = file.metadata().unwrap().len();
        let of_kind = expected.entry(kind.to_owned()).or_default();
        *of_kind = (of_kind.0 + 1, of_kind.1 + bytes);
        whole += bytes;
    }
    let all = stats(&[]);
    let objects = all["objects"].as_object().unwrap();
    let told: BTreeMap<String, (u64, u64)> = objects
        .iter()
        .map(|(kind, of_kind)| {
            let field = |name: &str| of_kind[name].as_u64().unwrap();
            (kind.clone(), (field("count"), field("bytes")))
        })
        .collect();
    assert_eq!(told, expected);
    assert_eq!(all["stored_bytes"], whole);
    assert_eq!(all["content_bytes"], expected["packs"].1);
}

#[test]
fn a_point_alone_takes_what_its_own_files_come_to() {
    // Files of one chunk each: what is unique of them can be told without knowing how larger ones are cut.
    let machine = Machine::new();
    let source = machine.path("source");
    for number in 0..50 {
        let text = format!("content {}\n", number % 10).repeat(200);
        fs::write(source.join(format!("file {number}")), text).unwrap();
    }
    machine.back_up("--full");
    fs::write(source.join("file 0"), "other content\n".repeat(200)).unwrap();
    let last = machine.back_up("--incremental");
    let unique = |point: &[&str]| {
        let text = machine.done(&[&["stats", "--json"][..], point].concat());
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let contents = |folder: &Path| -> BTreeSet<Vec<u8>> {
        files(folder)
            .iter()
            .map(|file| fs::read(file).unwrap())
            .collect()
    };
    let bytes =
        |contents: &BTreeSet<Vec<u8>>| contents.iter().map(|it| it.len() as u64).sum::<u64>();
    let contents = contents(&source);
    let of_last = unique(&[&last]);
    assert_eq!(of_last["chunks"], contents.len());
    assert_eq!(of_last["unique_bytes"], bytes(&contents));
    assert_eq!(of_last["plain_bytes"], plain_bytes(&source));
    assert!(
        of_last["content_bytes"].as_u64() < of_last["unique_bytes"].as_u64(),
        "{of_last}"
    );
    assert_eq!(of_last["objects"]["manifests"]["count"], 2);
    // Both points: the first content is still there, in the nine other files of its kind.
    let all = unique(&[]);
    assert_eq!(all["unique_bytes"], bytes(&contents));
    let ratio = all["total_ratio"].as_f64().unwrap();
    let expected = all["plain_bytes"].as_f64().unwrap() / all["stored_bytes"].as_f64().unwrap();
    assert!((ratio - expected).abs() < 1e-9);
}

#[test]
fn an_empty_repository_has_no_ratios_and_a_filter_wants_a_point() {
    let machine = Machine::new();
    let text = machine.done(&["stats", "--json"]);
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&all["points"], &all["chunks"]),
        (&Value::from(0), &Value::from(0))
    );
    assert!(all["deduplication_ratio"].is_null());
    let text = machine.done(&["stats"]);
    assert!(
        text.starts_with("Plain") && text.contains("OBJECTS"),
        "{text}"
    );
    machine.refused(2, &["stats", "--host", "moon"]);
}
