//! Index runs: rows, footers and trailers.
#![no_main]

use bygone::base::{IndexId, RepositoryId};
use bygone::format::{IndexFooter, IndexSection, decode_packs, decode_plain_rows, decode_rows};
use bygone::seal::Seal;
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/index");
const INDEX: IndexId = IndexId([6; 16]);

/// Bytes of the header and of the tag of a sealed page.
const HEADER_BYTES: usize = 8;
const ROW_BYTES: usize = 36;

fuzz_target!(|data: &[u8]| {
    let repository: RepositoryId = "000102030405060708090a0b0c0d0e0f".parse().expect("an id");
    let seal = Seal::unencrypted(&repository);

    let rows = near(&VALID[HEADER_BYTES..][..20 * ROW_BYTES], data);
    if let Ok(rows) = within_input(&rows, || decode_plain_rows(&rows)) {
        assert!(rows.is_sorted());
    }
    let footer = near(&[0, 0, 0, 20, 3, 0], data);
    let _ = within_input(&footer, || IndexFooter::decode_plain(&footer));

    let index = near(VALID, data);
    within_input(&index, || {
        let length = index.len() as u64;
        let Ok(needed) = IndexFooter::encoded_length(&index, length) else {
            return;
        };
        let tail = &index[index.len() - needed as usize..];
        let Ok(footer) = IndexFooter::decode(&seal, &INDEX, tail, length) else {
            return;
        };
        for page in [0, 1, 2, u64::MAX] {
            let range = footer.page_range(&seal, IndexSection::Rows, page);
            let _ = decode_rows(
                &seal,
                &INDEX,
                page,
                &index[range.start as usize..range.end as usize],
            );
            let range = footer.page_range(&seal, IndexSection::Packs, page);
            let _ = decode_packs(
                &seal,
                &INDEX,
                page,
                &index[range.start as usize..range.end as usize],
            );
        }
    });
});
