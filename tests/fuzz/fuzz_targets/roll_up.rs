//! Roll-ups: the headers of many points, sealed and opened.
#![no_main]

use bygone::base::RepositoryId;
use bygone::format::{RollUp, RollUpId};
use bygone::seal::{Seal, SealedKind};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/roll-up");

/// Of the golden file; what its name says of its points is what they are.
const ID: &str = "2026-11-22T03-17-04Z-00c0ffee_2026-11-23T03-17-19Z-1f3a9c2e_0123456789abcdef";

fuzz_target!(|data: &[u8]| {
    let repository: RepositoryId = "000102030405060708090a0b0c0d0e0f".parse().expect("an id");
    let id: RollUpId = ID.parse().expect("an id");
    let seal = Seal::unencrypted(&repository);
    let plain = seal
        .open(SealedKind::RollUp, ID.as_bytes(), VALID, 1 << 20)
        .expect("the golden file opens");

    let plain = near(&plain, data);
    if let Ok(roll_up) = within_input(&plain, || RollUp::decode_plain(&id, &plain)) {
        let points = roll_up.points.iter().map(|point| point.id);
        assert!(points.clone().is_sorted());
        assert_eq!(points.clone().next(), Some(id.oldest));
        assert_eq!(points.clone().last(), Some(id.newest));
        let again = roll_up
            .encode(&seal, &id)
            .expect("what was read can be written");
        let again = RollUp::decode(&seal, &id, &again).expect("what was written can be read");
        assert_eq!(again.supersedes, roll_up.supersedes);
        assert!(again.points.iter().map(|point| point.id).eq(points));
    }
    let sealed = near(VALID, data);
    if within_input(&sealed, || RollUp::decode(&seal, &id, &sealed)).is_ok() {
        assert_eq!(sealed, VALID, "another roll-up passes the seal");
    }
});
