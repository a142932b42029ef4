//! Renewing: on a thread of its own with a runtime of its own, so that a job that blocks every thread of the worker does not
//! cost the worker its leases. In a simulation, where time stands still while a job computes, it is a task like others.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::backoff::Backoff;
use super::hub::Hub;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Renew, Session};

/// How often progress is told while a job tells of any.
const PROGRESS: Duration = Duration::from_secs(1);

/// What renews.
pub enum Renewal {
    Thread(std::thread::JoinHandle<()>),
    Task(AbortOnDropHandle<()>),
}

impl Renewal {
    /// Waits for its end.
    pub async fn ended(self) {
        match self {
            Self::Thread(thread) => drop(tokio::task::spawn_blocking(move || thread.join()).await),
            Self::Task(task) => drop(task.await),
        }
    }
}

/// Starts renewing; it ends once `hub.stopped` is cancelled and nothing is held.
pub fn start(hub: Arc<Hub>, session: Session) -> Result<Renewal> {
    if hub.watcher.is_some() {
        let task = tokio::spawn(async move { renew(&hub, &session).await });
        return Ok(Renewal::Task(AbortOnDropHandle::new(task)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::unavailable("starting the renewal thread").because(e))?;
    std::thread::Builder::new()
        .name("gusher-leases".into())
        .spawn(move || runtime.block_on(renew(&hub, &session)))
        .map(Renewal::Thread)
        .map_err(|e| Error::unavailable("starting the renewal thread").because(e))
}

async fn renew(hub: &Hub, session: &Session) {
    let third = Duration::from_millis((hub.lease / 3).max(1) as u64);
    let mut since_renewal = Duration::ZERO;
    let mut backoff = Backoff::new();
    let mut wait = third.min(hub.look_after(PROGRESS));
    loop {
        let now = hub.renew_now.notified();
        tokio::select! {
            biased;
            () = now => since_renewal = third,
            () = tokio::time::sleep(wait) => since_renewal += wait,
        }
        let held = hub.all_held();
        if hub.stopped.is_cancelled() && held.is_empty() {
            return;
        }
        let progress: Vec<(u64, String)> =
            held.iter().filter_map(|held| held.told_progress().map(|told| (held.slice.lease, told))).collect();
        wait = third.min(hub.look_after(PROGRESS));
        if progress.is_empty() && since_renewal < third {
            continue;
        }
        let asked = hub.monotonic();
        let leases = held.iter().map(|held| held.slice.lease).collect();
        let renewed = hub
            .store
            .renew(Renew { session: hub.session, leases, drafts: hub.drafts(), progress, lease: hub.lease })
            .await;
        match renewed {
            Ok(renewed) => {
                since_renewal = Duration::ZERO;
                if renewed.away.is_empty() {
                    backoff.reset();
                } else {
                    wait = backoff.next().min(third);
                    since_renewal = third;
                }
                hub.permits.renewed(asked, asked + hub.lease as u64, &renewed.away_shards);
                for held in held.iter().filter(|held| !renewed.away.contains(&held.slice.lease)) {
                    let lease = held.slice.lease;
                    if renewed.lost.contains(&lease) {
                        // One whose last report is under way, or has just been answered, is not lost: it has ended.
                        let goes_on = held.unstarted() > 0 || held.is_running();
                        if goes_on && hub.held.lock().contains_key(&lease) {
                            tracing::warn!(lease, step = %held.slice.step_name, "a lease was lost: its jobs run again elsewhere");
                            held.lose();
                        }
                        continue;
                    }
                    held.renewed_until(asked + hub.lease as u64);
                    if renewed.cancelled.contains(&lease) {
                        super::report::stop_cancelled(hub, held);
                    }
                    renewed.stopped.iter().filter(|(of, _)| *of == lease).for_each(|(_, jobs)| held.stop(*jobs));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Err(error) = hub.store.join(session.clone()).await {
                    tracing::warn!(%error, "joining failed; it is tried again");
                }
                wait = backoff.next();
            }
            Err(error) => {
                tracing::warn!(%error, "renewing leases failed; it is tried again");
                wait = backoff.next().min(third);
            }
        }
    }
}
