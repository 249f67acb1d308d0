//! A small repository with every kind of object, written by the library's own writers, and what its points hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use bygone::base::{Key, LeaseId, Origin, PointId, Row, RunId, Timestamp};
use bygone::fetch::Fetcher;
use bygone::format::run::Owner;
use bygone::format::{
    ChunkPlace, Content, Entry, EntryFlags, Extent, ExtentList, Features, Figures, FileType,
    KeyDescription, LeaseKind, LeaseRecord, Metadata, Moment, Point, PointKind, Record,
    RunReference, Section, encode_extents, lease_name,
};
use bygone::manifest::RunWriter;
use bygone::repo::{
    Catalogue, Encryption, FrameChunk, InitOptions, PackWriter, Repository, commit,
};
use bygone::seal::{Compression, Derivation, Password, SealedKind};
use bygone::store::{Body, Store};
use bygone::tree::{NodeId, Numbers, Tree, TreeOptions};

/// A path of a point, from the root and without a slash before it.
pub type Place = (PointId, Vec<u8>);

/// The bytes of every file and the target of every symlink, by point and path.
pub type Contents = BTreeMap<Place, Vec<u8>>;

pub const FULL: &str = "2026-11-20T21-00-00Z-1f3a9c2e";
pub const INCREMENTAL: &str = "2026-11-21T21-00-00Z-5b00c0de";

/// Bytes of the large file: three chunks.
const LARGE_BYTES: usize = 24_000;

/// Makes the repository in an empty store: a full point, and an incremental one with a file changed, one new and one
/// gone.
pub fn make(store: Arc<dyn Store>) -> (Arc<Repository>, Contents) {
    make_with(store, &InitOptions::default())
}

/// What an encrypted one is made with. Its password takes little work.
pub fn encrypted(is_padded: bool) -> InitOptions {
    InitOptions {
        encryption: Some(Encryption {
            password: password(),
            derivation: QUICK,
            is_padded,
            description: description(),
        }),
        ..InitOptions::default()
    }
}

/// Who makes keys.
pub fn description() -> KeyDescription {
    KeyDescription {
        created: jiff::Timestamp::UNIX_EPOCH,
        host: "moon".into(),
        user: "selene".into(),
        label: None,
    }
}

/// Little work.
pub const QUICK: Derivation = Derivation {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};

/// The password of encrypted ones.
pub fn password() -> Password {
    Password::new(b"open sesame".to_vec()).unwrap()
}

/// Opens a repository, encrypted or not.
pub fn open(store: Arc<dyn Store>) -> bygone::base::Result<Arc<Repository>> {
    Repository::unlock(store, &mut || Ok(password()))
}

