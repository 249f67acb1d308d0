//! The fetcher over a store that records its requests.

use super::*;
use crate::base::{ErrorKind, PackId};
use crate::format::{Hint, pack_name, run_name};
use crate::repo::{FrameChunk, InitOptions, PackWriter};
use crate::seal::Compression;
use crate::store::{Body, MemoryStore, Recording, Store};

struct Bench {
    memory: Arc<MemoryStore>,
    store: Arc<Recording>,
    fetcher: Arc<Fetcher>,
}

impl Bench {
    fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        let store = Arc::new(Recording::new(memory.clone()));
        let repository = Repository::init(store.clone(), &InitOptions::default()).unwrap();
        store.take();
        Self {
            memory,
            store,
            fetcher: Fetcher::new(repository, 1 << 20),
        }
    }

    /// Seals pieces one after the other, with so many bytes between; returns the object and each one's range.
    fn sealed(
        &self,
        kind: SealedKind,
        plains: &[Vec<u8>],
        gap: usize,
    ) -> (Vec<u8>, Vec<(usize, usize)>) {
        let mut object = Vec::new();
        let mut ranges = Vec::new();
        for plain in plains {
            let start = object.len();
            self.fetcher
                .repository()
                .seal()
                .seal(kind, b"", plain, Compression::Off, &mut object)
                .unwrap();
            ranges.push((start, object.len() - start));
            object.resize(object.len() + gap, 0);
        }
        (object, ranges)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.memory.put_new(name, Body::Bytes(&[bytes])).unwrap();
    }

    /// A pack of frames of one chunk each, with so many bytes between.
    fn pack(&self, id: u8, plains: &[Vec<u8>], gap: usize) -> Vec<ChunkPlace> {
        let pack = PackId([id; 16]);
        let (object, ranges) = self.sealed(SealedKind::Data, plains, gap);
        self.put(&pack_name(&pack), &object);
        let place = |(plain, (start, length)): (&Vec<u8>, (usize, usize))| ChunkPlace {
            id: self.fetcher.repository().seal().chunk_id(plain),
            length: plain.len() as u32,
            hint: Hint {
                pack,
                frame_offset: start as u32,
                frame_length: length as u32,
                offset_in_frame: 0,
            },
        };
        plains.iter().zip(ranges).map(place).collect()
    }

    /// Whole chunks, put side by side into one room.
    fn read_whole(&self, places: &[ChunkPlace]) -> Result<Vec<Vec<u8>>> {
        let mut rooms: Vec<Vec<u8>> = places
            .iter()
            .map(|place| vec![0xa5; place.length as usize])
            .collect();
        let mut parts: Vec<ChunkPart<'_>> = places
            .iter()
            .zip(&mut rooms)
            .map(|(place, into)| ChunkPart {
                place: *place,
                range: 0..place.length as usize,
                into,
            })
            .collect();
        self.fetcher.read_parts(&mut parts)?;
        Ok(rooms)
    }

    fn requests(&self) -> usize {
        self.store.take().len()
    }
}

fn plains(count: u8, length: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| vec![number; length]).collect()
}

fn piece(run: RunId, (start, length): (usize, usize)) -> Piece<'static> {
    Piece {
        run,
        offset: start as u64,
        length: length as u32,
        kind: SealedKind::RunBlock,
        associated: b"",
    }
}

#[test]
fn a_piece_is_fetched_once_and_then_comes_from_memory() {
    let bench = Bench::new();
    let run = RunId([1; 16]);
    let (object, ranges) = bench.sealed(SealedKind::RunBlock, &plains(2, 1000), 0);
    bench.put(&run_name(&run), &object);
    for _ in 0..3 {
        let plain = bench.fetcher.piece(&piece(run, ranges[1])).unwrap();
        assert_eq!(*plain, [1; 1000]);
    }
    assert_eq!(bench.requests(), 1);
    let counters = bench.fetcher.counters();
    assert_eq!(
        (counters.hits, counters.misses, counters.requests),
        (2, 1, 1)
    );
    assert!(counters.cached_bytes >= 1000 && counters.fetched_bytes < 1100);
}

#[test]
fn neighbours_come_in_one_request_whatever_the_order_and_repeats() {
    let bench = Bench::new();
    let run = RunId([1; 16]);
    let (object, ranges) = bench.sealed(SealedKind::RunBlock, &plains(5, 1000), 100);
    bench.put(&run_name(&run), &object);
    let wanted: Vec<Piece<'_>> = [3, 1, 4, 1, 0]
        .map(|place| piece(run, ranges[place]))
        .to_vec();
    let found = bench.fetcher.pieces(&wanted).unwrap();
    let firsts: Vec<u8> = found.iter().map(|plain| plain[0]).collect();
    assert_eq!(firsts, [3, 1, 4, 1, 0]);
    assert_eq!(bench.requests(), 1);
}

#[test]
fn frames_far_apart_or_in_other_packs_are_asked_for_by_themselves() {
    let bench = Bench::new();
    let mut places = bench.pack(1, &plains(2, 1000), 100 << 10);
    places.extend(bench.pack(2, &[vec![9; 10]], 0));
    assert_eq!(bench.read_whole(&places).unwrap().len(), 3);
    assert_eq!(bench.requests(), 3);
}

