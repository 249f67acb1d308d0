//! A block: rising keys with a body each, prefix-compressed, and searchable where it lies.
//!
//! Plain bytes of a block:
//!
//! ```text
//! entry*    varint shared, varint suffix length, suffix, varint body length, body
//! u32 *     the offset of every 16th entry, the first one's included: the restarts, whose `shared` is 0
//! u32       the number of entries, at least 1
//! ```
//!
//! A key is the first `shared` bytes of the key before it, then the suffix. A key is found by a binary search of the
//! restarts and a walk over at most 16 entries; an entry's number leads to its restart by division. Nothing is built
//! for entries that nobody asks for. What a body means is not known here: blocks of records, of the block index, of
//! the origin map and of warnings are all written like this.
//!
//! Everything is checked when it is met: bounds, restarts, and that keys rise strictly.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use crate::base::limits::{BLOCK_PLAIN_BYTES_MAX, ENTRY_BYTES_MAX};
use crate::base::{ByteReader, ByteWriter, Error, ErrorKind, Result};

/// Plain bytes from which on a block is full. Large enough to compress well, small enough that one lookup is cheap.
pub const BLOCK_BYTES_TARGET: usize = 64 << 10;

/// Entries from one restart to the next.
const RESTART_INTERVAL: usize = 16;

/// The longest key, far beyond PATH_MAX. It bounds what the reading of a damaged block can cost.
pub const KEY_BYTES_MAX: usize = 1 << 20;

/// The least that an entry takes: three lengths, all of them 0.
const ENTRY_BYTES_MIN: usize = 3;

const WHAT: &str = "a block";

/// Writes blocks, one after the other.
#[derive(Debug, Default)]
pub struct BlockWriter {
    bytes: ByteWriter,
    restarts: Vec<u32>,
    count: usize,
    last_key: Vec<u8>,
}

impl BlockWriter {
    /// A writer of an empty block.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry. The key sorts after those before it, which the caller has seen to.
    ///
    /// # Errors
    /// Usage, for a key, a body or a block beyond the format's limits.
    pub fn push(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        debug_assert!(self.count == 0 || key > &self.last_key[..], "keys rise");
        if key.len() > KEY_BYTES_MAX || body.len() > ENTRY_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "an entry with a path of {} bytes and {} bytes of metadata is larger than the format allows",
                    key.len(),
                    body.len()
                ),
            ));
        }
        let shared = if self.count.is_multiple_of(RESTART_INTERVAL) {
            // A full block is cut at 64 KiB, so that only its last entry can lie beyond: offsets fit 32 bits.
            self.restarts.push(self.bytes.len() as u32);
            0
        } else {
            common_prefix(&self.last_key, key)
        };
        self.bytes.varint(shared as u64);
        self.bytes.framed(&key[shared..]);
        self.bytes.framed(body);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.count += 1;
        Ok(())
    }

    /// How many entries the block has so far.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Plain bytes so far.
    pub fn plain_length(&self) -> usize {
        self.bytes.len()
    }

    /// The last key appended to this block.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Ends the block, gives its plain bytes to `use_plain` and begins the next one.
    pub fn finish_block<T>(&mut self, use_plain: impl FnOnce(&[u8]) -> T) -> T {
        for offset in &self.restarts {
            self.bytes.u32(*offset);
        }
        self.bytes.u32(self.count as u32);
        let used = use_plain(self.bytes.as_bytes());
        self.bytes.clear();
        self.restarts.clear();
        self.count = 0;
        self.last_key.clear();
        used
    }
}

/// The length of what two byte strings begin with alike.
fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

/// A block that is read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Block {
    plain: Bytes,
    /// Where the entries end and the restarts begin.
    entries_end: usize,
    count: usize,
}

/// An entry of a block, by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number in the block.
    pub index: usize,
    /// Is its key the one that was asked for?
    pub is_exact: bool,
    body: Range<usize>,
}

/// An entry as it stands, its key not put together.
struct RawEntry<'a> {
    shared: usize,
    suffix: &'a [u8],
    body: Range<usize>,
    end: usize,
}

