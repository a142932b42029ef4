//! Reporting: **where jobs complete.** Outcomes gather for a few milliseconds and go to the store many at a time. A report that
//! fails on its way is sent again as it was, so it counts once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::GRACE;
use super::backoff::Backoff;
use super::held::{End, Ended, Held};
use super::hub::Hub;
use crate::error::{Error, ErrorKind};
use crate::job::{JobError, Then};
use crate::record::{ErrorText, Outcome, RECORD_BYTES, Record, error_number};
use crate::retry::Retry;
use crate::slice::{Mask, TARGET_TIME};
use crate::state::JobState;
use crate::store::{LeaseReport, MAX_REPORTED_LEASES, MAX_REPORTED_WAITS, Report, Reported};
use crate::wake::wake;

/// How long the outcomes of a slice gather once all of its jobs have been started.
const GATHER: Duration = Duration::from_millis(5);
/// How long they gather before: whoever waits for one of its jobs waits for all, so a slice that is quick is reported as a whole.
const GATHER_MORE: Duration = TARGET_TIME;
/// About the most bytes of one report.
const MAX_BYTES: usize = 160 * 1024;
/// About the most bytes of outputs in one lease's part of a report.
const PART_BYTES: usize = 128 * 1024;
/// A record whose outcomes pass this many bytes is closed, however small they are once packed: readers unpack it whole.
const RECORD_OUTCOMES: usize = 1024 * 1024;

/// A lease's reports so far.
#[derive(Debug, Default)]
struct Book {
    number: u64,
    record: Record,
    /// About how many bytes the record's outcomes have before they are packed.
    record_bytes: usize,
    record_number: u32,
}

/// What the reporter knows of the types: their rules for retries.
pub type Rules = BTreeMap<&'static str, Retry>;

/// Reports until the worker has stopped and nothing is left to report.
pub async fn report_outcomes(hub: Arc<Hub>, rules: Rules, worker: String) {
    let mut books: BTreeMap<u64, Book> = BTreeMap::new();
    loop {
        let now = hub.report_now.notified();
        tokio::pin!(now);
        now.as_mut().enable();
        forget_lost(&hub);
        let listed = std::mem::take(&mut *hub.to_report.lock());
        if listed.is_empty() && hub.stopped.is_cancelled() && hub.held.lock().is_empty() {
            return;
        }
        let listed = listed.into_iter().map(|held| (waits_for(&held), held));
        let (due, later): (Vec<_>, Vec<_>) = listed.partition(|(wait, _)| wait.is_zero());
        let next = later.iter().map(|(wait, _)| *wait).min();
        hub.to_report.lock().extend(later.into_iter().map(|(_, held)| held));
        if due.is_empty() {
            tokio::select! {
                biased;
                () = now => {}
                () = tokio::time::sleep(next.unwrap_or_else(|| hub.look_after(Duration::from_millis(200)))) => {}
            }
            continue;
        }
        books.retain(|lease, _| hub.held.lock().contains_key(lease));
        let mut parts = Vec::new();
        let (mut bytes, mut waits) = (0, 0);
        for (_, held) in due {
            // From here on a new outcome puts the slice back on the list.
            *held.listed.lock() = None;
            if held.is_lost() {
                continue;
            }
            if parts.len() >= MAX_REPORTED_LEASES || bytes >= MAX_BYTES || waits >= MAX_REPORTED_WAITS {
                hub.list_for_report(&held);
                continue;
            }
            let book = books.entry(held.slice.lease).or_default();
            if let Some(part) = next_part(&hub, &held, book, &rules, &worker, MAX_REPORTED_WAITS - waits) {
                bytes += part.record.len();
                waits += part.retries.len();
                parts.push((held, part));
            }
        }
        if !parts.is_empty() {
            send(&hub, parts).await;
        }
    }
}

/// How much longer the outcomes of a slice may gather.
fn waits_for(held: &Held) -> Duration {
    let longest = if held.is_through() {
        Duration::ZERO
    } else if held.unstarted() == 0 {
        GATHER
    } else {
        GATHER_MORE
    };
    held.listed.lock().map_or(Duration::ZERO, |since| longest.saturating_sub(since.elapsed()))
}

/// Lets go of slices whose leases are lost, once none of their jobs runs any more: nobody will hear of those.
fn forget_lost(hub: &Hub) {
    for held in hub.all_held().iter().filter(|held| held.is_lost() && !held.is_running()) {
        let ended = std::mem::take(&mut *held.ended.lock());
        ended.iter().filter_map(|ended| ended.draft).for_each(|draft| hub.end_draft(draft));
        hub.let_go(held.slice.lease);
    }
}