/// The same, in a repository that is made as `options` say.
pub fn make_with(store: Arc<dyn Store>, options: &InitOptions) -> (Arc<Repository>, Contents) {
    let repository = Repository::init(store, options).unwrap();
    let packs = PackWriter::create(Arc::clone(&repository), false).unwrap();
    let small: Vec<Vec<u8>> = (0..4)
        .map(|seed| noise(seed, 700 + 100 * seed as usize))
        .collect();
    let small_places = frame(&repository, &packs, SealedKind::Data, &small);
    let large = noise(9, LARGE_BYTES);
    let large_places: Vec<ChunkPlace> = large
        .chunks(LARGE_BYTES / 3)
        .flat_map(|chunk| frame(&repository, &packs, SealedKind::Data, &[chunk.to_vec()]))
        .collect();
    let image_extents = [
        Extent::Chunk(large_places[1]),
        Extent::Hole(100_000),
        Extent::Zeros(5_000),
    ];
    let span = LARGE_BYTES as u64 / 3 + 105_000;
    let list = encode_extents(&image_extents).unwrap();
    let list_place = frame(&repository, &packs, SealedKind::ExtentList, &[list])[0];
    packs.finish().unwrap();

    let image: Vec<u8> = [
        &large[LARGE_BYTES / 3..LARGE_BYTES / 3 * 2],
        &vec![0; 105_000],
    ]
    .concat();
    let extents = |places: &[ChunkPlace]| {
        Content::Extents(places.iter().copied().map(Extent::Chunk).collect())
    };
    let image_content = Content::Lists(vec![ExtentList {
        chunk: list_place,
        span,
    }]);
    let full = [
        (
            "docs/a.txt",
            file(&small[0], extents(&small_places[..1])),
            small[0].clone(),
        ),
        (
            "docs/b.txt",
            file(&small[1], extents(&small_places[1..2])),
            small[1].clone(),
        ),
        (
            "docs/deep/inline",
            file(b"tiny", Content::Inline(b"tiny".to_vec())),
            b"tiny".to_vec(),
        ),
        ("docs/link", symlink(b"a.txt"), b"a.txt".to_vec()),
        ("image", file(&image, image_content), image.clone()),
        ("large", file(&large, extents(&large_places)), large.clone()),
    ];
    let first = write_run(&repository, false, &full, &[]);
    let changed = [
        (
            "docs/b.txt",
            file(&small[2], extents(&small_places[2..3])),
            small[2].clone(),
        ),
        (
            "docs/new",
            file(&small[3], extents(&small_places[3..])),
            small[3].clone(),
        ),
    ];
    let second = write_run(&repository, true, &changed, &["docs/deep/inline"]);

    let (full_id, incremental_id) = (id(FULL), id(INCREMENTAL));
    commit(&repository, &point(full_id, None, vec![first.clone()])).unwrap();
    commit(
        &repository,
        &point(incremental_id, Some(full_id), vec![second, first]),
    )
    .unwrap();

    let lease = LeaseRecord {
        id: LeaseId([7; 16]),
        features: Features::default(),
        kind: LeaseKind::Backup,
        host: "moon".into(),
        process: 4711,
        parent: Some(incremental_id),
        began: jiff::Timestamp::UNIX_EPOCH,
        refreshed: jiff::Timestamp::UNIX_EPOCH,
        replaces: None,
    };
    let lease_bytes = lease.encode(repository.seal()).unwrap();
    repository
        .store()
        .put_new(&lease_name(&lease.id), Body::Bytes(&[&lease_bytes]))
        .unwrap();

    let mut contents = Contents::new();
    for (path, _, bytes) in &full {
        contents.insert((full_id, path.as_bytes().to_vec()), bytes.clone());
        contents.insert((incremental_id, path.as_bytes().to_vec()), bytes.clone());
    }
    for (path, _, bytes) in &changed {
        contents.insert((incremental_id, path.as_bytes().to_vec()), bytes.clone());
    }
    contents.remove(&(incremental_id, b"docs/deep/inline".to_vec()));
    (repository, contents)
}

/// Adds a point of its own to a repository: so many files that every piece of its manifest stands by itself. Half of
/// them have their origin in another run.
pub fn add_wide(repository: &Repository, files: usize) -> Contents {
    let id = id("2026-11-22T21-00-00Z-00c0ffee");
    let elsewhere = RunId([5; 16]);
    let mut contents = Contents::new();
    let mut run = RunWriter::create(repository, true).unwrap();
    let mut directories = vec![Key::root()];
    directories.extend(
        (0..files / 4).map(|number| Key::from_path(format!("d{number:04}").as_bytes()).unwrap()),
    );
    for directory in &directories {
        let record = Record::Entry(Box::new(entry(FileType::Directory, 4096, Content::Nothing)));
        run.append(directory, Section::Directories, &record)
            .unwrap();
    }
    for number in 0..files {
        let path = format!("d{:04}/f{number:04}", number / 4).into_bytes();
        let bytes = noise(number as u64, 90);
        let mut entry = file(&bytes, Content::Inline(bytes.clone()));
        entry.origin = (number % 2 == 0).then_some(Origin {
            run: elsewhere,
            row: Row(number as u64),
        });
        run.append(
            &Key::from_path(&path).unwrap(),
            Section::Files,
            &Record::Entry(Box::new(entry)),
        )
        .unwrap();
        run.owner(&Owner::User {
            id: number as u32,
            name: format!("user{number}").into_bytes(),
        });
        contents.insert((id, path), bytes);
    }
    let run = run.finish().unwrap();
    commit(repository, &point(id, None, vec![run])).unwrap();
    contents
}

