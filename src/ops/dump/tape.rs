//! Tar, as POSIX.1-2001 extends it (PAX): all metadata of a point.
//!
//! A member's extended header has what the plain one has no room for: long names, times with nanoseconds, large numbers,
//! extended attributes as `SCHILY.xattr.NAME`, ACLs among them as the system's attributes, the way GNU tar and bsdtar
//! write and read them. Holes are written as zeros.

use std::collections::HashMap;
use std::io::{self, Write};

use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;

use super::archive::{Archive, Member, cannot_write};
use crate::base::{Result, RunId, Timestamp};
use crate::format::run::Owners;
use crate::format::{FileType, Metadata};
use crate::manifest::Chain;

/// Everything is in blocks of so many bytes.
const BLOCK_BYTES: u64 = 512;

/// The longest name in a plain header.
const NAME_BYTES_MAX: usize = 100;

/// The longest owner's name in a plain header, which ends in a NUL.
const OWNER_BYTES_MAX: usize = 31;

/// The largest numbers in a plain header, in octal digits: of owners, and of sizes and times.
const ID_MAX: u32 = 0o7_777_777;
const SIZE_MAX: u64 = 0o77_777_777_777;

/// A tar stream.
pub(super) struct Tape<'a> {
    builder: Builder<Stream<'a>>,
    chain: Chain,
    /// The owners' names of each run that was met.
    owners: HashMap<RunId, Owners>,
    /// Bytes of the member that were written.
    written: u64,
}

/// Where the stream goes.
enum Stream<'a> {
    Plain(&'a mut dyn Write),
    Compressed(Box<Encoder<'static, &'a mut dyn Write>>),
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Compressed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Compressed(out) => out.flush(),
        }
    }
}

/// A user's name and a group's, as far as they are known.
type OwnerNames = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What an extended header has.
#[derive(Default)]
struct Extended(Vec<(String, Vec<u8>)>);

impl Extended {
    fn add(&mut self, key: &str, value: impl Into<Vec<u8>>) {
        self.0.push((key.to_owned(), value.into()));
    }
}

impl<'a> Tape<'a> {
    /// A tar stream to `out`, of members from `chain`.
    pub(super) fn new(out: &'a mut dyn Write, chain: &Chain) -> Self {
        Self::to(Stream::Plain(out), chain)
    }

    /// The same, compressed.
    pub(super) fn compressed(out: Encoder<'static, &'a mut dyn Write>, chain: &Chain) -> Self {
        Self::to(Stream::Compressed(Box::new(out)), chain)
    }

    fn to(stream: Stream<'a>, chain: &Chain) -> Self {
        Self {
            builder: Builder::new(stream),
            chain: chain.clone(),
            owners: HashMap::new(),
            written: 0,
        }
    }

    /// The owner's names, if the run knows them that records the member.
    fn owner_names(&mut self, member: &Member) -> Result<OwnerNames> {
        use std::collections::hash_map::Entry;
        let run = &self.chain.runs()[member.found.run];
        let owners = match self.owners.entry(run.id()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(run.owners()?),
        };
        let metadata = &member.found.entry.metadata;
        Ok((
            owners.users.get(&metadata.uid).cloned(),
            owners.groups.get(&metadata.gid).cloned(),
        ))
    }
}

impl Archive for Tape<'_> {
    fn begin(&mut self, member: &Member) -> Result<Option<String>> {
        let metadata = &member.found.entry.metadata;
        let Some(entry_type) = entry_type(metadata.file_type, member.link.is_some()) else {
            return Ok(Some("a tar archive has no sockets: left out".to_owned()));
        };
        let (user, group) = self.owner_names(member)?;
        let mut extended = Extended::default();
        let mut header = Header::new_ustar();
        header.set_entry_type(entry_type);
        header.set_mode(metadata.mode);
        set_names(&mut header, member, &mut extended);
        set_owner(&mut header, metadata, user, group, &mut extended);
        set_time(&mut header, metadata.mtime, &mut extended);
        let has_content = entry_type == EntryType::Regular;
        let size = if has_content { metadata.size } else { 0 };
        header.set_size(size.min(SIZE_MAX));
        if size > SIZE_MAX {
            extended.add("size", size.to_string());
        }
        if matches!(entry_type, EntryType::Char | EntryType::Block) {
            header
                .set_device_major(libc::major(metadata.rdev))
                .and_then(|()| header.set_device_minor(libc::minor(metadata.rdev)))
                .map_err(cannot_write)?;
        }
        if member.link.is_none() {
            for xattr in &metadata.xattrs {
                extended.add(&xattr_key(&xattr.name), xattr.value.clone());
            }
        }
        header.set_cksum();
        let fields = extended.0.iter();
        self.builder
            .append_pax_extensions(fields.map(|(key, value)| (key.as_str(), &value[..])))
            .and_then(|()| self.builder.get_mut().write_all(header.as_bytes()))
            .map_err(cannot_write)?;
        self.written = 0;
        Ok(None)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.builder
            .get_mut()
            .write_all(bytes)
            .map_err(cannot_write)
    }

    fn end(&mut self) -> Result<()> {
        let padding = self.written.next_multiple_of(BLOCK_BYTES) - self.written;
        self.zeros(padding)
    }

    fn finish(self) -> Result<()> {
        let stream = self.builder.into_inner().map_err(cannot_write)?;
        match stream {
            Stream::Plain(out) => out.flush(),
            Stream::Compressed(out) => out.finish().and_then(|out| out.flush()),
        }
        .map_err(cannot_write)
    }
}

