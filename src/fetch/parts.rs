//! Parts of several chunks, put where the reader wants them.
//!
//! A large chunk that is wanted whole is opened right there: it is neither kept in memory nor copied, since whoever reads
//! so much reads on, and the kernel keeps what it was given. So a scan of a large file costs the memory cache nothing.
//! All else comes through memory. What lies side by side in a pack comes in one request either way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::{Error, Result};
use crate::format::ChunkPlace;
use crate::seal::SealedKind;

use super::batch::{PlaceKey, Wanted, group};
use super::frame::check_id;
use super::memory::{Claim, Flight, Lead};
use super::waiting::check_may_wait;
use super::{Cached, Fetcher};

/// Shorter chunks are kept in memory even if they are wanted whole: they may share a frame.
const UNKEPT_BYTES_MIN: u32 = 32 << 10;

/// A part of a chunk, and where it is wanted.
pub struct ChunkPart<'a> {
    pub place: ChunkPlace,
    /// Which bytes of the chunk.
    pub range: Range<usize>,
    /// Room for exactly these.
    pub into: &'a mut [u8],
}

/// Parts that are not in memory.
#[derive(Default)]
struct Absent<'a> {
    /// Those to load, by number; with the duty to end the fetch if what comes is to be kept.
    loads: Vec<(usize, Option<Lead<'a, PlaceKey, Cached>>)>,
    /// Those that somebody else loads.
    follows: Vec<(usize, Arc<Flight<Cached>>)>,
    /// Those that have come meanwhile.
    came: Vec<(usize, Cached)>,
}

impl ChunkPart<'_> {
    fn wanted(&self) -> Wanted<'static> {
        Wanted::frame(SealedKind::Data, &self.place)
    }

    /// Is it a large chunk, wanted whole?
    fn is_unkept(&self) -> bool {
        let whole = self.place.length;
        whole >= UNKEPT_BYTES_MIN
            && self.place.hint.offset_in_frame == 0
            && self.range == (0..whole as usize)
    }
}

impl Fetcher {
    /// Puts parts of chunks of files' content where they are wanted, each chunk verified.
    ///
    /// # Errors
    /// The first failure among them, as `chunk` has it: what is in any part is then of no meaning.
    ///
    /// # Panics
    /// If a part's room is not as long as its range.
    pub fn read_parts(&self, parts: &mut [ChunkPart<'_>]) -> Result<()> {
        let absent = self.copy_present(parts)?;
        if let Some(number) = absent.first() {
            check_may_wait(parts[*number].wanted().key)?;
        }
        let Absent {
            mut loads,
            follows,
            came,
        } = self.claim_absent(parts, absent);
        loads.sort_by_key(|(number, _)| parts[*number].wanted().key);
        let wanted: Vec<Wanted<'_>> = loads
            .iter()
            .map(|(number, _)| parts[*number].wanted())
            .collect();
        let mut loads = loads.into_iter();
        let mut first_failure = Ok(());
        for neighbours in group(&wanted, self.bounds()) {
            self.load(neighbours, &mut |wanted, sealed| {
                let (number, lead) = loads.next().expect("each that is loaded was to be");
                let result = self.take_loaded(wanted, sealed, lead, &mut parts[number]);
                if first_failure.is_ok() {
                    first_failure = result;
                }
            });
        }
        first_failure?;
        // Only now, since what is waited for may be led above.
        for (number, flight) in follows {
            let wanted = parts[number].wanted();
            self.copy(self.follow(&flight, &wanted), &mut parts[number])?;
        }
        for (number, cached) in came {
            self.copy(Ok(cached), &mut parts[number])?;
        }
        Ok(())
    }

    /// Copies the parts that are in memory, and tells which are not.
    fn copy_present(&self, parts: &mut [ChunkPart<'_>]) -> Result<Vec<usize>> {
        let mut absent = Vec::new();
        for (number, part) in parts.iter_mut().enumerate() {
            match self.memory.get(&part.wanted().key) {
                Some(cached) => self.copy(Ok(cached), part)?,
                None => absent.push(number),
            }
        }
        Ok(absent)
    }

    /// Settles who loads each of the parts that were not in memory. Nothing may fail from here on until all that is led
    /// has ended: whoever follows would fail with it.
    fn claim_absent(&self, parts: &[ChunkPart<'_>], numbers: Vec<usize>) -> Absent<'_> {
        let mut absent = Absent::default();
        for number in numbers {
            let part = &parts[number];
            let key = part.wanted().key;
            let claim = match part.is_unkept() {
                true => self.memory.look(&key),
                false => Some(self.memory.claim(&key)),
            };
            match claim {
                Some(Claim::Ready(cached)) => absent.came.push((number, cached)),
                Some(Claim::Follow(flight)) => absent.follows.push((number, flight)),
                Some(Claim::Lead(lead)) => absent.loads.push((number, Some(lead))),
                None => absent.loads.push((number, None)),
            }
        }
        absent
    }

    /// Puts what was loaded for a part where it is wanted, and into memory if it is to be kept.
    fn take_loaded(
        &self,
        wanted: &Wanted<'_>,
        sealed: Result<&[u8]>,
        lead: Option<Lead<'_, PlaceKey, Cached>>,
        part: &mut ChunkPart<'_>,
    ) -> Result<()> {
        if let Some(lead) = lead {
            let opened = sealed.and_then(|sealed| self.open_believed(wanted, sealed));
            lead.complete(&opened);
            return self.copy(opened, part);
        }
        sealed
            .and_then(|sealed| self.open_unkept(wanted, sealed, part))
            .or_else(|error| {
                let chunk = self.recover(wanted.kind, &part.place, error)?;
                part.into.copy_from_slice(&chunk);
                Ok(())
            })
    }

    /// Opens a frame where its only chunk is wanted.
    fn open_unkept(
        &self,
        wanted: &Wanted<'_>,
        sealed: &[u8],
        part: &mut ChunkPart<'_>,
    ) -> Result<()> {
        let seal = self.repository().seal();
        let located = |error: Error| error.context(wanted.key);
        let frame = seal
            .frame(wanted.kind, sealed, wanted.kind.plain_bytes_max())
            .map_err(located)?;
        if frame.plain_length() != part.into.len() {
            // It has other chunks too.
            return self.copy(self.open(wanted, sealed), part);
        }
        frame.open_into(part.into).map_err(located)?;
        self.frames.fetch_add(1, Ordering::Relaxed);
        check_id(seal, wanted.kind, &part.place, part.into).map_err(located)
    }

    /// Copies a part out of its frame, or from wherever else its chunk is.
    fn copy(&self, cached: Result<Cached>, part: &mut ChunkPart<'_>) -> Result<()> {
        let place = part.place;
        let chunk = cached
            .and_then(|cached| self.verified(cached, &place))
            .or_else(|error| self.recover(SealedKind::Data, &place, error))?;
        part.into.copy_from_slice(&chunk[part.range.clone()]);
        Ok(())
    }
}
