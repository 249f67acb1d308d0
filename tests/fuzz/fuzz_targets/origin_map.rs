//! Blocks of the origin map.
#![no_main]

use bygone::base::Row;
use bygone::format::run::{Block, OriginKey, decode_origin_row};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/origins");
const ROWS: u64 = 20;

fuzz_target!(|data: &[u8]| {
    let plain = near(VALID, data);
    within_input(&plain, || {
        let Ok(block) = Block::open(plain.clone().into()) else {
            return;
        };
        for number in 0..20_u32 {
            let key = OriginKey {
                run: number / 10,
                row: Row(u64::from(number) * 1000),
            };
            if let Ok(Some(place)) = block.find(&key.to_bytes())
                && let Ok(row) = decode_origin_row(block.body(&place), ROWS)
            {
                assert!(row.0 < ROWS);
            }
        }
    });
});
