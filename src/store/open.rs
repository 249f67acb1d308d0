//! From a location to its store, with what every store of its kind is wrapped in.

use std::sync::Arc;

use crate::base::{Error, ErrorKind, Result};

use super::{Limited, LocalStore, Location, RemoteStore, Retrying, Settings, Store};

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
        _ => Ok(wrapped(remote(location, settings)?, settings)),
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
            let remote = Arc::new(remote(location, settings)?);
            let store = Retrying::new(Arc::clone(&remote) as _, settings.patience);
            let is_empty = store.read("what is there", || remote.is_empty());
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

fn remote(location: &Location, settings: &Settings) -> Result<RemoteStore> {
    let settings = settings.clone();
    match location {
        Location::S3(bucket) => RemoteStore::s3(bucket, settings),
        Location::Google(bucket) => RemoteStore::google(bucket, settings),
        Location::Azure(bucket) => RemoteStore::azure(bucket, settings),
        Location::WebDav(url) => RemoteStore::web_dav(url, settings),
        Location::Folder(_) | Location::Sftp(_) => Err(Error::new(
            ErrorKind::Usage,
            format!("{location}: this version of bygone cannot open such a place"),
        )),
    }
}

fn wrapped(store: RemoteStore, settings: &Settings) -> Arc<dyn Store> {
    Arc::new(Retrying::new(Arc::new(store), settings.patience))
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
