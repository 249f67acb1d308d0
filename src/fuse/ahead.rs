//! Reading ahead over files: while somebody reads small files in the order of a walk, the next ones are put into the
//! kernel's page cache before they are asked for, and the frame after theirs is opened.
//!
//! A file that is there already costs its reader no request at all. The first file of each frame is left out: that it is
//! asked for tells that the reader has come so far, and that the next frame is due. So one frame is ahead, never more.
//!
//! Nothing is pushed for a reader that jumps. Pushing is done by a thread that serves no requests, since the kernel may
//! hold a page that one of them waits for. What goes wrong here goes wrong again, and is told, when it is read.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::counts::Counts;
use crate::tree::{FramePlace, NodeId, SmallFile, Tree};

/// Readers that are followed at a time.
const STREAMS_MAX: usize = 16;

/// A reader that passes over more rows than this does not read in order.
const ROWS_PASSED_MAX: u64 = 8;

/// Rows in a row that are no small file, after which no more is looked for: one directory of symlinks, say.
const ROWS_WITHOUT_MAX: u64 = 32;

/// Pushes that may be due at a time; more are forgotten, and come up again with the next read.
const DUE_MAX: usize = STREAMS_MAX;

/// Page cache that one push may fill, in bytes. A frame can have thousands of tiny files, each of which takes a page, or be
/// the frame of every file for a long way, where all are alike.
const PUSHED_BYTES_MAX: u64 = 8 << 20;

/// What the smallest file takes in the page cache, in bytes.
const PAGE_BYTES: u64 = 4 << 10;

/// One reader's way through the rows of a run.
#[derive(Debug, Clone, Copy)]
struct Stream {
    number: u64,
    /// What it asked for last.
    read: NodeId,
    /// The last file that was pushed for it, or read by it.
    pushed: NodeId,
    /// The push thread is at work for it, or soon will be.
    is_due: bool,
}

/// All readers that are followed, the one that read last in front.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    numbers: u64,
}

/// Notes what is read, on the threads that serve it.
pub(super) struct Reads {
    streams: Arc<Mutex<Streams>>,
    due: Sender<u64>,
}

/// Pushes what is due, on a thread of its own, through a descriptor of the mount's device.
pub(super) struct Pusher {
    device: OwnedFd,
    streams: Arc<Mutex<Streams>>,
    due: Receiver<u64>,
    tree: Arc<Tree>,
    gate: Gate,
    counts: Arc<Counts>,
}

/// What every push goes through, so that none is under way when the process ends with its mount in use. The kernel may
/// hold a push up until a request is answered: if the threads that would answer are dead by then, and the pushing one is
/// not, the device stays open, nothing answers any more, and the process cannot end.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    inner: Arc<GateInner>,
}

#[derive(Debug, Default)]
struct GateInner {
    is_closed: AtomicBool,
    under_way: Mutex<()>,
}

impl Gate {
    /// Lets no push through any more, and waits for one that is under way, but no longer than `limit`.
    pub(super) fn close(&self, limit: Duration) {
        self.inner.is_closed.store(true, Ordering::SeqCst);
        let start = Instant::now();
        while matches!(
            self.inner.under_way.try_lock(),
            Err(TryLockError::WouldBlock)
        ) && start.elapsed() < limit
        {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Does `work`, which is a push; None if the gate is closed.
    pub(super) fn pass<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let _under_way = lock(&self.inner.under_way);
        (!self.inner.is_closed.load(Ordering::SeqCst)).then(work)
    }
}

/// The two ends of reading ahead in `tree`. The pusher ends when the reads are dropped.
pub(super) fn ahead(tree: &Arc<Tree>, device: OwnedFd, counts: &Arc<Counts>) -> (Reads, Pusher) {
    let streams = Arc::default();
    let (sender, receiver) = bounded(DUE_MAX);
    let reads = Reads {
        streams: Arc::clone(&streams),
        due: sender,
    };
    let pusher = Pusher {
        device,
        streams,
        due: receiver,
        tree: Arc::clone(tree),
        gate: Gate::default(),
        counts: Arc::clone(counts),
    };
    (reads, pusher)
}

impl Reads {
    /// The beginning of `node` was read.
    pub(super) fn note(&self, node: NodeId) {
        let due = lock(&self.streams).note(node);
        if let Some(stream) = due
            && self.due.try_send(stream).is_err()
        {
            lock(&self.streams).done(stream);
        }
    }
}

impl Streams {
    /// Takes note of a read, and returns the stream for which a push became due by it.
    pub(super) fn note(&mut self, node: NodeId) -> Option<u64> {
        let Some(place) = self.streams.iter().position(|stream| stream.leads_to(node)) else {
            self.begin(node);
            return None;
        };
        self.streams[..=place].rotate_right(1);
        let stream = &mut self.streams[0];
        let is_step = node != stream.read;
        stream.read = node;
        stream.advance(node);
        let becomes_due = is_step && !stream.is_due;
        stream.is_due |= becomes_due;
        becomes_due.then_some(stream.number)
    }

