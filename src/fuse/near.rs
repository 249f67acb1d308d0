//! Serving on the reader's processor.
//!
//! A reader that asks for one small thing after another waits for two wake-ups each time: of the thread that serves, and
//! of itself. The scheduler puts each of the two on whatever processor is idle, so both wake-ups go across processors.
//! In a virtual machine an idle processor is halted, and that takes 50 to 60 microseconds where the answer takes five;
//! on one processor, the same question and answer take seven in all.
//!
//! So while one thread alone asks, and asks often, the threads that serve are bound to the processor it runs on, under
//! the policy SCHED_IDLE: a processor that runs only such threads counts as idle, and the scheduler leaves the reader
//! there when it is answered. They would starve beside other work on that processor, so a watching thread looks every
//! few milliseconds, and ends this when requests wait, for longer each time. It ends as well as soon as a second reader
//! asks, one reads in large pieces (its copying and our work then overlap on two processors), or nothing is asked.
//!
//! Only who may give the threads their usual policy back can do this: root, as a rule. For others nothing changes, nor
//! for a process that was given a policy of its own.
//! Deliberately not here: what is served. Nothing depends on this but time.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::debug;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// So many requests of one thread, each soon after the other, begin it.
const BEGIN_AFTER: u32 = 32;

/// Requests further apart than this do not follow each other.
const SOON: Duration = Duration::from_millis(1);

/// After so many requests it is looked up where the reader runs now.
const FOLLOW_AFTER: u32 = 64;

/// How often it is looked whether requests wait.
const TICK: Duration = Duration::from_millis(5);

/// Fewer requests in a tick than this, and one waiting: the threads starve, or what they do takes long.
const SERVED_IN_TICK_MIN: u64 = 10;

/// It ends after so many ticks with fewer.
const SLOW_TICKS_MAX: u32 = 4;

/// How long it is left after requests have waited: doubled each time, up to the longest, until it has lasted that long.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The policy of the threads that serve near a reader; not of those that they start.
const NEAR_POLICY: libc::c_int = libc::SCHED_IDLE | libc::SCHED_RESET_ON_FORK;

/// A read of so many bytes is a large piece.
const LARGE_READ_BYTES: u32 = 64 << 10;

/// So many large pieces, one after the other, are a large file.
const LARGE_READS_MAX: u32 = 4;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// The thread that asks; 0 if it is the kernel's.
    pub(super) thread: u32,
    /// How many bytes it reads.
    pub(super) bytes: u32,
}

/// What is known of the readers, and where the serving threads are.
pub(super) struct Near {
    shared: Arc<Shared>,
    begun: Sender<()>,
}

/// Looks after the threads that were brought near, on a thread of its own.
pub(super) struct Watch {
    shared: Arc<Shared>,
    begun: Receiver<()>,
    device: OwnedFd,
}

/// For threads whose work overlaps with the reader's.
pub(super) struct Keeper(Arc<Shared>);

/// One request being served; dropped when it is answered.
pub(super) struct Serving<'a>(&'a AtomicU32);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    in_hand: AtomicU32,
}

struct Thread {
    id: Pid,
    /// The processors that it may usually run on.
    usual: CpuSet,
}

struct State {
    /// Those that serve.
    threads: Vec<Thread>,
    /// Those whose work overlaps with the reader's, and which are kept off its processor.
    others: Vec<Thread>,
    habits: Habits,
    /// The processor that the threads are bound to.
    near: Option<usize>,
    served: u64,
    since: Instant,
    not_before: Instant,
    pause: Duration,
    /// It cannot be done here.
    is_off: bool,
}

/// Whether one thread alone asks, and asks often.
#[derive(Debug, Default)]
struct Habits {
    reader: u32,
    last: Option<Instant>,
    requests: u32,
    /// Large pieces that came one after the other, up to now.
    large_reads: u32,
}

/// What a request means for where the threads should be.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Apart, as the scheduler likes.
    Apart,
    /// Where they are.
    Stay,
    /// Near this reader, if they are not.
    Follow,
}

thread_local! {
    static IS_KNOWN: Cell<bool> = const { Cell::new(false) };
}

impl Default for State {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            threads: Vec::new(),
            others: Vec::new(),
            habits: Habits::default(),
            near: None,
            served: 0,
            since: now,
            not_before: now,
            pause: PAUSE_MIN,
            is_off: false,
        }
    }
}

