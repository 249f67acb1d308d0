//! Putting objects: in one piece or in many, and never in another's place.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{PutOptions, PutPayload};

use crate::base::{Error, ErrorKind, Result};

use super::super::Body;
use super::place::exists;
use super::problem::{Trouble, heeded};
use super::{RemoteStore, mode};

/// The longest object that tries out whether a server minds a condition: it is put twice.
const TRIED_BYTES_MAX: u64 = 64 << 10;

/// Objects of more bytes are put in parts, so that a failure costs one of them. Packs have half as many.
const ONE_PIECE_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a part: at least 5 MiB for S3. A hundred of them are a file of gigabytes; for more they grow.
const PART_BYTES: u64 = 16 << 20;

/// S3 takes so many parts of an object, and Azure five times as many.
const PARTS_MAX: u64 = 10_000;

/// Parts that are on their way at once.
const PARTS_AT_ONCE: usize = 3;

/// How often a part is tried, and the wait after the first failure.
const PART_TRIES: u32 = 5;
const PART_WAIT: Duration = Duration::from_millis(250);

/// What is known of whether the server keeps an object from being replaced.
pub(super) struct Creation {
    known: AtomicU8,
    /// Held while a small object is put, where nothing else keeps two apart.
    putting: Mutex<()>,
    has_warned: AtomicBool,
}

const NOT_TRIED: u8 = 0;
const HEEDED: u8 = 1;
const IGNORED: u8 = 2;

impl Creation {
    pub(super) fn new(has_conditions: bool) -> Self {
        Self {
            known: AtomicU8::new(if has_conditions { NOT_TRIED } else { IGNORED }),
            putting: Mutex::new(()),
            has_warned: AtomicBool::new(false),
        }
    }

    fn known(&self) -> u8 {
        self.known.load(Ordering::Acquire)
    }

    fn learn(&self, known: u8) {
        self.known.store(known, Ordering::Release);
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.putting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, shown: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{shown}: the server does not keep objects from being replaced; bygone looks before it writes, and \
                 writes names that nobody else uses, so that only two `bygone init` at the same moment could undo one \
                 another"
            );
        }
    }
}

impl RemoteStore {
    /// Puts an object whose name is free.
    pub(super) fn create(&self, name: &str, path: &Path, body: Body<'_>) -> Result<()> {
        let length = body
            .length()
            .map_err(|error| Error::io(format_args!("write {name}"), error))?;
        match self.creation.known() {
            HEEDED => self.put(name, path, body, length, true),
            IGNORED => self.put_after_look(name, path, body, length),
            _ if length <= TRIED_BYTES_MAX => self.try_out(name, path, body, length),
            _ => {
                self.check_free(name, path)?;
                self.put(name, path, body, length, true)
            }
        }
    }

    fn put_after_look(&self, name: &str, path: &Path, body: Body<'_>, length: u64) -> Result<()> {
        self.creation.warn(&self.built.place.shown);
        // Within one process at least, one of two wins. Nothing that is large has a name that two would choose.
        let _alone = (length <= TRIED_BYTES_MAX).then(|| self.creation.alone());
        self.check_free(name, path)?;
        self.put(name, path, body, length, false)
    }

    /// Puts a small object twice, on condition that there is none: a server that minds the condition refuses the
    /// second one, and one that does not replaces the object by itself. Nothing else would tell them apart without
    /// leaving something behind.
    fn try_out(&self, name: &str, path: &Path, body: Body<'_>, length: u64) -> Result<()> {
        let alone = self.creation.alone();
        if self.creation.known() != NOT_TRIED {
            drop(alone);
            return self.create(name, path, body);
        }
        self.check_free(name, path)?;
        match self.put(name, path, body, length, true) {
            // The server does not know the condition at all.
            Err(error) if error.kind() == ErrorKind::Failed => {
                self.creation.learn(IGNORED);
                drop(alone);
                return self.put_after_look(name, path, body, length);
            }
            result => result?,
        }
        match self.put(name, path, body, length, true) {
            Err(error) if error.kind() == ErrorKind::Exists => self.creation.learn(HEEDED),
            Err(error) => log::info!("cannot try out whether objects can be replaced: {error}"),
            Ok(()) => {
                self.creation.learn(IGNORED);
                self.creation.warn(&self.built.place.shown);
            }
        }
        Ok(())
    }

