//! Where a repository is, as a person writes it: a folder's path, or a URL.
//!
//! Invariants: a location has no password in it, so that it may be printed, logged and remembered; one that has is
//! refused when it is read. It does not know whether anything is there, and reads no environment.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use url::Url;

use crate::base::{Error, ErrorKind, Result};

/// What is said of a URL of a kind that nothing here can open.
const KNOWN_KINDS: &str =
    "expected a path, file://, s3://, gs://, az://, http(s):// (WebDAV) or sftp://";

/// A place that can hold a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine, by its path or by `file://`.
    Folder(PathBuf),
    /// `s3://bucket/prefix`: Amazon S3 or whatever speaks its protocol.
    S3(Bucket),
    /// `gs://bucket/prefix`: Google Cloud Storage.
    Google(Bucket),
    /// `az://container/prefix`: Azure Blob Storage.
    Azure(Bucket),
    /// `https://user@host/path`: a WebDAV collection.
    WebDav(Url),
    /// `sftp://user@host:port/path`: a directory of another machine, by SSH.
    Sftp(SftpPlace),
}

/// A bucket (Azure: a container) and where in it the objects' names begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    /// Empty, or a path without a slash at either end.
    pub prefix: String,
}

/// A directory of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpPlace {
    pub user: Option<String>,
    /// A name that DNS or the user's SSH configuration knows.
    pub host: String,
    pub port: Option<u16>,
    /// As the server takes it: absolute, or, where the URL's path begins with `/~/`, below the user's home.
    pub path: String,
}

impl Location {
    /// Reads what a person wrote.
    ///
    /// # Errors
    /// Usage: a URL of no known kind, without a bucket or host, or with a password in it.
    pub fn parse(text: &OsStr) -> Result<Self> {
        match text.to_str().and_then(split_kind) {
            None => Ok(Self::Folder(PathBuf::from(text))),
            Some((kind, rest)) => parse_url(kind, rest)
                .map_err(|problem| Error::new(ErrorKind::Usage, problem).context(shown(kind))),
        }
    }

    /// The directory, if it is one of this machine.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::S3(_) | Self::Google(_) | Self::Azure(_) | Self::WebDav(_) | Self::Sftp(_) => {
                None
            }
        }
    }
}

impl Location {
    /// The path of a WebDAV collection on its server, without a slash at either end.
    ///
    /// # Errors
    /// Usage, if it is not UTF-8.
    pub(super) fn web_prefix(url: &Url) -> Result<String> {
        decode_percents(url.path())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(|path| path.trim_matches('/').to_owned())
            .ok_or_else(|| Error::new(ErrorKind::Usage, "the URL's path is not UTF-8"))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3(bucket) => write!(f, "s3://{bucket}"),
            Self::Google(bucket) => write!(f, "gs://{bucket}"),
            Self::Azure(bucket) => write!(f, "az://{bucket}"),
            Self::WebDav(url) => write!(f, "{url}"),
            Self::Sftp(place) => write!(f, "sftp://{place}"),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => f.write_str(&self.name),
            prefix => write!(f, "{}/{prefix}", self.name),
        }
    }
}

impl fmt::Display for SftpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match self.path.starts_with('/') {
            true => f.write_str(&self.path),
            false => write!(f, "/~/{}", self.path),
        }
    }
}

/// The kind and the rest of what looks like a URL. A path with `://` in it is written with `./` before it.
fn split_kind(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.split_once("://")?;
    let is_kind = kind.starts_with(|first: char| first.is_ascii_alphabetic())
        && kind
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_kind.then_some((kind, rest))
}

/// How a URL is named in a refusal: by its kind, since the rest may hold what nobody should see.
fn shown(kind: &str) -> String {
    format!("{kind}://...")
}

fn parse_url(kind: &str, rest: &str) -> std::result::Result<Location, String> {
    match kind.to_ascii_lowercase().as_str() {
        "file" => parse_file(rest),
        "s3" | "s3a" => parse_bucket(rest, "bucket").map(Location::S3),
        "gs" => parse_bucket(rest, "bucket").map(Location::Google),
        "az" | "azure" => parse_bucket(rest, "container").map(Location::Azure),
        "http" | "https" => parse_web(kind, rest).map(Location::WebDav),
        "sftp" | "ssh" => parse_web("sftp", rest)
            .and_then(|url| sftp_place(&url))
            .map(Location::Sftp),
        _ => Err(KNOWN_KINDS.to_owned()),
    }
}

fn parse_file(rest: &str) -> std::result::Result<Location, String> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("expected file:///path, with three slashes".to_owned());
    }
    let bytes = decode_percents(path)?;
    Ok(Location::Folder(PathBuf::from(OsStr::from_bytes(&bytes))))
}

