//! A store as a worker of a simulation sees it: it wakes workers in this process, and goes wrong where the script says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;

use super::script::Fault;
use super::stage::{Process, Stage};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};
use crate::record::Record;
use crate::slice::Mask;
use crate::store::*;

/// A store that goes wrong.
pub struct Faulty {
    store: Arc<dyn Store>,
    stage: Arc<Stage>,
    /// Whose calls go wrong; nobody's for the client.
    process: Option<Arc<Process>>,
    leases: Mutex<Leases>,
}

/// What the process has been given.
#[derive(Default)]
struct Leases {
    slices: BTreeMap<u64, Slice>,
    /// Jobs whose outcome was kept from the store, by lease and position.
    kept: BTreeSet<(u64, u16)>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.store)
    }
}

impl Faulty {
    /// The store as the client of a simulation sees it: in order.
    pub fn for_client(store: Arc<dyn Store>, stage: Arc<Stage>) -> Arc<Self> {
        Arc::new(Self { store, stage, process: None, leases: Mutex::default() })
    }

    /// The store as a process sees it that runs a worker.
    pub fn for_worker(store: Arc<dyn Store>, process: Arc<Process>) -> Arc<Self> {
        Arc::new(Self { store, stage: process.stage.clone(), process: Some(process), leases: Mutex::default() })
    }

    /// One call to the store, or what becomes of it. `wake` hands out the answer's wake-ups, which die with the process.
    async fn call<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T>> + Send,
        heard: impl FnOnce(&mut T) + Send,
    ) -> Result<T> {
        let fault = match &self.process {
            None => None,
            Some(process) if process.killed.is_cancelled() => return std::future::pending().await,
            Some(_) => self.stage.next_call(verb),
        };
        if fault == Some(Fault::KilledBefore) {
            return self.die().await;
        }
        let mut answer = call.await;
        self.stage.called.notify_one();
        match (fault, &mut answer) {
            (Some(Fault::KilledAfter), _) => self.die().await,
            (Some(Fault::AnswerLost), Ok(_)) => {
                Err(Error::unavailable(format!("{verb}: the answer was lost, as the test wants it")))
            }
            (_, Ok(heard_of)) => {
                heard(heard_of);
                answer
            }
            _ => answer,
        }
    }

    async fn die<T>(&self) -> T {
        if let Some(process) = &self.process {
            process.killed.cancel();
        }
        std::future::pending().await
    }

    /// Gives back what has to run again, instead of what became of it: the worker that ran it believes that it was reported.
    fn keep_back(&self, report: &mut Report) {
        let mut leases = self.leases.lock();
        let Leases { slices, kept } = &mut *leases;
        for part in &mut report.leases {
            let Some(slice) = slices.get(&part.lease) else { continue };
            // What was given back, or stopped, has not come to an end of its own.
            let ended = part.masks().fold(Mask::EMPTY, Mask::or).minus(part.returned).minus(part.cancelled);
            let again: Mask = ended
                .iter()
                .filter(|at| {
                    let used = slice.jobs.iter().position(|job| job == *at).and_then(|n| slice.attempts.get(n));
                    let job = self.stage.key(slice.workflow, slice.step, slice.first + *at as u64);
                    job.is_some_and(|job| self.stage.runs_again(job, used.copied().unwrap_or(0)))
                })
                .collect();
            let again = part.leave_out_added_by(again);
            kept.extend(again.iter().map(|at| (part.lease, at as u16)));
            take_out(part, again);
            leave_out(part, kept);
        }
    }
}

/// Moves jobs from what became of them to what is given back.
fn take_out(part: &mut LeaseReport, again: Mask) {
    if again.is_empty() {
        return;
    }
    part.succeeded = part.succeeded.minus(again);
    part.failed = part.failed.minus(again);
    part.skipped = part.skipped.minus(again);
    for waits in [&mut part.retries, &mut part.postponed] {
        waits.iter_mut().for_each(|(_, mask)| *mask = mask.minus(again));
        waits.retain(|(_, mask)| !mask.is_empty());
    }
    part.errors.iter_mut().for_each(|(_, _, mask)| *mask = mask.minus(again));
    part.returned = part.returned.or(again);
    let (kept, dropped) = part.adopted.drain(..).partition(|(at, _)| !again.contains(usize::from(*at)));
    part.adopted = kept;
    part.dropped.extend(dropped.iter().map(|(_, draft): &(u16, u64)| draft));
}

