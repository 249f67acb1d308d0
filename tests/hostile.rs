//! Repositories that someone with ill intent wrote, sealed as the format says: names that lead out of a folder,
//! chains that bite their tail, lies about lengths, bombs. All is refused, in bounded memory, and a check tells.
//!
//! An unencrypted repository is sealed against corruption only, so that whoever may write to its store can write all
//! this. It must cost them nothing but their own points.

#[expect(
    dead_code,
    reason = "it serves several test binaries, each of which uses a part"
)]
#[path = "support/sample.rs"]
mod sample;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bygone::base::{ByteWriter, ErrorKind, Key, PackId, PointId, Row, RunId, Silent};
use bygone::fetch::Fetcher;
use bygone::format::run::{
    BlockAt, BlockWriter, Counts, IndexPart, PieceAt, RunFooter, Sequence, SequenceAt,
    associated_data, encode_block_at, encode_run_trailer,
};
use bygone::format::{
    ChunkPlace, Content, Extent, FileType, Hint, Point, PointKind, Record, RunReference,
    TablesWriter, encode_record, pack_name, point_name, run_name,
};
use bygone::manifest::{Chain, Run};
use bygone::ops::check::{CheckOptions, CheckReport, Finding, check};
use bygone::repo::{Catalogue, InitOptions, Repository, commit};
use bygone::seal::{Compression, Seal, SealedKind};
use bygone::store::{Body, MemoryStore, Store};

use sample::{entry, file, id, point};

/// Counts what is allocated, so that a test can tell what a lie about a length costs.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The tests of this file one after the other: they count the memory of the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A repository in memory that a test writes into.
struct Victim {
    store: Arc<MemoryStore>,
    repository: Arc<Repository>,
    _alone: MutexGuard<'static, ()>,
}

impl Victim {
    fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store.clone(), &InitOptions::default()).unwrap();
        Self {
            store,
            repository,
            _alone: alone,
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.store.put_new(name, Body::Bytes(&[bytes])).unwrap();
    }

    /// Writes a header whatever it says, as `commit` would not.
    fn forge_point(&self, point: &Point) {
        let mut bytes = Vec::new();
        self.repository
            .seal()
            .seal(
                SealedKind::Point,
                point.id.to_string().as_bytes(),
                &serde_json::to_vec(point).unwrap(),
                Compression::Off,
                &mut bytes,
            )
            .unwrap();
        self.put(&point_name(&point.id), &bytes);
    }

    /// Writes a run with these keys and bodies in its directories and files, whatever they are.
    fn forge_run(
        &self,
        number: u8,
        directories: &[Raw],
        files: &[Raw],
        tables: &TablesWriter,
        edit: Edit,
    ) -> RunReference {
        let run = RunId([number; 16]);
        let seal = self.repository.seal();
        let mut object = Vec::new();
        let mut sequences: [SequenceAt; 4] = Default::default();
        for (sequence, records) in [
            (Sequence::Files, files),
            (Sequence::Directories, directories),
        ] {
            sequences[sequence as usize] =
                forge_sequence(seal, run, sequence, records, &mut object);
        }
        for sequence in [Sequence::Origins, Sequence::Warnings] {
            sequences[sequence as usize].offset = object.len() as u64;
        }
        let mut ids = ByteWriter::new();
        tables.encode(&mut ids);
        let mut footer = RunFooter {
            counts: Counts::default(),
            sequences,
            ids: PieceAt::Inline(bytes::Bytes::copy_from_slice(ids.as_bytes())),
            owners: PieceAt::empty(),
            filters: None,
        };
        edit(&mut footer);
        let mut sealed = Vec::new();
        seal.seal(
            SealedKind::RunFooter,
            &associated_data(&run, 0, 0),
            &footer.encode(),
            Compression::Off,
            &mut sealed,
        )
        .unwrap();
        object.extend_from_slice(&sealed);
        object.extend_from_slice(&encode_run_trailer(sealed.len() as u32));
        self.put(&run_name(&run), &object);
        RunReference {
            id: run,
            length: object.len() as u64,
            footer_length: sealed.len() as u32,
            origins: Vec::new(),
            footer: None,
        }
    }

    /// Commits a point on this run, and gives its chain.
    fn chain_on(&self, run: RunReference) -> bygone::base::Result<Chain> {
        let point = point(id(sample::FULL), None, vec![run]);
        commit(&self.repository, &point).unwrap();
        Chain::open(&self.fetcher(), &point)
    }

    fn fetcher(&self) -> Arc<Fetcher> {
        Fetcher::new(Arc::clone(&self.repository), 4 << 20)
    }

    fn check(&self) -> (CheckReport, Vec<Finding>) {
        let found = Mutex::new(Vec::new());
        let options = CheckOptions {
            read_data: true,
            points: None,
        };
        let take = |finding: &Finding| {
            found.lock().unwrap().push(finding.clone());
            Ok(())
        };
        let report = check(&self.repository, &options, &take, &Silent).unwrap();
        (report, found.into_inner().unwrap())
    }
}

