//! Golden files: every object of the format as it was written once, checked in, read by today's code and compared.
//!
//! The bytes in `tests/golden` change only with the format itself, and then on purpose:
//! `BYGONE_GOLDEN=write cargo test --test golden` writes them anew, for the same commit that changes `src/format` and
//! the format page. An encoder whose output does not hang on a library's version must still write the same bytes.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use bygone::base::limits;
use bygone::base::{
    ByteReader, ByteWriter, ChunkId, IndexId, Key, LeaseId, NAME_BYTES_MAX, Origin, PackId,
    PointId, RepositoryId, Row, RunId, Timestamp,
};
use bygone::format::run::{
    Block, BlockAt, BlockWriter, Counts, FILTER_PART_KEYS, FilterPart, INLINE_PIECE_BYTES_MAX,
    IndexPart, OriginKey, Owners, PieceAt, RunFooter, SequenceAt, block_of_key, block_of_row,
    build_filter, decode_origin_row, decode_run_trailer, decode_warning, encode_block_at,
    encode_origin_row, encode_run_trailer, encode_warning, filter_contains, filter_hash,
};
use bygone::format::{
    ChunkPlace, Chunking, Config, Content, EXTENT_LIST_SPAN, Entry, EntryFlags, Extent, ExtentList,
    FOOTER_IN_POINT_BYTES_MAX, FORMAT_VERSION, Features, Figures, FileType, FrameChunk, Hint,
    INLINE_BYTES_MAX, IndexEncoder, IndexFooter, IndexRow, IndexSection, LeaseKind, LeaseRecord,
    Metadata, Moment, PACKS_PER_PAGE, PackDirectory, PathMapping, Point, PointKind, ROWS_PER_PAGE,
    Record, RollUp, RollUpId, RunReference, SealMethod, Tables, TablesWriter, Xattr,
    decode_extents, decode_packs, decode_record, decode_rows, encode_extents, encode_record,
    prefix_of,
};
use bygone::seal::{Compression, MasterKey, SEAL_OVERHEAD_BYTES, Seal, SealedKind, system_salt};

/// Whether today's encoder must write the very bytes that are checked in.
#[derive(Clone, Copy, PartialEq)]
enum Encoder {
    /// It must.
    Exact,
    /// zstd or the filter's library may write others in a later version.
    Free,
}

/// Reads a golden file, after writing it if the environment asks for that, and compares the encoder with it.
fn golden(name: &str, encoder: Encoder, made: Vec<u8>) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("BYGONE_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if encoder == Encoder::Exact {
        assert_eq!(
            made, kept,
            "{name}: the encoder writes other bytes than it did"
        );
    }
    kept
}

fn repository() -> RepositoryId {
    "000102030405060708090a0b0c0d0e0f".parse().unwrap()
}

fn seal() -> Seal {
    Seal::unencrypted(&repository())
}

fn point_id(text: &str) -> PointId {
    text.parse().unwrap()
}

fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds,
    }
}