#[test]
fn large_chunks_that_are_read_whole_cost_memory_nothing_and_push_nothing_out() {
    let bench = Bench::new();
    let hot = bench.pack(1, &plains(3, 100 << 10), 0);
    let scanned = bench.pack(2, &plains(60, 64 << 10), 0);
    for place in &hot {
        bench.fetcher.chunk(place).unwrap();
    }
    let cached = bench.fetcher.counters().cached_bytes;
    let all = bench.read_whole(&scanned).unwrap();
    assert_eq!(all, plains(60, 64 << 10));
    assert_eq!(bench.fetcher.counters().cached_bytes, cached);
    bench.requests();
    for place in &hot {
        bench.fetcher.chunk(place).unwrap();
    }
    assert_eq!(bench.requests(), 0);
}

#[test]
fn parts_of_chunks_come_side_by_side_from_memory_and_from_the_store() {
    let bench = Bench::new();
    let plains: Vec<Vec<u8>> = (0..4_u8)
        .map(|number| (0..70_000_u32).map(|byte| byte as u8 ^ number).collect())
        .collect();
    let places = bench.pack(1, &plains, 0);
    bench.fetcher.chunk(&places[1]).unwrap();
    bench.requests();
    let mut room = vec![0; 10 + 70_000 + 70_000 + 5];
    let (first, rest) = room.split_at_mut(10);
    let (second, rest) = rest.split_at_mut(70_000);
    let (third, fourth) = rest.split_at_mut(70_000);
    let part = |number: usize, range: std::ops::Range<usize>, into| ChunkPart {
        place: places[number],
        range,
        into,
    };
    bench
        .fetcher
        .read_parts(&mut [
            part(0, 69_990..70_000, first),
            part(1, 0..70_000, second),
            part(2, 0..70_000, third),
            part(3, 0..5, fourth),
        ])
        .unwrap();
    let expected = [
        &plains[0][69_990..],
        &plains[1],
        &plains[2],
        &plains[3][..5],
    ]
    .concat();
    assert!(room == expected);
    // What was in memory lies between the others: more than is worth fetching again.
    assert_eq!(bench.requests(), 2);
}

#[test]
fn a_large_chunk_that_is_read_whole_is_checked_and_read_from_elsewhere() {
    let bench = Bench::new();
    let plain = vec![7; 50_000];
    let (first, second) = (upload(&bench, &plain), upload(&bench, &plain));
    let name = pack_name(&first.hint.pack);
    let mut bytes = bench.memory.get(&name).unwrap();
    bytes[first.hint.frame_offset as usize + 1000] ^= 1;
    bench.memory.damage(&name, &bytes);
    assert_eq!(
        bench.read_whole(&[first]).unwrap(),
        std::slice::from_ref(&plain)
    );
    let lie = ChunkPlace {
        id: bench.fetcher.repository().seal().chunk_id(b"another"),
        ..second
    };
    let error = bench.read_whole(&[lie]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error.to_string().contains(&second.hint.pack.to_string()),
        "{error}"
    );
}

#[test]
fn a_damaged_frame_costs_no_neighbour() {
    let bench = Bench::new();
    let places = bench.pack(1, &plains(3, 1000), 0);
    let name = pack_name(&places[0].hint.pack);
    let mut bytes = bench.memory.get(&name).unwrap();
    bytes[1500] ^= 1;
    bench.memory.damage(&name, &bytes);
    let error = bench.read_whole(&places).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let message = error.to_string();
    for part in [
        places[1].hint.pack.to_string(),
        places[1].id.to_string(),
        places[1].hint.frame_offset.to_string(),
    ] {
        assert!(message.contains(&part), "{message}");
    }
    bench.requests();
    assert!(bench.fetcher.chunk(&places[0]).is_ok() && bench.fetcher.chunk(&places[2]).is_ok());
    assert_eq!(bench.requests(), 0);
}

