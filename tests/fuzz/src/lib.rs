//! What all fuzz targets share: a bound on memory, and inputs that begin near something valid.
//!
//! The bound is exact: an allocator counts the bytes that are live while a parser runs, so that a length that lies
//! fails the target by what it made the parser reserve, long before the machine notices.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that any parser may use whatever its input: contexts of zstd, error messages, tables of the runtime.
pub const BASE_BYTES: usize = 4 << 20;

/// Bytes of memory for each byte of input that is parsed into structs: an extent of one byte is 72, a list of one-byte
/// strings in JSON grows by doubling, a map's entry has a node around it.
pub const STRUCT_FACTOR: usize = 256;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

impl Counting {
    fn grew(bytes: usize) {
        let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(live, Ordering::Relaxed);
    }

    fn shrank(bytes: usize) {
        LIVE.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grew(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::grew(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::grew(size);
        Self::shrank(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        Self::shrank(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `parse` and panics if it ever had more than `bytes_max` beyond what was there before.
pub fn within<T>(bytes_max: usize, parse: impl FnOnce() -> T) -> T {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let parsed = parse();
    let used = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(
        used <= bytes_max,
        "{used} bytes of memory where {bytes_max} must do"
    );
    parsed
}

/// Runs a parser of structs over `input`.
pub fn within_input<T>(input: &[u8], parse: impl FnOnce() -> T) -> T {
    within(BASE_BYTES + STRUCT_FACTOR * input.len(), parse)
}

/// An input made of what the fuzzer chose. If its first byte is even, the rest is the input; otherwise the rest are
/// changes to `valid`: three bytes each, a place and what to put there. So every target begins with something valid
/// and needs no corpus.
pub fn near(valid: &[u8], data: &[u8]) -> Vec<u8> {
    let Some((how, rest)) = data.split_first() else {
        return valid.to_vec();
    };
    if how % 2 == 0 {
        return rest.to_vec();
    }
    let mut input = valid.to_vec();
    let (changes, end) = rest.as_chunks::<3>();
    for [low, high, byte] in changes {
        let place = usize::from(u16::from_le_bytes([*low, *high]));
        if !input.is_empty() {
            let place = place % input.len();
            input[place] = *byte;
        }
    }
    // What is left over cuts the input or makes it longer.
    match end {
        [length] => input.truncate(usize::from(*length)),
        more => input.extend_from_slice(more),
    }
    input
}

/// Bytes of the checksum's line and the brace after it.
const CHECKSUM_LINE_BYTES: usize = 83;

/// A JSON object with the checksum that it should have, made from the format page's words and not by bygone's code.
pub fn with_checksum(input: &[u8]) -> Vec<u8> {
    let members = &input[..input.len().saturating_sub(CHECKSUM_LINE_BYTES)];
    let hash = blake3::hash(members).to_hex();
    let line = format!("  \"checksum\": \"{hash}\"\n}}\n");
    assert_eq!(line.len(), CHECKSUM_LINE_BYTES);
    [members, line.as_bytes()].concat()
}
