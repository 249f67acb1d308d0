//! What `bygone backup` is to back up: paths, those in lists, or one stream. Nothing is read or started before all that
//! was typed is known to make sense.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;
use rustix::fd::{AsFd, OwnedFd};

use super::config::ConfiguredSet;
use super::output::text_of;
use crate::archive::{Stream, path_of_stream};
use crate::base::{Error, ErrorKind, Result};

/// Names what is to be backed up.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to back up")]
pub(super) struct NamedArguments {
    /// Back up what each line of this file names, from the working directory, as well; - for standard input
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,

    /// The same with a zero byte after each path, as find -print0 gives them
    #[arg(long, value_name = "FILE")]
    files_from0: Vec<PathBuf>,

    /// Back up what comes from standard input, as one file
    #[arg(long, requires = "stdin_name", conflicts_with_all = ["files_from", "files_from0", "recorded_as", "paths"])]
    stdin: bool,

    /// Back up what a command prints, as one file; the command stands at the end, after --
    #[arg(
        long,
        requires = "stdin_name",
        conflicts_with_all = ["stdin", "files_from", "files_from0", "recorded_as"]
    )]
    stdin_from_command: bool,

    /// The path that a stream is recorded as, from the root
    #[arg(long, value_name = "PATH")]
    stdin_name: Option<PathBuf>,

    /// What to back up: files and directories; or a command and its arguments
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
}

impl NamedArguments {
    /// Is nothing named?
    pub(super) fn is_empty(&self) -> bool {
        let has_lists = !self.files_from.is_empty() || !self.files_from0.is_empty();
        self.paths.is_empty() && !has_lists && !self.stdin && !self.stdin_from_command
    }
}

/// What is to be backed up.
pub(super) enum Input {
    /// Absolute paths; and the name of their set, if lists named some of them.
    Paths {
        paths: Vec<PathBuf>,
        lists: Option<String>,
    },
    /// A stream.
    Stream(StreamSource),
}

/// Where a stream comes from, and what it is recorded as.
pub(super) struct StreamSource {
    path: PathBuf,
    /// A command with its arguments; standard input if there is none.
    command: Vec<OsString>,
}

impl Input {
    /// What the arguments name; or what the configured set has, where there is one.
    ///
    /// # Errors
    /// Usage, if that is nothing, or a list cannot be read.
    pub(super) fn of(
        arguments: &NamedArguments,
        configured: Option<&ConfiguredSet>,
    ) -> Result<Self> {
        if let Some(set) = configured {
            return Ok(Self::Paths {
                paths: set.paths.clone(),
                lists: None,
            });
        }
        match &arguments.stdin_name {
            Some(name) if arguments.stdin || arguments.stdin_from_command => {
                Self::of_stream(arguments, name)
            }
            Some(_) => Err(usage(
                "--stdin-name names a stream: give --stdin or --stdin-from-command, too",
            )),
            None => Self::of_paths(arguments),
        }
    }

    fn of_stream(arguments: &NamedArguments, name: &Path) -> Result<Self> {
        if arguments.stdin_from_command && arguments.paths.is_empty() {
            return Err(usage(
                "no command is named: put it at the end, as in --stdin-from-command -- pg_dump shop",
            ));
        }
        if arguments.stdin && std::io::stdin().is_terminal() {
            return Err(usage(
                "standard input is a terminal: pipe into it what is to be backed up",
            ));
        }
        Ok(Self::Stream(StreamSource {
            path: path_of_stream(name)?,
            command: arguments.paths.clone(),
        }))
    }

