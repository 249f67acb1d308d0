//! The bounds that every length and count read from a repository is checked against before anything is allocated.
//!
//! They are far above what bygone writes, and low enough that a lie costs a refusal and not the machine's memory.

/// Plain bytes of one frame. A frame of small chunks has up to 512 KiB, one large chunk up to 16 MiB by `--chunk-size`.
pub const FRAME_PLAIN_BYTES_MAX: usize = 32 << 20;

/// Plain bytes of one chunk.
pub const CHUNK_BYTES_MAX: usize = 16 << 20;

/// Plain bytes of one block of a run: about 64 KiB, more for an entry that is itself larger (xattrs of 64 KiB each).
pub const BLOCK_PLAIN_BYTES_MAX: usize = 64 << 20;

/// Plain bytes of a run's or a pack's footer, of a table and of a filter's part.
pub const FOOTER_PLAIN_BYTES_MAX: usize = 64 << 20;

/// Plain bytes of a point's header.
pub const POINT_PLAIN_BYTES_MAX: usize = 64 << 20;

/// Bytes of the config, of a key and of a lease, all of them small JSON objects.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// Bytes of one pack. Offsets in a pack are 32 bits wide.
pub const PACK_BYTES_MAX: u64 = u32::MAX as u64;

/// Runs that a point may stand on, and points in a lineage.
pub const CHAIN_MAX: usize = 8191;

/// Bytes of one sealed entry: Linux bounds xattr names and values at 64 KiB each per file for most file systems, XFS not.
pub const ENTRY_BYTES_MAX: usize = 32 << 20;

/// Extents of one entry or one extent list: a list covers 64 MiB, which no file system cuts finer than in sectors of
/// 512 bytes. An extent takes far more memory than its two bytes in the repository.
pub const EXTENTS_MAX: usize = 128 << 10;

/// Extended attributes of one entry: listxattr(2) returns at most 64 KiB of names, and each takes two bytes at least.
pub const XATTRS_MAX: usize = 32 << 10;

/// Bytes of an extended attribute's name, XATTR_NAME_MAX.
pub const XATTR_NAME_BYTES_MAX: usize = 255;

/// Bytes of an extended attribute's value, XATTR_SIZE_MAX.
pub const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;
