//! Where the repository is, as typed, and what its store has to know: options, rates, and credentials from where
//! other tools take them.
//!
//! Invariant: no secret is taken from an argument, which everybody on the machine can read.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::arguments::parse_size;
use super::aws_profile;
use crate::base::{Error, ErrorKind, Result};
use crate::format::CONFIG_NAME;
use crate::store::{Fault, FaultPlan, LocalStore, Location, Pace, Rates, Settings, Store};

/// Makes the process end in the middle of a change to the repository, for tests of what survives that.
const TEST_FAULT_VARIABLE: &str = "BYGONE_TEST_FAULT";

/// Environment variables, in the order in which they are looked at, and the options that they set: those of the
/// protocols' own tools.
const S3_VARIABLES: [(&str, &str); 17] = [
    ("AWS_ACCESS_KEY_ID", "access_key_id"),
    ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
    ("AWS_SESSION_TOKEN", "session_token"),
    ("AWS_REGION", "region"),
    ("AWS_DEFAULT_REGION", "region"),
    ("AWS_ENDPOINT_URL_S3", "endpoint"),
    ("AWS_ENDPOINT_URL", "endpoint"),
    ("AWS_CA_BUNDLE", "ca_bundle"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file"),
    ("AWS_ROLE_ARN", "role_arn"),
    ("AWS_ROLE_SESSION_NAME", "role_session_name"),
    ("AWS_ENDPOINT_URL_STS", "endpoint_url_sts"),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "container_credentials_relative_uri",
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "container_credentials_full_uri",
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "container_authorization_token_file",
    ),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "metadata_endpoint"),
    ("AWS_REQUEST_PAYER", "request_payer"),
];
const GOOGLE_VARIABLES: [(&str, &str); 4] = [
    ("GOOGLE_APPLICATION_CREDENTIALS", "application_credentials"),
    ("GOOGLE_SERVICE_ACCOUNT", "service_account"),
    ("GOOGLE_SERVICE_ACCOUNT_KEY", "service_account_key"),
    ("GOOGLE_BEARER_TOKEN", "bearer_token"),
];
const AZURE_VARIABLES: [(&str, &str); 13] = [
    ("AZURE_STORAGE_ACCOUNT_NAME", "account_name"),
    ("AZURE_STORAGE_ACCOUNT", "account_name"),
    ("AZURE_STORAGE_ACCOUNT_KEY", "account_key"),
    ("AZURE_STORAGE_ACCESS_KEY", "account_key"),
    ("AZURE_STORAGE_KEY", "account_key"),
    ("AZURE_STORAGE_SAS_KEY", "sas_key"),
    ("AZURE_STORAGE_SAS_TOKEN", "sas_key"),
    ("AZURE_STORAGE_ENDPOINT", "endpoint"),
    ("AZURE_CLIENT_ID", "client_id"),
    ("AZURE_CLIENT_SECRET", "client_secret"),
    ("AZURE_TENANT_ID", "tenant_id"),
    ("AZURE_AUTHORITY_HOST", "authority_host"),
    ("AZURE_FEDERATED_TOKEN_FILE", "federated_token_file"),
];
const WEBDAV_VARIABLES: [(&str, &str); 2] = [
    ("BYGONE_WEBDAV_USER", "user"),
    ("BYGONE_WEBDAV_PASSWORD", "password"),
];

/// How the repository's store is spoken to.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct StoreArguments {
    /// Set an option of the store, such as endpoint=URL, region=NAME or profile=NAME; see bygone-repositories(7)
    #[arg(
        long,
        global = true,
        value_name = "K=V",
        value_parser = parse_store_option,
        help_heading = "Global options"
    )]
    store_option: Vec<(String, String)>,

    /// Send at most so many bytes a second, over all connections together
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_rate, help_heading = "Global options")]
    limit_upload: Option<NonZeroU64>,

    /// Fetch at most so many bytes a second, over all connections together
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_rate, help_heading = "Global options")]
    limit_download: Option<NonZeroU64>,
}

