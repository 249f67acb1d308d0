//! Backups and readings through the library, without a mount.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use bygone::base::{Key, PointId};
use bygone::fetch::Fetcher;
use bygone::format::FileType;
use bygone::repo::Repository;
use bygone::tree::{Attributes, NodeId, Numbers, SeekFor, Tree, TreeOptions};

use super::snapshot::{Seen, Snapshot};

/// Bytes of one read: no divisor of anything, so that reads end everywhere in chunks.
const READ_BYTES: u32 = 100_003;

/// What the tree of `point` is below `source`, as `snapshot` would see it.
pub fn read_point(repository: &Arc<Repository>, point: PointId, source: &Path) -> Snapshot {
    let fetcher = Fetcher::new(Arc::clone(repository), 64 << 20);
    let options = TreeOptions {
        point: Some(point),
        ..TreeOptions::default()
    };
    let tree = Tree::open(fetcher, Numbers::in_memory().unwrap(), options).unwrap();
    let mut root = tree.attributes(NodeId::ROOT).unwrap();
    for name in Key::from_path(source.as_os_str().as_bytes())
        .unwrap()
        .components()
    {
        root = tree
            .lookup(root.node, name)
            .unwrap()
            .unwrap_or_else(|| panic!("{source:?} is in the point"));
    }
    let mut nodes = BTreeMap::new();
    collect(&tree, root, &mut nodes);
    let mut first: BTreeMap<NodeId, Vec<u8>> = BTreeMap::new();
    nodes
        .into_iter()
        .map(|(path, attributes)| {
            let group = match attributes.file_type {
                FileType::Directory => path.clone(),
                _ => first
                    .entry(attributes.node)
                    .or_insert_with(|| path.clone())
                    .clone(),
            };
            let seen = see(&tree, &attributes, group);
            (path, seen)
        })
        .collect()
}

/// All nodes below and with `root`, by their paths.
fn collect(tree: &Tree, root: Attributes, nodes: &mut BTreeMap<Vec<u8>, Attributes>) {
    let mut directories = vec![(Vec::new(), root)];
    nodes.insert(Vec::new(), root);
    while let Some((path, directory)) = directories.pop() {
        let mut children = Vec::new();
        tree.list(directory.node, 0, &mut |entry| {
            children.push((entry.name.to_vec(), entry.node));
            true
        })
        .unwrap();
        for (name, node) in children {
            let attributes = tree.lookup(directory.node, &name).unwrap().unwrap();
            assert_eq!(
                attributes.node,
                node,
                "{:?} is listed as another node",
                name.escape_ascii().to_string()
            );
            assert_eq!(attributes, tree.attributes(node).unwrap());
            let child = if path.is_empty() {
                name
            } else {
                [&path[..], b"/", &name].concat()
            };
            if attributes.file_type == FileType::Directory {
                directories.push((child.clone(), attributes));
            }
            assert!(
                nodes.insert(child, attributes).is_none(),
                "a name is listed twice"
            );
        }
    }
}

fn see(tree: &Tree, attributes: &Attributes, group: Vec<u8>) -> Seen {
    let own = |value| {
        if attributes.file_type == FileType::Directory {
            0
        } else {
            value
        }
    };
    let is_regular = attributes.file_type == FileType::Regular;
    let time = |time: bygone::base::Timestamp| (time.seconds, i64::from(time.nanoseconds));
    let mut xattrs: Vec<_> = tree
        .xattr_names(attributes.node)
        .unwrap()
        .into_iter()
        .map(|name| {
            let value = tree
                .xattr(attributes.node, &name)
                .unwrap()
                .expect("it was listed");
            (name, value)
        })
        .collect();
    xattrs.sort();
    Seen {
        mode: mode(attributes),
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: time(attributes.mtime),
        ctime: time(attributes.ctime),
        size: own(attributes.size),
        blocks: own(attributes.blocks),
        links: own(attributes.links),
        rdev: attributes.rdev,
        target: match attributes.file_type {
            FileType::Symlink => tree.target(attributes.node).unwrap(),
            _ => Vec::new(),
        },
        xattrs,
        hash: is_regular.then(|| hash(tree, attributes)),
        data: if is_regular {
            data_ranges(tree, attributes)
        } else {
            Vec::new()
        },
        group,
    }
}

/// st_mode: permissions and type.
fn mode(attributes: &Attributes) -> u32 {
    let kind = match attributes.file_type {
        FileType::Directory => libc::S_IFDIR,
        FileType::Regular => libc::S_IFREG,
        FileType::Symlink => libc::S_IFLNK,
        FileType::Fifo => libc::S_IFIFO,
        FileType::Socket => libc::S_IFSOCK,
        FileType::CharacterDevice => libc::S_IFCHR,
        FileType::BlockDevice => libc::S_IFBLK,
    };
    kind | attributes.mode
}

fn hash(tree: &Tree, attributes: &Attributes) -> [u8; 32] {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < attributes.size {
        let read = tree
            .read(attributes.node, bytes.len() as u64, READ_BYTES)
            .unwrap();
        let expected = (attributes.size - bytes.len() as u64).min(u64::from(READ_BYTES));
        assert_eq!(read.len() as u64, expected, "a read is whole");
        read.append_to(&mut bytes);
    }
    *blake3::hash(&bytes).as_bytes()
}

fn data_ranges(tree: &Tree, attributes: &Attributes) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut offset = 0;
    while offset < attributes.size {
        let Some(start) = tree.seek(attributes.node, offset, SeekFor::Data).unwrap() else {
            break;
        };
        offset = tree
            .seek(attributes.node, start, SeekFor::Hole)
            .unwrap()
            .expect("a hole follows all data");
        ranges.push((start, offset));
    }
    ranges
}