/// What could be read of a repository, and how often it failed.
#[derive(Default)]
pub struct Reading {
    pub contents: Contents,
    pub errors: Vec<String>,
}

/// Reads all that can be read of every point, through the tree as a mount does.
pub fn read_all(store: Arc<dyn Store>) -> Reading {
    let mut reading = Reading::default();
    let repository = match open(store) {
        Ok(repository) => repository,
        Err(error) => {
            reading.errors.push(error.to_string());
            return reading;
        }
    };
    let catalogue = match Catalogue::load(&repository) {
        Ok(catalogue) => catalogue,
        Err(error) => {
            reading.errors.push(error.to_string());
            return reading;
        }
    };
    reading
        .errors
        .extend(catalogue.damaged().map(|(_, error)| error.to_string()));
    for point in catalogue.points() {
        let fetcher = Fetcher::new(Arc::clone(&repository), 8 << 20);
        let options = TreeOptions {
            point: Some(point.id),
            ..TreeOptions::default()
        };
        match Tree::open(fetcher, Numbers::in_memory().unwrap(), options) {
            Ok(tree) => reading.directory(&tree, point.id, NodeId::ROOT, &[]),
            Err(error) => reading.errors.push(error.to_string()),
        }
    }
    reading
}

impl Reading {
    fn directory(&mut self, tree: &Tree, point: PointId, node: NodeId, path: &[u8]) {
        let mut names = Vec::new();
        let listed = tree.list(node, 0, &mut |entry| {
            names.push(entry.name.to_vec());
            true
        });
        if let Err(error) = listed {
            self.errors.push(error.to_string());
        }
        for name in names {
            let child = if path.is_empty() {
                name.clone()
            } else {
                [path, b"/", &name].concat()
            };
            match tree.lookup(node, &name) {
                Ok(Some(found)) if found.file_type == FileType::Directory => {
                    self.directory(tree, point, found.node, &child);
                }
                Ok(Some(found)) => {
                    let bytes = match found.file_type {
                        FileType::Symlink => tree.target(found.node),
                        _ => read(tree, found.node, found.size),
                    };
                    match bytes {
                        Ok(bytes) => {
                            self.contents.insert((point, child), bytes);
                        }
                        Err(error) => self.errors.push(error.to_string()),
                    }
                }
                Ok(None) => self
                    .errors
                    .push(format!("{name:?} is listed and not found")),
                Err(error) => self.errors.push(error.to_string()),
            }
        }
    }
}

fn read(tree: &Tree, node: NodeId, size: u64) -> bygone::base::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let read = tree.read(node, bytes.len() as u64, 1 << 20)?;
        assert!(!read.is_empty(), "a read before the end gives bytes");
        read.append_to(&mut bytes);
    }
    Ok(bytes)
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Adds a frame of these chunks.
pub fn frame(
    repository: &Repository,
    packs: &PackWriter,
    kind: SealedKind,
    chunks: &[Vec<u8>],
) -> Vec<ChunkPlace> {
    let seal = repository.seal();
    let plain = chunks.concat();
    let mut sealed = Vec::new();
    seal.seal(kind, &[], &plain, Compression::Level(3), &mut sealed)
        .unwrap();
    let mut offset = 0;
    let chunks: Vec<FrameChunk> = chunks
        .iter()
        .map(|chunk| {
            let length = chunk.len() as u32;
            offset += length;
            FrameChunk {
                id: seal.chunk_id_in(kind, chunk),
                offset: offset - length,
                length,
            }
        })
        .collect();
    packs
        .add_frame(kind, &sealed, plain.len() as u32, &chunks)
        .unwrap()
}

