//! From a location and settings to a store that speaks its protocol.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::base::{Error, ErrorKind, Result};

use super::super::{Bucket, Location, Settings};
use super::body::root_cause;
use super::place::{Place, Protocol};
use super::process_keys::ProcessKeys;
use super::transport::Connector;

/// A store's parts.
pub(super) struct Built {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// None, where objects cannot be put in parts.
    pub(super) parts: Option<Arc<dyn MultipartStore>>,
    pub(super) place: Place,
    pub(super) root: Path,
    /// Can the last bytes of an object be asked for without knowing its length?
    pub(super) has_tails: bool,
    /// Can a put be made conditional on there being no object?
    pub(super) has_conditions: bool,
}

/// Options that are named otherwise by the tools that people know.
const ALIASES: [(&str, &str); 2] = [
    ("endpoint_url", "endpoint"),
    ("endpoint_url_s3", "endpoint"),
];

/// Amazon S3, or what speaks its protocol.
///
/// # Errors
/// Usage, if an option is none of this store's or makes no sense.
pub(super) fn s3(bucket: &Bucket, mut settings: Settings) -> Result<Built> {
    for (alias, name) in ALIASES {
        if let Some(value) = settings.remove(alias) {
            settings.set_default(name, value);
        }
    }
    let connector = connector(&mut settings)?;
    let endpoint = settings.remove("endpoint").filter(|url| !url.is_empty());
    let style = settings.remove("addressing_style");
    let is_virtual = match style.as_deref() {
        None | Some("path" | "auto") => false,
        Some("virtual") => true,
        Some(_) => return Err(bad_option("addressing_style", "expected path or virtual")),
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_virtual_hosted_style_request(is_virtual)
        .with_disable_tagging(true)
        // Objects are deleted one by one here, for which every server has a request.
        .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true")
        .with_retry(no_retries())
        .with_client_options(client_options(endpoint.as_deref(), &settings)?)
        .with_http_connector(connector);
    if let Some(command) = settings.remove("credential_process")
        && settings.get("access_key_id").is_none()
    {
        builder = builder.with_credentials(Arc::new(ProcessKeys::new(command)));
    }
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(bucket_endpoint(endpoint, &bucket.name, is_virtual)?);
    }
    for (key, value) in options::<AmazonS3ConfigKey>(&settings)? {
        builder = builder.with_config(key, value);
    }
    let store = Arc::new(builder.build().map_err(|error| not_built(&error))?);
    Ok(Built {
        objects: Arc::clone(&store) as _,
        parts: Some(store),
        place: place(
            Protocol::S3,
            &format!("s3://{bucket}"),
            &bucket.name,
            endpoint,
        ),
        root: root(&bucket.prefix)?,
        has_tails: true,
        has_conditions: true,
    })
}

/// Google Cloud Storage.
///
/// # Errors
/// As those of `s3`.
pub(super) fn google(bucket: &Bucket, mut settings: Settings) -> Result<Built> {
    if let Some(value) = settings.remove("endpoint") {
        settings.set_default("base_url", value);
    }
    let connector = connector(&mut settings)?;
    let endpoint = settings.get("base_url").map(str::to_owned);
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&bucket.name)
        .with_retry(no_retries())
        .with_client_options(client_options(endpoint.as_deref(), &settings)?)
        .with_http_connector(connector);
    for (key, value) in options::<GoogleConfigKey>(&settings)? {
        builder = builder.with_config(key, value);
    }
    let store = Arc::new(builder.build().map_err(|error| not_built(&error))?);
    Ok(Built {
        objects: Arc::clone(&store) as _,
        parts: Some(store),
        place: place(
            Protocol::Google,
            &format!("gs://{bucket}"),
            &bucket.name,
            endpoint,
        ),
        root: root(&bucket.prefix)?,
        has_tails: true,
        has_conditions: true,
    })
}

/// Azure Blob Storage.
///
/// # Errors
/// As those of `s3`.
pub(super) fn azure(bucket: &Bucket, mut settings: Settings) -> Result<Built> {
    let connector = connector(&mut settings)?;
    let endpoint = settings.get("endpoint").map(str::to_owned);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(&bucket.name)
        .with_retry(no_retries())
        .with_client_options(client_options(endpoint.as_deref(), &settings)?)
        .with_http_connector(connector);
    for (key, value) in options::<AzureConfigKey>(&settings)? {
        builder = builder.with_config(key, value);
    }
    let store = Arc::new(builder.build().map_err(|error| not_built(&error))?);
    Ok(Built {
        objects: Arc::clone(&store) as _,
        parts: Some(store),
        place: place(
            Protocol::Azure,
            &format!("az://{bucket}"),
            &bucket.name,
            endpoint,
        ),
        root: root(&bucket.prefix)?,
        has_tails: false,
        has_conditions: true,
    })
}

