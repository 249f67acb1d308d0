//! Following a walk over the files of a distant repository: while somebody reads files in the order of a walk, the frames
//! of those that follow are fetched, as many as the line to the store can bring while they are waited for.
//!
//! Directories do not matter: the files of the next one follow in the same run, and in the same packs. It begins with the
//! first file of a directory, or the second that is read in order, with little, and doubles. It is not topped up with every file, or there would be a request for each frame: more is looked for
//! once a quarter of what was ahead has been read, for as much again, so that requests are long. Files that can be had whole are also put into the page
//! cache (see `ahead`); what is done here is only that they are in memory by then.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::ahead::{Streams, lock};
use crate::fetch::{AheadBytes, Interest};
use crate::format::ChunkPlace;
use crate::tree::{NodeId, Tree};

/// Rows in a row without content in a pack, after which no more is looked for until the reader comes closer.
const ROWS_WITHOUT_MAX: u64 = 512;

/// Rows behind those that are fetched, some of whose frames may lie between theirs.
const ROWS_NEXT: u64 = 128;

/// Looks that may be due at a time; more are forgotten, and come up again with the next read.
const DUE_MAX: usize = 16;

/// Sealed bytes that are fetched ahead at first.
const FIRST_BYTES: u64 = 384 << 10;

/// More is looked for once this part of what was ahead has been read: the rest keeps the line busy meanwhile.
const RENEWED_PARTS: u64 = 4;

/// Of a longer file only so many bytes: whoever reads it in order is followed by that.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// Notes of which files are read, on the threads that serve.
pub(super) struct Walks {
    tree: Arc<Tree>,
    streams: Arc<Mutex<Streams>>,
    due: Sender<Look>,
}

/// Looks ahead of the readers, on a thread of its own: it may have to wait for the rows.
pub(super) struct Walker {
    tree: Arc<Tree>,
    streams: Arc<Mutex<Streams>>,
    due: Receiver<Look>,
    ways: HashMap<u64, Way>,
}

/// A look that is due.
struct Look {
    stream: u64,
    /// It is the stream's first read.
    is_first: bool,
}

/// What is ahead of one reader.
#[derive(Default)]
struct Way {
    files: VecDeque<FileAhead>,
    /// The frame that was fetched last, by where its pack has it.
    last: Option<ChunkPlace>,
    /// Sealed bytes to have ahead, of what the line is worth.
    sealed_max: u64,
    interest: Interest,
}

/// A file ahead of a reader.
struct FileAhead {
    node: NodeId,
    /// Of the frames that begin with it.
    sealed_bytes: u64,
    /// Of its own chunks.
    plain_bytes: u64,
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
        let due = lock(&self.streams).note_or_begin(node);
        if let Some((stream, is_first)) = due
            && self.due.try_send(Look { stream, is_first }).is_err()
        {
            lock(&self.streams).done(stream);
        }
    }
}

impl Walker {
    /// Looks ahead until nobody can make anything due any more.
    pub(super) fn run(mut self) {
        while let Ok(look) = self.due.recv() {
            self.look(&look);
            lock(&self.streams).done(look.stream);
        }
    }

    fn look(&mut self, look: &Look) {
        let number = look.stream;
        // Where a reader has gone elsewhere, the interest in what was ahead of it ends here.
        let mut streams = lock(&self.streams);
        self.ways.retain(|number, _| streams.is_followed(*number));
        let place = streams.place(number);
        drop(streams);
        let (Some((read, looked)), Some(ahead)) = (place, self.tree.ahead_bytes()) else {
            return;
        };
        // One file may be all that is wanted.
        if look.is_first && !self.tree.begins_a_walk(read) {
            return;
        }
        let way = self.ways.entry(number).or_insert_with(|| Way {
            // What the reader itself is waiting for is not ahead of it.
            last: self.tree.places(read, FILE_BYTES_MAX).pop(),
            ..Way::default()
        });
        if !way.is_due(read, ahead) {
            return;
        }
        let mut places = Vec::new();
        let (mut rows, mut rows_without) = (0, 0);
        while way.has_room(ahead) && rows_without < ROWS_WITHOUT_MAX {
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
        if !places.is_empty() {
            let next = (rows + 1..=rows + ROWS_NEXT)
                .filter_map(|rows| looked.rows_later(rows))
                .flat_map(|node| self.tree.places(node, FILE_BYTES_MAX));
            let next: Vec<ChunkPlace> = next.collect();
            self.tree.fetch_ahead(&places, &next, &way.interest.watch());
        }
    }
}

impl Way {
    /// The reader has come to `read`, and should have so much ahead in the end. Is it time to look for more?
    fn is_due(&mut self, read: NodeId, ahead: AheadBytes) -> bool {
        while let Some(file) = self.files.front()
            && file.node.rows_after(read).is_none_or(|rows| rows == 0)
        {
            self.files.pop_front();
        }
        let (sealed, plain) = self.bytes();
        let sealed_max = self.sealed_max.min(ahead.sealed);
        let is_due = sealed <= sealed_max - sealed_max / RENEWED_PARTS
            && plain <= ahead.plain - ahead.plain / RENEWED_PARTS;
        if is_due {
            self.sealed_max = (self.sealed_max * 2).max(FIRST_BYTES).min(ahead.sealed);
        }
        is_due
    }

