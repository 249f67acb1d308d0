//! Making a repository and opening one.

use std::sync::Arc;

use jiff::Timestamp;

use super::keys::{Unlocked, first_key, open_with_password};
use super::observed::Observed;
use crate::base::{Error, ErrorKind, KeyId, RepositoryId, Result};
use crate::format::{CONFIG_NAME, Chunking, Config, KeyDescription, SealMethod};
use crate::seal::{Compression, Derivation, Password, Seal, system_salt};
use crate::store::{Body, Store};

/// How a new repository cuts and compresses.
#[derive(Debug, Clone)]
pub struct InitOptions {
    pub chunking: Chunking,
    pub compression: Compression,
    /// How it is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// The time now.
    pub created: Timestamp,
}

/// How a new repository is encrypted.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// Opens it.
    pub password: Password,
    /// How much work it is to try one.
    pub derivation: Derivation,
    /// Are lengths hidden?
    pub is_padded: bool,
    /// Who makes it.
    pub description: KeyDescription,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            chunking: Chunking::default(),
            compression: Compression::default(),
            encryption: None,
            created: Timestamp::now(),
        }
    }
}

/// An open repository: its store, its config and its seal.
pub struct Repository {
    store: Arc<dyn Store>,
    config: Config,
    seal: Seal,
    /// What only an encrypted one has.
    unlocked: Option<Unlocked>,
    observed: Observed,
}

/// A repository of which the config was read and nothing else. It may be encrypted.
pub struct Closed {
    store: Arc<dyn Store>,
    config: Config,
    config_bytes: Vec<u8>,
}

impl Closed {
    /// Reads the config of the repository that is in a store. One request.
    ///
    /// # Errors
    /// NoRepository, if nothing that belongs to one is there; missing, if it has lost its config; corrupt, if that is
    /// damaged; failed, if it needs a newer version of bygone; and those of the store.
    pub fn read(store: Arc<dyn Store>) -> Result<Self> {
        let config_bytes = match store.get(CONFIG_NAME) {
            Err(error) if error.kind() == ErrorKind::Missing => {
                return Err(no_config(&*store, error));
            }
            result => result.map_err(|error| error.context(store.location()))?,
        };
        let config =
            Config::decode(&config_bytes).map_err(|error| error.context(store.location()))?;
        Ok(Self {
            store,
            config,
            config_bytes,
        })
    }

    /// Where its objects are.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// What it says of itself. Nobody vouches for it yet.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Opens it, with the password that `ask` gives if it is encrypted. `likely` is the key that the password opened
    /// before: with it, opening takes one request rather than two and one for each key. It may be tried again, with
    /// another password.
    ///
    /// # Errors
    /// WrongPassword, if no key opens by the password; corrupt, if the config or a key was changed; those of `ask` and
    /// of the store.
    pub fn open(
        &self,
        likely: Option<KeyId>,
        ask: &mut dyn FnMut() -> Result<Password>,
    ) -> Result<Arc<Repository>> {
        if !self.config.seal.is_encrypted() {
            let store = Arc::clone(&self.store);
            return Ok(Repository::unencrypted(store, self.config.clone()));
        }
        let located = |error: Error| error.context(self.store.location());
        let password = ask()?;
        let unlocked =
            open_with_password(&*self.store, &self.config, likely, &password).map_err(located)?;
        self.config
            .check_authentic(&self.config_bytes, &unlocked.master)
            .map_err(located)?;
        let store = Arc::clone(&self.store);
        Ok(Repository::encrypted(store, self.config.clone(), unlocked))
    }
}

