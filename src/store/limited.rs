//! A decorator that keeps another store within rates: for stores that do not mind them byte by byte themselves.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::base::{Error, Result};

use super::{Body, Listed, Pace, Rates, Store};

/// Another store, within rates.
pub struct Limited {
    inner: Arc<dyn Store>,
    rates: Rates,
}

impl Limited {
    /// `inner` within `rates`; itself, if there are none.
    pub fn over(inner: Arc<dyn Store>, rates: Rates) -> Arc<dyn Store> {
        match rates.upload.is_some() || rates.download.is_some() {
            true => Arc::new(Self { inner, rates }),
            false => inner,
        }
    }

    fn downloaded(&self, bytes: usize) {
        wait(self.rates.download.as_deref(), bytes as u64);
    }
}

/// Counts bytes, and waits until they are paid for.
fn wait(pace: Option<&Pace>, bytes: u64) {
    if let Some(pace) = pace {
        std::thread::sleep(pace.charge(bytes, Instant::now()));
    }
}

impl Store for Limited {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let bytes = self.inner.get(name)?;
        self.downloaded(bytes.len());
        Ok(bytes)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let bytes = self.inner.get_range(name, range)?;
        self.downloaded(bytes.len());
        Ok(bytes)
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        let (bytes, length) = self.inner.get_tail(name, length)?;
        self.downloaded(bytes.len());
        Ok((bytes, length))
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        let length = body
            .length()
            .map_err(|error| Error::io(format_args!("write {name}"), error))?;
        wait(self.rates.upload.as_deref(), length);
        self.inner.put_new(name, body)
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        self.inner.list(prefix, from)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name)
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
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::super::MemoryStore;
    use super::*;

    fn pace() -> Option<Arc<Pace>> {
        NonZeroU64::new(100_000).map(|rate| Arc::new(Pace::new(rate)))
    }

    #[test]
    fn bytes_take_their_time_in_each_direction() {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let rates = Rates {
            upload: pace(),
            download: pace(),
        };
        let store = Limited::over(memory, rates);
        let begun = Instant::now();
        let bytes = [7; 20_000];
        store.put_new("index/a", Body::Bytes(&[&bytes])).unwrap();
        store.get("index/a").unwrap();
        // 0.2 s each, less the burst of 0.1 s.
        assert!(begun.elapsed() >= Duration::from_millis(200));
    }
}
