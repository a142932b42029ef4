//! What a simulation sees of a worker. Outside of tests a worker has no watcher.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::held::{Ended, Held, Taken};
use super::hub::Hub;
use crate::clock::Millis;
use crate::lone::JobId;
use crate::state::JobState;
use crate::store::Lane;

/// Sees what a worker does, and stands in for what a process has beside it.
pub trait Watcher: Send + Sync {
    /// The number by which the store knows whom to wake.
    fn wake_port(&self) -> u16;
    /// The worker begins to claim.
    fn begins(&self, hub: &Arc<Hub>);
    /// How many times others may go first before a job starts.
    fn turns(&self) -> u32;
    /// A job starts.
    fn started(&self, held: &Held, taken: Taken);
    /// An attempt has ended.
    fn ended(&self, held: &Held, ended: &Ended);
    /// A slot has begun (1) or left (-1) the jobs of a slice.
    fn at_work(&self, slots: i32);
    /// Code of a job runs.
    fn polled(&self);
    /// For how long, in real time, a job that waits is given for another thread to wake it.
    fn patience(&self) -> Duration;
    /// Whether one has.
    fn waited(&self, came: bool);
    /// A lone job is to be enqueued, to start so much later: which one it is, if it is performed at once instead.
    fn takes(&self, lane: &Lane, later: Option<Millis>, json: &[u8]) -> Option<JobId>;
    /// What became of it, with its output as JSON or its error.
    fn performed(&self, job: JobId, state: JobState, text: String);
    /// The same, for those who ask later.
    fn outcome(&self, job: JobId) -> Option<(JobState, String)>;
}

/// Lets others go first, as often as the watcher says, and tells it of the start.
pub async fn start(watcher: &dyn Watcher, held: &Held, taken: Taken) {
    for _ in 0..watcher.turns() {
        let mut waited = false;
        // Wakes itself at once, so that nobody takes it for waiting on another thread, as one would `tokio::task::yield_now`.
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
    watcher.started(held, taken);
}

/// A slot at work on a slice.
struct AtWork(Arc<dyn Watcher>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work(-1);
    }
}

/// Wakes the task of a job. While the task is being polled nobody wakes it: it is noted who would have.
struct Wakes {
    task: Waker,
    polled_in: ThreadId,
    noted: Mutex<Noted>,
    came: Condvar,
}

struct Noted {
    is_polled: bool,
    here: bool,
    elsewhere: bool,
}

impl Wakes {
    fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Self {
            task: task.clone(),
            polled_in: std::thread::current().id(),
            noted: Mutex::new(Noted { is_polled: true, here: false, elsewhere: false }),
            came: Condvar::new(),
        })
    }

    /// Waits, in real time, until another thread wakes the job; returns whether one has. `None` without waiting if what woke it was
    /// in this thread: it only lets others go first.
    fn wait_for_another_thread(&self, longest: Duration) -> Option<bool> {
        let mut noted = self.noted.lock();
        let until = Instant::now() + longest;
        while !noted.here && !noted.elsewhere && !self.came.wait_until(&mut noted, until).timed_out() {}
        (noted.elsewhere || !noted.here).then_some(noted.elsewhere)
    }

    /// From here on the task is woken.
    fn ends(&self) {
        let mut noted = self.noted.lock();
        noted.is_polled = false;
        if noted.here || noted.elsewhere {
            self.task.wake_by_ref();
        }
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        let mut noted = self.noted.lock();
        if !noted.is_polled {
            self.task.wake_by_ref();
        } else if std::thread::current().id() == self.polled_in {
            noted.here = true;
        } else {
            noted.elsewhere = true;
            self.came.notify_all();
        }
    }
}

/// Runs the jobs of a slice in this very task, also those that block: time stands still until they are done. So it does, and
/// everything else with it, while a job waits for another thread: how fast that is must not change the order.
pub async fn follow(watcher: Option<Arc<dyn Watcher>>, run: impl Future<Output = ()>) {
    let Some(watcher) = watcher else { return run.await };
    watcher.at_work(1);
    let _at_work = AtWork(watcher.clone());
    let mut run = std::pin::pin!(run);
    std::future::poll_fn(|cx| {
        loop {
            watcher.polled();
            let wakes = Wakes::new(cx.waker());
            let done = run.as_mut().poll(&mut Context::from_waker(&Waker::from(wakes.clone())));
            let came = done.is_pending().then(|| wakes.wait_for_another_thread(watcher.patience())).flatten();
            came.iter().for_each(|came| watcher.waited(*came));
            if came != Some(true) {
                wakes.ends();
                return done;
            }
        }
    })
    .await;
}
