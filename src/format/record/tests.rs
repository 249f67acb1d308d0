use proptest::prelude::*;

use super::*;
use crate::base::{ChunkId, ErrorKind, PackId, RunId, Timestamp};
use crate::format::entry::{ChunkPlace, EXTENT_LIST_SPAN, ExtentList, Hint};
use crate::format::extents::tests::{any_extent, any_place};
use crate::format::times::tests::any_time;

/// The usual file of a package: root's, its ctime and btime from when it was installed.
fn small_file() -> Entry {
    Entry {
        metadata: Metadata {
            file_type: FileType::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp {
                seconds: 1_760_000_000,
                nanoseconds: 0,
            },
            ctime: Timestamp {
                seconds: 1_790_000_000,
                nanoseconds: 123_456_789,
            },
            btime: Some(Timestamp {
                seconds: 1_790_000_000,
                nanoseconds: 119_456_789,
            }),
            size: 5432,
            blocks: 16,
            links: 1,
            rdev: 0,
            target: Vec::new(),
            xattrs: Vec::new(),
            chattr: 0x80000,
            inode: 1_234_567,
            device: 0,
        },
        origin: None,
        group: None,
        flags: EntryFlags::default(),
        content_hash: None,
        content: Content::Extents(vec![Extent::Chunk(ChunkPlace {
            id: ChunkId([0xa5; 32]),
            length: 5432,
            hint: Hint {
                pack: PackId([1; 16]),
                frame_offset: 20_000_000,
                frame_length: 300_000,
                offset_in_frame: 400_000,
            },
        })]),
        unknown: Vec::new(),
    }
}

/// An entry without content of another type.
fn of_type(file_type: FileType) -> Entry {
    let mut entry = small_file();
    entry.content = Content::Nothing;
    entry.metadata.file_type = file_type;
    entry.metadata.size = 0;
    if file_type == FileType::Symlink {
        entry.metadata.target = b"../elsewhere".to_vec();
    }
    entry
}

fn encode(record: &Record) -> Result<(Vec<u8>, Tables)> {
    let mut tables = TablesWriter::new();
    let mut writer = ByteWriter::new();
    encode_record(record, &mut tables, &mut writer)?;
    Ok((writer.into_bytes(), tables.to_tables()))
}

fn decode(bytes: &[u8], tables: &Tables) -> Result<Record> {
    decode_record(&mut ByteReader::new("an entry", bytes), tables)
}

fn assert_comes_back(entry: Entry) {
    let record = Record::Entry(Box::new(entry));
    let (bytes, tables) = encode(&record).unwrap();
    assert_eq!(decode(&bytes, &tables).unwrap(), record);
}

/// Writes what `encode_record` refuses, and reads it.
fn decode_forged(entry: &Entry) -> Result<Record> {
    let mut tables = TablesWriter::new();
    let mut writer = ByteWriter::new();
    write_entry(entry, &mut tables, &mut writer)?;
    decode(writer.as_bytes(), &tables.to_tables())
}

fn any_metadata(file_type: FileType) -> impl Strategy<Value = Metadata> {
    let numbers = (
        0..=0o7777_u32,
        any::<(u32, u32, u64, u64, u64)>(),
        any::<(u32, u32, u64)>(),
    );
    let times = (any_time(), any_time(), prop::option::of(any_time()));
    let xattrs = prop::collection::btree_map(
        prop::collection::vec(1..=255_u8, 1..20),
        prop::collection::vec(any::<u8>(), 0..50),
        0..4,
    );
    let target = prop::collection::vec(1..=255_u8, 1..50);
    (numbers, times, xattrs, target).prop_map(move |(numbers, times, xattrs, target)| {
        let (mode, (uid, gid, size, blocks, links), (chattr, device, inode)) = numbers;
        let (mtime, ctime, btime) = times;
        Metadata {
            file_type,
            mode,
            uid,
            gid,
            mtime,
            ctime,
            btime,
            size,
            blocks,
            links,
            rdev: if is_device(file_type) { inode } else { 0 },
            target: if file_type == FileType::Symlink {
                target
            } else {
                Vec::new()
            },
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| Xattr { name, value })
                .collect(),
            chattr,
            inode,
            device,
        }
    })
}

