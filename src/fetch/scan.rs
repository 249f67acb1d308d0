//! Many chunks, each given to the caller once in the order of their places: for one who reads a whole tree.
//!
//! What lies side by side in a pack comes in one request, and each frame is opened once, into memory that is used again;
//! nothing of it enters the memory cache, so that a scan of any length takes no more than a request and a frame.

use std::sync::atomic::Ordering;

use crate::base::{Error, ErrorKind, Result};
use crate::format::ChunkPlace;
use crate::seal::SealedKind;

use super::Fetcher;
use super::batch::{Wanted, group};
use super::buffer::Buffer;
use super::frame::check_id;

impl Fetcher {
    /// Gives `take` each of these chunks of files' content, verified, with its number among `places`, which are in order:
    /// of packs, and of offsets in them. One that is not whole there comes from wherever else it is.
    ///
    /// What comes in place of a chunk is why it is nowhere, as `chunk` has it.
    pub fn scan(&self, places: &[ChunkPlace], take: &mut dyn FnMut(usize, Result<&[u8]>)) {
        let mut wanted: Vec<Wanted<'static>> = places
            .iter()
            .map(|place| Wanted::frame(SealedKind::Data, place))
            .collect();
        wanted.dedup_by_key(|wanted| wanted.key);
        let mut number = 0;
        for neighbours in group(&wanted, self.bounds()) {
            self.load(neighbours, &mut |frame, sealed| {
                let opened = sealed.and_then(|sealed| self.open_once(frame, sealed));
                while let Some(place) = places.get(number)
                    && Wanted::frame(SealedKind::Data, place).key == frame.key
                {
                    self.take_from(&opened, frame, place, &mut |chunk| take(number, chunk));
                    number += 1;
                }
            });
        }
    }

    /// Opens a frame that is not kept.
    fn open_once(&self, wanted: &Wanted<'_>, sealed: &[u8]) -> Result<Buffer> {
        let seal = self.repository().seal();
        seal.frame(wanted.kind, sealed, wanted.kind.plain_bytes_max())
            .and_then(|frame| {
                let mut plain = self.buffers.take(frame.plain_length());
                frame.open_into(&mut plain)?;
                self.frames.fetch_add(1, Ordering::Relaxed);
                Ok(plain)
            })
            .map_err(|error| error.context(wanted.key))
    }

    /// A chunk out of its frame, or from elsewhere if that is damaged.
    fn take_from(
        &self,
        opened: &Result<Buffer>,
        wanted: &Wanted<'_>,
        place: &ChunkPlace,
        take: &mut dyn FnMut(Result<&[u8]>),
    ) {
        let found = match opened {
            Ok(plain) => self
                .chunk_in(plain, wanted.kind, place)
                .map_err(|error| error.context(wanted.key)),
            Err(error) => Err(Error::new(error.kind(), error.to_string())),
        };
        match found {
            Ok(bytes) => take(Ok(bytes)),
            Err(error) => match self.recover(wanted.kind, place, error) {
                Ok(chunk) => take(Ok(&chunk)),
                Err(error) => take(Err(error)),
            },
        }
    }

    fn chunk_in<'a>(
        &self,
        plain: &'a [u8],
        kind: SealedKind,
        place: &ChunkPlace,
    ) -> Result<&'a [u8]> {
        let offset = place.hint.offset_in_frame as usize;
        let bytes = plain
            .get(offset..offset + place.length as usize)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "the frame has {} bytes, too few for chunk {}",
                        plain.len(),
                        place.id
                    ),
                )
            })?;
        check_id(self.repository().seal(), kind, place, bytes)?;
        Ok(bytes)
    }
}
