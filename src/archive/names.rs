//! The names in one directory, sorted.

use std::collections::VecDeque;

/// Names, first collected, then given out in order and once each.
///
/// This is what bounds the walk's memory: the names of the directories on the way from the root to where it is, at the
/// name's bytes and eight more each. A directory of ten million names costs about 300 MB while it is walked, no matter
/// how large the rest of the tree is.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    spans: VecDeque<Span>,
}

/// A name among the bytes.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
}

impl Names {
    /// No names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name, which has no NUL.
    pub fn push(&mut self, name: &[u8]) {
        self.spans.push_back(Span {
            start: self.bytes.len() as u64,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
    }

    /// Puts the names into order.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans
            .make_contiguous()
            .sort_unstable_by(|one, other| name_at(bytes, *one).cmp(name_at(bytes, *other)));
    }

    /// Is `name` among them? They must be sorted.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.spans
            .binary_search_by(|span| name_at(&self.bytes, *span).cmp(name))
            .is_ok()
    }

    /// Takes the first name, and all that equal it.
    pub fn pop(&mut self) -> Option<&[u8]> {
        let first = name_at(&self.bytes, self.spans.pop_front()?);
        while let Some(next) = self.spans.front() {
            if name_at(&self.bytes, *next) != first {
                break;
            }
            self.spans.pop_front();
        }
        Some(first)
    }
}

fn name_at(bytes: &[u8], span: Span) -> &[u8] {
    let rest = usize::try_from(span.start)
        .ok()
        .and_then(|start| bytes.get(start..))
        .unwrap_or_default();
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_sorted_by_their_bytes_and_once_each() {
        let mut names = Names::new();
        for name in [&b"b"[..], b"a-b", b"\xff", b"a", b"b", b"B"] {
            names.push(name);
        }
        names.sort();
        assert!(names.contains(b"a-b") && !names.contains(b"c"));
        let mut sorted = Vec::new();
        while let Some(name) = names.pop() {
            sorted.push(name.to_vec());
        }
        assert_eq!(sorted, [&b"B"[..], b"a", b"a-b", b"b", b"\xff"]);
    }
}