/// The type of a member; None for one that tar has not.
fn entry_type(file_type: FileType, is_link: bool) -> Option<EntryType> {
    Some(match file_type {
        FileType::Socket => return None,
        _ if is_link => EntryType::Link,
        FileType::Directory => EntryType::Directory,
        FileType::Regular => EntryType::Regular,
        FileType::Symlink => EntryType::Symlink,
        FileType::Fifo => EntryType::Fifo,
        FileType::CharacterDevice => EntryType::Char,
        FileType::BlockDevice => EntryType::Block,
    })
}

fn set_names(header: &mut Header, member: &Member, extended: &mut Extended) {
    let metadata = &member.found.entry.metadata;
    let mut path = member.path.clone();
    if metadata.file_type == FileType::Directory {
        if path.is_empty() {
            path.push(b'.');
        }
        path.push(b'/');
    }
    let link = match &member.link {
        Some(link) => link,
        None => &metadata.target,
    };
    let is_binary = [&path, link]
        .iter()
        .any(|name| std::str::from_utf8(name).is_err());
    if is_binary {
        extended.add("hdrcharset", "BINARY");
    }
    if !put(&mut header.as_old_mut().name, &path, NAME_BYTES_MAX) || is_binary {
        extended.add("path", path);
    }
    if !put(&mut header.as_old_mut().linkname, link, NAME_BYTES_MAX) || is_binary {
        extended.add("linkpath", link.clone());
    }
}

/// Puts as much of `name` into a field as it holds. Returns whether that is all.
fn put(field: &mut [u8], name: &[u8], bytes_max: usize) -> bool {
    let bytes = name.len().min(bytes_max);
    field[..bytes].copy_from_slice(&name[..bytes]);
    bytes == name.len()
}

fn set_owner(
    header: &mut Header,
    metadata: &Metadata,
    user: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    extended: &mut Extended,
) {
    header.set_uid(u64::from(metadata.uid.min(ID_MAX)));
    header.set_gid(u64::from(metadata.gid.min(ID_MAX)));
    for (key, id) in [("uid", metadata.uid), ("gid", metadata.gid)] {
        if id > ID_MAX {
            extended.add(key, id.to_string());
        }
    }
    let Some(ustar) = header.as_ustar_mut() else {
        return;
    };
    let names = [
        ("uname", user, &mut ustar.uname),
        ("gname", group, &mut ustar.gname),
    ];
    for (key, name, field) in names {
        let name = name.unwrap_or_default();
        if !put(field, &name, OWNER_BYTES_MAX) {
            extended.add(key, name);
        }
    }
}

fn set_time(header: &mut Header, mtime: Timestamp, extended: &mut Extended) {
    let whole = u64::try_from(mtime.seconds).unwrap_or(0).min(SIZE_MAX);
    header.set_mtime(whole);
    let is_plain = mtime.nanoseconds == 0 && i64::try_from(whole) == Ok(mtime.seconds);
    if !is_plain {
        extended.add("mtime", decimal(mtime));
    }
}

/// Seconds as a decimal number, as PAX has them: the fraction counts away from zero, too, before 1970.
fn decimal(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let magnitude = nanoseconds.unsigned_abs();
    format!(
        "{sign}{}.{:09}",
        magnitude / 1_000_000_000,
        magnitude % 1_000_000_000
    )
}

/// The key of an extended attribute. What would end a key is written as GNU tar does it.
fn xattr_key(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let name = name.replace('%', "%25").replace('=', "%3D");
    format!("SCHILY.xattr.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimal_numbers_also_before_1970() {
        let time = |seconds, nanoseconds| {
            decimal(Timestamp {
                seconds,
                nanoseconds,
            })
        };
        assert_eq!(time(1, 5), "1.000000005");
        assert_eq!(time(-1, 500_000_000), "-0.500000000");
        assert_eq!(time(-2, 0), "-2.000000000");
    }

    #[test]
    fn what_would_end_a_key_is_escaped() {
        assert_eq!(xattr_key(b"user.a=b%"), "SCHILY.xattr.user.a%3Db%25");
    }
}
