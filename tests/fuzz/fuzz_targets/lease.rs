//! Leases: JSON with a checksum, as the config is; what the fuzzer chose is put behind a checksum that fits.
#![no_main]

use bygone::base::{LeaseId, RepositoryId};
use bygone::format::LeaseRecord;
use bygone::seal::Seal;
use bygone_fuzz::{near, with_checksum, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/lease");

fuzz_target!(|data: &[u8]| {
    let id = LeaseId([4; 16]);
    let seal = Seal::unencrypted(&RepositoryId([3; 16]));
    let input = near(VALID, data);
    for input in [with_checksum(&input), input] {
        if let Ok(lease) = within_input(&input, || LeaseRecord::decode(&seal, &id, &input)) {
            assert_eq!(lease.id, id);
            let again = lease.encode(&seal).expect("what was read can be written");
            assert_eq!(LeaseRecord::decode(&seal, &id, &again).ok(), Some(lease));
        }
    }
});
