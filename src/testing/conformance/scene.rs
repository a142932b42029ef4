//! What a case plays in: a fresh store, a clock that stands until the case moves it, and short words for what people and workers do.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

pub use super::plan::Plan;
pub use super::worker::Worker;
use crate::clock::{Clock, Millis};
use crate::error::{ErrorKind, Result};
use crate::graph::{StepNumber, StepSpec};
use crate::id::{SessionId, WorkflowId};
use crate::payload::Chunk;
use crate::retention::Retention;
use crate::slice::Mask;
use crate::state::{Counts, EdgeKind, JobState, StepState, WorkflowState};
use crate::store::{
    Append, Begin, Begun, ByHand, Checkup, Claim, Create, DecideByHand, DraftKey, DraftOf, Enqueue, Key, Lane, List,
    LoneJobs, NewWorkflow, Overlap, Part, Renew, ResumeStep, Retried, RetryFailed, RunAgain, SendSignal, Session,
    Signalled, Slice, StepRow, Store, Tick, WorkflowRow,
};

/// How long every lease lasts, unless a case says otherwise.
pub const LEASE: Millis = 1_000;
/// When every case begins.
pub const START: Millis = 1_800_000_000_000;
/// The job type, and the queue, of a step that is not told another.
pub const ROW: &str = "Row";
/// The other job type.
pub const OTHER: &str = "Other";
/// The queue of a step that is not told another.
pub const QUEUE: &str = "default";

/// More ticks than any case needs: a store that always finds something to do is wrong.
const MOST_TICKS: usize = 20_000;

/// A store, its clock, and whoever uses it.
pub struct Scene {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    /// Writes the drafts of workflows that are too large for one call, and gives commands.
    client: SessionId,
    numbers: Cell<u64>,
    shard: Cell<Option<u16>>,
}

