//! Reporting: **where jobs complete.** Outcomes gather for a few milliseconds and go to the store many at a time (`send.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::held::{End, Ended, Held, Written};
use super::hub::Hub;
use super::send;
use crate::clock::millis;
use crate::graph::StepSpec;
use crate::job::{JobError, Then};
use crate::lone::Keep;
use crate::payload::ChunkBuilder;
use crate::planted::planted;
use crate::record::{ErrorText, Outcome, RECORD_BYTES, Record, error_number};
use crate::retry::Retry;
use crate::slice::{Mask, TARGET_TIME};
use crate::state::JobState;
use crate::store::{
    AddedJobs, LeaseReport, MAX_REPORTED_CHILDREN, MAX_REPORTED_DRAFTS, MAX_REPORTED_LEASES, MAX_REPORTED_WAITS,
};

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
pub async fn report_outcomes(hub: Arc<Hub>, rules: Rules, keep: Keep, worker: String) {
    let mut books: BTreeMap<u64, Book> = BTreeMap::new();
    // What goes to parts of the store that are away does not hold up the rest.
    let mut later = JoinSet::new();
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
        let (due, gathering): (Vec<_>, Vec<_>) = listed.partition(|(wait, _)| wait.is_zero());
        let next = gathering.iter().map(|(wait, _)| *wait).min();
        hub.to_report.lock().extend(gathering.into_iter().map(|(_, held)| held));
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
        let (mut bytes, mut room) = (0, Room::WHOLE);
        for (_, held) in due {
            // From here on a new outcome puts the slice back on the list.
            *held.listed.lock() = None;
            // What is on its way comes first; then the slice is listed again.
            if held.is_lost() || held.is_on_its_way() {
                continue;
            }
            if parts.len() >= MAX_REPORTED_LEASES || bytes >= MAX_BYTES || room.is_used_up() {
                hub.list_for_report(&held);
                continue;
            }
            let book = books.entry(held.slice.lease).or_default();
            if let Some(part) = next_part(&hub, &held, book, (&rules, keep), &worker, room) {
                bytes += part.record.len() + part.added.iter().map(|added| added.chunk.body.len()).sum::<usize>();
                room = room.without(&part);
                parts.push((held, part));
            }
        }
        if !parts.is_empty() {
            let away = send::send(&hub, parts).await;
            if !away.is_empty() {
                later.spawn(send::send_once_there(hub.clone(), away));
            }
        }
        while later.try_join_next().is_some() {}
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
        ended.iter().flat_map(|ended| ended.written.drafts()).for_each(|draft| hub.end_draft(draft));
        hub.let_go(held.slice.lease);
    }
}

/// How many different waits, drafts and begun workflows a report may still speak of.
#[derive(Clone, Copy)]
struct Room {
    waits: usize,
    drafts: usize,
    children: usize,
}

impl Room {
    const WHOLE: Self =
        Self { waits: MAX_REPORTED_WAITS, drafts: MAX_REPORTED_DRAFTS, children: MAX_REPORTED_CHILDREN };

    fn is_used_up(self) -> bool {
        self.waits == 0 || self.drafts == 0 || self.children == 0
    }

    fn without(self, part: &LeaseReport) -> Self {
        Self {
            waits: self.waits.saturating_sub(part.retries.len() + part.postponed.len()),
            drafts: self.drafts.saturating_sub(part.drafts()),
            children: self.children.saturating_sub(part.begun.len()),
        }
    }
}

