//! A whole repository as it was written once, in `tests/golden/repository`: today's code must read all of it.
//!
//! The real writers made it, so that here is what `tests/golden.rs` has not: objects as they lie in a store, and that
//! they lead to one another. Ids are random, so nothing is compared with what the writers would write today; see
//! `tests/golden.rs` for how it is made anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bygone::base::{Key, Origin, PointId, Row, RunId, Timestamp};
use bygone::fetch::Fetcher;
use bygone::format::run::Owner;
use bygone::format::{
    ChunkPlace, Content, Entry, EntryFlags, Extent, ExtentList, Features, Figures, FileType,
    FrameChunk, Metadata, Moment, Point, PointKind, Record, RunReference, Section, Xattr,
    decode_extents, encode_extents,
};
use bygone::manifest::{Chain, RunWriter};
use bygone::repo::{
    Catalogue, Index, InitOptions, PackWriter, Repository, commit, list_packs, read_pack_directory,
};
use bygone::seal::{Compression, SealedKind};
use bygone::store::{Body, MemoryStore, Store};

const FULL: &str = "2026-11-23T20-00-00Z-000000f1";
const INCREMENTAL: &str = "2026-11-24T20-00-00Z-000000f2";

/// Two small files that share a frame, and the chunks of a large one.
const SMALL: [&[u8]; 2] = [b"A small file.", b"Its neighbour in the frame."];

fn large() -> [Vec<u8>; 2] {
    [b"one ".repeat(5000), b"two ".repeat(3000)]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/repository")
}

/// The store with the golden objects in it, which are made first if the environment asks for that.
fn golden_store() -> Arc<MemoryStore> {
    if std::env::var_os("BYGONE_GOLDEN").is_some_and(|value| value == "write") {
        write_anew();
    }
    let store = MemoryStore::new();
    read_folder(&folder(), "", &store);
    Arc::new(store)
}

fn read_folder(folder: &Path, prefix: &str, store: &MemoryStore) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_folder(&entry.path(), &format!("{name}/"), store);
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            store.put_new(&name, Body::Bytes(&[&bytes])).unwrap();
        }
    }
}