/// The two ends of it, for the threads that serve `device`. The watch ends when the other is dropped.
pub(super) fn near(device: OwnedFd) -> (Near, Watch) {
    let shared = Arc::<Shared>::default();
    if let Err(reason) = try_out() {
        debug!("requests are served where the scheduler likes: {reason}");
        shared.lock().is_off = true;
    }
    let (sender, receiver) = bounded(1);
    let near = Near {
        shared: Arc::clone(&shared),
        begun: sender,
    };
    let watch = Watch {
        shared,
        begun: receiver,
        device,
    };
    (near, watch)
}

impl Near {
    /// Takes note of a request that this thread is about to serve.
    pub(super) fn serve(&self, asked: Asked) -> Serving<'_> {
        self.shared.in_hand.fetch_add(1, Ordering::Relaxed);
        let begins = self.shared.lock().note(asked);
        if begins {
            // If it is full, the watch has yet to look at an earlier beginning, and will find this one.
            let _is_full = self.begun.try_send(());
        }
        Serving(&self.shared.in_hand)
    }
}

impl Watch {
    /// Has this thread kept off the reader's processor, while the serving ones are there.
    pub(super) fn keeper(&self) -> Keeper {
        Keeper(Arc::clone(&self.shared))
    }
}

impl Keeper {
    /// Has this thread kept off the reader's processor, while the serving ones are there.
    pub(super) fn keep_this_thread_off(&self) {
        if let Ok(thread) = Thread::this() {
            self.0.lock().others.push(thread);
        }
    }
}

/// Where threads may run that those which serve near a reader start, and that are bound like these at first.
#[derive(Clone, Copy)]
pub(super) struct Usual(Option<CpuSet>);

impl Usual {
    /// Where this thread may run.
    pub(super) fn of_this_thread() -> Self {
        Self(sched_getaffinity(None).ok())
    }

    /// Has this thread run there.
    pub(super) fn restore(self) {
        if let Some(processors) = &self.0 {
            // It may always have what its process began with; and nothing depends on it but time.
            let _refused = sched_setaffinity(None, processors);
        }
    }
}