/// What there is to report of a slice, as the next part under its lease, as far as there is room for it.
fn next_part(
    hub: &Arc<Hub>,
    held: &Arc<Held>,
    book: &mut Book,
    (rules, keep): (&Rules, Keep),
    worker: &str,
    room: Room,
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
    let mut added = Added::default();
    while let Some(one) = ended.pop_front() {
        let size = one.size();
        let left = room.without(&part);
        let is_full = left.is_used_up() || one.written.parts() > left.drafts.saturating_sub(added.chunks());
        if bytes > 0 && bytes + size > PART_BYTES || is_full {
            ended.push_front(one);
            break;
        }
        bytes += size;
        add_outcome(hub, held, one, (rule, keep), &mut part, (&mut errors, &mut added), &mut book.record);
    }
    part.added = added.finish();
    if !ended.is_empty() {
        let mut later = held.ended.lock();
        let newer = std::mem::replace(&mut *later, ended.into());
        later.extend(newer);
        drop(later);
        hub.list_for_report(held);
    }
    if part.jobs() == 0 {
        // There was no room for what its first job has written: it comes with the next report.
        book.number -= 1;
        return None;
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

/// What the jobs of a part add to their batch, as far as it is not in drafts: many jobs that add a little make one chunk of a type.
#[derive(Default)]
struct Added {
    finished: Vec<AddedJobs>,
    open: Vec<(StepSpec, ChunkBuilder, Mask)>,
}

impl Added {
    /// How many chunks it is.
    fn chunks(&self) -> usize {
        self.finished.len() + self.open.len()
    }

    fn take(&mut self, at: u16, written: Written) {
        let additions = written.added.map(|added| added.list).unwrap_or_default();
        for addition in additions.into_iter().filter(|addition| !addition.jobs.is_empty()) {
            let open = match self.open.iter().position(|(step, ..)| step.name == addition.step.name) {
                Some(open) => open,
                None => {
                    self.open.push((addition.step, ChunkBuilder::default(), Mask::EMPTY));
                    self.open.len() - 1
                }
            };
            let (step, builder, by) = &mut self.open[open];
            for json in &addition.jobs {
                // Its size was looked at when it was added.
                if let Ok(Some(chunk)) = builder.push(json) {
                    self.finished.push(AddedJobs { step: step.clone(), chunk, by: std::mem::take(by) });
                }
                by.insert(usize::from(at));
            }
        }
    }

    fn finish(mut self) -> Vec<AddedJobs> {
        for (step, mut builder, by) in self.open {
            self.finished.extend(builder.finish().map(|chunk| AddedJobs { step, chunk, by }));
        }
        self.finished
    }
}

/// Puts one attempt's end where it belongs: into a mask of the report, and into the record.
fn add_outcome(
    hub: &Hub,
    held: &Held,
    ended: Ended,
    (rule, keep): (Retry, Keep),
    part: &mut LeaseReport,
    (errors, added): (&mut BTreeMap<u64, (String, Mask)>, &mut Added),
    record: &mut Record,
) {
    let at = usize::from(ended.at);
    let drafts = ended.written.drafts();
    let (state, result) = match ended.end {
        End::Stopped => {
            part.returned.insert(at);
            if held.is_stopped(ended.at) {
                part.keep = part.keep.max(millis(keep.outputs));
            }
            part.dropped.extend(drafts);
            return;
        }
        End::Succeeded(output) => {
            if !output.is_empty() {
                part.keep = part.keep.max(millis(keep.outputs));
            }
            part.succeeded.insert(at);
            part.adopted.extend(drafts.iter().map(|draft| (ended.at, *draft)));
            added.take(ended.at, ended.written);
            (JobState::Succeeded, Ok(output))
        }
        End::Cancelled => {
            part.cancelled.insert(at);
            part.keep = part.keep.max(millis(keep.outputs));
            part.dropped.extend(drafts);
            let why = if held.is_stopped(ended.at) {
                "the job is cancelled"
            } else {
                "the workflow is cancelled, or the step has failed"
            };
            (JobState::Cancelled, Err(ErrorText::Text(format!("stopped: {why}"))))
        }
        End::Failed(error) if error.then() == Then::Begun => {
            part.begun.insert(at);
            // What the job ends as is known later, and told by its byte: both ends stand in the record.
            let failed = Err(ErrorText::Text(crate::children::FAILED.to_owned()));
            let (started, finished, attempt) = (ended.started, ended.finished, ended.attempt);
            let failed = Outcome {
                at: ended.at,
                state: JobState::Failed,
                attempt,
                started,
                finished,
                result: failed,
                logs: Vec::new(),
            };
            record.outcomes.push(failed);
            (JobState::Succeeded, Ok(error.into_text().into_bytes()))
        }
        End::Failed(error) if matches!(error.then(), Then::Postpone(_) | Then::Discard) => {
            part.dropped.extend(drafts);
            if let Then::Postpone(wait) = error.then() {
                add_wait(&mut part.postponed, wait, at);
                return;
            }
            part.skipped.insert(at);
            part.keep = part.keep.max(millis(keep.outputs));
            (JobState::Skipped, Err(ErrorText::Text(error.into_text())))
        }
        End::Failed(error) => {
            part.dropped.extend(drafts);
            if planted!("what a failed attempt has added to its batch is there") {
                added.take(ended.at, ended.written);
            }
            let wait = wait_after(&error, ended.attempt, rule, held.dice);
            let state = if wait.is_some() { JobState::Retrying } else { JobState::Failed };
            match wait {
                Some(wait) => add_wait(&mut part.retries, wait, at),
                None => {
                    part.failed.insert(at);
                    part.keep = part.keep.max(millis(keep.failures));
                }
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
        (Then::Retry | Then::Postpone(_) | Then::Discard | Then::Stopped | Then::Begun, wait) => wait,
    }
}

/// Jobs of one slice that wait about as long share a timer.
fn add_wait(waits: &mut Vec<(i64, Mask)>, wait: Duration, at: usize) {
    let wait = crate::clock::millis(wait);
    let near = waits.iter_mut().find(|(other, _)| *other >= wait && other - wait <= wait / 8);
    match near {
        Some((_, mask)) => mask.insert(at),
        None => waits.push((wait, Mask::range(at..at + 1))),
    }
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