impl Repository {
    /// Makes a new repository in a store that is empty. Its config is written last, so that whatever has one is
    /// whole.
    ///
    /// # Errors
    /// Exists, if anything is there already; and those of the store.
    pub fn init(store: Arc<dyn Store>, options: &InitOptions) -> Result<Arc<Self>> {
        check_empty(&*store)?;
        let method = match &options.encryption {
            None => SealMethod::Unencrypted,
            Some(encryption) if encryption.is_padded => SealMethod::EncryptedPadded,
            Some(_) => SealMethod::Encrypted,
        };
        let config = Config::new(
            RepositoryId(random_bytes()?),
            method,
            options.chunking,
            options.compression,
            options.created,
        );
        let Some(encryption) = &options.encryption else {
            store.put_new(CONFIG_NAME, Body::Bytes(&[&config.encode()?]))?;
            return Ok(Self::unencrypted(store, config));
        };
        let unlocked = first_key(&*store, &config, encryption)?;
        let bytes = config.encode_authenticated(&unlocked.master)?;
        store.put_new(CONFIG_NAME, Body::Bytes(&[&bytes]))?;
        Ok(Self::encrypted(store, config, unlocked))
    }

    /// Opens the repository that is in a store. One request: nothing but the config is read.
    ///
    /// # Errors
    /// Those of `Closed::read`; WrongPassword, if it is encrypted.
    pub fn open(store: Arc<dyn Store>) -> Result<Arc<Self>> {
        Self::unlock(store, &mut || {
            Err(Error::new(
                ErrorKind::WrongPassword,
                "the repository is encrypted, and no password was given",
            ))
        })
    }

    /// Opens the repository that is in a store, with the password that `ask` gives if it is encrypted.
    ///
    /// # Errors
    /// Those of `Closed`.
    pub fn unlock(
        store: Arc<dyn Store>,
        ask: &mut dyn FnMut() -> Result<Password>,
    ) -> Result<Arc<Self>> {
        Closed::read(store)?.open(None, ask)
    }

    fn unencrypted(store: Arc<dyn Store>, config: Config) -> Arc<Self> {
        Arc::new(Self {
            seal: Seal::unencrypted(&config.repository),
            store,
            config,
            unlocked: None,
            observed: Observed::default(),
        })
    }

    fn encrypted(store: Arc<dyn Store>, config: Config, unlocked: Unlocked) -> Arc<Self> {
        Arc::new(Self {
            seal: seal_of(&config, &unlocked),
            store,
            config,
            unlocked: Some(unlocked),
            observed: Observed::default(),
        })
    }

    /// Where its objects are.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// What was settled when it was made.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What opens and closes its pieces.
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// What opened it, if it is encrypted.
    pub(super) fn unlocked(&self) -> Option<&Unlocked> {
        self.unlocked.as_ref()
    }

    /// The key that the password opened, if it is encrypted.
    pub fn key(&self) -> Option<KeyId> {
        self.unlocked.as_ref().map(|unlocked| unlocked.key)
    }

    /// What was seen of its points, through this.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Its id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// May this version of bygone write to it?
    ///
    /// # Errors
    /// Failed, with the features that it does not know.
    pub fn check_writable(&self) -> Result<()> {
        self.config.features.check_writable("the repository")
    }
}

/// The seal of an encrypted repository.
pub(super) fn seal_of(config: &Config, unlocked: &Unlocked) -> Seal {
    Seal::encrypted(
        &config.repository,
        &unlocked.master,
        config.seal.is_padded(),
        system_salt,
    )
}

/// Bytes for an id that no other object has.
///
/// # Errors
/// Failed, if the system has no randomness to give.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(
            ErrorKind::Failed,
            format!("cannot make a random id: {error}"),
        )
    })?;
    Ok(bytes)
}

fn check_empty(store: &dyn Store) -> Result<()> {
    let found = store.list("", "")?;
    let location = store.location();
    let problem = match found.first() {
        None => return Ok(()),
        Some(_) if found.iter().any(|listed| listed.name == CONFIG_NAME) => {
            format!(
                "there is a repository at {location} already, or something with a file named {CONFIG_NAME}"
            )
        }
        Some(first) => format!(
            "{location} is not empty: there is {}, among {} files; a repository needs a place of its own",
            first.name,
            found.len()
        ),
    };
    Err(Error::new(ErrorKind::Exists, problem))
}

