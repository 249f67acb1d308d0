//! Leases: a running backup, which a prune must not pull the ground from under. Checked JSON, as the config is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::{LeaseId, PointId, Result};

use super::json::{decode_json, encode_json};
use super::{Features, lease_name};

/// What runs, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub id: LeaseId,
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    pub features: Features,
    pub kind: LeaseKind,
    /// The host that it runs on.
    pub host: String,
    /// Its process there.
    pub process: u32,
    /// The point that a backup stands on, which must not be forgotten meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<PointId>,
    /// When the first lease of this process was written.
    pub began: Timestamp,
    /// When this one was.
    pub refreshed: Timestamp,
    /// The lease that this one takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<LeaseId>,
}

/// What a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseKind {
    /// New objects are written, and old ones relied on.
    Backup,
    /// Old objects are marked and deleted.
    Prune,
}

impl LeaseRecord {
    /// The object's bytes.
    ///
    /// # Errors
    /// Failed, if it is too large.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode_json(lease_name(&self.id), self)
    }

    /// Reads the bytes of the object that is named `id`.
    ///
    /// # Errors
    /// Corrupt, if they are not that lease; failed, if it needs a newer version of bygone.
    pub fn decode(id: &LeaseId, bytes: &[u8]) -> Result<Self> {
        let name = lease_name(id);
        let lease: Self = decode_json(&name, bytes)?;
        lease.features.check_readable(&name)?;
        match lease.id == *id {
            true => Ok(lease),
            false => Err(crate::base::Error::corrupt(name, "it is another lease")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_comes_back_under_its_own_name_only() {
        let lease = LeaseRecord {
            id: LeaseId([1; 16]),
            features: Features::default(),
            kind: LeaseKind::Backup,
            host: "moon".into(),
            process: 7,
            parent: Some(PointId {
                seconds: 1,
                random: 2,
            }),
            began: Timestamp::UNIX_EPOCH,
            refreshed: Timestamp::UNIX_EPOCH,
            replaces: None,
        };
        let bytes = lease.encode().unwrap();
        assert_eq!(LeaseRecord::decode(&lease.id, &bytes).unwrap(), lease);
        assert!(LeaseRecord::decode(&LeaseId([2; 16]), &bytes).is_err());
        assert!(LeaseRecord::decode(&lease.id, &bytes[1..]).is_err());
    }
}
