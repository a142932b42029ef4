//! What a simulation sees of a worker. Outside of tests a worker has no watcher.

use std::future::Future;
use std::sync::Arc;

use super::held::{Ended, Held, Taken};
use super::hub::Hub;

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
}

/// Lets others go first, as often as the watcher says, and tells it of the start.
pub async fn start(watcher: &dyn Watcher, held: &Held, taken: Taken) {
    for _ in 0..watcher.turns() {
        tokio::task::yield_now().await;
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

/// Runs the jobs of a slice in this very task, also those that block: time stands still until they are done.
pub async fn follow(watcher: Option<Arc<dyn Watcher>>, run: impl Future<Output = ()>) {
    let Some(watcher) = watcher else { return run.await };
    watcher.at_work(1);
    let at_work = AtWork(watcher);
    let mut run = std::pin::pin!(run);
    std::future::poll_fn(|cx| {
        at_work.0.polled();
        run.as_mut().poll(cx)
    })
    .await;
}
