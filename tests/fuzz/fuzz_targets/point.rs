//! A point's header, sealed and opened.
#![no_main]

use bygone::base::limits::CHAIN_MAX;
use bygone::base::{PointId, RepositoryId};
use bygone::format::Point;
use bygone::seal::{Seal, SealedKind};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = include_bytes!("../../golden/point");
const ID: &str = "2026-11-23T03-17-19Z-1f3a9c2e";

fuzz_target!(|data: &[u8]| {
    let repository: RepositoryId = "000102030405060708090a0b0c0d0e0f".parse().expect("an id");
    let id: PointId = ID.parse().expect("an id");
    let seal = Seal::unencrypted(&repository);
    let plain = seal
        .open(SealedKind::Point, ID.as_bytes(), VALID, 1 << 20)
        .expect("the golden file opens");

    let plain = near(&plain, data);
    if let Ok(point) = within_input(&plain, || Point::decode_plain(id, &plain)) {
        assert_eq!(point.id, id);
        assert!(point.runs.len() <= CHAIN_MAX && point.lineage.len() <= CHAIN_MAX);
        let again = point.encode(&seal).expect("what was read can be written");
        Point::decode(&seal, id, &again).expect("what was written can be read");
    }
    let sealed = near(VALID, data);
    if within_input(&sealed, || Point::decode(&seal, id, &sealed)).is_ok() {
        assert_eq!(sealed, VALID, "another header passes the seal");
    }
});
