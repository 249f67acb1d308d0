//! The names of owners, and the warnings of a backup.

use std::collections::BTreeMap;

use crate::base::{ByteReader, ByteWriter, Result};

/// The longest name of an owner, in bytes: far above what any system allows.
const NAME_BYTES_MAX: usize = 4096;

/// Users, or groups, of one run. A name takes some fifty bytes of memory where two may do in the table.
const NAMES_MAX: usize = 1 << 20;

/// The longest path or message of a warning, in bytes.
const WARNING_BYTES_MAX: usize = 1 << 20;

/// An owner's number and name, as the source had them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    User { id: u32, name: Vec<u8> },
    Group { id: u32, name: Vec<u8> },
}

/// The names of all owners that a run knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    pub users: BTreeMap<u32, Vec<u8>>,
    pub groups: BTreeMap<u32, Vec<u8>>,
}

impl Owners {
    /// Learns an owner's name; the first one learnt stays. Names that are too long to be any, and those
    /// beyond what a table may have, are passed over.
    pub fn insert(&mut self, owner: &Owner) {
        let (names, id, name) = match owner {
            Owner::User { id, name } => (&mut self.users, id, name),
            Owner::Group { id, name } => (&mut self.groups, id, name),
        };
        if name.len() <= NAME_BYTES_MAX && names.len() < NAMES_MAX {
            names.entry(*id).or_insert_with(|| name.clone());
        }
    }

    /// The table's plain bytes: users, then groups, each a count, then number (less the one before) and name.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        if self.users.is_empty() && self.groups.is_empty() {
            return writer.into_bytes();
        }
        for names in [&self.users, &self.groups] {
            writer.varint(names.len() as u64);
            let mut before = 0;
            for (id, name) in names {
                writer.varint(u64::from(id - before));
                writer.framed(name);
                before = *id;
            }
        }
        writer.into_bytes()
    }

    /// The owners of a table's plain bytes; no bytes are no owners.
    ///
    /// # Errors
    /// Corrupt, if they are no such table.
    pub fn decode(plain: &[u8]) -> Result<Self> {
        if plain.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = ByteReader::new("a run's table of owners", plain);
        let owners = Self {
            users: decode_names(&mut reader)?,
            groups: decode_names(&mut reader)?,
        };
        reader.finish()?;
        Ok(owners)
    }
}

fn decode_names(reader: &mut ByteReader<'_>) -> Result<BTreeMap<u32, Vec<u8>>> {
    let count = reader.count(NAMES_MAX.min(reader.rest().len()))?;
    let mut names = BTreeMap::new();
    let mut before = 0_u32;
    for place in 0..count {
        let step = reader.varint_u32()?;
        before = before
            .checked_add(step)
            .filter(|_| place == 0 || step > 0)
            .ok_or_else(|| reader.corrupt("its numbers do not rise"))?;
        names.insert(before, reader.framed(NAME_BYTES_MAX)?.to_vec());
    }
    Ok(names)
}

/// The body of a warning, a path (from the root, without a slash before it) and what was wrong there. In the blocks of
/// warnings its key is its number in eight bytes, big-endian. Ends that are beyond the limit are cut off.
pub fn encode_warning(path: &[u8], message: &str, writer: &mut ByteWriter) {
    writer.framed(&path[..path.len().min(WARNING_BYTES_MAX)]);
    writer.framed(&message.as_bytes()[..message.len().min(WARNING_BYTES_MAX)]);
}

/// The path and the message of a warning's body.
///
/// # Errors
/// Corrupt, if it is none.
pub fn decode_warning(body: &[u8]) -> Result<(Vec<u8>, String)> {
    let mut reader = ByteReader::new("a run's warning", body);
    Ok((
        reader.framed(WARNING_BYTES_MAX)?.to_vec(),
        String::from_utf8_lossy(reader.framed(WARNING_BYTES_MAX)?).into_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn owners_come_back(
            users: BTreeMap<u32, Vec<u8>>, groups: BTreeMap<u32, Vec<u8>>,
        ) {
            let owners = Owners { users, groups };
            prop_assert_eq!(Owners::decode(&owners.encode()).unwrap(), owners);
        }

        #[test]
        fn warnings_come_back(path: Vec<u8>, message: String) {
            let mut writer = ByteWriter::new();
            encode_warning(&path, &message, &mut writer);
            prop_assert_eq!(decode_warning(writer.as_bytes()).unwrap(), (path, message));
        }

        #[test]
        fn bytes_that_are_no_table_do_no_harm(plain: Vec<u8>) {
            let _ = Owners::decode(&plain);
            let _ = decode_warning(&plain);
        }
    }

    #[test]
    fn the_first_name_of_an_owner_stays() {
        let mut owners = Owners::default();
        for name in [b"first", b"other"] {
            owners.insert(&Owner::User {
                id: 7,
                name: name.to_vec(),
            });
        }
        owners.insert(&Owner::Group {
            id: 7,
            name: b"group".to_vec(),
        });
        assert_eq!(owners.users[&7], b"first");
        assert_eq!(owners.groups[&7], b"group");
    }
}