/// A record as it stands in a block: key and body.
type Raw = (Vec<u8>, Vec<u8>);

/// Makes a footer lie.
type Edit = fn(&mut RunFooter);

fn honest(_: &mut RunFooter) {}

fn forge_sequence(
    seal: &Seal,
    run: RunId,
    sequence: Sequence,
    records: &[Raw],
    object: &mut Vec<u8>,
) -> SequenceAt {
    let offset = object.len() as u64;
    let Some((first_key, _)) = records.first() else {
        return SequenceAt {
            offset,
            ..SequenceAt::default()
        };
    };
    let mut block = BlockWriter::new();
    for (key, body) in records {
        block.push(key, body).unwrap();
    }
    let associated = associated_data(&run, sequence as u8, 0);
    block.finish_block(|plain| {
        seal.seal(
            sequence.block_kind(),
            &associated,
            plain,
            Compression::Off,
            object,
        )
        .unwrap();
    });
    let mut part = IndexPart {
        first_key: first_key.clone(),
        first_row: Row(0),
        first_block: 0,
        offset,
        at: PieceAt::empty(),
    };
    let at = BlockAt {
        number: 0,
        first_row: Row(0),
        offset,
        length: (object.len() as u64 - offset) as u32,
    };
    let mut body = ByteWriter::new();
    encode_block_at(&part, &at, &mut body);
    let mut index = BlockWriter::new();
    index.push(first_key, body.as_bytes()).unwrap();
    part.at = index.finish_block(|plain| PieceAt::Inline(bytes::Bytes::copy_from_slice(plain)));
    SequenceAt {
        rows: records.len() as u64,
        blocks: 1,
        offset,
        length: object.len() as u64 - offset,
        index: vec![part],
    }
}

fn body(record: &Record, tables: &mut TablesWriter) -> Vec<u8> {
    let mut writer = ByteWriter::new();
    encode_record(record, tables, &mut writer).unwrap();
    writer.into_bytes()
}

fn directory(tables: &mut TablesWriter) -> Vec<u8> {
    let entry = entry(FileType::Directory, 4096, Content::Nothing);
    body(&Record::Entry(Box::new(entry)), tables)
}

fn tiny(tables: &mut TablesWriter) -> Vec<u8> {
    let entry = file(b"tiny", Content::Inline(b"tiny".to_vec()));
    body(&Record::Entry(Box::new(entry)), tables)
}

/// The most memory that `work` had at one time, beyond what was there before.
fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

/// What a person's machine always has to spare.
const MODEST_BYTES: usize = 80 << 20;

#[test]
fn names_that_lead_elsewhere_are_refused_and_never_listed() {
    for hostile in [
        &b"\0.."[..],
        b"\0.",
        b"\0",
        b"\0a/b",
        b"\0/etc",
        b"a\0\0..",
        b"..\0\0passwd",
        b"a\0..\0\0x",
        b"\0\0a",
        b"a\0\0",
        b"bare",
    ] {
        let victim = Victim::new();
        let mut tables = TablesWriter::new();
        let directories = vec![(Vec::new(), directory(&mut tables))];
        let files = vec![(hostile.to_vec(), tiny(&mut tables))];
        let run = victim.forge_run(1, &directories, &files, &tables, honest);
        let chain = victim.chain_on(run).unwrap();
        for found in chain.entries(&Key::root()).flatten() {
            assert!(
                found.key.is_root(),
                "{:?} is listed",
                hostile.escape_ascii().to_string()
            );
        }
        let (report, findings) = victim.check();
        assert!(
            report.objects_damaged > 0,
            "{:?}: {findings:?}",
            hostile.escape_ascii().to_string()
        );
    }
}

