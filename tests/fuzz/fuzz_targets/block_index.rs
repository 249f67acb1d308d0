//! Block indexes: from keys and rows to blocks.
#![no_main]

use bygone::base::Row;
use bygone::format::run::{Block, IndexPart, PieceAt, block_of_key, block_of_row};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/block-index");
const END: u64 = 200_000;

fuzz_target!(|data: &[u8]| {
    let plain = near(VALID, data);
    let part = IndexPart {
        first_key: b"\0a".to_vec(),
        first_row: Row(0),
        first_block: 0,
        offset: 70_000,
        at: PieceAt::empty(),
    };
    within_input(&plain, || {
        let Ok(index) = Block::open(plain.clone().into()) else {
            return;
        };
        for key in [&b"\0m"[..], b"", b"z", &data[..data.len().min(9)]] {
            if let Ok(Some(block)) = block_of_key(&part, &index, key, END) {
                assert!(block.offset + u64::from(block.length) <= END);
            }
        }
        for row in [0, 900, 5000, u64::MAX] {
            if let Ok(Some(block)) = block_of_row(&part, &index, Row(row), END) {
                assert!(block.offset + u64::from(block.length) <= END);
            }
        }
    });
});
