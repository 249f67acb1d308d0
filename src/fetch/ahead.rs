//! Fetching what somebody is likely to ask for, from a distant store, before they do.
//!
//! Frames that lie side by side come in one request, several requests at a time, into the memory cache. How much is under
//! way follows from what the line was measured to do, and all of it together is bounded by a part of the cache. What nobody
//! is interested in any longer (a reader has gone elsewhere) is not begun. What goes wrong here goes wrong again, and is
//! told, when it is asked for.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::base::{PackId, Result};
use crate::format::ChunkPlace;
use crate::repo::Repository;
use crate::seal::SealedKind;

use super::Fetcher;
use super::batch::{Bounds, Wanted, group};
use super::memory::Claim;

/// Requests that share what one reader has ahead: while one brings bytes, the others wait out their delays.
const REQUESTS_AHEAD: u64 = 6;

/// Bytes of one request, for what is ahead: little enough that its first frame is soon there, enough that a request's own
/// cost is small.
const REQUEST_BYTES_MIN: u64 = 384 << 10;
const REQUEST_BYTES_MAX: u64 = 1 << 20;

/// What a reader in order should have ahead of it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadBytes {
    /// As they come over the line: what keeps it busy.
    pub sealed: u64,
    /// As they lie in memory: more would push out what is ahead before it is read.
    pub plain: u64,
}

/// Somebody's interest in what is fetched ahead for them. Dropped, it ends, and so does all that was not begun yet.
#[derive(Debug, Default)]
pub struct Interest(Arc<()>);

/// Bytes that are under way ahead; counted until dropped.
struct UnderWay {
    fetcher: Arc<Fetcher>,
    bytes: u64,
}

/// An interest as those see it who work for it.
#[derive(Debug, Clone)]
pub struct Interested(Weak<()>);

impl Interest {
    /// For those who work for it.
    pub fn watch(&self) -> Interested {
        Interested(Arc::downgrade(&self.0))
    }
}