fn any_content() -> impl Strategy<Value = Content> {
    let list = (
        any_place(),
        prop_oneof![Just(EXTENT_LIST_SPAN), 1..1_u64 << 50],
    )
        .prop_map(|(chunk, span)| ExtentList { chunk, span });
    prop_oneof![
        Just(Content::Nothing),
        prop::collection::vec(any::<u8>(), 1..INLINE_BYTES_MAX).prop_map(Content::Inline),
        any_place().prop_map(|place| Content::Extents(vec![Extent::Chunk(place)])),
        prop::collection::vec(any_extent(), 2..9).prop_map(Content::Extents),
        prop::collection::vec(list, 1..9).prop_map(Content::Lists),
    ]
}

fn any_origin() -> impl Strategy<Value = Origin> {
    (any::<u64>(), 0..3_u8).prop_map(|(row, run)| Origin {
        run: RunId([run; 16]),
        row: Row(row),
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let file_type = prop::sample::select(vec![
        FileType::Regular,
        FileType::Directory,
        FileType::Symlink,
        FileType::Fifo,
        FileType::Socket,
        FileType::CharacterDevice,
        FileType::BlockDevice,
    ]);
    let rest = (
        prop::option::of(any_origin()),
        prop::option::of(any_origin()),
        0..16_u8,
        any::<Option<[u8; 32]>>(),
        any_content(),
        prop::collection::vec(any::<u8>(), 0..5),
    );
    (file_type.prop_flat_map(any_metadata), rest).prop_map(|(mut metadata, rest)| {
        let (origin, group, flags, content_hash, content, unknown) = rest;
        let content = match metadata.file_type {
            FileType::Regular | FileType::BlockDevice => content,
            _ => Content::Nothing,
        };
        if metadata.file_type == FileType::Regular {
            metadata.size = content_length(&content).unwrap();
        }
        Entry {
            metadata,
            origin,
            group,
            flags: flags_of(flags, &ByteReader::new("a test", &[])).unwrap(),
            content_hash,
            content,
            unknown,
        }
    })
}

proptest! {
    #[test]
    fn any_entry_comes_back(entry in any_entry()) {
        let record = Record::Entry(Box::new(entry));
        let (bytes, tables) = encode(&record).unwrap();
        prop_assert_eq!(decode(&bytes, &tables).unwrap(), record);
    }

    #[test]
    fn bytes_that_are_no_record_do_no_harm(bytes: Vec<u8>) {
        let (_, tables) = encode(&Record::Entry(Box::new(small_file()))).unwrap();
        let _ = decode(&bytes, &tables);
    }

    #[test]
    fn a_changed_byte_never_panics(entry in any_entry(), place: prop::sample::Index, byte: u8) {
        let (mut bytes, tables) = encode(&Record::Entry(Box::new(entry))).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let _ = decode(&bytes, &tables);
    }
}

#[test]
fn tombstones_come_back_in_one_byte() {
    for excluded in [false, true] {
        let record = Record::Tombstone { excluded };
        let (bytes, tables) = encode(&record).unwrap();
        assert_eq!(bytes.len(), 1);
        assert_eq!(decode(&bytes, &tables).unwrap(), record);
    }
    assert!(decode(&[2 << TYPE_BITS], &Tables::default()).is_err());
}

#[test]
fn a_small_file_takes_few_bytes_beside_its_chunks_id() {
    let length = |entry| encode(&Record::Entry(Box::new(entry))).unwrap().0.len();
    assert_eq!(length(small_file()), 38 + 32);
    // Written and left alone, on a file system that tells neither birth time nor flags.
    let mut plain = small_file();
    plain.metadata.ctime = plain.metadata.mtime;
    plain.metadata.btime = None;
    plain.metadata.chattr = 0;
    assert_eq!(length(plain), 24 + 32);
}

#[test]
fn what_is_usual_takes_no_bytes_and_what_is_not_comes_back() {
    let usual = small_file();
    let length = |entry: &Entry| {
        encode(&Record::Entry(Box::new(entry.clone())))
            .unwrap()
            .0
            .len()
    };
    let edits: [fn(&mut Metadata); 6] = [
        |metadata| metadata.gid = 5,
        |metadata| metadata.blocks = 0,
        |metadata| metadata.links = 2,
        |metadata| metadata.device = 1,
        |metadata| metadata.chattr = u32::MAX,
        |metadata| metadata.mtime.nanoseconds = 1,
    ];
    for edit in edits {
        let mut unusual = usual.clone();
        edit(&mut unusual.metadata);
        assert!(length(&unusual) > length(&usual));
        assert_comes_back(unusual);
    }
}

#[test]
fn tails_of_a_later_version_are_kept() {
    let mut entry = small_file();
    entry.unknown = b"from the future".to_vec();
    assert_comes_back(entry);
}

#[test]
fn a_body_cut_anywhere_is_refused() {
    let mut entry = small_file();
    entry.group = Some(Origin {
        run: RunId([1; 16]),
        row: Row(5),
    });
    let (bytes, tables) = encode(&Record::Entry(Box::new(entry))).unwrap();
    assert!(decode(&bytes, &tables).is_ok());
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length], &tables).is_err(), "{length} bytes");
    }
}

