//! The tree over a store in memory, with runs as a backup writes them.

#[path = "support/written.rs"]
mod written;

use std::collections::BTreeMap;
use std::sync::Arc;

use bygone::base::{ErrorKind, Key, Origin, PointId, Row, RunId};
use bygone::fetch::Fetcher;
use bygone::format::{
    ChunkPlace, Content, EXTENT_LIST_SPAN, Entry, Extent, ExtentList, FileType, Record,
    RunReference, Section, Xattr, encode_extents, pack_name, run_name,
};
use bygone::manifest::RunWriter;
use bygone::repo::PointFilter;
use bygone::seal::SealedKind;
use bygone::store::Store;
use bygone::tree::{Attributes, Lifetime, NodeId, Numbers, SeekFor, Tree, TreeOptions};

use written::{Written, entry};

fn key(path: &[u8]) -> Key {
    Key::from_path(path).unwrap()
}

fn directory() -> Entry {
    entry(FileType::Directory, 4096, Content::Nothing)
}

fn inline(bytes: &[u8]) -> Entry {
    entry(
        FileType::Regular,
        bytes.len() as u64,
        Content::Inline(bytes.to_vec()),
    )
}

/// Writes a run of these paths, None for a tombstone of a file; the directories above them too, each recorded anew.
fn write_run(written: &Written, filters: bool, entries: &[(&[u8], Option<Entry>)]) -> RunReference {
    let mut directories = BTreeMap::from([(Key::root(), directory())]);
    let mut files = BTreeMap::new();
    for (path, entry) in entries {
        let key = key(path);
        let mut above = key.parent();
        while let Some(parent) = above {
            directories.entry(parent.clone()).or_insert_with(directory);
            above = parent.parent();
        }
        match entry {
            Some(entry) if entry.metadata.file_type == FileType::Directory => {
                directories.insert(key, entry.clone());
            }
            entry => {
                files.insert(key, entry.clone());
            }
        }
    }
    let mut run = RunWriter::create(&written.repository, filters).unwrap();
    for (key, entry) in directories {
        run.append(&key, Section::Directories, &Record::Entry(Box::new(entry)))
            .unwrap();
    }
    for (key, entry) in files {
        let record = match entry {
            Some(entry) => Record::Entry(Box::new(entry)),
            None => Record::Tombstone { excluded: false },
        };
        run.append(&key, Section::Files, &record).unwrap();
    }
    run.finish().unwrap()
}

fn single(point: PointId) -> TreeOptions {
    TreeOptions {
        point: Some(point),
        ..TreeOptions::default()
    }
}

fn find(tree: &Tree, path: &[u8]) -> Option<Attributes> {
    let mut attributes = tree.attributes(NodeId::ROOT).unwrap();
    for name in path.split(|byte| *byte == b'/') {
        attributes = tree.lookup(attributes.node, name).unwrap()?;
    }
    Some(attributes)
}

fn get(tree: &Tree, path: &[u8]) -> Attributes {
    find(tree, path).unwrap_or_else(|| panic!("{} is there", path.escape_ascii()))
}

fn read(tree: &Tree, node: NodeId, offset: u64, size: u32) -> Vec<u8> {
    let bytes = tree.read(node, offset, size).unwrap();
    let mut out = Vec::new();
    bytes.append_to(&mut out);
    assert_eq!(out.len(), bytes.len());
    if let Some(contiguous) = bytes.contiguous() {
        assert_eq!(out, contiguous);
    }
    out
}

/// Names and cookies from a cookie on, at most so many.
fn list(tree: &Tree, directory: NodeId, cookie: u64, count: usize) -> Vec<(Vec<u8>, u64)> {
    let mut names = Vec::new();
    tree.list(directory, cookie, &mut |entry| {
        if names.len() == count {
            return false;
        }
        names.push((entry.name.to_vec(), entry.cookie));
        true
    })
    .unwrap();
    names
}