impl Interested {
    /// Does it go on?
    pub fn is_there(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Fetcher {
    /// What a reader in order should have ahead of it. None where reading ahead does not pay: the store is not distant, or
    /// all that was read of late came from nearby.
    pub fn ahead_bytes(&self) -> Option<AheadBytes> {
        let line = &self.distant.as_ref()?.line;
        line.is_asked().then(|| AheadBytes {
            sealed: line.ahead_bytes(),
            plain: line.ahead_plain_bytes_max(),
        })
    }

    /// What `ask` gets of the repository. Where that is distant, it is waited for no longer than this thread may wait.
    ///
    /// # Errors
    /// Unreachable, if it did not end in time; else those of `ask`.
    pub fn ask_in_time<T: Send + 'static>(
        &self,
        what: &str,
        ask: impl FnOnce(&Repository) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(distant) = &self.distant else {
            return ask(&self.repository);
        };
        let repository = Arc::clone(&self.repository);
        distant.ask(what, move || ask(&repository))
    }

    /// Has a thread do `job`, which works out what to fetch ahead and may wait for that. Nothing is done where the store is
    /// not distant.
    pub fn later(&self, job: impl FnOnce() + Send + 'static) {
        if let Some(distant) = &self.distant {
            distant.later(job);
        }
    }

    /// Begins to bring these chunks' frames into memory, and returns at once. Those of `next`, which will be asked for
    /// later on, come with them where they lie between them.
    pub fn fetch_ahead(
        self: &Arc<Self>,
        places: &[ChunkPlace],
        next: &[ChunkPlace],
        interested: &Interested,
    ) {
        let Some(distant) = &self.distant else { return };
        let request_bytes = (distant.line.ahead_bytes() / REQUESTS_AHEAD)
            .clamp(REQUEST_BYTES_MIN, REQUEST_BYTES_MAX);
        let mut wanted: Vec<Wanted<'static>> = places
            .iter()
            .chain(between(places, next))
            .map(|place| Wanted::frame(SealedKind::Data, place))
            .filter(|wanted| !self.memory.is_known(&wanted.key))
            .collect();
        wanted.sort_by_key(|wanted| wanted.key);
        wanted.dedup_by_key(|wanted| wanted.key);
        for neighbours in group(&wanted, Bounds::ahead(request_bytes)) {
            let bytes = neighbours.iter().map(Wanted::bytes).sum();
            let Some(under_way) = UnderWay::begin(self, bytes) else {
                return;
            };
            let (neighbours, interested) = (neighbours.to_vec(), interested.clone());
            distant.later(move || {
                if interested.is_there() {
                    under_way.fetcher.bring(&neighbours);
                }
            });
        }
    }

    /// Brings neighbours into memory, but for what is there or on its way.
    fn bring(&self, neighbours: &[Wanted<'static>]) {
        let mut wanted = Vec::with_capacity(neighbours.len());
        let mut leads = Vec::with_capacity(neighbours.len());
        for one in neighbours {
            if let Claim::Lead(lead) = self.memory.claim(&one.key) {
                wanted.push(*one);
                leads.push(lead);
            }
        }
        let mut leads = leads.into_iter();
        for neighbours in group(&wanted, Bounds::ahead(REQUEST_BYTES_MAX)) {
            self.load(neighbours, &mut |one, sealed| {
                let lead = leads.next().expect("each that is loaded has a leader");
                let opened = sealed.and_then(|sealed| self.open_believed(one, sealed));
                if let Err(error) = &opened {
                    log::debug!("a read ahead failed: {error}");
                }
                lead.complete(&opened);
            });
        }
    }
}

/// Those of `next` that lie between `places`, each in the same pack. Frames are sealed by several threads and lie in a pack as
/// these got ready: each that is left out between others would be a request of its own later on.
fn between<'a>(
    places: &[ChunkPlace],
    next: &'a [ChunkPlace],
) -> impl Iterator<Item = &'a ChunkPlace> {
    let mut spans: HashMap<PackId, (u32, u32)> = HashMap::new();
    for hint in places.iter().map(|place| &place.hint) {
        let span = spans.entry(hint.pack).or_insert((u32::MAX, 0));
        *span = (span.0.min(hint.frame_offset), span.1.max(hint.frame_offset));
    }
    next.iter().filter(move |place| {
        let span = spans.get(&place.hint.pack);
        span.is_some_and(|(first, last)| (first..last).contains(&&place.hint.frame_offset))
    })
}

impl UnderWay {
    /// None if that would be too much.
    fn begin(fetcher: &Arc<Fetcher>, bytes: u64) -> Option<Self> {
        let bytes_max = fetcher.distant.as_ref()?.line.ahead_bytes_max();
        let counted = &fetcher.ahead_under_way;
        if counted.fetch_add(bytes, Ordering::Relaxed) + bytes > bytes_max {
            counted.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Self {
            fetcher: Arc::clone(fetcher),
            bytes,
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.fetcher
            .ahead_under_way
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ChunkId;
    use crate::format::Hint;

    fn chunk(pack: u8, frame_offset: u32) -> ChunkPlace {
        ChunkPlace {
            id: ChunkId([0; 32]),
            length: 1,
            hint: Hint {
                pack: PackId([pack; 16]),
                frame_offset,
                frame_length: 10,
                offset_in_frame: 0,
            },
        }
    }

    #[test]
    fn what_lies_between_chunks_in_their_pack_comes_with_them() {
        let places = [chunk(1, 20), chunk(1, 40), chunk(2, 60)];
        let next = [
            chunk(1, 10),
            chunk(1, 30),
            chunk(1, 50),
            chunk(2, 50),
            chunk(3, 30),
        ];
        let found: Vec<&ChunkPlace> = between(&places, &next).collect();
        assert_eq!(found, [&chunk(1, 30)]);
    }
}
