//! A store in a bucket, a container or a WebDAV collection.
//!
//! Invariants: a request is made once (`Retrying` asks again), but a range of which a part came is asked for from there
//! on; a byte that is given was sent by the server for this object and this place in it; a name that is taken is not
//! replaced, by the server's own doing where it can, else by a look before.
//!
//! It does not follow redirects, keep bytes, or trust that a server does what it is said to do.

mod answer;
mod body;
mod build;
mod place;
mod problem;
mod process_keys;
mod reading;
mod transport;
mod writing;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};
use url::Url;

use crate::base::{Error, Result};

use self::build::Built;
use self::problem::{Trouble, heeded};
use self::writing::Creation;
use super::name::{check_listing, check_name, check_whole, range_error, range_length};
use super::runtime::runtime;
use super::{Body, Bucket, Listed, Settings, Store};

/// Where an empty listing is believed at once: roll-ups of points only save requests, and whoever finds none lists the points
/// themselves. To ask twice would make each mount of a small repository wait once more.
const BELIEVED_EMPTY: &str = "catalogue/";

/// Objects on a server.
pub struct RemoteStore {
    built: Built,
    creation: Creation,
    /// Prefixes of which a listing was empty, and was so when it was asked for once more.
    known_empty: Mutex<BTreeSet<String>>,
}

impl RemoteStore {
    /// The store in a bucket of Amazon S3, or of what speaks its protocol. Asks nothing of the server yet.
    ///
    /// # Errors
    /// Usage, if a setting is not known or makes no sense.
    pub fn s3(bucket: &Bucket, settings: Settings) -> Result<Self> {
        build::s3(bucket, settings).map(Self::new)
    }

    /// The same of Google Cloud Storage.
    ///
    /// # Errors
    /// As those of `s3`.
    pub fn google(bucket: &Bucket, settings: Settings) -> Result<Self> {
        build::google(bucket, settings).map(Self::new)
    }

    /// The same of Azure Blob Storage.
    ///
    /// # Errors
    /// As those of `s3`.
    pub fn azure(bucket: &Bucket, settings: Settings) -> Result<Self> {
        build::azure(bucket, settings).map(Self::new)
    }

    /// The same of a WebDAV collection.
    ///
    /// # Errors
    /// As those of `s3`.
    pub fn web_dav(url: &Url, settings: Settings) -> Result<Self> {
        build::web_dav(url, settings).map(Self::new)
    }

    fn new(built: Built) -> Self {
        Self {
            creation: Creation::new(built.has_conditions),
            built,
            known_empty: Mutex::default(),
        }
    }

    fn path(&self, name: &str) -> Result<Path> {
        check_name(name)?;
        Ok(self.below_root(name))
    }

    fn below_root(&self, name: &str) -> Path {
        name.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.built.root.clone(), |path, part| path.join(part))
    }

    /// Does one request, and tells its failure: `action` is what it was to do, as an infinitive.
    fn ask<T>(
        &self,
        action: &str,
        name: &str,
        request: impl Future<Output = std::result::Result<T, Trouble>>,
    ) -> Result<T> {
        runtime()?
            .block_on(request)
            .map_err(|trouble| self.built.place.explain(action, name, &trouble))
    }

    /// The length of an object.
    fn length(&self, name: &str, path: &Path) -> Result<u64> {
        let head = heeded(self.built.objects.head(path));
        Ok(self.ask("look at", name, head)?.size)
    }

    fn list_once(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        let folder = self.below_root(prefix);
        let folder = Some(&folder).filter(|folder| !folder.as_ref().is_empty());
        let objects = &self.built.objects;
        // The server's listing begins after a name, and this one at a name: so it begins after what is a byte
        // shorter, and what comes too early is left out here.
        let listing = match from.get(..from.len().saturating_sub(1)) {
            Some(before) if before.len() > prefix.len() => {
                objects.list_with_offset(folder, &self.below_root(before))
            }
            _ => objects.list(folder),
        };
        let metas = match runtime()?.block_on(heeded(listing.try_collect())) {
            Err(trouble) if self.built.place.wants_steps(&trouble) => {
                self.ask("list", folder_noun(prefix), stepwise(&**objects, folder))?
            }
            listed => listed.map_err(|trouble| {
                self.built
                    .place
                    .explain("list", folder_noun(prefix), &trouble)
            })?,
        };
        let mut listed: Vec<Listed> = metas
            .iter()
            .filter_map(|meta| self.listed(meta, prefix, from))
            .collect();
        listed.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        listed.dedup_by(|one, other| one.name == other.name);
        Ok(listed)
    }

    /// An object of a listing; None for what no store of this kind has written.
    fn listed(&self, meta: &ObjectMeta, prefix: &str, from: &str) -> Option<Listed> {
        let root = self.built.root.as_ref();
        let name = meta.location.as_ref().strip_prefix(root)?;
        let name = match root.is_empty() {
            true => name,
            false => name.strip_prefix('/')?,
        };
        let is_asked_for = name.starts_with(prefix) && name >= from;
        (is_asked_for && check_name(name).is_ok()).then(|| Listed {
            name: name.to_owned(),
            length: meta.size,
        })
    }

    fn known_empty(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known_empty
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Is there nothing below the place? Asks for a first page only.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_empty(&self) -> Result<bool> {
        let folder = Some(&self.built.root).filter(|root| !root.as_ref().is_empty());
        let mut listing = self.built.objects.list(folder);
        let first = heeded(async move { listing.next().await.transpose() });
        Ok(self.ask("list", "what is there", first)?.is_none())
    }
}

