//! What a reader does whose hint failed.

use crate::base::{Error, Result};
use crate::format::ChunkPlace;
use crate::seal::SealedKind;

use super::{ChunkBytes, Fetcher};

impl Fetcher {
    /// Names the chunk in the failure of its hint.
    pub(super) fn recover(
        &self,
        _kind: SealedKind,
        place: &ChunkPlace,
        first: Error,
    ) -> Result<ChunkBytes> {
        Err(first.context(format_args!("chunk {}", place.id)))
    }
}
