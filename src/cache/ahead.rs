//! Questions that will be asked, asked all at once: whoever opens a repository asks for its config, then for what points
//! there are. Where the cache knows what was asked the last time, these questions go out together, and a mount is ready after
//! one round trip instead of three.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::base::Result;

/// An answer to a question that was asked ahead is good for so long: a listing must not be older than who asks for it
/// may expect.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// Questions under way, by what they are about.
pub(super) struct Ahead<T> {
    asked: Mutex<HashMap<String, Question<T>>>,
}

/// A question under way.
pub(super) struct Question<T> {
    /// Where the listing begins.
    pub(super) from: String,
    pub(super) answer: Receiver<Result<T>>,
    at: Instant,
}

impl<T> Default for Ahead<T> {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
        }
    }
}

impl<T> Ahead<T> {
    /// Notes that a question is under way.
    pub(super) fn asked(&self, about: &str, from: &str, answer: Receiver<Result<T>>) {
        let question = Question {
            from: from.to_owned(),
            answer,
            at: Instant::now(),
        };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(about.to_owned(), question);
    }

    /// The question under way whose answer holds that of a listing from `from`, if any. It is answered once.
    pub(super) fn take(&self, about: &str, from: &str) -> Option<Question<T>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let question = asked.remove(about)?;
        (*question.from <= *from && question.at.elapsed() < GOOD_FOR).then_some(question)
    }
}