fn names(tree: &Tree, directory: NodeId) -> Vec<Vec<u8>> {
    let listed = list(tree, directory, 0, usize::MAX);
    listed.into_iter().map(|(name, _)| name).collect()
}

/// Bytes that do not compress to nothing, another for each seed.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn names_in_any_bytes_are_found_and_listed_files_first() {
    let written = Written::new();
    let run = write_run(
        &written,
        false,
        &[
            (b"a\xff\xfe/\x01", Some(inline(b"one"))),
            (b"a\xff\xfe/ ", Some(inline(b"two"))),
            (b"a\xff\xfe/z\n/deep", Some(inline(b"three"))),
            (b"a\xff\xfe/m", Some(directory())),
            (b"-", Some(inline(b"four"))),
        ],
    );
    let point = written.commit(vec![run], "host");
    let tree = written.tree(single(point));
    assert_eq!(names(&tree, NodeId::ROOT), [&b"-"[..], b"a\xff\xfe"]);
    let inner = get(&tree, b"a\xff\xfe");
    assert_eq!(names(&tree, inner.node), [&b"\x01"[..], b" ", b"m", b"z\n"]);
    let deep = get(&tree, b"a\xff\xfe/z\n/deep");
    assert_eq!(read(&tree, deep.node, 0, 100), b"three");
    assert_eq!(read(&tree, deep.node, 2, 2), b"re");
    assert_eq!(read(&tree, deep.node, 5, 2), b"");
    for absent in [&b"b"[..], b"a\xff\xfe/z", b"-/x", b".", b".."] {
        let found = find(&tree, absent.split(|byte| *byte == b'/').next().unwrap());
        if absent == b"-/x" {
            let error = tree.lookup(found.unwrap().node, b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Missing);
        } else {
            assert!(find(&tree, absent).is_none(), "{}", absent.escape_ascii());
        }
    }
}

#[test]
fn attributes_are_the_same_from_a_lookup_a_listing_and_a_node_id_alone() {
    let written = Written::new();
    let mut link = entry(FileType::Symlink, 6, Content::Nothing);
    link.metadata.target = b"target".to_vec();
    let mut device = entry(FileType::CharacterDevice, 0, Content::Nothing);
    device.metadata.rdev = 0x103;
    let mut file = inline(b"x");
    file.metadata.xattrs = vec![Xattr {
        name: b"user.a".to_vec(),
        value: b"\0\xff".to_vec(),
    }];
    let run = write_run(
        &written,
        false,
        &[
            (b"d/link", Some(link)),
            (b"d/device", Some(device)),
            (b"d/file", Some(file)),
            (b"d/e", Some(directory())),
        ],
    );
    let point = written.commit(vec![run], "host");
    let tree = written.tree(single(point));
    let above = get(&tree, b"d");
    let mut count = 0;
    tree.list(above.node, 0, &mut |listed| {
        let attributes = listed.attributes.unwrap();
        let found = tree.lookup(above.node, listed.name).unwrap().unwrap();
        assert_eq!(attributes, found);
        // A tree that has looked nothing up knows a node all the same: only its numbers must be these.
        assert_eq!(
            written.tree(single(point)).attributes(listed.node).unwrap(),
            found
        );
        assert_eq!(tree.attributes(listed.node).unwrap(), found);
        assert_eq!(attributes.lifetime, Lifetime::Forever);
        count += 1;
        true
    })
    .unwrap();
    assert_eq!(count, 4);
    let file = get(&tree, b"d/file").node;
    assert_eq!(tree.xattr_names(file).unwrap(), [b"user.a"]);
    assert_eq!(tree.xattr(file, b"user.a").unwrap().unwrap(), b"\0\xff");
    assert_eq!(tree.xattr(file, b"user.b").unwrap(), None);
    let birth = tree.xattr(file, b"user.bygone.btime").unwrap().unwrap();
    assert_eq!(birth, b"1700000000.000000003");
    assert_eq!(tree.target(get(&tree, b"d/link").node).unwrap(), b"target");
    assert_eq!(get(&tree, b"d/device").rdev, 0x103);
    assert_eq!(tree.has_xattrs(), Some(true));
    assert_eq!(tree.usage().bytes, 1000);
}

