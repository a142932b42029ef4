//! A store that notes who claims, what came of it, whom its answers woke, and on which shards parameters are read and reports made.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use gusher::store::*;
use gusher::{Millis, SessionId, StepNumber, WorkflowId};

/// A claim that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// By whom.
    pub session: SessionId,
    /// Whether it came upon work: got some, or left some that it could have had.
    pub found: bool,
}

#[derive(Debug, Default)]
struct Notes {
    ports: Vec<(SessionId, u16)>,
    woken: Vec<(Instant, u16)>,
    sent: Vec<Sent>,
    shards: HashMap<(SessionId, u64), u16>,
    reads: BTreeMap<u16, u64>,
    reports: BTreeMap<u16, u64>,
}

/// The store behind, and what has been noted.
#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn Store>,
    notes: Mutex<Notes>,
}

impl Watched {
    /// Watches `inner`.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, notes: Mutex::default() }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_woken(&self, woken: &Woken) {
        let now = Instant::now();
        self.notes().woken.extend(woken.0.iter().map(|port| (now, *port)));
    }

    /// How often the parameters of a chunk were read so far, by shard.
    pub fn reads(&self) -> BTreeMap<u16, u64> {
        self.notes().reads.clone()
    }

    /// How many reports were made so far, by shard.
    pub fn reports(&self) -> BTreeMap<u16, u64> {
        self.notes().reports.clone()
    }

    /// How many sessions have claimed so far.
    pub fn claimers(&self) -> usize {
        distinct(self.notes().sent.iter())
    }

    /// The claims sent since `start` that came upon work, or that somebody who had been woken since sent: all but the looks of
    /// workers that nobody told of anything, and that found nothing. Also by how many workers they were sent.
    pub fn caused_since(&self, start: Instant) -> (usize, usize) {
        let notes = self.notes();
        let was_woken = |sent: &Sent| {
            let port = notes.ports.iter().find(|(session, _)| *session == sent.session).map(|(_, port)| *port);
            notes.woken.iter().any(|(at, woken)| Some(*woken) == port && *at >= start && *at <= sent.at)
        };
        let caused = || notes.sent.iter().filter(|sent| sent.at >= start && (sent.found || was_woken(sent)));
        (caused().count(), distinct(caused()))
    }
}

fn distinct<'a>(sent: impl Iterator<Item = &'a Sent>) -> usize {
    sent.map(|sent| sent.session).collect::<HashSet<SessionId>>().len()
}

/// Verbs that are passed on as they are.
macro_rules! pass_on {
    ($($verb:ident($($name:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $verb(&self, $($name: $type),*) -> Answer<'_, $answer> {
            self.inner.$verb($($name),*)
        }
    )*};
}

/// Verbs whose answers say whom to wake.
macro_rules! note_woken {
    ($($verb:ident($name:ident: $type:ty) -> $answer:ty;)*) => {$(
        fn $verb(&self, $name: $type) -> Answer<'_, $answer> {
            let asked = self.inner.$verb($name);
            async move {
                let answer = asked.await?;
                self.note_woken(&answer.woken);
                Ok(answer)
            }
            .boxed()
        }
    )*};
}

