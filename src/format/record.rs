//! A record as the body of a block's entry: what the key has here, in as few bytes as are needed.
//!
//! The first number holds type and mode, the second says which of the following fields there are; what most entries
//! share costs nothing. Times are told from one another: ctime from mtime, btime from ctime. A body stands by itself,
//! so that any entry of a block can be read alone; what repeats from one to the next is zstd's to find. The format
//! page has every field.
//!
//! What is read is checked as far as one entry can tell: the content covers the file exactly, extents lie where
//! extents can lie, extended attributes rise by name. Writing refuses the same.

use super::entry::{
    ChunkPlace, Content, Entry, EntryFlags, Extent, FileType, INLINE_BYTES_MAX, Metadata, Record,
    Xattr,
};
use super::extents::{
    Places, covered_bytes, read_extents, read_lists, unwritable, write_extents, write_lists,
};
use super::tables::{Tables, TablesWriter};
use super::times::{Times, read_times, write_times};
use crate::base::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_MAX};
use crate::base::{ByteReader, ByteWriter, Origin, Result, Row};

/// The type of the first number that says tombstone; its mode bits say whether by exclusion.
const TYPE_TOMBSTONE: u64 = 0;
const TOMBSTONE_EXCLUDED: u64 = 1;

/// The low bits of the first number are the type, the mode is above them.
const TYPE_BITS: u32 = 3;

/// Modes are 12 bits.
const MODE_MAX: u64 = 0o7777;

/// The lowest bits of the shape: what content there is.
const CONTENT_MASK: u64 = 0b111;
const CONTENT_NOTHING: u64 = 0;
/// One chunk is the whole file, whose size is then the chunk's length.
const CONTENT_WHOLE: u64 = 1;
const CONTENT_INLINE: u64 = 2;
const CONTENT_EXTENTS: u64 = 3;
const CONTENT_LISTS: u64 = 4;

/// The other bits of the shape, in the order of how often they differ from entry to entry: most entries of most file
/// systems need none above the second byte.
pub(super) mod shape {
    pub const MTIME_NANOSECONDS: u64 = 1 << 3;
    pub const CTIME: u64 = 1 << 4;
    pub const BTIME: u64 = 1 << 5;
    pub const GID: u64 = 1 << 6;
    pub const CHATTR: u64 = 1 << 7;
    pub const ORIGIN: u64 = 1 << 8;
    pub const LINKS: u64 = 1 << 9;
    pub const BLOCKS: u64 = 1 << 10;
    pub const XATTRS: u64 = 1 << 11;
    pub const FLAGS: u64 = 1 << 12;
    pub const HASH: u64 = 1 << 13;
    pub const GROUP: u64 = 1 << 14;
    pub const DEVICE: u64 = 1 << 15;
    pub const WIDE_TIMES: u64 = 1 << 16;
    /// All bits that have a meaning, content's among them.
    pub const KNOWN: u64 = (1 << 17) - 1;
}

/// ext4 gives nearly every file the flag EXT4_EXTENTS_FL, 1 << 19: turned right by so much, that is one byte.
const CHATTR_TURN: u32 = 19;

const FLAG_CHANGED_WHILE_READ: u8 = 1 << 0;
const FLAG_UNSETTLED: u8 = 1 << 1;
const FLAG_CARRIED: u8 = 1 << 2;
const FLAG_CHANGED_BELOW: u8 = 1 << 3;

/// Appends the body of a record. Packs and runs that it names enter the tables.
///
/// # Errors
/// Failed, if `decode_record` would refuse it.
pub fn encode_record(
    record: &Record,
    tables: &mut TablesWriter,
    writer: &mut ByteWriter,
) -> Result<()> {
    match record {
        Record::Entry(entry) => encode_entry(entry, tables, writer),
        Record::Tombstone { excluded } => {
            let mode = if *excluded { TOMBSTONE_EXCLUDED } else { 0 };
            writer.varint(mode << TYPE_BITS | TYPE_TOMBSTONE);
            Ok(())
        }
    }
}

/// Reads a record's body, which is all that `reader` has.
///
/// # Errors
/// Corrupt, if it is none that can be.
pub fn decode_record(reader: &mut ByteReader<'_>, tables: &Tables) -> Result<Record> {
    let first = reader.varint()?;
    let mode = first >> TYPE_BITS;
    let Some(file_type) = type_of(first & ((1 << TYPE_BITS) - 1)) else {
        if mode > TOMBSTONE_EXCLUDED {
            return Err(reader.corrupt("a tombstone is of a kind that nothing writes"));
        }
        return Ok(Record::Tombstone {
            excluded: mode == TOMBSTONE_EXCLUDED,
        });
    };
    if mode > MODE_MAX {
        return Err(reader.corrupt("a mode is longer than 12 bits"));
    }
    let entry = read_entry(file_type, mode as u32, reader, tables)?;
    match contradiction(&entry) {
        Some(problem) => Err(reader.corrupt(problem)),
        None => Ok(Record::Entry(Box::new(entry))),
    }
}

