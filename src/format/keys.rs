//! Keys: the master key of an encrypted repository, wrapped with a password. Checked JSON, since it must be read before
//! anything can be opened; who made it, where and when is sealed with a key that only the master key gives. That piece
//! is bound to all the rest, so that whoever has opened the repository by one key can tell whether the others are as
//! they were made, without their passwords.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::json::{decode_json, encode_json};
use super::{Config, Features, SealMethod, key_name};
use crate::base::limits::JSON_BYTES_MAX;
use crate::base::{Error, ErrorKind, KeyId, RepositoryId, Result};
use crate::seal::{
    Compression, Derivation, MasterKey, PASSWORD_SALT_BYTES, Password, Seal, SealedKind,
    WRAPPED_BYTES, WrappedKey,
};

/// A key, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyObject {
    pub id: KeyId,
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    pub features: Features,
    /// Argon2id's work.
    argon2id: Derivation,
    /// Argon2id's salt.
    #[serde(with = "super::text::hex_array")]
    salt: [u8; PASSWORD_SALT_BYTES],
    /// Tells a wrong password from a changed key.
    #[serde(with = "super::text::hex_array")]
    commitment: [u8; 32],
    /// The master key.
    #[serde(with = "super::text::hex_array")]
    wrapped: [u8; WRAPPED_BYTES],
    /// The sealed description.
    #[serde(with = "super::text::hex_bytes")]
    description: Vec<u8>,
}

/// What a person wants to know of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDescription {
    pub created: Timestamp,
    /// The host that it was made on.
    pub host: String,
    /// The user who made it.
    pub user: String,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl KeyObject {
    /// Wraps the master key of the repository that has this config and seal. `salt` is random and new.
    ///
    /// # Errors
    /// Failed, if Argon2id has not the memory that it needs.
    pub fn wrap(
        id: KeyId,
        config: &Config,
        seal: &Seal,
        master: &MasterKey,
        new: &NewKey<'_>,
    ) -> Result<Self> {
        let associated = associated(config, &id, &new.derivation, &new.salt);
        let wrapped =
            WrappedKey::wrap(master, new.password, new.derivation, new.salt, &associated)?;
        let mut key = Self {
            id,
            features: Features::default(),
            argon2id: wrapped.derivation,
            salt: wrapped.salt,
            commitment: wrapped.commitment,
            wrapped: wrapped.wrapped,
            description: Vec::new(),
        };
        key.describe(config, seal, new.description)?;
        Ok(key)
    }

    /// Seals the description of all the rest.
    fn describe(
        &mut self,
        config: &Config,
        seal: &Seal,
        description: &KeyDescription,
    ) -> Result<()> {
        let plain = serde_json::to_vec(description).map_err(|error| {
            let problem = format!("cannot write {}: {error}", key_name(&self.id));
            Error::new(ErrorKind::Failed, problem)
        })?;
        let place = self.place(config);
        let kind = SealedKind::KeyDescription;
        let compression = Compression::default();
        seal.seal(kind, &place, &plain, compression, &mut self.description)
    }

    /// What the description is bound to.
    fn place(&self, config: &Config) -> Vec<u8> {
        let mut place = associated(config, &self.id, &self.argon2id, &self.salt);
        place.extend_from_slice(&self.commitment);
        place.extend_from_slice(&self.wrapped);
        place
    }

    /// The master key.
    ///
    /// # Errors
    /// WrongPassword, if it is another password's; corrupt, if it was made for another repository, format version,
    /// seal or id.
    pub fn unwrap(&self, config: &Config, password: &Password) -> Result<MasterKey> {
        let wrapped = WrappedKey {
            derivation: self.argon2id,
            salt: self.salt,
            commitment: self.commitment,
            wrapped: self.wrapped,
        };
        wrapped
            .unwrap(
                password,
                &associated(config, &self.id, &self.argon2id, &self.salt),
            )
            .map_err(|error| error.context(key_name(&self.id)))
    }

    /// Who made it, where and when.
    ///
    /// # Errors
    /// Corrupt, if that was not sealed for this key, or anything else of it was changed.
    pub fn description(&self, config: &Config, seal: &Seal) -> Result<KeyDescription> {
        let name = key_name(&self.id);
        let plain = seal
            .open(
                SealedKind::KeyDescription,
                &self.place(config),
                &self.description,
                JSON_BYTES_MAX,
            )
            .map_err(|error| error.context(&name))?;
        serde_json::from_slice(&plain).map_err(|error| Error::corrupt(&name, error))
    }

    /// The object's bytes.
    ///
    /// # Errors
    /// Failed, if it is too large.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode_json(key_name(&self.id), self)
    }

    /// Reads the bytes of the object that is named `id`.
    ///
    /// # Errors
    /// Corrupt, if they are not that key, or want more work than is allowed; failed, if it needs a newer version of
    /// bygone.
    pub fn decode(id: &KeyId, bytes: &[u8]) -> Result<Self> {
        let name = key_name(id);
        let key: Self = decode_json(&name, bytes)?;
        key.features.check_readable(&name)?;
        if key.id != *id {
            return Err(Error::corrupt(name, "it is another key"));
        }
        match key.argon2id.is_valid() {
            true => Ok(key),
            false => Err(Error::corrupt(
                name,
                "it wants more work than is allowed, or none",
            )),
        }
    }
}