#[test]
fn entries_that_cannot_be_are_neither_written_nor_read() {
    let xattr = |name: &[u8], length: usize| Xattr {
        name: name.to_vec(),
        value: vec![0; length],
    };
    let edit = |file_type, edit: &dyn Fn(&mut Entry)| {
        let mut entry = match file_type {
            FileType::Regular => small_file(),
            other => of_type(other),
        };
        edit(&mut entry);
        entry
    };
    let regular = |change: &dyn Fn(&mut Entry)| edit(FileType::Regular, change);
    let symlink = |change: &dyn Fn(&mut Entry)| edit(FileType::Symlink, change);
    let huge = Content::Extents(vec![Extent::Hole(u64::MAX >> 1); 3]);
    let entries = [
        regular(&|entry| entry.content = Content::Nothing),
        regular(&|entry| entry.content = Content::Inline(vec![1; 5431])),
        regular(&|entry| entry.content = Content::Extents(vec![Extent::Hole(1)])),
        regular(&|entry| entry.content = huge.clone()),
        regular(&|entry| {
            entry.metadata.size = 101;
            entry.content = Content::Inline(vec![1; 101]);
        }),
        edit(FileType::Directory, &|entry| {
            entry.content = Content::Inline(vec![1]);
        }),
        symlink(&|entry| entry.metadata.target.clear()),
        symlink(&|entry| entry.metadata.target = b"a\0b".to_vec()),
        regular(&|entry| entry.metadata.mode = 0o10000),
        regular(&|entry| entry.metadata.xattrs = vec![xattr(b"", 1)]),
        regular(&|entry| entry.metadata.xattrs = vec![xattr(b"user.\0", 1)]),
        regular(&|entry| entry.metadata.xattrs = vec![xattr(&[b'a'; 256], 1)]),
        regular(&|entry| entry.metadata.xattrs = vec![xattr(b"user.a", 65_537)]),
        regular(&|entry| {
            entry.metadata.xattrs = vec![xattr(b"user.b", 1), xattr(b"user.a", 1)];
        }),
        regular(&|entry| {
            entry.metadata.xattrs = vec![xattr(b"user.a", 1), xattr(b"user.a", 1)];
        }),
    ];
    for (number, entry) in entries.into_iter().enumerate() {
        let error = decode_forged(&entry).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "entry {number}");
        assert!(
            encode(&Record::Entry(Box::new(entry))).is_err(),
            "entry {number}"
        );
    }
}

#[test]
fn bits_that_nothing_writes_are_refused() {
    let (bytes, tables) = encode(&Record::Entry(Box::new(of_type(FileType::Fifo)))).unwrap();
    let mut reader = ByteReader::new("a test", &bytes);
    let first = reader.varint().unwrap();
    let shape = reader.varint().unwrap();
    let forged = |first: u64, shape: u64| {
        let mut writer = ByteWriter::new();
        writer.varint(first);
        writer.varint(shape);
        writer.raw(reader.rest());
        decode(writer.as_bytes(), &tables)
    };
    assert!(forged(first, shape).is_ok());
    assert!(forged(first, shape | shape::WIDE_TIMES << 1).is_err());
    assert!(forged(first, shape | 7).is_err());
    assert!(forged(first | 0o10000 << TYPE_BITS, shape).is_err());
    assert!(flags_of(16, &reader).is_err());
}

#[test]
fn ordinals_beyond_the_tables_are_refused() {
    let (bytes, _) = encode(&Record::Entry(Box::new(small_file()))).unwrap();
    assert!(decode(&bytes, &Tables::default()).is_err());
}

#[test]
fn counts_that_lie_are_refused_before_anything_is_allocated() {
    let mut entry = small_file();
    entry.metadata.xattrs = vec![Xattr {
        name: b"user.a".to_vec(),
        value: Vec::new(),
    }];
    let (bytes, tables) = encode(&Record::Entry(Box::new(entry))).unwrap();
    let place = bytes.windows(6).position(|it| it == b"user.a").unwrap() - 2;
    assert_eq!(bytes[place], 1);
    let lie = [
        &bytes[..place],
        &[0xff, 0xff, 0xff, 0x7f],
        &bytes[place + 1..],
    ]
    .concat();
    assert!(decode(&lie, &tables).is_err());
}