/// A file of chunks, holes and zeros, its content, and where it has holes.
fn holey(written: &Written) -> (Vec<Extent>, Vec<u8>, Vec<bool>) {
    let chunks: Vec<Vec<u8>> = (0..6)
        .map(|seed| bytes(seed, 1000 + seed as usize))
        .collect();
    let frames: Vec<Vec<Vec<u8>>> = chunks.chunks(2).map(<[_]>::to_vec).collect();
    let places = written.pack(SealedKind::Data, &frames);
    let mut extents = vec![Extent::Hole(700)];
    let (mut plain, mut holes) = (vec![0; 700], vec![true; 700]);
    for (number, (place, chunk)) in places.iter().zip(&chunks).enumerate() {
        extents.push(Extent::Chunk(*place));
        plain.extend_from_slice(chunk);
        holes.resize(plain.len(), false);
        let gap = 1 + 300 * number as u64;
        let is_hole = number % 2 == 1;
        extents.push(if is_hole {
            Extent::Hole(gap)
        } else {
            Extent::Zeros(gap)
        });
        plain.resize(plain.len() + gap as usize, 0);
        holes.resize(plain.len(), is_hole);
    }
    (extents, plain, holes)
}

fn check_content(tree: &Tree, node: NodeId, start: u64, plain: &[u8], holes: &[bool]) {
    let length = plain.len() as u64;
    for offset in (0..length + 500).step_by(97) {
        for size in [0, 1, 50, 1000, 4096, 100_000] {
            let from = offset.min(length) as usize;
            let to = (offset + size).min(length) as usize;
            // What begins in the file's last part is compared; where the file goes on, so does the read.
            assert_eq!(
                read(tree, node, start + offset, size as u32),
                &plain[from..to],
                "{size} bytes at {offset}"
            );
        }
    }
    for offset in (0..length + 10).step_by(61) {
        let rest = holes.get(offset as usize..).unwrap_or_default();
        let place = |hole: bool| {
            let found = rest.iter().position(|is_hole| *is_hole == hole)?;
            Some(start + offset + found as u64)
        };
        let data = tree.seek(node, start + offset, SeekFor::Data).unwrap();
        assert_eq!(data, place(false), "data at {offset}");
        let hole = tree.seek(node, start + offset, SeekFor::Hole).unwrap();
        let behind = (offset < length).then_some(start + length);
        assert_eq!(hole, place(true).or(behind), "hole at {offset}");
    }
}

#[test]
fn any_range_of_a_file_with_holes_reads_as_it_was() {
    let written = Written::new();
    let (extents, plain, holes) = holey(&written);
    let file = entry(
        FileType::Regular,
        plain.len() as u64,
        Content::Extents(extents),
    );
    let run = write_run(&written, false, &[(b"file", Some(file))]);
    let point = written.commit(vec![run], "host");
    let tree = written.tree(single(point));
    check_content(&tree, get(&tree, b"file").node, 0, &plain, &holes);
}

