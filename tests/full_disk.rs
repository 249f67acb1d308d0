//! A disk that fills up while it is written to: a small ext4 image on a loop device.
//!
//! Needs root and a loop device; without them there is nothing to test on, and the test says so and passes.

#[expect(
    dead_code,
    reason = "it serves several test binaries, each of which uses a part"
)]
mod support {
    pub mod written;
}

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bygone::base::{ErrorKind, Key, RunId};
use bygone::cache::{CacheOptions, CachedStore};
use bygone::fetch::Fetcher;
use bygone::format::{Chunking, Content, FileType, FrameChunk, Record, RunReference};
use bygone::manifest::RunWriter;
use bygone::repo::{
    Catalogue, Index, InitOptions, PackWriter, Repository, list_packs, read_pack_directory,
};
use bygone::seal::{Compression, SealedKind};
use bygone::store::{Body, LocalStore, MemoryStore, Store};
use bygone::tree::{NodeId, Numbers, Tree, TreeOptions};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use support::written::{Written, entry};

const DISK_BYTES: u64 = 16 << 20;

/// A small file system of its own, mounted in a temporary folder for as long as this lives.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// None where nothing can be mounted.
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let disk = Self { folder };
        let is_made = succeeds(
            Command::new("mkfs.ext4")
                .args(["-q", "-m", "0"])
                .arg(&image),
        );
        let is_mounted = is_made
            && succeeds(
                Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&image)
                    .arg(disk.path()),
            );
        assert!(
            is_mounted,
            "this test needs root, mkfs.ext4 (e2fsprogs) and a loop device"
        );
        disk
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn store(&self) -> LocalStore {
        LocalStore::create(&self.path().join("store")).unwrap()
    }
}

