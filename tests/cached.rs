//! The disk cache under a whole repository: what a second mount asks, what works without a network, and what is left when
//! the process is killed.

#[expect(
    dead_code,
    reason = "it serves several test binaries, each of which uses a part"
)]
mod support {
    pub mod backups;
    pub mod distant;
    pub mod library;
    pub mod snapshot;
    pub mod written;
}

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bygone::base::{ErrorKind, Key, PointId, Silent};
use bygone::cache::{CacheOptions, CachedStore, folder_of};
use bygone::fetch::Fetcher;
use bygone::format::{Content, Extent, FileType, Record, RunReference};
use bygone::manifest::RunWriter;
use bygone::ops::pin::pin;
use bygone::repo::{Catalogue, InitOptions, Repository, roll_up};
use bygone::seal::SealedKind;
use bygone::store::{Effect, Fault, FaultPlan, LocalStore, Moment, Operations, Store};
use bygone::tree::{NodeId, Numbers, Tree, TreeOptions};
use tempfile::TempDir;

use support::backups::{back_up_with, options};
use support::distant::{Distant, Traffic};
use support::library::read_point;
use support::written::{Written, entry};

/// A delay that is long beside what anything here takes, so that rounds are told from one another.
const DELAY: Duration = Duration::from_millis(30);

fn cached(store: Arc<dyn Store>, directory: &Path) -> Arc<CachedStore> {
    let options = CacheOptions {
        directory: directory.to_owned(),
        bytes_max: Some(1 << 30),
    };
    Arc::new(CachedStore::open(store, &options).unwrap())
}

/// A store that answers nothing, of the same name.
fn silent(store: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Fault::new(
        store,
        FaultPlan {
            operations: Operations::Reads,
            at: 1,
            moment: Moment::Before,
            effect: Effect::FailFromThenOn(ErrorKind::Unreachable),
        },
    ))
}

/// All that a mount of all points does before it answers.
fn mount(store: Arc<dyn Store>) -> Tree {
    let repository = Repository::open(store).unwrap();
    let catalogue = Catalogue::load_hastily(&repository).unwrap();
    assert!(!catalogue.newest_of_chains().is_empty());
    let options = TreeOptions {
        catalogue: Some(catalogue),
        ..TreeOptions::default()
    };
    let fetcher = Fetcher::new(repository, 32 << 20);
    Tree::open(fetcher, Numbers::in_memory().unwrap(), options).unwrap()
}

/// Lists a directory and all below it, and reads all files. Returns how many entries there were.
fn browse(tree: &Tree, directory: NodeId) -> usize {
    let mut entries = Vec::new();
    tree.list(directory, 0, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.node, entry.file_type));
        true
    })
    .unwrap();
    let mut count = entries.len();
    for (name, node, file_type) in entries {
        tree.lookup(directory, &name).unwrap().unwrap();
        match file_type {
            FileType::Directory => count += browse(tree, node),
            _ => drop(tree.read(node, 0, 1 << 20).unwrap()),
        }
    }
    count
}

fn newest(tree: &Tree) -> NodeId {
    let points = tree.lookup(NodeId::ROOT, b"points").unwrap().unwrap().node;
    let mut newest = None;
    tree.list(points, 0, &mut |entry| {
        newest = Some(entry.node);
        true
    })
    .unwrap();
    newest.expect("there are points")
}

/// A run of a few thousand small files in directories.
fn write_run(written: &Written) -> RunReference {
    let files: Vec<Vec<u8>> = (0..2000_u32)
        .map(|number| number.to_le_bytes().repeat(200))
        .collect();
    let frames: Vec<Vec<Vec<u8>>> = files.chunks(100).map(<[_]>::to_vec).collect();
    let places = written.pack(SealedKind::Data, &frames);
    let mut run = RunWriter::create(&written.repository, false).unwrap();
    let mut append = |key: &Key, file_type: FileType, size, content| {
        let record = Record::Entry(Box::new(entry(file_type, size, content)));
        run.append(key, file_type.section(), &record).unwrap();
    };
    let directories: Vec<Key> = (0..20)
        .map(|number| {
            Key::root()
                .child(format!("directory {number:02}").as_bytes())
                .unwrap()
        })
        .collect();
    append(&Key::root(), FileType::Directory, 0, Content::Nothing);
    for directory in &directories {
        append(directory, FileType::Directory, 0, Content::Nothing);
    }
    for (directory, places) in directories.iter().zip(places.chunks(100)) {
        for (number, place) in places.iter().enumerate() {
            let key = directory
                .child(format!("file {number:02}").as_bytes())
                .unwrap();
            let content = Content::Extents(vec![Extent::Chunk(*place)]);
            append(&key, FileType::Regular, 800, content);
        }
    }
    run.finish().unwrap()
}

#[test]
fn a_second_mount_of_ten_thousand_points_is_ready_after_one_round_and_browses_without_a_request() {
    let written = Written::new();
    let run = write_run(&written);
    for _ in 0..10 {
        for _ in 0..1000 {
            written.commit(vec![run.clone()], "host");
        }
        roll_up(&written.repository).unwrap();
    }
    let point = written.commit(vec![run], "host");
    let distant = Arc::new(Distant::new(written.memory.clone(), DELAY, 1 << 30));
    let folder = tempfile::tempdir().unwrap();
    let cold = mount(cached(distant.clone(), folder.path()));
    let Traffic {
        requests, rounds, ..
    } = distant.take();
    assert!(
        requests <= 8 && rounds <= 4,
        "cold: {requests} in {rounds} rounds"
    );
    assert_eq!(browse(&cold, newest(&cold)), 2020);
    drop(cold);
    distant.take();
    let warm = mount(cached(distant.clone(), folder.path()));
    let Traffic {
        requests, rounds, ..
    } = distant.take();
    assert!(
        requests <= 3 && rounds == 1,
        "warm: {requests} in {rounds} rounds"
    );
    assert_eq!(warm.usage().entries, 100_010);
    assert_eq!(browse(&warm, newest(&warm)), 2020);
    assert_eq!(distant.take().requests, 0);
    drop(warm);
    // And with no network at all.
    let offline = mount(cached(silent(distant), folder.path()));
    assert_eq!(browse(&offline, newest(&offline)), 2020);
    assert_eq!(offline.usage().entries, 100_010);
    assert!(point.seconds > 0);
}