#[test]
fn a_file_of_extent_lists_reads_as_it_was() {
    let written = Written::new();
    let (extents, plain, holes) = holey(&written);
    let first = encode_extents(&[Extent::Hole(EXTENT_LIST_SPAN)]).unwrap();
    let last = encode_extents(&extents).unwrap();
    let places = written.pack(SealedKind::ExtentList, &[vec![first, last]]);
    let list = |chunk: ChunkPlace, span| ExtentList { chunk, span };
    let lists = vec![
        list(places[0], EXTENT_LIST_SPAN),
        list(places[0], EXTENT_LIST_SPAN),
        list(places[1], plain.len() as u64),
    ];
    let start = 2 * EXTENT_LIST_SPAN;
    let size = start + plain.len() as u64;
    let file = entry(FileType::Regular, size, Content::Lists(lists));
    let run = write_run(&written, false, &[(b"file", Some(file))]);
    let point = written.commit(vec![run], "host");
    let tree = written.tree(single(point));
    let node = get(&tree, b"file").node;
    check_content(&tree, node, start, &plain, &holes);
    let across = read(&tree, node, EXTENT_LIST_SPAN - 100, 200);
    assert_eq!(across, [0; 200]);
    let into = read(&tree, node, start - 10, 1000);
    assert_eq!((&into[..10], &into[10..]), (&[0; 10][..], &plain[..990]));
    assert_eq!(
        tree.seek(node, 0, SeekFor::Data).unwrap(),
        Some(start + 700)
    );
    assert_eq!(tree.seek(node, 5, SeekFor::Hole).unwrap(), Some(5));
}

fn origin(run: RunId, row: u64) -> Option<Origin> {
    Some(Origin { run, row: Row(row) })
}

#[test]
fn inherited_files_are_one_node_across_points_and_a_later_full() {
    let written = Written::new();
    let names: [&[u8]; 4] = [b"d/changed", b"d/equal", b"e/equal", b"f/equal"];
    let all = |text: &str| -> Vec<(&[u8], Option<Entry>)> {
        names
            .iter()
            .map(|name| (*name, Some(inline(text.as_bytes()))))
            .collect()
    };
    let full = write_run(&written, false, &all("first"));
    let change = write_run(&written, true, &[(b"d/changed", Some(inline(b"second")))]);
    let mut copied = all("first");
    copied[0].1 = Some(inline(b"second"));
    copied[0].1.as_mut().unwrap().origin = origin(change.id, 0);
    for (row, (_, entry)) in copied.iter_mut().enumerate().skip(1) {
        entry.as_mut().unwrap().origin = origin(full.id, row as u64);
    }
    let copied = write_run(&written, false, &copied);
    assert!(copied.origins.contains(&full.id) && copied.origins.contains(&change.id));
    let first = written.commit(vec![full.clone()], "host");
    let second = written.commit(vec![change, full], "host");
    let third = written.commit(vec![copied], "host");
    let tree = written.tree(TreeOptions::default());
    let at = |point: PointId, path: &str| get(&tree, format!("points/{point}/{path}").as_bytes());
    for path in ["d/equal", "e/equal", "f/equal"] {
        assert_eq!(at(first, path), at(second, path), "{path}");
        assert_eq!(at(first, path), at(third, path), "{path}");
    }
    assert_ne!(at(first, "d/changed").node, at(second, "d/changed").node);
    assert_eq!(at(second, "d/changed").node, at(third, "d/changed").node);
    assert_eq!(read(&tree, at(third, "d/changed").node, 0, 10), b"second");
    // A mount of the last point alone knows the run that recorded them first by name only.
    let alone = written.tree(single(third));
    let node = get(&alone, b"e/equal").node;
    let fresh = written.tree(single(third));
    assert_eq!(fresh.attributes(node).unwrap().size, 5);
    assert_eq!(read(&fresh, node, 0, 10), b"first");
}

#[test]
fn directories_share_an_inode_number_and_never_a_node_and_roots_share_nothing() {
    let written = Written::new();
    let full = write_run(
        &written,
        false,
        &[
            (b"same/file", Some(inline(b"1"))),
            (b"other/file", Some(inline(b"2"))),
        ],
    );
    let change = write_run(&written, true, &[(b"other/file", Some(inline(b"33")))]);
    let first = written.commit(vec![full.clone()], "host");
    let second = written.commit(vec![change, full.clone()], "host");
    let third = written.commit(vec![full], "host");
    let tree = written.tree(TreeOptions::default());
    let at = |point: PointId, path: &str| get(&tree, format!("points/{point}{path}").as_bytes());
    let (one, two) = (at(first, "/same"), at(second, "/same"));
    assert_eq!(one.inode, two.inode);
    assert_ne!(one.node, two.node);
    assert_eq!(tree.attributes(two.node).unwrap(), two);
    assert_ne!(at(first, "/other").inode, at(second, "/other").inode);
    assert_eq!(at(first, "/other").inode, at(third, "/other").inode);
    let roots = [first, second, third].map(|point| at(point, ""));
    for (place, root) in roots.iter().enumerate() {
        assert_eq!(root.lifetime, Lifetime::Short);
        assert_eq!(tree.attributes(root.node).unwrap(), *root);
        for other in &roots[..place] {
            assert_ne!(root.inode, other.inode);
            assert_ne!(root.node, other.node);
        }
    }
}