    /// The same; a stream that begins with this read is due too. Returns also whether it is such a one.
    pub(super) fn note_or_begin(&mut self, node: NodeId) -> Option<(u64, bool)> {
        let before = self.numbers;
        let due = self.note(node);
        if self.numbers == before {
            return due.map(|number| (number, false));
        }
        let stream = self.streams.first_mut()?;
        stream.is_due = true;
        Some((stream.number, true))
    }

    fn begin(&mut self, node: NodeId) {
        self.numbers += 1;
        self.streams.truncate(STREAMS_MAX - 1);
        let stream = Stream {
            number: self.numbers,
            read: node,
            pushed: node,
            is_due: false,
        };
        self.streams.insert(0, stream);
    }

    fn get(&mut self, number: u64) -> Option<&mut Stream> {
        self.streams
            .iter_mut()
            .find(|stream| stream.number == number)
    }

    /// The push that was due for a stream is done, or will not be done.
    pub(super) fn done(&mut self, number: u64) {
        if let Some(stream) = self.get(number) {
            stream.is_due = false;
        }
    }

    /// Is the stream still followed?
    pub(super) fn is_followed(&self, number: u64) -> bool {
        self.streams.iter().any(|stream| stream.number == number)
    }

    /// What a stream's reader asked for last, and how far what is ahead of it goes.
    pub(super) fn place(&mut self, number: u64) -> Option<(NodeId, NodeId)> {
        self.get(number).map(|stream| (stream.read, stream.pushed))
    }

    /// All up to `node` is ahead of a stream's reader now.
    pub(super) fn advance(&mut self, number: u64, node: NodeId) {
        if let Some(stream) = self.get(number) {
            stream.advance(node);
        }
    }
}

impl Stream {
    /// Is `node` where this reader may come next?
    fn leads_to(&self, node: NodeId) -> bool {
        let from_pushed = node.rows_after(self.pushed);
        node.rows_after(self.read).is_some()
            && from_pushed.is_none_or(|rows| rows <= ROWS_PASSED_MAX)
    }

    /// All up to `node` is in the page cache now.
    fn advance(&mut self, node: NodeId) {
        if node.rows_after(self.pushed).is_some() {
            self.pushed = node;
        }
    }
}

impl Pusher {
    /// What its pushes go through.
    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Pushes until nobody can make anything due any more.
    pub(super) fn run(self) {
        while let Ok(stream) = self.due.recv() {
            self.push(stream);
            lock(&self.streams).done(stream);
        }
    }

    /// Pushes for a stream: the rest of the frame that its reader is in, and all but the first file of the next one.
    fn push(&self, stream: u64) {
        let Some(mut at) = self.pushed(stream) else {
            return;
        };
        let mut frames = Frames::begin(self.tree.small_file_after(at, 0));
        let mut rows = 0;
        while rows < ROWS_WITHOUT_MAX {
            rows += 1;
            let Some(small) = self.tree.small_file_after(at, rows) else {
                continue;
            };
            let is_taken = match frames.take(small.frame, small.bytes()) {
                Turn::Push => self.store(&small),
                Turn::OpenOnly => self.tree.read_small_file(&small).is_ok(),
                Turn::Stop => false,
            };
            if !is_taken {
                return;
            }
            if let Some(stream) = lock(&self.streams).get(stream) {
                stream.advance(small.node);
            }
            // The reader may have overtaken: what it has read needs no push.
            let Some(pushed) = self.pushed(stream) else {
                return;
            };
            (at, rows) = (pushed, 0);
        }
    }