fn write_anew() {
    let store = Arc::new(MemoryStore::new());
    write_repository(store.clone());
    let folder = folder();
    if folder.exists() {
        assert!(folder.ends_with("tests/golden/repository"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
    for (name, bytes) in store.objects() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Where the writers put the content.
struct Placed {
    small: Vec<ChunkPlace>,
    large: Vec<ChunkPlace>,
    list: ChunkPlace,
}

fn write_repository(store: Arc<MemoryStore>) {
    let options = InitOptions {
        created: "2026-11-23T19:00:00Z".parse().unwrap(),
        ..InitOptions::default()
    };
    let repository = Repository::init(store, &options).unwrap();
    let placed = write_content(&repository);
    let full = write_run(&repository, false, full_records(&placed));
    let moved = full.id;
    let newer = write_run(&repository, true, newer_records(&placed, moved));
    let points = [FULL, INCREMENTAL].map(|id| id.parse::<PointId>().unwrap());
    let base = point(points[0], None, vec![full.clone()]);
    commit(&repository, &base).unwrap();
    let next = point(points[1], Some(points[0]), vec![newer, full]);
    commit(&repository, &next).unwrap();
}

fn write_content(repository: &Arc<Repository>) -> Placed {
    let packs = PackWriter::create(Arc::clone(repository), false).unwrap();
    let add = |kind, chunks: &[&[u8]]| {
        let plain = chunks.concat();
        let mut sealed = Vec::new();
        let compression = Compression::default();
        let seal = repository.seal();
        seal.seal(kind, b"", &plain, compression, &mut sealed)
            .unwrap();
        let mut offset = 0;
        let chunks: Vec<_> = chunks
            .iter()
            .map(|bytes| {
                let length = bytes.len() as u32;
                offset += length;
                FrameChunk {
                    id: seal.chunk_id_in(kind, bytes),
                    offset: offset - length,
                    length,
                }
            })
            .collect();
        packs
            .add_frame(kind, &sealed, plain.len() as u32, &chunks)
            .unwrap()
    };
    let small = add(SealedKind::Data, &SMALL);
    let large: Vec<_> = large()
        .iter()
        .flat_map(|chunk| add(SealedKind::Data, &[chunk]))
        .collect();
    let list = encode_extents(&large_extents(&large)).unwrap();
    let list = add(SealedKind::ExtentList, &[&list])[0];
    packs.finish().unwrap();
    Placed { small, large, list }
}

/// A hole between the chunks, and written zeros behind them.
fn large_extents(chunks: &[ChunkPlace]) -> Vec<Extent> {
    vec![
        Extent::Chunk(chunks[0]),
        Extent::Hole(1 << 20),
        Extent::Chunk(chunks[1]),
        Extent::Zeros(4096),
    ]
}

fn large_content() -> Vec<u8> {
    let [first, second] = large();
    [first, vec![0; 1 << 20], second, vec![0; 4096]].concat()
}

type Records = Vec<(&'static str, Record)>;

fn write_run(repository: &Repository, filters: bool, records: Records) -> RunReference {
    let mut sorted: Vec<_> = records
        .into_iter()
        .map(|(path, record)| (Key::from_path(path.as_bytes()).unwrap(), record))
        .collect();
    sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut writer = RunWriter::create(repository, filters).unwrap();
    for (key, record) in sorted {
        let section = match &record {
            Record::Entry(entry) => entry.metadata.file_type.section(),
            // The one tombstone of a directory is told by its name.
            Record::Tombstone { .. } if key.name() == b"directory" => Section::Directories,
            Record::Tombstone { .. } => Section::Files,
        };
        writer.append(&key, section, &record).unwrap();
    }
    writer.owner(&Owner::User {
        id: 1000,
        name: b"selene".to_vec(),
    });
    writer.owner(&Owner::Group {
        id: 1000,
        name: b"users".to_vec(),
    });
    writer
        .warning(b"home/log", "changed while it was read")
        .unwrap();
    writer.finish().unwrap()
}

fn entry(file_type: FileType, size: u64, content: Content) -> Entry {
    let time = Timestamp {
        seconds: 1_763_000_000,
        nanoseconds: 123_456_789,
    };
    Entry {
        metadata: Metadata {
            file_type,
            mode: 0o640,
            uid: 1000,
            gid: 1000,
            mtime: time,
            ctime: time,
            btime: Some(time),
            size,
            blocks: 8,
            links: 1,
            rdev: 0,
            target: Vec::new(),
            xattrs: Vec::new(),
            chattr: 0x80000,
            inode: 4711,
            device: 1,
        },
        origin: None,
        group: None,
        flags: EntryFlags::default(),
        content_hash: None,
        content,
        unknown: Vec::new(),
    }
}

fn small_file(placed: &Placed, number: usize) -> Entry {
    let place = placed.small[number];
    let content = Content::Extents(vec![Extent::Chunk(place)]);
    let mut file = entry(FileType::Regular, u64::from(place.length), content);
    file.metadata.xattrs = vec![Xattr {
        name: b"user.comment".to_vec(),
        value: SMALL[number].to_vec(),
    }];
    file
}

fn large_file(placed: &Placed) -> Entry {
    let size = large_content().len() as u64;
    let list = ExtentList {
        chunk: placed.list,
        span: size,
    };
    entry(FileType::Regular, size, Content::Lists(vec![list]))
}

fn special(file_type: FileType) -> Entry {
    let mut special = entry(file_type, 0, Content::Nothing);
    match file_type {
        FileType::Symlink => special.metadata.target = b"home/small".to_vec(),
        FileType::CharacterDevice | FileType::BlockDevice => special.metadata.rdev = 0x0801,
        _ => {}
    }
    special
}

fn full_records(placed: &Placed) -> Records {
    let inline = Content::Inline(b"in the entry".to_vec());
    let size = large_content().len() as u64;
    let extents = Content::Extents(large_extents(&placed.large));
    let entries = [
        ("/", special(FileType::Directory)),
        ("home", special(FileType::Directory)),
        ("home/directory", special(FileType::Directory)),
        ("home/empty", special(FileType::Regular)),
        ("home/extents", entry(FileType::Regular, size, extents)),
        ("home/gone", special(FileType::Fifo)),
        ("home/inline", entry(FileType::Regular, 12, inline)),
        ("home/small", small_file(placed, 0)),
        ("lists", large_file(placed)),
        ("symlink", special(FileType::Symlink)),
        ("fifo", special(FileType::Fifo)),
        ("socket", special(FileType::Socket)),
        ("character", special(FileType::CharacterDevice)),
        ("block", special(FileType::BlockDevice)),
    ];
    entries
        .map(|(path, entry)| (path, Record::Entry(Box::new(entry))))
        .to_vec()
}

/// A change, a deletion, a directory that was excluded, and a file that is recorded again though it is known.
fn newer_records(placed: &Placed, full: RunId) -> Records {
    let mut inherited = small_file(placed, 0);
    inherited.origin = Some(small_origin(full));
    inherited.group = inherited.origin;
    inherited.metadata.links = 2;
    let entries = [
        ("home", special(FileType::Directory)),
        ("home/empty", small_file(placed, 1)),
        ("home/small", inherited),
    ];
    let tombstones = [("home/directory", true), ("home/gone", false)]
        .map(|(path, excluded)| (path, Record::Tombstone { excluded }));
    entries
        .map(|(path, entry)| (path, Record::Entry(Box::new(entry))))
        .into_iter()
        .chain(tombstones)
        .collect()
}

/// `home/small` has the last row of the full run's files.
fn small_origin(run: RunId) -> Origin {
    Origin { run, row: Row(10) }
}

fn point(id: PointId, parent: Option<PointId>, runs: Vec<RunReference>) -> Point {
    let moment = Moment {
        time: jiff::Timestamp::from_second(id.seconds).unwrap(),
        offset_seconds: 0,
    };
    Point {
        id,
        features: Features::default(),
        kind: parent.map_or(PointKind::Full, |_| PointKind::Incremental),
        parent,
        base: parent.unwrap_or(id),
        lineage: std::iter::once(id).chain(parent).collect(),
        sequence: u64::from(parent.is_some()),
        runs,
        host: "moon".into(),
        set: "home".into(),
        user: "selene".into(),
        sources: vec!["/".into()],
        mapping: Vec::new(),
        excludes: Vec::new(),
        labels: BTreeMap::new(),
        start: moment,
        end: moment,
        partial: false,
        warnings: 1,
        figures: Figures::default(),
    }
}

fn content_of(fetcher: &Fetcher, content: &Content) -> Vec<u8> {
    match content {
        Content::Nothing => Vec::new(),
        Content::Inline(bytes) => bytes.clone(),
        Content::Extents(extents) => extents
            .iter()
            .flat_map(|extent| match extent {
                Extent::Chunk(place) => fetcher.chunk(place).unwrap().to_vec(),
                Extent::Hole(length) | Extent::Zeros(length) => vec![0; *length as usize],
            })
            .collect(),
        Content::Lists(lists) => lists
            .iter()
            .flat_map(|list| {
                let bytes = fetcher.extent_list(&list.chunk).unwrap();
                let extents = decode_extents(&bytes, list.span).unwrap();
                content_of(fetcher, &Content::Extents(extents))
            })
            .collect(),
    }
}

/// Path, type and content of each entry of a point, in order of paths.
fn tree_of(fetcher: &Arc<Fetcher>, point: &Point) -> BTreeMap<String, (FileType, Vec<u8>)> {
    let chain = Chain::open(fetcher, point).unwrap();
    chain
        .entries(&Key::root())
        .map(|found| {
            let found = found.unwrap();
            let content = content_of(fetcher, &found.entry.content);
            let file_type = found.entry.metadata.file_type;
            (found.key.to_string(), (file_type, content))
        })
        .collect()
}

fn full_tree() -> BTreeMap<String, (FileType, Vec<u8>)> {
    let nothing = Vec::new;
    [
        ("/", FileType::Directory, nothing()),
        ("/home", FileType::Directory, nothing()),
        ("/home/directory", FileType::Directory, nothing()),
        ("/home/empty", FileType::Regular, nothing()),
        ("/home/extents", FileType::Regular, large_content()),
        ("/home/gone", FileType::Fifo, nothing()),
        ("/home/inline", FileType::Regular, b"in the entry".to_vec()),
        ("/home/small", FileType::Regular, SMALL[0].to_vec()),
        ("/lists", FileType::Regular, large_content()),
        ("/symlink", FileType::Symlink, nothing()),
        ("/fifo", FileType::Fifo, nothing()),
        ("/socket", FileType::Socket, nothing()),
        ("/character", FileType::CharacterDevice, nothing()),
        ("/block", FileType::BlockDevice, nothing()),
    ]
    .into_iter()
    .map(|(path, file_type, content)| (path.to_owned(), (file_type, content)))
    .collect()
}

#[test]
fn a_repository_reads_as_it_was_written() {
    let repository = Repository::open(golden_store()).unwrap();
    let catalogue = Catalogue::load(&repository).unwrap();
    assert_eq!(catalogue.damaged().count(), 0);
    let points = catalogue.points();
    let ids: Vec<_> = points.iter().map(|point| point.id.to_string()).collect();
    assert_eq!(ids, [FULL, INCREMENTAL]);
    let fetcher = Fetcher::new(Arc::clone(&repository), 64 << 20);

    let mut tree = full_tree();
    assert_eq!(tree_of(&fetcher, &points[0]), tree);
    tree.remove("/home/directory");
    tree.remove("/home/gone");
    tree.insert("/home/empty".into(), (FileType::Regular, SMALL[1].to_vec()));
    assert_eq!(tree_of(&fetcher, &points[1]), tree);

    assert_origins_and_tables(&fetcher, &points[1]);
    assert_index_knows_all(&repository);
}

fn assert_origins_and_tables(fetcher: &Arc<Fetcher>, point: &Point) {
    let chain = Chain::open(fetcher, point).unwrap();
    let [newer, full] = chain.runs() else {
        panic!("the point stands on two runs");
    };
    let small = Key::from_path(b"home/small").unwrap();
    let found = chain.lookup(&small).unwrap().unwrap();
    let origin = small_origin(full.id());
    assert_eq!((found.run, found.origin), (0, origin));
    let older = full.lookup(Section::Files, &small).unwrap().unwrap();
    assert_eq!(older.row, origin.row);
    assert_eq!(found.entry.metadata.xattrs[0].value, SMALL[0]);
    assert_eq!(newer.row_of_origin(origin).unwrap(), Some(found.row));
    assert_eq!(newer.counts().linked, 1);
    assert!(!newer.may_have_children(&small).unwrap());
    let warnings = newer.warnings().unwrap();
    assert_eq!(warnings[0].1, "changed while it was read");
    assert_eq!(newer.owners().unwrap().users[&1000], b"selene");
}

fn assert_index_knows_all(repository: &Arc<Repository>) {
    let index = Index::open(repository).unwrap();
    let mut chunks = 0;
    for (pack, _) in list_packs(repository).unwrap() {
        for frame in read_pack_directory(repository, &pack).unwrap().frames() {
            for chunk in &frame.chunks {
                let places = index.find(&chunk.id).unwrap();
                assert_eq!(places[0].hint.pack, pack);
                assert_eq!(places[0].hint.frame_offset, frame.offset);
                chunks += 1;
            }
        }
    }
    assert_eq!(chunks, 5);
}