impl StoreArguments {
    /// Sets an option of the store, `K=V`, as `--store-option` does.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn add_option(&mut self, text: &str) -> std::result::Result<(), String> {
        self.store_option.push(parse_store_option(text)?);
        Ok(())
    }

    /// Sets how many bytes a second are fetched at most, as `--limit-download` does.
    ///
    /// # Errors
    /// Says what was expected.
    pub(super) fn limit_download_to(&mut self, text: &str) -> std::result::Result<(), String> {
        self.limit_download = Some(parse_rate(text)?);
        Ok(())
    }

    /// Fills in what the configuration says of the repository, and nobody typed. Of an option that is set twice, the
    /// later one counts.
    pub(super) fn fill_in(
        &mut self,
        options: &[(String, String)],
        limit_upload: Option<NonZeroU64>,
        limit_download: Option<NonZeroU64>,
    ) {
        self.store_option.splice(0..0, options.iter().cloned());
        self.limit_upload = self.limit_upload.or(limit_upload);
        self.limit_download = self.limit_download.or(limit_download);
    }

    /// All that the store at `location` has to know.
    ///
    /// # Errors
    /// A profile that was asked for is not there, or cannot be used.
    pub(super) fn settings(&self, location: &Location) -> Result<Settings> {
        let pace = |rate: Option<NonZeroU64>| rate.map(|rate| Arc::new(Pace::new(rate)));
        let mut settings = Settings::default();
        settings.rates = Rates {
            upload: pace(self.limit_upload),
            download: pace(self.limit_download),
        };
        for (name, value) in &self.store_option {
            settings.set(name, value);
        }
        let environment = |name: &str| std::env::var(name).ok();
        match location {
            Location::Folder(_) | Location::Sftp(_) => {}
            Location::S3(_) => add_s3(&mut settings, &environment)?,
            Location::Google(_) => add(&mut settings, &GOOGLE_VARIABLES, &environment),
            Location::Azure(_) => add(&mut settings, &AZURE_VARIABLES, &environment),
            Location::WebDav(_) => add(&mut settings, &WEBDAV_VARIABLES, &environment),
        }
        Ok(settings)
    }
}

/// The store at `location`.
///
/// # Errors
/// NoRepository, if it is a directory that is not there; Usage, if settings make no sense.
pub(super) fn open_store(location: &Location, settings: &Settings) -> Result<Arc<dyn Store>> {
    match (test_fault()?, location) {
        (None, _) => crate::store::open(location, settings),
        (Some(plan), Location::Folder(path)) => {
            Ok(Arc::new(Fault::over_local(LocalStore::open(path)?, plan)))
        }
        (Some(plan), _) => Ok(Arc::new(Fault::new(
            crate::store::open(location, settings)?,
            plan,
        ))),
    }
}

/// The store at `location` for a new repository: a directory is made, and whatever is there must be empty.
///
/// # Errors
/// Exists, if something is there; and those of the store.
pub(super) fn create_store(location: &Location, settings: &Settings) -> Result<Arc<dyn Store>> {
    if let Location::Folder(path) = location {
        check_empty(path)?;
    }
    match (test_fault()?, location) {
        (None, _) => crate::store::create(location, settings),
        (Some(plan), Location::Folder(path)) => {
            Ok(Arc::new(Fault::over_local(LocalStore::create(path)?, plan)))
        }
        (Some(plan), _) => Ok(Arc::new(Fault::new(
            crate::store::create(location, settings)?,
            plan,
        ))),
    }
}

/// Refuses a directory that has anything in it: objects among other files would be taken for each other.
fn check_empty(place: &Path) -> Result<()> {
    let mut entries = match std::fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Error::io(
                format!("make a repository in {}", place.display()),
                error,
            ));
        }
    };
    let Some(first) = entries.next() else {
        return Ok(());
    };
    let first = first.map_err(|error| Error::io(format!("read {}", place.display()), error))?;
    let problem = if place.join(CONFIG_NAME).exists() {
        "a repository is there already".to_owned()
    } else {
        format!("it is not empty, it has {}", first.file_name().display())
    };
    Err(Error::new(
        ErrorKind::Exists,
        format!(
            "cannot make a repository in {}: {problem}; name an empty place",
            place.display()
        ),
    ))
}

/// The fault that a test asks for, if one does.
fn test_fault() -> Result<Option<FaultPlan>> {
    match std::env::var(TEST_FAULT_VARIABLE) {
        Ok(plan) => plan.parse().map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Error::new(
            ErrorKind::Usage,
            format!("{TEST_FAULT_VARIABLE} is not text"),
        )),
    }
}

/// Sets what variables say and nobody has set otherwise.
fn add(
    settings: &mut Settings,
    variables: &[(&str, &str)],
    environment: &dyn Fn(&str) -> Option<String>,
) {
    for (variable, option) in variables {
        if let Some(value) = environment(variable).filter(|value| !value.is_empty()) {
            settings.set_default(option, value);
        }
    }
}

