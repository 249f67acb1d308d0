//! The master key of an encrypted repository, and how passwords wrap it.
//!
//! The master key is random and never changes; every other key is derived from it and the repository's id. A password
//! wraps it: Argon2id makes 32 bytes of the password and a random salt, BLAKE3 two keys of these. One is a commitment
//! that stands beside the wrapped key and tells a wrong password from a changed key; with it no wrapped key opens by
//! two passwords, which AES-GCM alone does not promise (Len, Grubbs and Ristenpart, "Partitioning Oracle Attacks",
//! USENIX Security 2021). The other one encrypts. What the wrapping is bound to, the caller says.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::{Error, ErrorKind, RepositoryId, Result};

/// Bytes of a wrapped key: the key and a tag.
pub const WRAPPED_BYTES: usize = KEY_BYTES + 16;

/// Bytes of the salt of a password: what RFC 9106 recommends.
pub const PASSWORD_SALT_BYTES: usize = 16;

/// Bytes of every key.
const KEY_BYTES: usize = 32;

/// Contexts of BLAKE3's key derivation from what Argon2id made: never to be reused for another or changed.
const WRAPPING_CONTEXT: &str = "bygone 2026-11-25 password: encryption of the master key";
const COMMITMENT_CONTEXT: &str = "bygone 2026-11-25 password: commitment";

/// The password that somebody gave. It is never shown, and wiped from memory at the end.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// The password of these bytes.
    ///
    /// # Errors
    /// Usage, if there are none.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let bytes = Zeroizing::new(bytes);
        match bytes.is_empty() {
            true => Err(Error::new(ErrorKind::Usage, "the password is empty")),
            false => Ok(Self(bytes)),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// The key that all others come from.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// A new one.
    ///
    /// # Errors
    /// Failed, if the system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        super::cipher::system_salt(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The one of these bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key of this context in this repository.
    pub(super) fn derive(
        &self,
        repository: &RepositoryId,
        context: &str,
    ) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&*self.0);
        hasher.update(&repository.0);
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

/// How much work it is to try a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Derivation {
    /// RFC 9106's second recommended option: 64 MiB, three passes, four lanes; about 0.2 s.
    fn default() -> Self {
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4,
        }
    }
}

impl Derivation {
    /// The most memory that a reader reserves because a key says so: 1 GiB.
    const MEMORY_KIB_MAX: u32 = 1 << 20;

    /// The most passes that a reader makes because a key says so.
    const PASSES_MAX: u32 = 64;

    /// The most lanes.
    const LANES_MAX: u32 = 64;

    /// May a reader do so much?
    pub fn is_valid(&self) -> bool {
        (1..=Self::LANES_MAX).contains(&self.lanes)
            && (8 * self.lanes..=Self::MEMORY_KIB_MAX).contains(&self.memory_kib)
            && (1..=Self::PASSES_MAX).contains(&self.passes)
    }

    /// What Argon2id makes of a password.
    fn derive(
        &self,
        password: &Password,
        salt: &[u8; PASSWORD_SALT_BYTES],
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
        let failed = |error: argon2::Error| {
            Error::new(
                ErrorKind::Failed,
                format!("cannot derive a key from the password: {error}"),
            )
        };
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_BYTES))
            .map_err(failed)?;
        let mut made = Zeroizing::new([0; KEY_BYTES]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), salt, &mut *made)
            .map_err(failed)?;
        Ok(made)
    }
}

/// A master key that a password has wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    pub derivation: Derivation,
    pub salt: [u8; PASSWORD_SALT_BYTES],
    pub commitment: [u8; KEY_BYTES],
    pub wrapped: [u8; WRAPPED_BYTES],
}