fn parse_bucket(rest: &str, noun: &str) -> std::result::Result<Bucket, String> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if name.contains(['@', ':']) {
        return Err(format!(
            "expected a {noun} after the slashes; keys and servers go into the environment or --store-option"
        ));
    }
    if name.is_empty() || name.contains(['?', '#', '%', ' ']) {
        return Err(format!("expected the name of a {noun} after the slashes"));
    }
    let prefix = String::from_utf8(decode_percents(prefix)?)
        .map_err(|_| "the prefix is not UTF-8".to_owned())?;
    let components: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
    if components.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("a prefix has no components . and ..".to_owned());
    }
    Ok(Bucket {
        name: name.to_owned(),
        prefix: components.join("/"),
    })
}

fn parse_web(kind: &str, rest: &str) -> std::result::Result<Url, String> {
    if rest.starts_with('/') {
        return Err("expected a host after the slashes".to_owned());
    }
    let mut url =
        Url::parse(&format!("{kind}://{rest}")).map_err(|error| format!("no URL: {error}"))?;
    if url.password().is_some() {
        return Err(
            "a password in a URL is seen by everybody who lists processes: leave it out; \
             BYGONE_WEBDAV_PASSWORD gives a WebDAV server's, and ssh asks its own agent"
                .to_owned(),
        );
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("expected a host after the slashes".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected no ? and no # in it".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn sftp_place(url: &Url) -> std::result::Result<SftpPlace, String> {
    let text = |part: &str| {
        String::from_utf8(decode_percents(part)?).map_err(|_| "it is not UTF-8".to_owned())
    };
    let path = text(url.path())?;
    let path = match path.strip_prefix("/~/") {
        Some(below_home) => below_home.to_owned(),
        None => path,
    };
    let host = text(url.host_str().unwrap_or_default())?;
    let user = Some(text(url.username())?).filter(|user| !user.is_empty());
    if path.is_empty() {
        return Err("expected a path after the host".to_owned());
    }
    // What begins with a dash would be an option of ssh.
    if host.starts_with('-') || user.as_ref().is_some_and(|user| user.starts_with('-')) {
        return Err("a host or user does not begin with a dash".to_owned());
    }
    Ok(SftpPlace {
        user,
        host,
        port: url.port(),
        path,
    })
}

/// Bytes that were written as `%xx` stand for themselves.
fn decode_percents(text: &str) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => (hex_byte(*high, *low)?, tail),
            (b'%', _) => return Err("a % is not followed by two hex digits".to_owned()),
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    Ok(bytes)
}

fn hex_byte(high: u8, low: u8) -> std::result::Result<u8, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digit(high)
        .zip(digit(low))
        .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
        .ok_or_else(|| "a % is not followed by two hex digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location> {
        Location::parse(OsStr::new(text))
    }

    fn bucket(name: &str, prefix: &str) -> Bucket {
        Bucket {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn what_is_no_url_is_a_path() {
        for path in ["/srv/backup", "backup", "./s3://x", "a:b", "1://x", ""] {
            assert_eq!(
                parse(path).unwrap(),
                Location::Folder(path.into()),
                "{path}"
            );
        }
        let odd = OsStr::from_bytes(b"/srv/\xff");
        assert_eq!(
            Location::parse(odd).unwrap(),
            Location::Folder(PathBuf::from(odd))
        );
    }

    #[test]
    fn each_kind_of_url_is_read_and_shown_again() {
        let known = [
            ("s3://moon/a/b", Location::S3(bucket("moon", "a/b"))),
            ("gs://moon", Location::Google(bucket("moon", ""))),
            ("az://moon/a", Location::Azure(bucket("moon", "a"))),
        ];
        for (text, location) in known {
            assert_eq!(parse(text).unwrap(), location);
            assert_eq!(location.to_string(), text);
        }
        for text in [
            "https://anna@dav.example:8443/a/b",
            "sftp://anna@moon:2222/srv/a",
            "sftp://moon/~/a",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            parse("s3://moon//a///b/").unwrap(),
            Location::S3(bucket("moon", "a/b"))
        );
        assert_eq!(
            parse("file:///srv/a%20b").unwrap(),
            Location::Folder("/srv/a b".into())
        );
        let Location::Sftp(place) = parse("sftp://moon/~/a").unwrap() else {
            panic!("another kind");
        };
        assert_eq!(
            (place.path.as_str(), place.user, place.port),
            ("a", None, None)
        );
    }

    #[test]
    fn what_cannot_be_opened_is_refused_without_being_repeated() {
        for text in [
            "ftp://hidden@host/x",
            "s3://",
            "s3://hidden:hidden@bucket/x",
            "s3://a/../hidden",
            "https://anna:hidden@host/x",
            "https:///hidden",
            "https://host/x?token=hidden",
            "sftp://anna:hidden@host/x",
            "sftp://-ohidden/x",
            "sftp://hidden",
            "file://hidden/x",
            "s3://a/%zzhidden",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }
}
