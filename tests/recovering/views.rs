//! What a mount of all points shows beside the points, against what other tools say of the plain trees.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::chain::{Chain, chain};
use crate::itemized;
use crate::machine::{Machine, Mount, path_text, run, within};

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

fn names(folder: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// The names in a folder of the history: of what was ever there, and of versions.
fn shown(folder: &Path) -> (BTreeSet<OsString>, BTreeSet<OsString>) {
    names(folder).into_iter().partition(|name| {
        let name = name.as_encoded_bytes();
        !name.starts_with(b"@") || name.starts_with(b"@@")
    })
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

/// Does diff(1) find no difference in content and names?
fn is_same(one: &Path, other: &Path) -> bool {
    let diff = Command::new("diff")
        .args(["--recursive", "--brief", "--no-dereference"])
        .args([one, other])
        .output()
        .unwrap();
    match diff.status.code() {
        Some(code @ (0 | 1)) => code == 0,
        _ => panic!("{}", String::from_utf8_lossy(&diff.stderr)),
    }
}

/// The history of a path in the source.
fn history(mounted: &Mount, chain: &Chain, path: &str) -> PathBuf {
    let source = chain.source.strip_prefix("/").unwrap();
    mounted.path("history").join(source).join(path)
}

#[test]
fn the_history_of_a_folder_has_all_that_was_ever_in_it_and_each_version() {
    let chain = chain();
    let machine = chain.machine();
    let mounted = machine.mount("past", &[]);
    for path in ["own", "own/folder", "own/turns", "project/src", "project"] {
        let history = history(&mounted, chain, path);
        let (children, versions) = shown(&history);
        let trees = chain.points.iter().map(|kept| kept.tree.join(path));
        let trees: Vec<PathBuf> = trees.collect();
        let folders = trees.iter().filter(|tree| tree.is_dir());
        let ever: BTreeSet<OsString> = folders.flat_map(|tree| names(tree)).collect();
        assert_eq!(children, ever, "{path}");
        for name in &children {
            assert!(history.join(name).is_dir(), "{path}: {name:?}");
        }
        let mut last: Option<&PathBuf> = None;
        for (kept, tree) in chain.points.iter().zip(&trees) {
            let is_there = tree.symlink_metadata().is_ok();
            let version = history.join(format!("@{}", kept.id));
            let is_version = versions.contains(version.file_name().unwrap());
            let differs = match last {
                _ if !is_there => false,
                None => true,
                Some(last) if last.is_dir() != tree.is_dir() => true,
                Some(last) if tree.is_dir() => !itemized::differences(last, tree).is_empty(),
                Some(_) => false,
            };
            assert!(is_version || !differs, "{path} in {}", kept.version);
            if is_version {
                assert!(is_there, "{path} in {}", kept.version);
                let real = mounted.source(&kept.id, &chain.source).join(path);
                assert_eq!(inode(&version), inode(&real));
                // diff(1) does not compare FIFOs.
                if path != "own" {
                    assert!(is_same(&version, tree), "{path} in {}", kept.version);
                }
                for name in real.read_dir().into_iter().flatten() {
                    let name = name.unwrap().file_name();
                    assert_eq!(inode(&version.join(&name)), inode(&real.join(&name)));
                }
            }
            last = is_there.then_some(tree);
        }
    }
    // A version can be copied like any other folder.
    let version = history(&mounted, chain, "project/src").join(format!("@{}", chain.points[0].id));
    let copy = machine.path("copy");
    run(
        "cp",
        &[OsStr::new("-a"), version.as_os_str(), copy.as_os_str()],
    );
    assert!(is_same(&copy, &chain.points[0].tree.join("project/src")));
    assert!(!history(&mounted, chain, "own/never").exists());
    assert!(!history(&mounted, chain, "own").join("@2020").exists());
}

#[test]
fn the_history_of_a_file_has_each_of_its_versions() {
    let chain = chain();
    let machine = chain.machine();
    let mounted = machine.mount("past", &[]);
    for path in [
        "own/diary.txt",
        "own/letter",
        "own/script",
        "own/large",
        "project/src/lib.rs",
        "project/Cargo.toml",
        "project/README.md",
    ] {
        let path = Path::new(path);
        let mut expected = BTreeMap::new();
        let mut last = None;
        for kept in &chain.points {
            let now = version(&kept.tree.join(path));
            if now.is_some() && now != last {
                let suffix = path
                    .extension()
                    .map(|suffix| format!(".{}", suffix.display()));
                let name = format!("@{}{}", kept.id, suffix.unwrap_or_default());
                expected.insert(OsString::from(name), kept);
            }
            last = now;
        }
        let history = history(&mounted, chain, path_text(path));
        let (children, versions) = shown(&history);
        assert!(children.is_empty(), "{children:?}");
        assert!(
            versions.iter().eq(expected.keys()),
            "{path:?}: {versions:?}"
        );
        for (name, kept) in expected {
            let shown = history.join(name);
            assert!(
                version(&shown) == version(&kept.tree.join(path)),
                "{shown:?}"
            );
            let real = mounted.source(&kept.id, &chain.source).join(path);
            assert_eq!(inode(&shown), inode(&real));
        }
    }
}

#[test]
fn a_real_name_beside_versions_is_told_from_them_and_permissions_hold() {
    let machine = Machine::new();
    let source = machine.folder("source");
    let secret = machine.folder("source/secret");
    fs::write(source.join("@home"), "at home\n").unwrap();
    fs::write(secret.join("letter"), "for one person\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let first = machine.back_up("--full");
    let mounted = machine.mount("past", &["--refresh", "1", "--allow-other"]);
    let history = mounted
        .path("history")
        .join(source.strip_prefix("/").unwrap());
    let at_home = history.join("@@home").join(format!("@{first}"));
    assert_eq!(fs::read_to_string(at_home).unwrap(), "at home\n");
    assert!(!history.join("@home").exists());
    let as_nobody = |path: &Path| {
        let list = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls"])
            .arg(path)
            .output();
        list.unwrap().status.success()
    };
    assert!(as_nobody(&history));
    assert!(!as_nobody(&history.join("secret")));
    assert!(!as_nobody(&history.join("secret/letter")));

    fs::write(source.join("@home"), "at home again\n").unwrap();
    let second = machine.back_up("--incremental");
    let again = history.join("@@home").join(format!("@{second}"));
    assert!(within(Duration::from_secs(10), || again.exists()));
    assert_eq!(fs::read_to_string(&again).unwrap(), "at home again\n");
    assert_eq!(names(&history.join("@@home")).len(), 2);
    let pair = mounted.path("diff").join(format!("{first}..{second}"));
    let changed = pair.join("changed").join(source.strip_prefix("/").unwrap());
    assert_eq!(names(&changed), ["@home".into()].into());
    let removed = pair.join("removed");
    assert_eq!(names(&removed).len(), 0);
}

/// All paths below a folder.
fn paths(top: &Path) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path.clone());
            }
            paths.insert(path);
        }
    }
    paths
}