fn code_of(file_type: FileType) -> u64 {
    match file_type {
        FileType::Regular => 1,
        FileType::Directory => 2,
        FileType::Symlink => 3,
        FileType::Fifo => 4,
        FileType::Socket => 5,
        FileType::CharacterDevice => 6,
        FileType::BlockDevice => 7,
    }
}

/// The type of a code of three bits; None for a tombstone's.
fn type_of(code: u64) -> Option<FileType> {
    [
        None,
        Some(FileType::Regular),
        Some(FileType::Directory),
        Some(FileType::Symlink),
        Some(FileType::Fifo),
        Some(FileType::Socket),
        Some(FileType::CharacterDevice),
        Some(FileType::BlockDevice),
    ]
    .get(code as usize)
    .copied()
    .flatten()
}

fn is_device(file_type: FileType) -> bool {
    matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice)
}

/// The blocks that go without saying: whole pages for a size, none for what has no bytes of its own.
fn usual_blocks(file_type: FileType, size: u64) -> u64 {
    match file_type {
        FileType::Regular | FileType::Directory => size.div_ceil(4096).saturating_mul(8),
        _ => 0,
    }
}

/// What an entry says that cannot be, if anything.
fn contradiction(entry: &Entry) -> Option<&'static str> {
    let metadata = &entry.metadata;
    let file_type = metadata.file_type;
    let length = content_length(&entry.content);
    // A block device's size is not in its metadata.
    let fits = match file_type {
        FileType::Regular => length == Some(metadata.size),
        FileType::BlockDevice => length.is_some(),
        _ => entry.content == Content::Nothing,
    };
    let is_inline_too_long =
        matches!(&entry.content, Content::Inline(bytes) if bytes.len() > INLINE_BYTES_MAX);
    let target = &metadata.target;
    let is_target_good = match file_type {
        FileType::Symlink => !target.is_empty() && !target.contains(&0),
        _ => target.is_empty(),
    };
    let problems = [
        (!fits, "its content does not cover the file exactly"),
        (is_inline_too_long, "a file inside its entry is too long"),
        (!is_target_good, "its target is none that a symlink has"),
        (
            metadata.rdev != 0 && !is_device(file_type),
            "it has a device number and is no device",
        ),
        (
            u64::from(metadata.mode) > MODE_MAX,
            "its mode is longer than 12 bits",
        ),
        (
            !are_xattrs_possible(&metadata.xattrs),
            "its extended attributes are out of order, or none that can be",
        ),
    ];
    problems
        .into_iter()
        .find_map(|(is_so, problem)| is_so.then_some(problem))
}

/// How many bytes of a file the content covers; None beyond 64 bits.
fn content_length(content: &Content) -> Option<u64> {
    match content {
        Content::Nothing => Some(0),
        Content::Inline(bytes) => Some(bytes.len() as u64),
        Content::Extents(extents) => covered_bytes(extents.iter().map(Extent::length)),
        Content::Lists(lists) => covered_bytes(lists.iter().map(|list| list.span)),
    }
}

fn are_xattrs_possible(xattrs: &[Xattr]) -> bool {
    let rise = xattrs.is_sorted_by(|before, after| before.name < after.name);
    rise && xattrs.len() <= XATTRS_MAX
        && xattrs.iter().all(|xattr| {
            !xattr.name.is_empty()
                && xattr.name.len() <= XATTR_NAME_BYTES_MAX
                && !xattr.name.contains(&0)
                && xattr.value.len() <= XATTR_VALUE_BYTES_MAX
        })
}

fn times_of(metadata: &Metadata) -> Times {
    Times {
        mtime: metadata.mtime,
        ctime: metadata.ctime,
        btime: metadata.btime,
    }
}