/// Leaves what nobody may hear of out of the record.
fn leave_out(part: &mut LeaseReport, kept: &BTreeSet<(u64, u16)>) {
    let Ok(mut record) = Record::decode(&part.record) else { return };
    record.outcomes.retain(|outcome| !kept.contains(&(part.lease, outcome.at)));
    part.record = if record.outcomes.is_empty() { Vec::new() } else { record.encode() };
}

/// Nothing is to be done with an answer.
fn as_it_is<T>(_: &mut T) {}

impl Store for Faulty {
    fn join(&self, session: Session) -> Answer<'_, ()> {
        Box::pin(self.call("join", self.store.join(session), as_it_is))
    }

    fn leave(&self, session: SessionId) -> Answer<'_, Left> {
        Box::pin(self.call("leave", self.store.leave(session), |left| self.stage.wake(&mut left.woken)))
    }

    fn append(&self, append: Append) -> Answer<'_, ()> {
        Box::pin(self.call("append", self.store.append(append), as_it_is))
    }

    fn begin(&self, begin: Begin) -> Answer<'_, Begun> {
        Box::pin(self.call("begin", self.store.begin(begin), as_it_is))
    }

    fn abandon(&self, workflow: WorkflowId, draft: DraftKey) -> Answer<'_, ()> {
        Box::pin(self.call("abandon", self.store.abandon(workflow, draft), |()| self.stage.look_at_the_clock()))
    }

    fn create(&self, create: Create) -> Answer<'_, Created> {
        Box::pin(self.call("create", self.store.create(create), |created| {
            self.stage.wake(&mut created.woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn add_jobs(&self, add: AddJobs) -> Answer<'_, Added> {
        Box::pin(self.call("add_jobs", self.store.add_jobs(add), |added| {
            self.stage.wake(&mut added.woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn close_batch(&self, close: CloseBatch) -> Answer<'_, ClosedBatch> {
        Box::pin(self.call("close_batch", self.store.close_batch(close), |closed| {
            self.stage.wake(&mut closed.woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn enqueue(&self, enqueue: Enqueue) -> Answer<'_, Enqueued> {
        let jobs = enqueue.jobs.clone();
        Box::pin(self.call("enqueue", self.store.enqueue(enqueue), move |enqueued| {
            self.stage.enqueued(&jobs, enqueued, self.store.now());
            self.stage.wake(&mut enqueued.woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn put_schedule(&self, put: PutSchedule) -> Answer<'_, Option<ScheduleRow>> {
        Box::pin(self.call("put_schedule", self.store.put_schedule(put), |_| self.stage.look_at_the_clock()))
    }

    fn change_schedule(&self, shard: u16, name: String, change: ChangeSchedule) -> Answer<'_, Changed> {
        let changed = self.store.change_schedule(shard, name, change);
        Box::pin(self.call("change_schedule", changed, |_| self.stage.look_at_the_clock()))
    }

    fn fire(&self, fire: Fire) -> Answer<'_, Fired> {
        Box::pin(self.call("fire", self.store.fire(fire), |fired| {
            self.stage.wake(&mut fired.woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn permit(&self, permit: Permit) -> Answer<'_, Permitted> {
        Box::pin(self.call("permit", self.store.permit(permit), |permitted| self.stage.wake(&mut permitted.woken)))
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        Box::pin(self.call("claim", self.store.claim(claim), |claimed| {
            let mut leases = self.leases.lock();
            leases.slices.extend(claimed.slices.iter().map(|slice| (slice.lease, slice.clone())));
            self.stage.wake(&mut claimed.woken);
        }))
    }

    fn take_over(&self, take: TakeOver) -> Answer<'_, TakenOver> {
        Box::pin(self.call("take_over", self.store.take_over(take), |taken| {
            let mut leases = self.leases.lock();
            leases.slices.extend(taken.slices.iter().map(|(_, slice)| (slice.lease, slice.clone())));
            self.stage.wake(&mut taken.woken);
        }))
    }

    fn renew(&self, renew: Renew) -> Answer<'_, Renewed> {
        Box::pin(self.call("renew", self.store.renew(renew), as_it_is))
    }

    fn report(&self, mut report: Report) -> Answer<'_, Reported> {
        Box::pin(async move {
            self.keep_back(&mut report);
            let heard = |reported: &mut Reported| {
                self.stage.wake(&mut reported.woken);
                self.stage.look_at_the_clock();
            };
            self.call("report", self.store.report(report), heard).await
        })
    }

    fn save_checkpoint(&self, save: SaveCheckpoint) -> Answer<'_, ()> {
        Box::pin(self.call("save_checkpoint", self.store.save_checkpoint(save), as_it_is))
    }

    fn take_draft(&self, take: TakeDraft) -> Answer<'_, TakenDraft> {
        Box::pin(self.call("take_draft", self.store.take_draft(take), as_it_is))
    }

    fn adopt(&self, adopt: Adopt) -> Answer<'_, Adopted> {
        Box::pin(self.call("adopt", self.store.adopt(adopt), |adopted| self.stage.wake(&mut adopted.woken)))
    }

    fn emitted(&self, chunk: ChunkRef, at: u16) -> Answer<'_, Emitted> {
        Box::pin(self.call("emitted", self.store.emitted(chunk, at), as_it_is))
    }

    fn checkpoint(&self, chunk: ChunkRef, at: u16) -> Answer<'_, Option<Vec<u8>>> {
        Box::pin(self.call("checkpoint", self.store.checkpoint(chunk, at), as_it_is))
    }

    fn tick(&self, tick: Tick) -> Answer<'_, Ticked> {
        Box::pin(self.call("tick", self.store.tick(tick), |ticked| {
            self.stage.wake(&mut ticked.woken);
            if !std::mem::take(&mut ticked.told).0.is_empty() {
                self.stage.look_at_the_leases();
            }
        }))
    }

    fn cancel(&self, workflow: WorkflowId, grace: Millis) -> Answer<'_, ()> {
        Box::pin(self.call("cancel", self.store.cancel(workflow, grace), |()| {
            self.stage.look_at_the_clock();
            self.stage.look_at_the_leases();
        }))
    }

    fn cancel_jobs(&self, cancel: CancelJobs) -> Answer<'_, CancelledJobs> {
        Box::pin(self.call("cancel_jobs", self.store.cancel_jobs(cancel), |cancelled| {
            cancelled.told.0.clear();
            self.stage.look_at_the_clock();
            self.stage.look_at_the_leases();
        }))
    }

    fn pause(&self, workflow: WorkflowId) -> Answer<'_, ()> {
        Box::pin(self.call("pause", self.store.pause(workflow), as_it_is))
    }

    fn resume(&self, workflow: WorkflowId) -> Answer<'_, Woken> {
        Box::pin(self.call("resume", self.store.resume(workflow), |woken| {
            self.stage.wake(woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn set_paused(&self, what: Pausable, paused: bool) -> Answer<'_, Woken> {
        Box::pin(self.call("set_paused", self.store.set_paused(what, paused), |woken| {
            self.stage.wake(woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn retry(&self, retry: RetryFailed) -> Answer<'_, Retried> {
        Box::pin(self.call("retry", self.store.retry(retry), |_| self.stage.look_at_the_clock()))
    }

    fn run_again(&self, run: RunAgain) -> Answer<'_, RanAgain> {
        Box::pin(self.call("run_again", self.store.run_again(run), |_| self.stage.look_at_the_clock()))
    }

    fn decide_by_hand(&self, decide: DecideByHand) -> Answer<'_, DecidedByHand> {
        Box::pin(self.call("decide_by_hand", self.store.decide_by_hand(decide), |_| self.stage.look_at_the_clock()))
    }

    fn resume_step(&self, resume: ResumeStep) -> Answer<'_, ResumedStep> {
        Box::pin(self.call("resume_step", self.store.resume_step(resume), |resumed| {
            self.stage.wake(&mut resumed.woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn signal(&self, send: SendSignal) -> Answer<'_, Signalled> {
        Box::pin(self.call("signal", self.store.signal(send), |signalled| {
            self.stage.wake(&mut signalled.woken);
            self.stage.look_at_the_clock();
        }))
    }

    fn delete(&self, workflow: WorkflowId) -> Answer<'_, ()> {
        Box::pin(self.call("delete", self.store.delete(workflow), |()| self.stage.look_at_the_clock()))
    }

    fn keep(&self, workflow: WorkflowId, keeping: Keeping) -> Answer<'_, Kept> {
        Box::pin(self.call("keep", self.store.keep(workflow, keeping), |_| self.stage.look_at_the_clock()))
    }

    fn workflow(&self, workflow: WorkflowId) -> Answer<'_, WorkflowRow> {
        Box::pin(self.call("workflow", self.store.workflow(workflow), as_it_is))
    }

    fn workflows(&self, list: List) -> Answer<'_, Vec<WorkflowRow>> {
        Box::pin(self.call("workflows", self.store.workflows(list), as_it_is))
    }

    fn steps(&self, workflow: WorkflowId, from: StepNumber, limit: u32) -> Answer<'_, Vec<StepRow>> {
        Box::pin(self.call("steps", self.store.steps(workflow, from, limit), as_it_is))
    }

    fn step_named(&self, workflow: WorkflowId, name: String) -> Answer<'_, Option<StepRow>> {
        Box::pin(self.call("step_named", self.store.step_named(workflow, name), as_it_is))
    }

    fn edges(&self, workflow: WorkflowId, step: StepNumber, upstream: bool, limit: u32) -> Answer<'_, Vec<EdgeRow>> {
        Box::pin(self.call("edges", self.store.edges(workflow, step, upstream, limit), as_it_is))
    }

    fn parameters(&self, chunk: ChunkRef) -> Answer<'_, Parameters> {
        Box::pin(self.call("parameters", self.store.parameters(chunk), as_it_is))
    }

    fn outcomes(
        &self,
        workflow: WorkflowId,
        step: StepNumber,
        from: u64,
        after: u64,
    ) -> Answer<'_, Vec<ChunkOutcomes>> {
        Box::pin(self.call("outcomes", self.store.outcomes(workflow, step, from, after), as_it_is))
    }

    fn outcomes_of_chunk(
        &self,
        workflow: WorkflowId,
        step: StepNumber,
        index: u64,
        after: u64,
    ) -> Answer<'_, Option<ChunkOutcomes>> {
        Box::pin(self.call("outcomes_of_chunk", self.store.outcomes_of_chunk(workflow, step, index, after), as_it_is))
    }

    fn children(&self, workflow: WorkflowId, step: StepNumber, from: u64, limit: u32) -> Answer<'_, Vec<ChildRow>> {
        Box::pin(self.call("children", self.store.children(workflow, step, from, limit), as_it_is))
    }

    fn errors(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Vec<ErrorRow>> {
        Box::pin(self.call("errors", self.store.errors(workflow, step), as_it_is))
    }

    fn waiting(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Waiting> {
        Box::pin(self.call("waiting", self.store.waiting(workflow, step), as_it_is))
    }

    fn whereabouts(&self, workflow: WorkflowId, step: StepNumber, index: u64) -> Answer<'_, Whereabouts> {
        Box::pin(self.call("whereabouts", self.store.whereabouts(workflow, step, index), as_it_is))
    }

    fn size(&self, workflow: WorkflowId) -> Answer<'_, WorkflowSize> {
        Box::pin(self.call("size", self.store.size(workflow), as_it_is))
    }

    fn schedules(&self, after: String, limit: u32) -> Answer<'_, Vec<ScheduleRow>> {
        Box::pin(self.call("schedules", self.store.schedules(after, limit), as_it_is))
    }

    fn occurrences(&self, shard: u16, name: String, before: Millis, limit: u32) -> Answer<'_, Vec<OccurrenceRow>> {
        Box::pin(self.call("occurrences", self.store.occurrences(shard, name, before, limit), as_it_is))
    }

    fn paused(&self) -> Answer<'_, Vec<Pausable>> {
        Box::pin(self.call("paused", self.store.paused(), as_it_is))
    }

    fn workers(&self, limit: u32) -> Answer<'_, Vec<WorkerRow>> {
        Box::pin(self.call("workers", self.store.workers(limit), as_it_is))
    }

    fn held(&self, session: SessionId, limit: u32) -> Answer<'_, Vec<HeldRow>> {
        Box::pin(self.call("held", self.store.held(session, limit), as_it_is))
    }

    fn doctor(&self) -> Answer<'_, Checkup> {
        Box::pin(self.call("doctor", self.store.doctor(), as_it_is))
    }

    fn identity(&self) -> Answer<'_, u64> {
        self.store.identity()
    }

    fn meters(&self) -> &Meters {
        self.store.meters()
    }

    fn now(&self) -> Millis {
        self.store.now()
    }

    fn lease(&self) -> Millis {
        self.store.lease()
    }

    fn next_shard(&self) -> u16 {
        self.store.next_shard()
    }

    fn shards(&self) -> u16 {
        self.store.shards()
    }

    fn url(&self) -> String {
        self.store.url()
    }
}
