//! The one runtime on which all stores that speak over a network do their waiting.
//!
//! It is made by the first request, never before: a mount goes into the background by a fork, which takes only the
//! calling thread along. Nothing may wait for it from within: callers are threads of their own.

use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};

use crate::base::{Error, Result};

/// Threads that move bytes between sockets and memory. One decrypts TLS at about 1 GB/s, so that two are faster than
/// any line that a backup goes over.
const WORKERS: usize = 2;

/// The runtime, made if it is not there yet.
///
/// # Errors
/// The system gives no threads.
pub(super) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("bygone-network")
        .enable_all()
        .build()
        .map_err(|error| Error::io("start the network's threads", error))?;
    Ok(RUNTIME.get_or_init(|| runtime))
}
