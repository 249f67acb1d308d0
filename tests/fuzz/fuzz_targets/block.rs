//! Blocks: every question that can be asked of one.
#![no_main]

use bygone::base::Result;
use bygone::format::run::{Block, BlockCursor};
use bygone_fuzz::{near, within};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/block");

/// A key may be longer than its block: each entry can add to a shared one. So memory is for the longest key, which
/// grows by doubling, and a little.
const BYTES_MAX: usize = 8 << 20;

/// Goes to the end, and sees to it that keys rise.
fn walk(cursor: Result<BlockCursor>) -> Result<usize> {
    let mut cursor = cursor?;
    let mut before: Option<Vec<u8>> = None;
    let mut met = 0;
    while cursor.advance()? {
        assert!(before.as_deref().is_none_or(|before| before < cursor.key()));
        before = Some(cursor.key().to_vec());
        met += 1;
    }
    Ok(met)
}

fuzz_target!(|data: &[u8]| {
    let plain = near(VALID, data);
    let key = &data[..data.len().min(20)];
    within(BYTES_MAX, || {
        let Ok(block) = Block::open(plain.into()) else {
            return;
        };
        let whole = walk(Ok(block.cursor()));
        if let Ok(met) = whole {
            assert_eq!(met, block.count());
        }
        for key in [key, b"usr\0share\0\0file 020"] {
            if let Ok(Some(place)) = block.find(key) {
                let _ = block.body(&place).len();
            }
            let _ = block.floor(key);
            let _ = walk(block.seek(key));
        }
        let _ = walk(block.seek_index(block.count() / 2));
        let _ = block.floor_by_body(|body| Ok(body.len() < 3));
    });
});
