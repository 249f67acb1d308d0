//! The directories of a backup, until it is known which of them changed below.
//!
//! A directory's origin names a version of its whole subtree, and its record sorts before all that is below it. So
//! every directory waits here, in order and in a temporary file once they are many, with one byte in memory for
//! whether something below it changed; at the end they are recorded in one pass.

use std::collections::VecDeque;

use super::compare::same_metadata;
use super::plan::Based;
use crate::base::{ByteReader, ByteWriter, Error, Key, Result};
use crate::format::{Entry, Record, Tables, TablesWriter, decode_record, encode_record};
use crate::manifest::Spill;

/// Bytes of the length before each waiting record.
const LENGTH_BYTES: u64 = 4;

/// What an entry's record is worth next to the base.
const BASE_SAYS_IT: u8 = 1 << 0;
const BASE_HAS_METADATA: u8 = 1 << 1;

/// Directories that wait to be recorded.
#[derive(Debug)]
pub struct Directories {
    waiting: Spill,
    tables: TablesWriter,
    body: ByteWriter,
    count: u64,
    /// By the number of a directory: did something below it change?
    changed: Vec<bool>,
    /// The live directories from the root to the one that the last key lies in.
    levels: Vec<Level>,
}

/// A directory that the walk is in.
#[derive(Debug)]
struct Level {
    /// What the keys of all below it begin with.
    prefix: Vec<u8>,
    number: u64,
    /// The directories in it that were met and are still ahead.
    ahead: VecDeque<(Vec<u8>, u64)>,
}

