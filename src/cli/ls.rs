//! `bygone ls`: lists what lies in a directory of a point.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::outcome::Outcome;
use super::output::text_of;
use super::terminal::Paint;
use crate::base::{Key, Result, RunId, Timestamp};
use crate::fetch::Fetcher;
use crate::format::run::Owners;
use crate::format::{FileType, Metadata};
use crate::manifest::{Chain, Found};
use crate::ops::list;

/// Bytes of memory for pieces of runs: a listing reads each about once.
const MEMORY_BYTES: u64 = 16 << 20;

/// List a directory of a restore point
///
/// Nothing needs to be mounted. Names go into a pipe byte for byte, as ls(1) gives them; on a terminal, what it would
/// obey rather than show is escaped. With -R, whole paths are listed, one a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone ls latest
  bygone ls latest /etc -l
  bygone ls 2026-11-20 /home -R | grep report
  bygone ls latest~1 /etc --json | jq -r 'select(.size > 1000000) | .path'

JSON: one object a line, with
  path         from the root; bytes that are not UTF-8 are replaced
  path_hex     the path's bytes, where it is not UTF-8
  type         file, directory, symlink, fifo, socket, character device or block device
  mode         the permission bits, as a number
  uid, gid     the owner's numbers
  user, group  the owner's names, or null
  size         bytes
  links        hard links
  inode        as in the source
  mtime, ctime, btime  RFC 3339 with nanoseconds; btime may be null
  target       a symlink's, or null
  rdev         a device's number, or null
  xattrs       names of extended attributes
  carried      true if it could not be read, and an older version stands for it
  changed_while_read   true if it changed while it was read")]
pub struct Arguments {
    /// The point: an id, a short id, latest, latest~N, a time or K=V
    #[arg(value_name = "POINT")]
    point: String,

    /// The directory, from the root of the point
    #[arg(value_name = "PATH", default_value = "/")]
    directory: OsString,

    /// Show types, permissions, owners, sizes and times as well
    #[arg(short, long)]
    long: bool,

    /// List all below the directory, by whole paths
    #[arg(short = 'R', long)]
    recursive: bool,

    #[command(flatten)]
    filter: PointFilterArguments,
}

/// Prints the listing.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    let point = context.point(&repository, &arguments.point, &arguments.filter)?;
    let fetcher = Fetcher::new(Arc::clone(&repository), MEMORY_BYTES);
    let chain = Chain::open(&fetcher, &point)?;
    let path = Key::from_path(arguments.directory.as_bytes())?;
    let mut listing = Listing {
        context,
        chain: &chain,
        owners: HashMap::new(),
        long: arguments.long,
        whole_paths: arguments.recursive,
    };
    list::list(&chain, &path, arguments.recursive, &mut |found| {
        listing.print(found)
    })?;
    Ok(Outcome::Done)
}

/// Prints entries, one a line.
struct Listing<'a> {
    context: &'a Context,
    chain: &'a Chain,
    /// The owners' names of each run that was met.
    owners: HashMap<RunId, Owners>,
    long: bool,
    whole_paths: bool,
}

impl Listing<'_> {
    fn print(&mut self, found: &Found) -> Result<()> {
        if self.context.json() {
            return self.print_object(found);
        }
        let mut line = Vec::new();
        if self.long {
            line.extend_from_slice(self.details(found)?.as_bytes());
            line.push(b' ');
        }
        let paint = paint_of(&found.entry.metadata);
        if self.whole_paths {
            line.push(b'/');
            self.append_name(&found.key.to_path(), paint, &mut line);
        } else {
            self.append_name(found.key.name(), paint, &mut line);
        }
        if self.long && found.entry.metadata.file_type == FileType::Symlink {
            line.extend_from_slice(b" -> ");
            self.append_name(&found.entry.metadata.target, None, &mut line);
        }
        line.push(b'\n');
        self.context.output().bytes(&line)
    }

    /// For a terminal as it may show it, else as it is, like ls(1).
    fn append_name(&self, name: &[u8], paint: Option<Paint>, line: &mut Vec<u8>) {
        let output = self.context.output();
        if !output.is_terminal() && !output.shows_colors() {
            line.extend_from_slice(name);
            return;
        }
        let text = text_of(name);
        let shown = match paint {
            Some(paint) => output.painted(paint, &text),
            None => text,
        };
        line.extend_from_slice(shown.as_bytes());
    }

    fn details(&mut self, found: &Found) -> Result<String> {
        let metadata = &found.entry.metadata;
        let (user, group) = self.owner_names(found)?;
        let size = match metadata.file_type {
            FileType::CharacterDevice | FileType::BlockDevice => {
                format!(
                    "{}, {}",
                    libc::major(metadata.rdev),
                    libc::minor(metadata.rdev)
                )
            }
            _ => metadata.size.to_string(),
        };
        Ok(format!(
            "{} {:>3} {:<8} {:<8} {:>12} {}",
            permissions(metadata),
            metadata.links,
            user.unwrap_or_else(|| metadata.uid.to_string()),
            group.unwrap_or_else(|| metadata.gid.to_string()),
            size,
            local_minute(&metadata.mtime)
        ))
    }

    fn print_object(&mut self, found: &Found) -> Result<()> {
        let metadata = &found.entry.metadata;
        let (user, group) = self.owner_names(found)?;
        let path = found.key.to_path();
        let is_device = matches!(
            metadata.file_type,
            FileType::CharacterDevice | FileType::BlockDevice
        );
        self.context.output().object(&EntryObject {
            path: format!("/{}", String::from_utf8_lossy(&path)),
            path_hex: hex_unless_utf8(&path),
            file_type: type_word(metadata.file_type),
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            user,
            group,
            size: metadata.size,
            links: metadata.links,
            inode: metadata.inode,
            mtime: rfc3339(&metadata.mtime),
            ctime: rfc3339(&metadata.ctime),
            btime: metadata.btime.as_ref().map(rfc3339),
            target: (metadata.file_type == FileType::Symlink)
                .then(|| String::from_utf8_lossy(&metadata.target).into_owned()),
            rdev: is_device.then_some(metadata.rdev),
            xattrs: metadata
                .xattrs
                .iter()
                .map(|xattr| String::from_utf8_lossy(&xattr.name).into_owned())
                .collect(),
            carried: found.entry.flags.carried,
            changed_while_read: found.entry.flags.changed_while_read,
        })
    }

    /// The owner's names, as the run knows them that records the entry.
    fn owner_names(&mut self, found: &Found) -> Result<(Option<String>, Option<String>)> {
        let run = &self.chain.runs()[found.run];
        let owners = match self.owners.entry(run.id()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(run.owners()?),
        };
        let metadata = &found.entry.metadata;
        let text = |name: Option<&Vec<u8>>| name.map(|name| text_of(name));
        Ok((
            text(owners.users.get(&metadata.uid)),
            text(owners.groups.get(&metadata.gid)),
        ))
    }
}

