//! Blocks of warnings.
#![no_main]

use bygone::format::run::{Block, decode_warning};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/warnings");

fuzz_target!(|data: &[u8]| {
    let plain = near(VALID, data);
    within_input(&plain, || {
        let Ok(block) = Block::open(plain.clone().into()) else {
            return;
        };
        let mut cursor = block.cursor();
        while cursor.advance().is_ok_and(|is_there| is_there) {
            let _ = decode_warning(cursor.body());
        }
    });
    let _ = within_input(&plain, || decode_warning(&plain));
});
