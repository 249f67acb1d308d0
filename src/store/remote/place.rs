//! Whom a store asks, and how its failures are told to a person.
//!
//! Invariants: a message names what was asked for, who refused, and what to do about it: whether the bucket, the
//! endpoint, the region or the credentials are wrong. No message has a credential in it, nor a URL's query.

use crate::base::{Error, ErrorKind};

use super::problem::{Problem, Refusal, Trouble};

/// The protocol that a store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    S3,
    Google,
    Azure,
    WebDav,
}

/// Whom a store asks.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) protocol: Protocol,
    /// As the user wrote it, and where it is if not where it would be expected.
    pub(super) shown: String,
    /// The bucket's or container's name, or the collection's URL.
    pub(super) bucket: String,
}

/// Words for what lies in a failure's way, by the protocols' codes. What they do not know goes by the status.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "notFound"];
const BAD_BUCKET: [&str; 2] = ["InvalidBucketName", "InvalidResourceName"];
const OTHER_REGION: [&str; 5] = [
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegion",
];
const UNKNOWN_KEY: [&str; 2] = ["InvalidAccessKeyId", "InvalidClientTokenId"];
const WRONG_SECRET: [&str; 2] = ["SignatureDoesNotMatch", "AuthenticationFailed"];
const EXPIRED: [&str; 3] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"];
const WRONG_CLOCK: [&str; 2] = ["RequestTimeTooSkewed", "RequestExpired"];
const FULL: [&str; 4] = [
    "QuotaExceeded",
    "InsufficientCapacity",
    "StorageFull",
    "XMinioStorageFull",
];
/// Refusals with a status of the 400s that another attempt heals: something happened to the bytes on their way, or
/// two requests met.
const HEALING: [&str; 9] = [
    "RequestTimeout",
    "BadDigest",
    "InvalidDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
    "Md5Mismatch",
    "OperationAborted",
    "ConditionalRequestConflict",
    "SlowDown",
];

impl Place {
    /// The error for a request that failed: `action` is what it was to do, as an infinitive with the object's name.
    pub(super) fn explain(&self, action: &str, name: &str, trouble: &Trouble) -> Error {
        match &trouble.problem {
            Some(Problem::Refused(refusal)) => self.explain_refusal(action, name, refusal),
            Some(Problem::Broken { host, .. }) if tells_credentials(host) => Error::new(
                ErrorKind::Denied,
                format!("cannot {action} {name}: {}", self.advice_without_any()),
            ),
            Some(Problem::Broken { host, text }) => Error::new(
                ErrorKind::Unreachable,
                format!("cannot {action} {name}: {host}: {text}"),
            ),
            Some(Problem::NoCredentials(text)) => {
                Error::new(ErrorKind::Denied, format!("cannot {action} {name}: {text}"))
            }
            None => self.explain_rest(action, name, &trouble.error),
        }
    }

    /// Is it a server that lists one folder at a time only? WebDAV lets it refuse all at once, with one of these.
    pub(super) fn wants_steps(&self, trouble: &Trouble) -> bool {
        let is_refused = [400, 403, 405, 501]
            .into_iter()
            .any(|status| trouble.is_status(status));
        self.protocol == Protocol::WebDav && is_refused
    }