    /// Fails if there is an object of this name.
    fn check_free(&self, name: &str, path: &Path) -> Result<()> {
        match self.length(name, path) {
            Ok(_) => Err(exists(name)),
            Err(error) if error.kind() == ErrorKind::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn put(
        &self,
        name: &str,
        path: &Path,
        body: Body<'_>,
        length: u64,
        is_conditional: bool,
    ) -> Result<()> {
        if length > ONE_PIECE_BYTES_MAX
            && let Some(parts) = &self.built.parts
        {
            return self.put_parts(name, path, &**parts, body, length);
        }
        let payload = payload(body, 0, length)
            .map_err(|error| Error::io(format_args!("write {name}"), error))?;
        let options = PutOptions::from(mode(is_conditional));
        let put = heeded(self.built.objects.put_opts(path, payload, options));
        self.ask("write", name, put).map(drop)
    }

    fn put_parts(
        &self,
        name: &str,
        path: &Path,
        store: &dyn MultipartStore,
        body: Body<'_>,
        length: u64,
    ) -> Result<()> {
        let begun = heeded(store.create_multipart(path));
        let id = self.ask("begin to write", name, begun)?;
        let upload = Upload {
            store,
            path,
            id: &id,
            body,
            length,
            part_bytes: PART_BYTES.max(length.div_ceil(PARTS_MAX)),
        };
        let outcome = self.ask("write", name, async { Ok(upload.run(self, name).await) });
        if let Err(error) = outcome.and_then(|outcome| outcome) {
            let aborted = heeded(store.abort_multipart(path, &id));
            if let Err(error) = self.ask("give up", name, aborted) {
                log::warn!("parts of an upload are left behind: {error}");
            }
            return Err(error);
        }
        Ok(())
    }
}

/// An object that is put in parts.
struct Upload<'a> {
    store: &'a dyn MultipartStore,
    path: &'a Path,
    id: &'a String,
    body: Body<'a>,
    length: u64,
    part_bytes: u64,
}

impl Upload<'_> {
    /// Puts all parts, a few at once, and makes the object of them.
    async fn run(&self, remote: &RemoteStore, name: &str) -> Result<()> {
        let explain = |trouble: Trouble| remote.built.place.explain("write", name, &trouble);
        let count = self.length.div_ceil(self.part_bytes);
        let mut parts: Vec<Option<PartId>> = Vec::new();
        let mut numbers = 0..count;
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < PARTS_AT_ONCE
                && let Some(number) = numbers.next()
            {
                parts.push(None);
                under_way.push(self.put_part(remote, name, number));
            }
            let Some(put) = under_way.next().await else {
                break;
            };
            let (number, id) = put?;
            parts[number] = Some(id);
        }
        let parts = parts.into_iter().flatten().collect();
        heeded(self.store.complete_multipart(self.path, self.id, parts))
            .await
            .map(drop)
            .map_err(explain)
    }

    /// Puts one part, more than once if need be.
    async fn put_part(
        &self,
        remote: &RemoteStore,
        name: &str,
        number: u64,
    ) -> Result<(usize, PartId)> {
        let start = number * self.part_bytes;
        let length = self.part_bytes.min(self.length - start);
        let payload = payload(self.body, start, length)
            .map_err(|error| Error::io(format_args!("write {name}"), error))?;
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let mut wait = PART_WAIT;
        for tried in 1.. {
            let put = self
                .store
                .put_part(self.path, self.id, index, payload.clone());
            let error = match heeded(put).await {
                Ok(id) => return Ok((index, id)),
                Err(trouble) => remote.built.place.explain("write", name, &trouble),
            };
            if error.kind() != ErrorKind::Unreachable || tried == PART_TRIES {
                return Err(error);
            }
            log::info!("part {} of {name}: {error}; trying again", number + 1);
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the loop above ends by returning")
    }
}

/// `length` bytes of a body from `start` on, as the library takes them.
fn payload(body: Body<'_>, start: u64, length: u64) -> std::io::Result<PutPayload> {
    match body {
        Body::Bytes(pieces) => Ok(windows(pieces, start, length)
            .map(|(piece, window)| Bytes::copy_from_slice(&piece[window]))
            .collect()),
        Body::Shared(pieces) => Ok(windows(pieces, start, length)
            .map(|(piece, window)| piece.slice(window))
            .collect()),
        Body::File(file) => {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, start)?;
            Ok(Bytes::from(bytes).into())
        }
    }
}

/// Of pieces that follow one another, those which have bytes among the `length` from `start` on, and which they are.
fn windows<Piece: AsRef<[u8]>>(
    pieces: &[Piece],
    start: u64,
    length: u64,
) -> impl Iterator<Item = (&Piece, Range<usize>)> {
    let mut at = 0;
    pieces.iter().filter_map(move |piece| {
        let begins = at;
        at += piece.as_ref().len() as u64;
        let within = |offset: u64| {
            let offset = offset.clamp(begins, at) - begins;
            usize::try_from(offset).unwrap_or(usize::MAX)
        };
        let window = within(start)..within(start + length);
        (!window.is_empty()).then_some((piece, window))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_window_of_pieces_is_their_bytes() {
        let pieces: [&[u8]; 4] = [b"abc", b"", b"defg", b"h"];
        let whole = pieces.concat();
        for start in 0..=8 {
            for length in 0..=8 - start {
                let window: Vec<u8> = windows(&pieces, start, length)
                    .flat_map(|(piece, window)| piece[window].to_vec())
                    .collect();
                let (start, length) = (start as usize, length as usize);
                assert_eq!(window, whole[start..start + length]);
            }
        }
    }
}