impl Thread {
    fn this() -> rustix::io::Result<Self> {
        let id = gettid();
        let usual = sched_getaffinity(Some(id))?;
        Ok(Self { id, usual })
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes note of a request, and moves the threads as it asks for. True if they come near by it.
    fn note(&mut self, asked: Asked) -> bool {
        self.served += 1;
        if self.is_off {
            return false;
        }
        IS_KNOWN.with(|is_known| {
            if !is_known.replace(true) {
                self.add_this_thread();
            }
        });
        let now = Instant::now();
        match self.habits.note(asked, now) {
            Turn::Apart => self.go_apart(),
            Turn::Stay => {}
            Turn::Follow if now < self.not_before => {}
            Turn::Follow => {
                let Some(processor) = processor_of(asked.thread) else {
                    return false;
                };
                let was_apart = self.near.is_none();
                if self.near != Some(processor) {
                    self.go_near(processor);
                }
                if was_apart {
                    self.since = now;
                }
                return was_apart && self.near.is_some();
            }
        }
        false
    }

    fn add_this_thread(&mut self) {
        match Thread::this() {
            Ok(thread) => self.threads.push(thread),
            Err(_) => self.is_off = true,
        }
        if let Some(processor) = self.near {
            self.go_near(processor);
        }
    }

    fn go_near(&mut self, processor: usize) {
        let is_first = self.near.is_none();
        self.near = Some(processor);
        let mut only = CpuSet::new();
        only.set(processor);
        let result = self.threads.iter().try_for_each(|thread| {
            sched_setaffinity(Some(thread.id), &only)?;
            set_policy(thread.id, NEAR_POLICY)
        });
        for thread in &self.others {
            let mut rest = thread.usual;
            rest.unset(processor);
            // Refused if that is all it may run on: then it stays.
            let _stays = sched_setaffinity(Some(thread.id), &rest);
        }
        if let Err(error) = result {
            self.go_apart();
            self.is_off = true;
            debug!("requests are served where the scheduler likes: {error}");
        } else if is_first {
            debug!("requests are served on processor {processor}");
        }
    }

    fn go_apart(&mut self) {
        if self.near.take().is_none() {
            return;
        }
        // What fails here fails for a thread that has ended, and cannot for another.
        for thread in &self.threads {
            let _has_ended = set_policy(thread.id, libc::SCHED_OTHER);
        }
        for thread in self.threads.iter().chain(&self.others) {
            let _has_ended = sched_setaffinity(Some(thread.id), &thread.usual);
        }
    }

    /// Goes apart since requests waited, and stays so for a while.
    fn pause(&mut self, now: Instant) {
        if now.duration_since(self.since) > self.pause {
            self.pause = PAUSE_MIN;
        }
        self.go_apart();
        self.habits = Habits::default();
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

impl Habits {
    fn note(&mut self, asked: Asked, now: Instant) -> Turn {
        if asked.thread == 0 {
            return Turn::Stay;
        }
        let is_large = asked.bytes >= LARGE_READ_BYTES;
        self.large_reads = if is_large { self.large_reads + 1 } else { 0 };
        if asked.thread != self.reader || self.large_reads >= LARGE_READS_MAX {
            *self = Self {
                reader: asked.thread,
                last: Some(now),
                requests: 0,
                large_reads: self.large_reads.min(LARGE_READS_MAX),
            };
            return Turn::Apart;
        }
        let is_soon = self
            .last
            .is_some_and(|last| now.duration_since(last) <= SOON);
        self.last = Some(now);
        if !is_soon {
            // Whether it has stopped asking is for the watch to find out.
            self.requests = self.requests.min(BEGIN_AFTER) / 2;
            return Turn::Stay;
        }
        self.requests += 1;
        let begins = self.requests == BEGIN_AFTER;
        if begins || self.requests == BEGIN_AFTER + FOLLOW_AFTER {
            self.requests = BEGIN_AFTER;
            return Turn::Follow;
        }
        Turn::Stay
    }
}

impl Watch {
    /// Watches until nobody serves any more.
    pub(super) fn run(self) {
        while self.begun.recv().is_ok() {
            self.watch();
        }
    }

    /// Watches until the threads are apart again.
    fn watch(&self) {
        let mut served = self.shared.lock().served;
        let mut slow_ticks = 0;
        loop {
            thread::sleep(TICK);
            let is_waiting = self.shared.in_hand.load(Ordering::Relaxed) > 0 || self.is_asked();
            let mut state = self.shared.lock();
            if state.near.is_none() {
                return;
            }
            let is_slow = state.served - served < SERVED_IN_TICK_MIN;
            served = state.served;
            slow_ticks = if is_slow { slow_ticks + 1 } else { 0 };
            if is_slow && is_waiting {
                return state.pause(Instant::now());
            }
            if slow_ticks >= SLOW_TICKS_MAX {
                state.habits = Habits::default();
                return state.go_apart();
            }
        }
    }

    /// Does a request wait that no thread has taken yet?
    fn is_asked(&self) -> bool {
        let mut descriptors = [PollFd::from_borrowed_fd(self.device.as_fd(), PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut descriptors, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

/// The processor that a thread runs on, or ran on last: the 39th field of its stat, of proc(5).
fn processor_of(thread: u32) -> Option<usize> {
    let stat = fs::read(format!("/proc/{thread}/stat")).ok()?;
    // The second field is a name in parentheses, of any bytes.
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(&stat[end_of_name + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(39 - 3)?.parse().ok()
}

fn set_policy(thread: Pid, policy: libc::c_int) -> rustix::io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters live for the length of the call, which changes no memory.
    let result =
        unsafe { libc::sched_setscheduler(thread.as_raw_nonzero().get(), policy, &parameters) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::INVAL))
}

/// Can a thread leave its policy and have it back? Tried on one that ends here, as it may be a way of no return. Whoever
/// gave the process a policy of its own had reasons, and keeps it.
fn try_out() -> Result<(), String> {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("there is one processor".to_owned());
    }
    // SAFETY: it only asks.
    if unsafe { libc::sched_getscheduler(0) } != libc::SCHED_OTHER {
        return Err("this process has a scheduling policy of its own".to_owned());
    }
    let tried = thread::Builder::new().spawn(|| {
        set_policy(gettid(), NEAR_POLICY)?;
        set_policy(gettid(), libc::SCHED_OTHER)
    });
    let ended = tried.map(|thread| thread.join());
    match ended {
        Ok(Ok(result)) => result
            .map_err(|error| format!("the policy of a thread cannot be changed and back: {error}")),
        Ok(Err(_)) => Err("a thread failed".to_owned()),
        Err(error) => Err(format!("no thread can be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: Asked = Asked {
        thread: 7,
        bytes: 0,
    };

    /// What the last of so many requests means, each of which comes `apart` after the one before it.
    fn last_turn(habits: &mut Habits, asked: Asked, requests: u32, apart: Duration) -> Turn {
        let mut at = habits.last.unwrap_or_else(Instant::now);
        let mut turn = Turn::Stay;
        for _ in 0..requests {
            at += apart;
            turn = habits.note(asked, at);
        }
        turn
    }

    #[test]
    fn one_that_asks_without_pause_is_followed_now_and_then() {
        let mut habits = Habits::default();
        let soon = SOON / 2;
        assert_eq!(last_turn(&mut habits, READER, 1, soon), Turn::Apart);
        assert_eq!(
            last_turn(&mut habits, READER, BEGIN_AFTER - 1, soon),
            Turn::Stay
        );
        assert_eq!(last_turn(&mut habits, READER, 1, soon), Turn::Follow);
        assert_eq!(
            last_turn(&mut habits, READER, FOLLOW_AFTER - 1, soon),
            Turn::Stay
        );
        assert_eq!(last_turn(&mut habits, READER, 1, soon), Turn::Follow);
    }

    #[test]
    fn one_that_asks_now_and_then_is_not() {
        let mut habits = Habits::default();
        for _ in 0..1000 {
            assert_ne!(last_turn(&mut habits, READER, 1, SOON * 2), Turn::Follow);
        }
    }

    #[test]
    fn a_second_reader_or_a_large_file_sends_the_threads_apart() {
        let soon = SOON / 2;
        let other = Asked {
            thread: 8,
            ..READER
        };
        let large = Asked {
            bytes: LARGE_READ_BYTES,
            ..READER
        };
        let mut habits = Habits::default();
        last_turn(&mut habits, READER, BEGIN_AFTER, soon);
        assert_eq!(last_turn(&mut habits, other, 1, soon), Turn::Apart);
        assert_eq!(last_turn(&mut habits, READER, 1, soon), Turn::Apart);
        last_turn(&mut habits, READER, BEGIN_AFTER, soon);
        assert_ne!(
            last_turn(&mut habits, large, LARGE_READS_MAX - 1, soon),
            Turn::Apart
        );
        assert_eq!(last_turn(&mut habits, large, 1, soon), Turn::Apart);
        assert_eq!(
            last_turn(&mut habits, large, BEGIN_AFTER * 2, soon),
            Turn::Apart
        );
    }

    #[test]
    fn what_the_kernel_asks_by_itself_changes_nothing() {
        let mut habits = Habits::default();
        last_turn(&mut habits, READER, BEGIN_AFTER, SOON / 2);
        let kernel = Asked {
            thread: 0,
            ..READER
        };
        assert_eq!(last_turn(&mut habits, kernel, 1, SOON), Turn::Stay);
        assert_eq!(habits.reader, READER.thread);
    }

    #[test]
    fn pauses_grow_while_it_does_not_last_and_begin_anew_when_it_did() {
        let mut state = State::default();
        let mut now = state.since;
        let mut pauses = Vec::new();
        for lasted in [0, 0, 0, 10_000, 0] {
            state.since = now;
            now += Duration::from_millis(lasted);
            state.pause(now);
            pauses.push((state.not_before - now).as_millis());
            now = state.not_before;
        }
        assert_eq!(pauses, [200, 400, 800, 200, 400]);
        for _ in 0..20 {
            state.since = now;
            state.pause(now);
        }
        assert_eq!(state.not_before - now, PAUSE_MAX);
    }

    #[test]
    fn a_thread_is_found_on_the_processor_it_is_bound_to() {
        let usual = sched_getaffinity(None).unwrap();
        let processor = (0..CpuSet::MAX_CPU).find(|cpu| usual.is_set(*cpu)).unwrap();
        let found = thread::spawn(move || {
            let mut only = CpuSet::new();
            only.set(processor);
            sched_setaffinity(None, &only).unwrap();
            processor_of(gettid().as_raw_nonzero().get().unsigned_abs())
        });
        assert_eq!(found.join().unwrap(), Some(processor));
        assert_eq!(processor_of(u32::MAX), None);
    }
}