    /// Failures that never were a request, or whose answer made no sense.
    fn explain_rest(&self, action: &str, name: &str, error: &object_store::Error) -> Error {
        use object_store::Error as Library;
        let kind = match error {
            Library::NotFound { .. } => return Error::missing(name),
            Library::AlreadyExists { .. } => return exists(name),
            Library::Generic { .. } => ErrorKind::Unreachable,
            Library::UnknownConfigurationKey { .. } => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        Error::new(
            kind,
            format!("cannot {action} {name}: {}", super::body::root_cause(error)),
        )
    }

    fn explain_refusal(&self, action: &str, name: &str, refusal: &Refusal) -> Error {
        let (kind, advice) = self.judge(refusal);
        match kind {
            ErrorKind::Missing => return Error::missing(name),
            ErrorKind::Exists => return exists(name),
            _ => {}
        }
        let answer = [&refusal.code, &refusal.message]
            .into_iter()
            .filter(|words| !words.is_empty())
            .fold(String::new(), |text, words| format!("{text}, {words}"));
        let message = format!(
            "cannot {action} {name}: {advice} ({} answered {}{answer})",
            refusal.host, refusal.status
        );
        Error::new(kind, message)
    }

    /// What kind of failure a refusal is, and what to do about it.
    fn judge(&self, refusal: &Refusal) -> (ErrorKind, String) {
        let is = |codes: &[&str]| codes.contains(&refusal.code.as_str());
        let noun = self.noun();
        if tells_credentials(&refusal.host) {
            return (ErrorKind::Denied, self.advice_without_any());
        }
        let is_no_bucket = is(&NO_BUCKET[..2])
            || (self.protocol == Protocol::Google
                && is(&NO_BUCKET[2..])
                && refusal.message.contains("bucket"));
        if is_no_bucket {
            let advice = format!(
                "there is no {noun} {}: make it first, or correct its name or the endpoint",
                self.bucket
            );
            return (ErrorKind::NoRepository, advice);
        }
        if is(&BAD_BUCKET) {
            let advice = format!("{} cannot be the name of a {noun}", self.bucket);
            return (ErrorKind::Usage, advice);
        }
        if is(&OTHER_REGION) || matches!(refusal.status, 301 | 302 | 307 | 308) {
            return (ErrorKind::Usage, self.advice_on_region(refusal));
        }
        if is(&HEALING) {
            return (ErrorKind::Unreachable, "try again".to_owned());
        }
        if is(&FULL) || refusal.status == 507 {
            return (ErrorKind::Full, "there is no room left".to_owned());
        }
        if let Some(advice) = self.advice_on_credentials(refusal) {
            return (ErrorKind::Denied, advice);
        }
        if self.protocol == Protocol::WebDav && refusal.status == 409 {
            let advice = "there is no collection to put it in".to_owned();
            return (ErrorKind::Failed, advice);
        }
        // Taken for a missing object it would look like damage.
        if self.protocol == Protocol::S3 && refusal.status == 404 && refusal.lacks_code() {
            let advice = "no S3 server answers so; is the endpoint right?".to_owned();
            return (ErrorKind::Failed, advice);
        }
        judge_status(refusal.status)
    }

    fn advice_without_any(&self) -> String {
        format!("no credentials were found: {}", self.advice_on_sources())
    }

    fn advice_on_region(&self, refusal: &Refusal) -> String {
        let option = match refusal.region.as_str() {
            "" => "--store-option region=NAME".to_owned(),
            region => format!("--store-option region={region}"),
        };
        match self.protocol {
            Protocol::S3 => format!(
                "{} is in another region, or behind another endpoint: give {option}",
                self.bucket
            ),
            _ => "the server is at another address: name that one".to_owned(),
        }
    }

    fn advice_on_credentials(&self, refusal: &Refusal) -> Option<String> {
        let is = |codes: &[&str]| codes.contains(&refusal.code.as_str());
        let advice = if is(&UNKNOWN_KEY) {
            "the server does not know the access key: it is wrong, or of another server".to_owned()
        } else if is(&WRONG_SECRET) {
            "the secret key is wrong, or of another access key".to_owned()
        } else if is(&EXPIRED) {
            "the credentials have expired, or their session token is wrong".to_owned()
        } else if is(&WRONG_CLOCK) {
            "the server's clock and this machine's differ: set this one".to_owned()
        } else if refusal.status == 401 {
            format!(
                "credentials are needed, or these are wrong: {}",
                self.advice_on_sources()
            )
        } else if refusal.status == 403 {
            format!(
                "access is denied: these credentials may not do this, or there is no {} {}; {}",
                self.noun(),
                self.bucket,
                self.advice_on_sources()
            )
        } else {
            return None;
        };
        Some(advice)
    }

    /// Where this protocol's credentials come from.
    pub(super) fn advice_on_sources(&self) -> &'static str {
        match self.protocol {
            Protocol::S3 => {
                "they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from AWS_PROFILE and ~/.aws, or from \
                 this machine's role"
            }
            Protocol::Google => {
                "they come from GOOGLE_APPLICATION_CREDENTIALS or this machine's service account"
            }
            Protocol::Azure => {
                "they come from AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN"
            }
            Protocol::WebDav => {
                "they come from the URL's user, or BYGONE_WEBDAV_USER, and BYGONE_WEBDAV_PASSWORD"
            }
        }
    }

    fn noun(&self) -> &'static str {
        match self.protocol {
            Protocol::S3 | Protocol::Google => "bucket",
            Protocol::Azure => "container",
            Protocol::WebDav => "collection",
        }
    }
}

/// Is this one of the hosts that clouds tell machines their roles' credentials by?
pub(super) fn tells_credentials(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    host.starts_with("[fd00:ec2::")
        || matches!(
            name,
            "169.254.169.254" | "169.254.170.2" | "169.254.170.23" | "metadata.google.internal"
        )
}

