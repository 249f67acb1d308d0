//! Merges cursors of many runs into one stream: in order of keys, the newest record of each key and section first.
//!
//! What the stream yields are records that nothing newer hides, tombstones among them. A heap holds the places of the
//! cursors; keys are compared where they lie.

use std::cmp::Ordering;

use crate::base::Result;

use super::cursor::Cursor;

/// A cursor, and the place of its run in the chain: the lower, the newer.
pub(super) struct Source {
    pub(super) run: usize,
    pub(super) cursor: Cursor,
}

impl Source {
    fn order(&self, other: &Self) -> Ordering {
        let keys = self.cursor.key().cmp(other.cursor.key());
        keys.then_with(|| self.cursor.section().cmp(&other.cursor.section()))
            .then_with(|| self.run.cmp(&other.run))
    }
}

/// The stream.
pub(super) struct Merge {
    sources: Vec<Source>,
    /// Places in `sources`, of those that are at a record: a binary heap, the first in order on top.
    heap: Vec<usize>,
    /// The top was yielded, and has to go on before anything else is.
    is_yielded: bool,
    /// The key yielded last, kept only where an older run can have it again.
    last_key: Vec<u8>,
    can_hide: bool,
}

impl Merge {
    /// A stream of all that these cursors, each before its first record, have.
    ///
    /// # Errors
    /// Those of reading a run, here and below.
    pub(super) fn new(sources: Vec<Source>) -> Result<Self> {
        let can_hide = sources.iter().any(|source| source.run != sources[0].run);
        Self::start(sources, can_hide)
    }

    /// A stream of all that these cursors have, what something newer hides among it.
    ///
    /// # Errors
    /// Those of reading a run.
    pub(super) fn of_all(sources: Vec<Source>) -> Result<Self> {
        Self::start(sources, false)
    }

    fn start(mut sources: Vec<Source>, can_hide: bool) -> Result<Self> {
        let mut heap = Vec::with_capacity(sources.len());
        for (place, source) in sources.iter_mut().enumerate() {
            if source.cursor.advance()? {
                heap.push(place);
            }
        }
        let mut merge = Self {
            sources,
            heap,
            is_yielded: false,
            last_key: Vec::new(),
            can_hide,
        };
        for place in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(place);
        }
        Ok(merge)
    }

    /// The source of the next record that nothing newer hides; None at the end. It stays at that record until the next
    /// call.
    pub(super) fn advance(&mut self) -> Result<Option<&Source>> {
        if self.is_yielded {
            self.is_yielded = false;
            if self.can_hide {
                self.pass_over_hidden()?;
            } else {
                self.advance_top()?;
            }
        }
        let Some(top) = self.heap.first() else {
            return Ok(None);
        };
        self.is_yielded = true;
        Ok(Some(&self.sources[*top]))
    }

    /// The source that `advance` gave last, where it still is. None before the first, and at the end.
    pub(super) fn current(&self) -> Option<&Source> {
        let top = self.heap.first().filter(|_| self.is_yielded)?;
        Some(&self.sources[*top])
    }

    /// Goes on from the record on top and from all older ones of its key and section.
    fn pass_over_hidden(&mut self) -> Result<()> {
        let Some(top) = self.heap.first() else {
            return Ok(());
        };
        let cursor = &self.sources[*top].cursor;
        self.last_key.clear();
        self.last_key.extend_from_slice(cursor.key());
        let section = cursor.section();
        self.advance_top()?;
        while let Some(top) = self.heap.first() {
            let cursor = &self.sources[*top].cursor;
            if cursor.section() != section || cursor.key() != self.last_key {
                break;
            }
            self.advance_top()?;
        }
        Ok(())
    }

    fn advance_top(&mut self) -> Result<()> {
        let Some(top) = self.heap.first() else {
            return Ok(());
        };
        if !self.sources[*top].cursor.advance()? {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(())
    }

    /// Moves what is at `place` down to where nothing below it comes first.
    fn sift_down(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let mut least = place;
            for child in [left, left + 1] {
                if child < self.heap.len() && self.precedes(child, least) {
                    least = child;
                }
            }
            if least == place {
                return;
            }
            self.heap.swap(place, least);
            place = least;
        }
    }

    fn precedes(&self, left: usize, right: usize) -> bool {
        let source = |place: usize| &self.sources[self.heap[place]];
        source(left).order(source(right)) == Ordering::Less
    }
}