    /// How far a stream has come; None if it is followed no longer.
    fn pushed(&self, stream: u64) -> Option<NodeId> {
        lock(&self.streams).get(stream).map(|stream| stream.pushed)
    }

    /// Puts a file into the page cache. False if it cannot be read, or the kernel does not know it yet: then it does not
    /// know those behind it either.
    fn store(&self, small: &SmallFile) -> bool {
        let Ok(bytes) = self.tree.read_small_file(small) else {
            return false;
        };
        let Some(bytes) = bytes.contiguous() else {
            return false;
        };
        let Ok(length) = u32::try_from(bytes.len()) else {
            return false;
        };
        let header = store_header(small.node, 0, length);
        let pieces = [IoSlice::new(&header), IoSlice::new(bytes)];
        let pushed = self.gate.pass(|| rustix::io::writev(&self.device, &pieces));
        let is_pushed = matches!(pushed, Some(Ok(_)));
        if is_pushed {
            self.counts.pushed(u64::from(length));
        }
        is_pushed
    }
}

/// FUSE_NOTIFY_STORE of <linux/fuse.h>: a message that nobody asked for, which puts bytes into the page cache.
const NOTIFY_STORE: u32 = 4;

/// The length of its header: a fuse_out_header (length, code, a unique number that is 0) and a fuse_notify_store_out
/// (node, offset, size, padding).
const STORE_HEADER_BYTES: u32 = 16 + 24;

/// What goes before bytes of a file at `offset`. Written here and not by fuser's notifier, since that does not tell when the
/// kernel does not know the node.
pub(super) fn store_header(node: NodeId, offset: u64, length: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(STORE_HEADER_BYTES as usize);
    header.extend_from_slice(&(STORE_HEADER_BYTES + length).to_ne_bytes());
    header.extend_from_slice(&NOTIFY_STORE.to_ne_bytes());
    header.extend_from_slice(&0_u64.to_ne_bytes());
    header.extend_from_slice(&node.0.to_ne_bytes());
    header.extend_from_slice(&offset.to_ne_bytes());
    header.extend_from_slice(&length.to_ne_bytes());
    header.extend_from_slice(&0_u32.to_ne_bytes());
    header
}

/// What to do with a file.
enum Turn {
    Push,
    /// The first one of a frame: only have its frame opened.
    OpenOnly,
    Stop,
}

/// The frames that one push has come through.
struct Frames {
    current: Option<FramePlace>,
    begun: usize,
    /// What is left of `PUSHED_BYTES_MAX`.
    room: u64,
}

impl Frames {
    /// Begins in the frame of a file that is in the page cache.
    fn begin(at: Option<SmallFile>) -> Self {
        Self {
            current: at.and_then(|small| small.frame),
            begun: 0,
            room: PUSHED_BYTES_MAX,
        }
    }

    /// What to do with a file of so many bytes. None for a frame: it stands in its entry.
    fn take(&mut self, frame: Option<FramePlace>, bytes: u64) -> Turn {
        let Some(room) = self.room.checked_sub(bytes.next_multiple_of(PAGE_BYTES)) else {
            return Turn::Stop;
        };
        self.room = room;
        let Some(frame) = frame else {
            return Turn::Push;
        };
        if self.current == Some(frame) {
            return Turn::Push;
        }
        let is_first = self.current.is_none();
        self.current = Some(frame);
        self.begun += usize::from(!is_first);
        match self.begun {
            0 => Turn::Push,
            1 => Turn::OpenOnly,
            _ => Turn::Stop,
        }
    }
}

/// Locks what a panicking thread may have left: a stream that is off is only a read ahead that is not done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node of a row of the first run.
    fn row(row: u64) -> NodeId {
        NodeId((1 << 38) + row)
    }

