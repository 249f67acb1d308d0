//! One run of `ssh` with an SFTP conversation over its pipes, and what its failures mean.
//!
//! Invariant: a session in which anything was waited for in vain is never used again.

use std::num::{NonZeroU16, NonZeroUsize};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::file::File;
use openssh_sftp_client::{Sftp, SftpOptions};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::base::{Error, ErrorKind, Result};

use super::super::SftpPlace;

/// How long a request may take, and a piece of one that moves bytes.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// How long a connection may take to be made, which may lead over other hosts and ask for a password.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(60);

/// How long `ssh` has to say why it ended.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);

/// Requests that are on their way before the next one waits.
const REQUESTS_MAX: NonZeroU16 = NonZeroU16::new(256).expect("it is not zero");

/// Files that stay open on the server: opening costs a round trip, and servers allow some hundreds.
const OPEN_FILES_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("it is not zero");

/// What is kept of what `ssh` says, in bytes.
const WORDS_BYTES_MAX: usize = 4096;

/// What goes wrong in a conversation, before it is told.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server refused or failed a request.
    Refused(SftpErrorKind, String),
    /// The conversation is over, or makes no sense.
    Broken(String),
}

impl From<openssh_sftp_client::Error> for Trouble {
    fn from(error: openssh_sftp_client::Error) -> Self {
        match error {
            openssh_sftp_client::Error::SftpError(kind, message) => {
                Self::Refused(kind, message.to_string())
            }
            openssh_sftp_client::Error::UnsupportedExtension(name) => {
                Self::Refused(SftpErrorKind::OpUnsupported, (*name).to_owned())
            }
            other => Self::Broken(other.to_string()),
        }
    }
}

impl Trouble {
    /// Did the server say that there is no such file?
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(SftpErrorKind::NoSuchFile, _))
    }

    /// As an error of an attempt to do `action` (an infinitive) at `place`.
    pub(super) fn tell(self, action: impl std::fmt::Display, place: &str) -> Error {
        let (kind, problem) = match self {
            Self::Refused(SftpErrorKind::NoSuchFile, _) => (
                ErrorKind::Missing,
                "there is no such file or folder".to_owned(),
            ),
            Self::Refused(SftpErrorKind::PermDenied, _) => (
                ErrorKind::Denied,
                "the server does not permit it".to_owned(),
            ),
            Self::Refused(kind, message) => (
                ErrorKind::Failed,
                format!("the server answered {kind:?}: {message}"),
            ),
            Self::Broken(problem) => (ErrorKind::Unreachable, problem),
        };
        Error::new(kind, format!("cannot {action} at {place}: {problem}"))
    }
}

/// Waits for `request`, but not for ever.
pub(super) async fn answered<T>(
    request: impl Future<Output = std::result::Result<T, openssh_sftp_client::Error>>,
) -> std::result::Result<T, Trouble> {
    match timeout(ANSWER_TIME_MAX, request).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Trouble::Broken(format!(
            "no answer within {} s",
            ANSWER_TIME_MAX.as_secs()
        ))),
    }
}

/// A file that is open on the server, and its length, which never changes.
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) length: u64,
}

/// A conversation.
pub(super) struct Session {
    pub(super) sftp: Sftp,
    /// Ends when it is dropped.
    _ssh: Child,
    open: Mutex<LruCache<String, Arc<OpenFile>>>,
}