/// Writes a run of these files, the directories above them, and tombstones of others.
pub fn write_run(
    repository: &Repository,
    filters: bool,
    files: &[(&str, Entry, Vec<u8>)],
    gone: &[&str],
) -> RunReference {
    let key = |path: &str| Key::from_path(path.as_bytes()).unwrap();
    let mut records: BTreeMap<Key, Record> = files
        .iter()
        .map(|(path, entry, _)| (key(path), Record::Entry(Box::new(entry.clone()))))
        .collect();
    records.extend(
        gone.iter()
            .map(|path| (key(path), Record::Tombstone { excluded: false })),
    );
    let mut directories = BTreeMap::from([(Key::root(), ())]);
    for key in records.keys() {
        let mut above = key.parent();
        while let Some(directory) = above {
            above = directory.parent();
            directories.insert(directory, ());
        }
    }
    let mut run = RunWriter::create(repository, filters).unwrap();
    for directory in directories.keys() {
        let record = Record::Entry(Box::new(entry(FileType::Directory, 4096, Content::Nothing)));
        run.append(directory, Section::Directories, &record)
            .unwrap();
    }
    for (key, record) in &records {
        run.append(key, Section::Files, record).unwrap();
    }
    run.owner(&Owner::User {
        id: 1000,
        name: b"selene".to_vec(),
    });
    run.warning(b"docs/secret", "cannot read it: Permission denied")
        .unwrap();
    run.finish().unwrap()
}

/// The header of a point that stands on these runs, newest first.
pub fn point(id: PointId, parent: Option<PointId>, runs: Vec<RunReference>) -> Point {
    let moment = Moment {
        time: jiff::Timestamp::from_second(id.seconds).unwrap(),
        offset_seconds: 3600,
    };
    Point {
        id,
        features: Features::default(),
        kind: if parent.is_some() {
            PointKind::Incremental
        } else {
            PointKind::Full
        },
        parent,
        base: parent.unwrap_or(id),
        lineage: std::iter::once(id).chain(parent).collect(),
        sequence: u64::from(parent.is_some()),
        runs,
        host: "moon".into(),
        set: "home".into(),
        user: "selene".into(),
        sources: vec!["/docs".into(), "/image".into(), "/large".into()],
        mapping: Vec::new(),
        excludes: vec!["*.o".into()],
        labels: BTreeMap::from([("why".to_owned(), "nightly".to_owned())]),
        start: moment,
        end: moment,
        partial: false,
        warnings: 1,
        figures: Figures {
            entries: 9,
            files: 6,
            directories: 3,
            bytes: 140_000,
            newly_uploaded_bytes: 27_000,
            ..Figures::default()
        },
    }
}

pub fn id(text: &str) -> PointId {
    text.parse().unwrap()
}

/// A regular file of these bytes.
pub fn file(bytes: &[u8], content: Content) -> Entry {
    entry(FileType::Regular, bytes.len() as u64, content)
}

pub fn symlink(target: &[u8]) -> Entry {
    let mut entry = entry(FileType::Symlink, target.len() as u64, Content::Nothing);
    entry.metadata.target = target.to_vec();
    entry
}

pub fn entry(file_type: FileType, size: u64, content: Content) -> Entry {
    let time = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 5,
    };
    Entry {
        metadata: Metadata {
            file_type,
            mode: 0o640,
            uid: 1000,
            gid: 100,
            mtime: time,
            ctime: time,
            btime: Some(time),
            size,
            blocks: size.div_ceil(512),
            links: 1,
            rdev: 0,
            target: Vec::new(),
            xattrs: Vec::new(),
            chattr: 0,
            inode: 77,
            device: 0,
        },
        origin: None,
        group: None,
        flags: EntryFlags::default(),
        content_hash: None,
        content,
        unknown: Vec::new(),
    }
}
