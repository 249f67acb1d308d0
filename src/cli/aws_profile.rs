//! Profiles of the AWS tools: `~/.aws/credentials` and `~/.aws/config`, as far as they say who asks, and where.
//!
//! It understands keys, a process that prints them, and roles by a web identity. Of what it does not understand
//! (single sign-on, roles by another profile) it says how to get there by a process.

use std::path::PathBuf;

use ini::{Ini, ParseOption, Properties};

use crate::base::{Error, ErrorKind, Result};
use crate::store::Settings;

/// What a profile calls its options, and what the store does.
const OPTIONS: [(&str, &str); 7] = [
    ("aws_session_token", "session_token"),
    ("region", "region"),
    ("endpoint_url", "endpoint"),
    ("ca_bundle", "ca_bundle"),
    ("addressing_style", "addressing_style"),
    ("web_identity_token_file", "web_identity_token_file"),
    ("role_arn", "role_arn"),
];

/// The two files.
pub(super) struct Files {
    credentials: Option<PathBuf>,
    config: Option<PathBuf>,
}

impl Files {
    /// The files that the environment names, or those in the home directory.
    pub(super) fn of(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let home = environment("HOME").map(PathBuf::from);
        let file = |variable: &str, name: &str| {
            environment(variable)
                .map(PathBuf::from)
                .or_else(|| Some(home.as_ref()?.join(".aws").join(name)))
        };
        Self {
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: file("AWS_CONFIG_FILE", "config"),
        }
    }

    /// Sets what the profile of this name says and nobody has set otherwise.
    ///
    /// # Errors
    /// Usage, if there is no such profile, or it is of a kind that is not understood.
    pub(super) fn add(&self, settings: &mut Settings, profile: &str) -> Result<()> {
        let found = self.sections(profile)?;
        if found.is_empty() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "there is no profile {profile} in {} or {}",
                    shown(self.credentials.as_ref()),
                    shown(self.config.as_ref())
                ),
            ));
        }
        add_sections(settings, profile, &found)
    }

    /// The same of the profile that is meant where none is named, which need not be there.
    ///
    /// # Errors
    /// Usage, if it is of a kind that is not understood.
    pub(super) fn add_default(&self, settings: &mut Settings) -> Result<()> {
        let found = self.sections("default")?;
        add_sections(settings, "default", &found)
    }

    /// What each file says of a profile.
    fn sections(&self, profile: &str) -> Result<Vec<Properties>> {
        let config_name = match profile {
            "default" => profile.to_owned(),
            other => format!("profile {other}"),
        };
        let mut found = Vec::new();
        for (file, name) in [(&self.credentials, profile), (&self.config, &config_name)] {
            if let Some(section) =
                read(file.as_ref())?.and_then(|ini| ini.section(Some(name)).cloned())
            {
                found.push(section);
            }
        }
        Ok(found)
    }
}

/// A file's content; None, if there is no such file.
fn read(file: Option<&PathBuf>) -> Result<Option<Ini>> {
    let Some(file) = file else {
        return Ok(None);
    };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("read {}", file.display()), error)),
    };
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        ..ParseOption::default()
    };
    // The parser's own message is not shown: it may quote a line, which may be a secret.
    Ini::load_from_str_opt(&text, options)
        .map(Some)
        .map_err(|error| {
            Error::new(
                ErrorKind::Usage,
                format!(
                    "{} is no file of profiles: line {}",
                    file.display(),
                    error.line
                ),
            )
        })
}

fn add_sections(settings: &mut Settings, profile: &str, sections: &[Properties]) -> Result<()> {
    let value = |name: &str| sections.iter().find_map(|section| section.get(name));
    let has_identity = settings.get("access_key_id").is_some()
        || settings.get("web_identity_token_file").is_some();
    if !has_identity {
        add_identity(settings, profile, &value)?;
    }
    for (name, option) in OPTIONS {
        let is_identity = matches!(
            option,
            "session_token" | "web_identity_token_file" | "role_arn"
        );
        if let Some(value) = value(name).filter(|_| !(is_identity && has_identity)) {
            settings.set_default(option, value);
        }
    }
    Ok(())
}

/// Sets the keys of a profile, if it has any.
fn add_identity<'a>(
    settings: &mut Settings,
    profile: &str,
    value: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<()> {
    if let (Some(id), Some(secret)) = (value("aws_access_key_id"), value("aws_secret_access_key")) {
        settings.set("access_key_id", id);
        settings.set("secret_access_key", secret);
        return Ok(());
    }
    if let Some(command) = value("credential_process") {
        settings.set("credential_process", command);
        return Ok(());
    }
    let has = |name: &str| value(name).is_some();
    let is_understood = has("web_identity_token_file") || !has("role_arn");
    let is_signed_on = ["sso_session", "sso_start_url", "sso_account_id"]
        .into_iter()
        .any(has);
    match is_understood && !is_signed_on {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Usage,
            format!(
                "profile {profile} gets its keys by single sign-on or from another profile, which bygone leaves to \
                 the AWS tools: run `eval \"$(aws configure export-credentials --profile {profile} --format env)\"`, \
                 or make a profile with credential_process = aws configure export-credentials --profile {profile}"
            ),
        )),
    }
}

fn shown(file: Option<&PathBuf>) -> String {
    file.map_or_else(
        || "the home directory, which is not known".to_owned(),
        |file| file.display().to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(credentials: &str, config: &str) -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let files = Files {
            credentials: write("credentials", credentials),
            config: write("config", config),
        };
        (folder, files)
    }

    #[test]
    fn both_files_say_what_a_profile_is() {
        let (_folder, files) = files(
            "[moon]\naws_access_key_id=id\naws_secret_access_key = a\\b\"c/+=\n",
            "[profile moon]\nregion = eu-1\ns3 =\n  addressing_style = virtual\nendpoint_url = https://x\n",
        );
        let mut settings = Settings::default();
        files.add(&mut settings, "moon").unwrap();
        assert_eq!(settings.get("access_key_id"), Some("id"));
        assert_eq!(settings.get("secret_access_key"), Some("a\\b\"c/+="));
        assert_eq!(settings.get("region"), Some("eu-1"));
        assert_eq!(settings.get("addressing_style"), Some("virtual"));
        assert_eq!(settings.get("endpoint"), Some("https://x"));
    }

    #[test]
    fn a_process_that_prints_keys_is_left_to_the_store() {
        let (_folder, files) = files("", "[profile moon]\ncredential_process = a \"b\" -c\n");
        let mut settings = Settings::default();
        files.add(&mut settings, "moon").unwrap();
        assert_eq!(settings.get("credential_process"), Some("a \"b\" -c"));
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_told() {
        let (_folder, files) = files(
            "",
            "[profile sso]\nsso_session = x\n[profile role]\nrole_arn = x\nsource_profile = y\n",
        );
        for profile in ["none", "sso", "role"] {
            let error = files.add(&mut Settings::default(), profile).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(profile), "{error}");
        }
        files.add_default(&mut Settings::default()).unwrap();
        // Whoever has keys already needs none of a profile's.
        let mut settings = Settings::default();
        settings.set("access_key_id", "id");
        files.add(&mut settings, "sso").unwrap();
    }

    #[test]
    fn a_broken_file_is_told_without_its_lines() {
        let (_folder, files) = files("[moon\naws_secret_access_key = hidden\n", "");
        let error = files.add_default(&mut Settings::default()).unwrap_err();
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}