    fn of_paths(arguments: &NamedArguments) -> Result<Self> {
        let mut paths = arguments
            .paths
            .iter()
            .map(PathBuf::from)
            .collect::<Vec<_>>();
        let mut set: Vec<String> = Vec::new();
        let lines = arguments.files_from.iter().map(|list| (list, b'\n'));
        let lists = lines.chain(arguments.files_from0.iter().map(|list| (list, 0)));
        for (list, end) in lists {
            let listed = read_list(list, end)?;
            if listed.is_empty() {
                return Err(usage(format!("there is no path in {}", list.display())));
            }
            paths.extend(listed);
            set.push(match is_standard_input(list) {
                true => "standard input".to_owned(),
                false => absolute(list)?.to_string_lossy().into_owned(),
            });
        }
        if paths.is_empty() {
            return Err(usage(
                "there is nothing to back up: name a PATH, or a configured set with --set; see bygone-config(5)",
            ));
        }
        let paths = paths
            .iter()
            .map(|path| absolute(path))
            .collect::<Result<Vec<_>>>()?;
        let lists = (!set.is_empty()).then(|| {
            let named = &paths[..arguments.paths.len()];
            set.extend(named.iter().map(|path| path.to_string_lossy().into_owned()));
            set.join(",")
        });
        Ok(Self::Paths { paths, lists })
    }
}

impl StreamSource {
    /// Starts the command, if there is one.
    ///
    /// # Errors
    /// Usage, if it cannot be run.
    pub(super) fn start(self) -> Result<Stream> {
        let (file, end): (OwnedFd, Box<dyn FnOnce() -> Result<()> + Send>) =
            match self.command.split_first() {
                None => {
                    let stdin = std::io::stdin();
                    let own = stdin.as_fd().try_clone_to_owned();
                    let own = own.map_err(|error| Error::io("read standard input", error))?;
                    (own, Box::new(|| Ok(())))
                }
                Some((program, arguments)) => {
                    let (output, running) = run(program, arguments)?;
                    (output, Box::new(move || running.end()))
                }
            };
        Ok(Stream {
            path: self.path,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            file,
            end,
        })
    }
}

/// A command that prints what is backed up. If the backup fails first, the command ends with it.
struct Running {
    child: Child,
    program: String,
}

fn run(program: &OsStr, arguments: &[OsString]) -> Result<(OwnedFd, Running)> {
    let name = text_of(program.as_bytes());
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| {
            Error::io(format!("run the command {name}"), error).with_kind(ErrorKind::Usage)
        })?;
    let output = child.stdout.take();
    let running = Running {
        child,
        program: name,
    };
    match output {
        Some(output) => Ok((OwnedFd::from(output), running)),
        None => Err(Error::new(ErrorKind::Failed, "the command has no output")),
    }
}

impl Running {
    /// Waits until the command has ended.
    ///
    /// # Errors
    /// Failed, if it failed.
    fn end(mut self) -> Result<()> {
        let waiting = format!("wait for the command {}", self.program);
        let status = self.child.wait();
        let status = status.map_err(|error| Error::io(waiting, error))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            format!(
                "the command {} failed ({status}): nothing was committed",
                self.program
            ),
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that was waited for is left alone by both.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The paths in a list, each of which `end` ends; empty ones say nothing.
fn read_list(list: &Path, end: u8) -> Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    let read = match is_standard_input(list) {
        true => std::io::stdin().read_to_end(&mut bytes).map(drop),
        false => std::fs::read(list).map(|read| bytes = read),
    };
    read.map_err(|error| {
        let action = format!("read the list of paths in {}", list.display());
        Error::io(action, error).with_kind(ErrorKind::Usage)
    })?;
    let paths = bytes.split(|byte| *byte == end);
    let paths = paths.filter(|path| !path.is_empty());
    let paths = paths.map(|path| PathBuf::from(OsString::from_vec(path.to_vec())));
    Ok(paths.collect())
}

fn is_standard_input(list: &Path) -> bool {
    list.as_os_str() == "-"
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// `path` from the root; a slash at its end, which follows a symlink there, stays.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    let mut absolute = std::path::absolute(path)
        .map_err(|error| Error::io(format!("find {}", path.display()), error))?
        .into_os_string()
        .into_vec();
    if path.as_os_str().as_bytes().ends_with(b"/") && !absolute.ends_with(b"/") {
        absolute.push(b'/');
    }
    Ok(PathBuf::from(std::ffi::OsString::from_vec(absolute)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_keep_a_slash_that_follows_a_symlink() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("a/./b")).unwrap(), here.join("a/b"));
        assert_eq!(
            absolute(Path::new("/a/")).unwrap().as_os_str().as_bytes(),
            b"/a/"
        );
        assert_eq!(absolute(Path::new("/")).unwrap(), Path::new("/"));
    }
}