impl Scene {
    /// A scene on a store that nobody has used yet.
    pub async fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        let client = Session { types: Vec::new(), lease: 3_600_000, ..session() };
        store.join(client.clone()).await.expect("a client joins");
        Self { store, clock, client: client.id, numbers: Cell::new(0), shard: Cell::new(None) }
    }

    /// From here on all workflows are on one shard: turns, priorities and wake-ups are kept within each.
    pub fn stay_on_one_shard(&self) {
        self.shard.set(Some(self.store.next_shard()));
    }

    /// The id of a workflow to be.
    pub fn new_id(&self) -> WorkflowId {
        WorkflowId::new(self.clock.now(), self.shard.get().unwrap_or_else(|| self.store.next_shard()))
    }

    /// The session of whoever builds.
    pub fn client(&self) -> SessionId {
        self.client
    }

    /// Numbers for drafts and commands, each once.
    pub fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// A workflow to be described step by step.
    pub fn plan(&self) -> Plan<'_> {
        Plan::new(self)
    }

    /// A workflow of two steps: `jobs` jobs called `rows`, then one called `report`.
    pub async fn rows(&self, jobs: u32) -> WorkflowId {
        self.plan().step("rows", jobs).step("report", 1).edge(0, 1, EdgeKind::After).create().await
    }

    /// A workflow of one step of `jobs` jobs.
    pub async fn lone(&self, jobs: u32) -> WorkflowId {
        self.plan().step("rows", jobs).create().await
    }

    /// A workflow of one step of two jobs that is kept so once it has finished.
    pub async fn kept(&self, retention: Retention) -> WorkflowId {
        self.plan().retention(retention).step("rows", 2).create().await
    }

    /// How a workflow begins that is to hold a key.
    pub fn keyed(&self, key: &str) -> Begin {
        let id = WorkflowId::new(self.clock.now(), 0);
        let key = Some(Key { key: key.into(), overlap: Overlap::Skip });
        let draft = DraftKey { session: self.client, number: self.number() };
        Begin { draft, workflow: NewWorkflow { key, ..new_workflow(id) }, lease: LEASE }
    }

    pub async fn begin(&self, begin: &Begin) -> Begun {
        self.store.begin(begin.clone()).await.expect("it begins, or is told who is in its way")
    }

    /// Makes a workflow that has begun, of one step of three jobs.
    pub async fn make(&self, begin: &Begin) -> WorkflowId {
        let parts = vec![root("rows"), jobs_part(0, 3)];
        let made = Create { workflow: begin.workflow.clone(), draft: Some(begin.draft), parts, again: false };
        assert!(!self.store.create(made).await.expect("a workflow is made").existed);
        begin.workflow.id
    }

    /// Begins and makes it.
    pub async fn started(&self, begin: &Begin) -> WorkflowId {
        assert_eq!(self.begin(begin).await, Begun::default());
        self.make(begin).await
    }

    /// A workflow that has succeeded, of one step of `jobs` jobs.
    pub async fn succeeded(&self, jobs: u32) -> WorkflowId {
        let id = self.lone(jobs).await;
        let worker = self.worker().await;
        worker.run().await;
        self.leave(&worker).await;
        assert_eq!(self.state(id).await, WorkflowState::Succeeded);
        id
    }

    /// A workflow as [`rows`](Self::rows) makes it, all of whose rows have failed with the text `broken`.
    pub async fn failed(&self, jobs: u32) -> WorkflowId {
        let id = self.rows(jobs).await;
        let worker = self.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "broken").await;
        }
        self.leave(&worker).await;
        assert_eq!(self.state(id).await, WorkflowState::Failed);
        id
    }

    /// A workflow whose first step, a source, feeds the second; a third, `report`, comes behind the rows.
    pub async fn source(&self) -> WorkflowId {
        self.sources(1).await
    }

    /// The same with so many sources in the first step.
    pub async fn sources(&self, sources: u32) -> WorkflowId {
        self.plan()
            .step_with("source", sources, |source| source.feeds = Some(1))
            .step("rows", 0)
            .step("report", 1)
            .edge(0, 1, EdgeKind::Feeds)
            .edge(1, 2, EdgeKind::After)
            .create()
            .await
    }

    /// A worker that knows [`ROW`] and takes from [`QUEUE`].
    pub async fn worker(&self) -> Worker<'_> {
        self.worker_with(|_| ()).await
    }

    /// A worker that is a little different.
    pub async fn worker_with(&self, change: impl FnOnce(&mut Session)) -> Worker<'_> {
        let mut session = session();
        change(&mut session);
        self.store.join(session.clone()).await.expect("a worker joins");
        Worker::new(self, session)
    }

    /// The worker ends as one that is told to.
    pub async fn leave(&self, worker: &Worker<'_>) {
        while self.store.leave(worker.session.id).await.expect("a worker leaves").more {}
    }

    /// Ticks until nothing is due any more.
    pub async fn tick(&self) {
        for _ in 0..MOST_TICKS {
            if !self.store.tick(Tick { lease: LEASE }).await.expect("a tick").more {
                return;
            }
        }
        panic!("after {MOST_TICKS} ticks there is still something due");
    }

    /// Time goes by in steps that somebody sees.
    pub async fn wait(&self, time: Millis) {
        for _ in 0..time / 100 {
            self.clock.advance(100);
            self.tick().await;
        }
    }

    /// So much time goes by that whoever does not renew has lost what it holds.
    pub async fn leases_end(&self) {
        self.wait(LEASE + 200).await;
    }

    pub async fn row(&self, id: WorkflowId) -> WorkflowRow {
        self.store.workflow(id).await.expect("the workflow is there")
    }

    pub async fn state(&self, id: WorkflowId) -> WorkflowState {
        self.row(id).await.state
    }

    pub async fn jobs(&self, id: WorkflowId) -> Counts {
        self.row(id).await.jobs
    }

    pub async fn step(&self, id: WorkflowId, step: StepNumber) -> StepRow {
        let mut rows = self.store.steps(id, step, 1).await.expect("the steps are there");
        assert_eq!(rows.len(), 1, "step {step} is there");
        rows.remove(0)
    }

    pub async fn step_state(&self, id: WorkflowId, step: StepNumber) -> StepState {
        self.step(id, step).await.state
    }

    /// The states of a step's jobs.
    pub async fn job_states(&self, id: WorkflowId, step: StepNumber) -> Vec<JobState> {
        self.bytes(id, step).await.into_iter().map(JobState::of).collect()
    }

    /// The bytes of a step's jobs.
    pub async fn bytes(&self, id: WorkflowId, step: StepNumber) -> Vec<u8> {
        crate::testing::job_bytes(&*self.store, id, step).await.expect("the outcomes are there")
    }

    /// How often the worker of each job of a step's first chunk died.
    pub async fn recoveries(&self, id: WorkflowId, step: StepNumber) -> Vec<u8> {
        self.store.outcomes(id, step, 0, 0).await.expect("the outcomes are there").remove(0).recoveries
    }

    /// The error texts of a step with their counts, most frequent first.
    pub async fn errors(&self, id: WorkflowId, step: StepNumber) -> Vec<(String, u64)> {
        let rows = self.store.errors(id, step).await.expect("the errors are there");
        let mut errors: Vec<(String, u64)> =
            rows.into_iter().filter(|row| row.jobs > 0).map(|row| (row.text, row.jobs)).collect();
        errors.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        errors
    }

    pub async fn cancel(&self, id: WorkflowId, grace: Millis) {
        self.store.cancel(id, grace).await.expect("a cancel");
    }

    pub async fn pause(&self, id: WorkflowId) {
        self.store.pause(id).await.expect("a pause");
    }

    /// Resumes; returns the ports of those to be woken.
    pub async fn resume(&self, id: WorkflowId) -> Vec<u16> {
        self.store.resume(id).await.expect("a resume").0
    }

    /// Deletes, to the end.
    pub async fn delete(&self, id: WorkflowId) {
        self.store.delete(id).await.expect("a delete");
        self.tick().await;
    }

    /// A command to retry all failed jobs, with a number of its own.
    pub fn retry_of(&self, id: WorkflowId) -> RetryFailed {
        RetryFailed {
            session: self.client,
            command: self.number(),
            workflow: id,
            step: None,
            mended: None,
            discard: false,
        }
    }

    /// Retries all failed jobs, to the end.
    pub async fn retry(&self, id: WorkflowId) -> Retried {
        let retried = self.store.retry(self.retry_of(id)).await.expect("a retry");
        self.tick().await;
        retried
    }

    /// A command to run a step again, perhaps with all that comes after it, with a number of its own.
    pub fn run_again_of(&self, id: WorkflowId, step: StepNumber, again: bool) -> RunAgain {
        RunAgain { session: self.client, command: self.number(), workflow: id, step, again }
    }

    /// Runs a step again, to where workers are needed.
    pub async fn run_again(&self, id: WorkflowId, step: StepNumber, again: bool) -> u64 {
        let told = self.store.run_again(self.run_again_of(id, step, again)).await.expect("a step runs again");
        self.tick().await;
        told.jobs
    }

    /// What a person decides about jobs of a step, with a command number of its own.
    pub fn by_hand_of(&self, id: WorkflowId, step: StepNumber, what: ByHand) -> DecideByHand {
        DecideByHand { session: self.client, command: self.number(), workflow: id, step, what }
    }

    /// Brings about what a person has decided; returns about how many jobs.
    pub async fn by_hand(&self, id: WorkflowId, step: StepNumber, what: ByHand) -> u64 {
        let told = self.store.decide_by_hand(self.by_hand_of(id, step, what)).await.expect("jobs are settled by hand");
        self.tick().await;
        told.jobs
    }

    /// A command to let a step go on, with a number of its own.
    pub fn resume_step_of(&self, id: WorkflowId, step: StepNumber) -> ResumeStep {
        ResumeStep { session: self.client, command: self.number(), workflow: id, step }
    }

    /// Lets a step go on that has paused by itself; returns whether it had.
    pub async fn resume_step(&self, id: WorkflowId, step: StepNumber) -> bool {
        self.store.resume_step(self.resume_step_of(id, step)).await.expect("a step goes on").was_paused
    }

    /// A signal of the type `Approval` that carries these bytes, with a command number of its own.
    pub fn signal_of(&self, id: WorkflowId, name: &str, record: &[u8]) -> SendSignal {
        SendSignal {
            session: self.client,
            command: self.number(),
            workflow: id,
            name: name.into(),
            signal_type: "Approval".into(),
            record: record.to_vec(),
        }
    }

    /// Gives it, and does whatever that leaves to chores.
    pub async fn signal(&self, id: WorkflowId, name: &str) -> Signalled {
        let signalled = self.store.signal(self.signal_of(id, name, b"approved")).await.expect("a signal");
        self.tick().await;
        signalled
    }

    /// The outcome records of a step's first chunk.
    pub async fn records(&self, id: WorkflowId, step: StepNumber) -> Vec<Vec<u8>> {
        self.store.outcomes(id, step, 0, 0).await.expect("the outcomes are there").remove(0).records
    }

    /// The lane of a type in [`QUEUE`], on one shard for all of a case.
    pub fn lane(&self, job_type: &str, priority: i32) -> Lane {
        let shard = self.shard.get().unwrap_or_else(|| self.store.next_shard());
        self.shard.set(Some(shard));
        Lane::new(shard, QUEUE, priority, job_type)
    }

    /// A command to take lone jobs, with a number of its own.
    pub fn enqueue_of(&self, jobs: Vec<LoneJobs>) -> Enqueue {
        Enqueue { session: self.client, command: self.number(), jobs }
    }

    /// A draft's first call: what it is of, and its parts.
    pub fn draft(&self, of: DraftOf, parts: Vec<Part>) -> Append {
        let draft = DraftKey { session: self.client, number: self.number() };
        Append { draft, of, number: 0, parts, lease: LEASE }
    }

    pub async fn append(&self, append: &Append) {
        self.store.append(append.clone()).await.expect("an append");
    }

    /// Keeps the client's drafts alive.
    pub async fn renew_drafts(&self, drafts: &[DraftKey]) {
        let drafts = drafts.iter().map(|draft| draft.number).collect();
        let renew = Renew { session: self.client, leases: vec![], drafts, progress: vec![], lease: LEASE };
        self.store.renew(renew).await.expect("a renewal");
    }

    /// Writes new parameters for jobs of the first chunk of a step into a draft.
    pub async fn mend(&self, id: WorkflowId, step: StepNumber, jobs: Mask, body: &str) -> DraftKey {
        let chunk = self.store.outcomes(id, step, 0, 0).await.expect("the outcomes are there")[0].chunk.id;
        let part = Part::Mended { chunk, first: 0, jobs, body: body.as_bytes().to_vec() };
        let append = self.draft(DraftOf::Mended { workflow: id, step }, vec![part]);
        self.append(&append).await;
        append.draft
    }

    /// Workflows, newest first.
    pub async fn list(&self, list: List) -> Vec<WorkflowId> {
        let list = List { limit: 1_000, ..list };
        self.store.workflows(list).await.expect("a list").iter().map(|row| row.id).collect()
    }

    pub async fn checkup(&self) -> Checkup {
        self.store.doctor().await.expect("a checkup")
    }

    pub async fn under_way(&self) -> u64 {
        self.checkup().await.under_way
    }

    /// What must hold at every moment: each count equals a recount, and no operation has gone over a bound.
    pub async fn check(&self) {
        assert_eq!(self.checkup().await.findings, Vec::<String>::new(), "the doctor's findings");
        assert_eq!(self.store.meters().over_bounds(), Vec::new(), "operations over a bound");
    }

    /// The check, and nothing is under way: what has come to rest leaves nothing behind.
    pub async fn at_rest(&self) {
        self.check().await;
        assert_eq!(self.under_way().await, 0, "leases, entries, timers, chores, drafts, holds that are left");
    }

    /// Brings everything to its end, whatever a case has left: workflows are cancelled, leases and drafts run out, what always runs
    /// runs, all is deleted. Then the store must be as empty as before.
    pub async fn sweep(&self) {
        self.check().await;
        for id in self.list(List::default()).await {
            if !self.state(id).await.is_finished() {
                self.cancel(id, 0).await;
            }
        }
        // The longest lease of any case lasts a minute.
        for _ in 0..100 {
            // With one look, time goes on by half a lease at most.
            for _ in 0..3 {
                self.clock.advance(LEASE / 2);
                self.tick().await;
            }
            if self.checkup().await.leases == 0 {
                break;
            }
        }
        self.clock.advance(48 * 3_600_000);
        self.tick().await;
        let worker = self.worker_with(|about| about.types.push(OTHER.into())).await;
        for _ in 0..200 {
            let claimed = worker.send(Claim { alone: true, ..worker.wish(1024, 16) }).await;
            for slice in &claimed.slices {
                worker.succeed(slice).await;
            }
            self.tick().await;
            // What settles may let another come.
            if claimed.empty && claimed.slices.is_empty() {
                break;
            }
        }
        let mut rows = Vec::new();
        for id in self.list(List::default()).await {
            rows.push(self.row(id).await);
        }
        // What stands for a job goes with the workflow of that job.
        for row in rows.iter().filter(|row| row.parent.is_none()) {
            let id = row.id;
            assert!(row.state.is_finished(), "at its end a workflow is {}: {row:?}", row.state);
            self.delete(id).await;
        }
        self.leave(&worker).await;
        // Lanes stay, and keep what failed for a while.
        self.clock.advance(31 * 24 * 3_600_000);
        self.tick().await;
        self.at_rest().await;
        for lane in self.list(List { state: Some(WorkflowState::Standing), ..List::default() }).await {
            assert_eq!(self.jobs(lane).await, Counts::default(), "jobs that a lane keeps for ever");
        }
        assert_eq!(self.checkup().await.workflows, 0, "workflows after all have been deleted");
    }
}

