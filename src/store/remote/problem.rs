//! What went wrong with a request, as the server or the network told it.
//!
//! The library that speaks the protocols folds much of this into text. The transport therefore notes it as it passes
//! by, for the request under way, and whoever made the request reads the note when it fails.

use std::cell::RefCell;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The server answered, and refused.
    Refused(Refusal),
    /// No whole answer came: what the network said, without any URL.
    Broken { host: String, text: String },
    /// There was nothing to ask with: why.
    NoCredentials(String),
}

/// A server's refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Who refused.
    pub(super) host: String,
    /// The HTTP status: 200, if an error came in the place of what was asked for.
    pub(super) status: u16,
    /// Could the server say more than its status? Not to a request for headers alone.
    pub(super) has_body: bool,
    /// The protocol's word for it, such as NoSuchBucket; empty, if there was none.
    pub(super) code: String,
    /// The server's words; empty, if there were none.
    pub(super) message: String,
    /// The region that the bucket is in, where that was the problem.
    pub(super) region: String,
}

tokio::task_local! {
    static NOTE: RefCell<Option<Problem>>;
}

/// Notes what went wrong with the request under way.
pub(super) fn note(problem: Problem) {
    // Outside a request nobody asks.
    let _ = NOTE.try_with(|note| note.replace(Some(problem)));
}

/// A failed request: what the library says of it, and what was noted.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: object_store::Error,
    pub(super) problem: Option<Problem>,
}

impl Trouble {
    /// The server's refusal, if it was one.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match &self.problem {
            Some(Problem::Refused(refusal)) => Some(refusal),
            Some(Problem::Broken { .. } | Problem::NoCredentials(_)) | None => None,
        }
    }

    /// Is the object not there?
    pub(super) fn is_missing(&self) -> bool {
        match self.refusal() {
            Some(refusal) => refusal.status == 404 && refusal.code != "NoSuchBucket",
            None => matches!(self.error, object_store::Error::NotFound { .. }),
        }
    }

    /// Did the server answer with this status?
    pub(super) fn is_status(&self, status: u16) -> bool {
        self.refusal()
            .is_some_and(|refusal| refusal.status == status)
    }
}

/// Does one request, heeding what is noted meanwhile.
pub(super) async fn heeded<T>(
    request: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Trouble> {
    let watched = async {
        let result = request.await;
        (result, NOTE.with(RefCell::take))
    };
    let (result, problem) = NOTE.scope(RefCell::new(None), watched).await;
    result.map_err(|error| Trouble { error, problem })
}

impl Refusal {
    /// Did the server say nothing where it could have?
    pub(super) fn lacks_code(&self) -> bool {
        self.has_body && self.code.is_empty()
    }

    /// Reads what the body of a refusal says: XML of S3, GCS and Azure, or JSON of Google's.
    pub(super) fn read(host: &str, status: u16, body: &str) -> Self {
        let text = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| element(body, name).or_else(|| member(body, name)))
                .map(shortened)
                .unwrap_or_default()
        };
        Self {
            host: host.to_owned(),
            status,
            has_body: true,
            code: text(["Code", "reason"]),
            message: text(["Message", "message"]),
            region: text(["Region", "x-amz-bucket-region"]),
        }
    }
}

/// The text of the first XML element of this name.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text.trim())
}

/// The text of the first JSON member of this name.
fn member<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    rest.strip_prefix('"')?
        .split_once('"')
        .map(|(text, _)| text)
}

/// One line of a length that a person reads.
fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|character| !character.is_control())
        .take(CHARACTERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_each_protocol_are_read() {
        let s3 = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>None.\nMore</Message>\
                  <Region>eu-1</Region></Error>";
        let refusal = Refusal::read("moon", 404, s3);
        assert_eq!(refusal.code, "NoSuchBucket");
        assert_eq!(refusal.message, "None.");
        assert_eq!(refusal.region, "eu-1");
        let google = r#"{"error": {"errors": [{"reason": "forbidden", "message": "No."}]}}"#;
        let refusal = Refusal::read("moon", 403, google);
        assert_eq!(
            (refusal.code.as_str(), refusal.message.as_str()),
            ("forbidden", "No.")
        );
        assert_eq!(Refusal::read("moon", 500, "").code, "");
    }
}