impl Block {
    /// The block of these plain bytes.
    ///
    /// # Errors
    /// Corrupt, like those of all that reads, if they cannot be one.
    pub fn open(plain: Bytes) -> Result<Self> {
        let count_start = plain
            .len()
            .checked_sub(4)
            .filter(|_| plain.len() <= BLOCK_PLAIN_BYTES_MAX)
            .ok_or_else(|| Error::corrupt(WHAT, format!("it has {} bytes", plain.len())))?;
        let count = read_u32(&plain, count_start) as usize;
        let entries_end = count
            .div_ceil(RESTART_INTERVAL)
            .checked_mul(4)
            .and_then(|restarts| count_start.checked_sub(restarts))
            .filter(|end| count > 0 && *end / ENTRY_BYTES_MIN >= count)
            .ok_or_else(|| {
                Error::corrupt(
                    WHAT,
                    format!("{} bytes cannot hold its {count} entries", plain.len()),
                )
            })?;
        Ok(Self {
            plain,
            entries_end,
            count,
        })
    }

    /// The number of entries, at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The body of the entry at a place in this block.
    pub fn body(&self, place: &Place) -> &[u8] {
        &self.plain[place.body.clone()]
    }

    /// The entry of this very key.
    pub fn find(&self, key: &[u8]) -> Result<Option<Place>> {
        Ok(self.floor(key)?.filter(|place| place.is_exact))
    }

    /// The last entry whose key is `key` or sorts before it.
    pub fn floor(&self, key: &[u8]) -> Result<Option<Place>> {
        let Some(restart) = self.last_restart(|entry| Ok(entry.suffix <= key))? else {
            return Ok(None);
        };
        let mut walk = self.walk(restart)?;
        let mut best = None;
        // How much of `key` the entry before has; that one sorts before `key`.
        let mut matched = 0;
        while let Some((index, entry)) = walk.step()? {
            // What shares more with the entry before than `key` does stands on the same side of `key`.
            let order = if entry.shared > matched {
                Ordering::Less
            } else {
                let wanted = &key[entry.shared..];
                matched = entry.shared + common_prefix(entry.suffix, wanted);
                entry.suffix.cmp(wanted)
            };
            if order == Ordering::Greater {
                break;
            }
            best = Some(Place {
                index,
                is_exact: order == Ordering::Equal,
                body: entry.body,
            });
            if order == Ordering::Equal {
                break;
            }
        }
        Ok(best)
    }

    /// The last entry of those whose bodies `precedes` says yes to, where no such entry follows another.
    pub fn floor_by_body(&self, precedes: impl Fn(&[u8]) -> Result<bool>) -> Result<Option<Place>> {
        let holds = |entry: &RawEntry<'_>| precedes(&self.plain[entry.body.clone()]);
        let Some(restart) = self.last_restart(holds)? else {
            return Ok(None);
        };
        let mut walk = self.walk(restart)?;
        let mut best = None;
        while let Some((index, entry)) = walk.step()? {
            if !holds(&entry)? {
                break;
            }
            best = Some(Place {
                index,
                is_exact: false,
                body: entry.body,
            });
        }
        Ok(best)
    }

    /// A cursor before the first entry whose key is `key` or sorts after it.
    pub fn seek(&self, key: &[u8]) -> Result<BlockCursor> {
        let restart = self
            .last_restart(|entry| Ok(entry.suffix <= key))?
            .unwrap_or(0);
        let mut cursor = self.cursor_at_restart(restart)?;
        while cursor.advance()? {
            if cursor.key() >= key {
                cursor.stay = true;
                break;
            }
        }
        Ok(cursor)
    }

