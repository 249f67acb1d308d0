//! Real servers for tests: started by `scripts/servers`, once for all tests of a binary, and ended with it.
//!
//! `BYGONE_TEST_SERVERS` may name a `servers.json` of servers that run already, which makes a repeated run quicker.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The servers, and the process that ends them when its standard input ends: with this process, whatever becomes of it.
struct Servers {
    _process: Option<Child>,
    known: Value,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a server is reached by: a field of its entry in `servers.json`.
pub fn server(name: &str, field: &str) -> String {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    let servers = SERVERS.get_or_init(|| match std::env::var_os("BYGONE_TEST_SERVERS") {
        Some(path) => running(Path::new(&path)),
        None => start(),
    });
    match &servers.known[name][field] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => panic!(
            "there is no {field} of a server {name} in {}",
            servers.known
        ),
    }
}

fn running(file: &Path) -> Servers {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    Servers {
        _process: None,
        known: serde_json::from_str(&text).unwrap(),
    }
}

fn start() -> Servers {
    let mut process = Command::new(root().join("scripts/servers"))
        .arg("run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = process.stdout.take().expect("it was asked for");
    BufReader::new(output).read_line(&mut line).unwrap();
    let known = serde_json::from_str(&line).unwrap_or_else(|_| {
        panic!("no servers: run `scripts/servers install` once, and see above")
    });
    Servers {
        _process: Some(process),
        known,
    }
}
