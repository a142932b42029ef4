//! Paused time goes on as soon as nothing in the runtime can: also when a job waits for a thread of its own, or for the network. So
//! whenever a job waits for something, everything stands still for a moment of real time, in which another thread may wake it; then the
//! clock is held for as long, for what comes by the runtime itself. If what the job waits for turns out to be time, the next moment is
//! half as long; else it is as long as the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The shortest moment for which the clock is held.
const SHORTEST: Duration = Duration::from_micros(500);

/// Holds the clock while jobs may wait for something other than time.
#[derive(Debug)]
pub struct Patience {
    lesson: Lesson,
    /// Slots that are at work.
    slots: AtomicI32,
    /// How often code of a job has run.
    polls: AtomicU64,
    hold: Mutex<Hold>,
    polled: Condvar,
}

/// For how long the clock is held: runs of one torture learn from those before.
#[derive(Clone, Debug)]
pub struct Lesson {
    longest: Duration,
    next: Arc<Mutex<Duration>>,
}

impl Lesson {
    pub fn new(longest: Duration) -> Self {
        Self { longest, next: Arc::new(Mutex::new(longest)) }
    }

    fn learn(&self, in_vain: bool) {
        let mut next = self.next.lock();
        *next = if in_vain { (*next / 2).max(SHORTEST.min(self.longest)) } else { self.longest };
    }
}

#[derive(Debug)]
struct Hold {
    /// Whether the clock is being held.
    holds: bool,
    /// The polls when the clock was last held for as long as it could be.
    seen: u64,
}

impl Patience {
    pub fn new(lesson: Lesson) -> Arc<Self> {
        Arc::new(Self {
            lesson,
            slots: AtomicI32::new(0),
            polls: AtomicU64::new(0),
            hold: Mutex::new(Hold { holds: false, seen: 0 }),
            polled: Condvar::new(),
        })
    }

    /// A slot has begun or left the jobs of a slice.
    pub fn at_work(&self, slots: i32) {
        self.slots.fetch_add(slots, Ordering::SeqCst);
    }

    /// For how long a job that waits is given for another thread to wake it.
    pub fn next(&self) -> Duration {
        *self.lesson.next.lock()
    }

    /// Whether one has.
    pub fn waited(&self, came: bool) {
        self.lesson.learn(!came);
    }

    /// Code of a job runs: what the clock was held for has come.
    pub fn polled(&self) {
        self.polls.fetch_add(1, Ordering::SeqCst);
        if self.hold.lock().holds {
            self.polled.notify_all();
        }
    }

    /// Nothing in the runtime can go on.
    pub fn parks(self: &Arc<Self>) {
        let polls = self.polls.load(Ordering::SeqCst);
        let mut hold = self.hold.lock();
        if self.slots.load(Ordering::SeqCst) == 0 || hold.holds || hold.seen == polls {
            return;
        }
        hold.holds = true;
        let patience = self.clone();
        // While such a task runs, paused time stands still.
        tokio::task::spawn_blocking(move || patience.hold(polls));
    }

    fn hold(&self, polls: u64) {
        let mut hold = self.hold.lock();
        let until = Instant::now() + self.next();
        while self.polls.load(Ordering::SeqCst) == polls {
            if self.polled.wait_until(&mut hold, until).timed_out() {
                hold.seen = polls;
                break;
            }
        }
        let in_vain = self.polls.load(Ordering::SeqCst) == polls;
        self.lesson.learn(in_vain);
        hold.holds = false;
    }
}