    /// A cursor before the entry of number `index`.
    pub fn seek_index(&self, index: usize) -> Result<BlockCursor> {
        if index >= self.count {
            return Err(Error::corrupt(
                WHAT,
                format!("it has {} entries, not an entry {index}", self.count),
            ));
        }
        let mut cursor = self.cursor_at_restart(index / RESTART_INTERVAL)?;
        for _ in 0..index % RESTART_INTERVAL {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    /// A cursor before the first entry.
    pub fn cursor(&self) -> BlockCursor {
        BlockCursor {
            block: self.clone(),
            next: 0,
            next_index: 0,
            stay: false,
            key: Vec::new(),
            body: 0..0,
        }
    }

    fn cursor_at_restart(&self, restart: usize) -> Result<BlockCursor> {
        let mut cursor = self.cursor();
        cursor.next = self.restart_offset(restart)?;
        cursor.next_index = restart * RESTART_INTERVAL;
        Ok(cursor)
    }

    /// The last restart that `holds` says yes to, where none such follows another.
    fn last_restart(&self, holds: impl Fn(&RawEntry<'_>) -> Result<bool>) -> Result<Option<usize>> {
        let (mut low, mut high) = (0, self.count.div_ceil(RESTART_INTERVAL));
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.raw_entry(self.restart_offset(middle)?)?;
            if entry.shared != 0 {
                return Err(Error::corrupt(WHAT, "a restart leans on the key before it"));
            }
            if holds(&entry)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }

    fn restart_offset(&self, restart: usize) -> Result<usize> {
        let offset = read_u32(&self.plain, self.entries_end + 4 * restart) as usize;
        if offset >= self.entries_end || (restart == 0 && offset != 0) {
            return Err(Error::corrupt(WHAT, "a restart lies outside its entries"));
        }
        Ok(offset)
    }

    /// A walk over the entries from a restart to the next one.
    fn walk(&self, restart: usize) -> Result<Walk<'_>> {
        let index = restart * RESTART_INTERVAL;
        Ok(Walk {
            block: self,
            offset: self.restart_offset(restart)?,
            index,
            end: self.count.min(index + RESTART_INTERVAL),
        })
    }

    fn raw_entry(&self, offset: usize) -> Result<RawEntry<'_>> {
        let mut reader = ByteReader::new(WHAT, &self.plain[offset..self.entries_end]);
        let shared = reader.count(KEY_BYTES_MAX)?;
        let suffix = reader.framed(KEY_BYTES_MAX)?;
        let body_length = reader.count(ENTRY_BYTES_MAX)?;
        let body_start = self.entries_end - reader.rest().len();
        let end = body_start + reader.raw(body_length)?.len();
        Ok(RawEntry {
            shared,
            suffix,
            body: body_start..end,
            end,
        })
    }
}

/// The entries between two restarts, keys not put together.
struct Walk<'a> {
    block: &'a Block,
    offset: usize,
    index: usize,
    end: usize,
}

impl<'a> Walk<'a> {
    fn step(&mut self) -> Result<Option<(usize, RawEntry<'a>)>> {
        if self.index == self.end {
            return Ok(None);
        }
        let entry = self.block.raw_entry(self.offset)?;
        let index = self.index;
        self.offset = entry.end;
        self.index += 1;
        Ok(Some((index, entry)))
    }
}

/// Goes through a block's entries, from anywhere to the end.
#[derive(Debug, Clone)]
pub struct BlockCursor {
    block: Block,
    /// Where the next entry lies, and its number.
    next: usize,
    next_index: usize,
    /// The entry that the next advance is to arrive at is here already.
    stay: bool,
    key: Vec<u8>,
    body: Range<usize>,
}

