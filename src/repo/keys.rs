//! The keys of an encrypted repository: one for each password. All of them wrap the same master key.
//!
//! Taking a key away shuts its password out of the repository as it is. Whoever had the password and a copy of the key
//! still has the master key: only a new repository has another one.

use crate::base::{Error, ErrorKind, KeyId, Result};
use crate::format::{Config, KEYS_PREFIX, KeyDescription, KeyObject, NewKey, key_name};
use crate::seal::{Derivation, MasterKey, Password};
use crate::store::{Body, Store};

use super::repository::{Encryption, Repository, random_bytes, seal_of};

/// What a password has opened.
#[derive(Clone)]
pub(super) struct Unlocked {
    pub(super) master: MasterKey,
    /// The key that gave it.
    pub(super) key: KeyId,
}

/// One of the repository's keys.
#[derive(Debug)]
pub struct Key {
    pub id: KeyId,
    /// Who made it, where and when; or why that cannot be told.
    pub description: Result<KeyDescription>,
}

/// Makes a master key, and writes the first key of a new repository.
pub(super) fn first_key(
    store: &dyn Store,
    config: &Config,
    encryption: &Encryption,
) -> Result<Unlocked> {
    let unlocked = Unlocked {
        master: MasterKey::random()?,
        key: KeyId(random_bytes()?),
    };
    let new = NewKey {
        password: &encryption.password,
        derivation: encryption.derivation,
        salt: random_bytes()?,
        description: &encryption.description,
    };
    write(store, config, &unlocked, &new)?;
    Ok(unlocked)
}

/// Wraps the master key, and writes that as the key of this id.
fn write(store: &dyn Store, config: &Config, unlocked: &Unlocked, new: &NewKey<'_>) -> Result<()> {
    let seal = seal_of(config, unlocked);
    let object = KeyObject::wrap(unlocked.key, config, &seal, &unlocked.master, new)?;
    store.put_new(&key_name(&unlocked.key), Body::Bytes(&[&object.encode()?]))
}

/// The master key, from the first key that the password opens: `likely`, if that is one.
///
/// # Errors
/// WrongPassword, if the password opens none; missing, if there is none; corrupt, if it opens one that was made for
/// another config; and those of the store.
pub(super) fn open_with_password(
    store: &dyn Store,
    config: &Config,
    likely: Option<KeyId>,
    password: &Password,
) -> Result<Unlocked> {
    if let Some(id) = likely
        && let Ok(Some(unlocked)) = try_key(store, config, id, password)
    {
        return Ok(unlocked);
    }
    let ids = key_ids(store)?;
    if ids.is_empty() {
        return Err(Error::missing(format_args!(
            "every key of the repository, below {KEYS_PREFIX},"
        )));
    }
    let mut damaged = Vec::new();
    for id in ids {
        match try_key(store, config, id, password) {
            Ok(Some(unlocked)) => return Ok(unlocked),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => damaged.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Err(match damaged.is_empty() {
        true => Error::new(
            ErrorKind::WrongPassword,
            "the password does not open the repository",
        ),
        false => Error::new(ErrorKind::Corrupt, damaged.join("; ")),
    })
}

/// What this key holds; None if it is another password's, or has gone.
fn try_key(
    store: &dyn Store,
    config: &Config,
    id: KeyId,
    password: &Password,
) -> Result<Option<Unlocked>> {
    let opened = read(store, id).and_then(|key| key.unwrap(config, password));
    match opened {
        Ok(master) => Ok(Some(Unlocked { master, key: id })),
        Err(error) => match error.kind() {
            ErrorKind::WrongPassword | ErrorKind::Missing => Ok(None),
            _ => Err(error),
        },
    }
}

fn read(store: &dyn Store, id: KeyId) -> Result<KeyObject> {
    KeyObject::decode(&id, &store.get(&key_name(&id))?)
}

fn key_ids(store: &dyn Store) -> Result<Vec<KeyId>> {
    let listed = store.list(KEYS_PREFIX, "")?;
    let names = listed
        .iter()
        .map(|listed| &listed.name[KEYS_PREFIX.len()..]);
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// All keys of the repository.
///
/// # Errors
/// Usage, if it is not encrypted; and those of the store.
pub fn keys(repository: &Repository) -> Result<Vec<Key>> {
    unlocked(repository)?;
    let store = repository.store();
    let describe = |id| {
        let description = read(store, id)
            .and_then(|object| object.description(repository.config(), repository.seal()));
        Key { id, description }
    };
    Ok(key_ids(store)?.into_iter().map(describe).collect())
}

/// Adds a key: the repository then opens by this password too.
///
/// # Errors
/// Usage, if it is not encrypted; failed, if it may not be written; and those of the store.
pub fn add_key(
    repository: &Repository,
    password: &Password,
    derivation: Derivation,
    description: &KeyDescription,
) -> Result<KeyId> {
    repository.check_writable()?;
    let new = NewKey {
        password,
        derivation,
        salt: random_bytes()?,
        description,
    };
    let added = Unlocked {
        master: unlocked(repository)?.master.clone(),
        key: KeyId(random_bytes()?),
    };
    let store = repository.store();
    write(store, repository.config(), &added, &new)?;
    // Before anyone takes an old one away: a key that does not open is none.
    read(store, added.key)?.unwrap(repository.config(), password)?;
    Ok(added.key)
}

/// Takes a key away.
///
/// # Errors
/// Usage, if it is the one that the given password opened, so that one is left; missing, if there is none; and those
/// of the store.
pub fn remove_key(repository: &Repository, id: KeyId) -> Result<()> {
    if unlocked(repository)?.key == id {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "key {id} is the one that the given password opens: give the password of another key, or change \
                 this one's with `bygone key change-password`"
            ),
        ));
    }
    delete(repository, id)
}

