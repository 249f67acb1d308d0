//! HTTP beneath the library that speaks the protocols: timeouts, rates, and a close look at every answer.
//!
//! Invariants: a request that moves no byte is given up, one that moves bytes never is; redirects are not followed, as
//! a signed request means nothing to another host; nothing is repeated here.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, request};
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest,
    HttpResponse, HttpService,
};

use super::super::Rates;
use super::answer::{Asked, judge};
use super::body::{Activity, Received, Sending, Words, broken, root_cause};
use super::place::tells_credentials;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long an answer to a request that reads may be waited for, and how long its bytes may stand still: a third of
/// what a read has in all, so that it can be asked for again.
const READ_LIMIT: Duration = Duration::from_secs(8);

/// The same of a request that changes something: servers store what they were sent before they answer, and what was
/// handed to a slow connection lies in buffers for a while.
const CHANGE_LIMIT: Duration = Duration::from_secs(120);

/// How long the machine's own cloud may take to tell its role: it is near, or there is none.
const CREDENTIALS_LIMIT: Duration = Duration::from_secs(2);

/// How long an idle connection is kept: servers close theirs after a minute or so.
const POOL_LIMIT: Duration = Duration::from_secs(50);

/// What all connections of a store have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Connector {
    pub(super) rates: Rates,
    /// Certificates of authorities to be trusted beside the system's, as PEM.
    pub(super) authorities: Option<Arc<[u8]>>,
    /// Who asks, where the protocol itself does not say so.
    pub(super) authorization: Option<HeaderValue>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = self
            .client(options)
            .map_err(|error| object_store::Error::Generic {
                store: "HTTP",
                source: Box::new(Words(root_cause(&error))),
            })?;
        Ok(HttpClient::new(Service {
            client,
            rates: self.rates.clone(),
            authorization: self.authorization.clone(),
        }))
    }
}

impl Connector {
    fn client(&self, options: &ClientOptions) -> reqwest::Result<reqwest::Client> {
        let value = |key: ClientConfigKey| options.get_config_value(&key);
        let is_set = |key| value(key).as_deref() == Some("true");
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!(
                env!("CARGO_PKG_NAME"),
                "/",
                env!("CARGO_PKG_VERSION")
            ))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .pool_idle_timeout(POOL_LIMIT)
            .tcp_nodelay(true)
            .https_only(!is_set(ClientConfigKey::AllowHttp))
            .tls_danger_accept_invalid_certs(is_set(ClientConfigKey::AllowInvalidCertificates));
        if let Some(url) = value(ClientConfigKey::ProxyUrl) {
            let excluded = value(ClientConfigKey::ProxyExcludes)
                .and_then(|hosts| reqwest::NoProxy::from_string(&hosts));
            builder = builder.proxy(reqwest::Proxy::all(url)?.no_proxy(excluded));
        }
        if let Some(pem) = &self.authorities {
            builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        builder.build()
    }
}

/// A client of HTTP with manners.
#[derive(Debug)]
struct Service {
    client: reqwest::Client,
    rates: Rates,
    authorization: Option<HeaderValue>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        if let Some(authorization) = &self.authorization {
            parts.headers.insert(AUTHORIZATION, authorization.clone());
        }
        let asked = Asked::of(&parts);
        let limit = match is_reading(&parts.method) {
            _ if tells_credentials(&asked.host) => CREDENTIALS_LIMIT,
            true => READ_LIMIT,
            false => CHANGE_LIMIT,
        };
        let activity = Arc::new(Activity::new());
        let told = told(&parts, &asked.host);
        let begun = Instant::now();
        let body = Sending::new(body, self.rates.upload.clone(), Arc::clone(&activity));
        let request = to_send(&asked.host, parts, body)?;
        let response = tokio::select! {
            response = self.client.execute(request) => {
                response.map_err(|error| broken(&asked.host, root_cause(&error)))?
            }
            () = activity.ceased(limit) => {
                let text = format!("it did not answer for {} s", limit.as_secs());
                return Err(broken(&asked.host, text));
            }
        };
        let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        log::trace!(
            "{told}: {} after {} ms",
            parts.status,
            begun.elapsed().as_millis()
        );
        let pace = self.rates.download.clone();
        let body = Received::new(body, &asked.host, READ_LIMIT, pace);
        judge(&asked, parts, body).await
    }
}

/// A request in a few words. Of its query only what is listed: the rest may be a signature.
fn told(parts: &request::Parts, host: &str) -> String {
    let listed = parts
        .uri
        .query()
        .and_then(|query| query.split('&').find(|pair| pair.starts_with("prefix=")));
    format!(
        "{} {host}{} {}",
        parts.method,
        parts.uri.path(),
        listed.unwrap_or_default()
    )
}

fn is_reading(method: &Method) -> bool {
    method.is_safe() || method.as_str() == "PROPFIND"
}

/// The request as the client takes it.
fn to_send(
    host: &str,
    parts: request::Parts,
    body: Sending,
) -> Result<reqwest::Request, HttpError> {
    let url = parts
        .uri
        .to_string()
        .parse()
        .map_err(|_| broken(host, "its address is no URL".to_owned()))?;
    let mut request = reqwest::Request::new(parts.method, url);
    *request.headers_mut() = parts.headers;
    *request.body_mut() = NonZeroU64::new(http_body::Body::size_hint(&body).lower())
        .map(|_| reqwest::Body::wrap(body));
    Ok(request)
}