/// Settings for S3. A profile that an option names comes before the environment's keys, and one that only the
/// environment names after them, as with other tools.
fn add_s3(settings: &mut Settings, environment: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    let files = aws_profile::Files::of(environment);
    if let Some(profile) = settings.remove("profile") {
        files.add(settings, &profile)?;
        let not_keys: Vec<_> = S3_VARIABLES
            .into_iter()
            .filter(|(_, option)| !is_identity(option))
            .collect();
        add(settings, &not_keys, environment);
        return Ok(());
    }
    add(settings, &S3_VARIABLES, environment);
    match environment("AWS_PROFILE").filter(|name| !name.is_empty()) {
        Some(profile) => files.add(settings, &profile),
        None => files.add_default(settings),
    }
}

/// Does an option say who asks?
fn is_identity(option: &str) -> bool {
    matches!(
        option,
        "access_key_id"
            | "secret_access_key"
            | "session_token"
            | "web_identity_token_file"
            | "role_arn"
    )
}

/// Reads an option, `K=V`, which must not be secret.
pub(super) fn parse_store_option(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("expected a name and a value, as in region=eu-west-1")?;
    let name = name.to_ascii_lowercase().replace('-', "_");
    if is_secret(&name) {
        return Err(format!(
            "{name} is secret, and arguments are seen by everybody who lists processes: \
             give it by the environment or a profile"
        ));
    }
    Ok((name, value.to_owned()))
}

/// Would an option of this name hold what nobody should see?
fn is_secret(name: &str) -> bool {
    let is_named = ["secret", "password", "customer_key", "sas_"]
        .iter()
        .any(|part| name.contains(part));
    is_named
        || (name.contains("token") && !name.ends_with("file") && !name.ends_with("url"))
        || name.ends_with("_key")
}

pub(super) fn parse_rate(text: &str) -> std::result::Result<NonZeroU64, String> {
    NonZeroU64::new(parse_size(text)?).ok_or_else(|| "expected more than nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn s3(options: &[(&str, &str)], variables: &[(&str, &str)]) -> Settings {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let mut settings = Settings::default();
        for (name, value) in options {
            settings.set(name, *value);
        }
        add_s3(&mut settings, &|name| {
            variables.get(name).map(|value| (*value).to_owned())
        })
        .unwrap();
        settings
    }

    #[test]
    fn secrets_are_not_taken_from_arguments() {
        for name in [
            "secret_access_key",
            "AWS-Secret-Access-Key",
            "session_token",
            "password",
            "account_key",
            "sas_token",
            "service_account_key",
        ] {
            let error = parse_store_option(&format!("{name}=hidden")).unwrap_err();
            assert!(
                error.contains("secret") && !error.contains("hidden"),
                "{error}"
            );
        }
        for name in [
            "region",
            "access_key_id",
            "web_identity_token_file",
            "sse_kms_key_id",
        ] {
            assert!(parse_store_option(&format!("{name}=x")).is_ok(), "{name}");
        }
        assert!(parse_store_option("region").is_err() && parse_store_option("=x").is_err());
    }

    #[test]
    fn a_rate_is_more_than_nothing() {
        assert_eq!(parse_rate("2M").map(NonZeroU64::get), Ok(2 << 20));
        assert!(parse_rate("0").is_err());
    }

    #[test]
    fn options_come_before_the_environment_and_that_before_profiles() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        let text = "[default]\naws_access_key_id = file\naws_secret_access_key = file\nregion = file\n\
                    [other]\naws_access_key_id = other\naws_secret_access_key = other\n";
        std::fs::write(&file, text).unwrap();
        let at = ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap());
        let keys = [
            ("AWS_ACCESS_KEY_ID", "env"),
            ("AWS_SECRET_ACCESS_KEY", "env"),
        ];
        let key =
            |settings: &Settings| settings.get("access_key_id").unwrap_or_default().to_owned();
        assert_eq!(key(&s3(&[], &[at])), "file");
        assert_eq!(s3(&[], &[at]).get("region"), Some("file"));
        assert_eq!(
            s3(&[("region", "option")], &[at]).get("region"),
            Some("option")
        );
        assert_eq!(key(&s3(&[], &[at, keys[0], keys[1]])), "env");
        assert_eq!(key(&s3(&[], &[at, ("AWS_PROFILE", "other")])), "other");
        assert_eq!(
            key(&s3(&[("profile", "other")], &[at, keys[0], keys[1]])),
            "other"
        );
    }
}