impl Store for Watched {
    fn join(&self, session: Session) -> Answer<'_, ()> {
        self.notes().ports.extend(session.wake_port.map(|port| (session.id, port)));
        self.inner.join(session)
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        let (at, session) = (Instant::now(), claim.session);
        let asked = self.inner.claim(claim);
        async move {
            let claimed = asked.await?;
            self.note_woken(&claimed.woken);
            let mut notes = self.notes();
            notes.sent.push(Sent { at, session, found: !claimed.slices.is_empty() || !claimed.empty });
            notes.shards.extend(claimed.slices.iter().map(|slice| ((session, slice.lease), slice.workflow.shard())));
            drop(notes);
            Ok(claimed)
        }
        .boxed()
    }

    fn resume(&self, workflow: WorkflowId) -> Answer<'_, Woken> {
        let asked = self.inner.resume(workflow);
        async move { asked.await.inspect(|woken| self.note_woken(woken)) }.boxed()
    }

    fn report(&self, report: Report) -> Answer<'_, Reported> {
        let mut notes = self.notes();
        let of = |lease: &LeaseReport| notes.shards.get(&(report.session, lease.lease)).copied();
        for shard in report.leases.iter().filter_map(of).collect::<BTreeSet<u16>>() {
            *notes.reports.entry(shard).or_default() += 1;
        }
        drop(notes);
        let asked = self.inner.report(report);
        async move { asked.await.inspect(|reported| self.note_woken(&reported.woken)) }.boxed()
    }

    fn parameters(&self, chunk: ChunkRef) -> Answer<'_, Parameters> {
        *self.notes().reads.entry(chunk.shard).or_default() += 1;
        self.inner.parameters(chunk)
    }

    note_woken! {
        leave(session: SessionId) -> Left;
        create(create: Create) -> Created;
        enqueue(enqueue: Enqueue) -> Enqueued;
        add_jobs(add: AddJobs) -> Added;
        close_batch(close: CloseBatch) -> ClosedBatch;
        tick(tick: Tick) -> Ticked;
        signal(send: SendSignal) -> Signalled;
        fire(fire: Fire) -> Fired;
        permit(permit: Permit) -> Permitted;
        take_over(take: TakeOver) -> TakenOver;
    }

    pass_on! {
        append(append: Append) -> ();
        begin(begin: Begin) -> Begun;
        abandon(workflow: WorkflowId, draft: DraftKey) -> ();
        keep(workflow: WorkflowId, keeping: Keeping) -> Kept;
        put_schedule(put: PutSchedule) -> Option<ScheduleRow>;
        change_schedule(shard: u16, name: String, change: ChangeSchedule) -> Changed;
        schedules(after: String, limit: u32) -> Vec<ScheduleRow>;
        occurrences(shard: u16, name: String, before: Millis, limit: u32) -> Vec<OccurrenceRow>;
        renew(renew: Renew) -> Renewed;
        cancel(workflow: WorkflowId, grace: Millis) -> ();
        cancel_jobs(cancel: CancelJobs) -> CancelledJobs;
        save_checkpoint(save: SaveCheckpoint) -> ();
        take_draft(take: TakeDraft) -> TakenDraft;
        adopt(adopt: Adopt) -> Adopted;
        emitted(chunk: ChunkRef, at: u16) -> Emitted;
        checkpoint(chunk: ChunkRef, at: u16) -> Option<Vec<u8>>;
        children(workflow: WorkflowId, step: StepNumber, from: u64, limit: u32) -> Vec<ChildRow>;
        pause(workflow: WorkflowId) -> ();
        set_paused(what: Pausable, paused: bool) -> Woken;
        paused() -> Vec<Pausable>;
        retry(retry: RetryFailed) -> Retried;
        run_again(run: RunAgain) -> RanAgain;
        decide_by_hand(decide: DecideByHand) -> DecidedByHand;
        resume_step(resume: ResumeStep) -> ResumedStep;
        delete(workflow: WorkflowId) -> ();
        workflow(workflow: WorkflowId) -> WorkflowRow;
        workflows(list: List) -> Vec<WorkflowRow>;
        steps(workflow: WorkflowId, from: StepNumber, limit: u32) -> Vec<StepRow>;
        step_named(workflow: WorkflowId, name: String) -> Option<StepRow>;
        edges(workflow: WorkflowId, step: StepNumber, upstream: bool, limit: u32) -> Vec<EdgeRow>;
        outcomes(workflow: WorkflowId, step: StepNumber, from: u64, after: u64) -> Vec<ChunkOutcomes>;
        outcomes_of_chunk(workflow: WorkflowId, step: StepNumber, index: u64, after: u64) -> Option<ChunkOutcomes>;
        errors(workflow: WorkflowId, step: StepNumber) -> Vec<ErrorRow>;
        waiting(workflow: WorkflowId, step: StepNumber) -> Waiting;
        whereabouts(workflow: WorkflowId, step: StepNumber, index: u64) -> Whereabouts;
        size(workflow: WorkflowId) -> WorkflowSize;
        workers(limit: u32) -> Vec<WorkerRow>;
        held(session: SessionId, limit: u32) -> Vec<HeldRow>;
        doctor() -> Checkup;
        identity() -> u64;
    }

    fn meters(&self) -> &gusher::store::Meters {
        self.inner.meters()
    }

    fn now(&self) -> Millis {
        self.inner.now()
    }

    fn lease(&self) -> Millis {
        self.inner.lease()
    }

    fn next_shard(&self) -> u16 {
        self.inner.next_shard()
    }

    fn shards(&self) -> u16 {
        self.inner.shards()
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