impl Drop for SmallDisk {
    /// Unmounts the one path that was mounted, below this test's own temporary folder, and no other.
    fn drop(&mut self) {
        let path = self.path();
        assert!(
            path.is_absolute() && path.ends_with("disk") && path.starts_with(std::env::temp_dir())
        );
        if is_mount_point(&path) {
            let is_gone = succeeds(Command::new("umount").arg(&path));
            assert!(
                is_gone || std::thread::panicking(),
                "cannot unmount {}",
                path.display()
            );
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn is_mount_point(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == path.to_str())
}

/// Bytes that do not compress, other ones for each number.
fn noise(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[test]
fn a_put_that_finds_no_room_says_so_and_leaves_nothing_behind() {
    let disk = SmallDisk::mount();
    let store = disk.store();
    let mut written = Vec::new();
    let error = loop {
        let number = written.len() as u32;
        let name = format!("packs/ab/{number}");
        match store.put_new(&name, Body::Bytes(&[&noise(number, 900_000)])) {
            Ok(()) => written.push(name),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.to_string().contains("packs/ab/"), "{error}");
    assert!(written.len() > 5);
    assert_eq!(store.list("", "").unwrap().len(), written.len());
    let temporaries = fs::read_dir(store.root().join("tmp")).unwrap().count();
    assert_eq!(temporaries, 1, "the writer's lock and nothing else");
    for (number, name) in (0..).zip(&written) {
        assert!(store.get(name).unwrap() == noise(number, 900_000));
    }
    store.delete(&written[0]).unwrap();
    store
        .put_new("packs/ab/again", Body::Bytes(&[b"there is room again"]))
        .unwrap();
}

#[test]
fn a_cache_on_a_full_disk_costs_only_what_is_cached() {
    let disk = SmallDisk::mount();
    let inner = Arc::new(MemoryStore::new());
    for number in 0..40 {
        let name = format!("packs/ab/{number}");
        let bytes = noise(number, 900_000);
        inner.put_new(&name, Body::Bytes(&[&bytes])).unwrap();
    }
    let options = CacheOptions {
        directory: disk.path(),
        bytes_max: Some(1 << 30),
    };
    let others = disk.path().join("others");
    for fill in [0, 3, 6, 9, 16] {
        // Somebody else takes more and more of the disk, at last all of it.
        let mut file = File::create(&others).unwrap();
        while file.metadata().unwrap().len() < fill << 20 {
            if file.write_all(&noise(fill as u32, 64 << 10)).is_err() {
                break;
            }
        }
        let store = CachedStore::open(inner.clone(), &options).ok();
        let store: Arc<dyn Store> = match store {
            Some(store) => Arc::new(store),
            None => inner.clone(),
        };
        for round in 0..2 {
            for number in 0..40 {
                let read = store
                    .get_range(&format!("packs/ab/{number}"), 0..900_000)
                    .unwrap();
                assert!(read == noise(number, 900_000), "{fill} MiB, round {round}");
            }
        }
    }
    fs::remove_file(&others).unwrap();
    let store = CachedStore::open(inner.clone(), &options).unwrap();
    store.get_range("packs/ab/7", 0..900_000).unwrap();
    drop(store);
    inner.lose("packs/ab/7");
    let store = CachedStore::open(inner, &options).unwrap();
    let read = store.get_range("packs/ab/7", 0..900_000).unwrap();
    assert!(read == noise(7, 900_000));
}

/// Points of which each has a run of its own, so that numbering them takes more room than there is.
const POINTS: u32 = 1000;

fn write_points() -> Written {
    let written = Written::new();
    let mut run = RunWriter::create(&written.repository, false).unwrap();
    let root = Record::Entry(Box::new(entry(FileType::Directory, 0, Content::Nothing)));
    let section = FileType::Directory.section();
    run.append(&Key::root(), section, &root).unwrap();
    let run = run.finish().unwrap();
    for number in 0..POINTS {
        let own = RunReference {
            id: RunId(noise(number, 16).try_into().unwrap()),
            ..run.clone()
        };
        written.commit(vec![own], "host");
    }
    written
}

#[test]
fn inode_numbers_that_a_full_disk_cannot_keep_are_kept_in_memory() {
    let disk = SmallDisk::mount();
    let written = write_points();
    let repository = Repository::open(written.recording.clone()).unwrap();
    let state = disk.path().join("state");
    let ballast = disk.path().join("ballast");
    for kibibytes in (0..300).step_by(12) {
        fs::create_dir(&state).unwrap();
        let numbers = Numbers::open(&state.join("numbers")).unwrap();
        leave_free(&ballast, kibibytes);
        let new = Numbers::open(&state.join("new")).map(drop).unwrap_err();
        assert_eq!(new.kind(), ErrorKind::Full, "{new}");
        let options = TreeOptions {
            catalogue: Some(Catalogue::load(&repository).unwrap()),
            ..TreeOptions::default()
        };
        let tree = Tree::open(Fetcher::new(repository.clone(), 1 << 20), numbers, options)
            .unwrap_or_else(|error| panic!("{kibibytes} KiB free: {error}"));
        let points = tree.lookup(NodeId::ROOT, b"points").unwrap().unwrap();
        let mut nodes = HashSet::new();
        tree.list(points.node, 0, &mut |entry| nodes.insert(entry.node))
            .unwrap();
        assert_eq!(nodes.len(), POINTS as usize);
        drop(tree);
        fs::remove_file(&ballast).unwrap();
        // There is room again.
        drop(Numbers::open(&state.join("numbers")).unwrap());
        fs::remove_dir_all(&state).unwrap();
    }
}

/// Fills the disk with a file, but for so much.
fn leave_free(ballast: &Path, kibibytes: u64) {
    let file = File::create(ballast).unwrap();
    let disk = statvfs(ballast).unwrap();
    let mut length = disk.f_bavail * disk.f_frsize - (kibibytes << 10);
    while fallocate(&file, FallocateFlags::empty(), 0, length).is_err() {
        // What tells of its blocks takes some itself.
        length -= 1024;
    }
}

/// Adds frames until it fails or `count` are added.
fn write(repository: &Arc<Repository>, count: u32) -> bygone::base::Result<()> {
    let writer = PackWriter::create(Arc::clone(repository), false)?;
    for number in 0..count {
        let plain = noise(number, 100_000);
        let id = repository.seal().chunk_id(&plain);
        if writer.find(&id, 100_000)?.is_some() {
            continue;
        }
        let mut sealed = Vec::new();
        let (kind, off) = (SealedKind::Data, Compression::Off);
        repository
            .seal()
            .seal(kind, b"", &plain, off, &mut sealed)?;
        let chunk = FrameChunk {
            id,
            offset: 0,
            length: 100_000,
        };
        writer.add_frame(kind, &sealed, 100_000, &[chunk])?;
    }
    writer.finish().map(drop)
}

#[test]
fn a_backup_that_finds_no_room_fails_and_another_goes_on_once_there_is_some() {
    let disk = SmallDisk::mount();
    let options = InitOptions {
        chunking: Chunking {
            pack_bytes: 500_000,
            ..Chunking::default()
        },
        ..InitOptions::default()
    };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 6_000_000]).unwrap();
    let repository = Repository::init(Arc::new(disk.store()), &options).unwrap();
    let error = write(&repository, 120).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    let packs = list_packs(&repository).unwrap();
    assert!(packs.len() > 5);
    for (pack, _) in &packs {
        read_pack_directory(&repository, pack).unwrap();
    }
    fs::remove_file(ballast).unwrap();
    write(&repository, 120).unwrap();
    let index = Index::open(&repository).unwrap();
    for number in 0..120 {
        let id = repository.seal().chunk_id(&noise(number, 100_000));
        assert!(!index.find(&id).unwrap().is_empty());
    }
    // Of what was put before the disk was full only the last few packs were put again.
    let after = list_packs(&repository).unwrap().len();
    assert!(after <= 120 / 4 + 5, "{after} packs");
}
