//! Bytes from several places, gathered into one.

use std::ops::Deref;
use std::sync::Arc;

use crate::base::Result;

use super::Fetcher;
use super::buffer::Buffer;

/// Bytes that lie side by side, in memory that is used again. Cheap to clone.
#[derive(Clone)]
pub struct Gathered {
    bytes: Arc<Buffer>,
}

impl Fetcher {
    /// Makes room for `length` bytes and has `fill` fill it, all of it: it holds what it held before.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn gather(
        &self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Gathered> {
        let mut bytes = self.buffers.take(length);
        fill(&mut bytes)?;
        Ok(Gathered {
            bytes: Arc::new(bytes),
        })
    }
}

impl Deref for Gathered {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