/// The shape's bits for an entry.
fn shape_of(entry: &Entry) -> u64 {
    let metadata = &entry.metadata;
    let content = match &entry.content {
        Content::Nothing => CONTENT_NOTHING,
        Content::Inline(_) => CONTENT_INLINE,
        Content::Extents(extents) if whole_chunk(metadata, extents).is_some() => CONTENT_WHOLE,
        Content::Extents(_) => CONTENT_EXTENTS,
        Content::Lists(_) => CONTENT_LISTS,
    };
    let bits = [
        (shape::GID, metadata.gid != metadata.uid),
        (shape::CHATTR, metadata.chattr != 0),
        (shape::ORIGIN, entry.origin.is_some()),
        (shape::LINKS, metadata.links != 1),
        (
            shape::BLOCKS,
            metadata.blocks != usual_blocks(metadata.file_type, metadata.size),
        ),
        (shape::XATTRS, !metadata.xattrs.is_empty()),
        (shape::FLAGS, entry.flags != EntryFlags::default()),
        (shape::HASH, entry.content_hash.is_some()),
        (shape::GROUP, entry.group.is_some()),
        (shape::DEVICE, metadata.device != 0),
    ];
    bits.into_iter().fold(
        content | times_of(metadata).shape(),
        |shape, (bit, is_set)| if is_set { shape | bit } else { shape },
    )
}

/// The one chunk that is the whole file, if there is one: its length need not be written.
fn whole_chunk<'a>(metadata: &Metadata, extents: &'a [Extent]) -> Option<&'a ChunkPlace> {
    match extents {
        [Extent::Chunk(place)] if u64::from(place.length) == metadata.size => Some(place),
        _ => None,
    }
}

fn encode_entry(entry: &Entry, tables: &mut TablesWriter, writer: &mut ByteWriter) -> Result<()> {
    if let Some(problem) = contradiction(entry) {
        return Err(unwritable(problem));
    }
    write_entry(entry, tables, writer)
}

fn write_entry(entry: &Entry, tables: &mut TablesWriter, writer: &mut ByteWriter) -> Result<()> {
    let metadata = &entry.metadata;
    let shape = shape_of(entry);
    writer.varint(u64::from(metadata.mode) << TYPE_BITS | code_of(metadata.file_type));
    writer.varint(shape);
    write_metadata(metadata, shape, writer);
    if shape & shape::FLAGS != 0 {
        writer.u8(flags_byte(entry.flags));
    }
    for origin in [entry.origin, entry.group].into_iter().flatten() {
        writer.varint(u64::from(tables.run(origin.run)?));
        writer.varint(origin.row.0);
    }
    if let Some(hash) = &entry.content_hash {
        writer.raw(hash);
    }
    match &entry.content {
        Content::Nothing => {}
        Content::Inline(bytes) => writer.framed(bytes),
        Content::Extents(extents) => match whole_chunk(metadata, extents) {
            Some(place) => Places::default().write(place, tables, writer)?,
            None => write_extents(extents, tables, writer)?,
        },
        Content::Lists(lists) => write_lists(lists, tables, writer)?,
    }
    writer.raw(&entry.unknown);
    Ok(())
}

fn write_metadata(metadata: &Metadata, shape: u64, writer: &mut ByteWriter) {
    let has = |bit| shape & bit != 0;
    writer.varint(metadata.size);
    write_times(&times_of(metadata), shape, writer);
    writer.varint(u64::from(metadata.uid));
    if has(shape::GID) {
        writer.varint(u64::from(metadata.gid));
    }
    writer.varint(metadata.inode);
    if has(shape::CHATTR) {
        writer.varint(u64::from(metadata.chattr.rotate_right(CHATTR_TURN)));
    }
    if has(shape::DEVICE) {
        writer.varint(u64::from(metadata.device));
    }
    if has(shape::LINKS) {
        writer.varint(metadata.links);
    }
    if has(shape::BLOCKS) {
        writer.varint(metadata.blocks);
    }
    if is_device(metadata.file_type) {
        writer.varint(metadata.rdev);
    }
    if metadata.file_type == FileType::Symlink {
        writer.framed(&metadata.target);
    }
    if has(shape::XATTRS) {
        writer.varint(metadata.xattrs.len() as u64);
        for xattr in &metadata.xattrs {
            writer.framed(&xattr.name);
            writer.framed(&xattr.value);
        }
    }
}