fn instant(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

#[test]
fn the_config_reads_as_it_was_written() {
    let config = Config::new(
        repository(),
        SealMethod::Unencrypted,
        Chunking::default(),
        Compression::Level(3),
        instant("2026-11-24T20:00:00Z"),
    );
    let bytes = golden("config", Encoder::Exact, config.encode().unwrap());
    assert_eq!(Config::decode(&bytes).unwrap(), config);
}

fn point() -> Point {
    let ids = [
        "2026-11-23T03-17-19Z-1f3a9c2e",
        "2026-11-22T03-17-04Z-00c0ffee",
        "2026-11-21T03-17-11Z-ffffffff",
    ]
    .map(point_id);
    let run = |byte: u8, footer| RunReference {
        id: RunId([byte; 16]),
        length: 1_234_567,
        footer_length: 300,
        origins: vec![RunId([9; 16])],
        footer,
    };
    let moment = |text, offset_seconds| Moment {
        time: instant(text),
        offset_seconds,
    };
    Point {
        id: ids[0],
        features: Features {
            compatible: vec!["sample".into()],
            ..Features::default()
        },
        kind: PointKind::Incremental,
        parent: Some(ids[1]),
        base: ids[2],
        lineage: ids.to_vec(),
        sequence: 41,
        runs: vec![run(1, Some(vec![0xab; 300])), run(2, None)],
        host: "moon".into(),
        set: "home".into(),
        user: "selene".into(),
        sources: vec!["/home".into(), path(b"/srv/\xff")],
        mapping: vec![PathMapping {
            live: "/snapshots/home".into(),
            recorded: "/home".into(),
        }],
        excludes: vec!["*.o".into()],
        labels: BTreeMap::from([("tape".into(), "7".into())]),
        start: moment("2026-11-23T03:17:01.123456789Z", 3600),
        end: moment("2026-11-23T03:17:19.5Z", 3600),
        partial: true,
        warnings: 2,
        figures: Figures {
            entries: 12,
            files: 10,
            directories: 2,
            bytes: 1 << 40,
            entries_recorded: 4,
            read_bytes: 5000,
            newly_uploaded_bytes: 4000,
            newly_uploaded_stored_bytes: 3000,
            reuploaded_bytes: 2000,
            reuploaded_stored_bytes: 1000,
            stored_bytes: 3500,
            duration_seconds: 18.375,
        },
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    std::ffi::OsString::from_vec(bytes.to_vec()).into()
}

#[test]
fn a_point_reads_as_it_was_written() {
    let point = point();
    let bytes = golden("point", Encoder::Free, point.encode(&seal()).unwrap());
    assert_eq!(Point::decode(&seal(), point.id, &bytes).unwrap(), point);
}

#[test]
fn a_roll_up_reads_as_it_was_written() {
    let newer = point();
    let mut older = point();
    older.id = newer.lineage[1];
    older.lineage.remove(0);
    older.parent = Some(older.base);
    older.runs.remove(0);
    let id = RollUpId {
        oldest: older.id,
        newest: newer.id,
        random: 0x0123_4567_89ab_cdef,
    };
    let roll_up = RollUp {
        supersedes: vec![RollUpId { random: 7, ..id }],
        points: vec![older.without_footers(), newer.without_footers()],
    };
    let made = roll_up.encode(&seal(), &id).unwrap();
    let bytes = golden("roll-up", Encoder::Free, made);
    assert_eq!(RollUp::decode(&seal(), &id, &bytes).unwrap(), roll_up);
}

#[test]
fn sealed_pieces_open_as_they_were_sealed() {
    let plain = b"What is sealed today opens in ten years. ".repeat(3);
    for (name, compression, encoder) in [
        ("sealed-stored", Compression::Off, Encoder::Exact),
        ("sealed-zstd", Compression::Level(3), Encoder::Free),
    ] {
        let mut made = Vec::new();
        seal()
            .seal(SealedKind::Data, b"a place", &plain, compression, &mut made)
            .unwrap();
        let bytes = golden(name, encoder, made);
        let opened = seal().open(SealedKind::Data, b"a place", &bytes, 1 << 20);
        assert_eq!(opened.unwrap(), plain);
    }
}

#[test]
fn chunks_keep_their_ids_and_cuts() {
    let text = format!(
        "{}\n{:016x}\n",
        seal().chunk_id(b"a chunk"),
        seal().chunking_seed()
    );
    golden("keys", Encoder::Exact, text.into_bytes());
}

fn chunk(byte: u8, length: u32, frame_offset: u32) -> ChunkPlace {
    ChunkPlace {
        id: ChunkId([byte; 32]),
        length,
        hint: Hint {
            pack: PackId([byte & 1; 16]),
            frame_offset,
            frame_length: 70_000,
            offset_in_frame: u32::from(byte),
        },
    }
}

fn extents() -> Vec<Extent> {
    vec![
        Extent::Chunk(chunk(3, 131_072, 5)),
        Extent::Chunk(chunk(5, 100_000, 70_005)),
        Extent::Hole(1 << 40),
        Extent::Zeros(4096),
        Extent::Chunk(chunk(2, 1, 1 << 31)),
        Extent::Hole(1),
    ]
}

fn length_of(extents: &[Extent]) -> u64 {
    extents.iter().map(Extent::length).sum()
}

#[test]
fn an_extent_list_reads_as_it_was_written() {
    let extents = extents();
    let bytes = golden(
        "extent-list",
        Encoder::Exact,
        encode_extents(&extents).unwrap(),
    );
    assert_eq!(
        decode_extents(&bytes, length_of(&extents)).unwrap(),
        extents
    );
}

/// An entry with nothing remarkable about it.
fn entry(file_type: FileType) -> Entry {
    Entry {
        metadata: Metadata {
            file_type,
            mode: 0o755,
            uid: 1000,
            gid: 1000,
            mtime: time(1_763_000_000, 123_456_789),
            ctime: time(1_763_000_000, 123_456_789),
            btime: None,
            size: 0,
            blocks: 0,
            links: 1,
            rdev: 0,
            target: Vec::new(),
            xattrs: Vec::new(),
            chattr: 0,
            inode: 4711,
            device: 0,
        },
        origin: None,
        group: None,
        flags: EntryFlags::default(),
        content_hash: None,
        content: Content::Nothing,
        unknown: Vec::new(),
    }
}

fn file(content: Content, size: u64) -> Entry {
    let mut file = entry(FileType::Regular);
    file.content = content;
    file.metadata.size = size;
    file
}

/// The files of every kind of content, and one with all that an entry can have.
fn regular_files() -> Vec<(&'static str, Entry)> {
    let origin = |row| Origin {
        run: RunId([7; 16]),
        row: Row(row),
    };
    let list = |byte, span| ExtentList {
        chunk: chunk(byte, 20_000, 100),
        span,
    };
    let mut whole = file(
        Content::Extents(vec![Extent::Chunk(chunk(6, 5000, 9))]),
        5000,
    );
    whole.metadata.xattrs = ["system.posix_acl_access", "user.comment"]
        .map(|name| Xattr {
            name: name.into(),
            value: vec![0, 1, 2, 0xff],
        })
        .to_vec();
    whole.metadata.ctime = time(1_764_000_000, 5);
    whole.metadata.btime = Some(time(1_762_000_000, 999_999_999));
    whole.metadata.gid = 5;
    whole.metadata.blocks = 24;
    whole.metadata.links = 3;
    whole.metadata.chattr = 0x80010;
    whole.metadata.device = 2;
    whole.origin = Some(origin(3));
    whole.group = Some(origin(1 << 37));
    whole.flags = EntryFlags {
        changed_while_read: true,
        unsettled: true,
        carried: true,
        changed_below: false,
    };
    whole.content_hash = Some([0x5c; 32]);
    whole.unknown = b"of a later version".to_vec();
    let mut early = file(Content::Inline(b"text".to_vec()), 4);
    early.metadata.mtime = time(i64::MIN, 0);
    early.metadata.btime = Some(time(-1, 5));
    vec![
        ("empty", file(Content::Nothing, 0)),
        (
            "extents",
            file(Content::Extents(extents()), length_of(&extents())),
        ),
        ("inline, in a time far away", early),
        (
            "lists",
            file(
                Content::Lists(vec![list(1, EXTENT_LIST_SPAN), list(2, 77)]),
                EXTENT_LIST_SPAN + 77,
            ),
        ),
        ("one chunk, and everything else", whole),
    ]
}

/// A record of every kind.
fn records() -> BTreeMap<Vec<u8>, Record> {
    let mut entries = regular_files();
    let mut directory = entry(FileType::Directory);
    directory.metadata.size = 4096;
    directory.metadata.blocks = 8;
    directory.metadata.links = 7;
    directory.flags.changed_below = true;
    let mut symlink = entry(FileType::Symlink);
    symlink.metadata.target = b"../\xfe".to_vec();
    symlink.metadata.size = 4;
    let mut character = entry(FileType::CharacterDevice);
    character.metadata.rdev = 0x0501;
    let mut block = entry(FileType::BlockDevice);
    block.metadata.rdev = 0xf_ff00_0010;
    block.content = Content::Extents(vec![Extent::Chunk(chunk(4, 131_072, 0))]);
    entries.extend([
        ("directory", directory),
        ("symlink", symlink),
        ("character device", character),
        ("block device", block),
        ("fifo", entry(FileType::Fifo)),
        ("socket", entry(FileType::Socket)),
    ]);
    let tombstones = [("excluded", true), ("gone", false)]
        .map(|(name, excluded)| (name, Record::Tombstone { excluded }));
    entries
        .into_iter()
        .map(|(name, entry)| (name, Record::Entry(Box::new(entry))))
        .chain(tombstones)
        .map(|(name, record)| {
            let key = Key::root().child(name.as_bytes()).unwrap();
            (key.as_bytes().to_vec(), record)
        })
        .collect()
}

fn block_of(entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let mut writer = BlockWriter::new();
    for (key, body) in entries {
        writer.push(&key, &body).unwrap();
    }
    writer.finish_block(<[u8]>::to_vec)
}

/// All keys and bodies of a block.
fn entries_of(plain: Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = Block::open(plain.into()).unwrap().cursor();
    let mut entries = Vec::new();
    while cursor.advance().unwrap() {
        entries.push((cursor.key().to_vec(), cursor.body().to_vec()));
    }
    entries
}

#[test]
fn records_of_every_kind_and_their_tables_read_as_they_were_written() {
    let records = records();
    let mut tables = TablesWriter::new();
    let bodies: Vec<_> = records
        .iter()
        .map(|(key, record)| {
            let mut body = ByteWriter::new();
            encode_record(record, &mut tables, &mut body).unwrap();
            (key.clone(), body.into_bytes())
        })
        .collect();
    let mut table_bytes = ByteWriter::new();
    tables.encode(&mut table_bytes);

    let table_bytes = golden("tables", Encoder::Exact, table_bytes.into_bytes());
    let tables = Tables::decode(&mut ByteReader::new("the tables", &table_bytes)).unwrap();
    let block = golden("records", Encoder::Exact, block_of(bodies));
    let read: BTreeMap<_, _> = entries_of(block)
        .into_iter()
        .map(|(key, body)| {
            let mut reader = ByteReader::new("a record", &body);
            (key, decode_record(&mut reader, &tables).unwrap())
        })
        .collect();
    assert_eq!(read, records);
}

#[test]
fn a_block_with_shared_prefixes_and_restarts_reads_as_it_was_written() {
    let entries: Vec<_> = (0..50_u32)
        .map(|number| {
            let key = format!("usr\0share\0\0file {number:03}").into_bytes();
            (key, number.to_string().into_bytes())
        })
        .collect();
    let bytes = golden("block", Encoder::Exact, block_of(entries.clone()));
    assert_eq!(entries_of(bytes), entries);
}

#[test]
fn a_filter_still_knows_its_keys() {
    let hashes = || (0..200_u32).map(|number| filter_hash(&number.to_le_bytes()));
    let made = build_filter(&mut hashes().collect()).unwrap();
    let bytes = golden("filter", Encoder::Free, made);
    assert!(hashes().all(|hash| filter_contains(&bytes, hash).unwrap()));
    let others = (1000..2000_u32).map(|number| filter_hash(&number.to_le_bytes()));
    let wrong = others.filter(|hash| filter_contains(&bytes, *hash).unwrap());
    assert!(wrong.count() < 5);
}

#[test]
fn owners_read_as_they_were_written() {
    let owners = Owners {
        users: BTreeMap::from([(0, b"root".to_vec()), (1000, b"selene".to_vec())]),
        groups: BTreeMap::from([(4_294_967_294, b"nogroup".to_vec())]),
    };
    let bytes = golden("owners", Encoder::Exact, owners.encode());
    assert_eq!(Owners::decode(&bytes).unwrap(), owners);
}

#[test]
fn an_origin_map_reads_as_it_was_written() {
    let map: Vec<_> = (0..20_u64)
        .map(|row| {
            let run = (row / 10) as u32;
            let key = OriginKey {
                run,
                row: Row(row * 1000),
            };
            (key, Row(19 - row))
        })
        .collect();
    let made = block_of(map.iter().map(|(key, row)| {
        let mut body = ByteWriter::new();
        encode_origin_row(*row, &mut body);
        (key.to_bytes().to_vec(), body.into_bytes())
    }));
    let block = Block::open(golden("origins", Encoder::Exact, made).into()).unwrap();
    for (key, row) in map {
        let place = block.find(&key.to_bytes()).unwrap().unwrap();
        assert_eq!(decode_origin_row(block.body(&place), 20).unwrap(), row);
    }
}

#[test]
fn warnings_read_as_they_were_written() {
    let warnings = [
        (&b"home/\xff"[..], "cannot be read: Permission denied"),
        (b"home/log", "changed while it was read"),
    ];
    let made = block_of((0_u64..).zip(warnings).map(|(number, (path, message))| {
        let mut body = ByteWriter::new();
        encode_warning(path, message, &mut body);
        (number.to_be_bytes().to_vec(), body.into_bytes())
    }));
    let read = entries_of(golden("warnings", Encoder::Exact, made));
    let read: Vec<_> = read
        .iter()
        .map(|(_, body)| decode_warning(body).unwrap())
        .collect();
    let warnings = warnings.map(|(path, message)| (path.to_vec(), message.to_string()));
    assert_eq!(read, warnings);
}

fn index_part() -> IndexPart {
    IndexPart {
        first_key: b"\0a".to_vec(),
        first_row: Row(0),
        first_block: 0,
        offset: 70_000,
        at: PieceAt::Apart {
            offset: 200_000,
            length: 90,
        },
    }
}

#[test]
fn a_block_index_leads_where_it_did() {
    let part = index_part();
    let blocks = [
        ("\0a", 0_u64, 70_000),
        ("\0m", 900, 90_000),
        ("b\0\0c", 1700, 120_000),
    ];
    let blocks: Vec<_> = (0..)
        .zip(blocks)
        .map(|(number, (key, row, offset))| {
            let block = BlockAt {
                number,
                first_row: Row(row),
                offset,
                length: 15_000,
            };
            (key.as_bytes().to_vec(), block)
        })
        .collect();
    let made = block_of(blocks.iter().map(|(key, block)| {
        let mut body = ByteWriter::new();
        encode_block_at(&part, block, &mut body);
        (key.clone(), body.into_bytes())
    }));
    let bytes: bytes::Bytes = golden("block-index", Encoder::Exact, made).into();
    let index = Block::open(bytes).unwrap();
    for (key, block) in &blocks {
        let by_key = block_of_key(&part, &index, key, 200_000).unwrap();
        let by_row = block_of_row(&part, &index, Row(block.first_row.0 + 5), 200_000).unwrap();
        assert_eq!((by_key, by_row), (Some(*block), Some(*block)));
    }
}

#[test]
fn a_runs_footer_and_trailer_read_as_they_were_written() {
    let sequence = SequenceAt {
        rows: 2000,
        blocks: 3,
        offset: 70_000,
        length: 65_000,
        index: vec![index_part()],
    };
    let parts = |count: u8| {
        (0..count)
            .map(|number| FilterPart {
                first_key: vec![0, b'a' + number],
                at: PieceAt::Inline(vec![number; 5].into()),
            })
            .collect()
    };
    let empty = SequenceAt::default();
    let footer = RunFooter {
        counts: Counts {
            directories: 0,
            files: 2000,
            directory_tombstones: 0,
            file_tombstones: 10,
            linked: 3,
            with_xattrs: 300,
        },
        sequences: [empty.clone(), sequence, empty.clone(), empty],
        ids: PieceAt::Inline(vec![1; 16].into()),
        owners: PieceAt::empty(),
        filters: Some([parts(0), parts(2), parts(0), parts(1)]),
    };
    let end = 300_000;
    let bytes = golden("run-footer", Encoder::Exact, footer.encode());
    assert_eq!(RunFooter::decode(&bytes, end).unwrap(), footer);

    let trailer = golden(
        "run-trailer",
        Encoder::Exact,
        encode_run_trailer(999).to_vec(),
    );
    let trailer = trailer.try_into().unwrap();
    assert_eq!(decode_run_trailer(&trailer, 2000).unwrap(), (985, 999));
}

#[test]
fn a_lease_reads_as_it_was_written() {
    let lease = LeaseRecord {
        id: LeaseId([4; 16]),
        features: Features::default(),
        kind: LeaseKind::Backup,
        host: "moon".into(),
        process: 4711,
        parent: Some(point_id("2026-11-23T03-17-19Z-1f3a9c2e")),
        began: instant("2026-11-24T20:00:00Z"),
        refreshed: instant("2026-11-24T20:05:00.25Z"),
        replaces: Some(LeaseId([3; 16])),
    };
    let bytes = golden("lease", Encoder::Exact, lease.encode(&seal()).unwrap());
    assert_eq!(
        LeaseRecord::decode(&seal(), &lease.id, &bytes).unwrap(),
        lease
    );
}

#[test]
fn a_pack_reads_as_it_was_written() {
    let id = PackId([5; 16]);
    let contents: [(SealedKind, &[&[u8]]); 3] = [
        (SealedKind::Data, &[b"one small file", b"and its neighbour"]),
        (SealedKind::ExtentList, &[b"extents, so to speak"]),
        (SealedKind::Data, &[b"a chunk of a large file"]),
    ];
    let mut directory = PackDirectory::new();
    let mut made = Vec::new();
    for (kind, chunks) in contents {
        let plain = chunks.concat();
        let mut sealed = Vec::new();
        seal()
            .seal(kind, b"", &plain, Compression::Off, &mut sealed)
            .unwrap();
        let mut offset = 0;
        let frame_chunks: Vec<_> = chunks
            .iter()
            .map(|bytes| {
                let length = bytes.len() as u32;
                offset += length;
                FrameChunk {
                    id: seal().chunk_id(bytes),
                    offset: offset - length,
                    length,
                }
            })
            .collect();
        directory
            .add(kind, sealed.len(), plain.len() as u32, &frame_chunks)
            .unwrap();
        made.extend(sealed);
    }
    made.extend(directory.encode(&seal(), &id).unwrap());

    let bytes = golden("pack", Encoder::Free, made);
    let length = bytes.len() as u64;
    let tail = PackDirectory::encoded_length(&bytes, length).unwrap() as usize;
    let tail = &bytes[bytes.len() - tail..];
    let read = PackDirectory::decode(&seal(), &id, tail, length).unwrap();
    assert_eq!(read, directory);
    for (frame, (kind, chunks)) in read.frames().iter().zip(contents) {
        let sealed = &bytes[frame.offset as usize..][..frame.length as usize];
        let plain = seal().open(kind, b"", sealed, frame.plain_length as usize);
        assert_eq!(plain.unwrap(), chunks.concat());
    }
}

#[test]
fn an_index_run_reads_as_it_was_written() {
    let id = IndexId([6; 16]);
    // Two pages of rows and one of packs.
    let mut rows: Vec<_> = (0..150_u32)
        .map(|number| IndexRow {
            prefix: prefix_of(&seal().chunk_id(&number.to_le_bytes())),
            pack: number % 3,
            frame_offset: number * 1000,
            frame_length: 1000,
            offset_in_frame: number,
            length: 500 + number,
        })
        .collect();
    rows.sort();
    let packs = [1, 2, 3].map(|byte| PackId([byte; 16]));
    let superseded = [IndexId([7; 16]), IndexId([8; 16])];
    let seal = seal();
    let mut encoder = IndexEncoder::new(&seal, id);
    rows.iter().for_each(|row| encoder.push(*row).unwrap());
    let mut made = encoder.take();
    made.extend(encoder.finish(&packs, &superseded).unwrap());

    let bytes = golden("index", Encoder::Free, made);
    let length = bytes.len() as u64;
    let tail = IndexFooter::encoded_length(&bytes, length).unwrap() as usize;
    let footer = IndexFooter::decode(&seal, &id, &bytes[bytes.len() - tail..], length).unwrap();
    let counts = (footer.rows, footer.packs, &footer.superseded[..]);
    assert_eq!(counts, (150, 3, &superseded[..]));
    let page = |section, number| {
        let range = footer.page_range(&seal, section, number);
        &bytes[range.start as usize..range.end as usize]
    };
    let read: Vec<_> = (0..2)
        .flat_map(|number| {
            decode_rows(&seal, &id, number, page(IndexSection::Rows, number)).unwrap()
        })
        .collect();
    assert_eq!(read, rows);
    let read = decode_packs(&seal, &id, 0, page(IndexSection::Packs, 0)).unwrap();
    assert_eq!(read, packs);
}

/// The format page with its typesetting taken out of the way.
fn format_page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/bygone-format.5");
    let page = std::fs::read_to_string(path).unwrap();
    page.replace("\\-", "-")
}

#[test]
fn the_format_page_has_the_codes_numbers() {
    let page = format_page();
    let thousands = |number: usize| format!("{},{:03}", number / 1000, number % 1000);
    for words in [
        format!("format version {FORMAT_VERSION}"),
        format!("{ROWS_PER_PAGE} rows each"),
        format!("{PACKS_PER_PAGE} ids each"),
        format!("at most {INLINE_BYTES_MAX}: the file itself"),
        format!("plain bytes are at most {INLINE_PIECE_BYTES_MAX} stands"),
        format!("about {} keys", thousands(FILTER_PART_KEYS)),
        format!("more than {SEAL_OVERHEAD_BYTES} bytes longer"),
        format!(
            "is {} bytes longer",
            Seal::encrypted(
                &repository(),
                &MasterKey::from_bytes([0; 32]),
                false,
                system_salt
            )
            .stored_length(0)
        ),
        format!("0 means {} MiB", EXTENT_LIST_SPAN >> 20),
        format!("at most {} KiB: then", FOOTER_IN_POINT_BYTES_MAX >> 10),
        format!("1 to {NAME_BYTES_MAX} bytes"),
        thousands(limits::CHAIN_MAX),
        thousands(limits::EXTENTS_MAX),
        thousands(limits::XATTRS_MAX),
    ] {
        assert!(page.contains(&words), "the page does not say {words:?}");
    }
    let kinds = [
        SealedKind::Data,
        SealedKind::ExtentList,
        SealedKind::Point,
        SealedKind::Lease,
        SealedKind::KeyDescription,
        SealedKind::RunBlock,
        SealedKind::RunBlockIndex,
        SealedKind::RunFilter,
        SealedKind::RunTable,
        SealedKind::RunOrigins,
        SealedKind::RunWarnings,
        SealedKind::RunFooter,
        SealedKind::PackDirectory,
        SealedKind::Index,
        SealedKind::IndexFooter,
    ];
    for kind in kinds {
        let number = format!("{:2} ", kind as u8);
        assert!(page.contains(&number), "the page has no kind {number}");
    }
}