    fn has_room(&self, ahead: AheadBytes) -> bool {
        let (sealed, plain) = self.bytes();
        sealed < self.sealed_max && plain < ahead.plain
    }

    /// Sealed and plain bytes ahead.
    fn bytes(&self) -> (u64, u64) {
        self.files.iter().fold((0, 0), |(sealed, plain), file| {
            (sealed + file.sealed_bytes, plain + file.plain_bytes)
        })
    }

    /// The chunks of `node` lie ahead: those of frames that are new go to `places`.
    fn take(&mut self, node: NodeId, chunks: Vec<ChunkPlace>, places: &mut Vec<ChunkPlace>) {
        let (mut sealed_bytes, mut plain_bytes) = (0, 0);
        for chunk in chunks {
            plain_bytes += u64::from(chunk.length);
            let frame = |place: &ChunkPlace| (place.hint.pack, place.hint.frame_offset);
            if self.last.as_ref().map(frame) == Some(frame(&chunk)) {
                continue;
            }
            sealed_bytes += u64::from(chunk.hint.frame_length);
            self.last = Some(chunk);
            places.push(chunk);
        }
        if plain_bytes > 0 {
            self.files.push_back(FileAhead {
                node,
                sealed_bytes,
                plain_bytes,
            });
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

    const AHEAD: AheadBytes = AheadBytes {
        sealed: 3 << 20,
        plain: 16 << 20,
    };

    #[test]
    fn frames_count_once_and_until_the_reader_has_come_to_their_file() {
        let mut way = Way::default();
        let mut places = Vec::new();
        for number in 0..10 {
            way.take(row(number), vec![chunk(number as u32 / 5)], &mut places);
        }
        way.take(row(10), vec![chunk(2), chunk(3)], &mut places);
        assert_eq!((places.len(), way.bytes()), (4, (4000, 12)));
        way.is_due(row(4), AHEAD);
        assert_eq!(way.bytes(), (3000, 7));
        way.is_due(row(5), AHEAD);
        assert_eq!(way.bytes(), (2000, 6));
    }

    #[test]
    fn what_is_ahead_doubles_up_to_what_the_line_is_worth_and_is_renewed_by_halves() {
        let mut way = Way::default();
        let (mut looks, mut next) = (Vec::new(), 0);
        for read in 0..20_000 {
            if !way.is_due(row(read), AHEAD) {
                continue;
            }
            let mut places = Vec::new();
            next = next.max(read);
            while way.has_room(AHEAD) {
                next += 1;
                way.take(row(next), vec![chunk(next as u32)], &mut places);
            }
            looks.push((places.len() as u64 * u64::from(places[0].hint.frame_length)) >> 18);
        }
        assert_eq!(looks[..3], [4, 5, 6]);
        assert!(
            looks[3..].iter().all(|quarters| *quarters >= 3),
            "{looks:?}"
        );
    }

    #[test]
    fn what_is_ahead_is_no_more_than_memory_has_room_for() {
        let mut way = Way::default();
        let ahead = AheadBytes {
            sealed: 3 << 20,
            plain: 5,
        };
        assert!(way.is_due(row(0), ahead));
        let mut places = Vec::new();
        let mut next = 0;
        while way.has_room(ahead) {
            next += 1;
            way.take(row(next), vec![chunk(0)], &mut places);
        }
        assert_eq!((next, places.len()), (5, 1));
        assert!(!way.is_due(row(0), ahead));
        assert!(way.is_due(row(1), ahead));
    }
}