#[test]
fn hard_links_are_one_node_whichever_member_survives() {
    let written = Written::new();
    // Rows count in order of keys: d/a is row 0, and names the group.
    let mut run = RunWriter::create(&written.repository, false).unwrap();
    let group = origin(run.id(), 0);
    let member = || {
        let mut file = inline(b"linked");
        file.metadata.links = 2;
        file.group = group;
        file
    };
    for path in [&b""[..], b"d", b"e"] {
        let record = Record::Entry(Box::new(directory()));
        run.append(&key(path), Section::Directories, &record)
            .unwrap();
    }
    for path in [&b"d/a"[..], b"e/b"] {
        let record = Record::Entry(Box::new(member()));
        run.append(&key(path), Section::Files, &record).unwrap();
    }
    let run = run.finish().unwrap();
    let first = written.commit(vec![run.clone()], "host");
    let tree = written.tree(single(first));
    let (a, b) = (get(&tree, b"d/a"), get(&tree, b"e/b"));
    assert_eq!(a, b);
    assert_eq!((a.links, a.inode), (2, a.node.0));
    // A full in which the first member is gone: the other one answers for the group.
    let mut survivor = member();
    survivor.origin = origin(run.id, 1);
    let full = write_run(&written, false, &[(b"e/b", Some(survivor))]);
    let second = written.commit(vec![full], "host");
    let alone = written.tree(single(second));
    let node = get(&alone, b"e/b").node;
    let fresh = written.tree(single(second));
    assert_eq!(read(&fresh, node, 0, 100), b"linked");
    let whole = written.tree(TreeOptions::default());
    let at = |point: PointId, path: &str| get(&whole, format!("points/{point}/{path}").as_bytes());
    assert_eq!(at(first, "d/a").node, at(second, "e/b").node);
}

#[test]
fn a_deleted_file_is_gone_and_a_replaced_type_is_the_new_one() {
    let written = Written::new();
    let full = write_run(
        &written,
        false,
        &[
            (b"gone", Some(inline(b"1"))),
            (b"turned", Some(inline(b"2"))),
            (b"stays", Some(inline(b"3"))),
        ],
    );
    let change = write_run(
        &written,
        true,
        &[
            (b"gone", None),
            (b"turned/inside", Some(inline(b"4"))),
            (b"turned", None),
        ],
    );
    let point = written.commit(vec![change, full], "host");
    let tree = written.tree(single(point));
    assert_eq!(names(&tree, NodeId::ROOT), [&b"stays"[..], b"turned"]);
    assert!(find(&tree, b"gone").is_none());
    assert_eq!(read(&tree, get(&tree, b"turned/inside").node, 0, 9), b"4");
}