/// A session of a worker that nobody has had before.
pub fn session() -> Session {
    Session {
        host: "test".into(),
        pid: 1,
        queues: vec![QUEUE.into()],
        types: vec![ROW.into()],
        slots: 4,
        ..Session::new(LEASE)
    }
}

/// What a workflow is, apart from its graph.
pub fn new_workflow(id: WorkflowId) -> NewWorkflow {
    NewWorkflow {
        id,
        name: "Test".into(),
        arguments: r#"{"of":"test"}"#.into(),
        generation: 0,
        retention: Retention::for_ever(),
        key: None,
        occurrence: None,
        parent: None,
    }
}

/// A step without edges into it.
pub fn root(name: &str) -> Part {
    Part::Step {
        spec: StepSpec { name: name.into(), ..StepSpec::new(ROW, QUEUE) },
        upstreams: 0,
        always: false,
        awaits: None,
    }
}

/// The next jobs of a step.
pub fn jobs_part(step: StepNumber, jobs: u32) -> Part {
    Part::Jobs { step, chunk: chunk(jobs, "some jobs") }
}

/// A chunk; a store never looks into its body.
pub fn chunk(jobs: u32, body: &str) -> Chunk {
    Chunk { jobs, body: body.as_bytes().to_vec() }
}

/// The one job at a position.
pub fn job(at: usize) -> Mask {
    Mask::range(at..at + 1)
}

/// The jobs of slices, in order.
pub fn jobs_of(slices: &[Slice]) -> Vec<u64> {
    let mut jobs: Vec<u64> = slices
        .iter()
        .flat_map(|slice| slice.jobs.iter().map(|at| slice.first + at as u64).collect::<Vec<_>>())
        .collect();
    jobs.sort_unstable();
    jobs
}

/// How many jobs slices hold.
pub fn count_jobs(slices: &[Slice]) -> usize {
    slices.iter().map(|slice| slice.jobs.len()).sum()
}

/// What kind of error ended a call that must not succeed.
pub fn refusal<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("the call must be refused").kind()
}

/// Somebody asks, and the answer is lost: what was asked for has been done.
pub async fn lose<T>(answer: impl Future<Output = Result<T>>) {
    answer.await.expect("what is asked for is done");
}

/// For `StepSpec::delay` and the like.
pub fn milliseconds(time: Millis) -> Duration {
    Duration::from_millis(time.unsigned_abs())
}
