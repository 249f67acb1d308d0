//! Reading objects: whole, in part, and their last bytes, each going on where it broke off.

use std::ops::Range;

use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore};

use super::super::WHOLE_BYTES_MAX;
use super::problem::{Problem, Refusal, Trouble, heeded};

/// The status of a range that begins after the object's end.
const OUTSIDE: u16 = 416;

/// How many bytes are made room for before any has come.
const CAPACITY_MAX: u64 = 32 << 20;

/// A whole object.
pub(super) enum Whole {
    Bytes(Vec<u8>),
    /// It is too long to be read whole: its length.
    TooLong(u64),
}

/// A part of an object.
pub(super) enum Part {
    Bytes(Vec<u8>),
    /// The object ends before the part does: its length.
    Ends(u64),
    /// The object ends before the part begins.
    Outside,
}

/// What a stream of bytes came to.
struct Drained {
    /// The whole object's length, as the server says.
    length: u64,
    /// What broke it off.
    trouble: Option<Trouble>,
}

/// All bytes of an object.
pub(super) async fn whole(objects: &dyn ObjectStore, path: &Path) -> Result<Whole, Trouble> {
    let mut bytes = Vec::new();
    let drained = drain(objects, path, None, WHOLE_BYTES_MAX, &mut bytes).await?;
    if drained.length > WHOLE_BYTES_MAX {
        return Ok(Whole::TooLong(drained.length));
    }
    let had = bytes.len() as u64;
    match drained.trouble {
        None if had == drained.length => Ok(Whole::Bytes(bytes)),
        None => Err(cut_short()),
        Some(trouble) if had == 0 => Err(trouble),
        Some(_) => match rest(objects, path, had..drained.length, bytes).await? {
            Part::Bytes(bytes) => Ok(Whole::Bytes(bytes)),
            Part::Ends(_) | Part::Outside => Err(cut_short()),
        },
    }
}

/// The bytes `range` of an object, which has a byte at least.
pub(super) async fn part(
    objects: &dyn ObjectStore,
    path: &Path,
    range: Range<u64>,
) -> Result<Part, Trouble> {
    // What is asked for need not be there: a lie about a length must not cost the machine's memory.
    let capacity = (range.end - range.start).min(CAPACITY_MAX);
    let bytes = Vec::with_capacity(usize::try_from(capacity).unwrap_or_default());
    rest(objects, path, range, bytes).await
}

/// Reads `range` of an object, after what is in `bytes` already, going on as long as every answer brings something.
async fn rest(
    objects: &dyn ObjectStore,
    path: &Path,
    range: Range<u64>,
    mut bytes: Vec<u8>,
) -> Result<Part, Trouble> {
    let before = bytes.len() as u64;
    loop {
        let had = bytes.len() as u64;
        let from = range.start + (had - before);
        if from == range.end {
            return Ok(Part::Bytes(bytes));
        }
        let wanted = GetRange::Bounded(from..range.end);
        let bytes_max = had + (range.end - from);
        let drained = match drain(objects, path, Some(wanted), bytes_max, &mut bytes).await {
            Err(trouble) if trouble.is_status(OUTSIDE) => return Ok(Part::Outside),
            drained => drained?,
        };
        if drained.length < range.end {
            return Ok(Part::Ends(drained.length));
        }
        if bytes.len() as u64 == had {
            return Err(drained.trouble.unwrap_or_else(cut_short));
        }
    }
}

/// The last bytes of an object, `length` of them at most, and its length. None, where the server cannot say: nothing
/// is the tail of an empty object, which no range can ask for.
pub(super) async fn tail(
    objects: &dyn ObjectStore,
    path: &Path,
    length: u64,
) -> Result<Option<(Vec<u8>, u64)>, Trouble> {
    let mut bytes = Vec::new();
    let wanted = GetRange::Suffix(length);
    let drained = match drain(objects, path, Some(wanted), length, &mut bytes).await {
        Err(trouble) if trouble.is_status(OUTSIDE) => return Ok(None),
        drained => drained?,
    };
    let start = drained.length.saturating_sub(length);
    let had = bytes.len() as u64;
    match drained.trouble {
        _ if start + had == drained.length => Ok(Some((bytes, drained.length))),
        None => Err(cut_short()),
        Some(trouble) if had == 0 => Err(trouble),
        Some(_) => match rest(objects, path, start + had..drained.length, bytes).await? {
            Part::Bytes(bytes) => Ok(Some((bytes, drained.length))),
            Part::Ends(_) | Part::Outside => Err(cut_short()),
        },
    }
}

/// Makes one request, and appends what comes of it to `bytes`, which do not grow beyond `bytes_max`. Fails if nothing
/// came of it at all.
async fn drain(
    objects: &dyn ObjectStore,
    path: &Path,
    range: Option<GetRange>,
    bytes_max: u64,
    bytes: &mut Vec<u8>,
) -> Result<Drained, Trouble> {
    let options = GetOptions {
        range,
        ..GetOptions::default()
    };
    let mut length = None;
    let had = bytes.len();
    let request = async {
        let got = objects.get_opts(path, options).await?;
        length = Some(got.meta.size);
        append(got, bytes_max, bytes).await
    };
    let result = heeded(request).await;
    match (length, result) {
        (None, Err(trouble)) => Err(trouble),
        (Some(_), Err(trouble)) if bytes.len() == had => Err(trouble),
        (length, result) => Ok(Drained {
            length: length.unwrap_or_default(),
            trouble: result.err(),
        }),
    }
}

async fn append(got: GetResult, bytes_max: u64, bytes: &mut Vec<u8>) -> object_store::Result<()> {
    let mut stream = got.into_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        let room = bytes_max.saturating_sub(bytes.len() as u64);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            break;
        }
    }
    Ok(())
}

/// An answer that ended before it said it would.
fn cut_short() -> Trouble {
    Trouble {
        error: object_store::Error::NotSupported {
            source: "an answer was cut short".into(),
        },
        problem: Some(Problem::Refused(Refusal {
            host: "the server".to_owned(),
            status: 200,
            message: "the answer was cut short".to_owned(),
            ..Refusal::default()
        })),
    }
}
