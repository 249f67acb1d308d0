//! Extent lists.
#![no_main]

use bygone::format::{Extent, decode_extents, encode_extents};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/extent-list");
/// What the golden list covers.
const SPAN: u64 = 1_099_511_862_946;

fuzz_target!(|data: &[u8]| {
    let list = near(VALID, data);
    for span in [SPAN, list.len() as u64, 1] {
        if let Ok(extents) = within_input(&list, || decode_extents(&list, span)) {
            assert_eq!(extents.iter().map(Extent::length).sum::<u64>(), span);
            let again = encode_extents(&extents).expect("what was read can be written");
            assert_eq!(decode_extents(&again, span).ok(), Some(extents));
        }
    }
});