/// What there is to report of a slice, as the next part under its lease, with at most `waits` different waits.
fn next_part(
    hub: &Arc<Hub>,
    held: &Arc<Held>,
    book: &mut Book,
    rules: &Rules,
    worker: &str,
    waits: usize,
) -> Option<LeaseReport> {
    let mut ended = VecDeque::from(std::mem::take(&mut *held.ended.lock()));
    if ended.is_empty() {
        return None;
    }
    book.number += 1;
    if book.record.worker.is_empty() {
        book.record.worker = worker.to_owned();
    }
    let mut part = LeaseReport {
        lease: held.slice.lease,
        number: book.number,
        record_number: book.record_number,
        ..LeaseReport::default()
    };
    let rule =
        held.slice.options.retry.or_else(|| rules.get(held.slice.job_type.as_str()).copied()).unwrap_or_default();
    let mut errors: BTreeMap<u64, (String, Mask)> = BTreeMap::new();
    let mut bytes = 0;
    while let Some(one) = ended.pop_front() {
        let size = one.size();
        if bytes > 0 && bytes + size > PART_BYTES || part.retries.len() >= waits {
            ended.push_front(one);
            break;
        }
        bytes += size;
        add_outcome(hub, held, one, rule, &mut part, &mut errors, &mut book.record);
    }
    if !ended.is_empty() {
        let mut later = held.ended.lock();
        let newer = std::mem::replace(&mut *later, ended.into());
        later.extend(newer);
        drop(later);
        hub.list_for_report(held);
    }
    part.errors = errors.into_iter().map(|(number, (text, jobs))| (number, text, jobs)).collect();
    if !book.record.outcomes.is_empty() {
        part.record = book.record.encode();
        book.record_bytes += bytes;
        if part.record.len() > RECORD_BYTES || book.record_bytes > RECORD_OUTCOMES {
            book.record.outcomes.clear();
            book.record_bytes = 0;
            book.record_number += 1;
        }
    }
    Some(part)
}

/// Puts one attempt's end where it belongs: into a mask of the report, and into the record.
fn add_outcome(
    hub: &Hub,
    held: &Held,
    ended: Ended,
    rule: Retry,
    part: &mut LeaseReport,
    errors: &mut BTreeMap<u64, (String, Mask)>,
    record: &mut Record,
) {
    let at = usize::from(ended.at);
    let (state, result) = match ended.end {
        End::Stopped => {
            part.returned.insert(at);
            part.dropped.extend(ended.draft);
            return;
        }
        End::Succeeded(output) => {
            part.succeeded.insert(at);
            part.adopted = ended.draft;
            (JobState::Succeeded, Ok(output))
        }
        End::Cancelled => {
            part.cancelled.insert(at);
            part.dropped.extend(ended.draft);
            (JobState::Cancelled, Err(ErrorText::Text("stopped: the workflow is cancelled".to_owned())))
        }
        End::Failed(error) => {
            part.dropped.extend(ended.draft);
            let wait = wait_after(&error, ended.attempt, rule, held.dice);
            let state = if wait.is_some() { JobState::Retrying } else { JobState::Failed };
            match wait {
                Some(wait) => add_retry(&mut part.retries, wait, at),
                None => part.failed.insert(at),
            }
            let text = error.into_text();
            let number = error_number(&text);
            let known = hub.knows_error(held, number);
            let entry = errors.entry(number).or_insert_with(|| (text.clone(), Mask::EMPTY));
            if state == JobState::Failed {
                entry.1.insert(at);
            }
            (state, Err(if known { ErrorText::Known(number) } else { ErrorText::Text(text) }))
        }
    };
    record.outcomes.push(Outcome {
        at: ended.at,
        state,
        attempt: ended.attempt,
        started: ended.started,
        finished: ended.finished,
        result,
        logs: ended.logs,
    });
}

/// How long a failed job waits for its next attempt; `None` if it has none.
fn wait_after(error: &JobError, attempt: u8, rule: Retry, dice: f64) -> Option<Duration> {
    match (error.then(), error.rule().unwrap_or(rule).wait_after(attempt, dice)) {
        (Then::Never, _) | (_, None) => None,
        (Then::RetryIn(wait), Some(_)) => Some(wait),
        (Then::Retry, wait) => wait,
    }
}

/// Jobs of one slice that wait about as long share a timer.
fn add_retry(retries: &mut Vec<(i64, Mask)>, wait: Duration, at: usize) {
    let wait = crate::clock::millis(wait);
    let near = retries.iter_mut().find(|(other, _)| *other >= wait && other - wait <= wait / 8);
    match near {
        Some((_, mask)) => mask.insert(at),
        None => retries.push((wait, Mask::range(at..at + 1))),
    }
}

