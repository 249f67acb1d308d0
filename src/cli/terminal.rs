//! The terminal that a person sits at: whether it is to show colours, how wide it is, and the pager that long output is
//! read in.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anstyle::{AnsiColor, Style};
use signal_hook::consts::SIGINT;

/// When colours are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR says otherwise
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Are colours to be shown on a stream that is a terminal, or is none?
    pub(super) fn is_wanted(self, is_terminal: bool) -> bool {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
                is_terminal && !is_dumb && !is_set("NO_COLOR")
            }
        }
    }

    /// The same for whoever prints help and what is wrong with arguments.
    pub(super) fn for_help(self) -> clap::ColorChoice {
        match self {
            Self::Auto => clap::ColorChoice::Auto,
            Self::Always => clap::ColorChoice::Always,
            Self::Never => clap::ColorChoice::Never,
        }
    }

    /// What was typed, on a command line that is not parsed yet.
    pub(super) fn typed(arguments: impl Iterator<Item = OsString>) -> Self {
        let mut typed = Self::default();
        let mut is_next = false;
        for argument in arguments.take_while(|argument| argument != "--") {
            let text = argument.to_string_lossy();
            let word = match text.strip_prefix("--color=") {
                Some(word) => Some(word),
                None if is_next => Some(&*text),
                None => None,
            };
            typed = match word {
                Some("always") => Self::Always,
                Some("never") => Self::Never,
                _ => typed,
            };
            is_next = text == "--color";
        }
        typed
    }
}

/// What colours say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Something went wrong, or is gone.
    Bad,
    /// Look here.
    Warning,
    /// Something is new, or can be run.
    Good,
    Directory,
    Symlink,
    /// A device, a fifo or a socket.
    Special,
}

impl Paint {
    /// `text` in this colour.
    pub(super) fn on(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }

    fn style(self) -> Style {
        let (color, is_bold) = match self {
            Self::Bad => (AnsiColor::Red, true),
            Self::Warning => (AnsiColor::Yellow, true),
            Self::Good => (AnsiColor::Green, false),
            Self::Directory => (AnsiColor::Blue, true),
            Self::Symlink => (AnsiColor::Cyan, false),
            Self::Special => (AnsiColor::Yellow, false),
        };
        let style = Style::new().fg_color(Some(color.into()));
        if is_bold { style.bold() } else { style }
    }
}

/// A unified diff with what comes, what goes and where in colours. Its bytes are otherwise as they are.
pub(super) fn painted_diff(text: &[u8]) -> Vec<u8> {
    let mut painted = Vec::with_capacity(text.len() * 2);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let paint = match line.first() {
            Some(b'+') => Paint::Good,
            Some(b'-') => Paint::Bad,
            Some(b'@') => Paint::Symlink,
            _ => {
                painted.extend_from_slice(line);
                continue;
            }
        };
        let style = paint.style();
        let (shown, end) = match line.strip_suffix(b"\n") {
            Some(shown) => (shown, &b"\n"[..]),
            None => (line, &b""[..]),
        };
        painted.extend_from_slice(format!("{style}").as_bytes());
        painted.extend_from_slice(shown);
        painted.extend_from_slice(format!("{style:#}").as_bytes());
        painted.extend_from_slice(end);
    }
    painted
}

/// How many columns the terminal has that standard output is; None if it is none, or does not tell.
pub(super) fn width() -> Option<u16> {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|columns| *columns > 0)
}

/// The command that long output is read in: `None` if whoever sits there wants none.
fn pager_command() -> Option<Command> {
    let variables = ["BYGONE_PAGER", "PAGER"];
    let Some(named) = variables.into_iter().find_map(std::env::var_os) else {
        return Some(Command::new("less"));
    };
    if named.is_empty() || named == "cat" {
        return None;
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(named);
    Some(command)
}

/// Where standard output goes: to itself, or to a pager, which is started when there is something to show.
#[derive(Debug)]
pub(super) enum Sink {
    Standard(io::Stdout),
    /// To a pager, once something is written.
    Unstarted,
    Pager(Child, ChildStdin),
    /// Nothing more is written.
    Closed,
}

impl Sink {
    /// A pager, if there is a terminal to show it on; else standard output.
    pub(super) fn new(is_paged: bool) -> Self {
        match is_paged {
            true => Self::Unstarted,
            false => Self::Standard(io::stdout()),
        }
    }

    /// Starts the pager; if that is not possible, all goes to standard output.
    fn start(&mut self) {
        *self = Self::Standard(io::stdout());
        let Some(mut command) = pager_command() else {
            return;
        };
        if std::env::var_os("LESS").is_none() {
            // Ends at once if all fits, shows colours, and leaves on the terminal what was shown.
            command.env("LESS", "FRX");
        }
        let Ok(mut child) = command.stdin(Stdio::piped()).spawn() else {
            return;
        };
        // The key that interrupts is the pager's from now on: ending before it does would leave the terminal to both.
        let _caught = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
        if let Some(pipe) = child.stdin.take() {
            *self = Self::Pager(child, pipe);
        }
    }

    /// Waits until whoever reads has seen enough; false if there was no pager.
    pub(super) fn close(&mut self) -> bool {
        match std::mem::replace(self, Self::Closed) {
            Self::Pager(mut child, pipe) => {
                drop(pipe);
                // How it ended is its own matter.
                let _ended = child.wait();
                true
            }
            _ => false,
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self, Self::Unstarted) {
            self.start();
        }
        match self {
            Self::Standard(output) => output.write(bytes),
            Self::Pager(_, pipe) => pipe.write(bytes),
            Self::Unstarted | Self::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(output) => output.flush(),
            Self::Pager(_, pipe) => pipe.flush(),
            Self::Unstarted | Self::Closed => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_of_colours_is_found_before_the_rest_is_parsed() {
        let typed = |line: &str| Color::typed(line.split(' ').map(OsString::from));
        assert_eq!(typed("bygone points --color always"), Color::Always);
        assert_eq!(typed("bygone --color=never points"), Color::Never);
        assert_eq!(typed("bygone points"), Color::Auto);
        assert_eq!(typed("bygone -- --color=always"), Color::Auto);
    }

    #[test]
    fn a_diff_is_the_same_but_for_its_colours() {
        let text = b"--- a\n+++ b\n@@ -1 +1 @@\n-old\n+n\xffew\n same";
        let painted = painted_diff(text);
        let plain = String::from_utf8_lossy(&painted);
        let mut plain = plain.into_owned();
        for code in [
            "\u{1b}[0m",
            "\u{1b}[1m",
            "\u{1b}[31m",
            "\u{1b}[32m",
            "\u{1b}[36m",
        ] {
            assert!(plain.contains(code), "{plain:?}");
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, String::from_utf8_lossy(text));
    }

    #[test]
    fn a_colour_ends_where_its_text_does() {
        assert_eq!(Paint::Bad.on("x"), "\u{1b}[1m\u{1b}[31mx\u{1b}[0m");
    }
}
