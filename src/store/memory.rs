//! A store in memory, for tests, and stricter than the real ones: whatever a real store may or may not forgive, this
//! one refuses.
//!
//! It never overwrites, refuses to delete unless told otherwise (append-only stores do), answers no range that leaves
//! its object by a byte, and refuses a file that changed its length while it was read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::base::{Error, ErrorKind, Result};

use super::name::{check_listing, check_name, check_whole, range_error, range_length};
use super::{Body, Listed, Store};

type Objects = BTreeMap<String, Arc<[u8]>>;

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: RwLock<Objects>,
    append_only: bool,
}

impl MemoryStore {
    /// A store with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with nothing in it that refuses every deletion, as one with object locks does.
    pub fn append_only() -> Self {
        Self {
            append_only: true,
            ..Self::default()
        }
    }

    /// All objects by name, as they are now.
    pub fn objects(&self) -> BTreeMap<String, Arc<[u8]>> {
        self.read().clone()
    }

    /// Puts `bytes` in the place of an object, as a failing disk or a person might: for tests of damage.
    pub fn damage(&self, name: &str, bytes: &[u8]) {
        self.write().insert(name.to_owned(), bytes.into());
    }

    /// Takes an object away behind everybody's back: for tests of damage.
    pub fn lose(&self, name: &str) {
        self.write().remove(name);
    }

    /// No operation leaves the map half changed, so that a panic elsewhere does not spoil it.
    fn read(&self) -> RwLockReadGuard<'_, Objects> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &str) -> Result<Arc<[u8]>> {
        check_name(name)?;
        self.read()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::missing(name))
    }
}

impl Store for MemoryStore {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let object = self.object(name)?;
        check_whole(name, object.len() as u64)?;
        Ok(object.to_vec())
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        range_length(name, &range)?;
        let object = self.object(name)?;
        usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(start, end)| object.get(start..end))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| range_error(name, &range, object.len() as u64))
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        let object = self.object(name)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let start = object.len().saturating_sub(length);
        Ok((object[start..].to_vec(), object.len() as u64))
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        check_name(name)?;
        let bytes = read_body(name, body)?;
        let mut objects = self.write();
        if objects.contains_key(name) {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("{name} exists already"),
            ));
        }
        objects.insert(name.to_owned(), bytes.into());
        Ok(())
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        check_listing(prefix, from)?;
        let start = from.max(prefix).to_owned();
        Ok(self
            .read()
            .range(start..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, object)| Listed {
                name: name.clone(),
                length: object.len() as u64,
            })
            .collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        if self.append_only {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("{name} may not be deleted: the store is append-only"),
            ));
        }
        self.write().remove(name);
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

/// The whole body, which must have the length that it says.
fn read_body(name: &str, body: Body<'_>) -> Result<Vec<u8>> {
    let failed = |error| Error::io(format_args!("write {name}"), error);
    let length = body.length().map_err(failed)?;
    match body {
        Body::Bytes(pieces) => Ok(pieces.concat()),
        Body::Shared(pieces) => Ok(pieces.concat()),
        Body::File(file) => {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, 0).map_err(failed)?;
            if file.metadata().map_err(failed)?.len() == length {
                return Ok(bytes);
            }
            Err(Error::new(
                ErrorKind::Failed,
                format!("cannot write {name}: the file changed while it was read"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_only_store_deletes_nothing() {
        let store = MemoryStore::append_only();
        store.put_new("config", Body::Bytes(&[b"a"])).unwrap();
        assert_eq!(
            store.delete("config").unwrap_err().kind(),
            ErrorKind::Denied
        );
        assert_eq!(store.get("config").unwrap(), b"a");
    }
}
