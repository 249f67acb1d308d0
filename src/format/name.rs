//! What objects are called: the folder of each kind, and an id.

use super::roll_up::RollUpId;
use crate::base::{IndexId, KeyId, LeaseId, PackId, PointId, RunId};

/// The one object without a folder: read before all others, and written after all others of a new repository.
pub const CONFIG_NAME: &str = "config";

/// Where points lie.
pub const POINTS_PREFIX: &str = "points/";

/// Where roll-ups of points' headers lie.
pub const CATALOGUE_PREFIX: &str = "catalogue/";

/// Where packs lie, in folders of the first two digits of their ids.
pub const PACKS_PREFIX: &str = "packs/";

/// Where runs lie.
pub const RUNS_PREFIX: &str = "manifests/";

/// Where index runs lie.
pub const INDEX_PREFIX: &str = "index/";

/// Where leases lie.
pub const LEASES_PREFIX: &str = "leases/";

/// Where keys lie.
pub const KEYS_PREFIX: &str = "keys/";

/// The object of a point.
pub fn point_name(id: &PointId) -> String {
    format!("{POINTS_PREFIX}{id}")
}

/// The object of a roll-up.
pub fn roll_up_name(id: &RollUpId) -> String {
    format!("{CATALOGUE_PREFIX}{id}")
}

/// The object of a pack.
pub fn pack_name(id: &PackId) -> String {
    // File systems slow down with very many names in one folder, and some stores list by folders.
    format!("{PACKS_PREFIX}{:02x}/{id}", id.0[0])
}

/// The object of a run.
pub fn run_name(id: &RunId) -> String {
    format!("{RUNS_PREFIX}{id}")
}

/// The object of an index run.
pub fn index_name(id: &IndexId) -> String {
    format!("{INDEX_PREFIX}{id}")
}

/// The object of a lease.
pub fn lease_name(id: &LeaseId) -> String {
    format!("{LEASES_PREFIX}{id}")
}

/// The object of a key.
pub fn key_name(id: &KeyId) -> String {
    format!("{KEYS_PREFIX}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_lies_in_the_folder_of_its_first_two_digits() {
        let name = pack_name(&PackId([0x0f; 16]));
        assert_eq!(name, "packs/0f/0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f");
    }
}
