//! Sealed pieces: those whose tag fits may have any header and body, all others are refused.
#![no_main]

use bygone::base::RepositoryId;
use bygone::seal::{Seal, SealedKind};
use bygone_fuzz::{BASE_BYTES, near, within};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/sealed-zstd");
const TAG_BYTES: usize = 16;
const PLAIN_BYTES_MAX: usize = 1 << 20;

/// The tag of a piece, made from the format page's words and not by bygone's code.
fn tag(repository: &RepositoryId, associated: &[u8], header_and_body: &[u8]) -> [u8; TAG_BYTES] {
    let key = blake3::derive_key(
        "bygone 2026-11-24 unencrypted repository: tags of sealed pieces",
        &repository.0,
    );
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(&(associated.len() as u64).to_le_bytes());
    hasher.update(associated);
    hasher.update(header_and_body);
    let mut tag = [0; TAG_BYTES];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

fuzz_target!(|data: &[u8]| {
    let repository: RepositoryId = "000102030405060708090a0b0c0d0e0f".parse().expect("an id");
    let seal = Seal::unencrypted(&repository);
    let open = |sealed: &[u8]| {
        within(BASE_BYTES + PLAIN_BYTES_MAX, || {
            seal.open(SealedKind::Data, b"a place", sealed, PLAIN_BYTES_MAX)
        })
    };
    let sealed = near(VALID, data);
    if open(&sealed).is_ok() {
        assert_eq!(sealed, VALID, "other bytes pass the seal");
    }
    // A frame is opened whatever its tag: for exactly as many bytes as it promises, or not at all.
    within(BASE_BYTES + PLAIN_BYTES_MAX, || {
        if let Ok(frame) = seal.frame(SealedKind::Data, &sealed, PLAIN_BYTES_MAX) {
            let mut plain = vec![0; frame.plain_length()];
            let _opened = frame.open_into(&mut plain);
        }
    });
    let valid = &VALID[..VALID.len() - TAG_BYTES];
    let mut forged = near(valid, data);
    forged.extend_from_slice(&tag(&repository, b"a place", &forged));
    if let Ok(plain) = open(&forged) {
        assert!(plain.len() <= PLAIN_BYTES_MAX);
    }
});