/// A WebDAV collection.
///
/// # Errors
/// As those of `s3`.
pub(super) fn web_dav(url: &Url, mut settings: Settings) -> Result<Built> {
    let mut connector = connector(&mut settings)?;
    let user = Some(url.username()).filter(|user| !user.is_empty());
    let user = user.map(str::to_owned).or(settings.remove("user"));
    settings.remove("user");
    let mut address = url.clone();
    // The user goes into a header. A URL with a host takes none away without complaint.
    let _ = address.set_username("");
    connector.authorization =
        authorization(&address, user.as_deref(), settings.remove("password"))?;
    // The library makes the collections below its address that are missing, so that it begins at the topmost.
    let prefix = Location::web_prefix(url)?;
    address.set_path("");
    let options = client_options(Some(address.as_str()), &settings)?;
    let options = self::options::<ClientConfigKey>(&settings)?
        .into_iter()
        .fold(options, |options, (key, value)| {
            options.with_config(key, value)
        });
    let store = HttpBuilder::new()
        .with_url(address.as_str())
        .with_client_options(options)
        .with_retry(no_retries())
        .with_http_connector(connector)
        .build()
        .map_err(|error| not_built(&error))?;
    Ok(Built {
        objects: Arc::new(store),
        parts: None,
        place: place(Protocol::WebDav, url.as_str(), url.path(), None),
        root: root(&prefix)?,
        has_tails: true,
        has_conditions: false,
    })
}

fn place(protocol: Protocol, shown: &str, bucket: &str, endpoint: Option<String>) -> Place {
    Place {
        protocol,
        shown: match endpoint {
            Some(endpoint) => format!("{shown} at {endpoint}"),
            None => shown.to_owned(),
        },
        bucket: bucket.to_owned(),
    }
}

/// The header that names the user, made by the client so that nothing here has to encode it.
fn authorization(
    url: &Url,
    user: Option<&str>,
    password: Option<String>,
) -> Result<Option<HeaderValue>> {
    let Some(user) = user else {
        return match password {
            Some(_) => Err(bad_option(
                "user",
                "a password is set, and no user: name one in the URL or in BYGONE_WEBDAV_USER",
            )),
            None => Ok(None),
        };
    };
    let client = reqwest::Client::builder()
        .build()
        .map_err(|error| Error::new(ErrorKind::Failed, root_cause(&error)))?;
    let request = client
        .get(url.as_str())
        .basic_auth(user, password)
        .build()
        .map_err(|error| Error::new(ErrorKind::Failed, root_cause(&error)))?;
    let header = request.headers().get(http::header::AUTHORIZATION).cloned();
    Ok(header.map(|mut header| {
        header.set_sensitive(true);
        header
    }))
}

/// Settings that are the same for every protocol.
fn connector(settings: &mut Settings) -> Result<Connector> {
    let authorities = match settings.remove("ca_bundle") {
        None => None,
        Some(path) => Some(
            std::fs::read(&path)
                .map_err(|error| Error::io(format_args!("read {path}"), error))?
                .into(),
        ),
    };
    Ok(Connector {
        rates: settings.rates.clone(),
        authorities,
        authorization: None,
    })
}

/// Plain HTTP is taken where an address says so, or the user does.
fn client_options(address: Option<&str>, settings: &Settings) -> Result<ClientOptions> {
    let is_plain = address.is_some_and(|address| address.starts_with("http://"));
    let may_be_plain = settings.get("allow_http") == Some("true");
    let options = ClientOptions::new().with_allow_http(is_plain || may_be_plain);
    Ok(options)
}

/// Where the bucket is: in the host's name, if it is wanted there.
fn bucket_endpoint(endpoint: &str, bucket: &str, is_virtual: bool) -> Result<String> {
    let mut url = Url::parse(endpoint)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| bad_option("endpoint", "expected a URL such as https://s3.example.com"))?;
    if is_virtual {
        let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
        url.set_host(Some(&host)).map_err(|_| {
            bad_option("addressing_style", "this bucket cannot be in a host's name")
        })?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// All settings as options of one kind of store.
fn options<Key: FromStr>(settings: &Settings) -> Result<Vec<(Key, String)>> {
    settings
        .iter()
        .map(|(name, value)| match name.parse() {
            Ok(key) => Ok((key, value.to_owned())),
            Err(_) => Err(bad_option(name, "this kind of store has no such option")),
        })
        .collect()
}

/// Requests are repeated above the store, by one rule for all stores.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        retry_timeout: Duration::ZERO,
        ..RetryConfig::default()
    }
}

fn root(prefix: &str) -> Result<Path> {
    Path::parse(prefix).map_err(|error| {
        Error::new(
            ErrorKind::Usage,
            format!("{prefix:?} cannot be a prefix: {error}"),
        )
    })
}

fn bad_option(name: &str, problem: &str) -> Error {
    Error::new(
        ErrorKind::Usage,
        format!("--store-option {name}: {problem}"),
    )
}

fn not_built(error: &object_store::Error) -> Error {
    Error::new(
        ErrorKind::Usage,
        format!(
            "the store's options do not fit together: {}",
            root_cause(error)
        ),
    )
}