#[test]
fn a_directory_of_an_impossible_name_is_refused_too() {
    for hostile in [&b"\0.."[..], b"\0a/b", b"a\0\0.."] {
        let victim = Victim::new();
        let mut tables = TablesWriter::new();
        let directories = vec![
            (Vec::new(), directory(&mut tables)),
            (hostile.to_vec(), directory(&mut tables)),
        ];
        let run = victim.forge_run(1, &directories, &[], &tables, honest);
        let chain = victim.chain_on(run).unwrap();
        let listed: Vec<_> = chain.entries(&Key::root()).filter_map(Result::ok).collect();
        assert!(listed.iter().all(|found| found.key.is_root()));
        assert!(victim.check().0.objects_damaged > 0);
    }
}

#[test]
fn a_name_beyond_any_length_is_refused() {
    let victim = Victim::new();
    let mut tables = TablesWriter::new();
    let directories = vec![(Vec::new(), directory(&mut tables))];
    let long = [b"\0", &vec![b'x'; 5000][..]].concat();
    let files = vec![
        (b"\0a".to_vec(), tiny(&mut tables)),
        (long, tiny(&mut tables)),
    ];
    let run = victim.forge_run(1, &directories, &files, &tables, honest);
    let chain = victim.chain_on(run).unwrap();
    assert!(chain.entries(&Key::root()).any(|found| found.is_err()));
    assert!(victim.check().0.objects_damaged > 0);
}

#[test]
fn chains_that_bite_their_tail_end() {
    let victim = Victim::new();
    let mut tables = TablesWriter::new();
    let directories = vec![(Vec::new(), directory(&mut tables))];
    let run = victim.forge_run(1, &directories, &[], &tables, honest);
    let (a, b) = (id(sample::FULL), id(sample::INCREMENTAL));
    let looped = |own: PointId, other: PointId| Point {
        kind: PointKind::Incremental,
        ..point(own, Some(other), vec![run.clone()])
    };
    victim.forge_point(&looped(a, b));
    victim.forge_point(&looped(b, a));
    let (report, findings) = victim.check();
    assert!(report.objects_damaged >= 2, "{findings:?}");
}

#[test]
fn a_chain_with_a_cycle_or_too_many_points_is_a_damaged_header() {
    let far = |number: u32| PointId {
        seconds: 1_000_000 + i64::from(number),
        random: number,
    };
    let edits: [&dyn Fn(&mut Point); 3] = [
        &|point| point.lineage = vec![point.id, id(sample::INCREMENTAL), point.id, point.base],
        &|point| {
            point
                .lineage
                .splice(1..1, (1..10_000).map(far))
                .for_each(drop)
        },
        &|point| point.base = far(7),
    ];
    for edit in edits {
        let victim = Victim::new();
        let mut tables = TablesWriter::new();
        let directories = vec![(Vec::new(), directory(&mut tables))];
        let run = victim.forge_run(1, &directories, &[], &tables, honest);
        let mut forged = point(
            id("2026-11-24T00-00-00Z-00000001"),
            Some(id(sample::FULL)),
            vec![run],
        );
        edit(&mut forged);
        victim.forge_point(&forged);
        let catalogue = Catalogue::load(&victim.repository).unwrap();
        assert_eq!(catalogue.damaged().count(), 1);
        let (report, _) = victim.check();
        assert!(report.objects_damaged == 1 && report.parts_lost == 1);
    }
}

#[test]
fn a_run_reference_that_lies_about_lengths_is_refused() {
    let lies: [fn(&mut RunReference); 5] = [
        |run| run.length += 1,
        |run| run.length = u64::MAX,
        |run| run.footer_length = run.length as u32 - 16,
        |run| run.footer_length = 0,
        |run| run.footer = Some(vec![0; 100]),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let victim = Victim::new();
        let mut tables = TablesWriter::new();
        let directories = vec![(Vec::new(), directory(&mut tables))];
        let mut run = victim.forge_run(1, &directories, &[], &tables, honest);
        lie(&mut run);
        let point = point(id(sample::FULL), None, vec![run.clone()]);
        victim.forge_point(&point);
        let (opened, peak) = peak_bytes(|| Run::open(&victim.fetcher(), &run));
        assert!(opened.is_err(), "lie {number}");
        assert!(peak < MODEST_BYTES, "lie {number} costs {peak} bytes");
        let ((report, findings), peak) = peak_bytes(|| victim.check());
        assert!(report.objects_damaged > 0, "lie {number}: {findings:?}");
        assert!(
            peak < MODEST_BYTES,
            "lie {number} costs a check {peak} bytes"
        );
    }
}

