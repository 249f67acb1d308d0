//! A decorator that remembers every request, so that tests can count them and the mount can tell its numbers.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Result;

use super::{Body, Listed, Store};

/// Which of the store's operations was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    Get,
    GetRange,
    GetTail,
    PutNew,
    List,
    Delete,
}

/// One request that was made of a store, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kind: RequestKind,
    /// The object's name, or a listing's prefix.
    pub name: String,
    /// Bytes that went to or came from the store; of a listing and a deletion none.
    pub bytes: u64,
}

/// Another store, and all that was asked of it.
pub struct Recording {
    inner: Arc<dyn Store>,
    requests: Mutex<Vec<Request>>,
}

impl Recording {
    /// Records what is asked of `inner` from now on.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            requests: Mutex::default(),
        }
    }

    /// The requests since the last call of this, in the order in which they ended.
    pub fn take(&self) -> Vec<Request> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut requests)
    }

    fn record(&self, kind: RequestKind, name: &str, bytes: u64) {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Request {
                kind,
                name: name.to_owned(),
                bytes,
            });
    }
}

impl Store for Recording {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let result = self.inner.get(name);
        let bytes = result.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.record(RequestKind::Get, name, bytes);
        result
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let result = self.inner.get_range(name, range);
        let bytes = result.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.record(RequestKind::GetRange, name, bytes);
        result
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        let result = self.inner.get_tail(name, length);
        let bytes = result.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64);
        self.record(RequestKind::GetTail, name, bytes);
        result
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        let bytes = body.length().unwrap_or(0);
        let result = self.inner.put_new(name, body);
        self.record(RequestKind::PutNew, name, bytes);
        result
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        let result = self.inner.list(prefix, from);
        self.record(RequestKind::List, prefix, 0);
        result
    }

    fn delete(&self, name: &str) -> Result<()> {
        let result = self.inner.delete(name);
        self.record(RequestKind::Delete, name, 0);
        result
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_distant(&self) -> bool {
        self.inner.is_distant()
    }

    fn get_range_nearby(&self, name: &str, range: Range<u64>) -> Option<Vec<u8>> {
        self.inner.get_range_nearby(name, range)
    }

    fn disbelieve(&self, name: &str) -> bool {
        self.inner.disbelieve(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    #[test]
    fn requests_are_remembered_with_their_bytes_until_they_are_taken() {
        let store = Recording::new(Arc::new(MemoryStore::new()));
        store
            .put_new("points/a", Body::Bytes(&[b"abc", b"de"]))
            .unwrap();
        store.get_range("points/a", 1..3).unwrap();
        store.get("points/b").unwrap_err();
        let request = |kind, name: &str, bytes| Request {
            kind,
            name: name.to_owned(),
            bytes,
        };
        assert_eq!(
            store.take(),
            [
                request(RequestKind::PutNew, "points/a", 5),
                request(RequestKind::GetRange, "points/a", 2),
                request(RequestKind::Get, "points/b", 0),
            ]
        );
        assert!(store.take().is_empty());
    }
}
