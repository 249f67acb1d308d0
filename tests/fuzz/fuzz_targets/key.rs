//! Keys: JSON with a checksum, as the config is; what the fuzzer chose is put behind a checksum that fits.
#![no_main]

use bygone::base::KeyId;
use bygone::format::KeyObject;
use bygone_fuzz::{near, with_checksum, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/encrypted/key");

fuzz_target!(|data: &[u8]| {
    let id = KeyId([0xc3; 16]);
    let input = near(VALID, data);
    for input in [with_checksum(&input), input] {
        if let Ok(key) = within_input(&input, || KeyObject::decode(&id, &input)) {
            assert_eq!(key.id, id);
            let again = key.encode().expect("what was read can be written");
            assert_eq!(KeyObject::decode(&id, &again).ok(), Some(key));
        }
    }
});
