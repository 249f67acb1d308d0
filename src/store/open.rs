//! From a location to its store, with what every store of its kind is wrapped in.

use std::sync::Arc;

use crate::base::{Error, ErrorKind, Result};

use super::{Limited, LocalStore, Location, RemoteStore, Retrying, Settings, SftpStore, Store};

/// Asks a store whether nothing is there.
type IsEmpty = Box<dyn Fn() -> Result<bool>>;

/// The store at `location`, which must exist if it is a directory; of others nothing is asked yet.
///
/// # Errors
/// NoRepository, if there is no such directory; Usage, if settings do not fit the kind of store.
pub fn open(location: &Location, settings: &Settings) -> Result<Arc<dyn Store>> {
    match location {
        Location::Folder(path) => {
            check_no_options(settings)?;
            let store = Arc::new(LocalStore::open(path)?);
            Ok(Limited::over(store, settings.rates.clone()))
        }
        _ => {
            let (store, _) = distant(location, settings)?;
            Ok(Arc::new(Retrying::new(store, settings.patience)))
        }
    }
}

/// The store at `location` for a new repository: a directory is made, and any other place must be empty.
///
/// # Errors
/// Exists, if something is there; those of the store; and those of `open`.
pub fn create(location: &Location, settings: &Settings) -> Result<Arc<dyn Store>> {
    match location {
        Location::Folder(path) => {
            check_no_options(settings)?;
            let store = Arc::new(LocalStore::create(path)?);
            Ok(Limited::over(store, settings.rates.clone()))
        }
        _ => {
            let (store, is_empty) = distant(location, settings)?;
            let store = Retrying::new(store, settings.patience);
            let is_empty = store.read(is_empty);
            match is_empty.map_err(|error| error.context(location))? {
                true => Ok(Arc::new(store)),
                false => Err(Error::new(
                    ErrorKind::Exists,
                    format!(
                        "cannot make a repository in {location}: objects are there already; name another prefix"
                    ),
                )),
            }
        }
    }
}

/// A store on another machine, and what tells whether nothing is there.
fn distant(location: &Location, settings: &Settings) -> Result<(Arc<dyn Store>, IsEmpty)> {
    let remote = |store: RemoteStore| {
        let store = Arc::new(store);
        let asked = Arc::clone(&store);
        let is_empty: IsEmpty = Box::new(move || asked.is_empty());
        (store as Arc<dyn Store>, is_empty)
    };
    let own = settings.clone();
    match location {
        Location::S3(bucket) => RemoteStore::s3(bucket, own).map(remote),
        Location::Google(bucket) => RemoteStore::google(bucket, own).map(remote),
        Location::Azure(bucket) => RemoteStore::azure(bucket, own).map(remote),
        Location::WebDav(url) => RemoteStore::web_dav(url, own).map(remote),
        Location::Sftp(place) => {
            let store = Arc::new(SftpStore::new(place, settings)?);
            let asked = Arc::clone(&store);
            let limited = Limited::over(store, settings.rates.clone());
            Ok((limited, Box::new(move || asked.is_empty())))
        }
        Location::Folder(path) => Err(Error::new(
            ErrorKind::Usage,
            format!("{} is a directory of this machine", path.display()),
        )),
    }
}

/// A directory has no options: one that is given was meant for another kind of store.
fn check_no_options(settings: &Settings) -> Result<()> {
    match settings.iter().next() {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(
            ErrorKind::Usage,
            format!("--store-option {name}: a directory has no options"),
        )),
    }
}
