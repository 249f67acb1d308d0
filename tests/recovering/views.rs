//! What a mount of all points shows beside the points, against what other tools say of the plain trees.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::chain::{Chain, chain};
use crate::machine::run;

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