impl Directories {
    /// None.
    pub fn new() -> Self {
        Self {
            waiting: Spill::new(),
            tables: TablesWriter::new(),
            body: ByteWriter::new(),
            count: 0,
            changed: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// A live directory, whose entry has an origin if it is, itself, no new version. Keys rise.
    ///
    /// # Errors
    /// Those of temporary files; usage, for an entry beyond the format's limits.
    pub fn entry(&mut self, key: &Key, entry: &Entry, base: Option<&Based>) -> Result<()> {
        let mut worth = 0;
        if let Some(base) = base {
            if base.says(entry) {
                worth |= BASE_SAYS_IT;
            }
            let known = base.metadata.as_deref();
            if known.is_some_and(|known| same_metadata(known, &entry.metadata)) {
                worth |= BASE_HAS_METADATA;
            }
        }
        let record = Record::Entry(Box::new(entry.clone()));
        let number = self.wait(key, worth, &record)?;
        self.go_to(key);
        let ahead = (key.descendants_prefix(), number);
        match self.levels.last_mut() {
            Some(level) => level.ahead.push_back(ahead),
            None => self.levels.push(Level {
                prefix: ahead.0,
                number,
                ahead: VecDeque::new(),
            }),
        }
        Ok(())
    }

    /// A directory that is no more.
    ///
    /// # Errors
    /// Those of temporary files.
    pub fn tombstone(&mut self, key: &Key, excluded: bool) -> Result<()> {
        self.wait(key, 0, &Record::Tombstone { excluded })?;
        Ok(())
    }

    /// Something of this key changed: so did all directories above it.
    pub fn change(&mut self, key: &Key) {
        if key.is_root() {
            return;
        }
        self.go_to(key);
        for level in self.levels.iter().rev() {
            let changed = usize::try_from(level.number)
                .ok()
                .and_then(|number| self.changed.get_mut(number));
            match changed {
                Some(changed) if !*changed => *changed = true,
                // All above it are known to have changed, too.
                _ => break,
            }
        }
    }

    /// Gives all that is to be recorded, in order.
    ///
    /// # Errors
    /// Those of temporary files and of `record`.
    pub fn finish(self, mut record: impl FnMut(&Key, &Record) -> Result<()>) -> Result<()> {
        let tables = self.tables.to_tables();
        let mut offset = 0;
        let mut bytes = Vec::new();
        for number in 0..self.count {
            let mut length = [0; LENGTH_BYTES as usize];
            self.waiting.read_at(offset, &mut length)?;
            bytes.resize(u32::from_le_bytes(length) as usize, 0);
            self.waiting.read_at(offset + LENGTH_BYTES, &mut bytes)?;
            offset += LENGTH_BYTES + bytes.len() as u64;
            let is_changed = usize::try_from(number)
                .ok()
                .and_then(|number| self.changed.get(number))
                .is_some_and(|changed| *changed);
            let (key, worth, mut waiting) = read(&bytes, &tables)?;
            if let Record::Entry(entry) = &mut waiting {
                if is_changed {
                    entry.origin = None;
                } else if worth & BASE_SAYS_IT != 0 {
                    continue;
                }
                entry.flags.changed_below = worth & BASE_HAS_METADATA != 0;
            }
            record(&key, &waiting)?;
        }
        Ok(())
    }

    /// Appends a record to those that wait; gives its number.
    fn wait(&mut self, key: &Key, worth: u8, record: &Record) -> Result<u64> {
        self.body.clear();
        self.body.framed(key.as_bytes());
        self.body.u8(worth);
        encode_record(record, &mut self.tables, &mut self.body)?;
        let body = self.body.as_bytes();
        let length = u32::try_from(body.len()).map_err(|_| too_long(key))?;
        self.waiting.append_with(|bytes| {
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(body);
            Ok(())
        })?;
        let number = self.count;
        self.count += 1;
        self.changed.push(false);
        Ok(number)
    }

    /// Makes the live directory that `key` lies in, or the deepest one above it, the last level.
    fn go_to(&mut self, key: &Key) {
        let key = key.as_bytes();
        while self.levels.len() > 1
            && self
                .levels
                .last()
                .is_some_and(|level| !key.starts_with(&level.prefix))
        {
            self.levels.pop();
        }
        while let Some(level) = self.levels.last_mut() {
            match level.ahead.front() {
                Some((prefix, _)) if key.starts_with(prefix) => {
                    if let Some((prefix, number)) = level.ahead.pop_front() {
                        let ahead = VecDeque::new();
                        self.levels.push(Level {
                            prefix,
                            number,
                            ahead,
                        });
                    }
                }
                // Keys rise, so that what sorts before this one is passed.
                Some((prefix, _)) if prefix.as_slice() < key => {
                    level.ahead.pop_front();
                }
                _ => break,
            }
        }
    }
}

fn read(bytes: &[u8], tables: &Tables) -> Result<(Key, u8, Record)> {
    let mut reader = ByteReader::new("a waiting directory", bytes);
    let key = Key::from_bytes(reader.framed(bytes.len())?.to_vec())?;
    let worth = reader.u8()?;
    let record = decode_record(&mut reader, tables)?;
    Ok((key, worth, record))
}

fn too_long(key: &Key) -> Error {
    Error::corrupt(key, "its record is too long to wait")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Origin, Row, RunId, Timestamp};
    use crate::format::{Content, EntryFlags, FileType, Metadata};

    fn key(path: &str) -> Key {
        Key::from_path(path.as_bytes()).unwrap()
    }

    fn origin(row: u64) -> Origin {
        Origin {
            run: RunId([7; 16]),
            row: Row(row),
        }
    }

    fn directory(origin: Option<Origin>) -> Entry {
        Entry {
            metadata: Metadata {
                file_type: FileType::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: Timestamp::default(),
                ctime: Timestamp::default(),
                btime: None,
                size: 4096,
                blocks: 8,
                links: 2,
                rdev: 0,
                target: Vec::new(),
                xattrs: Vec::new(),
                chattr: 0,
                inode: 1,
                device: 0,
            },
            origin,
            group: None,
            flags: EntryFlags::default(),
            content_hash: None,
            content: Content::Nothing,
            unknown: Vec::new(),
        }
    }

    fn based(row: u64) -> Based {
        Based {
            origin: origin(row),
            group: None,
            flags: EntryFlags::default(),
            metadata: Some(Box::new(directory(None).metadata)),
        }
    }

    /// A line for each record: path, whether its origin is new, whether only something below changed.
    fn recorded(directories: Directories) -> Vec<String> {
        let mut lines = Vec::new();
        directories
            .finish(|key, record| {
                lines.push(match record {
                    Record::Tombstone { .. } => format!("{key} gone"),
                    Record::Entry(entry) => format!(
                        "{key} {}{}",
                        if entry.origin.is_some() {
                            "same"
                        } else {
                            "new"
                        },
                        if entry.flags.changed_below {
                            " below"
                        } else {
                            ""
                        }
                    ),
                });
                Ok(())
            })
            .unwrap();
        lines
    }

    /// The root, a, b, a/c, a/d, a/c/e: all known to the base and unchanged.
    fn tree(marks: &[(&str, &str)]) -> Directories {
        let mut directories = Directories::new();
        for (row, path) in ["", "a", "b", "a/c", "a/d", "a/c/e"].iter().enumerate() {
            let row = row as u64;
            let entry = directory(Some(origin(row)));
            directories
                .entry(&key(path), &entry, Some(&based(row)))
                .unwrap();
            for (_, mark) in marks.iter().filter(|(after, _)| after == path) {
                directories.change(&key(mark));
            }
        }
        directories
    }

    #[test]
    fn where_nothing_changed_nothing_is_recorded() {
        assert_eq!(recorded(tree(&[])), [""; 0]);
    }

    #[test]
    fn a_change_records_every_directory_above_it_and_no_other() {
        assert_eq!(
            recorded(tree(&[("a/c/e", "a/c/e/file")])),
            [
                "/ new below",
                "/a new below",
                "/a/c new below",
                "/a/c/e new below"
            ]
        );
        assert_eq!(recorded(tree(&[("b", "file")])), ["/ new below"]);
        assert_eq!(
            recorded(tree(&[("a/d", "a/x"), ("a/c/e", "b/gone/below")])),
            ["/ new below", "/a new below", "/b new below"]
        );
    }

    #[test]
    fn a_change_of_the_root_itself_changes_nothing_above() {
        let mut directories = Directories::new();
        directories.change(&Key::root());
        directories
            .entry(&Key::root(), &directory(None), Some(&based(0)))
            .unwrap();
        directories.change(&Key::root());
        assert_eq!(recorded(directories), ["/ new below"]);
    }

    #[test]
    fn without_a_base_everything_is_recorded_with_the_origin_that_it_keeps() {
        let mut directories = Directories::new();
        for (row, path) in ["", "a", "b", "a/c"].iter().enumerate() {
            let entry = directory(Some(origin(row as u64)));
            directories.entry(&key(path), &entry, None).unwrap();
        }
        directories.change(&key("a/c"));
        assert_eq!(
            recorded(directories),
            ["/ new", "/a new", "/b same", "/a/c same"]
        );
    }

    #[test]
    fn tombstones_keep_their_place_in_the_order() {
        let mut directories = tree(&[]);
        directories.tombstone(&key("b/gone"), false).unwrap();
        directories.change(&key("b/gone"));
        assert_eq!(
            recorded(directories),
            ["/ new below", "/b new below", "/b/gone gone"]
        );
    }
}
