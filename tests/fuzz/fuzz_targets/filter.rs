//! Filters of keys.
#![no_main]

use bygone::format::run::{filter_contains, filter_hash};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/filter");

fuzz_target!(|data: &[u8]| {
    let plain = near(VALID, data);
    within_input(&plain, || {
        for number in 0..64_u32 {
            let _ = filter_contains(&plain, filter_hash(&number.to_le_bytes()));
        }
    });
});
