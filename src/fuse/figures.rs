//! What a mount has done in sums, told to whoever asks its process.
//!
//! The process listens on a socket of its own in the abstract namespace, one for each device, and answers whoever connects
//! with its sums as JSON. Only the superuser and the user who mounted are answered. Asking never touches the mount itself,
//! so that one which hangs costs whoever asks no more than a short wait.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::debug;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::mounts::MountRecord;
use crate::tree::Tree;

/// How long a process may take to answer, and whoever asked to read it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// No answer is longer than this, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What a mount has done since it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The process that serves it.
    pub process: u32,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// Where its repository is.
    pub repository: String,
    /// Requests of the kernel.
    pub requests: u64,
    /// Pieces that were in memory when they were needed.
    pub hits: u64,
    /// Bytes of files that readers were given.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
}

/// Where the figures come from.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) counts: Arc<Counts>,
    pub(super) tree: Arc<Tree>,
    pub(super) repository: String,
    pub(super) since: u64,
}

impl Source {
    /// The figures of now.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            process: std::process::id(),
            since: self.since,
            repository: self.repository.clone(),
            requests: self.counts.requests(),
            hits: self.tree.fetched().hits,
            bytes: self.counts.read_bytes(),
            errors: self.counts.errors(),
        }
    }

    /// Answers whoever asks about the mount whose device this is, for ever.
    ///
    /// # Errors
    /// Another process has the name, or the system has no abstract namespace.
    pub(super) fn listen(self, device: &str) -> io::Result<impl FnOnce() + Send + use<>> {
        let listener = UnixListener::bind_addr(&name(device)?)?;
        Ok(move || {
            for asking in listener.incoming() {
                if let Err(error) = asking.and_then(|asking| self.answer(asking)) {
                    debug!("whoever asked for figures was not answered: {error}");
                }
            }
        })
    }

    fn answer(&self, mut asking: UnixStream) -> io::Result<()> {
        let user = socket_peercred(&asking)?.uid;
        if !user.is_root() && user != geteuid() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        asking.set_write_timeout(Some(ANSWERS_WITHIN))?;
        asking.write_all(&serde_json::to_vec(&self.figures())?)
    }
}

/// What a mount has done; None if its process is dead, hangs, is another user's or runs in another network namespace.
pub fn figures(record: &MountRecord) -> Option<Figures> {
    let ask = || -> io::Result<Figures> {
        let stream = UnixStream::connect_addr(&name(&record.device)?)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(serde_json::from_slice(&answer)?)
    };
    ask().ok()
}

fn name(device: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("bygone/figures/{device}"))
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
