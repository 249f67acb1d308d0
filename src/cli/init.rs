//! `bygone init`: makes a repository.

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;

use super::arguments::{parse_size, repository_place};
use super::context::Context;
use super::key::description;
use super::outcome::Outcome;
use super::output::size;
use crate::base::{Error, ErrorKind, Result};
use crate::format::Chunking;
use crate::repo::{Encryption, InitOptions, Repository};
use crate::seal::{Compression, Derivation};
use crate::store::Location;

/// Make a repository in a place that is empty or does not exist yet
///
/// With --encrypt, all that is stored is sealed with a password, from --password-file, --password-command or
/// BYGONE_PASSWORD, or typed twice: without it nobody can read the repository, nor can anyone help who has lost it.
/// Otherwise whoever can read its files can read what is backed up. That, and how content is cut and compressed, is
/// settled here, and holds for all backups. The directory is made with permissions for its owner alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone init /srv/backup
  bygone -r /srv/backup init --compression 9 --chunk-size 256K
  bygone init --encrypt /mnt/rented/backup
  bygone init --encrypt --pad --password-file ~/.config/backup-password /mnt/rented/backup

JSON:
  repository    the repository's id
  location      its place
  encrypted     true, or false: objects are sealed against corruption, not against readers
  padded        whether their lengths are hidden
  chunk_bytes   the average chunk of a large file, in bytes
  compression   \"off\", or the level of zstd
  created       when, as RFC 3339")]
pub struct Arguments {
    /// Where to make it; -r or BYGONE_REPO say so as well
    #[arg(
        value_name = "REPO",
        value_parser = OsStringValueParser::new().try_map(repository_place)
    )]
    place: Option<Location>,

    /// Encrypt everything; bygone-format(5) says what whoever runs the storage can learn all the same
    #[arg(long)]
    encrypt: bool,

    /// Hide lengths too, by rounding them up: costs an eighth of the space at most, a few hundredths as a rule
    #[arg(long, requires = "encrypt")]
    pad: bool,

    /// Cut large files into chunks of about this many bytes: a multiple of 4 KiB, at most 4 MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "128K")]
    chunk_size: u64,

    /// Compress by this level of zstd, 1 to 19, or not at all
    #[arg(long, value_name = "LEVEL|off", value_parser = parse_compression, default_value = "3")]
    compression: Compression,
}

impl Arguments {
    /// The place, if one is named here: it means what it would mean after -r.
    pub(super) fn take_place(&mut self) -> Option<Location> {
        self.place.take()
    }
}

/// What was made.
#[derive(Serialize)]
struct Made {
    repository: String,
    location: String,
    encrypted: bool,
    padded: bool,
    chunk_bytes: u32,
    compression: String,
    created: jiff::Timestamp,
}

/// Makes the repository.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let place = context.repository_place()?;
    let options = InitOptions {
        chunking: Chunking::with_chunk_bytes(arguments.chunk_size)?,
        compression: arguments.compression,
        encryption: encryption(arguments, context)?,
        created: context.now().timestamp(),
    };
    let repository = Repository::init(context.create_store(place)?, &options)?;
    context.made(&repository);
    report(&repository, context)?;
    Ok(Outcome::Done)
}

/// How it is to be encrypted, with its password.
fn encryption(arguments: &Arguments, context: &Context) -> Result<Option<Encryption>> {
    let source = context.password();
    if !arguments.encrypt {
        return match source.is_given() {
            true => Err(Error::new(
                ErrorKind::Usage,
                "a password is given, and --encrypt is not: give both, or neither",
            )),
            false => Ok(None),
        };
    }
    Ok(Some(Encryption {
        password: source.new_one(context.output())?,
        derivation: Derivation::default(),
        is_padded: arguments.pad,
        description: description(context, None),
    }))
}

fn report(repository: &Repository, context: &Context) -> Result<()> {
    let config = repository.config();
    let made = Made {
        repository: config.repository.to_string(),
        location: repository.store().location(),
        encrypted: config.seal.is_encrypted(),
        padded: config.seal.is_padded(),
        chunk_bytes: config.chunking.average_bytes,
        compression: match config.compression {
            Compression::Off => "off".to_owned(),
            Compression::Level(level) => level.to_string(),
        },
        created: config.created,
    };
    let output = context.output();
    if context.json() {
        return output.document(&made);
    }
    if context.quiet() {
        return Ok(());
    }
    output.line(format_args!(
        "Made repository {} in {}: {}, chunks of about {}, {}.",
        made.repository,
        made.location,
        match (made.encrypted, made.padded) {
            (false, _) => "not encrypted",
            (true, false) => "encrypted",
            (true, true) => "encrypted and padded",
        },
        size(u64::from(made.chunk_bytes)),
        match config.compression {
            Compression::Off => "not compressed".to_owned(),
            Compression::Level(level) => format!("zstd level {level}"),
        }
    ))
}

fn parse_compression(text: &str) -> std::result::Result<Compression, String> {
    let compression = match text {
        "off" => Some(Compression::Off),
        level => level.parse().ok().map(Compression::Level),
    };
    compression
        .filter(|compression| compression.is_valid())
        .ok_or_else(|| "expected a level from 1 to 19, or off".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_a_level_or_off() {
        assert_eq!(parse_compression("off"), Ok(Compression::Off));
        assert_eq!(parse_compression("19"), Ok(Compression::Level(19)));
        for text in ["0", "20", "-1", "fast", ""] {
            assert!(parse_compression(text).is_err(), "{text}");
        }
    }
}
