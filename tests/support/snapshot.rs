//! Everything that can be seen of a tree through the kernel, as a value that can be compared.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// All entries of a tree by their paths from its root, the root itself as the empty path.
pub type Snapshot = BTreeMap<Vec<u8>, Seen>;

/// What is seen of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// File type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, i64),
    pub ctime: (i64, i64),
    /// 0 for directories, whose size is their file system's own matter; so are their blocks and links.
    pub size: u64,
    pub blocks: u64,
    pub links: u64,
    pub rdev: u64,
    pub target: Vec<u8>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// BLAKE3 of a regular file's bytes.
    pub hash: Option<[u8; 32]>,
    /// The ranges of a regular file that hold data.
    pub data: Vec<(u64, u64)>,
    /// The first path, in order, of the same inode.
    pub group: Vec<u8>,
}

/// Sees the tree at `root` whole.
pub fn snapshot(root: &Path) -> Snapshot {
    let mut seen = Snapshot::new();
    let mut paths = vec![PathBuf::new()];
    while let Some(path) = paths.pop() {
        let full = if path.as_os_str().is_empty() {
            root.to_path_buf()
        } else {
            root.join(&path)
        };
        let entry = see(&full, &path);
        if full.symlink_metadata().unwrap().is_dir() {
            let children = fs::read_dir(&full).unwrap_or_else(|e| panic!("list {full:?}: {e}"));
            paths.extend(children.map(|child| path.join(child.unwrap().file_name())));
        }
        let twice = seen.insert(path.as_os_str().as_bytes().to_vec(), entry);
        assert!(twice.is_none(), "{path:?} is listed twice");
    }
    join_groups(root, &mut seen);
    seen
}

fn see(full: &Path, path: &Path) -> Seen {
    let metadata = full
        .symlink_metadata()
        .unwrap_or_else(|e| panic!("stat {full:?}: {e}"));
    let kind = metadata.file_type();
    let own = |value| if kind.is_dir() { 0 } else { value };
    let is_device = kind.is_char_device() || kind.is_block_device();
    let (hash, data) = if kind.is_file() {
        content(full, metadata.len())
    } else {
        (None, Vec::new())
    };
    Seen {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        ctime: (metadata.ctime(), metadata.ctime_nsec()),
        size: own(metadata.len()),
        blocks: own(metadata.blocks()),
        links: own(metadata.nlink()),
        rdev: if is_device { metadata.rdev() } else { 0 },
        target: if kind.is_symlink() {
            fs::read_link(full).unwrap().into_os_string().into_vec()
        } else {
            Vec::new()
        },
        xattrs: xattrs(full),
        hash,
        data,
        group: path.as_os_str().as_bytes().to_vec(),
    }
}

fn xattrs(full: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let names = xattr::list(full).unwrap_or_else(|e| panic!("list xattrs of {full:?}: {e}"));
    let mut xattrs: Vec<_> = names
        .map(|name| {
            let value = xattr::get(full, &name)
                .unwrap()
                .unwrap_or_else(|| panic!("{full:?} lists {name:?} and has it not"));
            (name.into_vec(), value)
        })
        .collect();
    xattrs.sort();
    xattrs
}

fn content(full: &Path, size: u64) -> (Option<[u8; 32]>, Vec<(u64, u64)>) {
    let mut file = File::open(full).unwrap_or_else(|e| panic!("open {full:?}: {e}"));
    let data = data_ranges(&file, size);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .unwrap_or_else(|e| panic!("read {full:?}: {e}"));
    (Some(*blake3::hash(&bytes).as_bytes()), data)
}

/// What SEEK_DATA and SEEK_HOLE tell.
pub fn data_ranges(file: &File, size: u64) -> Vec<(u64, u64)> {
    use rustix::fs::{SeekFrom, seek};
    let mut ranges = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => panic!("SEEK_DATA: {error}"),
        };
        offset = seek(file, SeekFrom::Hole(start)).unwrap();
        ranges.push((start, offset));
    }
    rustix::fs::seek(file, SeekFrom::Start(0)).unwrap();
    ranges
}

/// Gives every member of a hard-link group the path of its first one.
fn join_groups(root: &Path, seen: &mut Snapshot) {
    let mut first: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for (path, entry) in seen.iter_mut() {
        let full = root.join(std::ffi::OsStr::from_bytes(path));
        let metadata = if path.is_empty() {
            root.symlink_metadata()
        } else {
            full.symlink_metadata()
        }
        .unwrap();
        if !metadata.is_dir() {
            let inode = (metadata.dev(), metadata.ino());
            entry
                .group
                .clone_from(first.entry(inode).or_insert_with(|| path.clone()));
        }
    }
}

/// Panics with the first few differences of two views of one tree, after `adjust` made them comparable.
pub fn assert_same(what: &str, expected: &Snapshot, actual: &Snapshot, adjust: impl Fn(&mut Seen)) {
    let mut differences = Vec::new();
    for path in expected
        .keys()
        .chain(actual.keys().filter(|path| !expected.contains_key(*path)))
    {
        let mut sides = [expected.get(path).cloned(), actual.get(path).cloned()];
        sides.iter_mut().flatten().for_each(&adjust);
        if sides[0] != sides[1] {
            let [expected, actual] = sides;
            let path = String::from_utf8_lossy(path);
            differences.push(format!(
                "{path:?}\n  expected {expected:?}\n  found    {actual:?}"
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{what}: {} differences, such as\n{}",
        differences.len(),
        differences[..differences.len().min(5)].join("\n")
    );
}