/// What rsync says differs in one way, with the folders on the way to it.
fn expected_paths(old: &Path, new: &Path, part: &str) -> BTreeSet<PathBuf> {
    let mut expected = BTreeSet::new();
    for (path, (change, what)) in itemized::differences(old, new) {
        let is_of_part = match part {
            "changed" => change == "changed" || change == "type",
            part => change == part,
        };
        let path = PathBuf::from(OsStr::from_bytes(&path));
        // A folder's time changes with the names in it.
        let is_folder = new.join(&path).is_dir() && !new.join(&path).is_symlink();
        if is_of_part && !(change == "changed" && is_folder && what == ["time"]) {
            expected.extend(path.ancestors().map(Path::to_owned));
        }
    }
    expected.remove(Path::new(""));
    expected
}

#[test]
fn two_points_differ_in_what_rsync_says() {
    let chain = chain();
    let machine = chain.machine();
    let mounted = machine.mount("past", &[]);
    let last = chain.points.len() - 1;
    let mut pairs: Vec<(usize, usize)> = (0..last).map(|old| (old, old + 1)).collect();
    let neighbours = pairs.iter().map(|(old, new)| {
        let (old, new) = (&chain.points[*old].id, &chain.points[*new].id);
        OsString::from(format!("{old}..{new}"))
    });
    assert_eq!(names(&mounted.path("diff")), neighbours.collect());
    pairs.extend([(0, last), (last, 0), (5, 8), (15, 13), (3, 3)]);
    let below = chain.source.strip_prefix("/").unwrap();
    for (old, new) in pairs {
        let (old, new) = (&chain.points[old], &chain.points[new]);
        let pair = mounted.path("diff").join(format!("{}..{}", old.id, new.id));
        assert_eq!(
            names(&pair),
            ["added", "changed", "removed"].map(Into::into).into()
        );
        for part in ["added", "changed", "removed"] {
            let expected = expected_paths(&old.tree, &new.tree, part);
            let top = pair.join(part).join(below);
            let found = if top.exists() {
                paths(&top)
            } else {
                BTreeSet::new()
            };
            assert_eq!(
                found, expected,
                "{part} from {} to {}",
                old.version, new.version
            );
            let of = if part == "removed" { old } else { new };
            for path in found {
                let (shown, plain) = (top.join(&path), of.tree.join(&path));
                assert_eq!(shown.is_dir(), plain.is_dir(), "{shown:?}");
                let real = mounted.source(&of.id, &chain.source).join(&path);
                if !shown.symlink_metadata().unwrap().is_dir() {
                    assert_eq!(inode(&shown), inode(&real), "{shown:?}");
                }
                if shown.symlink_metadata().unwrap().is_file() {
                    assert!(version(&shown) == version(&plain), "{shown:?}");
                }
            }
        }
    }
}

#[test]
fn points_to_compare_are_named_as_anywhere() {
    let chain = chain();
    let machine = chain.machine();
    let mounted = machine.mount("past", &[]);
    let last = chain.points.len() - 1;
    let pair = |name: &str| mounted.path("diff").join(name);
    let by_id = |old: usize, new: usize| {
        let (old, new) = (&chain.points[old].id, &chain.points[new].id);
        pair(&format!("{old}..{new}"))
    };
    for (name, old, new) in [
        ("latest~1..latest", last - 1, last),
        ("release=0.4.4..release=1.0.0", 2, 12),
    ] {
        let of = |version: &str| chain.points.iter().position(|kept| kept.version == version);
        let (old, new) = match name.starts_with("release") {
            true => (of("0.4.4").unwrap(), of("1.0.0").unwrap()),
            false => (old, new),
        };
        assert_eq!(paths(&pair(name)), paths(&by_id(old, new)), "{name}");
    }
    for name in ["latest", "latest..", "..latest", "latest..never", "x..y"] {
        assert!(!pair(name).exists(), "{name}");
    }
}
