//! Leaving the terminal: the process that was started waits until another one, in the background, is ready.
//!
//! The process forks before it has a second thread, since a fork takes only one along, and whatever lock another held
//! would stay locked for good. Until it is ready the new process prints to the same terminal as the old one, so that a
//! failure is told like any other; the old one then ends with the new one's exit code.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::io::fcntl_getfd;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, chdir, setsid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use zeroize::Zeroizing;

use crate::base::{Error, ErrorKind, Result};
use crate::seal::Password;

/// What the process in the background says: it works.
const READY: u8 = 1;

/// What it says: it needs the repository's password. The one that waits has the terminal, and answers with the length
/// in four bytes and the password.
const PASSWORD: u8 = 2;

/// Which of the two processes this is.
pub(super) enum Side {
    /// The one that was started, and that waits.
    Waiting(Waiting),
    /// The one in the background, which does the work.
    Working(Working),
}

/// The process that was started.
pub(super) struct Waiting {
    pipe: File,
    answers: File,
    process: Pid,
}

/// The process in the background, before it is ready.
pub(super) struct Working {
    pipe: File,
    answers: File,
}

/// How the process in the background began.
pub(super) enum Beginning {
    /// It works.
    Ready,
    /// It ended with this exit code, and has said why.
    Ended(i32),
}

/// Makes the process that is to work in the background.
///
/// # Errors
/// As the system says.
pub(super) fn fork() -> Result<Side> {
    assert_eq!(
        threads()?,
        1,
        "nothing starts a thread before the process goes into the background"
    );
    let pipe =
        || pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::io("make a pipe", error.into()));
    let (reader, writer) = pipe()?;
    let (answers_reader, answers_writer) = pipe()?;
    // SAFETY: this process has one thread, as was checked, so the copy may do whatever this one may.
    let process = unsafe { libc::fork() };
    if process < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Error::io("start a process in the background", error));
    }
    match Pid::from_raw(process) {
        Some(process) => Ok(Side::Waiting(Waiting {
            pipe: File::from(reader),
            answers: File::from(answers_writer),
            process,
        })),
        None => {
            let_go_of_inherited()?;
            Ok(Side::Working(Working {
                pipe: File::from(writer),
                answers: File::from(answers_reader),
            }))
        }
    }
}

/// How many threads this process has.
///
/// # Errors
/// As the system says.
pub(super) fn threads() -> Result<usize> {
    let list = Path::new("/proc/self/task");
    std::fs::read_dir(list)
        .map(Iterator::count)
        .map_err(|error| Error::io(format!("read {}", list.display()), error))
}

/// Closes what this process was started with beside the standard streams: a pipe would never end for whoever reads it,
/// and a lock on a file would be held for as long as the mount lives. What this process opened itself is closed on exec
/// and is so told apart.
fn let_go_of_inherited() -> Result<()> {
    let list = Path::new("/proc/self/fd");
    let problem = |error| Error::io(format!("read {}", list.display()), error);
    let mut inherited: Vec<RawFd> = Vec::new();
    for entry in std::fs::read_dir(list).map_err(problem)? {
        let name = entry.map_err(problem)?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // SAFETY: it was open when it was listed, and this process has one thread, which only looks at its flags.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let is_own =
            fcntl_getfd(descriptor).is_ok_and(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC));
        if number > libc::STDERR_FILENO && !is_own {
            inherited.push(number);
        }
    }
    for number in inherited {
        // SAFETY: nothing in this process knows of it: all that the standard library opens is closed on exec.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(())
}

impl Waiting {
    /// Waits until the other process is ready or has ended. If it needs the password meanwhile, `ask` gives it.
    ///
    /// # Errors
    /// Those of `ask`, after which the other process ends too; failed, if a signal ended it.
    pub(super) fn wait(mut self, ask: &mut dyn FnMut() -> Result<Password>) -> Result<Beginning> {
        loop {
            let mut byte = [0];
            let count = self
                .pipe
                .read(&mut byte)
                .map_err(|error| Error::io("wait for the process in the background", error))?;
            match byte {
                _ if count == 0 => return self.ending(),
                [PASSWORD] => self.answer(&ask()?)?,
                _ => return Ok(Beginning::Ready),
            }
        }
    }

    /// Hands the password over.
    fn answer(&mut self, password: &Password) -> Result<()> {
        let bytes = password.as_bytes();
        let length = (bytes.len() as u32).to_le_bytes();
        self.answers
            .write_all(&length)
            .and_then(|()| self.answers.write_all(bytes))
            .map_err(|error| Error::io("give the process in the background the password", error))
    }

    /// How the other process has ended.
    fn ending(self) -> Result<Beginning> {
        let status = waitpid(Some(self.process), WaitOptions::empty())
            .map_err(|error| Error::io("wait for the process in the background", error.into()))?
            .map(|(_, status)| status);
        match status.and_then(|status| status.exit_status()) {
            Some(code) => Ok(Beginning::Ended(code)),
            None => Err(Error::new(
                ErrorKind::Failed,
                match status.and_then(|status| status.terminating_signal()) {
                    Some(signal) => {
                        format!("signal {signal} ended the process in the background")
                    }
                    None => "the process in the background ended".to_owned(),
                },
            )),
        }
    }
}

impl Working {
    /// The repository's password, from the process that waits; None if that has gone, and has said why.
    ///
    /// # Errors
    /// Failed, if it cannot be asked.
    pub(super) fn ask_password(&self) -> Result<Option<Password>> {
        (&self.pipe)
            .write_all(&[PASSWORD])
            .map_err(|error| Error::io("ask for the password", error))?;
        let mut length = [0; 4];
        let mut answers = &self.answers;
        if answers.read_exact(&mut length).is_err() {
            return Ok(None);
        }
        let mut bytes = Zeroizing::new(vec![0; u32::from_le_bytes(length) as usize]);
        match answers.read_exact(&mut bytes) {
            Ok(()) => Password::new(std::mem::take(&mut *bytes)).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Lets go of the terminal and of the working directory, and tells the process that waits that this one is ready.
    ///
    /// # Errors
    /// Interrupted, if the process that waits has gone: whoever started it has given up.
    pub(super) fn ready(mut self) -> Result<()> {
        // A session of its own: what the terminal sends its processes no longer comes here. Not earlier: until something is
        // mounted there, autofs lets only its own process group look at the place, and has all others wait for the mount.
        setsid().map_err(|error| Error::io("leave the terminal's session", error.into()))?;
        chdir("/").map_err(|error| Error::io("leave the working directory", error.into()))?;
        let nothing = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|error| Error::io("open /dev/null", error))?;
        replace_standard_streams(&nothing)?;
        self.pipe.write_all(&[READY]).map_err(|_| {
            Error::new(
                ErrorKind::Interrupted,
                "the command that was waiting for the mount has gone",
            )
        })
    }
}

/// Puts `file` in the place of standard input, output and error.
///
/// # Errors
/// As the system says.
pub(super) fn replace_standard_streams(file: &File) -> Result<()> {
    dup2_stdin(file)
        .and_then(|()| dup2_stdout(file))
        .and_then(|()| dup2_stderr(file))
        .map_err(|error| Error::io("let go of the terminal", error.into()))
}
