//! Runs and chains over a store that records its requests.

mod damage;
mod difference;
mod merged;
mod model;
mod requests;
mod runs;
mod versions;

use std::sync::Arc;

use crate::base::{ChunkId, Key, PackId, Result, RunId, Timestamp};
use crate::fetch::Fetcher;
use crate::format::{
    ChunkPlace, Content, Entry, EntryFlags, Extent, FileType, Hint, KeyedRecord, Metadata, Record,
    RunReference, Section, Xattr, run_name,
};
use crate::repo::{InitOptions, Repository};
use crate::seal::Compression;
use crate::store::{MemoryStore, Recording};

use super::{Chain, Run, RunWriter, merge_newest};

/// Memory of a fetcher that never has to let go of anything.
const MEMORY_BYTES: u64 = 256 << 20;

/// A repository in memory.
struct Bench {
    memory: Arc<MemoryStore>,
    store: Arc<Recording>,
    repository: Arc<Repository>,
}

impl Bench {
    fn new() -> Self {
        Self::with_compression(Compression::default())
    }

    fn with_compression(compression: Compression) -> Self {
        let memory = Arc::new(MemoryStore::new());
        let store = Arc::new(Recording::new(memory.clone()));
        let options = InitOptions {
            compression,
            ..InitOptions::default()
        };
        let repository = Repository::init(store.clone(), &options).unwrap();
        store.take();
        Self {
            memory,
            store,
            repository,
        }
    }

    /// A run of what `fill` appends.
    fn run(&self, filters: bool, fill: impl FnOnce(&mut RunWriter<'_>)) -> RunReference {
        let mut writer = RunWriter::create(&self.repository, filters).unwrap();
        fill(&mut writer);
        let reference = writer.finish().unwrap();
        self.store.take();
        reference
    }

    /// A fetcher that has nothing yet.
    fn fetcher(&self) -> Arc<Fetcher> {
        Fetcher::new(Arc::clone(&self.repository), MEMORY_BYTES)
    }

    fn open(&self, reference: &RunReference) -> Arc<Run> {
        Run::open(&self.fetcher(), reference).unwrap()
    }

    /// A chain of runs, newest first.
    fn chain(&self, references: &[RunReference]) -> Chain {
        let fetcher = self.fetcher();
        let runs = references
            .iter()
            .map(|reference| Run::open(&fetcher, reference).unwrap())
            .collect();
        Chain::of_runs(runs)
    }

    /// The chain with one run in place of its `count` newest.
    fn merge(&self, references: &[RunReference], count: usize) -> Vec<RunReference> {
        let chain = self.chain(references);
        let merged = merge_newest(&self.repository, &chain, count, &|| Ok(())).unwrap();
        self.store.take();
        std::iter::once(merged)
            .chain(references[count..].iter().cloned())
            .collect()
    }

    /// Requests since the last time that this was asked.
    fn requests(&self) -> usize {
        self.store.take().len()
    }

    fn bytes_of(&self, run: &RunId) -> Vec<u8> {
        self.memory.objects()[&run_name(run)].to_vec()
    }
}

fn key(path: &str) -> Key {
    Key::from_path(path.as_bytes()).unwrap()
}

fn metadata(file_type: FileType, number: u64) -> Metadata {
    Metadata {
        file_type,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp {
            seconds: 1_700_000_000 + number as i64,
            nanoseconds: (number * 7919 % 1_000_000_000) as u32,
        },
        ctime: Timestamp {
            seconds: 1_700_000_100 + number as i64,
            nanoseconds: (number * 104_729 % 1_000_000_000) as u32,
        },
        btime: None,
        size: 0,
        blocks: 0,
        links: 1,
        rdev: 0,
        target: Vec::new(),
        xattrs: Vec::new(),
        chattr: 0,
        inode: number,
        device: 0,
    }
}

fn entry_of(metadata: Metadata, content: Content) -> Entry {
    Entry {
        metadata,
        origin: None,
        group: None,
        flags: EntryFlags::default(),
        content_hash: None,
        content,
        unknown: Vec::new(),
    }
}

fn directory(number: u64) -> Entry {
    entry_of(metadata(FileType::Directory, number), Content::Nothing)
}

/// A file of one chunk, whose id is noise, as that of all chunks.
fn file(number: u64) -> Entry {
    let id = ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let place = ChunkPlace {
        id,
        length: 1000,
        hint: Hint {
            pack: PackId([(number / 5000) as u8; 16]),
            frame_offset: (number % 5000 * 300) as u32,
            frame_length: 300,
            offset_in_frame: (number % 8 * 1000) as u32,
        },
    };
    let mut metadata = metadata(FileType::Regular, number);
    metadata.size = 1000;
    metadata.blocks = 8;
    entry_of(metadata, Content::Extents(vec![Extent::Chunk(place)]))
}

/// An extended attribute of noise, so that few entries fill a block.
fn noise(seed: u64, bytes: usize) -> Xattr {
    let mut value = vec![0; bytes];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut value);
    Xattr {
        name: b"user.noise".to_vec(),
        value,
    }
}

fn record(entry: Entry) -> Record {
    Record::Entry(Box::new(entry))
}

const TOMBSTONE: Record = Record::Tombstone { excluded: false };

/// The keys of a tree: so many folders of so many files each, directories and files in order.
fn tree_keys(folders: usize, files: usize) -> (Vec<Key>, Vec<Key>) {
    let mut directories = vec![Key::root(), key("home")];
    let mut in_folders = Vec::new();
    for folder in 0..folders {
        let folder = format!("home/folder {folder:05}");
        directories.push(key(&folder));
        in_folders.extend((0..files).map(|file| key(&format!("{folder}/file {file:05}.txt"))));
    }
    directories.sort();
    in_folders.sort();
    (directories, in_folders)
}

/// Appends such a tree; returns how many entries it has.
fn append_tree(writer: &mut RunWriter<'_>, folders: usize, files: usize) -> usize {
    let (directories, in_folders) = tree_keys(folders, files);
    for (number, key) in directories.iter().enumerate() {
        let record = record(directory(number as u64));
        writer.append(key, Section::Directories, &record).unwrap();
    }
    for (number, key) in in_folders.iter().enumerate() {
        writer
            .append(key, Section::Files, &record(file(number as u64)))
            .unwrap();
    }
    directories.len() + in_folders.len()
}

/// All that an iterator yields, or its error.
fn all<T>(items: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
    items.collect()
}
