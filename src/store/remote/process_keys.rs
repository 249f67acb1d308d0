//! Keys for S3 that a process prints, as the AWS tools have it: `credential_process` of a profile.
//!
//! The process is asked when keys are first needed, and again before they expire, so that a mount outlives them. It is
//! waited for on the thread that needs them.

use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use serde::Deserialize;

use super::body::Words;
use super::problem::{Problem, note};

/// Keys are renewed so long before they expire: a request takes a while, and clocks differ.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// A process and what it printed last.
pub(super) struct ProcessKeys {
    command: String,
    known: Mutex<Option<Keys>>,
}

#[derive(Clone)]
struct Keys {
    credential: Arc<AwsCredential>,
    expires: Option<Timestamp>,
}

/// What the process prints, of version 1.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<Timestamp>,
}

impl ProcessKeys {
    /// Keys that the shell command prints.
    pub(super) fn new(command: String) -> Self {
        Self {
            command,
            known: Mutex::new(None),
        }
    }

    /// Keys that are good at `now`.
    fn keys(&self, now: Timestamp) -> Result<Keys, String> {
        // Held while the process runs, so that many threads start one.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = known.as_ref().filter(|keys| keys.are_good(now)) {
            return Ok(keys.clone());
        }
        let keys = self.ask()?;
        *known = Some(keys.clone());
        Ok(keys)
    }

    fn ask(&self) -> Result<Keys, String> {
        let Output { status, stdout, .. } = Command::new("/bin/sh")
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            // Its own words are for the person at the terminal.
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cannot be run: {error}"))?;
        if !status.success() {
            return Err(format!("failed: {status}"));
        }
        // The parser's own message is not shown: it may quote what was printed.
        let printed: Printed = serde_json::from_slice(&stdout)
            .map_err(|_| "printed no keys that can be read".to_owned())?;
        Ok(Keys {
            credential: Arc::new(AwsCredential {
                key_id: printed.access_key_id,
                secret_key: printed.secret_access_key,
                token: printed.session_token,
            }),
            expires: printed.expiration,
        })
    }
}

impl Keys {
    fn are_good(&self, now: Timestamp) -> bool {
        self.expires
            .is_none_or(|expires| now.duration_until(expires) > RENEWED_BEFORE)
    }
}

impl std::fmt::Debug for ProcessKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProcessKeys")
    }
}

#[async_trait]
impl CredentialProvider for ProcessKeys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.keys(Timestamp::now())
            .map(|keys| keys.credential)
            .map_err(|problem| {
                let text = format!("the profile's credential_process {problem}");
                note(Problem::NoCredentials(text.clone()));
                object_store::Error::Generic {
                    store: "S3",
                    source: Box::new(Words(text)),
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that prints other keys each time, good for an hour from `now`.
    fn counting(folder: &std::path::Path, now: Timestamp) -> ProcessKeys {
        let count = folder.join("count").display().to_string();
        let expires = now + SignedDuration::from_hours(1);
        ProcessKeys::new(format!(
            "echo x >> {count}; printf '{{\"Version\":1,\"AccessKeyId\":\"id\",\"SecretAccessKey\":\"%s\",\
             \"SessionToken\":\"t\",\"Expiration\":\"{expires}\"}}' $(wc -l < {count})"
        ))
    }

    #[test]
    fn keys_are_asked_for_again_before_they_expire_and_not_sooner() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let keys = counting(folder.path(), now);
        let secret = |minutes: i64| {
            let at = now + SignedDuration::from_mins(minutes);
            keys.keys(at).unwrap().credential.secret_key.clone()
        };
        assert_eq!(secret(0), "1");
        assert_eq!(secret(50), "1");
        assert_eq!(secret(56), "2");
    }

    #[test]
    fn a_process_that_gives_no_keys_is_told_without_what_it_printed() {
        for command in ["echo hidden", "echo hidden; false", "exit 3"] {
            let problem = ProcessKeys::new(command.to_owned())
                .keys(Timestamp::now())
                .err()
                .unwrap();
            assert!(!problem.contains("hidden"), "{problem}");
        }
        let shown = format!("{:?}", ProcessKeys::new("hidden".to_owned()));
        assert!(!shown.contains("hidden"));
    }
}