/// A repository on disk with one point of a tree of files, and a place for a cache.
struct Place {
    folder: TempDir,
    point: PointId,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        for directory in ["a/b/c", "d", "e"] {
            fs::create_dir_all(source.join(directory)).unwrap();
        }
        for number in 0..400_u32 {
            let directory = ["a", "a/b", "a/b/c", "d"][number as usize % 4];
            let name = source.join(directory).join(format!("file {number}"));
            fs::write(name, noise(number, 3000)).unwrap();
        }
        fs::write(source.join("e/large"), noise(1000, 5_000_000)).unwrap();
        let store = Arc::new(LocalStore::create(&folder.path().join("repository")).unwrap());
        let repository = Repository::init(store, &InitOptions::default()).unwrap();
        let (report, warnings) = back_up_with(&repository, &options(&[&source]));
        assert_eq!(warnings, [""; 0]);
        Self {
            point: report.point.expect("it was no dry run").id,
            folder,
        }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(LocalStore::open(&self.folder.path().join("repository")).unwrap())
    }

    fn bygone(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("bygone"));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .arg("-r")
            .arg(self.folder.path().join("repository"))
            .arg("--cache-dir")
            .arg(self.cache())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Does all of the point come from the cache alone?
    fn is_whole_without_the_store(&self) -> bool {
        let offline = Repository::open(cached(silent(self.store()), &self.cache())).unwrap();
        let online = Repository::open(self.store()).unwrap();
        let source = self.source();
        read_point(&offline, self.point, &source) == read_point(&online, self.point, &source)
    }
}

fn noise(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[test]
fn what_is_pinned_is_read_without_the_store_and_what_is_not_is_unreachable() {
    let place = Place::new();
    let store = cached(place.store(), &place.cache());
    let repository = Repository::open(store.clone()).unwrap();
    let below = |name: &str| {
        let path = place.source().join(name);
        Key::from_path(path.as_os_str().as_bytes()).unwrap()
    };
    let report = pin(&repository, &store, place.point, &below("a"), &Silent).unwrap();
    assert_eq!(
        (report.entries, report.bytes, report.failures),
        (303, 900_000, 0)
    );
    let error = pin(&repository, &store, place.point, &below("nothing"), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let pins = store.pins().unwrap();
    assert_eq!(pins.len(), 1);
    assert!(pins[0].is_complete && pins[0].bytes > 900_000);
    folder_of(&place.cache(), &store.location())
        .clear(false)
        .unwrap();
    drop((repository, store));
    let offline = cached(silent(place.store()), &place.cache());
    let tree = mount(offline);
    let mut node = newest(&tree);
    for name in below("a").components() {
        node = tree.lookup(node, name).unwrap().unwrap().node;
    }
    assert_eq!(browse(&tree, node), 302);
    let mut node = newest(&tree);
    for name in below("e").components() {
        node = tree.lookup(node, name).unwrap().unwrap().node;
    }
    let large = tree.lookup(node, b"large").unwrap().unwrap().node;
    let error = tree.read(large, 0, 4096).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

#[test]
fn a_store_that_was_never_reached_is_an_error_and_no_word_of_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(assert_cmd::cargo::cargo_bin!("bygone"))
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .args(["-r", "s3://bucket/prefix", "points"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(14));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("Connection refused"), "{told}");
}

#[test]
fn a_process_that_is_killed_costs_only_what_it_had_not_kept_yet() {
    let place = Place::new();
    let root = place.source();
    let path = root.to_str().unwrap();
    for round in 0..25 {
        let mut child = place.bygone(&["pin", "latest", path]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let status = place.bygone(&["pin", "latest", path]).status().unwrap();
    assert!(status.success());
    assert!(place.is_whole_without_the_store());
    let folder = folder_of(&place.cache(), &place.store().location());
    let verified = folder.verify(&Silent).unwrap();
    assert_eq!(verified.dropped_ranges, 0);
    assert!(place.is_whole_without_the_store());
}

#[test]
fn a_cache_that_was_damaged_everywhere_gives_no_wrong_byte() {
    let place = Place::new();
    let read = || {
        let repository = Repository::open(cached(place.store(), &place.cache())).unwrap();
        read_point(&repository, place.point, &place.source())
    };
    let expected = read();
    let folder = folder_of(&place.cache(), &place.store().location());
    for seed in 0..6_u32 {
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                continue;
            }
            for file in fs::read_dir(path).unwrap() {
                damage(&file.unwrap().path(), seed);
            }
        }
        // The first finds the damage, and drops all of each object that had some; the second brings it back.
        for _ in 0..2 {
            assert!(read() == expected, "seed {seed}");
        }
        assert!(place.is_whole_without_the_store(), "seed {seed}");
    }
}

/// Turns a byte in every thousand into another one, or cuts the file short.
fn damage(file: &Path, seed: u32) {
    let mut bytes = fs::read(file).unwrap();
    let (start, step) = (seed as usize * 131 % 997, 997);
    for place in (start..bytes.len()).step_by(step) {
        bytes[place] ^= 0x5a;
    }
    if seed == 5 {
        bytes.truncate(bytes.len() / 2);
    }
    fs::write(file, bytes).unwrap();
}
