//! What a mount of all points shows beside the points, against what other tools say of the plain trees.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::chain::{Chain, chain};
use crate::machine::{Machine, path_text, run};

/// All that lies below a folder and is no folder, by its path from there.
fn files(top: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let names = xattr::list(path).unwrap();
    names
        .map(|name| {
            let value = xattr::get(path, &name).unwrap().unwrap();
            (name, value)
        })
        .collect()
}

/// What `getfattr` tells of one name; None if it says that there is none.
fn told(path: &Path, name: &str) -> Option<String> {
    let value = xattr::get(path, name).unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}

/// What tells two versions of a regular file apart.
#[derive(PartialEq)]
struct Version {
    content: Vec<u8>,
    times_and_owner: (i64, i64, u32, u32, u32),
    xattrs: BTreeMap<OsString, Vec<u8>>,
}

fn version(path: &Path) -> Option<Version> {
    let metadata = path.symlink_metadata().ok()?;
    metadata.is_file().then(|| Version {
        content: fs::read(path).unwrap(),
        times_and_owner: (
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
        ),
        xattrs: xattrs(path),
    })
}

/// The number of the point that recorded what the plain tree of point `number` has at `path`.
fn recorder(chain: &Chain, number: usize, path: &Path) -> usize {
    let at = |number: usize| version(&chain.points[number].tree.join(path));
    let last = at(number);
    let same = (0..number).rev().take_while(|number| at(*number) == last);
    same.last().unwrap_or(number)
}

#[test]
fn attributes_of_its_own_are_told_by_name_and_never_listed() {
    let chain = chain();
    let machine = chain.machine();
    let mounted = machine.mount("past", &[]);
    for number in [0, 9, 23] {
        let kept = &chain.points[number];
        let shown = mounted.source(&kept.id, &chain.source);
        for path in files(&kept.tree) {
            let (plain, shown) = (kept.tree.join(&path), shown.join(&path));
            let metadata = plain.symlink_metadata().unwrap();
            if !metadata.is_file() {
                continue;
            }
            assert_eq!(xattrs(&shown), xattrs(&plain), "{path:?}");
            let by = &chain.points[recorder(chain, number, &path)].id;
            let point = told(&shown, "user.bygone.point");
            assert_eq!(point.as_ref(), Some(by), "{path:?} in point {number}");
            let hash = blake3::hash(&fs::read(&plain).unwrap());
            let told_hash = told(&shown, "user.bygone.hash").unwrap();
            assert_eq!(told_hash, hash.to_string(), "{path:?}");
            // All is on this machine.
            let local = told(&shown, "user.bygone.local").unwrap();
            assert_eq!(local, metadata.len().to_string(), "{path:?}");
            let chunks = told(&shown, "user.bygone.chunks").unwrap();
            let (count, ids) = chunks.split_once('\n').unwrap_or((&chunks, ""));
            assert_eq!(count.parse(), Ok(ids.lines().count()), "{path:?}");
        }
    }
    let own = mounted
        .source(&chain.points[8].id, &chain.source)
        .join("own");
    assert!(
        !told(&own.join("large"), "user.bygone.chunks")
            .unwrap()
            .starts_with("1\n")
    );
    assert_eq!(told(&own.join("empty"), "user.bygone.chunks").unwrap(), "0");
    assert_eq!(
        told(&own, "user.bygone.point"),
        Some(chain.points[8].id.clone())
    );
    assert_eq!(told(&own, "user.bygone.hash"), None);
    assert_eq!(told(&own.join("large"), "user.bygone.unheard"), None);
    // A copy with all extended attributes has those of the source and no others.
    let copy = machine.path("copy");
    run("cp", &[OsStr::new("-a"), own.as_os_str(), copy.as_os_str()]);
    let of_tree = chain.points[8].tree.join("own/letter");
    assert_eq!(xattrs(&copy.join("letter")), xattrs(&of_tree));
    assert!(!xattrs(&of_tree).is_empty());
}

#[test]
fn the_mount_of_one_point_knows_who_recorded_what() {
    let chain = chain();
    let machine = chain.machine();
    let last = chain.points.len() - 1;
    let mounted = machine.mount("one", &["--point", &chain.points[last].id]);
    let source = chain.source.strip_prefix("/").unwrap();
    for name in ["own/script", "own/letter", "own/folder/deep/leaf"] {
        let by = recorder(chain, last, Path::new(name));
        let path = mounted.path(source).join(name);
        let point = told(&path, "user.bygone.point");
        assert_eq!(point, Some(chain.points[by].id.clone()), "{name}");
    }
}