/// What a refusal of this status is, where no code says it better, and what to do about it.
fn judge_status(status: u16) -> (ErrorKind, String) {
    let (kind, advice) = match status {
        404 | 410 => (ErrorKind::Missing, ""),
        409 | 412 => (ErrorKind::Exists, ""),
        200..=299 => (
            ErrorKind::Unreachable,
            "the answer is not what was asked for; is the endpoint right?",
        ),
        408 | 423 | 425 | 429 => (ErrorKind::Unreachable, "the server is busy"),
        501 | 505 => (ErrorKind::Failed, "the server cannot do this"),
        500..=599 => (ErrorKind::Unreachable, "the server has failed"),
        _ => (
            ErrorKind::Failed,
            "the server does not take this; is the endpoint right?",
        ),
    };
    (kind, advice.to_owned())
}

/// The name is taken.
pub(super) fn exists(name: &str) -> Error {
    Error::new(ErrorKind::Exists, format!("{name} exists already"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            protocol: Protocol::S3,
            shown: "s3://moon/a".to_owned(),
            bucket: "moon".to_owned(),
        }
    }

    fn refused(status: u16, code: &str) -> Trouble {
        Trouble {
            error: object_store::Error::NotSupported {
                source: "nothing".into(),
            },
            problem: Some(Problem::Refused(Refusal {
                host: "server".to_owned(),
                status,
                code: code.to_owned(),
                ..Refusal::default()
            })),
        }
    }

    #[test]
    fn each_refusal_is_of_its_kind_and_says_what_is_wrong() {
        let known = [
            (404, "NoSuchBucket", ErrorKind::NoRepository, "bucket moon"),
            (404, "NoSuchKey", ErrorKind::Missing, "config is missing"),
            (404, "", ErrorKind::Missing, "config is missing"),
            (403, "AccessDenied", ErrorKind::Denied, "access is denied"),
            (403, "InvalidAccessKeyId", ErrorKind::Denied, "access key"),
            (403, "SignatureDoesNotMatch", ErrorKind::Denied, "secret"),
            (403, "RequestTimeTooSkewed", ErrorKind::Denied, "clock"),
            (400, "ExpiredToken", ErrorKind::Denied, "expired"),
            (401, "", ErrorKind::Denied, "credentials"),
            (301, "PermanentRedirect", ErrorKind::Usage, "region"),
            (
                400,
                "AuthorizationHeaderMalformed",
                ErrorKind::Usage,
                "region",
            ),
            (400, "BadDigest", ErrorKind::Unreachable, "try again"),
            (400, "MalformedXML", ErrorKind::Failed, "endpoint"),
            (412, "PreconditionFailed", ErrorKind::Exists, "exists"),
            (429, "", ErrorKind::Unreachable, "busy"),
            (503, "SlowDown", ErrorKind::Unreachable, "try again"),
            (500, "InternalError", ErrorKind::Unreachable, "failed"),
            (501, "NotImplemented", ErrorKind::Failed, "cannot do"),
            (507, "", ErrorKind::Full, "room"),
            (200, "", ErrorKind::Unreachable, "not what was asked"),
        ];
        for (status, code, kind, words) in known {
            let error = place().explain("read", "config", &refused(status, code));
            assert_eq!(error.kind(), kind, "{status} {code}: {error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn what_the_network_says_is_told_with_the_host() {
        let trouble = Trouble {
            problem: Some(Problem::Broken {
                host: "server:1".to_owned(),
                text: "Connection refused".to_owned(),
            }),
            ..refused(0, "")
        };
        let error = place().explain("read", "config", &trouble);
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert_eq!(
            error.to_string(),
            "cannot read config: server:1: Connection refused"
        );
    }

    #[test]
    fn who_has_no_credentials_is_told_where_they_come_from() {
        let trouble = Trouble {
            problem: Some(Problem::Broken {
                host: "169.254.169.254".to_owned(),
                text: "No route to host".to_owned(),
            }),
            ..refused(0, "")
        };
        let error = place().explain("read", "config", &trouble);
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("AWS_PROFILE"), "{error}");
    }

    #[test]
    fn a_server_that_speaks_no_s3_has_lost_nothing() {
        let mut trouble = refused(404, "");
        if let Some(Problem::Refused(refusal)) = &mut trouble.problem {
            refusal.has_body = true;
        }
        let error = place().explain("read", "config", &trouble);
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("endpoint"), "{error}");
    }
}