impl WrappedKey {
    /// Wraps the master key. `salt` is random and new: it gives the key that encrypts, which is used this once.
    ///
    /// # Errors
    /// Failed, if so much memory cannot be had.
    pub fn wrap(
        master: &MasterKey,
        password: &Password,
        derivation: Derivation,
        salt: [u8; PASSWORD_SALT_BYTES],
        associated: &[u8],
    ) -> Result<Self> {
        let made = derivation.derive(password, &salt)?;
        let mut wrapped = [0; WRAPPED_BYTES];
        let (key, tag) = wrapped.split_at_mut(KEY_BYTES);
        key.copy_from_slice(&*master.0);
        let sealed = wrapping_key(&made)
            .seal_in_place_separate_tag(nonce(), Aad::from(associated), key)
            .map_err(|_| Error::new(ErrorKind::Failed, "cannot encrypt the master key"))?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(Self {
            derivation,
            salt,
            commitment: commitment(&made),
            wrapped,
        })
    }

    /// The master key.
    ///
    /// # Errors
    /// WrongPassword, if it was wrapped by another password; corrupt, if it was not wrapped with this associated data,
    /// or has been changed.
    pub fn unwrap(&self, password: &Password, associated: &[u8]) -> Result<MasterKey> {
        let made = self.derivation.derive(password, &self.salt)?;
        // The comparison takes the same time wherever they differ.
        if blake3::Hash::from(self.commitment) != blake3::Hash::from(commitment(&made)) {
            return Err(Error::new(
                ErrorKind::WrongPassword,
                "the password is not the one of this key",
            ));
        }
        let (encrypted, tag) = self.wrapped.split_at(KEY_BYTES);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        wrapping_key(&made)
            .open_separate_gather(nonce(), Aad::from(associated), encrypted, tag, &mut *key)
            .map_err(|_| {
                Error::corrupt(
                    "the wrapped key",
                    "its tag does not fit; it was changed, or is another repository's",
                )
            })?;
        Ok(MasterKey(key))
    }
}

fn wrapping_key(made: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = Zeroizing::new(blake3::derive_key(WRAPPING_CONTEXT, made));
    let key = UnboundKey::new(&AES_256_GCM, &*key).expect("AES-256 takes a key of 32 bytes");
    LessSafeKey::new(key)
}

fn commitment(made: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    blake3::derive_key(COMMITMENT_CONTEXT, made)
}

/// Each key wraps one other.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Derivation = Derivation {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes().to_vec()).unwrap()
    }

    fn wrapped() -> WrappedKey {
        let master = MasterKey::from_bytes([5; 32]);
        WrappedKey::wrap(&master, &password("open"), QUICK, [6; 16], b"here").unwrap()
    }

    #[test]
    fn a_wrapped_key_opens_by_its_password_where_it_belongs() {
        let wrapped = wrapped();
        let opened = wrapped.unwrap(&password("open"), b"here").unwrap();
        assert_eq!(*opened.0, [5; 32]);
        let error = wrapped.unwrap(&password("Open"), b"here").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongPassword);
        let error = wrapped.unwrap(&password("open"), b"there").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_changed_wrapped_key_is_damage_and_no_wrong_password() {
        let good = wrapped();
        for bit in 0..WRAPPED_BYTES * 8 {
            let mut bad = good.clone();
            bad.wrapped[bit / 8] ^= 1 << (bit % 8);
            let error = bad.unwrap(&password("open"), b"here").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        let mut other_salt = good;
        other_salt.salt[0] ^= 1;
        assert!(other_salt.unwrap(&password("open"), b"here").is_err());
    }

    #[test]
    fn work_out_of_bounds_is_refused_before_it_is_begun() {
        assert!(Derivation::default().is_valid() && QUICK.is_valid());
        for (memory_kib, passes, lanes) in [
            (u32::MAX, 1, 1),
            (64 << 10, 1000, 1),
            (64 << 10, 3, 1000),
            (8, 1, 2),
            (8, 0, 1),
            (8, 1, 0),
        ] {
            let derivation = Derivation {
                memory_kib,
                passes,
                lanes,
            };
            assert!(!derivation.is_valid(), "{derivation:?}");
        }
    }

    #[test]
    fn neither_a_password_nor_a_key_is_shown() {
        let shown = format!(
            "{:?} {:?}",
            password("secret"),
            MasterKey::from_bytes([7; 32])
        );
        assert_eq!(shown, "Password MasterKey");
        assert!(Password::new(Vec::new()).is_err());
    }
}
