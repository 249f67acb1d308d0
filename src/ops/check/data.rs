//! The chunks' bytes: every frame of every pack is fetched and opened once, in the order of packs, by several
//! threads.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Check;
use super::packs::{Packs, chunk_ids, read_directory};
use crate::base::{ChunkId, Error, Event, PackId, Result};
use crate::format::{PackFrame, pack_name};

/// Bytes that one request fetches, and one thread holds, unless a single frame is larger.
const REQUEST_BYTES: u64 = 4 << 20;

/// More threads than this gain nothing from one disk.
const THREADS_MAX: usize = 8;

/// Verifies the frames of these packs, and gives the chunks in those that are damaged: what is lost, unless it has
/// another location.
pub(super) fn check(
    check: &Check<'_>,
    packs: &Packs,
    scope: &[PackId],
) -> Result<HashSet<ChunkId>> {
    let bytes = scope.iter().filter_map(|pack| packs.length(pack)).sum();
    check.monitor.event(Event::Expected {
        files: scope.len() as u64,
        bytes,
    });
    let lost = Mutex::new(HashSet::new());
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX);
    let work = || -> Result<()> {
        while let Some(pack) = scope.get(next.fetch_add(1, Ordering::Relaxed)) {
            check.go_on()?;
            check_pack(check, packs, pack, &lost)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })?;
    Ok(lost.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Verifies a pack. One whose directory is damaged was told of, and its chunks are read one by one where runs need
/// them.
fn check_pack(
    check: &Check<'_>,
    packs: &Packs,
    pack: &PackId,
    lost: &Mutex<HashSet<ChunkId>>,
) -> Result<()> {
    let Some(length) = packs.length(pack).filter(|_| !packs.is_unreadable(pack)) else {
        return Ok(());
    };
    let name = pack_name(pack);
    check.monitor.event(Event::Path(name.as_ref()));
    // Whole directories of all packs would not fit into memory, and reading one again costs little beside its frames.
    let directory = match read_directory(check.repository, pack, length) {
        Ok(directory) => directory,
        Err(error) => return check.reporter.failed(&name, error),
    };
    let mut plain = Vec::new();
    for window in windows(directory.frames()) {
        check.go_on()?;
        check_window(check, &name, window, &mut plain, lost)?;
    }
    check.monitor.event(Event::Done {
        files: 1,
        bytes: length - u64::from(directory.end()),
    });
    Ok(())
}

/// Cuts a pack's frames into stretches that one request fetches.
fn windows(frames: &[PackFrame]) -> Vec<&[PackFrame]> {
    let mut windows = Vec::new();
    let mut rest = frames;
    while let Some(first) = rest.first() {
        let bytes_to =
            |frame: &PackFrame| u64::from(frame.offset - first.offset) + u64::from(frame.length);
        let count = rest
            .partition_point(|frame| bytes_to(frame) <= REQUEST_BYTES)
            .max(1);
        let (window, after) = rest.split_at(count);
        windows.push(window);
        rest = after;
    }
    windows
}

fn check_window(
    check: &Check<'_>,
    name: &str,
    frames: &[PackFrame],
    plain: &mut Vec<u8>,
    lost: &Mutex<HashSet<ChunkId>>,
) -> Result<()> {
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
        return Ok(());
    };
    let range = u64::from(first.offset)..u64::from(last.offset) + u64::from(last.length);
    let stored_bytes = range.end - range.start;
    let fetched = check.repository.store().get_range(name, range);
    for frame in frames {
        let verified = match &fetched {
            Ok(bytes) => {
                let start = (frame.offset - first.offset) as usize;
                verify(
                    check,
                    frame,
                    &bytes[start..start + frame.length as usize],
                    plain,
                )
            }
            Err(error) => Err(Error::new(error.kind(), error.to_string())),
        };
        if let Err(error) = verified {
            lost.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(chunk_ids(frame));
            let place = format_args!("frame at {}, {} bytes", frame.offset, frame.length);
            check.reporter.failed(name, error.context(place))?;
        }
    }
    check.monitor.event(Event::Done {
        files: 0,
        bytes: stored_bytes,
    });
    let chunks: usize = frames.iter().map(|frame| frame.chunks.len()).sum();
    check.reporter.count(|report| {
        report.verified_chunks += chunks as u64;
        report.verified_stored_bytes += stored_bytes;
    });
    Ok(())
}

/// Opens a frame and holds each of its chunks against its id.
fn verify(check: &Check<'_>, frame: &PackFrame, sealed: &[u8], plain: &mut Vec<u8>) -> Result<()> {
    let seal = check.repository.seal();
    seal.open_into(frame.kind, &[], sealed, frame.plain_length as usize, plain)?;
    if plain.len() != frame.plain_length as usize {
        return Err(Error::corrupt(
            "the frame",
            format!(
                "it has {} plain bytes, not {}",
                plain.len(),
                frame.plain_length
            ),
        ));
    }
    for chunk in &frame.chunks {
        let bytes = &plain[chunk.offset as usize..][..chunk.length as usize];
        if seal.chunk_id_in(frame.kind, bytes) != chunk.id {
            return Err(Error::corrupt(
                format_args!("chunk {}", chunk.id),
                "its bytes are not those that its id names",
            ));
        }
    }
    Ok(())
}