#[test]
fn new_points_appear_when_polled_and_say_what_to_forget() {
    let written = Written::new();
    let run = write_run(&written, false, &[(b"file", Some(inline(b"1")))]);
    let first = written.commit(vec![run.clone()], "alpha");
    let tree = written.tree(TreeOptions::default());
    let root = tree.attributes(NodeId::ROOT).unwrap();
    let latest = get(&tree, b"latest");
    assert!(tree.poll().unwrap().is_empty());
    let second = written.commit(vec![run.clone()], "beta");
    let changes = tree.poll().unwrap();
    assert!(
        changes
            .entries
            .contains(&(NodeId::ROOT, b"latest".to_vec()))
    );
    assert!(changes.inodes.contains(&NodeId::ROOT));
    let points = get(&tree, b"points").node;
    assert!(
        changes
            .entries
            .contains(&(points, second.to_string().into_bytes()))
    );
    assert!(tree.attributes(NodeId::ROOT).unwrap().mtime > root.mtime);
    let newer = get(&tree, b"latest");
    assert_ne!(latest.node, newer.node);
    assert_eq!(
        tree.target(newer.node).unwrap(),
        format!("points/{second}").into_bytes()
    );
    assert_eq!(newer.size, tree.target(newer.node).unwrap().len() as u64);
    let of_host = get(&tree, b"hosts/alpha/latest").node;
    assert_eq!(
        tree.target(of_host).unwrap(),
        format!("../../points/{first}").into_bytes()
    );
    assert_eq!(
        read(
            &tree,
            get(&tree, format!("points/{second}/file").as_bytes()).node,
            0,
            5
        ),
        b"1"
    );
    assert_eq!(tree.has_xattrs(), None);
    assert_eq!(tree.usage().bytes, 2000);
    // One point at the root stays what it is.
    let alone = written.tree(single(first));
    written.commit(vec![run], "alpha");
    assert!(alone.poll().unwrap().is_empty());
    assert_eq!(names(&alone, NodeId::ROOT), [b"file"]);
}

#[test]
fn a_filter_narrows_the_views_and_nothing_else() {
    let written = Written::new();
    let run = write_run(&written, false, &[(b"file", Some(inline(b"1")))]);
    written.commit(vec![run.clone()], "alpha");
    let beta = written.commit(vec![run.clone()], "beta");
    written.commit(vec![run], "alpha");
    let filter = PointFilter {
        host: Some("beta".to_owned()),
        ..PointFilter::default()
    };
    let tree = written.tree(TreeOptions {
        filter,
        ..TreeOptions::default()
    });
    let points = get(&tree, b"points").node;
    assert_eq!(names(&tree, points), [beta.to_string().as_bytes()]);
    assert_eq!(names(&tree, get(&tree, b"hosts").node), [b"beta"]);
    assert_eq!(
        read(
            &tree,
            get(&tree, format!("points/{beta}/file").as_bytes()).node,
            0,
            5
        ),
        b"1"
    );
}