impl BlockCursor {
    /// Goes to the next entry; false at the end.
    ///
    /// # Errors
    /// Corrupt, if the entry's key does not sort after the one before, or anything of it lies outside of the block.
    pub fn advance(&mut self) -> Result<bool> {
        if self.stay {
            self.stay = false;
            return Ok(true);
        }
        if self.next_index == self.block.count {
            return self.at_end();
        }
        if self.next_index.is_multiple_of(RESTART_INTERVAL) {
            self.check_restart()?;
        }
        let entry = self.block.raw_entry(self.next)?;
        if entry.shared + entry.suffix.len() > KEY_BYTES_MAX {
            return Err(Error::corrupt(WHAT, "a key is longer than a key can be"));
        }
        // Sharing all that both begin with, the suffixes stand in the order of the keys.
        let rises = self
            .key
            .get(entry.shared..)
            .is_some_and(|before| entry.suffix > before || (self.is_new() && entry.shared == 0));
        if !rises {
            return Err(Error::corrupt(
                WHAT,
                format!(
                    "the key of entry {} does not sort after the one before",
                    self.next_index
                ),
            ));
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(entry.suffix);
        self.body = entry.body;
        self.next = entry.end;
        self.next_index += 1;
        Ok(true)
    }

    /// The key of the entry that the cursor is at.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.block.plain[self.body.clone()]
    }

    /// Its number in the block. The cursor has been advanced to it.
    pub fn index(&self) -> usize {
        self.next_index - 1
    }

    /// Was it never advanced?
    fn is_new(&self) -> bool {
        self.body.end == 0
    }

    /// Lookups and walks must come to the same entries.
    fn check_restart(&self) -> Result<()> {
        let restart = self.next_index / RESTART_INTERVAL;
        if self.block.restart_offset(restart)? == self.next {
            Ok(())
        } else {
            Err(Error::corrupt(
                WHAT,
                "a restart is not where its entry lies",
            ))
        }
    }

    fn at_end(&self) -> Result<bool> {
        if self.next == self.block.entries_end {
            Ok(false)
        } else {
            Err(Error::corrupt(WHAT, "bytes follow its last entry"))
        }
    }
}

fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn plain_of(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
        let mut writer = BlockWriter::new();
        for (key, body) in entries {
            writer.push(key, body).unwrap();
        }
        writer.finish_block(<[u8]>::to_vec)
    }

    fn block_of(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Block {
        Block::open(plain_of(entries).into()).unwrap()
    }

    fn numbered(count: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        (0..count)
            .map(|number| {
                (
                    format!("key {number:06}").into_bytes(),
                    vec![number as u8; number % 5],
                )
            })
            .collect()
    }

    /// An entry's number, key and body.
    type Met = (usize, Vec<u8>, Vec<u8>);

    /// All that a cursor meets, or the first error.
    fn walk(mut cursor: BlockCursor) -> Result<Vec<Met>> {
        let mut met = Vec::new();
        while cursor.advance()? {
            met.push((
                cursor.index(),
                cursor.key().to_vec(),
                cursor.body().to_vec(),
            ));
        }
        Ok(met)
    }

    /// Asks a block everything that can be asked. Only that it ends counts, and that it does so without a panic.
    fn ask_everything(plain: &[u8], key: &[u8]) -> bool {
        let Ok(block) = Block::open(Bytes::copy_from_slice(plain)) else {
            return false;
        };
        let whole = walk(block.cursor()).is_ok();
        let _ = block.find(key);
        let _ = block.floor_by_body(|body| Ok(body.len() < 3));
        let _ = block.seek(key).and_then(walk);
        let _ = block.seek_index(block.count() / 2).and_then(walk);
        whole
    }

    proptest! {
        #[test]
        fn every_entry_is_found_and_what_is_between_is_not(
            entries in prop::collection::btree_map(
                prop::collection::vec(0..3_u8, 0..8), prop::collection::vec(any::<u8>(), 0..4), 1..200),
            probes in prop::collection::vec(prop::collection::vec(0..4_u8, 0..9), 20),
        ) {
            let block = block_of(&entries);
            prop_assert_eq!(block.count(), entries.len());
            let all: Vec<_> = entries.iter().enumerate()
                .map(|(index, (key, body))| (index, key.clone(), body.clone())).collect();
            prop_assert_eq!(&walk(block.cursor()).unwrap(), &all);
            for (index, key, body) in &all {
                let place = block.find(key).unwrap().unwrap();
                prop_assert_eq!((place.index, block.body(&place)), (*index, &body[..]));
                prop_assert_eq!(&walk(block.seek_index(*index).unwrap()).unwrap(), &all[*index..]);
            }
            for probe in &probes {
                let below = all.iter().rposition(|(_, key, _)| key <= probe);
                let floor = block.floor(probe).unwrap();
                prop_assert_eq!(floor.as_ref().map(|place| place.index), below);
                prop_assert_eq!(block.find(probe).unwrap().is_some(), entries.contains_key(probe));
                let from = all.iter().position(|(_, key, _)| key >= probe).unwrap_or(all.len());
                prop_assert_eq!(&walk(block.seek(probe).unwrap()).unwrap(), &all[from..]);
            }
        }

        #[test]
        fn bytes_that_are_no_block_do_no_harm(plain: Vec<u8>, key: Vec<u8>) {
            ask_everything(&plain, &key);
        }

        #[test]
        fn a_changed_byte_never_panics(count in 1..60_usize, place: prop::sample::Index, byte: u8) {
            let mut plain = plain_of(&numbered(count));
            let place = place.index(plain.len());
            plain[place] = byte;
            ask_everything(&plain, b"key 000020");
        }
    }

    #[test]
    fn an_entry_is_found_by_what_its_body_says() {
        let entries = (0..100_u8)
            .map(|number| (vec![number], vec![number * 2]))
            .collect();
        let block = block_of(&entries);
        for wanted in 0..=210_u8 {
            let place = block
                .floor_by_body(|body| Ok(body[0] <= wanted))
                .unwrap()
                .unwrap();
            assert_eq!(place.index, usize::from(wanted / 2).min(99));
        }
        assert!(block.floor_by_body(|_| Ok(false)).unwrap().is_none());
    }

    #[test]
    fn blocks_cut_anywhere_are_refused() {
        let plain = plain_of(&numbered(40));
        assert!(ask_everything(&plain, b"key 000001"));
        for length in 0..plain.len() {
            assert!(!ask_everything(&plain[..length], b"key 000001"), "{length}");
        }
    }

    #[test]
    fn keys_that_do_not_rise_are_refused() {
        let entry = |shared, suffix: &[u8]| {
            let mut writer = ByteWriter::new();
            writer.varint(shared);
            writer.framed(suffix);
            writer.framed(b"");
            writer.into_bytes()
        };
        for (second, good) in [
            (entry(1, b"c"), true),
            (entry(0, b"b"), true),
            (entry(1, b"b"), false),
            (entry(1, b"a"), false),
            (entry(2, b""), false),
            (entry(1, b""), false),
            (entry(0, b"aa"), false),
            (entry(3, b"c"), false),
        ] {
            let mut plain = entry(0, b"ab");
            plain.extend_from_slice(&second);
            plain.extend_from_slice(&0_u32.to_le_bytes());
            plain.extend_from_slice(&2_u32.to_le_bytes());
            let block = Block::open(plain.into()).unwrap();
            assert_eq!(walk(block.cursor()).is_ok(), good, "{second:?}");
        }
    }

    #[test]
    fn counts_and_restarts_that_lie_are_refused() {
        let plain = plain_of(&numbered(20));
        let end = plain.len();
        for count in [0_u32, 21, 33, 1000, u32::MAX] {
            let mut lie = plain.clone();
            lie[end - 4..].copy_from_slice(&count.to_le_bytes());
            assert!(!ask_everything(&lie, b"key 000001"), "{count}");
        }
        for offset in [0_u32, 1, 10_000, u32::MAX] {
            let mut lie = plain.clone();
            lie[end - 8..end - 4].copy_from_slice(&offset.to_le_bytes());
            assert!(!ask_everything(&lie, b"key 000018"), "{offset}");
        }
    }

    #[test]
    fn what_is_beyond_the_limits_is_not_written() {
        let mut writer = BlockWriter::new();
        assert!(writer.push(&vec![b'a'; KEY_BYTES_MAX], b"").is_ok());
        assert!(writer.push(&vec![b'b'; KEY_BYTES_MAX + 1], b"").is_err());
    }
}
