//! A close look at what servers answer, before the protocols' library makes sense of it.
//!
//! Servers, and more so what stands between, answer with status 200 and an error in the body, leave listings off in
//! the middle, or send all of an object when a part was asked for. Each of these would otherwise be taken for what
//! was asked for: an upload that never was, an empty repository, another object's bytes.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, LAST_MODIFIED, RANGE};
use http::{Method, StatusCode, request, response};
use http_body::Body;
use object_store::client::{HttpError, HttpErrorKind, HttpResponse, HttpResponseBody};

use super::body::{Received, Words, broken};
use super::problem::{Problem, Refusal, note};

/// The longest refusal that is read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// The longest listing page that is read: a thousand names of a thousand bytes and what is told of each.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// What a request wants to have.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) host: Arc<str>,
    want: Want,
}

#[derive(Debug)]
enum Want {
    /// An object, or the part of it that a range header names.
    Object(Option<HeaderValue>),
    /// A document whose topmost element is one of a listing.
    Listing,
    /// Some other document.
    Document,
    /// That something be done.
    Done,
    /// That there be a collection.
    Collection,
    /// Headers.
    Head,
}

impl Asked {
    /// What the request of these parts wants.
    pub(super) fn of(parts: &request::Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let has = |pair: &str| query.split('&').any(|other| other == pair);
        let want = match parts.method.as_str() {
            "GET" if has("list-type=2") || has("comp=list") => Want::Listing,
            "GET" => Want::Object(parts.headers.get(RANGE).cloned()),
            "PROPFIND" => Want::Listing,
            "POST" => Want::Document,
            "MKCOL" => Want::Collection,
            _ if parts.method == Method::HEAD => Want::Head,
            _ => Want::Done,
        };
        Self {
            host: host(parts),
            want,
        }
    }
}

fn host(parts: &request::Parts) -> Arc<str> {
    match parts.uri.authority() {
        // Without a user's name, which may have a password after it.
        Some(authority) => match authority.as_str().rsplit_once('@') {
            Some((_, host)) => host.into(),
            None => authority.as_str().into(),
        },
        None => "the server".into(),
    }
}

/// Hands an answer on, if it is what was asked for; else notes what is wrong with it.
///
/// # Errors
/// The body breaks off, or is not what was asked for.
pub(super) async fn judge(
    asked: &Asked,
    mut parts: response::Parts,
    body: Received,
) -> Result<HttpResponse, HttpError> {
    if matches!(asked.want, Want::Collection) && parts.status == StatusCode::METHOD_NOT_ALLOWED {
        // This is how WebDAV says that it is there already: another has just made it.
        parts.status = StatusCode::CREATED;
    }
    if !parts.status.is_success() {
        return refused(asked, parts, body).await;
    }
    match &asked.want {
        Want::Head if !describes_object(&parts) => {
            Err(not_what_was_asked_for(asked, parts.status, ""))
        }
        Want::Head => Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body))),
        Want::Object(range) => object(asked, range.as_ref(), parts, body).await,
        Want::Listing => {
            let bytes = collected(asked, body, DOCUMENT_BYTES_MAX).await?;
            check_listing(asked, parts.status, &bytes)?;
            Ok(HttpResponse::from_parts(parts, bytes.into()))
        }
        Want::Document | Want::Done | Want::Collection => {
            let bytes = collected(asked, body, DOCUMENT_BYTES_MAX).await?;
            check_no_error(asked, parts.status, &bytes)?;
            Ok(HttpResponse::from_parts(parts, bytes.into()))
        }
    }
}

