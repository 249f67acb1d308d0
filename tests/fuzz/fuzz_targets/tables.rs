//! Tables of packs and runs.
#![no_main]

use bygone::base::ByteReader;
use bygone::format::Tables;
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/tables");

fuzz_target!(|data: &[u8]| {
    let bytes = near(VALID, data);
    let read = within_input(&bytes, || {
        Tables::decode(&mut ByteReader::new("tables", &bytes))
    });
    if let Ok(tables) = read {
        assert!(16 * (tables.packs().len() + tables.runs().len()) <= bytes.len());
    }
});
