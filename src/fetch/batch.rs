//! Fetching what is not in memory: several sealed pieces at once, neighbours in one request.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use crate::base::{Error, ErrorKind, PackId, Result, RunId};
use crate::format::{ChunkPlace, pack_name, run_name};
use crate::seal::{SEAL_OVERHEAD_BYTES, SealedKind, sealed_bytes_max};

use super::distant::too_late;
use super::frame::Frame;
use super::memory::{Claim, Flight};
use super::waiting::check_may_wait;
use super::{Cached, Fetcher, Piece};

/// Bytes between two pieces that are fetched and thrown away rather than asking twice: what a local disk reads in
/// less time than a second request takes.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// The same where each request waits out a network's delay.
const DISTANT_GAP_BYTES_MAX: u64 = 256 << 10;

/// The same for what is fetched ahead: several requests wait at a time, and what lies between two pieces is most often on
/// its way already.
const AHEAD_GAP_BYTES_MAX: u64 = 8 << 10;

/// Bytes of one request for several pieces, so that little waits for much.
const REQUEST_BYTES_MAX: u64 = 8 << 20;

thread_local! {
    /// Where a run's piece is opened, since how long it is becomes known on the way.
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An object that holds sealed pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Object {
    Run(RunId),
    Pack(PackId),
}

/// What may come with one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Between two pieces.
    gap_bytes_max: u64,
    request_bytes_max: u64,
}

/// What the memory cache knows a piece by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PlaceKey {
    pub(super) object: Object,
    pub(super) offset: u64,
}

/// A sealed piece to fetch and open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) key: PlaceKey,
    length: u32,
    pub(super) kind: SealedKind,
    associated: &'a [u8],
}

impl Object {
    fn name(self) -> String {
        match self {
            Self::Run(id) => run_name(&id),
            Self::Pack(id) => pack_name(&id),
        }
    }
}

impl fmt::Display for PlaceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.object {
            Object::Run(id) => write!(f, "run {id} at {}", self.offset),
            Object::Pack(id) => write!(f, "pack {id}, frame at {}", self.offset),
        }
    }
}

impl<'a> Wanted<'a> {
    pub(super) fn piece(piece: &Piece<'a>) -> Self {
        Self {
            key: PlaceKey {
                object: Object::Run(piece.run),
                offset: piece.offset,
            },
            length: piece.length,
            kind: piece.kind,
            associated: piece.associated,
        }
    }
}

impl Bounds {
    /// For what is fetched ahead, by requests of so many bytes.
    pub(super) fn ahead(request_bytes_max: u64) -> Self {
        Self {
            gap_bytes_max: AHEAD_GAP_BYTES_MAX,
            request_bytes_max,
        }
    }
}

impl Wanted<'static> {
    pub(super) fn frame(kind: SealedKind, place: &ChunkPlace) -> Self {
        Self {
            key: PlaceKey {
                object: Object::Pack(place.hint.pack),
                offset: u64::from(place.hint.frame_offset),
            },
            length: place.hint.frame_length,
            kind,
            associated: &[],
        }
    }
}

impl Wanted<'_> {
    fn range(&self) -> Range<u64> {
        self.key.offset..self.key.offset.saturating_add(u64::from(self.length))
    }

    /// Refuses a length that nothing sealed can have, before so much is fetched.
    fn check(&self) -> Result<()> {
        let length = self.length as usize;
        let most = sealed_bytes_max(self.kind.plain_bytes_max());
        if (SEAL_OVERHEAD_BYTES..=most).contains(&length) {
            return Ok(());
        }
        Err(Error::corrupt(
            self.key,
            format_args!("{} cannot have {length} bytes", self.kind),
        ))
    }

    /// How many sealed bytes.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.length)
    }

    /// Can `next`, which lies at or after this in the order of places, come with a request that begins at `start`
    /// and ends with this?
    fn can_bring(&self, next: &Self, start: u64, bounds: &Bounds) -> bool {
        self.key.object == next.key.object
            && next.key.offset.saturating_sub(self.range().end) <= bounds.gap_bytes_max
            && next.range().end - start <= bounds.request_bytes_max
    }
}