/// Notes a refusal, and hands it on: the library acts on the status of some.
async fn refused(
    asked: &Asked,
    parts: response::Parts,
    body: Received,
) -> Result<HttpResponse, HttpError> {
    let bytes = match asked.want {
        Want::Head => Bytes::new(),
        _ => collected(asked, body, REFUSAL_BYTES_MAX)
            .await
            .unwrap_or_default(),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut refusal = Refusal::read(&asked.host, parts.status.as_u16(), &text);
    refusal.has_body = !matches!(asked.want, Want::Head);
    let header = |name: &str| {
        let value = parts.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    if refusal.code.is_empty() {
        refusal.code = header("x-ms-error-code").unwrap_or_default();
    }
    if refusal.region.is_empty() {
        refusal.region = header("x-amz-bucket-region").unwrap_or_default();
    }
    note(Problem::Refused(refusal));
    // As text: the library reads bodies of refusals as such, and fails otherwise.
    Ok(HttpResponse::from_parts(parts, text.into()))
}

async fn object(
    asked: &Asked,
    range: Option<&HeaderValue>,
    mut parts: response::Parts,
    body: Received,
) -> Result<HttpResponse, HttpError> {
    if range.is_some_and(|range| is_outside(range, &parts)) {
        // Some servers send a part of no bytes, under a header that makes no sense.
        parts.status = StatusCode::RANGE_NOT_SATISFIABLE;
        return refused(asked, parts, body).await;
    }
    if parts.status != StatusCode::OK {
        return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
    }
    if range.is_some() && parts.headers.contains_key(CONTENT_RANGE) {
        // A part under the wrong status: which part it is, the library checks.
        parts.status = StatusCode::PARTIAL_CONTENT;
        return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
    }
    let mut body = body;
    let front = next(&mut body).await?.unwrap_or_default();
    let is_document = front.trim_ascii_start().starts_with(b"<");
    body.put_back(front);
    if is_document {
        // It may be an object all the same: then it has no such root.
        let bytes = collected(asked, body, DOCUMENT_BYTES_MAX).await?;
        check_no_error(asked, parts.status, &bytes)?;
        return whole_or_part(asked, range, parts, bytes);
    }
    let length = length(&parts);
    if let (Some(range), Some(length)) = (range, length)
        && let Some(bounds) = bounds(range, length)
    {
        warn_of_ignored_range(&asked.host);
        make_partial(&mut parts, &bounds, length);
        let body = body.cut(bounds.start, bounds.end - bounds.start);
        return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
    }
    Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
}

/// An object that is in hand as a whole, or the part of it that was asked for.
fn whole_or_part(
    asked: &Asked,
    range: Option<&HeaderValue>,
    mut parts: response::Parts,
    bytes: Bytes,
) -> Result<HttpResponse, HttpError> {
    let length = bytes.len() as u64;
    let Some(bounds) = range.and_then(|range| bounds(range, length)) else {
        return Ok(HttpResponse::from_parts(parts, bytes.into()));
    };
    warn_of_ignored_range(&asked.host);
    make_partial(&mut parts, &bounds, length);
    let part = usize::try_from(bounds.start)
        .ok()
        .zip(usize::try_from(bounds.end).ok())
        .map(|(start, end)| bytes.slice(start..end))
        .unwrap_or_default();
    Ok(HttpResponse::from_parts(parts, part.into()))
}

fn warn_of_ignored_range(host: &str) {
    static HAS_WARNED: AtomicBool = AtomicBool::new(false);
    if !HAS_WARNED.swap(true, Ordering::Relaxed) {
        log::warn!(
            "{host} sends whole objects where parts of them are asked for: every read fetches an object from its \
             beginning, which is slow and may cost; another server or a cache helps"
        );
    }
}

/// Are these the headers of an object? Every server tells of one at least one of these, and of an error none.
fn describes_object(parts: &response::Parts) -> bool {
    parts.headers.contains_key(ETAG) || parts.headers.contains_key(LAST_MODIFIED)
}

/// Does an answer say that it is a part of an object that has none of what was asked for?
fn is_outside(range: &HeaderValue, parts: &response::Parts) -> bool {
    parts
        .headers
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok()?.rsplit_once('/')?.1.parse().ok())
        .is_some_and(|length| bounds(range, length).is_none())
}

fn length(parts: &response::Parts) -> Option<u64> {
    parts
        .headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Which bytes of an object of `length` bytes a range header asks for; None, if there are none of them.
fn bounds(range: &HeaderValue, length: u64) -> Option<Range<u64>> {
    let (first, last) = range
        .to_str()
        .ok()?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    let bounds = match (first, last) {
        ("", last) => length.saturating_sub(last.parse().ok()?)..length,
        (first, "") => first.parse().ok()?..length,
        (first, last) => {
            let end = last.parse::<u64>().ok()?.checked_add(1)?;
            first.parse().ok()?..end.min(length)
        }
    };
    (bounds.start < bounds.end).then_some(bounds)
}

/// Makes the answer what a server that minds ranges would have sent.
fn make_partial(parts: &mut response::Parts, bounds: &Range<u64>, length: u64) {
    parts.status = StatusCode::PARTIAL_CONTENT;
    let shown = format!("bytes {}-{}/{length}", bounds.start, bounds.end - 1);
    if let Ok(value) = HeaderValue::from_str(&shown) {
        parts.headers.insert(CONTENT_RANGE, value);
    }
    parts
        .headers
        .insert(CONTENT_LENGTH, (bounds.end - bounds.start).into());
}

/// The whole body, of at most `bytes_max`.
async fn collected(
    asked: &Asked,
    mut body: Received,
    bytes_max: usize,
) -> Result<Bytes, HttpError> {
    let mut bytes = BytesMut::new();
    while let Some(data) = next(&mut body).await? {
        bytes.extend_from_slice(&data);
        if bytes.len() > bytes_max {
            return Err(broken(&asked.host, "its answer has no end".to_owned()));
        }
    }
    Ok(bytes.freeze())
}

/// The next bytes of a body; None at its end.
async fn next(body: &mut Received) -> Result<Option<Bytes>, HttpError> {
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    frame
        .map(|frame| Ok(frame?.into_data().unwrap_or_default()))
        .transpose()
}

/// Fails if a listing is none, or stops in the middle without saying how to go on.
fn check_listing(asked: &Asked, status: StatusCode, bytes: &[u8]) -> Result<(), HttpError> {
    let root = root_element(bytes).unwrap_or_default();
    let is_listing = matches!(
        root.to_ascii_lowercase().as_str(),
        "listbucketresult" | "enumerationresults" | "multistatus"
    );
    let text = String::from_utf8_lossy(bytes);
    let is_cut_off =
        text.contains("<IsTruncated>true") && !text.contains("<NextContinuationToken>");
    match is_listing && !is_cut_off {
        true => Ok(()),
        false => Err(not_what_was_asked_for(asked, status, &text)),
    }
}

/// Fails if an answer is an error's description.
fn check_no_error(asked: &Asked, status: StatusCode, bytes: &[u8]) -> Result<(), HttpError> {
    let root = root_element(bytes).unwrap_or_default().to_ascii_lowercase();
    match matches!(root.as_str(), "error" | "html") {
        true => {
            let text = String::from_utf8_lossy(bytes);
            Err(not_what_was_asked_for(asked, status, &text))
        }
        false => Ok(()),
    }
}

/// Notes an answer that says yes and means no.
fn not_what_was_asked_for(asked: &Asked, status: StatusCode, text: &str) -> HttpError {
    note(Problem::Refused(Refusal::read(
        &asked.host,
        status.as_u16(),
        text,
    )));
    let words = Words("its answer is not what was asked for".to_owned());
    HttpError::new(HttpErrorKind::Unknown, words)
}

/// The name of the topmost element of an XML or HTML document, without its namespace's prefix.
fn root_element(bytes: &[u8]) -> Option<&str> {
    const LOOKED_AT: usize = 4096;
    let head = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
    };
    let mut rest = text.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']);
    while let Some(tag) = rest.strip_prefix('<') {
        if !tag.starts_with(['?', '!']) {
            let end = tag.find(|character: char| !is_of_name(character))?;
            return tag[..end].rsplit(':').next();
        }
        rest = tag.split_once('>')?.1.trim_start();
    }
    None
}

fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || ":-_.".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    fn asked() -> Asked {
        Asked {
            host: "moon".into(),
            want: Want::Done,
        }
    }

    #[test]
    fn ranges_are_bound_by_the_object() {
        assert_eq!(bounds(&range("bytes=2-5"), 10), Some(2..6));
        assert_eq!(bounds(&range("bytes=2-50"), 10), Some(2..10));
        assert_eq!(bounds(&range("bytes=-4"), 10), Some(6..10));
        assert_eq!(bounds(&range("bytes=-40"), 10), Some(0..10));
        assert_eq!(bounds(&range("bytes=7-"), 10), Some(7..10));
        for beyond in ["bytes=10-12", "bytes=-0", "bytes=x-1", "lines=1-2"] {
            assert_eq!(bounds(&range(beyond), 10), None, "{beyond}");
        }
    }

    #[test]
    fn the_topmost_element_is_found() {
        let found = [
            ("<?xml version=\"1.0\"?>\n<Error><Code>", Some("Error")),
            ("<D:multistatus xmlns:D=\"DAV:\">", Some("multistatus")),
            ("<!DOCTYPE html><!-- x --><html>", Some("html")),
            ("\u{feff} <a/>", Some("a")),
            ("{\"version\": 1}", None),
            ("<", None),
            ("", None),
        ];
        for (text, root) in found {
            assert_eq!(root_element(text.as_bytes()), root, "{text}");
        }
    }

    #[test]
    fn errors_that_come_with_status_200_are_errors() {
        let check = |text: &str| check_no_error(&asked(), StatusCode::OK, text.as_bytes());
        assert!(check("").is_ok());
        assert!(check("<CompleteMultipartUploadResult/>").is_ok());
        assert!(check("{}").is_ok());
        assert!(check("<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>").is_err());
        assert!(check("<html><body>down</body></html>").is_err());
    }

    #[test]
    fn listings_that_are_none_or_stop_short_are_errors() {
        let check = |text: &str| check_listing(&asked(), StatusCode::OK, text.as_bytes());
        let page = |inner: &str| format!("<ListBucketResult>{inner}</ListBucketResult>");
        assert!(check(&page("")).is_ok());
        let whole =
            "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>";
        assert!(check(&page(whole)).is_ok());
        assert!(check(&page("<IsTruncated>true</IsTruncated>")).is_err());
        for text in ["", "<Error></Error>", "{}", "<html></html>"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
