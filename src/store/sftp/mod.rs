//! A store in a directory of another machine, by SFTP over the system's own `ssh`: with its configuration, agent, keys
//! and jump hosts.
//!
//! Invariants: an object gets its name when it is whole and synced, by a link that replaces nothing; what is not
//! finished lies in `tmp/`, as in a local store, so that the same directory may be used by both. One conversation
//! serves all threads; a broken one is replaced by the next request (`Retrying` repeats the one that broke).
//!
//! It does not keep credentials, read SSH's configuration, or sync directories, for which the protocol has no word.

mod files;
mod session;
mod transfer;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Error, ErrorKind, Result};

use self::session::{OpenFile, Session, Trouble, answered};
use super::name::{check_listing, check_name, check_whole, range_error, range_length};
use super::runtime::runtime;
use super::{Body, Listed, Settings, SftpPlace, Store};

/// The setting that says how `ssh` is run: a program and its arguments, with blanks between them.
const COMMAND_SETTING: &str = "ssh_command";

/// Objects as files on another machine.
pub struct SftpStore {
    place: SftpPlace,
    /// The program and what it is always given.
    command: Vec<String>,
    session: Mutex<Option<Arc<Session>>>,
    /// What its unfinished files are called.
    writer: String,
    next: AtomicU64,
    has_cleared: AtomicBool,
    has_warned: AtomicBool,
}

impl SftpStore {
    /// The store in the directory of `place`. Asks nothing of the server yet.
    ///
    /// # Errors
    /// Usage, if a setting is not known or makes no sense.
    pub fn new(place: &SftpPlace, settings: &Settings) -> Result<Self> {
        if let Some((name, _)) = settings.iter().find(|(name, _)| *name != COMMAND_SETTING) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "--store-option {name}: an SFTP place knows {COMMAND_SETTING} only; the rest is for ssh_config(5)"
                ),
            ));
        }
        let command = settings.get(COMMAND_SETTING).unwrap_or("ssh");
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "--store-option {COMMAND_SETTING}: expected a program, such as \"ssh -F FILE\""
                ),
            ));
        }
        Ok(Self {
            place: place.clone(),
            command,
            session: Mutex::new(None),
            writer: files::writer_name()?,
            next: AtomicU64::new(1),
            has_cleared: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
        })
    }

    /// Is there nothing in the directory, or no such directory?
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_empty(&self) -> Result<bool> {
        self.converse("list", "what is there", async |session| {
            files::is_empty(&session.sftp, self.root()).await
        })
    }

    fn root(&self) -> &str {
        self.place.path.trim_end_matches('/')
    }

    fn path(&self, name: &str) -> Result<String> {
        check_name(name)?;
        Ok(format!("{}/{name}", self.root()))
    }

    /// The conversation under way, or a new one.
    fn session(&self) -> Result<Arc<Session>> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*kept {
            return Ok(Arc::clone(session));
        }
        let session = runtime()?.block_on(Session::connect(&self.command, &self.place))?;
        let session = Arc::new(session);
        *kept = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Has `request` done in the conversation, and tells its failure: `action` is what it was to do with `name`.
    fn converse<T>(
        &self,
        action: &str,
        name: &str,
        request: impl AsyncFnOnce(&Session) -> std::result::Result<T, Trouble>,
    ) -> Result<T> {
        let session = self.session()?;
        runtime()?.block_on(request(&session)).map_err(|trouble| {
            if matches!(trouble, Trouble::Broken(_)) {
                self.leave(&session);
            }
            match trouble.is_missing() {
                true => Error::missing(name),
                false => trouble.tell(format_args!("{action} {name}"), &self.location()),
            }
        })
    }

    /// Does not use a conversation again.
    fn leave(&self, session: &Arc<Session>) {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, session)) {
            *kept = None;
        }
    }

    /// The open file of an object, and its length.
    async fn open(
        &self,
        session: &Session,
        name: &str,
        path: &str,
    ) -> std::result::Result<Arc<OpenFile>, Trouble> {
        if let Some(open) = session.opened(name) {
            return Ok(open);
        }
        let mut folder = session.sftp.fs();
        let (file, metadata) = futures_util::future::try_join(
            answered(session.sftp.open(path)),
            answered(folder.metadata(path)),
        )
        .await?;
        let length = files::length_of_file(&metadata)?;
        Ok(session.keep_open(name, OpenFile { file, length }))
    }

    fn warn_of_replacing(&self) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: the server has no hard links, so that it does not keep objects from being replaced; bygone looks \
                 before it writes, and only two `bygone init` at the same moment could undo one another",
                self.location()
            );
        }
    }
}

