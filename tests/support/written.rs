//! Points written by hand over a store in memory: packs, runs and headers as a test wants them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bygone::base::{PackId, PointId, Timestamp};
use bygone::fetch::Fetcher;
use bygone::format::{
    ChunkPlace, Content, Entry, EntryFlags, Features, Figures, FileType, Hint, Metadata, Moment,
    Point, PointKind, RunReference, pack_name,
};
use bygone::repo::{InitOptions, Repository, commit};
use bygone::seal::{Compression, SealedKind};
use bygone::store::{Body, MemoryStore, Recording, Store};
use bygone::tree::{Numbers, Tree, TreeOptions};

/// A repository in memory, and how often its store was asked.
pub struct Written {
    pub memory: Arc<MemoryStore>,
    pub recording: Arc<Recording>,
    pub repository: Arc<Repository>,
    count: AtomicU32,
}

impl Written {
    pub fn new() -> Self {
        Self::with(&InitOptions::default())
    }

    /// One whose repository is made so.
    pub fn with(options: &InitOptions) -> Self {
        let memory = Arc::new(MemoryStore::new());
        let recording = Arc::new(Recording::new(memory.clone()));
        let repository = Repository::init(recording.clone(), options).unwrap();
        Self {
            memory,
            recording,
            repository,
            count: AtomicU32::new(1),
        }
    }

    /// Puts a pack of frames, each of these chunks, and says where every chunk is.
    pub fn pack(&self, kind: SealedKind, frames: &[Vec<Vec<u8>>]) -> Vec<ChunkPlace> {
        let pack = PackId([self.next() as u8; 16]);
        let seal = self.repository.seal();
        let (mut object, mut places) = (Vec::new(), Vec::new());
        for chunks in frames {
            let frame_offset = object.len() as u32;
            seal.seal(
                kind,
                b"",
                &chunks.concat(),
                Compression::Level(3),
                &mut object,
            )
            .unwrap();
            let frame_length = object.len() as u32 - frame_offset;
            let mut offset_in_frame = 0;
            for chunk in chunks {
                places.push(ChunkPlace {
                    id: seal.chunk_id_in(kind, chunk),
                    length: chunk.len() as u32,
                    hint: Hint {
                        pack,
                        frame_offset,
                        frame_length,
                        offset_in_frame,
                    },
                });
                offset_in_frame += chunk.len() as u32;
            }
        }
        self.memory
            .put_new(&pack_name(&pack), Body::Bytes(&[&object]))
            .unwrap();
        places
    }

    /// Commits a point that stands on these runs, newest first.
    pub fn commit(&self, runs: Vec<RunReference>, host: &str) -> PointId {
        let number = self.next();
        let id = PointId {
            seconds: 1_790_000_000 + i64::from(number),
            random: number,
        };
        let moment = Moment {
            time: jiff::Timestamp::from_second(id.seconds).unwrap(),
            offset_seconds: 0,
        };
        let point = Point {
            id,
            features: Features::default(),
            kind: PointKind::Full,
            parent: None,
            base: id,
            lineage: vec![id],
            sequence: u64::from(number),
            runs,
            host: host.to_owned(),
            set: "set".to_owned(),
            user: "user".to_owned(),
            sources: vec![PathBuf::from("/")],
            mapping: Vec::new(),
            excludes: Vec::new(),
            labels: BTreeMap::from([("host".to_owned(), host.to_owned())]),
            start: moment,
            end: moment,
            partial: false,
            warnings: 0,
            figures: Figures {
                bytes: 1000,
                entries: 10,
                ..Figures::default()
            },
        };
        commit(&self.repository, &point).unwrap();
        id
    }

    /// A tree of this repository whose caches are empty.
    pub fn tree(&self, options: TreeOptions) -> Tree {
        let repository = Repository::open(self.recording.clone()).unwrap();
        let fetcher = Fetcher::new(repository, 32 << 20);
        Tree::open(fetcher, Numbers::in_memory().unwrap(), options).unwrap()
    }

    fn next(&self) -> u32 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }
}

/// An entry as a run records it first. What tells one from another is its size and mtime.
pub fn entry(file_type: FileType, size: u64, content: Content) -> Entry {
    let time = |nanoseconds| Timestamp {
        seconds: 1_700_000_000,
        nanoseconds,
    };
    Entry {
        metadata: Metadata {
            file_type,
            mode: 0o640,
            uid: 1000,
            gid: 100,
            mtime: time(size as u32 % 1_000_000_000),
            ctime: time(2),
            btime: Some(time(3)),
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