#[test]
fn a_footer_that_lies_about_its_pieces_is_refused_in_bounded_memory() {
    let lies: [Edit; 7] = [
        |footer| footer.sequences[0].rows = u64::MAX,
        |footer| footer.sequences[0].blocks = u64::MAX,
        |footer| footer.sequences[0].length = u64::MAX,
        |footer| footer.sequences[0].offset = 1 << 40,
        |footer| {
            footer.ids = PieceAt::Apart {
                offset: 0,
                length: u32::MAX,
            };
        },
        |footer| footer.sequences[0].index[0].first_row = Row(5),
        |footer| footer.sequences[0].rows = 1000,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let victim = Victim::new();
        let mut tables = TablesWriter::new();
        let directories = vec![(Vec::new(), directory(&mut tables))];
        let run = victim.forge_run(1, &directories, &[], &tables, lie);
        let point = point(id(sample::FULL), None, vec![run]);
        victim.forge_point(&point);
        let ((report, findings), peak) = peak_bytes(|| victim.check());
        assert!(!report.is_clean(), "lie {number}: {findings:?}");
        assert!(
            peak < MODEST_BYTES,
            "lie {number} costs a check {peak} bytes"
        );
        let (_, peak) = peak_bytes(|| {
            let chain = Chain::open(&victim.fetcher(), &point)?;
            chain
                .entries(&Key::root())
                .try_for_each(|found| found.map(drop))
        });
        assert!(
            peak < MODEST_BYTES,
            "lie {number} costs a reader {peak} bytes"
        );
    }
}

/// Writes a pack of these sealed bytes, without a directory: readers go by the hint.
fn put_pack(victim: &Victim, bytes: &[u8]) -> PackId {
    let pack = PackId([9; 16]);
    victim.put(&pack_name(&pack), bytes);
    pack
}

#[test]
fn hints_that_lie_are_refused_in_bounded_memory() {
    let victim = Victim::new();
    let chunk = sample::noise(1, 1000);
    let seal = victim.repository.seal();
    let mut sealed = Vec::new();
    seal.seal(SealedKind::Data, &[], &chunk, Compression::Off, &mut sealed)
        .unwrap();
    let pack = put_pack(&victim, &sealed);
    let honest = ChunkPlace {
        id: seal.chunk_id(&chunk),
        length: 1000,
        hint: Hint {
            pack,
            frame_offset: 0,
            frame_length: sealed.len() as u32,
            offset_in_frame: 0,
        },
    };
    assert_eq!(&victim.fetcher().chunk(&honest).unwrap()[..], &chunk[..]);
    let lies: [fn(&mut ChunkPlace); 9] = [
        |place| place.length = 999,
        |place| place.length = u32::MAX,
        |place| place.hint.frame_offset = 1,
        |place| place.hint.frame_offset = u32::MAX,
        |place| place.hint.frame_length = u32::MAX,
        |place| place.hint.frame_length = 0,
        |place| place.hint.offset_in_frame = 1,
        |place| place.hint.offset_in_frame = u32::MAX,
        |place| place.id.0[0] ^= 1,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut place = honest;
        lie(&mut place);
        let (read, peak) = peak_bytes(|| victim.fetcher().chunk(&place));
        assert!(read.is_err(), "lie {number} is believed");
        assert!(peak < MODEST_BYTES, "lie {number} costs {peak} bytes");
    }
}

