//! Files and folders on the server: objects put under their names, listings, and what dead writers left.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use openssh_sftp_client::Sftp;
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::file::File;
use openssh_sftp_client::fs::DirEntry;
use openssh_sftp_client::metadata::{MetaData, Permissions};

use crate::base::{Error, Result};

use super::super::name::check_name;
use super::super::{Body, Listed};
use super::session::{Trouble, answered};
use super::transfer;

/// Where writers keep what they have not finished, as in a local store.
pub(super) const TEMPORARY_FOLDER: &str = "tmp";

/// What file systems put into their topmost directory by themselves.
const LOST_AND_FOUND: &str = "lost+found";

/// Permissions: a repository holds what its owner may read, and is nobody else's to read.
const DIRECTORY_MODE: u16 = 0o700;
const FILE_MODE: u16 = 0o600;

/// Random bytes in a writer's name; a local store's have as many.
const WRITER_BYTES: usize = 16;

/// What is in the temporary folder and so much older than a file that was made just now is nobody's any more: no object
/// takes a day to upload.
const STALE_SECONDS: u64 = 24 * 60 * 60;

/// Folders that are listed at once.
const LISTINGS_AT_ONCE: usize = 16;

/// How a put ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The name was free, and the server saw to it.
    New,
    /// The name was free when we looked.
    AfterLook,
    /// The name is another object's.
    Taken,
    /// There is no room on the server.
    Full,
}

/// One put.
pub(super) struct Put<'a> {
    pub(super) sftp: &'a Sftp,
    pub(super) root: &'a str,
    /// Where it is written.
    pub(super) temporary: &'a str,
    /// Where it appears.
    pub(super) target: &'a str,
}

