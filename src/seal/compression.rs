//! zstd with contexts and buffers that a thread keeps: making them anew for every piece was up to three times slower.
//!
//! A body is compressed in one call and decompressed in one call, into a buffer of the length that the header
//! promised, so that zstd allocates no window of its own and a bomb fills nothing but that buffer.

use std::cell::RefCell;
use std::io;

use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::WriteBuf;

use crate::base::{Error, Result};

/// How hard to compress what is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Bodies are stored as they are.
    #[serde(rename = "off")]
    Off,
    /// zstd at this level, 1 to 19.
    #[serde(rename = "zstd")]
    Level(i32),
}

impl Compression {
    /// The levels of zstd that a repository may use: those above 19 need far more memory, and win little on frames.
    pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

    /// Is it off, or a level that is allowed?
    pub fn is_valid(self) -> bool {
        match self {
            Self::Off => true,
            Self::Level(level) => Self::LEVELS.contains(&level),
        }
    }
}

impl Default for Compression {
    /// Level 3: zstd's own default, 0.35 GB/s of text in.
    fn default() -> Self {
        Self::Level(3)
    }
}

/// A thread's compressor, the level that it is set to, and what it wrote last.
struct CompressionState {
    level: i32,
    compressor: Compressor<'static>,
    output: Vec<u8>,
}

/// Output buffers up to this capacity are kept by a thread: room for four of the largest frames by default.
const OUTPUT_BYTES_KEPT: usize = 2 << 20;

thread_local! {
    static COMPRESSION: RefCell<Option<CompressionState>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Calls `take` with `plain` compressed, or with None where that is not smaller or not wanted.
pub(super) fn with_smaller(
    compression: Compression,
    plain: &[u8],
    take: impl FnOnce(Option<&[u8]>),
) -> Result<()> {
    let Compression::Level(level) = compression else {
        take(None);
        return Ok(());
    };
    COMPRESSION.with_borrow_mut(|slot| {
        let state = compression_state(slot, level)
            .map_err(|error| Error::io("set up zstd compression", error))?;
        let CompressionState {
            compressor, output, ..
        } = state;
        output.clear();
        output.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        compressor
            .compress_to_buffer(plain, output)
            .map_err(|error| Error::io("compress with zstd", error))?;
        take(Some(output.as_slice()).filter(|smaller| smaller.len() < plain.len()));
        if output.capacity() > OUTPUT_BYTES_KEPT {
            *output = Vec::new();
        }
        Ok(())
    })
}

/// The thread's state, made at first use, set to `level`.
fn compression_state(
    slot: &mut Option<CompressionState>,
    level: i32,
) -> io::Result<&mut CompressionState> {
    match slot {
        Some(state) => {
            if state.level != level {
                state.compressor.set_compression_level(level)?;
                state.level = level;
            }
            Ok(state)
        }
        None => Ok(slot.insert(CompressionState {
            level,
            compressor: Compressor::new(level)?,
            output: Vec::new(),
        })),
    }
}

/// Puts exactly `length` decompressed bytes of `body` into `plain`, which is empty. The error is a problem in words.
pub(super) fn decompress(
    body: &[u8],
    length: usize,
    plain: &mut Vec<u8>,
) -> std::result::Result<(), String> {
    plain.reserve_exact(length);
    let made = decompress_to(body, plain)?;
    check_length(made, length)
}

/// Fills `plain` with the decompressed bytes of `body`, exactly. The error is a problem in words.
pub(super) fn decompress_into(body: &[u8], plain: &mut [u8]) -> std::result::Result<(), String> {
    let length = plain.len();
    let made = decompress_to(body, plain)?;
    check_length(made, length)
}

fn decompress_to<Room: WriteBuf + ?Sized>(
    body: &[u8],
    room: &mut Room,
) -> std::result::Result<usize, String> {
    DECOMPRESSOR
        .with_borrow_mut(|slot| -> io::Result<usize> {
            let decompressor = match slot {
                Some(decompressor) => decompressor,
                None => slot.insert(Decompressor::new()?),
            };
            decompressor.decompress_to_buffer(body, room)
        })
        .map_err(|error| format!("zstd refuses its body: {error}"))
}

fn check_length(made: usize, promised: usize) -> std::result::Result<(), String> {
    if made == promised {
        Ok(())
    } else {
        Err(format!(
            "it has {made} plain bytes where its header promises {promised}"
        ))
    }
}
