//! Where the servers of the tests are, and a new place on one for each test.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bygone::store::{Location, Settings, Store};

use super::servers::server;

/// A place on a server and what is needed to open it.
pub struct Place {
    pub url: String,
    pub settings: Settings,
}

impl Place {
    /// The store, as the program opens it.
    pub fn open(&self) -> Arc<dyn Store> {
        let location = Location::parse(OsStr::new(&self.url)).unwrap();
        bygone::store::open(&location, &self.settings).unwrap()
    }
}

/// A name that no other test has used on any server.
pub fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}

fn settings(of: &[(&str, String)]) -> Settings {
    let mut settings = Settings::default();
    for (name, value) in of {
        settings.set(name, value.as_str());
    }
    settings
}

/// An empty prefix of an S3 bucket, reached at `endpoint`: the server's own, or that of a proxy before it.
pub fn s3_at(name: &str, endpoint: &str) -> Place {
    let field = |field| server(name, field);
    Place {
        url: format!("s3://{}/{}", field("bucket"), fresh()),
        settings: settings(&[
            ("endpoint", endpoint.to_owned()),
            ("region", field("region")),
            ("access_key_id", field("access_key_id")),
            ("secret_access_key", field("secret_access_key")),
        ]),
    }
}

/// An empty prefix of an S3 bucket.
pub fn s3(name: &str) -> Place {
    s3_at(name, &server(name, "endpoint"))
}

pub fn azure() -> Place {
    let field = |field| server("azurite", field);
    Place {
        url: format!("az://{}/{}", field("container"), fresh()),
        settings: settings(&[
            ("endpoint", field("endpoint")),
            ("account_name", field("account_name")),
            ("account_key", field("account_key")),
        ]),
    }
}

pub fn google() -> Place {
    let field = |field| server("google", field);
    Place {
        url: format!("gs://{}/{}", field("bucket"), fresh()),
        settings: settings(&[
            ("endpoint", field("endpoint")),
            ("bearer_token", "any".to_owned()),
        ]),
    }
}

pub fn web_dav() -> Place {
    let field = |field| server("webdav", field);
    Place {
        url: format!("{}/{}", field("url"), fresh()),
        settings: settings(&[("user", field("user")), ("password", field("password"))]),
    }
}

/// An empty directory that `ssh` reaches as `host` of the servers' configuration: directly, or over another host.
pub fn sftp(host: &str) -> Place {
    let field = |field| server("sftp", field);
    Place {
        url: format!("sftp://{}{}/{}", field(host), field("folder"), fresh()),
        settings: settings(&[("ssh_command", format!("ssh -F {}", field("configuration")))]),
    }
}
