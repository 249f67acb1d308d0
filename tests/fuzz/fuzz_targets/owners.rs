//! Tables of owners' names.
#![no_main]

use bygone::format::run::Owners;
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/owners");

fuzz_target!(|data: &[u8]| {
    let plain = near(VALID, data);
    if let Ok(owners) = within_input(&plain, || Owners::decode(&plain)) {
        assert_eq!(Owners::decode(&owners.encode()).ok(), Some(owners));
    }
});
