//! The config: JSON with a checksum, which is made to fit, so that what is behind it is reached.
#![no_main]

use bygone::format::{Config, FORMAT_VERSION};
use bygone_fuzz::{near, with_checksum, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/config");

fuzz_target!(|data: &[u8]| {
    let input = near(VALID, data);
    for input in [with_checksum(&input), input] {
        if let Ok(config) = within_input(&input, || Config::decode(&input)) {
            assert_eq!(config.version, FORMAT_VERSION);
            assert!(config.compression.is_valid());
            let again = config.encode().expect("what was read can be written");
            assert_eq!(Config::decode(&again).ok(), Some(config));
        }
    }
});
