//! From a place in a pack to bytes: opening chunks, and reading files.

use std::sync::Arc;

use bygone::base::Key;
use bygone::fetch::Fetcher;
use bygone::format::{ChunkPlace, Content, Extent, FileType, KeyDescription, Record};
use bygone::manifest::RunWriter;
use bygone::repo::{Encryption, InitOptions, Repository};
use bygone::seal::{Derivation, Password, SealedKind};
use bygone::tree::{NodeId, Numbers, Tree, TreeOptions};
use divan::Bencher;
use divan::counter::BytesCount;

use crate::written::{Written, entry};

/// Bytes of one chunk, and of one frame in an image.
const CHUNK_BYTES: usize = 128 << 10;

/// Chunks of the image: more than `SMALL_CACHE_BYTES` hold.
const CHUNKS: usize = 64;

/// A cache that a scan of the image overflows.
const SMALL_CACHE_BYTES: u64 = 4 << 20;

/// A cache in which all stays that was read.
const LARGE_CACHE_BYTES: u64 = 64 << 20;

/// Bytes that compress to a third or so, as text does.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut words = Vec::with_capacity(bytes + 16);
    while words.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        words.extend_from_slice(format!("{} ", (state >> 40) % 5000).as_bytes());
    }
    words.truncate(bytes);
    words
}

/// What a chunk is, and how it is sealed.
const SEALS: [&str; 6] = [
    "text",
    "text, encrypted",
    "text, padded",
    "noise",
    "noise, encrypted",
    "noise, padded",
];

/// Options of a repository that is sealed so.
fn options(seal: &str) -> InitOptions {
    let is_padded = seal.contains("padded");
    let encryption = (is_padded || seal.contains("encrypted")).then(|| Encryption {
        password: Password::new(b"open sesame".to_vec()).unwrap(),
        derivation: Derivation::default(),
        is_padded,
        description: KeyDescription {
            created: jiff::Timestamp::UNIX_EPOCH,
            host: "host".into(),
            user: "user".into(),
            label: None,
        },
    });
    InitOptions {
        encryption,
        ..InitOptions::default()
    }
}

/// Bytes that do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut noise);
    noise
}

fn chunks(written: &Written) -> Vec<ChunkPlace> {
    let frames: Vec<Vec<Vec<u8>>> = (0..CHUNKS)
        .map(|number| vec![text(number as u64 + 1, CHUNK_BYTES)])
        .collect();
    written.pack(SealedKind::Data, &frames)
}

fn fetcher(written: &Written, memory_bytes: u64) -> Arc<Fetcher> {
    let repository = Repository::open(written.memory.clone()).unwrap();
    Fetcher::new(repository, memory_bytes)
}

/// A tree of one file, the image, and its node.
fn image(memory_bytes: u64) -> (Tree, NodeId) {
    let written = Written::new();
    let extents: Vec<Extent> = chunks(&written).into_iter().map(Extent::Chunk).collect();
    let mut run = RunWriter::create(&written.repository, false).unwrap();
    let root = Key::root();
    let key = root.child(b"image").unwrap();
    let size = (CHUNKS * CHUNK_BYTES) as u64;
    for (key, file_type, size, content) in [
        (&root, FileType::Directory, 0, Content::Nothing),
        (&key, FileType::Regular, size, Content::Extents(extents)),
    ] {
        let record = Record::Entry(Box::new(entry(file_type, size, content)));
        run.append(key, file_type.section(), &record).unwrap();
    }
    let point = written.commit(vec![run.finish().unwrap()], "host");
    let options = TreeOptions {
        point: Some(point),
        ..TreeOptions::default()
    };
    let numbers = Numbers::in_memory().unwrap();
    let tree = Tree::open(fetcher(&written, memory_bytes), numbers, options).unwrap();
    let node = tree.lookup(NodeId::ROOT, b"image").unwrap().unwrap().node;
    (tree, node)
}

/// A chunk that is not in memory: fetched, opened and checked against its id. It is text, or does not compress.
#[divan::bench(args = SEALS)]
fn chunk_open(bencher: Bencher, seal: &str) {
    let written = Written::with(&options(seal));
    let frames: Vec<Vec<Vec<u8>>> = (1..=CHUNKS as u64)
        .map(|number| match seal.contains("noise") {
            true => vec![noise(number, CHUNK_BYTES)],
            false => vec![text(number, CHUNK_BYTES)],
        })
        .collect();
    let places = written.pack(SealedKind::Data, &frames);
    let fetcher = Fetcher::new(Arc::clone(&written.repository), SMALL_CACHE_BYTES);
    let mut next = places.iter().cycle();
    bencher
        .counter(BytesCount::new(CHUNK_BYTES))
        .bench_local(|| fetcher.chunk(next.next().unwrap()).unwrap());
}

/// A chunk that is in memory, and was checked.
#[divan::bench]
fn chunk_open_again(bencher: Bencher) {
    let written = Written::new();
    let places = chunks(&written);
    let fetcher = fetcher(&written, LARGE_CACHE_BYTES);
    for place in &places {
        fetcher.chunk(place).unwrap();
    }
    let mut next = places.iter().cycle();
    bencher.bench_local(|| fetcher.chunk(next.next().unwrap()).unwrap());
}

/// A scan, in reads of one chunk and in the kernel's largest.
#[divan::bench(args = [128 << 10, 1 << 20])]
fn read_at_in_order(bencher: Bencher, bytes: u32) {
    let (tree, node) = image(SMALL_CACHE_BYTES);
    let reads = (CHUNKS * CHUNK_BYTES) as u64 / u64::from(bytes);
    let mut next = (0..reads).map(|read| read * u64::from(bytes)).cycle();
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| tree.read(node, next.next().unwrap(), bytes).unwrap());
}

/// A read of one page in another chunk each time: all in memory, or hardly any.
#[divan::bench(args = [SMALL_CACHE_BYTES, LARGE_CACHE_BYTES])]
fn read_at_all_over(bencher: Bencher, memory_bytes: u64) {
    let (tree, node) = image(memory_bytes);
    let mut next = (0..CHUNKS as u64)
        .map(|chunk| chunk * 37 % CHUNKS as u64 * CHUNK_BYTES as u64)
        .cycle();
    for offset in next.by_ref().take(CHUNKS) {
        tree.read(node, offset, 1).unwrap();
    }
    bencher.bench_local(|| tree.read(node, next.next().unwrap(), 4096).unwrap());
}