/// Sends parts until the store has answered, and acts on the answer.
async fn send(hub: &Arc<Hub>, mut parts: Vec<(Arc<Held>, LeaseReport)>) {
    let mut backoff = Backoff::new();
    let mut last_try = None;
    loop {
        let leases = parts.iter().map(|(_, part)| part.clone()).collect();
        let error = match hub.store.report(Report { session: hub.session, leases }).await {
            Ok(reported) => {
                let told: Vec<_>;
                (parts, told) = parts.into_iter().partition(|(_, part)| reported.away.contains(&part.lease));
                settle(hub, &told, reported);
                if parts.is_empty() {
                    return;
                }
                Error::unavailable("a part of the store is away")
            }
            Err(error) if error.is_transient() => error,
            Err(error) if parts.len() > 1 => {
                tracing::warn!(%error, "a report was refused; its parts are sent one by one");
                for part in parts {
                    Box::pin(send(hub, vec![part])).await;
                }
                return;
            }
            Err(error) => return refused_alone(hub, parts, error).await,
        };
        if last_try.is_some_and(|last| Instant::now() > last) {
            tracing::error!(%error, "the worker ends although the store cannot be told what it did; those jobs run again");
            for (held, _) in parts {
                held.lose();
                hub.let_go(held.slice.lease);
            }
            return;
        }
        if hub.stopped.is_cancelled() && last_try.is_none() {
            last_try = Some(Instant::now() + GRACE);
        }
        tracing::warn!(%error, "reporting failed; it is tried again");
        tokio::time::sleep(backoff.next()).await;
    }
}

/// One lease's report that the store will not take.
async fn refused_alone(hub: &Arc<Hub>, mut parts: Vec<(Arc<Held>, LeaseReport)>, error: Error) {
    let Some((held, part)) = parts.first_mut() else { return };
    if let (Some(draft), ErrorKind::Refused) = (part.adopted.take(), error.kind()) {
        // What the source wrote was not renewed in time and is gone: it must write it again.
        tracing::warn!(%error, step = %held.slice.step_name, "a source's jobs are lost; it runs again");
        hub.end_draft(draft);
        // No fault of the job's own, so it uses up no attempt.
        part.returned = part.returned.or(std::mem::take(&mut part.succeeded));
        part.record.clear();
        return Box::pin(send(hub, parts)).await;
    }
    tracing::error!(%error, step = %held.slice.step_name, "the store refuses a report; its jobs will run again");
    held.lose();
    hub.let_go(held.slice.lease);
}

fn settle(hub: &Arc<Hub>, parts: &[(Arc<Held>, LeaseReport)], reported: Reported) {
    wake(&reported.woken);
    for (held, part) in parts {
        part.adopted.iter().chain(&part.dropped).for_each(|draft| hub.end_draft(*draft));
        if reported.refused.contains(&part.lease) {
            tracing::warn!(lease = part.lease, step = %held.slice.step_name, "a late report was refused: its jobs run again elsewhere");
            held.lose();
        }
        if reported.cancelled.contains(&part.lease) {
            stop_cancelled(hub, held);
        }
        for (_, number) in reported.known_errors.iter().filter(|(lease, _)| *lease == part.lease) {
            hub.learn_error(held, *number);
        }
        held.count_reported(part.jobs());
        if is_reported(held) {
            hub.let_go(part.lease);
        }
    }
    // What was only given back has not turned a slot over.
    if parts.iter().any(|(_, part)| part.jobs() > part.returned.len()) {
        hub.last_end.store(hub.monotonic(), Ordering::Relaxed);
    }
    hub.claim_again.notify_one();
    if reported.more {
        hub.tick_now.notify_one();
    }
}

/// Whether everything that the lease held has been reported.
fn is_reported(held: &Held) -> bool {
    held.left_to_report() == 0
}

/// Gives the jobs of a slice that nobody has started back to the store.
pub fn return_unstarted(hub: &Hub, held: &Arc<Held>) {
    let unstarted = held.give_back();
    if !unstarted.is_empty() {
        let now = hub.wall_at(Instant::now());
        held.ended.lock().extend(unstarted.iter().map(|at| Ended::unstarted(at as u16, now)));
        hub.list_for_report(held);
    }
}

/// The workflow of a slice is cancelled: nothing more of it starts, and what runs is told.
pub fn stop_cancelled(hub: &Hub, held: &Arc<Held>) {
    return_unstarted(hub, held);
    held.token.cancel();
}