impl Fetcher {
    /// One piece that was not in memory a moment ago.
    pub(super) fn fetch_one(&self, wanted: &Wanted<'_>) -> Result<Cached> {
        check_may_wait(wanted.key)?;
        match self.claim_or_load(wanted) {
            Ok(loaded) => loaded,
            Err(flight) => self.follow(&flight, wanted),
        }
    }

    /// What is in memory, or is loaded now; else the fetch to wait for.
    fn claim_or_load(
        &self,
        wanted: &Wanted<'_>,
    ) -> std::result::Result<Result<Cached>, Arc<Flight<Cached>>> {
        match self.memory.claim(&wanted.key) {
            Claim::Ready(cached) => Ok(Ok(cached)),
            Claim::Follow(flight) => Err(flight),
            Claim::Lead(lead) => {
                let loaded = self.load_one(wanted);
                lead.complete(&loaded);
                Ok(loaded)
            }
        }
    }

    /// What another one fetches. If the store did not answer that one, who may have asked long ago, it is asked once more,
    /// if there is time: it may answer again.
    pub(super) fn follow(&self, flight: &Flight<Cached>, wanted: &Wanted<'_>) -> Result<Cached> {
        let Some(distant) = &self.distant else {
            return flight.wait();
        };
        let deadline = distant.deadline();
        let wait = |flight: &Flight<Cached>| {
            flight
                .wait_until(deadline)
                .unwrap_or_else(|| Err(too_late("what another reader asked for")))
        };
        match wait(flight) {
            Err(error) if error.kind() == ErrorKind::Unreachable && Instant::now() < deadline => {
                match self.claim_or_load(wanted) {
                    Ok(loaded) => loaded,
                    Err(flight) => wait(&flight),
                }
            }
            outcome => outcome,
        }
    }

