//! Leases: a running backup, which a prune must not pull the ground from under. Checked JSON, as the config is; in an
//! encrypted repository a sealed piece, since it names a host.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::limits::JSON_BYTES_MAX;
use crate::base::{Error, ErrorKind, LeaseId, PointId, Result};
use crate::seal::{Compression, Seal, SealedKind};

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
    pub fn encode(&self, seal: &Seal) -> Result<Vec<u8>> {
        let name = lease_name(&self.id);
        if !seal.is_encrypted() {
            return encode_json(name, self);
        }
        let plain = serde_json::to_vec(self).map_err(|error| {
            let problem = format!("cannot write {name}: {error}");
            Error::new(ErrorKind::Failed, problem)
        })?;
        let mut sealed = Vec::new();
        let compression = Compression::default();
        seal.seal(
            SealedKind::Lease,
            &self.id.0,
            &plain,
            compression,
            &mut sealed,
        )?;
        Ok(sealed)
    }

    /// Reads the bytes of the object that is named `id`.
    ///
    /// # Errors
    /// Corrupt, if they are not that lease; failed, if it needs a newer version of bygone.
    pub fn decode(seal: &Seal, id: &LeaseId, bytes: &[u8]) -> Result<Self> {
        let name = lease_name(id);
        let lease: Self = match seal.is_encrypted() {
            true => {
                let plain = seal
                    .open(SealedKind::Lease, &id.0, bytes, JSON_BYTES_MAX)
                    .map_err(|error| error.context(&name))?;
                serde_json::from_slice(&plain).map_err(|error| Error::corrupt(&name, error))?
            }
            false => decode_json(&name, bytes)?,
        };
        lease.features.check_readable(&name)?;
        match lease.id == *id {
            true => Ok(lease),
            false => Err(Error::corrupt(name, "it is another lease")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepositoryId;
    use crate::seal::{MasterKey, system_salt};

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
        let repository = RepositoryId([3; 16]);
        let master = MasterKey::from_bytes([4; 32]);
        let encrypted = Seal::encrypted(&repository, &master, false, system_salt);
        for seal in [Seal::unencrypted(&repository), encrypted] {
            let bytes = lease.encode(&seal).unwrap();
            let decode = |id: &LeaseId, bytes: &[u8]| LeaseRecord::decode(&seal, id, bytes);
            assert_eq!(decode(&lease.id, &bytes).unwrap(), lease);
            assert!(decode(&LeaseId([2; 16]), &bytes).is_err());
            assert!(decode(&lease.id, &bytes[1..]).is_err());
            let tells_host = bytes.windows(4).any(|four| four == b"moon");
            assert_eq!(tells_host, !seal.is_encrypted());
        }
    }
}
