//! Golden files of encrypted repositories: keys, salts and the password are known, so that every byte is.
//!
//! `BYGONE_GOLDEN=write cargo test --test golden_encrypted` writes them anew, for the same commit that changes
//! `src/seal`, `src/format` and the format page. The values can be had from the page alone: Argon2id, BLAKE3 and
//! AES-256-GCM of any other library give the same.

use std::fmt::Write;
use std::path::Path;

use bygone::base::{ChunkId, IndexId, KeyId, LeaseId, PackId, PointId, RepositoryId};
use bygone::format::{
    Chunking, Config, Features, FrameChunk, IndexEncoder, IndexFooter, IndexRow, IndexSection,
    KeyDescription, KeyObject, LeaseKind, LeaseRecord, NewKey, PackDirectory, SealMethod,
    decode_packs, decode_rows, prefix_of,
};
use bygone::seal::{
    Compression, Derivation, MasterKey, Password, SALT_BYTES, Seal, SealedKind, system_salt,
};

/// Every kind of piece that there is.
const KINDS: [SealedKind; 16] = [
    SealedKind::Data,
    SealedKind::ExtentList,
    SealedKind::Point,
    SealedKind::RollUp,
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

const PLAIN: &[u8] = b"What is sealed today opens in ten years.";

fn repository() -> RepositoryId {
    "000102030405060708090a0b0c0d0e0f".parse().unwrap()
}

fn master() -> MasterKey {
    let mut bytes = [0; 32];
    for (number, byte) in bytes.iter_mut().enumerate() {
        *byte = 0x80 + number as u8;
    }
    MasterKey::from_bytes(bytes)
}

/// The salt of every piece here: 0, 1, 2, ...
fn known_salt(salt: &mut [u8; SALT_BYTES]) -> bygone::base::Result<()> {
    for (number, byte) in salt.iter_mut().enumerate() {
        *byte = number as u8;
    }
    Ok(())
}

fn seal(is_padded: bool) -> Seal {
    Seal::encrypted(&repository(), &master(), is_padded, known_salt)
}

fn config(method: SealMethod) -> Config {
    Config::new(
        repository(),
        method,
        Chunking::default(),
        Compression::Level(3),
        "2026-11-25T02:00:00Z".parse().unwrap(),
    )
}

/// Reads a golden file, after writing it if the environment asks for that.
fn kept(name: &str, made: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/encrypted")
        .join(name);
    if std::env::var_os("BYGONE_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, made).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a golden file, which today's encoder must write just so.
fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    let kept = kept(name, made);
    assert_eq!(
        made, kept,
        "{name}: the encoder writes other bytes than it did"
    );
    kept
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

#[test]
fn keys_are_derived_as_they_were() {
    let seal = seal(false);
    let tag = Seal::config_tag(&repository(), &master(), b"a config");
    let text = format!(
        "chunk {}\nlist {}\nseed {:016x}\nconfig {}\n",
        seal.chunk_id(b"a chunk"),
        seal.chunk_id_in(SealedKind::ExtentList, b"a chunk"),
        seal.chunking_seed(),
        tag.to_hex()
    );
    golden("derived", text.as_bytes());
}

#[test]
fn a_password_opens_the_key_that_it_wrapped_and_no_other_does() {
    let password = Password::new(b"correct horse battery staple".to_vec()).unwrap();
    let config = config(SealMethod::Encrypted);
    let description = KeyDescription {
        created: "2026-11-25T02:00:00Z".parse().unwrap(),
        host: "moon".into(),
        user: "selene".into(),
        label: Some("laptop".into()),
    };
    let new = NewKey {
        password: &password,
        derivation: Derivation::default(),
        salt: [0x5a; 16],
        description: &description,
    };
    let id = KeyId([0xc3; 16]);
    let made = KeyObject::wrap(id, &config, &seal(false), &master(), &new).unwrap();
    let bytes = kept("key", &made.encode().unwrap());
    let read = KeyObject::decode(&id, &bytes).unwrap();
    assert_eq!(
        read.description(&config, &seal(false)).unwrap(),
        description
    );
    let opened = read.unwrap(&config, &password).unwrap();
    let by_opened = Seal::encrypted(&repository(), &opened, false, system_salt);
    assert_eq!(by_opened.chunk_id(b"x"), seal(false).chunk_id(b"x"));
    let other = Password::new(b"Correct horse battery staple".to_vec()).unwrap();
    assert!(read.unwrap(&config, &other).is_err());
    // All but the description, which zstd may make shorter one day.
    let wrapped = |bytes: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        ["argon2id", "salt", "commitment", "wrapped"].map(|member| value[member].clone())
    };
    assert_eq!(wrapped(&made.encode().unwrap()), wrapped(&bytes));
}

#[test]
fn configs_are_authenticated_as_they_were() {
    for (name, method) in [
        ("config", SealMethod::Encrypted),
        ("config-padded", SealMethod::EncryptedPadded),
    ] {
        let config = config(method);
        let made = config.encode_authenticated(&master()).unwrap();
        let bytes = golden(name, &made);
        assert_eq!(Config::decode(&bytes).unwrap(), config);
        assert!(config.check_authentic(&bytes, &master()).is_ok());
    }
}

#[test]
fn a_piece_of_every_kind_is_sealed_as_it_was() {
    for (name, is_padded) in [("pieces", false), ("pieces-padded", true)] {
        let seal = seal(is_padded);
        let mut made = String::new();
        for kind in KINDS {
            for place in [&b""[..], b"a place"] {
                let mut sealed = Vec::new();
                seal.seal(kind, place, PLAIN, Compression::Off, &mut sealed)
                    .unwrap();
                let place = String::from_utf8_lossy(place);
                writeln!(made, "{} {place:?} {}", kind as u8, hex(&sealed)).unwrap();
            }
        }
        let text = String::from_utf8(golden(name, made.as_bytes())).unwrap();
        let sealed = text
            .lines()
            .map(|line| unhex(line.rsplit(' ').next().unwrap()));
        for (number, sealed) in sealed.enumerate() {
            let place = [&b""[..], b"a place"][number % 2];
            let opened = seal.open(KINDS[number / 2], place, &sealed, 1000).unwrap();
            assert_eq!(opened, PLAIN);
        }
    }
}

#[test]
fn compressed_pieces_open_as_they_were_sealed() {
    let plain = PLAIN.repeat(3);
    for (name, is_padded) in [("zstd", false), ("zstd-padded", true)] {
        let mut made = Vec::new();
        seal(is_padded)
            .seal(
                SealedKind::Data,
                b"",
                &plain,
                Compression::Level(3),
                &mut made,
            )
            .unwrap();
        let bytes = kept(name, &made);
        let opened = seal(is_padded).open(SealedKind::Data, b"", &bytes, 1 << 20);
        assert_eq!(opened.unwrap(), plain);
        let seal = seal(is_padded);
        let frame = seal.frame(SealedKind::Data, &bytes, 1 << 20).unwrap();
        let mut opened = vec![0; frame.plain_length()];
        frame.open_into(&mut opened).unwrap();
        assert_eq!(opened, plain);
    }
}

#[test]
fn a_lease_and_a_pack_s_directory_read_as_they_were_written() {
    let lease = LeaseRecord {
        id: LeaseId([4; 16]),
        features: Features::default(),
        kind: LeaseKind::Backup,
        host: "moon".into(),
        process: 4711,
        parent: Some(PointId {
            seconds: 1_790_000_000,
            random: 7,
        }),
        began: "2026-11-25T02:00:00Z".parse().unwrap(),
        refreshed: "2026-11-25T02:05:00Z".parse().unwrap(),
        replaces: None,
    };
    let seal = seal(false);
    let bytes = kept("lease", &lease.encode(&seal).unwrap());
    assert_eq!(
        LeaseRecord::decode(&seal, &lease.id, &bytes).unwrap(),
        lease
    );

    let mut directory = PackDirectory::new();
    let chunks = [FrameChunk {
        id: ChunkId([9; 32]),
        offset: 0,
        length: 500,
    }];
    directory.add(SealedKind::Data, 400, 500, &chunks).unwrap();
    let id = PackId([5; 16]);
    let bytes = kept("pack-directory", &directory.encode(&seal, &id).unwrap());
    let length = 400 + bytes.len() as u64;
    let read = PackDirectory::decode(&seal, &id, &bytes, length).unwrap();
    assert_eq!(read, directory);
}

#[test]
fn an_index_run_reads_as_it_was_written() {
    for (name, is_padded) in [("index", false), ("index-padded", true)] {
        let seal = seal(is_padded);
        let id = IndexId([6; 16]);
        let mut rows: Vec<IndexRow> = (0..150_u32)
            .map(|number| IndexRow {
                prefix: prefix_of(&seal.chunk_id(&number.to_le_bytes())),
                pack: number % 3,
                frame_offset: number * 1000,
                frame_length: 1000,
                offset_in_frame: number,
                length: 500 + number,
            })
            .collect();
        rows.sort();
        let packs = [1, 2, 3].map(|byte| PackId([byte; 16]));
        let mut encoder = IndexEncoder::new(&seal, id);
        rows.iter().for_each(|row| encoder.push(*row).unwrap());
        let mut made = encoder.take();
        made.extend(encoder.finish(&packs, &[]).unwrap());

        let bytes = kept(name, &made);
        let length = bytes.len() as u64;
        let tail = IndexFooter::encoded_length(&bytes, length).unwrap() as usize;
        let footer = IndexFooter::decode(&seal, &id, &bytes[bytes.len() - tail..], length).unwrap();
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
}