fn read_entry(
    file_type: FileType,
    mode: u32,
    reader: &mut ByteReader<'_>,
    tables: &Tables,
) -> Result<Entry> {
    let shape = reader.varint()?;
    if shape & !shape::KNOWN != 0 {
        return Err(reader.corrupt("it has fields that nothing writes"));
    }
    let has = |bit| shape & bit != 0;
    let metadata = read_metadata(file_type, mode, shape, reader)?;
    let flags = match has(shape::FLAGS) {
        true => flags_of(reader.u8()?, reader)?,
        false => EntryFlags::default(),
    };
    let origin = read_if(has(shape::ORIGIN), || read_origin(reader, tables))?;
    let group = read_if(has(shape::GROUP), || read_origin(reader, tables))?;
    let content_hash = read_if(has(shape::HASH), || reader.array())?;
    let content = match shape & CONTENT_MASK {
        CONTENT_NOTHING => Content::Nothing,
        CONTENT_WHOLE => {
            let place = Places::default().read(metadata.size, reader, tables)?;
            Content::Extents(vec![Extent::Chunk(place)])
        }
        CONTENT_INLINE => Content::Inline(reader.framed(INLINE_BYTES_MAX)?.to_vec()),
        CONTENT_EXTENTS => Content::Extents(read_extents(reader, tables)?),
        CONTENT_LISTS => Content::Lists(read_lists(reader, tables)?),
        _ => return Err(reader.corrupt("its content is of a kind that nothing writes")),
    };
    let unknown = reader.raw(reader.rest().len())?.to_vec();
    Ok(Entry {
        metadata,
        origin,
        group,
        flags,
        content_hash,
        content,
        unknown,
    })
}

fn read_metadata(
    file_type: FileType,
    mode: u32,
    shape: u64,
    reader: &mut ByteReader<'_>,
) -> Result<Metadata> {
    let has = |bit| shape & bit != 0;
    let size = reader.varint()?;
    let times = read_times(shape, reader)?;
    let uid = reader.varint_u32()?;
    let gid = read_if(has(shape::GID), || reader.varint_u32())?;
    let inode = reader.varint()?;
    let chattr = read_if(has(shape::CHATTR), || reader.varint_u32())?;
    let device = read_if(has(shape::DEVICE), || reader.varint_u32())?;
    let links = read_if(has(shape::LINKS), || reader.varint())?;
    let blocks = read_if(has(shape::BLOCKS), || reader.varint())?;
    let rdev = read_if(is_device(file_type), || reader.varint())?;
    let target = read_if(file_type == FileType::Symlink, || {
        reader.framed(reader.rest().len())
    })?;
    let xattrs = read_if(has(shape::XATTRS), || read_xattrs(reader))?;
    Ok(Metadata {
        file_type,
        mode,
        uid,
        gid: gid.unwrap_or(uid),
        mtime: times.mtime,
        ctime: times.ctime,
        btime: times.btime,
        size,
        blocks: blocks.unwrap_or_else(|| usual_blocks(file_type, size)),
        links: links.unwrap_or(1),
        rdev: rdev.unwrap_or(0),
        target: target.unwrap_or_default().to_vec(),
        xattrs: xattrs.unwrap_or_default(),
        chattr: chattr.unwrap_or(0).rotate_left(CHATTR_TURN),
        inode,
        device: device.unwrap_or(0),
    })
}

/// What `read` reads, where it is there to be read.
fn read_if<T>(is_there: bool, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    is_there.then(read).transpose()
}

fn read_origin(reader: &mut ByteReader<'_>, tables: &Tables) -> Result<Origin> {
    Ok(Origin {
        run: tables.read_run(reader)?,
        row: Row(reader.varint()?),
    })
}

fn read_xattrs(reader: &mut ByteReader<'_>) -> Result<Vec<Xattr>> {
    // Each takes two lengths and a byte of name.
    let count = reader.count(XATTRS_MAX.min(reader.rest().len() / 3))?;
    let mut xattrs = Vec::with_capacity(count);
    for _ in 0..count {
        xattrs.push(Xattr {
            name: reader.framed(XATTR_NAME_BYTES_MAX)?.to_vec(),
            value: reader.framed(XATTR_VALUE_BYTES_MAX)?.to_vec(),
        });
    }
    Ok(xattrs)
}

fn flags_byte(flags: EntryFlags) -> u8 {
    let bits = [
        (FLAG_CHANGED_WHILE_READ, flags.changed_while_read),
        (FLAG_UNSETTLED, flags.unsettled),
        (FLAG_CARRIED, flags.carried),
        (FLAG_CHANGED_BELOW, flags.changed_below),
    ];
    bits.into_iter().fold(
        0,
        |byte, (bit, is_set)| if is_set { byte | bit } else { byte },
    )
}

fn flags_of(byte: u8, reader: &ByteReader<'_>) -> Result<EntryFlags> {
    let has = |bit| byte & bit != 0;
    let flags = EntryFlags {
        changed_while_read: has(FLAG_CHANGED_WHILE_READ),
        unsettled: has(FLAG_UNSETTLED),
        carried: has(FLAG_CARRIED),
        changed_below: has(FLAG_CHANGED_BELOW),
    };
    if flags_byte(flags) != byte {
        return Err(reader.corrupt("it has flags that nothing writes"));
    }
    Ok(flags)
}

#[cfg(test)]
mod tests;