/// Replaces the key that the given password opened by one of another password.
///
/// # Errors
/// Those of `add_key`; and those of taking the old one away, when the new one is there already.
pub fn change_password(
    repository: &Repository,
    password: &Password,
    derivation: Derivation,
    description: &KeyDescription,
) -> Result<KeyId> {
    let old = unlocked(repository)?.key;
    let new = add_key(repository, password, derivation, description)?;
    delete(repository, old).map_err(|error| {
        error.context(format_args!(
            "key {new} opens by the new password, and key {old} still by the old one"
        ))
    })?;
    Ok(new)
}

fn delete(repository: &Repository, id: KeyId) -> Result<()> {
    repository.check_writable()?;
    let store = repository.store();
    let name = key_name(&id);
    if !key_ids(store)?.contains(&id) {
        return Err(Error::missing(name));
    }
    store.delete(&name)
}

fn unlocked(repository: &Repository) -> Result<&Unlocked> {
    repository.unlocked().ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            format!(
                "the repository at {} is not encrypted: it has no keys",
                repository.store().location()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::RepositoryId;
    use crate::format::{CONFIG_NAME, SealMethod};
    use crate::repo::InitOptions;
    use crate::store::{MemoryStore, Recording};

    const QUICK: Derivation = Derivation {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes().to_vec()).unwrap()
    }

    fn description() -> KeyDescription {
        KeyDescription {
            created: jiff::Timestamp::UNIX_EPOCH,
            host: "moon".into(),
            user: "selene".into(),
            label: None,
        }
    }

    fn init(store: &Arc<MemoryStore>, is_padded: bool) -> Arc<Repository> {
        let options = InitOptions {
            encryption: Some(Encryption {
                password: password("first"),
                derivation: QUICK,
                is_padded,
                description: description(),
            }),
            ..InitOptions::default()
        };
        Repository::init(store.clone(), &options).unwrap()
    }

    fn open(store: &Arc<MemoryStore>, text: &str) -> Result<Arc<Repository>> {
        Repository::unlock(store.clone(), &mut || Ok(password(text)))
    }

    fn refusal(store: &Arc<MemoryStore>, text: &str) -> ErrorKind {
        open(store, text).err().expect("it must be refused").kind()
    }

    #[test]
    fn what_was_made_opens_by_its_password_and_by_no_other() {
        let store = Arc::new(MemoryStore::new());
        let made = init(&store, false);
        let opened = open(&store, "first").unwrap();
        assert_eq!(opened.seal().chunk_id(b"x"), made.seal().chunk_id(b"x"));
        assert_eq!(opened.key(), made.key());
        assert_eq!(refusal(&store, "second"), ErrorKind::WrongPassword);
        let error = Repository::open(store).err().expect("it must be refused");
        assert_eq!(error.kind(), ErrorKind::WrongPassword);
    }

    #[test]
    fn a_key_that_is_likely_takes_one_request_after_the_config() {
        let store = Arc::new(MemoryStore::new());
        let made = init(&store, false);
        for number in 0..3 {
            add_key(&made, &password(&number.to_string()), QUICK, &description()).unwrap();
        }
        let recording = Arc::new(Recording::new(store.clone()));
        let requests = |likely| {
            let closed = super::super::Closed::read(recording.clone()).unwrap();
            closed.open(likely, &mut || Ok(password("first"))).unwrap();
            recording.take().len()
        };
        assert_eq!(requests(made.key()), 2);
        assert!(requests(Some(KeyId([9; 16]))) > 2, "it was a wrong guess");
    }

    #[test]
    fn keys_come_and_go_and_the_last_one_stays() {
        let store = Arc::new(MemoryStore::new());
        let first = init(&store, false);
        let second = add_key(&first, &password("second"), QUICK, &description()).unwrap();
        assert_eq!(keys(&first).unwrap().len(), 2);
        assert!(
            keys(&first)
                .unwrap()
                .iter()
                .all(|key| key.description.is_ok())
        );
        let in_use = first.key().unwrap();
        let refused = remove_key(&first, in_use).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage);
        let by_second = open(&store, "second").unwrap();
        assert_eq!(by_second.key(), Some(second));
        remove_key(&by_second, in_use).unwrap();
        assert_eq!(refusal(&store, "first"), ErrorKind::WrongPassword);
        let gone = remove_key(&by_second, in_use).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::Missing);

        let third = change_password(&by_second, &password("third"), QUICK, &description()).unwrap();
        assert_eq!(refusal(&store, "second"), ErrorKind::WrongPassword);
        let by_third = open(&store, "third").unwrap();
        assert_eq!(by_third.key(), Some(third));
        assert_eq!(by_third.seal().chunk_id(b"x"), first.seal().chunk_id(b"x"));
    }

    #[test]
    fn a_repository_without_encryption_has_no_keys() {
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store, &InitOptions::default()).unwrap();
        assert_eq!(keys(&repository).unwrap_err().kind(), ErrorKind::Usage);
        let added = add_key(&repository, &password("x"), QUICK, &description());
        assert_eq!(added.unwrap_err().kind(), ErrorKind::Usage);
    }

    /// Puts another config into the store, as whoever can write there could.
    fn replace_config(store: &MemoryStore, edit: impl Fn(&mut Config)) {
        let mut config = Config::decode(&store.get(CONFIG_NAME).unwrap()).unwrap();
        edit(&mut config);
        let forged = config.encode_authenticated(&MasterKey::from_bytes([1; 32]));
        store.damage(CONFIG_NAME, &forged.unwrap());
    }

    #[test]
    fn a_config_that_was_changed_by_who_has_no_key_is_refused() {
        let edits: [fn(&mut Config); 4] = [
            |config| config.repository = RepositoryId([4; 16]),
            |config| config.seal = SealMethod::Encrypted,
            |config| config.compression = crate::seal::Compression::Level(19),
            |config| config.features.compatible.push("glitter".into()),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let store = Arc::new(MemoryStore::new());
            init(&store, true);
            replace_config(&store, edit);
            assert_eq!(
                refusal(&store, "first"),
                ErrorKind::Corrupt,
                "edit {number}"
            );
        }
    }

    #[test]
    fn keys_that_were_swapped_renamed_or_lost_are_refused() {
        let store = Arc::new(MemoryStore::new());
        let first = init(&store, false);
        let name = key_name(&first.key().unwrap());
        let good = store.get(&name).unwrap();

        let other = Arc::new(MemoryStore::new());
        let others = init(&other, false);
        let stolen = other.get(&key_name(&others.key().unwrap())).unwrap();
        store.damage(&name, &stolen);
        assert_eq!(refusal(&store, "first"), ErrorKind::Corrupt);

        for bit in (0..good.len() * 8).step_by(7) {
            let mut damaged = good.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            store.damage(&name, &damaged);
            assert_eq!(refusal(&store, "first"), ErrorKind::Corrupt, "bit {bit}");
        }
        store.lose(&name);
        store
            .put_new(&key_name(&KeyId([8; 16])), Body::Bytes(&[&good]))
            .unwrap();
        assert_eq!(refusal(&store, "first"), ErrorKind::Corrupt);
        store.lose(&key_name(&KeyId([8; 16])));
        assert_eq!(refusal(&store, "first"), ErrorKind::Missing);
    }
}