    /// Pieces in the order asked, from memory or from the store.
    pub(super) fn fetch(&self, wanted: &[Wanted<'_>]) -> Vec<Result<Cached>> {
        let mut outcomes: Vec<Option<Result<Cached>>> = wanted
            .iter()
            .map(|one| self.memory.get(&one.key).map(Ok))
            .collect();
        let mut leads = Vec::new();
        let mut follows = Vec::new();
        for (place, one) in wanted.iter().enumerate() {
            if outcomes[place].is_some() {
                continue;
            }
            if let Err(error) = check_may_wait(one.key) {
                outcomes[place] = Some(Err(error));
                continue;
            }
            match self.memory.claim(&one.key) {
                Claim::Ready(cached) => outcomes[place] = Some(Ok(cached)),
                Claim::Follow(flight) => follows.push((place, flight)),
                Claim::Lead(lead) => leads.push((place, lead)),
            }
        }
        leads.sort_by_key(|(place, _)| wanted[*place].key);
        let ordered: Vec<Wanted<'_>> = leads.iter().map(|(place, _)| wanted[*place]).collect();
        let mut leads = leads.into_iter();
        for neighbours in group(&ordered, self.bounds()) {
            self.load(neighbours, &mut |one, sealed| {
                let (place, lead) = leads.next().expect("each that is loaded has a leader");
                let opened = sealed.and_then(|sealed| self.open_believed(one, sealed));
                lead.complete(&opened);
                outcomes[place] = Some(opened);
            });
        }
        // Only now, since what is waited for may be led above.
        for (place, flight) in follows {
            outcomes[place] = Some(self.follow(&flight, &wanted[place]));
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.expect("each piece is ready, led or followed"))
            .collect()
    }

    /// Gives `take` the sealed bytes of neighbours, in order. They come by one request; where that fails, each by its
    /// own, so that one bad place costs no other.
    pub(super) fn load(
        &self,
        neighbours: &[Wanted<'_>],
        take: &mut dyn FnMut(&Wanted<'_>, Result<&[u8]>),
    ) {
        if let [first, .., last] = neighbours {
            let start = first.key.offset;
            match self.request(first.key.object, start..last.range().end) {
                Ok(bytes) => {
                    for one in neighbours {
                        let Range { start: from, end } = one.range();
                        let sealed = &bytes[(from - start) as usize..(end - start) as usize];
                        take(one, Ok(sealed));
                    }
                    return;
                }
                // Each by its own would be waited for as long again.
                Err(error) if error.kind() == ErrorKind::Unreachable => {
                    for one in neighbours {
                        let error = Error::new(error.kind(), error.to_string());
                        take(one, Err(error.context(one.key)));
                    }
                    return;
                }
                Err(_) => {}
            }
        }
        for one in neighbours {
            match self.load_sealed(one) {
                Ok(sealed) => take(one, Ok(&sealed)),
                Err(error) => take(one, Err(error)),
            }
        }
    }

    /// Can a piece be had without a network?
    pub(super) fn is_here(&self, wanted: &Wanted<'_>) -> bool {
        if self.distant.is_none() || self.memory.is_known(&wanted.key) {
            return true;
        }
        let (name, range) = (wanted.key.object.name(), wanted.range());
        let nearby = self.repository().store().get_range_nearby(&name, range);
        nearby.is_some()
    }

    /// What may come with one request from this store.
    pub(super) fn bounds(&self) -> Bounds {
        let gap_bytes_max = match self.distant {
            None => GAP_BYTES_MAX,
            Some(_) => DISTANT_GAP_BYTES_MAX,
        };
        Bounds {
            gap_bytes_max,
            request_bytes_max: REQUEST_BYTES_MAX,
        }
    }

    fn load_one(&self, wanted: &Wanted<'_>) -> Result<Cached> {
        self.open_believed(wanted, &self.load_sealed(wanted)?)
    }

    /// Opens a piece; if that fails, and the store may have given other bytes than it has, the piece is loaded once more.
    pub(super) fn open_believed(&self, wanted: &Wanted<'_>, sealed: &[u8]) -> Result<Cached> {
        match self.open(wanted, sealed) {
            Err(error) if self.is_disbelieved(wanted.key.object, &error) => {
                self.open(wanted, &self.load_sealed(wanted)?)
            }
            result => result,
        }
    }

    /// Tells the store of a failure, if it is damage. Returns whether asking again may help.
    pub(super) fn is_disbelieved(&self, object: Object, error: &Error) -> bool {
        let store = self.repository().store();
        error.kind() == ErrorKind::Corrupt && store.disbelieve(&object.name())
    }

    fn load_sealed(&self, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        wanted.check()?;
        self.request(wanted.key.object, wanted.range())
            .map_err(|error| error.context(wanted.key))
    }

    fn request(&self, object: Object, range: Range<u64>) -> Result<Vec<u8>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let name = object.name();
        let bytes = match &self.distant {
            None => self.repository().store().get_range(&name, range)?,
            Some(distant) => distant.get_range(&name, range)?,
        };
        self.fetched_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Opens a piece, whose tag is checked, or a frame, whose chunks are yet to be.
    pub(super) fn open(&self, wanted: &Wanted<'_>, sealed: &[u8]) -> Result<Cached> {
        let kind = wanted.kind;
        let seal = self.repository().seal();
        let opened = match wanted.key.object {
            Object::Run(_) => PLAIN.with_borrow_mut(|plain| {
                seal.open_into(
                    kind,
                    wanted.associated,
                    sealed,
                    kind.plain_bytes_max(),
                    plain,
                )?;
                let mut kept = self.buffers.take(plain.len());
                kept.copy_from_slice(plain);
                Ok(Cached::Piece(Bytes::from_owner(kept)))
            }),
            Object::Pack(_) => seal
                .frame(kind, sealed, kind.plain_bytes_max())
                .and_then(|frame| {
                    let mut plain = self.buffers.take(frame.plain_length());
                    frame.open_into(&mut plain)?;
                    self.frames.fetch_add(1, Ordering::Relaxed);
                    Ok(Cached::Frame(Arc::new(Frame::new(kind, plain))))
                }),
        };
        opened.map_err(|error| error.context(wanted.key))
    }
}

/// Splits pieces, which are in order of places, into those that one request brings. A piece of an impossible length
/// stays by itself, and is refused there; so does one that reaches into the one before.
pub(super) fn group<'a, 'b>(
    ordered: &'a [Wanted<'b>],
    bounds: Bounds,
) -> impl Iterator<Item = &'a [Wanted<'b>]> {
    let mut start = ordered.first().map_or(0, |first| first.key.offset);
    ordered.chunk_by(move |one, next| {
        let together = one.check().is_ok()
            && next.check().is_ok()
            && one.range().end <= next.key.offset
            && one.can_bring(next, start, &bounds);
        if !together {
            start = next.key.offset;
        }
        together
    })
}
