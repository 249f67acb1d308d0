//! The same tests on encrypted repositories: `BYGONE_TEST_SEAL=encrypted` or `padded` makes those that include this work
//! on such ones, and nothing else about them changes.

use std::process::Command;
use std::sync::Arc;

use bygone::base::Result;
use bygone::format::KeyDescription;
use bygone::repo::{Encryption, InitOptions, Repository};
use bygone::seal::{Derivation, Password};
use bygone::store::Store;

const PASSWORD: &str = "open sesame";

/// The arguments that make a repository.
pub fn init_arguments() -> &'static [&'static str] {
    match seal().as_deref() {
        None => &["init"],
        Some("encrypted") => &["init", "--encrypt"],
        Some("padded") => &["init", "--encrypt", "--pad"],
        Some(other) => panic!("BYGONE_TEST_SEAL is {other}"),
    }
}

/// What a repository is made with. Its password takes little work.
pub fn init_options() -> InitOptions {
    let encryption = seal().map(|seal| Encryption {
        password: password(),
        derivation: Derivation {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        },
        is_padded: seal == "padded",
        description: KeyDescription {
            created: jiff::Timestamp::UNIX_EPOCH,
            host: "moon".into(),
            user: "selene".into(),
            label: None,
        },
    });
    InitOptions {
        encryption,
        ..InitOptions::default()
    }
}

/// Gives a command the password, if it will need one.
pub fn unlock(command: &mut Command) {
    if seal().is_some() {
        command.env("BYGONE_PASSWORD", PASSWORD);
    }
}

/// Opens a repository.
pub fn open(store: Arc<dyn Store>) -> Result<Arc<Repository>> {
    Repository::unlock(store, &mut || Ok(password()))
}

fn password() -> Password {
    Password::new(PASSWORD.as_bytes().to_vec()).unwrap()
}

fn seal() -> Option<String> {
    std::env::var("BYGONE_TEST_SEAL").ok()
}
