//! What rsync(1) says two trees differ in: an answer that shares nothing with ours.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::machine::{path_text, run};

/// How a path differs, in the words of `bygone diff`, and what of it.
pub type Difference = (&'static str, Vec<&'static str>);

/// What has to be done to `old` to make it `new`, by the paths in them, "" for the top.
pub fn differences(old: &Path, new: &Path) -> BTreeMap<Vec<u8>, Difference> {
    let places = [new.join(""), old.join("")];
    let options = [
        "--archive",
        "--acls",
        "--xattrs",
        "--checksum",
        "--modify-window=-1",
        "--dry-run",
        "--delete",
        "--itemize-changes",
    ];
    let told = run(
        "rsync",
        &[
            &options[..],
            &[path_text(&places[0]), path_text(&places[1])],
        ]
        .concat(),
    );
    let mut differences = BTreeMap::new();
    for line in told.lines() {
        let (code, name) = line.split_once(' ').unwrap();
        let name = name.trim_start();
        let name = match code.as_bytes()[1] {
            b'L' => name.split(" -> ").next().unwrap(),
            _ => name,
        };
        let path = unescaped(name.trim_end_matches('/'));
        let path = if path == b"." { Vec::new() } else { path };
        let was_there = old.join(OsStr::from_bytes(&path)).symlink_metadata();
        let is_there = new.join(OsStr::from_bytes(&path)).symlink_metadata();
        let difference = match (was_there, is_there) {
            (Err(_), _) => ("added", Vec::new()),
            (_, Err(_)) => ("removed", Vec::new()),
            (Ok(was), Ok(is)) if was.file_type() != is.file_type() => ("type", Vec::new()),
            // Of a symlink that leads elsewhere, rsync does not tell the time.
            (Ok(was), Ok(is))
                if code.starts_with("cLc") && was.modified().unwrap() != is.modified().unwrap() =>
            {
                ("changed", what(&code.replacen("cLc..", "cLc.t", 1)))
            }
            _ => ("changed", what(code)),
        };
        // A file by another name of it: nothing that differs.
        if !code.starts_with('h') || difference.0 != "changed" {
            differences.insert(path, difference);
        }
    }
    differences
}

/// What differs, by a code such as `>fcst.....x`.
fn what(code: &str) -> Vec<&'static str> {
    let code = code.as_bytes();
    let has = |letters: &[u8]| code[2..].iter().any(|letter| letters.contains(letter));
    let mut what = Vec::new();
    for (letters, word) in [
        (&b"cs"[..], "content"),
        (b"p", "mode"),
        (b"og", "owner"),
        (b"tT", "time"),
        (b"ax", "xattr"),
    ] {
        if has(letters) {
            what.push(word);
        }
    }
    what
}

/// rsync writes bytes that are no text as `\#377`.
fn unescaped(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\#") {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(&after[..3], 8).unwrap());
        rest = &after[3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