/// An entry as JSON shows it.
#[derive(Serialize)]
struct EntryObject {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    #[serde(rename = "type")]
    file_type: &'static str,
    mode: u32,
    uid: u32,
    gid: u32,
    user: Option<String>,
    group: Option<String>,
    size: u64,
    links: u64,
    inode: u64,
    mtime: String,
    ctime: String,
    btime: Option<String>,
    target: Option<String>,
    rdev: Option<u64>,
    xattrs: Vec<String>,
    carried: bool,
    changed_while_read: bool,
}

/// An entry's type as JSON shows it.
pub(super) fn type_word(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Directory => "directory",
        FileType::Regular => "file",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
    }
}

/// Type and permissions as ls(1) shows them: `drwxr-sr-t`.
fn permissions(metadata: &Metadata) -> String {
    let mut text = String::with_capacity(10);
    text.push(match metadata.file_type {
        FileType::Directory => 'd',
        FileType::Regular => '-',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = metadata.mode >> shift;
        let may_execute = bits & 1 != 0;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (metadata.mode & special != 0, may_execute) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// What colour a name has, if it is no mere file's.
fn paint_of(metadata: &Metadata) -> Option<Paint> {
    const MAY_BE_RUN: u32 = 0o111;
    match metadata.file_type {
        FileType::Directory => Some(Paint::Directory),
        FileType::Symlink => Some(Paint::Symlink),
        FileType::Regular if metadata.mode & MAY_BE_RUN != 0 => Some(Paint::Good),
        FileType::Regular => None,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
            Some(Paint::Special)
        }
    }
}

/// The bytes of a path as hexadecimal digits, if text cannot show them.
pub(super) fn hex_unless_utf8(path: &[u8]) -> Option<String> {
    std::str::from_utf8(path)
        .is_err()
        .then(|| path.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A time that a file has; None if it is beyond the years that there are words for.
fn instant(time: &Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.seconds, i32::try_from(time.nanoseconds).ok()?).ok()
}

/// A file's time as JSON shows it.
pub(super) fn rfc3339(time: &Timestamp) -> String {
    match instant(time) {
        Some(instant) => format!("{instant:.9}"),
        // Beyond year 9999: seconds since 1970, as date(1) takes them.
        None => format!("@{}.{:09}", time.seconds, time.nanoseconds),
    }
}

/// A file's time as people of this machine's zone read it.
pub(super) fn local_minute(time: &Timestamp) -> String {
    match instant(time) {
        Some(instant) => instant
            .to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M")
            .to_string(),
        None => format!("@{}", time.seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(file_type: FileType, mode: u32) -> Metadata {
        let epoch = Timestamp::default();
        Metadata {
            file_type,
            mode,
            uid: 0,
            gid: 0,
            mtime: epoch,
            ctime: epoch,
            btime: None,
            size: 0,
            blocks: 0,
            links: 1,
            rdev: 0,
            target: Vec::new(),
            xattrs: Vec::new(),
            chattr: 0,
            inode: 1,
            device: 0,
        }
    }

    #[test]
    fn permissions_are_shown_as_ls_shows_them() {
        let text = |file_type, mode| permissions(&metadata(file_type, mode));
        assert_eq!(text(FileType::Regular, 0o644), "-rw-r--r--");
        assert_eq!(text(FileType::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(text(FileType::Regular, 0o6755), "-rwsr-sr-x");
        assert_eq!(text(FileType::Regular, 0o7000), "---S--S--T");
    }

    #[test]
    fn times_have_all_their_nanoseconds_whenever_they_are() {
        let time = |seconds, nanoseconds| Timestamp {
            seconds,
            nanoseconds,
        };
        assert_eq!(rfc3339(&time(0, 1)), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(
            rfc3339(&time(-1, 500_000_000)),
            "1969-12-31T23:59:59.500000000Z"
        );
        assert_eq!(
            rfc3339(&time(i64::MAX, 0)),
            "@9223372036854775807.000000000"
        );
    }

    #[test]
    fn paths_that_are_no_text_are_given_as_digits_too() {
        assert_eq!(hex_unless_utf8(b"a"), None);
        assert_eq!(hex_unless_utf8(b"a\xff").as_deref(), Some("61ff"));
    }
}