impl Put<'_> {
    /// Writes `body` and gives it its name. Leaves nothing else behind, unless the conversation breaks.
    pub(super) async fn run(&self, body: Body<'_>) -> std::result::Result<Published, Trouble> {
        let result = match self.write(body).await {
            Ok(()) => self.publish().await,
            Err(trouble) => Err(trouble),
        };
        // Renamed or not, it is not to stay; where nothing can be removed, the next writer's clearing does.
        let _ = answered(self.sftp.fs().remove_file(self.temporary)).await;
        match result {
            Err(Trouble::Refused(SftpErrorKind::Failure, _)) if self.is_full().await => {
                Ok(Published::Full)
            }
            result => result,
        }
    }

    async fn write(&self, body: Body<'_>) -> std::result::Result<(), Trouble> {
        let mut file = self.create().await?;
        // The mode is set before a byte is there for anybody to read.
        answered(file.set_permissions(Permissions::from(FILE_MODE))).await?;
        transfer::write(&file, body).await?;
        if self.sftp.support_fsync() {
            answered(file.sync_all()).await?;
        }
        answered(file.close()).await
    }

    /// The new file, and the folder it lies in if that is not there.
    async fn create(&self) -> std::result::Result<File, Trouble> {
        let mut options = self.sftp.options();
        options.write(true).create_new(true);
        match answered(options.open(self.temporary)).await {
            Err(trouble) if trouble.is_missing() => {
                self.make_folders_of(self.temporary).await?;
                answered(options.open(self.temporary)).await
            }
            result => result,
        }
    }

    async fn publish(&self) -> std::result::Result<Published, Trouble> {
        match self.name_it().await {
            Err(trouble) if trouble.is_missing() => {
                self.make_folders_of(self.target).await?;
                match self.name_it().await {
                    // The folder is there: so it is the file that is not, which another writer has cleared away.
                    Err(trouble) if trouble.is_missing() => Err(Trouble::Broken(
                        "another writer cleared the unfinished file away".to_owned(),
                    )),
                    result => result,
                }
            }
            result => result,
        }
    }

    async fn name_it(&self) -> std::result::Result<Published, Trouble> {
        if !self.sftp.support_hardlink() {
            return self.rename_after_look().await;
        }
        match answered(self.sftp.fs().hard_link(self.temporary, self.target)).await {
            Ok(()) => Ok(Published::New),
            // The protocol has no word of its own for a name that is taken.
            Err(Trouble::Refused(SftpErrorKind::Failure, message)) => {
                match self.is_there(self.target).await? {
                    true => Ok(Published::Taken),
                    false if self.is_full().await => Ok(Published::Full),
                    // A file system without hard links, such as those of USB sticks.
                    false => self
                        .rename_after_look()
                        .await
                        .map_err(|_| Trouble::Refused(SftpErrorKind::Failure, message)),
                }
            }
            Err(Trouble::Refused(SftpErrorKind::OpUnsupported, _)) => {
                self.rename_after_look().await
            }
            Err(trouble) => Err(trouble),
        }
    }

    async fn rename_after_look(&self) -> std::result::Result<Published, Trouble> {
        if self.is_there(self.target).await? {
            return Ok(Published::Taken);
        }
        answered(self.sftp.fs().rename(self.temporary, self.target)).await?;
        Ok(Published::AfterLook)
    }

    async fn is_there(&self, path: &str) -> std::result::Result<bool, Trouble> {
        match answered(self.sftp.fs().symlink_metadata(path)).await {
            Err(trouble) if trouble.is_missing() => Ok(false),
            result => result.map(|_| true),
        }
    }

    /// Is the server's disk full? The protocol says of this only that something failed.
    async fn is_full(&self) -> bool {
        match answered(self.sftp.fs().statvfs(self.root)).await {
            Ok(disk) => disk.bavail == 0,
            Err(_) => false,
        }
    }

    /// Makes the folder of `path` and those above it up to the root's, and above that where they are missing.
    async fn make_folders_of(&self, path: &str) -> std::result::Result<(), Trouble> {
        let mut missing = Vec::new();
        let mut folder = parent(path);
        while let Some(path) = folder {
            if self.is_there(path).await? {
                break;
            }
            missing.push(path);
            folder = parent(path);
        }
        for path in missing.into_iter().rev() {
            let mut files = self.sftp.fs();
            let mut builder = files.dir_builder();
            builder.permissions(Permissions::from(DIRECTORY_MODE));
            match answered(builder.create(path)).await {
                // Another one made it at the same time.
                Err(Trouble::Refused(SftpErrorKind::Failure, _)) if self.is_there(path).await? => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// The folder that `path` lies in; None for what lies where every path begins.
fn parent(path: &str) -> Option<&str> {
    let (folder, _) = path.rsplit_once('/')?;
    (!folder.is_empty()).then_some(folder)
}

/// A name that no other writer has.
pub(super) fn writer_name() -> Result<String> {
    let mut random = [0; WRITER_BYTES];
    getrandom::fill(&mut random).map_err(|error| {
        Error::io(
            "get randomness from the system",
            std::io::Error::other(error),
        )
    })?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The length of what must be a file.
pub(super) fn length_of_file(metadata: &MetaData) -> std::result::Result<u64, Trouble> {
    let is_folder = metadata.file_type().is_some_and(|kind| kind.is_dir());
    match metadata.len() {
        Some(length) if !is_folder => Ok(length),
        _ => Err(Trouble::Refused(
            SftpErrorKind::Failure,
            "it is no file, or one of no known length".to_owned(),
        )),
    }
}

/// All objects whose names begin with `prefix` and sort at or after `from`, in order of names.
pub(super) async fn list(
    sftp: &Sftp,
    root: &str,
    prefix: &str,
    from: &str,
) -> std::result::Result<Vec<Listed>, Trouble> {
    let mut listed = BTreeMap::new();
    let mut folders = vec![prefix.to_owned()];
    while !folders.is_empty() {
        let level = folders
            .into_iter()
            .map(|folder| with_entries(sftp, root, folder));
        let level: Vec<(String, Vec<Seen>)> = stream::iter(level)
            .buffer_unordered(LISTINGS_AT_ONCE)
            .try_collect()
            .await?;
        folders = Vec::new();
        for (folder, entries) in level {
            for entry in entries {
                let name = format!("{folder}{}", entry.name);
                match entry.length {
                    _ if check_name(&name).is_err() || is_hidden(&folder, &name) => {}
                    None if is_wanted_folder(&format!("{name}/"), from) => {
                        folders.push(format!("{name}/"))
                    }
                    Some(length) if name.as_str() >= from => {
                        listed.insert(name, length);
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(listed
        .into_iter()
        .map(|(name, length)| Listed { name, length })
        .collect())
}

async fn with_entries(
    sftp: &Sftp,
    root: &str,
    folder: String,
) -> std::result::Result<(String, Vec<Seen>), Trouble> {
    let path = format!("{root}/{folder}");
    let entries = entries(sftp, path.trim_end_matches('/')).await?;
    Ok((folder, entries))
}

/// Unfinished files are no objects.
fn is_hidden(folder: &str, name: &str) -> bool {
    folder.is_empty() && name == TEMPORARY_FOLDER
}

/// May anything in `folder` sort at or after `from`?
fn is_wanted_folder(folder: &str, from: &str) -> bool {
    folder >= from || from.starts_with(folder)
}

/// Something in a folder. A folder has no length.
struct Seen {
    name: String,
    length: Option<u64>,
    metadata: MetaData,
}

/// What is in a folder; nothing, if there is no such folder.
async fn entries(sftp: &Sftp, path: &str) -> std::result::Result<Vec<Seen>, Trouble> {
    let folder = match answered(sftp.fs().open_dir(path)).await {
        Err(trouble) if trouble.is_missing() => return Ok(Vec::new()),
        result => result?,
    };
    let mut reading = std::pin::pin!(folder.read_dir());
    let mut seen = Vec::new();
    while let Some(entry) = answered(async { reading.next().await.transpose() }).await? {
        seen.extend(look_at(sftp, path, &entry).await?);
    }
    Ok(seen)
}

async fn look_at(
    sftp: &Sftp,
    folder: &str,
    entry: &DirEntry,
) -> std::result::Result<Option<Seen>, Trouble> {
    let name = entry.filename().to_string_lossy().into_owned();
    if matches!(name.as_str(), "." | "..") {
        return Ok(None);
    }
    let is_plain = |metadata: &MetaData| {
        metadata
            .file_type()
            .is_some_and(|kind| kind.is_dir() || kind.is_file())
    };
    let mut metadata = entry.metadata();
    if !is_plain(&metadata) {
        // Follows symbolic links: whoever runs out of room may move a folder to another disk.
        metadata = match answered(sftp.fs().metadata(Path::new(folder).join(&name))).await {
            Err(trouble) if trouble.is_missing() => return Ok(None),
            result => result?,
        };
    }
    let is_folder = metadata.file_type().is_some_and(|kind| kind.is_dir());
    let length = match is_folder {
        true => None,
        false => Some(length_of_file(&metadata)?),
    };
    Ok(Some(Seen {
        name,
        length,
        metadata,
    }))
}

/// Is there nothing in the store's directory but what a file system or a writer that gave up leaves?
pub(super) async fn is_empty(sftp: &Sftp, root: &str) -> std::result::Result<bool, Trouble> {
    let root = match root {
        "" => "/",
        root => root,
    };
    let entries = entries(sftp, root).await?;
    Ok(entries
        .iter()
        .all(|entry| matches!(entry.name.as_str(), LOST_AND_FOUND | TEMPORARY_FOLDER)))
}

/// Removes what dead writers left in the temporary folder, told by its age against a file that is made for this. What
/// goes wrong with it is no matter.
pub(super) async fn clear_stale(sftp: &Sftp, root: &str, writer: &str) {
    let folder = format!("{root}/{TEMPORARY_FOLDER}");
    let now = match clock(sftp, &format!("{folder}/{writer}-0")).await {
        Ok(Some(now)) => now,
        Ok(None) | Err(_) => return,
    };
    let Ok(entries) = entries(sftp, &folder).await else {
        return;
    };
    for entry in entries {
        let is_old = changed(&entry.metadata).is_some_and(|then| then + STALE_SECONDS < now);
        if is_old && entry.length.is_some() && is_unfinished(&entry.name) {
            log::info!("removing {folder}/{}, which a writer left", entry.name);
            let _ = answered(sftp.fs().remove_file(format!("{folder}/{}", entry.name))).await;
        }
    }
}

/// What the server's clock says, in seconds, by the time of a file that is new.
async fn clock(sftp: &Sftp, path: &str) -> std::result::Result<Option<u64>, Trouble> {
    let mut options = sftp.options();
    options.write(true).read(true).create_new(true);
    let mut file = answered(options.open(path)).await?;
    let metadata = answered(file.metadata()).await;
    let _ = answered(file.close()).await;
    let _ = answered(sftp.fs().remove_file(path)).await;
    Ok(changed(&metadata?))
}

fn changed(metadata: &MetaData) -> Option<u64> {
    metadata.modified().map(|time| u64::from(time.into_raw()))
}

/// Is a name in the temporary folder one that a writer gives to what it has not finished?
fn is_unfinished(name: &str) -> bool {
    name.split_once('-').is_some_and(|(writer, number)| {
        writer.len() == 2 * WRITER_BYTES
            && writer.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_end_before_a_listing_begins_are_passed_over() {
        assert!(is_wanted_folder("packs/ab/", "packs/"));
        assert!(is_wanted_folder("packs/ab/", "packs/ab/1"));
        assert!(is_wanted_folder("packs/ac/", "packs/ab/1"));
        assert!(!is_wanted_folder("packs/aa/", "packs/ab/1"));
    }

    #[test]
    fn only_what_a_writer_named_is_unfinished() {
        let writer = writer_name().unwrap();
        assert!(is_unfinished(&format!("{writer}-7")));
        for name in [writer.as_str(), "notes.txt", "0123-7", "-", ""] {
            assert!(!is_unfinished(name), "{name}");
        }
    }

    #[test]
    fn a_path_has_folders_above_it_up_to_where_it_begins() {
        assert_eq!(parent("/srv/a/b"), Some("/srv/a"));
        assert_eq!(parent("/srv"), None);
        assert_eq!(parent("below/home"), Some("below"));
        assert_eq!(parent("below"), None);
    }
}
