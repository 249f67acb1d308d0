//! Packs' directories and trailers.
#![no_main]

use bygone::base::{PackId, RepositoryId};
use bygone::format::PackDirectory;
use bygone::seal::{Seal, SealedKind};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/pack");
const PACK: PackId = PackId([5; 16]);
const TRAILER_BYTES: usize = 16;

/// How long the sealed directory and its trailer are; None if the trailer says nothing that can be.
fn tail_length(pack: &[u8]) -> Option<usize> {
    let length = PackDirectory::encoded_length(pack, pack.len() as u64).ok()?;
    assert!(length <= pack.len() as u64);
    Some(length as usize)
}

fuzz_target!(|data: &[u8]| {
    let repository: RepositoryId = "000102030405060708090a0b0c0d0e0f".parse().expect("an id");
    let seal = Seal::unencrypted(&repository);
    let tail = tail_length(VALID).expect("the golden file is a pack");
    let sealed = &VALID[VALID.len() - tail..VALID.len() - TRAILER_BYTES];
    let plain = seal
        .open(SealedKind::PackDirectory, &PACK.0, sealed, 1 << 20)
        .expect("the golden file opens");

    let plain = near(&plain, data);
    if let Ok(directory) = within_input(&plain, || PackDirectory::decode_plain(&plain)) {
        let mut end = 0;
        for frame in directory.frames() {
            assert_eq!(frame.offset, end);
            end += frame.length;
            for chunk in &frame.chunks {
                assert!(chunk.offset + chunk.length <= frame.plain_length);
            }
        }
        assert_eq!(directory.end(), end);
    }
    let pack = near(VALID, data);
    within_input(&pack, || {
        let length = pack.len() as u64;
        for length in [length, length + 1, u64::MAX, 0] {
            let _ = PackDirectory::encoded_length(&pack, length);
        }
        if let Some(tail) = tail_length(&pack) {
            let tail = &pack[pack.len() - tail..];
            let _ = PackDirectory::decode(&seal, &PACK, tail, length);
        }
    });
});