impl Session {
    /// Starts `command` for `place` and greets the server. Is to be called on the runtime.
    pub(super) async fn connect(command: &[String], place: &SftpPlace) -> Result<Self> {
        let mut ssh = start(command, place)?;
        let (Some(input), Some(output), Some(errors)) =
            (ssh.stdin.take(), ssh.stdout.take(), ssh.stderr.take())
        else {
            unreachable!("all three were asked for as pipes")
        };
        let words = tokio::spawn(last_words(errors));
        let options = SftpOptions::new()
            .flush_interval(Duration::ZERO)
            .max_pending_requests(REQUESTS_MAX);
        let problem = match timeout(CONNECT_TIME_MAX, Sftp::new(input, output, options)).await {
            Ok(Ok(sftp)) => {
                return Ok(Self {
                    sftp,
                    _ssh: ssh,
                    open: Mutex::new(LruCache::new(OPEN_FILES_MAX)),
                });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", CONNECT_TIME_MAX.as_secs()),
        };
        let said = timeout(LAST_WORDS_TIME_MAX, words).await;
        let said = said
            .ok()
            .and_then(std::result::Result::ok)
            .unwrap_or_default();
        Err(connection_error(place, &said, &problem))
    }

    /// A file that was opened before.
    pub(super) fn opened(&self, name: &str) -> Option<Arc<OpenFile>> {
        self.files().get(name).cloned()
    }

    /// Keeps a file open for the next read.
    pub(super) fn keep_open(&self, name: &str, file: OpenFile) -> Arc<OpenFile> {
        let file = Arc::new(file);
        self.files().put(name.to_owned(), Arc::clone(&file));
        file
    }

    /// Closes an object's file.
    pub(super) fn close(&self, name: &str) {
        self.files().pop(name);
    }

    fn files(&self) -> std::sync::MutexGuard<'_, LruCache<String, Arc<OpenFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `ssh`, as OpenSSH's own `sftp` does: without what a person's configuration forwards for a shell.
fn start(command: &[String], place: &SftpPlace) -> Result<Child> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::new(ErrorKind::Usage, "ssh_command is empty"));
    };
    let mut ssh = Command::new(program);
    ssh.args(arguments)
        .args(["-oForwardX11=no", "-oForwardAgent=no"])
        .args(["-oPermitLocalCommand=no", "-oClearAllForwardings=yes"]);
    if let Some(port) = place.port {
        ssh.args(["-p", &port.to_string()]);
    }
    if let Some(user) = &place.user {
        ssh.args(["-l", user]);
    }
    ssh.args(["-s", "--", &place.host, "sftp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Error::io(format_args!("run {program}"), error).with_kind(ErrorKind::Failed)
        })
}

/// Reads what `ssh` says until it ends, and gives the first of it back. The rest is read, too, lest it wait for us.
async fn last_words(mut errors: impl AsyncRead + Unpin) -> String {
    let mut words = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = errors.read(&mut buffer).await {
        let room = WORDS_BYTES_MAX.saturating_sub(words.len()).min(count);
        words.extend_from_slice(&buffer[..room]);
        log::debug!(
            "ssh: {}",
            String::from_utf8_lossy(&buffer[..count]).trim_end()
        );
    }
    String::from_utf8_lossy(&words).trim().to_owned()
}

/// What a connection that did not come about means.
fn connection_error(place: &SftpPlace, said: &str, problem: &str) -> Error {
    let is_denied = ["Permission denied", "Host key verification failed"]
        .iter()
        .any(|words| said.contains(words));
    let kind = match is_denied {
        true => ErrorKind::Denied,
        false => ErrorKind::Unreachable,
    };
    // Its last line is the reason; those before are banners and the like.
    let reason = said.lines().last().map_or(problem, str::trim);
    Error::new(
        kind,
        format!("cannot reach sftp://{place} by ssh: {reason}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> SftpPlace {
        SftpPlace {
            user: None,
            host: "moon".to_owned(),
            port: None,
            path: "/srv".to_owned(),
        }
    }

    #[test]
    fn a_refusal_is_told_from_a_host_that_is_away() {
        let kind = |said| connection_error(&place(), said, "it ended").kind();
        assert_eq!(
            kind("anna@moon: Permission denied (publickey)."),
            ErrorKind::Denied
        );
        assert_eq!(kind("Host key verification failed."), ErrorKind::Denied);
        assert_eq!(
            kind("ssh: connect to host moon: refused"),
            ErrorKind::Unreachable
        );
        let error = connection_error(&place(), "Welcome\nConnection closed", "it ended");
        assert!(
            error.to_string().ends_with("by ssh: Connection closed"),
            "{error}"
        );
        assert!(
            connection_error(&place(), "", "it ended")
                .to_string()
                .ends_with("it ended")
        );
    }
}