    #[test]
    fn a_stream_that_begins_is_due_where_that_is_asked_for() {
        let mut streams = Streams::default();
        assert_eq!(streams.note_or_begin(row(1)), Some((1, true)));
        assert_eq!(streams.note_or_begin(row(2)), None, "it is due already");
        streams.done(1);
        assert_eq!(streams.note_or_begin(row(3)), Some((1, false)));
        assert_eq!(streams.note_or_begin(row(1000)), Some((2, true)));
    }

    #[test]
    fn a_second_file_in_order_makes_a_push_due_and_no_third_while_it_is() {
        let mut streams = Streams::default();
        assert_eq!(streams.note(row(10)), None);
        let stream = streams.note(row(11)).unwrap();
        assert_eq!(streams.note(row(12)), None);
        streams.done(stream);
        assert_eq!(streams.note(row(14)), Some(stream));
    }

    #[test]
    fn whoever_jumps_or_goes_back_begins_anew() {
        let mut streams = Streams::default();
        assert_eq!(streams.note(row(10)), None);
        assert_eq!(streams.note(row(10 + ROWS_PASSED_MAX + 1)), None);
        assert_eq!(streams.note(row(5)), None);
        assert_eq!(streams.note(row(5)), None, "the same file again");
        assert_eq!(
            streams.note(NodeId(row(6).0 + (1 << 38))),
            None,
            "another run"
        );
        assert_eq!(streams.streams.len(), 4);
    }

    #[test]
    fn what_was_pushed_counts_as_passed() {
        let mut streams = Streams::default();
        streams.note(row(10));
        let stream = streams.note(row(11)).unwrap();
        streams.get(stream).unwrap().advance(row(200));
        streams.done(stream);
        assert_eq!(streams.note(row(201)), Some(stream));
    }

    #[test]
    fn readers_are_followed_apart_and_not_without_bound() {
        let mut streams = Streams::default();
        for reader in 0..2 * STREAMS_MAX as u64 {
            streams.note(row(reader * 1000));
        }
        assert_eq!(streams.streams.len(), STREAMS_MAX);
        let last = 2 * STREAMS_MAX as u64 - 1;
        let one = streams.note(row(last * 1000 + 1)).unwrap();
        let other = streams.note(row((last - 1) * 1000 + 1)).unwrap();
        assert_ne!(one, other);
        assert_eq!(streams.note(row(1)), None, "long forgotten");
    }

    #[test]
    fn files_of_one_frame_or_of_none_are_not_pushed_without_bound() {
        for bytes in [1, 100, PAGE_BYTES, 128 << 10] {
            let mut frames = Frames::begin(None);
            let pushed =
                (0..1_000_000).take_while(|_| !matches!(frames.take(None, bytes), Turn::Stop));
            let taken = pushed.count() as u64 * bytes.next_multiple_of(PAGE_BYTES);
            assert_eq!(taken, PUSHED_BYTES_MAX, "files of {bytes}");
        }
    }

    #[test]
    fn a_gate_that_closes_waits_for_what_is_under_way_and_lets_nothing_through_again() {
        let gate = Gate::default();
        let (entered, other) = (bounded(0), gate.clone());
        let pushing = thread::spawn(move || {
            other.pass(|| {
                entered.0.send(()).unwrap();
                thread::sleep(Duration::from_millis(50));
                Instant::now()
            })
        });
        entered.1.recv().unwrap();
        gate.close(Duration::from_millis(1));
        gate.close(Duration::from_secs(60));
        let closed = Instant::now();
        assert!(pushing.join().unwrap().unwrap() <= closed);
        assert_eq!(gate.pass(|| ()), None);
    }

    #[test]
    fn a_store_has_the_kernels_header() {
        let header = store_header(NodeId(0x42), 0x99, 4);
        assert_eq!(header.len(), STORE_HEADER_BYTES as usize);
        assert_eq!(
            header[..8],
            [44_u32.to_ne_bytes(), NOTIFY_STORE.to_ne_bytes()].concat()
        );
        assert_eq!(header[16..24], 0x42_u64.to_ne_bytes());
        assert_eq!(header[24..32], 0x99_u64.to_ne_bytes());
        assert_eq!(header[32..36], 4_u32.to_ne_bytes());
    }
}
