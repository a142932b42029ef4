//! Sending reports. One that fails on its way is sent again as it was, so it counts once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::attempt::GRACE;
use super::backoff::Backoff;
use super::held::Held;
use super::hub::Hub;
use crate::error::{Error, ErrorKind};
use crate::slice::Mask;
use crate::store::{LeaseReport, Report, Reported};
use crate::wake::wake;

/// What is reported of a slice.
pub type Part = (Arc<Held>, LeaseReport);

/// Sends parts until the store has answered, and acts on the answer. Returns those for a part of the store that is away.
pub async fn send(hub: &Arc<Hub>, parts: Vec<Part>) -> Vec<Part> {
    let (mut backoff, mut patience) = (Backoff::new(), Patience::default());
    loop {
        let leases = parts.iter().map(|(_, part)| part.clone()).collect();
        match hub.store.report(Report { session: hub.session, leases }).await {
            Ok(reported) => {
                let (away, told): (Vec<Part>, Vec<Part>) =
                    parts.into_iter().partition(|(_, part)| reported.away.contains(&part.lease));
                settle(hub, &told, reported);
                away.iter().for_each(|(held, _)| held.set_on_its_way(true));
                return away;
            }
            Err(error) if error.is_transient() => {
                if patience.is_over(hub) {
                    give_up(hub, parts, &error);
                    return Vec::new();
                }
                tracing::warn!(%error, "reporting failed; it is tried again");
                tokio::time::sleep(backoff.next()).await;
            }
            Err(error) if parts.len() > 1 => {
                tracing::warn!(%error, "a report was refused; its parts are sent one by one");
                let mut away = Vec::new();
                for part in parts {
                    away.extend(Box::pin(send(hub, vec![part])).await);
                }
                return away;
            }
            Err(error) => return refused_alone(hub, parts, error).await,
        }
    }
}

/// Sends parts again and again until that part of the store is there. Meanwhile nothing more is reported of their slices.
pub async fn send_once_there(hub: Arc<Hub>, mut away: Vec<Part>) {
    let (mut backoff, mut patience) = (Backoff::new(), Patience::default());
    let slices: Vec<Arc<Held>> = away.iter().map(|(held, _)| held.clone()).collect();
    while !away.is_empty() {
        if patience.is_over(&hub) {
            give_up(&hub, away, &Error::unavailable("a part of the store is away"));
            break;
        }
        tokio::time::sleep(backoff.next()).await;
        away = send(&hub, away).await;
    }
    for held in slices {
        held.set_on_its_way(false);
        if !held.ended.lock().is_empty() {
            hub.list_for_report(&held);
        }
    }
}

/// A worker that has stopped waits for its store for a while.
#[derive(Default)]
struct Patience(Option<Instant>);

impl Patience {
    fn is_over(&mut self, hub: &Hub) -> bool {
        if hub.stopped.is_cancelled() {
            return Instant::now() > *self.0.get_or_insert_with(|| Instant::now() + GRACE);
        }
        false
    }
}

fn give_up(hub: &Hub, parts: Vec<Part>, error: &Error) {
    tracing::error!(%error, "the worker ends although the store cannot be told what it did; those jobs run again");
    for (held, _) in parts {
        held.lose();
        hub.let_go(held.slice.lease);
    }
}

/// One lease's report that the store will not take.
async fn refused_alone(hub: &Arc<Hub>, mut parts: Vec<Part>, error: Error) -> Vec<Part> {
    let Some((held, part)) = parts.first_mut() else { return parts };
    if !part.adopted.is_empty() && error.kind() == ErrorKind::Refused {
        // What a source wrote was not renewed in time and is gone: it must write it again. Which of several, nobody has told.
        tracing::warn!(%error, step = %held.slice.step_name, "a source's jobs are lost; it runs again");
        let mut again = Mask::EMPTY;
        for (at, draft) in std::mem::take(&mut part.adopted) {
            again.insert(usize::from(at));
            part.dropped.push(draft);
        }
        // No fault of the jobs' own, so it uses up no attempt.
        let again = part.leave_out_added_by(again);
        part.succeeded = part.succeeded.minus(again);
        part.returned = part.returned.or(again);
        part.record.clear();
        return Box::pin(send(hub, parts)).await;
    }
    tracing::error!(%error, step = %held.slice.step_name, "the store refuses a report; its jobs will run again");
    held.lose();
    hub.let_go(held.slice.lease);
    Vec::new()
}

fn settle(hub: &Arc<Hub>, parts: &[Part], reported: Reported) {
    wake(&reported.woken);
    for (held, part) in parts {
        let adopted = part.adopted.iter().map(|(_, draft)| draft);
        adopted.chain(&part.dropped).for_each(|draft| hub.end_draft(*draft));
        if reported.refused.contains(&part.lease) {
            tracing::warn!(lease = part.lease, step = %held.slice.step_name, "a late report was refused: its jobs run again elsewhere");
            held.lose();
        }
        if reported.cancelled.contains(&part.lease) {
            super::report::stop_cancelled(hub, held);
        }
        reported.stopped.iter().filter(|(of, _)| *of == part.lease).for_each(|(_, jobs)| held.stop(*jobs));
        for (_, number) in reported.known_errors.iter().filter(|(lease, _)| *lease == part.lease) {
            hub.learn_error(held, *number);
        }
        hub.fed.reported(held, part);
        held.count_reported(part.jobs());
        if is_reported(held) {
            hub.let_go(part.lease);
        }
    }
    // What was only given back has not turned a slot over.
    if parts.iter().any(|(_, part)| part.jobs() > part.returned.len()) {
        hub.last_end.store(hub.monotonic(), Ordering::Relaxed);
    }
    hub.has_room();
    if reported.more {
        hub.tick_now.notify_one();
    }
}

/// Whether everything that the lease held has been reported.
fn is_reported(held: &Held) -> bool {
    held.left_to_report() == 0
}