impl Store for SftpStore {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        let (bytes, length) = self.converse("read", name, async |session| {
            let open = self.open(session, name, &path).await?;
            if check_whole(name, open.length).is_err() {
                return Ok((Vec::new(), open.length));
            }
            let length = usize::try_from(open.length).unwrap_or(usize::MAX);
            Ok((transfer::read(&open.file, 0, length).await?, open.length))
        })?;
        check_whole(name, length)?;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(Error::corrupt(name, "it is shorter than the server says")),
        }
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let length = range_length(name, &range)?;
        let path = self.path(name)?;
        let (bytes, whole) = self.converse("read", name, async |session| {
            let open = self.open(session, name, &path).await?;
            match range.end <= open.length {
                true => Ok((
                    transfer::read(&open.file, range.start, length).await?,
                    open.length,
                )),
                false => Ok((Vec::new(), open.length)),
            }
        })?;
        match bytes.len() == length {
            true => Ok(bytes),
            false => Err(range_error(name, &range, whole)),
        }
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        let path = self.path(name)?;
        let (bytes, start, whole) = self.converse("read", name, async |session| {
            let open = self.open(session, name, &path).await?;
            let start = open.length.saturating_sub(length);
            let count = usize::try_from(open.length - start).unwrap_or(usize::MAX);
            let bytes = transfer::read(&open.file, start, count).await?;
            Ok((bytes, start, open.length))
        })?;
        match start + bytes.len() as u64 == whole {
            true => Ok((bytes, whole)),
            false => Err(range_error(name, &(start..whole), whole)),
        }
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        let path = self.path(name)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(
            "{}/{}/{}-{number}",
            self.root(),
            files::TEMPORARY_FOLDER,
            self.writer
        );
        let clears = !self.has_cleared.swap(true, Ordering::Relaxed);
        let published = self.converse("write", name, async |session| {
            let put = files::Put {
                sftp: &session.sftp,
                root: self.root(),
                temporary: &temporary,
                target: &path,
            };
            let published = put.run(body).await?;
            if clears {
                files::clear_stale(&session.sftp, self.root(), &self.writer).await;
            }
            Ok(published)
        })?;
        match published {
            files::Published::New => Ok(()),
            files::Published::AfterLook => {
                self.warn_of_replacing();
                Ok(())
            }
            files::Published::Taken => Err(Error::new(
                ErrorKind::Exists,
                format!("{name} exists already"),
            )),
            files::Published::Full => Err(Error::new(
                ErrorKind::Full,
                format!(
                    "cannot write {name} at {}: no space is left there",
                    self.location()
                ),
            )),
        }
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        check_listing(prefix, from)?;
        self.converse("list", prefix, async |session| {
            files::list(&session.sftp, self.root(), prefix, from).await
        })
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        self.converse("delete", name, async |session| {
            session.close(name);
            match answered(session.sftp.fs().remove_file(&path)).await {
                Err(trouble) if trouble.is_missing() => Ok(()),
                result => result,
            }
        })
    }

    fn location(&self) -> String {
        format!("sftp://{}", self.place)
    }

    fn is_distant(&self) -> bool {
        true
    }

    fn disbelieve(&self, _name: &str) -> bool {
        // The server's memory or disk may have damaged them, and may not the next time.
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> SftpPlace {
        SftpPlace {
            user: None,
            host: "moon".to_owned(),
            port: None,
            path: "/srv/".to_owned(),
        }
    }

    #[test]
    fn options_that_ssh_would_not_see_are_refused() {
        let mut settings = Settings::default();
        settings.set("region", "mare-imbrium");
        let error = SftpStore::new(&place(), &settings)
            .err()
            .expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("region"), "{error}");
        let mut settings = Settings::default();
        settings.set(COMMAND_SETTING, " ");
        assert!(SftpStore::new(&place(), &settings).is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_said_so() {
        let mut settings = Settings::default();
        settings.set(COMMAND_SETTING, "/nowhere/ssh -v");
        let store = SftpStore::new(&place(), &settings).unwrap();
        let error = store.get("config").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("/nowhere/ssh"), "{error}");
    }

    #[test]
    fn an_ssh_that_ends_at_once_means_that_nobody_can_be_reached() {
        let mut settings = Settings::default();
        settings.set(COMMAND_SETTING, "false");
        let store = SftpStore::new(&place(), &settings).unwrap();
        assert_eq!(
            store.get("config").unwrap_err().kind(),
            ErrorKind::Unreachable
        );
    }
}
