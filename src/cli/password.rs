//! Where passwords come from: an option that names a file or a command, a variable, or a person at a terminal. Never an
//! argument itself: arguments can be seen by everyone on the machine, and stay in the shell's history.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::output::Output;
use crate::base::{Error, ErrorKind, Result};
use crate::seal::Password;

/// The password that opens a repository.
const VARIABLE: &str = "BYGONE_PASSWORD";

/// A longer password is a file that was not meant.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// How often a person may type the password of a repository.
const TYPED_MAX: u32 = 3;

/// Permissions of a file that others than its owner have.
const OTHERS_MODE: u32 = 0o077;

/// Says where the password of an encrypted repository is.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PasswordArguments {
    /// Read the repository's password from this file; a line's end at its end does not count
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    password_file: Option<PathBuf>,

    /// Run this command with sh, and take what it prints for the repository's password
    #[arg(
        long,
        global = true,
        value_name = "COMMAND",
        help_heading = "Global options"
    )]
    password_command: Option<String>,
}

impl PasswordArguments {
    /// Fills in what the configuration says of the repository, where neither an argument nor the variable gives a
    /// password.
    pub(super) fn fill_in(&mut self, file: Option<&Path>, command: Option<&str>) {
        if !PasswordSource::from(&*self).is_given() {
            self.password_file = file.map(Path::to_owned);
            self.password_command = command.map(ToOwned::to_owned);
        }
    }
}

/// Says where a new password is.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct NewPasswordArguments {
    /// Read the new password from this file, rather than ask for it
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    new_password_file: Option<PathBuf>,

    /// Run this command with sh, and take what it prints for the new password
    #[arg(long, value_name = "COMMAND")]
    new_password_command: Option<String>,
}

/// Where one password comes from.
#[derive(Debug, Clone, Default)]
pub struct PasswordSource {
    pub(super) file: Option<PathBuf>,
    pub(super) command: Option<String>,
    /// Is the variable looked at?
    variable: bool,
}

impl From<&PasswordArguments> for PasswordSource {
    fn from(arguments: &PasswordArguments) -> Self {
        Self {
            file: arguments.password_file.clone(),
            command: arguments.password_command.clone(),
            variable: true,
        }
    }
}

impl From<&NewPasswordArguments> for PasswordSource {
    fn from(arguments: &NewPasswordArguments) -> Self {
        Self {
            file: arguments.new_password_file.clone(),
            command: arguments.new_password_command.clone(),
            variable: false,
        }
    }
}

impl PasswordSource {
    /// This one, and where it names neither file nor command, those of `other`.
    pub(super) fn or(&self, other: &Self) -> Self {
        let named = match self.file.is_some() || self.command.is_some() {
            true => self,
            false => other,
        };
        Self {
            variable: self.variable,
            ..named.clone()
        }
    }

    /// Was any named, so that nobody has to be asked?
    pub fn is_given(&self) -> bool {
        self.file.is_some()
            || self.command.is_some()
            || (self.variable && std::env::var_os(VARIABLE).is_some())
    }

    /// How often it may be asked for, if it does not open: what is not typed is the same each time.
    pub fn tries(&self) -> u32 {
        match self.is_given() {
            true => 1,
            false => TYPED_MAX,
        }
    }

    /// The password that opens a repository.
    ///
    /// # Errors
    /// Usage, if two are named, or it is empty; WrongPassword, if nobody can be asked; and those of the file and of
    /// the command.
    pub fn existing(&self, output: &Output) -> Result<Password> {
        match self.given(output)? {
            Some(password) => Ok(password),
            None => {
                check_can_ask()?;
                Password::new(prompt("Password of the repository: ")?)
            }
        }
    }

    /// A password that is to open a repository from now on. A person has to type it twice.
    ///
    /// # Errors
    /// Those of `existing`; usage, if it was typed in two ways.
    pub fn new_one(&self, output: &Output) -> Result<Password> {
        if let Some(password) = self.given(output)? {
            return Ok(password);
        }
        check_can_ask()?;
        let typed = prompt("New password: ")?;
        let again = prompt("The same again: ")?;
        let (typed, again) = (Password::new(typed)?, Password::new(again)?);
        match typed.as_bytes() == again.as_bytes() {
            true => Ok(typed),
            false => Err(Error::new(ErrorKind::Usage, "the two passwords differ")),
        }
    }