#[test]
fn a_hint_that_lies_about_its_frame_is_refused() {
    let bench = Bench::new();
    let good = bench.pack(1, &plains(2, 1000), 0)[0];
    for change in [
        |hint: &mut Hint| hint.frame_length = u32::MAX,
        |hint: &mut Hint| hint.frame_length = 0,
        |hint: &mut Hint| hint.frame_length += 1,
        |hint: &mut Hint| hint.frame_offset += 1,
        |hint: &mut Hint| hint.frame_offset = u32::MAX,
        |hint: &mut Hint| hint.offset_in_frame = 1,
    ] {
        let mut place = good;
        change(&mut place.hint);
        let error = bench.fetcher.chunk(&place).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    assert!(bench.fetcher.chunk(&good).is_ok());
}

#[test]
fn memory_stays_within_its_limit() {
    let bench = Bench::new();
    let places = bench.pack(1, &plains(60, 64 << 10), 0);
    for place in &places {
        bench.fetcher.chunk(place).unwrap();
        assert!(bench.fetcher.counters().cached_bytes <= 1 << 20);
    }
}

/// Uploads a chunk in a frame and a pack of its own, though the repository may have it.
fn upload(bench: &Bench, plain: &[u8]) -> ChunkPlace {
    let repository = bench.fetcher.repository();
    let mut sealed = Vec::new();
    let seal = repository.seal();
    seal.seal(SealedKind::Data, b"", plain, Compression::Off, &mut sealed)
        .unwrap();
    let chunk = FrameChunk {
        id: seal.chunk_id(plain),
        offset: 0,
        length: plain.len() as u32,
    };
    let writer = PackWriter::create(Arc::clone(repository), true).unwrap();
    let places = writer
        .add_frame(SealedKind::Data, &sealed, plain.len() as u32, &[chunk])
        .unwrap();
    writer.finish().unwrap();
    places[0]
}

#[test]
fn a_chunk_that_is_damaged_or_gone_is_read_from_where_else_it_is() {
    let bench = Bench::new();
    let plain = vec![7; 3000];
    let (first, second) = (upload(&bench, &plain), upload(&bench, &plain));
    assert_ne!(first.hint.pack, second.hint.pack);
    let name = pack_name(&first.hint.pack);
    let mut bytes = bench.memory.get(&name).unwrap();
    bytes[first.hint.frame_offset as usize + 100] ^= 1;
    bench.memory.damage(&name, &bytes);
    assert_eq!(*bench.fetcher.chunk(&first).unwrap(), plain[..]);
    assert_eq!(bench.read_whole(&[first, second]).unwrap()[0], plain[..]);
    bench.memory.lose(&name);
    assert_eq!(*bench.fetcher.chunk(&first).unwrap(), plain[..]);
    bench.memory.lose(&pack_name(&second.hint.pack));
    let fresh = Fetcher::new(Arc::clone(bench.fetcher.repository()), 1 << 20);
    assert_eq!(fresh.chunk(&first).unwrap_err().kind(), ErrorKind::Missing);
}

#[test]
fn a_location_that_came_after_the_index_was_opened_is_found_before_a_chunk_is_called_missing() {
    let bench = Bench::new();
    let plain = vec![7; 3000];
    let first = upload(&bench, &plain);
    bench.memory.lose(&pack_name(&first.hint.pack));
    assert!(bench.fetcher.chunk(&first).is_err());
    upload(&bench, &plain);
    assert_eq!(*bench.fetcher.chunk(&first).unwrap(), plain[..]);
}

#[test]
fn a_lie_in_the_index_is_no_content() {
    let bench = Bench::new();
    let (good, other) = (upload(&bench, &[1; 2000]), upload(&bench, &[2; 2000]));
    let lie = ChunkPlace {
        hint: other.hint,
        ..good
    };
    // The hint leads to another chunk's bytes; the index knows the right ones.
    assert_eq!(*bench.fetcher.chunk(&lie).unwrap(), [1; 2000]);
}

#[test]
fn threads_that_read_all_over_get_their_own_bytes() {
    let bench = Bench::new();
    // More than memory holds, so that frames come and go.
    let plains: Vec<Vec<u8>> = (0..40).map(|number| vec![number; 60 << 10]).collect();
    let places = bench.pack(1, &plains, 0);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (bench, places, plains) = (&bench, &places, &plains);
            scope.spawn(move || {
                for step in 0..300 {
                    let number = (step * 7 + thread * 3) % places.len();
                    let pair = [places[number], places[(number + 1) % places.len()]];
                    let chunks = bench.read_whole(&pair).unwrap();
                    assert_eq!(chunks[0], plains[number]);
                    assert_eq!(*bench.fetcher.chunk(&pair[1]).unwrap(), *chunks[1]);
                }
            });
        }
    });
    assert!(bench.fetcher.counters().cached_bytes <= 1 << 20);
}

#[test]
fn who_may_not_wait_is_told_so_at_once_and_has_what_is_in_memory() {
    let bench = Bench::new();
    let places = bench.pack(7, &plains(4, 1000), 0);
    let run = RunId([7; 16]);
    let (object, ranges) = bench.sealed(SealedKind::RunBlock, &plains(1, 1000), 0);
    bench.put(&run_name(&run), &object);
    let piece = piece(run, ranges[0]);
    let attempts = || {
        [
            bench.fetcher.chunk(&places[0]).map(drop),
            bench.read_whole(&places).map(drop),
            bench.fetcher.piece(&piece).map(drop),
            bench.fetcher.pieces(&[piece]).map(drop),
        ]
    };
    let nobody = WaitLimit::new(0, false);
    for result in nobody.within(attempts) {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldWait);
    }
    assert_eq!(bench.requests(), 0);
    assert!(attempts().iter().all(Result::is_ok));
    assert!(nobody.within(attempts).iter().all(Result::is_ok));
    assert_eq!(bench.requests(), 3);
    let one = WaitLimit::new(1, false);
    let more = bench.pack(8, &plains(4, 1000), 0);
    one.within(|| bench.read_whole(&more)).unwrap();
}
