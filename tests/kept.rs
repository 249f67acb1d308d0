//! What a backup keeps, through the library: files of every kind, kinds of points, origins, links, what could not be
//! read, what is left out.

mod support {
    pub mod backups;
    #[expect(dead_code, reason = "other tests use the rest of it")]
    pub mod encryption;
    pub mod library;
    pub mod snapshot;
}

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bygone::base::{ErrorKind, Event, Key, Monitor, Silent};
use bygone::fetch::Fetcher;
use bygone::format::{Content, Point, PointKind, Record, Section};
use bygone::manifest::{Chain, Found};
use bygone::ops::backup::{BackupOptions, BackupReport, backup};
use bygone::repo::{Repository, list_packs, points, read_pack_directory};
use bygone::store::{MemoryStore, Store};
use rustix::fs::{CWD, FileType as SystemType, Mode, mknodat};
use tempfile::TempDir;

use support::backups::{back_up_with, now, options};
use support::encryption;
use support::library::read_point;
use support::snapshot::{assert_same, snapshot};

/// A source tree and a repository in memory.
struct Scene {
    source: PathBuf,
    repository: Arc<Repository>,
    store: Arc<MemoryStore>,
    _folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().canonicalize().unwrap().join("source");
        fs::create_dir(&source).unwrap();
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store.clone(), &encryption::init_options()).unwrap();
        Self {
            source,
            repository,
            store,
            _folder: folder,
        }
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let scene = Self::new();
        for (path, text) in files {
            scene.write(path, text.as_bytes());
        }
        scene
    }

    fn path(&self, below: &str) -> PathBuf {
        self.source.join(below)
    }

    fn write(&self, below: &str, bytes: &[u8]) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn options(&self, kind: PointKind) -> BackupOptions {
        BackupOptions {
            kind,
            ..options(&[&self.source])
        }
    }

    fn run(&self, options: &BackupOptions) -> (BackupReport, Vec<String>) {
        // What is written out later than it is backed up may take other blocks than it took then.
        rustix::fs::syncfs(File::open(self.source.parent().unwrap()).unwrap()).unwrap();
        back_up_with(&self.repository, options)
    }

    /// A backup that has nothing to warn of.
    fn back_up(&self, kind: PointKind) -> Point {
        let (report, warnings) = self.run(&self.options(kind));
        assert_eq!(warnings, [""; 0]);
        report.point.unwrap()
    }

    fn full(&self) -> Point {
        self.back_up(PointKind::Full)
    }

    fn incremental(&self) -> Point {
        self.back_up(PointKind::Incremental)
    }

    fn chain(&self, point: &Point) -> Chain {
        let fetcher = Fetcher::new(Arc::clone(&self.repository), 1 << 20);
        Chain::open(&fetcher, point).unwrap()
    }

    fn key(&self, below: &str) -> Key {
        let path = if below.is_empty() {
            self.source.clone()
        } else {
            self.path(below)
        };
        Key::from_path(path.as_os_str().as_bytes()).unwrap()
    }

    fn found(&self, point: &Point, below: &str) -> Option<Found> {
        self.chain(point).lookup(&self.key(below)).unwrap()
    }

    fn origin(&self, point: &Point, below: &str) -> bygone::base::Origin {
        self.found(point, below).unwrap().origin
    }

    /// The point's own records below the source, as `+path`, `-path` or `excluded path`, directories first.
    fn recorded(&self, point: &Point) -> Vec<String> {
        let chain = self.chain(point);
        let top = format!("{}/", self.source.display());
        let mut lines = Vec::new();
        for section in [Section::Directories, Section::Files] {
            for keyed in chain.runs()[0].records(section, b"") {
                let keyed = keyed.unwrap();
                let path = keyed.key.to_string();
                let Some(below) = path.strip_prefix(&top) else {
                    continue;
                };
                lines.push(match keyed.record {
                    Record::Entry(entry) if entry.flags.changed_below => format!("~{below}"),
                    Record::Entry(_) => format!("+{below}"),
                    Record::Tombstone { excluded: true } => format!("excluded {below}"),
                    Record::Tombstone { excluded: false } => format!("-{below}"),
                });
            }
        }
        lines
    }

    /// Compares a point with the source as it is now.
    fn assert_kept(&self, point: &Point) {
        let actual = read_point(&self.repository, point.id, &self.source);
        assert_same("the point", &snapshot(&self.source), &actual, |_| {});
    }

    fn frames(&self) -> usize {
        let packs = list_packs(&self.repository).unwrap();
        packs
            .iter()
            .map(|(pack, _)| {
                read_pack_directory(&self.repository, pack)
                    .unwrap()
                    .frames()
                    .len()
            })
            .sum()
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn files_of_every_type_and_size_come_back_as_they_were() {
    let scene = Scene::with(&[("a/text", "hello"), ("empty", ""), ("ünï/ß", "x")]);
    for (number, size) in [99, 100, 101, 4096, 131_071, 131_072, 131_073, 700_000]
        .into_iter()
        .enumerate()
    {
        scene.write(&format!("sizes/{size}"), &noise(number as u64, size));
    }
    scene.write("zeros", &[0; 300_000]);
    scene.write("few zeros", &[0; 50]);
    scene.write("\u{1}\n\\", b"odd name");
    fs::create_dir(scene.path("empty directory")).unwrap();
    symlink("nowhere/at all", scene.path("symlink")).unwrap();
    mknodat(CWD, scene.path("fifo"), SystemType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(scene.path("socket")).unwrap();
    if is_root() {
        let device = rustix::fs::makedev(259, 300);
        mknodat(
            CWD,
            scene.path("block"),
            SystemType::BlockDevice,
            Mode::RUSR,
            device,
        )
        .unwrap();
        mknodat(
            CWD,
            scene.path("character"),
            SystemType::CharacterDevice,
            Mode::WUSR,
            device,
        )
        .unwrap();
        rustix::fs::chown(
            scene.path("empty"),
            rustix::fs::Uid::from_raw(12345).into(),
            rustix::fs::Gid::from_raw(54321).into(),
        )
        .unwrap();
    }
    fs::set_permissions(scene.path("a/text"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(scene.path("a"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::hard_link(scene.path("a/text"), scene.path("link")).unwrap();
    let point = scene.full();
    scene.assert_kept(&point);
    assert_eq!(
        point.figures.files + point.figures.directories,
        point.figures.entries
    );
}

#[test]
fn xattrs_and_acls_come_back_byte_for_byte() {
    let scene = Scene::with(&[("file", "x"), ("directory/file", "y")]);
    let long = vec![7; 2000];
    for path in ["file", "directory"] {
        xattr::set(scene.path(path), "user.short", b"a\0b").unwrap();
        xattr::set(scene.path(path), "user.empty", b"").unwrap();
        xattr::set(scene.path(path), "user.long", &long).unwrap();
    }
    // user::rw-, user:1000:---, group::r--, mask::r--, other::r--: version 2, then tag, permissions and id of each.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 0, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 4, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    xattr::set(scene.path("file"), "system.posix_acl_access", &acl).unwrap();
    if is_root() {
        symlink("file", scene.path("link")).unwrap();
        xattr::set(scene.path("link"), "trusted.of_the_link", b"1").unwrap();
    }
    let point = scene.full();
    scene.assert_kept(&point);
    let entry = scene.found(&point, "file").unwrap().entry;
    let stored = entry
        .metadata
        .xattrs
        .iter()
        .find(|xattr| xattr.name == b"system.posix_acl_access");
    assert_eq!(stored.unwrap().value, acl);
}

#[test]
fn holes_and_written_zeros_are_told_apart() {
    let scene = Scene::new();
    let sparse = File::create(scene.path("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    sparse.write_all_at(&noise(1, 5000), 1 << 20).unwrap();
    sparse.write_all_at(&[0; 300_000], 4 << 20).unwrap();
    sparse.write_all_at(b"end", (10 << 20) - 3).unwrap();
    let hole = File::create(scene.path("all hole")).unwrap();
    hole.set_len(50).unwrap();
    let small = File::create(scene.path("small")).unwrap();
    small.set_len(100_000).unwrap();
    small.write_all_at(b"middle", 50_000).unwrap();
    let point = scene.full();
    scene.assert_kept(&point);
    assert!(
        point.figures.newly_uploaded_bytes < 100_000,
        "{:?}",
        point.figures
    );
}

#[test]
fn a_file_with_extent_lists_comes_back_and_one_change_rewrites_one_list() {
    let scene = Scene::new();
    let path = scene.path("large");
    let large = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(&path)
        .unwrap();
    let piece = noise(5, 1 << 20);
    for number in 0..130_u64 {
        // Every megabyte differs, and is made quickly.
        large.write_all_at(&piece, number << 20).unwrap();
        large
            .write_all_at(&number.to_le_bytes(), (number << 20) + 500_000)
            .unwrap();
    }
    let full = scene.full();
    scene.assert_kept(&full);
    let lists = |point: &Point| match scene.found(point, "large").unwrap().entry.content {
        Content::Lists(lists) => lists,
        other => panic!("{other:?}"),
    };
    assert_eq!(lists(&full).len(), 3);
    large.write_all_at(b"changed", 70 << 20).unwrap();
    let next = scene.incremental();
    scene.assert_kept(&next);
    let changed: Vec<_> = lists(&full)
        .iter()
        .zip(lists(&next))
        .map(|(before, after)| before.chunk.id != after.chunk.id)
        .collect();
    assert_eq!(changed, [false, true, false]);
    assert!(next.figures.newly_uploaded_bytes < 2 << 20);
}

#[test]
fn a_terabyte_of_holes_costs_nothing() {
    let scene = Scene::new();
    let sparse = File::create(scene.path("vast")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"in the middle", 1 << 39).unwrap();
    let point = scene.full();
    let entry = scene.found(&point, "vast").unwrap().entry;
    assert_eq!(entry.metadata.size, 1 << 40);
    assert_eq!(entry.content_hash, None);
    assert!(matches!(entry.content, Content::Lists(lists) if lists.len() <= 3));
    assert!(point.figures.read_bytes < 1 << 20);
    // Equal, though it has no hash to tell.
    let again = scene.full();
    assert_eq!(scene.origin(&again, "vast"), scene.origin(&point, "vast"));
}

#[test]
fn what_lies_above_the_source_has_its_own_metadata() {
    let scene = Scene::with(&[("file", "x")]);
    let point = scene.full();
    let chain = scene.chain(&point);
    let root = chain.lookup(&Key::root()).unwrap().unwrap().entry;
    assert_eq!(root.metadata.inode, fs::metadata("/").unwrap().ino());
    let above = scene.source.parent().unwrap();
    let key = Key::from_path(above.as_os_str().as_bytes()).unwrap();
    let entry = chain.lookup(&key).unwrap().unwrap().entry;
    assert_eq!(
        entry.metadata.mode,
        fs::metadata(above).unwrap().mode() & 0o7777
    );
}

#[test]
fn where_nothing_changed_nothing_is_read_or_recorded() {
    let scene = Scene::with(&[("a/one", "1"), ("a/b/two", "2")]);
    scene.write("large", &noise(1, 400_000));
    fs::hard_link(scene.path("large"), scene.path("a/link")).unwrap();
    scene.full();
    let objects = scene.store.list("", "").unwrap().len();
    let next = scene.incremental();
    assert_eq!(next.kind, PointKind::Incremental);
    assert_eq!(next.figures.read_bytes, 0);
    assert_eq!(scene.recorded(&next), [""; 0]);
    assert!(next.runs[0].length < 4096);
    assert_eq!(next.figures.files, 4);
    // A run and a point, and nothing else.
    assert_eq!(scene.store.list("", "").unwrap().len(), objects + 2);
    scene.assert_kept(&next);
}

#[test]
fn an_incremental_records_what_differs_and_the_directories_above_it() {
    let scene = Scene::with(&[
        ("a/b/change", "before"),
        ("a/keep", "k"),
        ("c/gone", "g"),
        ("d/keep", "d"),
    ]);
    let full = scene.full();
    fs::write(scene.path("a/b/change"), "after").unwrap();
    fs::remove_file(scene.path("c/gone")).unwrap();
    let next = scene.incremental();
    assert_eq!(
        scene.recorded(&next),
        ["~a", "+c", "~a/b", "+a/b/change", "-c/gone"]
    );
    scene.assert_kept(&next);
    assert_eq!(next.parent, Some(full.id));
    assert!(next.id > full.id, "even within one second");
    assert_eq!(next.sequence, 1);
    assert_eq!(next.lineage.len(), 2);
    assert_eq!(next.runs.len(), 2);
}

#[test]
fn a_deleted_directory_leaves_a_tombstone_for_each_descendant() {
    let scene = Scene::with(&[("a/b/c/file", "1"), ("a/b/other", "2"), ("keep", "3")]);
    scene.full();
    fs::remove_dir_all(scene.path("a")).unwrap();
    let next = scene.incremental();
    assert_eq!(
        scene.recorded(&next),
        ["-a", "-a/b", "-a/b/c", "-a/b/other", "-a/b/c/file"]
    );
    scene.assert_kept(&next);
}

#[test]
fn what_turns_into_another_type_leaves_a_tombstone_in_its_old_section() {
    let scene = Scene::with(&[
        ("was file", "1"),
        ("was directory/below", "2"),
        ("was link", "3"),
    ]);
    scene.full();
    fs::remove_file(scene.path("was file")).unwrap();
    scene.write("was file/below", b"new");
    fs::remove_dir_all(scene.path("was directory")).unwrap();
    scene.write("was directory", b"a file now");
    fs::remove_file(scene.path("was link")).unwrap();
    symlink("x", scene.path("was link")).unwrap();
    let next = scene.incremental();
    scene.assert_kept(&next);
    assert_eq!(
        scene.recorded(&next),
        [
            "-was directory",
            "+was file",
            "+was directory",
            "-was file",
            "+was link",
            "-was directory/below",
            "+was file/below"
        ]
    );
    // And back.
    fs::remove_dir_all(scene.path("was file")).unwrap();
    scene.write("was file", b"1");
    let back = scene.incremental();
    scene.assert_kept(&back);
    let differential = scene.back_up(PointKind::Differential);
    scene.assert_kept(&differential);
}

#[test]
fn a_differential_stands_on_the_latest_full_and_keeps_the_latest_points_origins() {
    let scene = Scene::with(&[("a", "1"), ("b", "2"), ("c", "3"), ("d/e", "4")]);
    let full = scene.full();
    fs::write(scene.path("a"), "changed").unwrap();
    fs::remove_file(scene.path("c")).unwrap();
    let middle = scene.incremental();
    fs::write(scene.path("d/new"), "n").unwrap();
    let differential = scene.back_up(PointKind::Differential);
    assert_eq!(differential.parent, Some(full.id));
    assert_eq!(differential.base, full.id);
    assert_eq!(differential.runs.len(), 2);
    assert_eq!(scene.recorded(&differential), ["+d", "+a", "-c", "+d/new"]);
    assert_eq!(scene.origin(&differential, "a"), scene.origin(&middle, "a"));
    assert_eq!(scene.origin(&differential, "b"), scene.origin(&full, "b"));
    assert_eq!(differential.figures.read_bytes, 1);
    scene.assert_kept(&differential);
    // The next incremental stands on it.
    let next = scene.incremental();
    assert_eq!(next.parent, Some(differential.id));
    assert_eq!(scene.recorded(&next), [""; 0]);
}

#[test]
fn a_full_reads_everything_and_keeps_the_origin_of_what_is_equal() {
    let scene = Scene::with(&[("a/same", "1"), ("b/changed", "2"), ("large", "")]);
    scene.write("large", &noise(3, 500_000));
    fs::hard_link(scene.path("large"), scene.path("a/link")).unwrap();
    let first = scene.full();
    fs::write(scene.path("b/changed"), "different").unwrap();
    let second = scene.full();
    assert_eq!(second.kind, PointKind::Full);
    assert_eq!(
        (second.parent, second.lineage.len(), second.sequence),
        (None, 1, 1)
    );
    assert!(second.figures.read_bytes >= 500_000);
    assert!(second.figures.newly_uploaded_bytes < 100);
    for path in ["a/same", "large", "a/link", "a"] {
        assert_eq!(
            scene.origin(&second, path),
            scene.origin(&first, path),
            "{path}"
        );
    }
    let group = |point: &Point, path: &str| scene.found(point, path).unwrap().entry.group;
    assert_eq!(group(&second, "large"), group(&first, "large"));
    assert_eq!(group(&second, "a/link"), group(&first, "large"));
    for path in ["b/changed", "b", ""] {
        assert_ne!(
            scene.origin(&second, path),
            scene.origin(&first, path),
            "{path}"
        );
    }
    scene.assert_kept(&second);
}

#[test]
fn with_nothing_to_stand_on_any_kind_becomes_full() {
    for kind in [PointKind::Incremental, PointKind::Differential] {
        let scene = Scene::with(&[("a", "1")]);
        let point = scene.back_up(kind);
        assert_eq!(point.kind, PointKind::Full);
        scene.assert_kept(&point);
    }
}

#[test]
fn sets_and_hosts_have_chains_of_their_own_and_a_parent_can_be_named() {
    let scene = Scene::with(&[("a", "1")]);
    let first = scene.full();
    let mut options = scene.options(PointKind::Incremental);
    options.set = Some("other".into());
    assert_eq!(scene.run(&options).0.kind, PointKind::Full);
    options = scene.options(PointKind::Incremental);
    options.host = "earth".into();
    assert_eq!(scene.run(&options).0.kind, PointKind::Full);
    options.set = None;
    let named = scene.run(&options).0.point.unwrap();
    assert_eq!(named.set, scene.source.display().to_string());
    scene.incremental();
    options = scene.options(PointKind::Incremental);
    options.parent = Some(first.id);
    options.set = None;
    let branch = scene.run(&options).0.point.unwrap();
    assert_eq!(
        (branch.parent, branch.set.as_str(), branch.sequence),
        (Some(first.id), "test", 2)
    );
    options.set = Some("other".into());
    let error = backup(&scene.repository, &options, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn what_is_not_settled_is_read_again_and_recorded_settled_with_its_origin() {
    let scene = Scene::with(&[("file", "text")]);
    let mut hasty = scene.options(PointKind::Full);
    hasty.clock = now;
    let first = scene.run(&hasty).0.point.unwrap();
    assert!(scene.found(&first, "file").unwrap().entry.flags.unsettled);
    // Still in the same minute: read again, and nothing to record.
    hasty.kind = PointKind::Incremental;
    let second = scene.run(&hasty).0.point.unwrap();
    assert_eq!(second.figures.read_bytes, 4);
    assert_eq!(scene.recorded(&second), [""; 0]);
    let third = scene.incremental();
    assert_eq!(third.figures.read_bytes, 4);
    assert_eq!(scene.recorded(&third), ["+file"]);
    let settled = scene.found(&third, "file").unwrap();
    assert!(!settled.entry.flags.unsettled);
    assert_eq!(settled.origin, scene.origin(&first, "file"));
    assert_eq!(scene.incremental().figures.read_bytes, 0);
}

#[test]
fn hard_links_share_a_group_and_their_content_is_read_once() {
    let scene = Scene::new();
    scene.write("a/one", &noise(1, 200_000));
    fs::hard_link(scene.path("a/one"), scene.path("a/two")).unwrap();
    fs::create_dir(scene.path("b")).unwrap();
    fs::hard_link(scene.path("a/one"), scene.path("b/three")).unwrap();
    let full = scene.full();
    assert_eq!(full.figures.read_bytes, 200_000);
    assert_eq!(full.figures.bytes, 200_000);
    let group = |point: &Point, path: &str| scene.found(point, path).unwrap().entry.group.unwrap();
    assert_eq!(group(&full, "a/one"), scene.origin(&full, "a/one"));
    assert_eq!(group(&full, "a/two"), group(&full, "a/one"));
    assert_eq!(group(&full, "b/three"), group(&full, "a/one"));
    // A renamed directory moves no file's ctime: the link is known by its inode.
    fs::rename(scene.path("b"), scene.path("c")).unwrap();
    let moved = scene.incremental();
    assert_eq!(moved.figures.read_bytes, 0);
    assert_eq!(group(&moved, "c/three"), group(&full, "a/one"));
    scene.assert_kept(&moved);
    // A new link moves the ctime of all: another version, and another group.
    fs::hard_link(scene.path("a/one"), scene.path("four")).unwrap();
    let linked = scene.incremental();
    assert_eq!(linked.figures.read_bytes, 200_000);
    assert_ne!(group(&linked, "a/one"), group(&full, "a/one"));
    scene.assert_kept(&linked);
    // Fewer links: the others stay together.
    fs::remove_file(scene.path("a/one")).unwrap();
    let fewer = scene.incremental();
    assert_eq!(group(&fewer, "a/two"), group(&fewer, "c/three"));
    scene.assert_kept(&fewer);
    scene.assert_kept(&scene.full());
}

#[test]
fn chmod_alone_makes_a_new_version_without_new_content() {
    let scene = Scene::new();
    scene.write("file", &noise(1, 50_000));
    let before = scene.full();
    fs::set_permissions(scene.path("file"), fs::Permissions::from_mode(0o600)).unwrap();
    let after = scene.incremental();
    assert_eq!(after.figures.newly_uploaded_bytes, 0);
    assert_ne!(scene.origin(&after, "file"), scene.origin(&before, "file"));
    scene.assert_kept(&after);
}

#[test]
fn what_moved_is_not_uploaded_again() {
    let scene = Scene::new();
    scene.write("a/large", &noise(1, 900_000));
    scene.write("a/small", &noise(2, 9_000));
    scene.full();
    fs::rename(scene.path("a"), scene.path("b")).unwrap();
    let moved = scene.incremental();
    assert_eq!(moved.figures.read_bytes, 909_000);
    assert_eq!(moved.figures.newly_uploaded_bytes, 0);
    scene.assert_kept(&moved);
}

#[test]
fn equal_files_are_uploaded_once_even_in_one_backup() {
    let scene = Scene::new();
    for name in ["a", "b", "c/d"] {
        scene.write(name, &noise(1, 30_000));
        scene.write(&format!("{name} large"), &noise(2, 300_000));
    }
    let point = scene.full();
    assert_eq!(point.figures.newly_uploaded_bytes, 330_000);
    scene.assert_kept(&point);
}

#[test]
fn small_files_share_frames_and_large_ones_do_not() {
    let scene = Scene::new();
    for number in 0..200 {
        scene.write(&format!("small/{number}"), &noise(number, 5_000));
    }
    let point = scene.full();
    // A million bytes in frames of half of that.
    assert!(scene.frames() <= 3, "{}", scene.frames());
    scene.assert_kept(&point);
}

#[test]
fn small_files_that_changed_here_and_there_share_short_frames() {
    let scene = Scene::new();
    for number in 0..400 {
        scene.write(&format!("small/{number:03}"), &noise(number, 2_000));
    }
    scene.full();
    let before = scene.frames();
    for number in (0..400).step_by(20) {
        scene.write(&format!("small/{number:03}"), &noise(1000 + number, 8_000));
    }
    let point = scene.incremental();
    // Twenty of 8,000 bytes each, in frames of at most 16 KiB.
    assert_eq!(scene.frames() - before, 10);
    scene.assert_kept(&point);
}

#[test]
fn reupload_writes_all_chunks_anew_and_counts_them_apart() {
    let scene = Scene::new();
    scene.write("large", &noise(1, 500_000));
    scene.write("small", &noise(2, 5_000));
    let first = scene.full();
    scene.write("new", &noise(3, 7_000));
    let mut options = scene.options(PointKind::Full);
    options.reupload = true;
    let second = scene.run(&options).0.point.unwrap();
    assert_eq!(second.figures.reuploaded_bytes, 505_000);
    assert_eq!(second.figures.newly_uploaded_bytes, 7_000);
    assert_eq!(
        scene.origin(&second, "large"),
        scene.origin(&first, "large")
    );
    scene.assert_kept(&second);
}

#[test]
fn a_dry_run_writes_nothing_and_tells_the_figures_of_the_real_one() {
    let scene = Scene::with(&[("a/one", "1")]);
    scene.write("large", &noise(1, 300_000));
    scene.write("small", &noise(2, 3_000));
    let mut options = scene.options(PointKind::Full);
    options.dry_run = true;
    let before = scene.store.list("", "").unwrap();
    let dry = scene.run(&options).0;
    assert_eq!(scene.store.list("", "").unwrap(), before);
    assert!(dry.point.is_none());
    let real = scene.full().figures;
    assert_eq!(dry.figures.newly_uploaded_bytes, real.newly_uploaded_bytes);
    assert_eq!(dry.figures.entries_recorded, real.entries_recorded);
    assert_eq!(dry.figures.read_bytes, real.read_bytes);
    assert_eq!(scene.run(&options).0.figures.newly_uploaded_bytes, 0);
}

#[test]
fn what_an_exclude_newly_hides_is_recorded_as_excluded() {
    let scene = Scene::with(&[
        ("keep", "1"),
        ("cache/deep/x", "2"),
        ("y.o", "3"),
        ("gone", "4"),
    ]);
    scene.full();
    fs::remove_file(scene.path("gone")).unwrap();
    let mut options = scene.options(PointKind::Incremental);
    options.excludes = vec!["cache/".into(), "*.o".into()];
    let next = scene.run(&options).0.point.unwrap();
    assert_eq!(
        scene.recorded(&next),
        [
            "excluded cache",
            "excluded cache/deep",
            "-gone",
            "excluded y.o",
            "excluded cache/deep/x"
        ]
    );
    assert_eq!(next.excludes, ["cache/", "*.o"]);
    // From then on there is nothing to say of it, but for a differential.
    assert_eq!(
        scene.recorded(&scene.run(&options).0.point.unwrap()),
        [""; 0]
    );
    options.kind = PointKind::Differential;
    let differential = scene.run(&options).0.point.unwrap();
    assert_eq!(scene.recorded(&differential), scene.recorded(&next));
    // And it comes back when nothing hides it.
    let back = scene.incremental();
    scene.assert_kept(&back);
}

#[test]
fn a_source_that_is_missing_keeps_its_entries_and_is_warned_of() {
    let scene = Scene::with(&[("one/a", "1"), ("two/b/c", "2")]);
    let mut options = scene.options(PointKind::Full);
    options.paths = vec![scene.path("one"), scene.path("two")];
    let first = scene.run(&options).0.point.unwrap();
    fs::rename(
        scene.path("two"),
        scene.source.parent().unwrap().join("elsewhere"),
    )
    .unwrap();
    options.kind = PointKind::Incremental;
    let (report, warnings) = scene.run(&options);
    let point = report.point.unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(point.partial);
    assert_eq!(point.warnings, 1);
    let listed = scene.chain(&point).runs()[0].warnings().unwrap();
    assert_eq!(listed.len(), 1);
    let carried = scene.found(&point, "two/b/c").unwrap();
    assert!(carried.entry.flags.carried);
    assert_eq!(carried.origin, scene.origin(&first, "two/b/c"));
    options.paths = vec![scene.path("two")];
    let error = backup(&scene.repository, &options, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

/// Runs `work` in a thread that is nobody: the system's credentials belong to threads, and those that it starts
/// inherit them.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: the call takes no pointers. Unlike libc's function, it changes this thread alone.
                let result = unsafe { libc::syscall(libc::SYS_setresuid, -1, 65534, -1) };
                assert_eq!(result, 0);
                work()
            })
            .join()
            .unwrap()
    })
}

#[test]
fn what_cannot_be_read_keeps_the_latest_points_entry_and_never_looks_deleted() {
    if !is_root() {
        return;
    }
    let scene = Scene::with(&[
        ("file", "1"),
        ("directory/below/x", "2"),
        ("names only/y", "3"),
        ("open", "4"),
    ]);
    let top = scene.source.parent().unwrap();
    for path in [top, &scene.source, &scene.path("directory/below")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let first = scene.full();
    fs::write(scene.path("file"), "changed and closed").unwrap();
    fs::set_permissions(scene.path("file"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(scene.path("directory"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(scene.path("names only"), fs::Permissions::from_mode(0o744)).unwrap();
    scene.write("new", b"never seen");
    fs::set_permissions(scene.path("new"), fs::Permissions::from_mode(0o000)).unwrap();
    let (report, warnings) = as_nobody(|| scene.run(&scene.options(PointKind::Incremental)));
    let point = report.point.unwrap();
    assert!(point.partial);
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for path in [
        "file",
        "directory/below",
        "directory/below/x",
        "names only/y",
    ] {
        let carried = scene
            .found(&point, path)
            .unwrap_or_else(|| panic!("{path} is kept"));
        assert!(carried.entry.flags.carried, "{path}");
        assert_eq!(carried.origin, scene.origin(&first, path), "{path}");
    }
    assert!(scene.found(&point, "new").is_none());
    assert!(!scene.found(&point, "open").unwrap().entry.flags.carried);
    // The same trouble again: nothing new to record.
    let again = as_nobody(|| scene.run(&scene.options(PointKind::Incremental)))
        .0
        .point
        .unwrap();
    assert_eq!(scene.recorded(&again), [""; 0]);
    // Once all can be read, nothing is carried any more.
    let well = scene.incremental();
    scene.assert_kept(&well);
    assert!(
        !scene
            .found(&well, "directory/below/x")
            .unwrap()
            .entry
            .flags
            .carried
    );
}

#[test]
fn a_file_that_keeps_changing_is_kept_as_read_marked_and_warned_of() {
    let scene = Scene::new();
    let path = scene.path("log");
    fs::write(&path, noise(1, 24 << 20)).unwrap();
    let is_done = AtomicBool::new(false);
    let (report, warnings) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = OpenOptions::new().append(true).open(&path).unwrap();
            while !is_done.load(Ordering::Relaxed) {
                log.write_all(b"one more line\n").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let result = scene.run(&scene.options(PointKind::Full));
        is_done.store(true, Ordering::Relaxed);
        result
    });
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let point = report.point.unwrap();
    assert!(!point.partial);
    let entry = scene.found(&point, "log").unwrap().entry;
    assert!(entry.flags.changed_while_read);
    // What is stored is whole: as many bytes as its size says, and a part of what the file is now.
    let read = read_point(&scene.repository, point.id, &scene.source);
    let whole = fs::read(&path).unwrap();
    let kept = &whole[..entry.metadata.size as usize];
    assert_eq!(read[&b"log"[..]].hash, Some(*blake3::hash(kept).as_bytes()));
    scene.assert_kept(&scene.incremental());
}

/// Puts another file in one's place as soon as there is a warning.
struct Replacing {
    from: PathBuf,
    to: PathBuf,
}

impl Monitor for Replacing {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(..) = event {
            fs::rename(&self.from, &self.to).unwrap();
        }
    }
}

#[test]
fn what_takes_the_name_of_a_link_before_it_is_read_is_not_taken_for_the_other_links() {
    let scene = Scene::with(&[("a", "linked"), ("below/x", "x")]);
    fs::hard_link(scene.path("a"), scene.path("b")).unwrap();
    let other = scene.source.with_file_name("other");
    fs::write(&other, "another file").unwrap();
    let monitor = Replacing {
        from: other,
        to: scene.path("a"),
    };
    // What is missing is told of when both links were seen, and before the first is read.
    let mut options = scene.options(PointKind::Full);
    options.paths.push(scene.path("below/missing"));
    let report = backup(&scene.repository, &options, &monitor).unwrap();
    let point = report.point.unwrap();
    let content = |path| scene.found(&point, path).unwrap().entry.content;
    assert_eq!(content("a"), Content::Inline(b"another file".to_vec()));
    assert_eq!(content("b"), Content::Inline(b"linked".to_vec()));
    assert_eq!(report.warnings, 1);
}

#[test]
fn files_of_proc_that_say_they_have_no_bytes_are_read_to_their_end() {
    let scene = Scene::new();
    // A short one, and one of some megabytes where the kernel has it.
    let names = ["version", "kallsyms"].map(|name| (name, Path::new("/proc").join(name)));
    let named: Vec<_> = names.iter().filter(|(_, path)| path.exists()).collect();
    let paths: Vec<&Path> = named.iter().map(|(_, path)| path.as_path()).collect();
    for kind in [PointKind::Full, PointKind::Incremental] {
        let (report, warnings) = scene.run(&BackupOptions {
            kind,
            ..options(&paths)
        });
        assert_eq!(warnings, [""; 0]);
        let id = report.point.unwrap().id;
        let kept = read_point(&scene.repository, id, Path::new("/proc"));
        for (name, path) in &named {
            let bytes = fs::read(path).unwrap();
            assert_eq!(fs::metadata(path).unwrap().len(), 0);
            assert!(!bytes.is_empty());
            let kept = &kept[name.as_bytes()];
            assert_eq!(kept.size, bytes.len() as u64, "{name}");
            assert_eq!(kept.hash, Some(*blake3::hash(&bytes).as_bytes()), "{name}");
        }
    }
}

#[test]
fn a_file_that_says_it_has_no_bytes_and_has_no_end_is_warned_of_and_left_out() {
    let scene = Scene::new();
    let pagemap = Path::new("/proc/self/pagemap").canonicalize().unwrap();
    let options = options(&[&scene.source, &pagemap]);
    let (report, warnings) = scene.run(&options);
    assert!(
        matches!(&warnings[..], [warning] if warning.contains("does not end within")),
        "{warnings:?}"
    );
    let key = Key::from_path(pagemap.as_os_str().as_bytes()).unwrap();
    let point = report.point.unwrap();
    assert!(point.partial);
    assert!(scene.chain(&point).lookup(&key).unwrap().is_none());
}

#[test]
fn a_file_whose_old_extent_lists_are_lost_is_backed_up_all_the_same() {
    let scene = Scene::new();
    let large = File::create(scene.path("large")).unwrap();
    large.set_len(70 << 20).unwrap();
    large.write_all_at(&noise(1, 300_000), 0).unwrap();
    let mut options = scene.options(PointKind::Full);
    // By the true time it is not settled yet, and is read again.
    options.clock = now;
    scene.run(&options);
    for (pack, _) in list_packs(&scene.repository).unwrap() {
        scene.store.lose(&bygone::format::pack_name(&pack));
    }
    for kind in [PointKind::Incremental, PointKind::Full] {
        let (report, warnings) = scene.run(&BackupOptions {
            clock: now,
            ..scene.options(kind)
        });
        assert_eq!(warnings, [""; 0]);
        scene.assert_kept(&report.point.unwrap());
    }
}

#[test]
fn sources_may_be_files_several_and_recorded_elsewhere() {
    let scene = Scene::with(&[("one/a", "1"), ("two", "2"), ("three/x", "3")]);
    let mut options = scene.options(PointKind::Full);
    options.paths = vec![scene.path("one"), scene.path("two")];
    let point = scene.run(&options).0.point.unwrap();
    assert!(scene.found(&point, "one/a").is_some() && scene.found(&point, "two").is_some());
    assert!(scene.found(&point, "three").is_none());
    options.paths = vec![scene.path("three")];
    options.recorded_as = Some("/srv/data".into());
    options.set = None;
    let elsewhere = scene.run(&options).0.point.unwrap();
    assert_eq!(elsewhere.set, "/srv/data");
    assert_eq!(elsewhere.mapping.len(), 1);
    let key = Key::from_path(b"/srv/data/x").unwrap();
    assert!(scene.chain(&elsewhere).lookup(&key).unwrap().is_some());
}

#[test]
fn owners_names_are_kept() {
    let scene = Scene::with(&[("file", "x")]);
    let point = scene.full();
    let owners = scene.chain(&point).runs()[0].owners().unwrap();
    let uid = fs::metadata(scene.path("file")).unwrap().uid();
    assert_eq!(owners.users[&uid], format!("user-{uid}").into_bytes());
}

/// Interrupts as soon as something is done.
struct Impatient(AtomicBool);

impl Monitor for Impatient {
    fn event(&self, event: Event<'_>) {
        if let Event::Done { .. } = event {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn an_interrupted_backup_commits_nothing_and_its_uploads_are_found() {
    let scene = Scene::new();
    for number in 0..2000 {
        scene.write(&format!("{number:04}"), &noise(number, 2_000));
    }
    let monitor = Impatient(AtomicBool::new(false));
    let error = backup(&scene.repository, &scene.options(PointKind::Full), &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(points(&scene.repository).unwrap().len(), 0);
    assert_eq!(scene.store.list("leases/", "").unwrap().len(), 0);
    let uploaded: u64 = list_packs(&scene.repository)
        .unwrap()
        .iter()
        .map(|(_, length)| length)
        .sum();
    assert!(uploaded > 0);
    let point = scene.full();
    let all = 2000 * 2000;
    assert!(
        point.figures.newly_uploaded_bytes < all,
        "{:?}",
        point.figures
    );
    assert!(point.figures.newly_uploaded_bytes + uploaded > all);
    scene.assert_kept(&point);
}

#[test]
fn two_backups_of_one_set_at_once_both_commit() {
    let scene = Scene::with(&[("a", "1"), ("b/c", "2")]);
    scene.write("large", &noise(1, 500_000));
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| scene.full());
        (scene.full(), other.join().unwrap())
    });
    assert_ne!(one.id, two.id);
    scene.assert_kept(&one);
    scene.assert_kept(&two);
    scene.assert_kept(&scene.incremental());
}

#[test]
fn a_deep_tree_beyond_path_max_is_backed_up_whole() {
    let scene = Scene::new();
    let name = "a-directory-of-thirty-bytes-long";
    let mut directory = File::open(&scene.source).unwrap();
    for _ in 0..400 {
        rustix::fs::mkdirat(&directory, name, Mode::RWXU).unwrap();
        directory = rustix::fs::openat(&directory, name, rustix::fs::OFlags::RDONLY, Mode::empty())
            .unwrap()
            .into();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let mut file =
        File::from(rustix::fs::openat(&directory, "deepest", flags, Mode::RUSR).unwrap());
    file.write_all(b"found").unwrap();
    let point = scene.full();
    assert!(point.figures.directories >= 400);
    let deepest = format!("{}deepest", format!("{name}/").repeat(400));
    let key = Key::from_path(
        &[
            scene.source.as_os_str().as_bytes(),
            b"/",
            deepest.as_bytes(),
        ]
        .concat(),
    )
    .unwrap();
    let found = scene.chain(&point).lookup(&key).unwrap().unwrap();
    assert_eq!(found.entry.content, Content::Inline(b"found".to_vec()));
    assert_eq!(scene.recorded(&scene.incremental()), [""; 0]);
}

#[test]
fn the_repository_is_not_backed_up_into_itself() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    fs::write(top.join("file"), "x").unwrap();
    let place = top.join("repository");
    let store = bygone::store::LocalStore::create(&place).unwrap();
    let repository = Repository::init(Arc::new(store), &encryption::init_options()).unwrap();
    let mut options = options(&[&top]);
    options.never = vec![place.clone()];
    let point = back_up_with(&repository, &options).0.point.unwrap();
    let chain = Chain::open(&Fetcher::new(repository, 1 << 20), &point).unwrap();
    let lookup = |path: &Path| {
        chain
            .lookup(&Key::from_path(path.as_os_str().as_bytes()).unwrap())
            .unwrap()
    };
    assert!(lookup(&top.join("file")).is_some());
    assert!(lookup(&place).is_none());
}
