//! Footers and trailers of runs.
#![no_main]

use bygone::format::run::{RUN_TRAILER_BYTES, RunFooter, decode_run_trailer};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const FOOTER: &[u8] = include_bytes!("../../golden/run-footer");
const TRAILER: &[u8] = include_bytes!("../../golden/run-trailer");
const END: u64 = 300_000;

fuzz_target!(|data: &[u8]| {
    let plain = near(FOOTER, data);
    if let Ok(footer) = within_input(&plain, || RunFooter::decode(&plain, END)) {
        assert!(
            footer
                .sequences
                .iter()
                .all(|sequence| sequence.end() <= END)
        );
        let again = RunFooter::decode(&footer.encode(), END);
        assert_eq!(again.ok(), Some(footer));
    }
    let trailer = near(TRAILER, data);
    if let Some(trailer) = trailer.first_chunk::<RUN_TRAILER_BYTES>() {
        for length in [0, 16, 1000, u64::MAX] {
            if let Ok((start, footer_length)) = decode_run_trailer(trailer, length) {
                assert!(start + u64::from(footer_length) <= length);
            }
        }
    }
});
