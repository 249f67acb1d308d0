//! Following a walk over the files of a distant repository: while somebody reads files in the order of a walk, the frames
//! of those that follow are fetched, as many as the line to the store can bring while they are waited for.
//!
//! Directories do not matter: the files of the next one follow in the same run, and in the same packs. It begins with
//! little, and doubles with every frame that the reader comes to. Files that can be had whole are also put into the page
//! cache (see `ahead`); what is done here is only that they are in memory by then.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::ahead::{Streams, lock};
use crate::fetch::Interest;
use crate::format::ChunkPlace;
use crate::tree::{NodeId, Tree};

/// Rows in a row without content in a pack, after which no more is looked for until the reader comes closer.
const ROWS_WITHOUT_MAX: u64 = 512;

/// Looks that may be due at a time; more are forgotten, and come up again with the next read.
const DUE_MAX: usize = 16;

/// Sealed bytes that are fetched ahead at first.
const FIRST_BYTES: u64 = 512 << 10;

/// Of a longer file only so many bytes: whoever reads it in order is followed by that.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// Notes of which files are read, on the threads that serve.
pub(super) struct Walks {
    tree: Arc<Tree>,
    streams: Arc<Mutex<Streams>>,
    due: Sender<u64>,
}

/// Looks ahead of the readers, on a thread of its own: it may have to wait for the rows.
pub(super) struct Walker {
    tree: Arc<Tree>,
    streams: Arc<Mutex<Streams>>,
    due: Receiver<u64>,
    ways: HashMap<u64, Way>,
}

/// What is ahead of one reader.
#[derive(Default)]
struct Way {
    /// Files ahead, each with the sealed bytes of the frames that begin with it.
    files: VecDeque<(NodeId, u64)>,
    /// The frame that was fetched last, by where its pack has it.
    last: Option<ChunkPlace>,
    bytes_max: u64,
    interest: Interest,
}

/// The two ends of it. The walker ends when the notes are dropped.
pub(super) fn walk(tree: &Arc<Tree>) -> (Walks, Walker) {
    let streams = Arc::default();
    let (sender, receiver) = bounded(DUE_MAX);
    let walks = Walks {
        tree: Arc::clone(tree),
        streams: Arc::clone(&streams),
        due: sender,
    };
    let walker = Walker {
        tree: Arc::clone(tree),
        streams,
        due: receiver,
        ways: HashMap::new(),
    };
    (walks, walker)
}

impl Walks {
    /// The beginning of `node` was read.
    pub(super) fn note(&self, node: NodeId) {
        if self.tree.ahead_bytes().is_none() {
            return;
        }
        let due = lock(&self.streams).note(node);
        if let Some(stream) = due
            && self.due.try_send(stream).is_err()
        {
            lock(&self.streams).done(stream);
        }
    }
}

impl Walker {
    /// Looks ahead until nobody can make anything due any more.
    pub(super) fn run(mut self) {
        while let Ok(stream) = self.due.recv() {
            self.look(stream);
            lock(&self.streams).done(stream);
        }
    }

    fn look(&mut self, number: u64) {
        // Where a reader has gone elsewhere, the interest in what was ahead of it ends here.
        let mut streams = lock(&self.streams);
        self.ways.retain(|number, _| streams.is_followed(*number));
        let place = streams.place(number);
        drop(streams);
        let (Some((read, looked)), Some(ahead_bytes)) = (place, self.tree.ahead_bytes()) else {
            return;
        };
        let way = self.ways.entry(number).or_default();
        way.come_to(read, ahead_bytes);
        let mut places = Vec::new();
        let (mut rows, mut rows_without) = (0, 0);
        while way.bytes() < way.bytes_max && rows_without < ROWS_WITHOUT_MAX {
            rows += 1;
            let Some(node) = looked.rows_later(rows) else {
                break;
            };
            let found = self.tree.places(node, FILE_BYTES_MAX);
            let before = places.len();
            way.take(node, found, &mut places);
            rows_without = match places.len() > before {
                true => 0,
                false => rows_without + 1,
            };
        }
        if let Some(node) = looked.rows_later(rows) {
            lock(&self.streams).advance(number, node);
        }
        self.tree.fetch_ahead(&places, &way.interest.watch());
    }
}

impl Way {
    /// The reader has come to `read`, and should have so many bytes ahead in the end.
    fn come_to(&mut self, read: NodeId, ahead_bytes: u64) {
        while let Some((node, _)) = self.files.front()
            && node.rows_after(read).is_none_or(|rows| rows == 0)
        {
            self.files.pop_front();
        }
        self.bytes_max = (self.bytes_max * 2).max(FIRST_BYTES).min(ahead_bytes);
    }

    /// Sealed bytes ahead.
    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The chunks of `node` lie ahead: those of frames that are new go to `places`.
    fn take(&mut self, node: NodeId, chunks: Vec<ChunkPlace>, places: &mut Vec<ChunkPlace>) {
        let mut bytes = 0;
        for chunk in chunks {
            let frame = |place: &ChunkPlace| (place.hint.pack, place.hint.frame_offset);
            if self.last.as_ref().map(frame) == Some(frame(&chunk)) {
                continue;
            }
            bytes += u64::from(chunk.hint.frame_length);
            self.last = Some(chunk);
            places.push(chunk);
        }
        if bytes > 0 {
            self.files.push_back((node, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkId, PackId};
    use crate::format::Hint;

    fn row(row: u64) -> NodeId {
        NodeId((1 << 38) + row)
    }

    fn chunk(frame_offset: u32) -> ChunkPlace {
        ChunkPlace {
            id: ChunkId([0; 32]),
            length: 1,
            hint: Hint {
                pack: PackId([0; 16]),
                frame_offset,
                frame_length: 1000,
                offset_in_frame: 0,
            },
        }
    }

    #[test]
    fn frames_count_once_and_until_the_reader_has_come_to_their_file() {
        let mut way = Way::default();
        let mut places = Vec::new();
        for number in 0..10 {
            way.take(row(number), vec![chunk(number as u32 / 5)], &mut places);
        }
        way.take(row(10), vec![chunk(2), chunk(3)], &mut places);
        assert_eq!((places.len(), way.bytes()), (4, 4000));
        way.come_to(row(4), 1 << 30);
        assert_eq!(way.bytes(), 3000);
        way.come_to(row(5), 1 << 30);
        assert_eq!(way.bytes(), 2000);
    }

    #[test]
    fn what_is_ahead_doubles_up_to_what_the_line_is_worth() {
        let mut way = Way::default();
        let mut most = Vec::new();
        for number in 0..4 {
            way.come_to(row(number), 3 << 20);
            most.push(way.bytes_max >> 19);
        }
        assert_eq!(most, [1, 2, 4, 6]);
    }
}