/// The mounts that `bygone mounts` lists below a machine's folder; others may have theirs meanwhile.
fn listed(machine: &Machine) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(&machine.done(&["mounts", "--json"])).unwrap();
    let own = machine.path("");
    let is_own = |mount: &Value| {
        mount["mount_point"]
            .as_str()
            .unwrap()
            .starts_with(path_text(&own))
    };
    all.into_iter().filter(is_own).collect()
}

/// The samples of a file of metrics, each by its name and labels. Panics at what `promtool check metrics` would refuse.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = None;
    let mut samples = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, told) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !told.is_empty(), "{line}");
            helped = Some(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(helped, Some(name), "help comes first");
            assert!(kind == "counter" || kind == "gauge", "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert_eq!(kinds.insert(name, kind), None, "told twice: {line}");
        } else {
            let (name, rest) = line.split_once('{').unwrap();
            let (labels, value) = rest.rsplit_once("} ").unwrap();
            assert!(kinds.contains_key(name), "{line}");
            for label in labels.split("\",") {
                let (name, value) = label.split_once("=\"").unwrap();
                assert!(
                    is_name(name) && !value.trim_end_matches('"').contains('"'),
                    "{line}"
                );
            }
            let value = value.parse().unwrap();
            assert_eq!(
                samples.insert(line.rsplit_once(' ').unwrap().0.to_owned(), value),
                None
            );
        }
    }
    samples
}

#[test]
fn what_is_mounted_is_listed_with_what_it_has_done() {
    let chain = chain();
    let machine = chain.machine();
    assert_eq!(listed(&machine), Vec::<Value>::new());
    let metrics = machine.path("bygone.prom");
    let all = machine.mount("all of them", &["--metrics-file", path_text(&metrics)]);
    let one = machine.mount("one", &["--point", &chain.points[3].id]);
    let sum = |name: &str| -> f64 {
        let all = samples(&fs::read_to_string(&metrics).unwrap());
        let named =
            |sample: &str| sample.split('{').next() == Some(&format!("bygone_mount_{name}"));
        all.iter()
            .filter(|(sample, _)| named(sample))
            .map(|(_, value)| value)
            .sum()
    };
    assert_eq!(sum("up"), 1.0);
    let large = all
        .source(&chain.points[3].id, &chain.source)
        .join("own/large");
    let read = fs::read(&large).unwrap().len() as u64;

    let mounts = listed(&machine);
    assert_eq!(mounts.len(), 2);
    let of = |place: &Path| {
        mounts
            .iter()
            .find(|mount| mount["mount_point"] == *path_text(place))
            .unwrap()
    };
    for (mount, point) in [(&all, None), (&one, Some(&chain.points[3].id))] {
        let told = of(&mount.place);
        assert_eq!(told["repository"], *path_text(&machine.path("repository")));
        assert_eq!(told["point"].as_str(), point.map(|id| &id[..]));
        assert_eq!(told["process"], mount.process.as_raw_nonzero().get());
        assert_eq!(told["errors"], 0);
        let since: jiff::Timestamp = told["since"].as_str().unwrap().parse().unwrap();
        let age = jiff::Timestamp::now().as_second() - since.as_second();
        assert!((0..600).contains(&age), "{age}");
    }
    assert_eq!(of(&all.place)["bytes"], read);
    let requests = of(&all.place)["requests"].as_u64().unwrap();
    assert!(requests > of(&one.place)["requests"].as_u64().unwrap());
    let table = machine.done(&["mounts"]);
    assert!(table.starts_with("MOUNT POINT"), "{table}");
    assert!(table.contains(path_text(&all.place)), "{table}");

    machine.done(&["umount", path_text(&all.place)]);
    assert_eq!(listed(&machine).len(), 1);
    assert_eq!((sum("up"), sum("errors_total")), (0.0, 0.0));
    assert_eq!(sum("read_bytes_total"), read as f64);
    assert!(sum("requests_total") >= requests as f64);
    let beside = fs::read_dir(machine.path("")).unwrap();
    let names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = names.filter(|name| name.contains("prom")).collect();
    assert_eq!(left, ["bygone.prom"]);
    let refused = machine.refused(
        21,
        &[
            "mount",
            "--metrics-file",
            "/nowhere/at/all.prom",
            path_text(&all.place),
        ],
    );
    assert!(
        refused.contains("cannot write /nowhere/at/all.prom"),
        "{refused}"
    );
    assert!(!all.is_listed());
}