/// What a new key is made of.
pub struct NewKey<'a> {
    pub password: &'a Password,
    pub derivation: Derivation,
    /// Random and new.
    pub salt: [u8; PASSWORD_SALT_BYTES],
    pub description: &'a KeyDescription,
}

/// What a wrapped key is bound to: who changes any of it in the config or in the key makes a key that does not open.
fn associated(
    config: &Config,
    id: &KeyId,
    derivation: &Derivation,
    salt: &[u8; PASSWORD_SALT_BYTES],
) -> Vec<u8> {
    let RepositoryId(repository) = &config.repository;
    let mut bytes = repository.to_vec();
    bytes.extend_from_slice(&config.version.to_le_bytes());
    bytes.push(match config.seal {
        SealMethod::Unencrypted => 0,
        SealMethod::Encrypted => 1,
        SealMethod::EncryptedPadded => 2,
    });
    bytes.extend_from_slice(&id.0);
    for number in [derivation.memory_kib, derivation.passes, derivation.lanes] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(salt);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Chunking;
    use crate::seal::system_salt;

    const QUICK: Derivation = Derivation {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
    const ID: KeyId = KeyId([5; 16]);

    fn config() -> Config {
        Config::new(
            RepositoryId([3; 16]),
            SealMethod::Encrypted,
            Chunking::default(),
            Compression::default(),
            Timestamp::UNIX_EPOCH,
        )
    }

    fn seal() -> Seal {
        let master = MasterKey::from_bytes([9; 32]);
        Seal::encrypted(&config().repository, &master, false, system_salt)
    }

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes().to_vec()).unwrap()
    }

    fn key() -> KeyObject {
        let new = NewKey {
            password: &password("open"),
            derivation: QUICK,
            salt: [1; 16],
            description: &KeyDescription {
                created: Timestamp::UNIX_EPOCH,
                host: "moon".into(),
                user: "selene".into(),
                label: None,
            },
        };
        let master = MasterKey::from_bytes([9; 32]);
        KeyObject::wrap(ID, &config(), &seal(), &master, &new).unwrap()
    }

    #[test]
    fn a_key_comes_back_under_its_own_name_only_and_tells_nobody_who_made_it() {
        let key = key();
        let bytes = key.encode().unwrap();
        assert_eq!(KeyObject::decode(&ID, &bytes).unwrap(), key);
        assert!(KeyObject::decode(&KeyId([6; 16]), &bytes).is_err());
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains("moon") && !text.contains("selene"), "{text}");
        assert_eq!(key.description(&config(), &seal()).unwrap().host, "moon");
    }

    #[test]
    fn a_key_opens_for_the_config_that_it_was_made_for_only() {
        let key = key();
        assert!(key.unwrap(&config(), &password("open")).is_ok());
        let error = key.unwrap(&config(), &password("shut")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongPassword);
        let edits: [fn(&mut Config); 4] = [
            |config| config.repository = RepositoryId([4; 16]),
            |config| config.seal = SealMethod::Unencrypted,
            |config| config.seal = SealMethod::EncryptedPadded,
            |config| config.version += 1,
        ];
        for edit in edits {
            let mut other = config();
            edit(&mut other);
            let error = key.unwrap(&other, &password("open")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        let renamed = KeyObject {
            id: KeyId([6; 16]),
            ..key.clone()
        };
        assert!(renamed.unwrap(&config(), &password("open")).is_err());
        assert!(renamed.description(&config(), &seal()).is_err());
        let mut changed = key;
        changed.wrapped[0] ^= 1;
        assert!(changed.description(&config(), &seal()).is_err());
    }

    #[test]
    fn a_key_that_wants_a_machine_s_whole_memory_is_refused() {
        let greedy = KeyObject {
            argon2id: Derivation {
                memory_kib: u32::MAX,
                ..QUICK
            },
            ..key()
        };
        let error = KeyObject::decode(&ID, &greedy.encode().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