/// Seals a body as the format's page says, whatever plain length the header claims.
fn forge_sealed(victim: &Victim, kind: SealedKind, plain_length: u32, body: &[u8]) -> Vec<u8> {
    const CODING_ZSTD: u8 = 1;
    let context = "bygone 2026-11-24 unencrypted repository: tags of sealed pieces";
    let key = blake3::derive_key(context, &victim.repository.id().0);
    let mut sealed = vec![kind as u8, 1, 0, CODING_ZSTD];
    sealed.extend_from_slice(&plain_length.to_le_bytes());
    sealed.extend_from_slice(body);
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(&0_u64.to_le_bytes());
    hasher.update(&sealed);
    let mut tag = [0; 16];
    hasher.finalize_xof().fill(&mut tag);
    sealed.extend_from_slice(&tag);
    sealed
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let victim = Victim::new();
    let giant = zstd::bulk::compress(&vec![0; 256 << 20], 19).unwrap();
    let honest = zstd::bulk::compress(&[7; 1000], 3).unwrap();
    let proof = forge_sealed(&victim, SealedKind::Data, 1000, &honest);
    let seal = victim.repository.seal();
    assert_eq!(
        seal.open(SealedKind::Data, &[], &proof, 1000).unwrap(),
        [7; 1000],
        "the forgery is good"
    );
    for (plain_length, body) in [
        (1000, &giant),
        (16 << 20, &giant),
        (u32::MAX, &giant),
        (256 << 20, &giant),
        (u32::MAX, &honest),
        (999, &honest),
        (1001, &honest),
    ] {
        let sealed = forge_sealed(&victim, SealedKind::Data, plain_length, body);
        let pack = PackId([plain_length as u8; 16]);
        let name = pack_name(&pack);
        victim.store.damage(&name, &sealed);
        let place = ChunkPlace {
            id: seal.chunk_id(&[7; 1000]),
            length: 1000,
            hint: Hint {
                pack,
                frame_offset: 0,
                frame_length: sealed.len() as u32,
                offset_in_frame: 0,
            },
        };
        let (read, peak) = peak_bytes(|| victim.fetcher().chunk(&place));
        assert!(read.is_err(), "{plain_length} bytes are believed");
        assert!(peak < MODEST_BYTES, "{plain_length} bytes cost {peak}");
    }
}

#[test]
fn a_bomb_in_a_point_costs_that_point() {
    let victim = Victim::new();
    let giant = zstd::bulk::compress(&vec![b' '; 512 << 20], 3).unwrap();
    let name = point_name(&id(sample::FULL));
    victim.put(
        &name,
        &forge_sealed(&victim, SealedKind::Point, u32::MAX, &giant),
    );
    let (catalogue, peak) = peak_bytes(|| Catalogue::load(&victim.repository).unwrap());
    assert_eq!(catalogue.damaged().count(), 1);
    assert!(peak < MODEST_BYTES, "it costs {peak} bytes");
}

#[test]
fn an_entry_with_extents_that_lead_nowhere_is_lost_and_told() {
    let victim = Victim::new();
    let mut tables = TablesWriter::new();
    let nowhere = ChunkPlace {
        id: victim.repository.seal().chunk_id(b"x"),
        length: 1 << 20,
        hint: Hint {
            pack: PackId([3; 16]),
            frame_offset: u32::MAX - 2_000_000,
            frame_length: 2_000_000,
            offset_in_frame: 0,
        },
    };
    let mut lost = file(&[], Content::Extents(vec![Extent::Chunk(nowhere)]));
    lost.metadata.size = 1 << 20;
    let directories = vec![(Vec::new(), directory(&mut tables))];
    let files = vec![
        (b"\0good".to_vec(), tiny(&mut tables)),
        (
            b"\0lost".to_vec(),
            body(&Record::Entry(Box::new(lost)), &mut tables),
        ),
    ];
    let run = victim.forge_run(1, &directories, &files, &tables, |footer| {
        footer.counts.directories = 1;
        footer.counts.files = 2;
    });
    let point = point(id(sample::FULL), None, vec![run]);
    commit(&victim.repository, &point).unwrap();
    let (report, findings) = victim.check();
    assert_eq!(
        (
            report.objects_missing,
            report.paths_lost,
            report.objects_damaged
        ),
        (1, 1, 0),
        "{findings:?}"
    );
    let read = victim.fetcher().chunk(&nowhere);
    assert_eq!(
        read.err().map(|error| error.kind()),
        Some(ErrorKind::Missing)
    );
}

#[test]
fn headers_of_endless_depth_are_refused() {
    let victim = Victim::new();
    let deep = [b"{\"id\":".repeat(1000), b"[".repeat(1 << 20)].concat();
    let mut sealed = Vec::new();
    let name = sample::FULL;
    let seal = victim.repository.seal();
    seal.seal(
        SealedKind::Point,
        name.as_bytes(),
        &deep,
        Compression::Level(3),
        &mut sealed,
    )
    .unwrap();
    victim.put(&format!("points/{name}"), &sealed);
    let catalogue = Catalogue::load(&victim.repository).unwrap();
    assert_eq!(catalogue.damaged().count(), 1);
}
