//! Bodies on their way through the transport: paced, watched for standstill, and cut to what was asked for.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind, HttpRequestBody};
use tokio::time::{Sleep, sleep};

use super::super::Pace;
use super::problem::{Problem, note};

/// How much is handed to a connection at once: enough for its speed, little enough for a rate to be even.
const PIECE_BYTES: usize = 64 << 10;

/// An error that has only its words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Words(pub(super) String);

/// Notes that no whole answer came, and makes the library's error of it.
pub(super) fn broken(host: &str, text: String) -> HttpError {
    note(Problem::Broken {
        host: host.to_owned(),
        text: text.clone(),
    });
    HttpError::new(HttpErrorKind::Unknown, Words(text))
}

/// When a request last moved a byte.
#[derive(Debug)]
pub(super) struct Activity(Mutex<Instant>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn moved(&self, pause: Duration) {
        // A pause that a rate imposes is no standstill.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + pause;
    }

    /// Returns once nothing has moved for `limit`.
    pub(super) async fn ceased(&self, limit: Duration) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let left = (last + limit).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

/// A body that goes up.
pub(super) struct Sending {
    inner: HttpRequestBody,
    /// Of the piece that the body gave last, what has not been handed on.
    rest: Bytes,
    left: u64,
    pace: Option<Arc<Pace>>,
    pause: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl Sending {
    pub(super) fn new(
        inner: HttpRequestBody,
        pace: Option<Arc<Pace>>,
        activity: Arc<Activity>,
    ) -> Self {
        Self {
            left: inner.content_length() as u64,
            inner,
            rest: Bytes::new(),
            pause: begin(pace.as_deref()),
            pace,
            activity,
        }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => this.rest = frame.into_data().unwrap_or_default(),
                other => return Poll::Ready(other),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        this.left = this.left.saturating_sub(piece.len() as u64);
        let pause = charge(this.pace.as_deref(), piece.len());
        this.activity.moved(pause);
        this.pause = timer(pause);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

/// A body that comes down.
pub(super) struct Received {
    inner: reqwest::Body,
    host: Arc<str>,
    /// Bytes that were looked at and put back.
    front: Bytes,
    /// Bytes that come before those that were asked for.
    skip: u64,
    /// Bytes that are still to come of those that were asked for.
    take: u64,
    pace: Option<Arc<Pace>>,
    pause: Option<Pin<Box<Sleep>>>,
    idle_limit: Duration,
    idle: Option<Pin<Box<Sleep>>>,
}

impl Received {
    pub(super) fn new(
        inner: reqwest::Body,
        host: &Arc<str>,
        idle_limit: Duration,
        pace: Option<Arc<Pace>>,
    ) -> Self {
        Self {
            inner,
            host: Arc::clone(host),
            front: Bytes::new(),
            skip: 0,
            take: u64::MAX,
            pause: begin(pace.as_deref()),
            pace,
            idle_limit,
            idle: None,
        }
    }

    /// Only the `take` bytes after the first `skip`.
    pub(super) fn cut(self, skip: u64, take: u64) -> Self {
        Self { skip, take, ..self }
    }

    /// Gives the bytes that it gave last once more.
    pub(super) fn put_back(&mut self, front: Bytes) {
        self.front = front;
    }

    fn trimmed(&mut self, mut data: Bytes) -> Bytes {
        let skipped = usize::try_from(self.skip).map_or(data.len(), |skip| skip.min(data.len()));
        let mut data = data.split_off(skipped);
        self.skip -= skipped as u64;
        data.truncate(usize::try_from(self.take).unwrap_or(usize::MAX));
        self.take -= data.len() as u64;
        data
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        while this.take > 0 {
            let front = std::mem::take(&mut this.front);
            let front = this.trimmed(front);
            if !front.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(front))));
            }
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
                let limit = this.idle_limit;
                let idle = this.idle.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(idle.as_mut().poll(context));
                let text = format!("it sent nothing for {} s", limit.as_secs());
                return Poll::Ready(Some(Err(broken(&this.host, text))));
            };
            this.idle = None;
            let data = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(broken(&this.host, root_cause(&error)))));
                }
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            this.pause = timer(charge(this.pace.as_deref(), data.len()));
            let data = this.trimmed(data);
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        Poll::Ready(None)
    }
}

/// What lies deepest in a chain of errors: the others repeat it, or name a URL.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match deepest.to_string() {
        // What a server that speaks no TLS looks like to one that expects it.
        text if text.contains("InvalidContentType") => {
            format!("it does not speak TLS; is its address http://? ({text})")
        }
        text => text,
    }
}

fn begin(pace: Option<&Pace>) -> Option<Pin<Box<Sleep>>> {
    timer(charge(pace, 0))
}

fn charge(pace: Option<&Pace>, bytes: usize) -> Duration {
    pace.map_or(Duration::ZERO, |pace| {
        pace.charge(bytes as u64, Instant::now())
    })
}

fn timer(pause: Duration) -> Option<Pin<Box<Sleep>>> {
    (!pause.is_zero()).then(|| Box::pin(sleep(pause)))
}