/// Why there is no config: no repository, or one that has lost it.
fn no_config(store: &dyn Store, missing: Error) -> Error {
    let location = store.location();
    let has_points = store
        .list(crate::format::POINTS_PREFIX, "")
        .is_ok_and(|points| !points.is_empty());
    if has_points {
        return missing.context(format_args!(
            "the repository at {location} has points and no config"
        ));
    }
    Error::new(
        ErrorKind::NoRepository,
        format!(
            "there is no repository at {location}: make one with `bygone init`, or name another place"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PointId;
    use crate::format::point_name;
    use crate::store::{Effect, Fault, FaultPlan, MemoryStore, Moment, Operations};

    fn init(store: &Arc<MemoryStore>) -> Result<Arc<Repository>> {
        Repository::init(store.clone(), &InitOptions::default())
    }

    fn open_error(store: &Arc<MemoryStore>) -> Error {
        Repository::open(store.clone())
            .err()
            .expect("it must be refused")
    }

    #[test]
    fn what_init_made_opens_with_one_request() {
        let store = Arc::new(MemoryStore::new());
        let made = init(&store).unwrap();
        let recording = Arc::new(crate::store::Recording::new(store));
        let opened = Repository::open(recording.clone()).unwrap();
        assert_eq!(opened.config(), made.config());
        assert_eq!(recording.take().len(), 1);
        assert!(opened.check_writable().is_ok());
    }

    #[test]
    fn a_config_that_may_not_be_read_is_told_with_its_place() {
        let store = Arc::new(MemoryStore::new());
        init(&store).unwrap();
        let place = store.location();
        let plan = FaultPlan {
            operations: Operations::Reads,
            at: 1,
            moment: Moment::Before,
            effect: Effect::Fail(ErrorKind::Denied),
        };
        let error = Repository::open(Arc::new(Fault::new(store, plan))).err();
        let error = error.expect("it must be refused");
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains(&place), "{error}");
    }

    #[test]
    fn a_place_that_is_not_empty_is_refused_and_left_alone() {
        let store = Arc::new(MemoryStore::new());
        store
            .put_new("holiday/photo.jpg", Body::Bytes(&[b"x"]))
            .unwrap();
        let error = init(&store).err().expect("it must be refused");
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert!(error.to_string().contains("holiday/photo.jpg"), "{error}");
        assert_eq!(store.objects().len(), 1);
        let other = Arc::new(MemoryStore::new());
        init(&other).unwrap();
        assert_eq!(
            init(&other).err().expect("it must be refused").kind(),
            ErrorKind::Exists
        );
    }

    #[test]
    fn no_repository_a_lost_config_and_a_damaged_one_are_told_apart() {
        let store = Arc::new(MemoryStore::new());
        assert_eq!(open_error(&store).kind(), ErrorKind::NoRepository);
        init(&store).unwrap();
        let config = store.get(CONFIG_NAME).unwrap();
        for bit in 0..config.len() * 8 {
            let mut damaged = config.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            store.damage(CONFIG_NAME, &damaged);
            assert_eq!(open_error(&store).kind(), ErrorKind::Corrupt);
        }
        let point = PointId {
            seconds: 0,
            random: 1,
        };
        store
            .put_new(&point_name(&point), Body::Bytes(&[b"x"]))
            .unwrap();
        store.lose(CONFIG_NAME);
        assert_eq!(open_error(&store).kind(), ErrorKind::Missing);
    }

    #[test]
    fn versions_and_features_from_the_future_are_refused() {
        let store = Arc::new(MemoryStore::new());
        let config = init(&store).unwrap().config().clone();
        let mut newer = config.clone();
        newer.version += 1;
        store.damage(CONFIG_NAME, &newer.encode().unwrap());
        assert_eq!(open_error(&store).kind(), ErrorKind::Failed);
        let mut featured = config.clone();
        featured.features.incompatible.push("glitter".into());
        store.damage(CONFIG_NAME, &featured.encode().unwrap());
        assert!(open_error(&store).to_string().contains("glitter"));
        let mut read_only = config;
        read_only
            .features
            .read_only_compatible
            .push("glitter".into());
        store.damage(CONFIG_NAME, &read_only.encode().unwrap());
        let repository = Repository::open(store).unwrap();
        assert!(repository.check_writable().is_err());
    }
}