/// All objects below a folder, asked for folder by folder, a few at once.
async fn stepwise(
    objects: &dyn ObjectStore,
    folder: Option<&Path>,
) -> std::result::Result<Vec<ObjectMeta>, Trouble> {
    const FOLDERS_AT_ONCE: usize = 8;
    let mut found = Vec::new();
    let mut waiting = vec![folder.cloned().unwrap_or_default()];
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < FOLDERS_AT_ONCE
            && let Some(folder) = waiting.pop()
        {
            under_way.push(heeded(async move {
                objects.list_with_delimiter(Some(&folder)).await
            }));
        }
        let Some(listed) = under_way.next().await else {
            return Ok(found);
        };
        match listed {
            Ok(listed) => {
                found.extend(listed.objects);
                waiting.extend(listed.common_prefixes);
            }
            // A folder that nobody has made, or that has gone since.
            Err(trouble) if trouble.is_missing() => {}
            Err(trouble) => return Err(trouble),
        }
    }
}

fn folder_noun(prefix: &str) -> &str {
    match prefix {
        "" => "what is there",
        prefix => prefix,
    }
}

impl Store for RemoteStore {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        let objects = &*self.built.objects;
        let whole = self.ask("read", name, reading::whole(objects, &path))?;
        match whole {
            reading::Whole::Bytes(bytes) => Ok(bytes),
            reading::Whole::TooLong(length) => {
                check_whole(name, length)?;
                Err(Error::corrupt(name, "its length is not what it was"))
            }
        }
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        range_length(name, &range)?;
        let path = self.path(name)?;
        let objects = &*self.built.objects;
        let part = self.ask("read", name, reading::part(objects, &path, range.clone()))?;
        match part {
            reading::Part::Bytes(bytes) => Ok(bytes),
            reading::Part::Ends(length) => Err(range_error(name, &range, length)),
            reading::Part::Outside => Err(range_error(name, &range, self.length(name, &path)?)),
        }
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        let path = self.path(name)?;
        let objects = &*self.built.objects;
        if self.built.has_tails
            && length > 0
            && let Some(tail) = self.ask("read", name, reading::tail(objects, &path, length))?
        {
            return Ok(tail);
        }
        let whole = self.length(name, &path)?;
        match whole.saturating_sub(length)..whole {
            nothing if nothing.is_empty() => Ok((Vec::new(), whole)),
            range => Ok((self.get_range(name, range)?, whole)),
        }
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        let path = self.path(name)?;
        self.create(name, &path, body)?;
        self.known_empty()
            .retain(|prefix| !name.starts_with(prefix));
        Ok(())
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        check_listing(prefix, from)?;
        let mut listed = self.list_once(prefix, from)?;
        // An empty answer is what a broken server gives most easily, and what does most harm if it is believed.
        if listed.is_empty() && prefix != BELIEVED_EMPTY && !self.known_empty().contains(prefix) {
            listed = self.list_once(prefix, from)?;
            if listed.is_empty() {
                self.known_empty().insert(prefix.to_owned());
            }
        }
        if !listed.is_empty() {
            self.known_empty().remove(prefix);
        }
        Ok(listed)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        let deletion = async {
            match heeded(self.built.objects.delete(&path)).await {
                Err(trouble) if trouble.is_missing() => Ok(()),
                result => result,
            }
        };
        self.ask("delete", name, deletion)
    }

    fn location(&self) -> String {
        self.built.place.shown.clone()
    }

    fn is_distant(&self) -> bool {
        true
    }

    fn disbelieve(&self, _name: &str) -> bool {
        // Something between here and the server may have damaged them.
        true
    }
}

/// A put that leaves alone what is there, and one that does not.
fn mode(is_conditional: bool) -> PutMode {
    match is_conditional {
        true => PutMode::Create,
        false => PutMode::Overwrite,
    }
}

#[cfg(test)]
mod tests;