#[test]
fn a_listing_of_ten_thousand_goes_on_from_any_cookie_at_any_time() {
    let written = Written::new();
    let paths: Vec<Vec<u8>> = (0..10_000)
        .map(|number| format!("big/{:x}", number * 7919 % 10_007).into_bytes())
        .collect();
    let entry = |number: usize| {
        if number.is_multiple_of(10) {
            directory()
        } else {
            inline(b"x")
        }
    };
    let all: Vec<(&[u8], Option<Entry>)> = paths
        .iter()
        .enumerate()
        .map(|(number, path)| (&path[..], Some(entry(number))))
        .collect();
    // Two runs, the files of one between those of the other.
    let (even, odd): (Vec<_>, Vec<_>) = all
        .iter()
        .cloned()
        .enumerate()
        .partition(|(number, _)| number % 2 == 0);
    let strip =
        |some: Vec<(usize, _)>| some.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>();
    let full = write_run(&written, false, &strip(even));
    let change = write_run(&written, true, &strip(odd));
    let point = written.commit(vec![change, full], "host");
    let tree = written.tree(single(point));
    let big = get(&tree, b"big").node;
    let whole = list(&tree, big, 0, usize::MAX);
    let mut expected: Vec<(bool, Vec<u8>)> = paths
        .iter()
        .enumerate()
        .map(|(number, path)| (number % 10 == 0, path[4..].to_vec()))
        .collect();
    expected.sort();
    let found: Vec<&[u8]> = whole.iter().map(|(name, _)| &name[..]).collect();
    let expected: Vec<&[u8]> = expected.iter().map(|(_, name)| &name[..]).collect();
    assert_eq!(found, expected);
    // A stream that reads on, with a buffer of 37 entries.
    let (mut streamed, mut cookie) = (Vec::new(), 0);
    loop {
        let some = list(&tree, big, cookie, 37);
        let Some((_, last)) = some.last() else { break };
        cookie = *last;
        streamed.extend(some);
    }
    assert_eq!(streamed, whole);
    // Seeks to places all over, in a tree that remembers nothing of this directory, and one that remembers much.
    let fresh = written.tree(single(point));
    let big_again = get(&fresh, b"big").node;
    assert_eq!(big_again, big);
    for step in (0..whole.len() - 1).step_by(97) {
        let place = step * 31 % (whole.len() - 1);
        let (_, cookie) = whole[place];
        assert_eq!(
            list(&fresh, big, cookie, 3),
            whole[place + 1..whole.len().min(place + 4)]
        );
        assert_eq!(
            list(&tree, big, cookie, 3),
            whole[place + 1..whole.len().min(place + 4)]
        );
    }
    let (_, last) = whole.last().unwrap();
    assert_eq!(list(&fresh, big, *last, 3), []);
    // The caller's own cookies mean the start, and one of another directory is refused.
    assert_eq!(list(&tree, big, 2, 1), whole[..1]);
    let (_, cookie) = whole[0];
    let error = tree.list(NodeId::ROOT, cookie, &mut |_| true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn a_damaged_frame_costs_its_files_and_the_error_says_all_that_is_known() {
    let written = Written::new();
    let chunks: Vec<Vec<u8>> = (0..3).map(|seed| bytes(seed, 5000)).collect();
    let frames: Vec<Vec<Vec<u8>>> = chunks.iter().map(|chunk| vec![chunk.clone()]).collect();
    let places = written.pack(SealedKind::Data, &frames);
    let file = |number: usize| {
        let extents = vec![Extent::Chunk(places[number])];
        Some(entry(FileType::Regular, 5000, Content::Extents(extents)))
    };
    let run = write_run(
        &written,
        false,
        &[(b"d/0", file(0)), (b"d/1", file(1)), (b"d/2", file(2))],
    );
    let point = written.commit(vec![run], "host");
    let name = pack_name(&places[1].hint.pack);
    let mut pack = written.memory.get(&name).unwrap();
    pack[places[1].hint.frame_offset as usize + 2000] ^= 4;
    written.memory.damage(&name, &pack);
    let tree = written.tree(single(point));
    for good in [0, 2] {
        let node = get(&tree, format!("d/{good}").as_bytes()).node;
        assert_eq!(read(&tree, node, 0, 10_000), chunks[good]);
    }
    let node = get(&tree, b"d/1").node;
    let error = tree.read(node, 4096, 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let message = error.to_string();
    for part in [
        "/d/1 at offset 4096".to_owned(),
        places[1].id.to_string(),
        places[1].hint.pack.to_string(),
        places[1].hint.frame_offset.to_string(),
    ] {
        assert!(message.contains(&part), "{part} is not in: {message}");
    }
}

#[test]
fn a_damaged_block_of_a_run_ends_a_listing_with_an_error_after_what_could_be_read() {
    let written = Written::new();
    let paths: Vec<Vec<u8>> = (0..10_000)
        .map(|number| format!("big/{number:05}").into_bytes())
        .collect();
    let all: Vec<(&[u8], Option<Entry>)> = paths
        .iter()
        .map(|path| (&path[..], Some(inline(b"x"))))
        .chain([(&b"small/file"[..], Some(inline(b"y")))])
        .collect();
    let run = write_run(&written, false, &all);
    // Files lie first in a run, and take most of it.
    let name = run_name(&run.id);
    let mut object = written.memory.get(&name).unwrap();
    let middle = object.len() / 2;
    object[middle] ^= 1;
    written.memory.damage(&name, &object);
    let point = written.commit(vec![run], "host");
    let tree = written.tree(single(point));
    let big = get(&tree, b"big").node;
    let (mut listed, mut cookie) = (0, 0);
    let error = loop {
        let before = listed;
        let result = tree.list(big, cookie, &mut |entry| {
            let is_taken = listed - before < 100;
            if is_taken {
                cookie = entry.cookie;
                listed += 1;
            }
            is_taken
        });
        match result {
            Ok(()) => assert_ne!(listed, before, "the damage must show"),
            Err(error) => break error,
        }
    };
    assert!((1000..9000).contains(&listed), "{listed}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let message = error.to_string();
    assert!(
        message.contains("/big") && message.contains("block"),
        "{message}"
    );
    assert_eq!(read(&tree, get(&tree, b"small/file").node, 0, 9), b"y");
    assert_eq!(read(&tree, get(&tree, b"big/00000").node, 0, 9), b"x");
    assert_eq!(read(&tree, get(&tree, b"big/09999").node, 0, 9), b"x");
}

#[test]
fn node_ids_outlive_a_mount_and_threads_see_the_same_tree() {
    let written = Written::new();
    let paths: Vec<Vec<u8>> = (0..300)
        .map(|number| format!("d{}/e/f{number}", number % 7).into_bytes())
        .collect();
    let all: Vec<(&[u8], Option<Entry>)> = paths
        .iter()
        .map(|path| (&path[..], Some(inline(path))))
        .collect();
    let run = write_run(&written, false, &all);
    let other = write_run(&written, false, &all[..1]);
    written.commit(vec![other], "other");
    let point = written.commit(vec![run], "host");
    let folder = tempfile::tempdir().unwrap();
    let open = |options: TreeOptions| {
        let fetcher = Fetcher::new(Arc::clone(&written.repository), 1 << 20);
        let numbers = Numbers::open(&folder.path().join("numbers")).unwrap();
        Tree::open(fetcher, numbers, options).unwrap()
    };
    // The first mount knows one point only, the second one meets another first.
    let nodes: Vec<NodeId> = {
        let tree = open(single(point));
        paths.iter().map(|path| get(&tree, path).node).collect()
    };
    let tree = open(TreeOptions::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (tree, paths, nodes) = (&tree, &paths, &nodes);
            scope.spawn(move || {
                for step in 0..paths.len() {
                    let number = (step * 11 + thread * 50) % paths.len();
                    let path = [format!("points/{point}/").as_bytes(), &paths[number]].concat();
                    let found = get(tree, &path);
                    assert_eq!(found.node, nodes[number]);
                    assert_eq!(tree.attributes(found.node).unwrap(), found);
                    assert_eq!(read(tree, found.node, 0, 100), paths[number]);
                }
            });
        }
    });
}

#[test]
fn nodes_that_are_not_there_are_missing_and_nothing_panics() {
    let written = Written::new();
    let run = write_run(&written, false, &[(b"d/file", Some(inline(b"1")))]);
    let point = written.commit(vec![run], "host");
    let trees = [
        written.tree(single(point)),
        written.tree(TreeOptions::default()),
    ];
    let known = get(&trees[0], b"d/file").node.0;
    let directory = get(&trees[0], b"d").node.0;
    let numbers = (0..64).map(|bit| 1_u64 << bit);
    for number in numbers.chain([0, known + 1, known + (1 << 38), directory + 100, u64::MAX]) {
        let node = NodeId(number);
        for tree in &trees {
            if tree.attributes(node).is_ok() {
                continue;
            }
            assert!(tree.lookup(node, b"x").is_err());
            assert!(tree.list(node, 0, &mut |_| true).is_err());
            assert!(tree.read(node, 0, 10).is_err());
            assert!(tree.xattr_names(node).is_err());
            assert!(node.is_directory() || tree.target(node).is_err());
        }
    }
}