    fn given(&self, output: &Output) -> Result<Option<Password>> {
        match (&self.file, &self.command) {
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::Usage,
                "a file and a command are both to give the password: name one of them",
            )),
            (Some(file), None) => from_file(file, output).map(Some),
            (None, Some(command)) => from_command(command).map(Some),
            (None, None) if self.variable => {
                std::env::var_os(VARIABLE).map(from_variable).transpose()
            }
            (None, None) => Ok(None),
        }
    }
}

fn from_variable(value: OsString) -> Result<Password> {
    Password::new(value.into_vec()).map_err(|error| error.context(VARIABLE))
}

fn from_file(path: &Path, output: &Output) -> Result<Password> {
    let reading = |error| Error::io(format!("read the password in {}", path.display()), error);
    let file = File::open(path).map_err(reading)?;
    let mode = file.metadata().map_err(reading)?.permissions().mode();
    if mode & OTHERS_MODE != 0 {
        output.warning(
            Some(path),
            "others than its owner may use this file, which has a password in it",
        );
    }
    let mut bytes = Vec::new();
    file.take(PASSWORD_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(reading)?;
    password_of(bytes).map_err(|error| error.context(path.display()))
}

fn from_command(command: &str) -> Result<Password> {
    let problem = |problem: String| {
        Error::new(
            ErrorKind::Failed,
            format!("the command that is to give the password {problem}"),
        )
    };
    let ran = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::io("run sh for the password", error))?;
    if !ran.status.success() {
        return Err(problem(format!("failed: {}", ran.status)));
    }
    password_of(ran.stdout).map_err(|error| problem(format!("has printed none: {error}")))
}

/// The password that a file or a command holds: without the end of its line, which editors and `echo` append.
fn password_of(mut bytes: Vec<u8>) -> Result<Password> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.len() as u64 >= PASSWORD_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::Usage,
            "it is too long for a password",
        ));
    }
    Password::new(bytes)
}

/// Is there a person who can be asked?
fn check_can_ask() -> Result<()> {
    if std::io::stderr().is_terminal() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::WrongPassword,
        format!(
            "a password is needed, none was given, and there is no terminal to ask at: set {VARIABLE}, or give \
             --password-file or --password-command"
        ),
    ))
}

fn prompt(text: &str) -> Result<Vec<u8>> {
    rpassword::prompt_password(text)
        .map(String::into_bytes)
        .map_err(|error| {
            Error::io("ask for a password at the terminal", error)
                .with_kind(ErrorKind::WrongPassword)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<Vec<u8>> {
        password_of(bytes.to_vec()).map(|password| password.as_bytes().to_vec())
    }

    #[test]
    fn only_the_last_line_s_end_is_no_part_of_a_password() {
        assert_eq!(text(b"a b\n").unwrap(), b"a b");
        assert_eq!(text(b"a b\r\n").unwrap(), b"a b");
        assert_eq!(text(b" a\n\n").unwrap(), b" a\n");
        assert_eq!(text(b"\xff").unwrap(), b"\xff");
        assert!(text(b"\n").is_err() && text(b"").is_err());
    }

    #[test]
    fn what_is_named_goes_before_what_is_only_there() {
        let global = PasswordSource {
            variable: true,
            ..PasswordSource::default()
        };
        let in_fstab = PasswordSource {
            file: Some("a".into()),
            ..PasswordSource::default()
        };
        let named = PasswordSource {
            command: Some("b".into()),
            ..global.clone()
        };
        let both = named.or(&in_fstab);
        assert_eq!((both.file, both.command), (None, Some("b".into())));
        let other = global.or(&in_fstab);
        assert_eq!((other.file, other.variable), (Some("a".into()), true));
    }

    #[test]
    fn a_command_gives_a_password_or_says_why_not() {
        assert_eq!(from_command("echo open").unwrap().as_bytes(), b"open");
        let error = from_command("echo secret; exit 3").unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        assert!(from_command("true").is_err());
    }
}
