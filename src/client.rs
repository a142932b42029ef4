//! What a program does with workflows from outside: start, find, list, watch, command.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::app::{Registry, arguments_of, plan_of};
use crate::clock::{Millis, millis};
use crate::creation;
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};
use crate::outputs::{ChunkParameters, Failure, complete, error_text, failures};
use crate::payload::ChunkBuilder;
use crate::record::Record;
use crate::state::{JobState, WorkflowState, attempts};
use crate::store::{
    Append, ChunkOutcomes, DraftKey, DraftOf, List, NewWorkflow, Part, Retried, RetryFailed, Session, StepRow, Store,
    Tick, WorkflowRow,
};
use crate::view::{AttemptView, ErrorGroup, JobView, WorkflowView, pattern};
use crate::wake::wake;
use crate::workflow::{Plan, Workflow};

/// How long running jobs have to come to their end once their workflow has been cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// How many steps a workflow's view holds unless more are asked for.
const STEPS_SHOWN: u32 = 1000;

/// A client of a store: starts workflows and tells of them. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    session: SessionId,
    next_draft: Arc<AtomicU64>,
    /// The number of the next command; commands of a session go one at a time.
    next_command: Arc<Mutex<u64>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, session {})", crate::store::without_passwords(&self.store.url()), self.session)
    }
}

impl Client {
    pub(crate) fn new(store: Arc<dyn Store>, registry: Arc<Registry>) -> Self {
        Self {
            store,
            registry,
            session: SessionId::random(),
            next_draft: Arc::new(AtomicU64::new(1)),
            next_command: Arc::new(Mutex::new(0)),
        }
    }

    /// What keeps the broker of a queue from carrying its slices, if it has one and something does.
    pub(crate) async fn broker_trouble(&self, queue: &str) -> Option<String> {
        self.registry.brokers.trouble(queue).await
    }

    /// The broker of a queue; none if it goes by the store's own lines.
    #[cfg(feature = "cli")]
    pub(crate) fn broker_of(&self, queue: &str) -> Result<Option<Arc<dyn crate::broker::Broker>>> {
        self.registry.brokers.of(queue)
    }

    /// Which queues the registered types have.
    #[cfg(feature = "cli")]
    pub(crate) fn queues(&self) -> std::collections::BTreeSet<&'static str> {
        self.registry.kinds.values().map(|kind| kind.queue).collect()
    }

    /// The store that it talks to.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Creates a workflow; it runs from now on. Nothing is left of one whose creation fails.
    pub async fn start<W: Workflow>(&self, workflow: W) -> Result<Handle> {
        self.start_counted(workflow, Arc::default()).await
    }

    /// Like [`start`](Self::start); counts the jobs that have been created so far in `created`, for who watches.
    pub async fn start_counted<W: Workflow>(&self, workflow: W, created: Arc<AtomicU64>) -> Result<Handle> {
        self.create(W::NAME, arguments_of(&workflow)?, plan_of(&workflow)?, created).await
    }

    /// Creates a workflow under the id that a key gives it, made at `since`; finds the one that is there already.
    pub(crate) async fn start_by_key<W: Workflow>(&self, workflow: W, since: Millis, key: &str) -> Result<Handle> {
        let id = WorkflowId::derived(since, self.store.shards(), key);
        self.create_as(id, W::NAME, arguments_of(&workflow)?, plan_of(&workflow)?, Arc::default()).await
    }

    /// Creates a workflow by its registered name, with its arguments as JSON.
    pub async fn start_named(&self, name: &str, arguments: &RawValue, created: Arc<AtomicU64>) -> Result<Handle> {
        let (arguments, plan) = self.registry.plan(name, arguments)?;
        self.create(name, arguments, plan, created).await
    }

    async fn create(&self, name: &str, arguments: String, plan: Plan, created: Arc<AtomicU64>) -> Result<Handle> {
        let id = WorkflowId::new(self.store.now(), self.store.next_shard());
        self.create_as(id, name, arguments, plan, created).await
    }

    async fn create_as(
        &self,
        id: WorkflowId,
        name: &str,
        arguments: String,
        plan: Plan,
        created: Arc<AtomicU64>,
    ) -> Result<Handle> {
        crate::graph::check_name("workflow", name)?;
        crate::payload::check_size("arguments", arguments.len())?;
        let workflow = NewWorkflow { id, name: name.to_owned(), arguments, generation: 0 };
        self.write(workflow, plan, false, created).await
    }

    async fn write(&self, workflow: NewWorkflow, plan: Plan, again: bool, jobs: Arc<AtomicU64>) -> Result<Handle> {
        self.registry.check(&workflow.name, &plan)?;
        let (id, name) = (workflow.id, workflow.name.clone());
        let created = creation::create(&self.store, workflow, plan, self.new_draft(), again, jobs).await;
        let created = created.map_err(|error| error.during(format_args!("creating {name}")))?;
        wake(&created.woken);
        if created.more {
            self.lend_a_hand().await;
        }
        Ok(self.handle(id))
    }

    /// Runs a finished workflow anew under the same id: its steps are configured from its arguments again, its sources expand
    /// anew, and its generation goes up by one. What it had is deleted.
    pub async fn start_again(&self, id: WorkflowId, created: Arc<AtomicU64>) -> Result<Handle> {
        let row = self.store.workflow(id).await?;
        if !row.state.is_finished() {
            return Err(Error::refused(format!(
                "workflow {id} is {}; only a finished one can be started again (cancel it first)",
                row.state
            )));
        }
        let (arguments, plan) = self.registry.plan(&row.name, &crate::view::raw(row.arguments))?;
        let workflow = NewWorkflow { id, name: row.name, arguments, generation: row.generation + 1 };
        self.write(workflow, plan, true, created).await
    }

    /// The graph of a registered workflow, without creating it.
    pub fn plan(&self, name: &str, arguments: &RawValue) -> Result<crate::graph::Graph> {
        Ok(self.registry.plan(name, arguments)?.1.graph)
    }

    /// The names of the registered workflows.
    pub fn workflow_names(&self) -> Vec<&'static str> {
        self.registry.workflows.keys().copied().collect()
    }

    /// A handle on a workflow that is in the store.
    pub async fn find(&self, id: WorkflowId) -> Result<Handle> {
        self.store.workflow(id).await?;
        Ok(self.handle(id))
    }

    /// The workflow of type `W` that was created last.
    pub async fn latest<W: Workflow>(&self) -> Result<Option<Handle>> {
        let list = List { name: Some(W::NAME.to_owned()), limit: 1, ..List::default() };
        Ok(self.store.workflows(list).await?.first().map(|row| self.handle(row.id)))
    }

    fn handle(&self, id: WorkflowId) -> Handle {
        Handle { client: self.clone(), id }
    }

    /// Workflows, newest first; narrow them down, then [`stream`](Workflows::stream).
    pub fn workflows(&self) -> Workflows {
        Workflows { store: self.store.clone(), list: List { limit: 100, ..List::default() }, finished_before: None }
    }

    fn new_draft(&self) -> DraftKey {
        DraftKey { session: self.session, number: self.next_draft.fetch_add(1, Ordering::Relaxed) }
    }

    /// Goes on with the store's chores until none is left: whoever asks for something large lends a hand. What was asked for is
    /// recorded already, and ticks of workers go on with it, so an error here is only worth a line in the log.
    async fn lend_a_hand(&self) {
        loop {
            match self.store.tick(Tick { lease: self.store.lease() }).await {
                Ok(ticked) => {
                    wake(&ticked.woken);
                    if !ticked.more {
                        return;
                    }
                }
                Err(error) => return tracing::warn!(%error, "a chore is left to the workers"),
            }
        }
    }

    /// Sends one command, with the number that makes it count once.
    async fn retry(&self, workflow: WorkflowId, step: Option<StepNumber>, mended: Option<DraftKey>) -> Result<Retried> {
        let mut number = self.next_command.lock().await;
        if *number == 0 {
            self.store.join(self.as_session()).await?;
        }
        *number += 1;
        let retry = RetryFailed { session: self.session, command: *number, workflow, step, mended };
        let retried = match self.store.retry(retry.clone()).await {
            Err(error) if error.kind() == ErrorKind::NotFound && error.to_string().contains("session") => {
                // Idle for more than ten minutes: the store has forgotten the session, and with it its commands.
                self.store.join(self.as_session()).await?;
                self.store.retry(retry).await?
            }
            other => other?,
        };
        drop(number);
        if retried.more {
            self.lend_a_hand().await;
        }
        Ok(retried)
    }

    fn as_session(&self) -> Session {
        Session {
            id: self.session,
            host: crate::worker::hostname(),
            pid: std::process::id(),
            queues: Vec::new(),
            types: Vec::new(),
            slots: 0,
            wake_port: None,
            lease: self.store.lease(),
        }
    }
}

/// A selection of workflows.
#[derive(Debug)]
pub struct Workflows {
    store: Arc<dyn Store>,
    list: List,
    finished_before: Option<Millis>,
}

impl Workflows {
    /// Only workflows of type `W`.
    pub fn of<W: Workflow>(self) -> Self {
        self.named(W::NAME)
    }

    /// Only workflows of the type registered under `name`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.list.name = Some(name.into());
        self
    }

    /// Only workflows in that state.
    pub fn state(mut self, state: WorkflowState) -> Self {
        self.list.state = Some(state);
        self
    }

    /// Only workflows created at or after a time.
    pub fn created_from(mut self, time: Millis) -> Self {
        self.list.created_from = Some(time);
        self
    }

    /// Only workflows created before a time.
    pub fn created_before(mut self, time: Millis) -> Self {
        self.list.created_before = Some(time);
        self
    }

    /// Only workflows that finished before a time.
    pub fn finished_before(mut self, time: Millis) -> Self {
        self.finished_before = Some(time);
        // What finished before it was created before it.
        self.list.created_before = Some(self.list.created_before.map_or(time, |before| before.min(time)));
        self
    }

    /// Only workflows behind one of an earlier page.
    pub fn behind(mut self, created_at: Millis, id: WorkflowId) -> Self {
        self.list.after = Some((created_at, id));
        self
    }

    /// One page of at most `limit`, newest first.
    pub async fn page(mut self, limit: u32) -> Result<Vec<WorkflowView>> {
        self.list.limit = limit;
        let rows = self.store.workflows(self.list).await?;
        Ok(rows.into_iter().map(|row| WorkflowView::new(row, Vec::new())).collect())
    }

    /// All of them, newest first, fetched page by page.
    pub fn stream(self) -> BoxStream<'static, Result<WorkflowView>> {
        let finished_before = self.finished_before;
        futures::stream::try_unfold((self.store, Some(self.list)), |(store, list)| async move {
            let Some(mut list) = list else { return Ok::<_, Error>(None) };
            let page = store.workflows(list.clone()).await?;
            let next = page.last().filter(|_| page.len() as u32 == list.limit).map(|last| (last.created_at, last.id));
            let more = next.is_some();
            list.after = next;
            Ok(Some((futures::stream::iter(page.into_iter().map(Ok)), (store, more.then_some(list)))))
        })
        .try_flatten()
        .try_filter(move |row: &WorkflowRow| {
            let wanted = finished_before.is_none_or(|before| row.finished_at.is_some_and(|at| at < before));
            futures::future::ready(wanted)
        })
        .map_ok(|row| WorkflowView::new(row, Vec::new()))
        .boxed()
    }
}

/// One workflow in a store.
#[derive(Clone, Debug)]
pub struct Handle {
    client: Client,
    id: WorkflowId,
}

impl Handle {
    /// Its id.
    pub fn id(&self) -> WorkflowId {
        self.id
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.client.store
    }

    /// How it stands, with its first 1,000 steps.
    pub async fn status(&self) -> Result<WorkflowView> {
        self.status_with(STEPS_SHOWN).await
    }

    /// How it stands, with at most `steps` of its steps.
    pub async fn status_with(&self, steps: u32) -> Result<WorkflowView> {
        let row = self.store().workflow(self.id).await?;
        let steps = if steps == 0 { Vec::new() } else { self.store().steps(self.id, 0, steps).await? };
        Ok(WorkflowView::new(row, steps))
    }

    /// Waits until it has finished; returns how.
    pub async fn wait(&self) -> Result<WorkflowView> {
        let mut pause = Duration::from_millis(5);
        loop {
            let row = self.store().workflow(self.id).await?;
            if row.state.is_finished() {
                return self.status().await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Hands out nothing more of it. Running jobs are told, and have ten seconds to come to their end.
    pub async fn cancel(&self) -> Result<()> {
        self.store().cancel(self.id, millis(CANCEL_GRACE)).await?;
        self.client.lend_a_hand().await;
        Ok(())
    }

    /// Hands out nothing more of it until [`resume`](Self::resume).
    pub async fn pause(&self) -> Result<()> {
        self.store().pause(self.id).await
    }

    /// Undoes [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<()> {
        let woken = self.store().resume(self.id).await?;
        wake(&woken);
        Ok(())
    }

    /// Gives every failed job a new set of attempts, or only those of the step of that name; returns how many.
    pub async fn retry_failed(&self, step: Option<&str>) -> Result<u64> {
        let step = match step {
            Some(name) => Some(self.step(name).await?.number),
            None => None,
        };
        Ok(self.client.retry(self.id, step, None).await?.jobs)
    }

    /// Deletes it; it must have finished.
    pub async fn delete(&self) -> Result<()> {
        self.store().delete(self.id).await?;
        self.client.lend_a_hand().await;
        Ok(())
    }

    /// The step of that name.
    pub async fn step(&self, name: &str) -> Result<StepRow> {
        if let Some(step) = self.store().step_named(self.id, name.to_owned()).await? {
            return Ok(step);
        }
        let steps = self.store().steps(self.id, 0, STEPS_SHOWN).await?;
        let names: Vec<&str> = steps.iter().map(|step| step.spec.name.as_str()).collect();
        let near = did_you_mean(name, names.iter().copied());
        let some: Vec<&str> = names.iter().take(8).copied().collect();
        let more = if names.len() > some.len() { ", …" } else { "" };
        Err(Error::not_found(format!(
            "workflow {} has no step `{name}`{near} (there are: {}{more})",
            self.id,
            some.join(", ")
        )))
    }

    /// The jobs of a step that settled without success, with their errors and parameters.
    pub async fn failures(&self, step: &str) -> Result<BoxStream<'static, Result<Failure>>> {
        let step = self.step(step).await?;
        Ok(failures(self.store().clone(), self.id, step.number))
    }

    /// The failed jobs of a step by the kind of their errors, most first.
    pub async fn error_groups(&self, step: StepNumber, name: &str) -> Result<Vec<ErrorGroup>> {
        let mut groups: Vec<ErrorGroup> = Vec::new();
        for row in self.store().errors(self.id, step).await?.into_iter().filter(|row| row.jobs > 0) {
            let text = if row.text.is_empty() {
                "other errors, whose texts are kept with their jobs".to_owned()
            } else {
                row.text
            };
            let pattern = pattern(&text);
            match groups.iter_mut().find(|group| group.pattern == pattern) {
                Some(group) => group.jobs += row.jobs,
                None => groups.push(ErrorGroup { step: name.to_owned(), jobs: row.jobs, pattern, example: text }),
            }
        }
        groups.sort_by(|a, b| b.jobs.cmp(&a.jobs).then_with(|| a.pattern.cmp(&b.pattern)));
        Ok(groups)
    }

    /// One job, whole.
    pub async fn job(&self, step: &str, index: u64) -> Result<JobView> {
        let step = self.step(step).await?;
        let (number, name) = (step.number, &step.spec.name);
        if index >= step.jobs.total {
            let has = match step.jobs.total {
                0 => "it has no jobs (yet)".to_owned(),
                total => format!("its jobs are 0 to {}", total - 1),
            };
            return Err(Error::not_found(format!("step `{name}` has no job #{index}; {has}")));
        }
        let (chunk, texts) = pages_at(self.store(), self.id, number, index).await?;
        let at = (index - chunk.first) as usize;
        let parameters = ChunkParameters::unpack(&self.store().parameters(chunk.chunk).await?)?;
        let whereabouts = self.store().whereabouts(self.id, number, index).await?;
        let neighbours = |upstream| self.store().edges(self.id, number, upstream, 100);
        let (before, after) = (neighbours(false).await?, neighbours(true).await?);
        let byte = chunk.bytes[at];
        let state = JobState::of(byte);
        let mut view = JobView {
            workflow_id: self.id,
            step: number,
            index,
            name: name.clone(),
            job_type: step.spec.job_type.clone(),
            queue: step.spec.queue.clone(),
            state,
            attempts: u32::from(attempts(byte)),
            recoveries: chunk.recoveries.get(at).copied().map_or(0, u32::from),
            enqueued_at: step.released_at,
            started_at: None,
            finished_at: None,
            failed_at: None,
            due_at: whereabouts.due,
            worker: whereabouts.worker,
            progress: whereabouts.progress.map(crate::view::raw),
            after: after.into_iter().map(|edge| edge.name).collect(),
            before: before.into_iter().map(|edge| edge.name).collect(),
            params: parameters.json(at)?,
            output: None,
            errors: Vec::new(),
            logs: Vec::new(),
        };
        for record in &chunk.records {
            let record = Record::decode(record)?;
            for outcome in record.outcomes.into_iter().filter(|outcome| usize::from(outcome.at) == at) {
                view.started_at = Some(outcome.started);
                view.logs = outcome.logs;
                view.worker.get_or_insert_with(|| record.worker.clone());
                match outcome.result {
                    Ok(json) if state == JobState::Succeeded => {
                        view.finished_at = Some(outcome.finished);
                        view.output = Some(if json.is_empty() {
                            crate::view::raw("null".into())
                        } else {
                            crate::view::raw(String::from_utf8_lossy(&json).into_owned())
                        });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let error = error_text(&error, &texts);
                        if outcome.state == JobState::Cancelled {
                            view.finished_at = Some(outcome.finished);
                        } else {
                            view.failed_at = (state == JobState::Failed).then_some(outcome.finished);
                            view.errors.push(AttemptView {
                                attempt: u32::from(outcome.attempt),
                                at: outcome.finished,
                                error,
                            });
                        }
                    }
                }
            }
        }
        if state == JobState::Failed && view.failed_at.is_none() {
            view.errors.push(AttemptView {
                attempt: view.attempts + 1,
                at: step.finished_at.unwrap_or_default(),
                error: crate::record::KILLED.to_owned(),
            });
        }
        Ok(view)
    }

    /// Gives failed jobs of a step new parameters and a new set of attempts; returns how many. Each item is a job's index and its
    /// parameters as JSON; a job that has not failed is refused before anything is changed.
    pub async fn retry_mended(&self, step: &str, mended: Vec<(u64, Box<RawValue>)>) -> Result<u64> {
        let step = self.step(step).await?;
        let parts = self.mended_parts(&step, mended).await?;
        if parts.is_empty() {
            return Ok(0);
        }
        let jobs: usize =
            parts.iter().map(|part| if let Part::Mended { jobs, .. } = part { jobs.len() } else { 0 }).sum();
        let draft = self.client.new_draft();
        let lease = self.store().lease();
        let of = DraftOf::Mended { workflow: self.id, step: step.number };
        for (number, part) in (0..).zip(parts) {
            self.store().append(Append { draft, of: of.clone(), number, parts: vec![part], lease }).await?;
        }
        self.client.retry(self.id, Some(step.number), Some(draft)).await?;
        Ok(jobs as u64)
    }

    /// The new parameters by chunk, each checked against the job that it is for.
    async fn mended_parts(&self, step: &StepRow, mut mended: Vec<(u64, Box<RawValue>)>) -> Result<Vec<Part>> {
        mended.sort_by_key(|(index, _)| *index);
        if let Some(pair) = mended.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::usage(format!("job #{} is mended twice", pair[0].0)));
        }
        let mut parts = Vec::new();
        let mut mended = mended.into_iter().peekable();
        while let Some((index, _)) = mended.peek() {
            let index = *index;
            let refuse = |index| {
                Error::usage(format!(
                    "job #{index} of step `{}` has not failed, so there is nothing to mend",
                    step.spec.name
                ))
            };
            if index >= step.jobs.total {
                return Err(refuse(index));
            }
            let (chunk, _) = pages_at(self.store(), self.id, step.number, index).await?;
            let end = chunk.first + chunk.bytes.len() as u64;
            let mut jobs = crate::slice::Mask::EMPTY;
            let mut lines = ChunkBuilder::default();
            while let Some((index, json)) = mended.next_if(|(index, _)| *index < end) {
                let at = (index - chunk.first) as usize;
                if JobState::of(chunk.bytes[at]) != JobState::Failed {
                    return Err(refuse(index));
                }
                jobs.insert(at);
                let line = json.get().replace(['\n', '\r'], " ");
                if lines.push(line.as_bytes())?.is_some() {
                    return Err(Error::usage(format!(
                        "the mended parameters around job #{index} are too large together; mend fewer jobs at once"
                    )));
                }
            }
            if let Some(packed) = lines.finish() {
                parts.push(Part::Mended { chunk: chunk.chunk.id, first: chunk.first, jobs, body: packed.body });
            }
        }
        Ok(parts)
    }

    /// Every edge of the workflow, read step by step.
    pub async fn edges(&self, steps: &[crate::view::StepView]) -> Result<Vec<crate::view::EdgeView>> {
        let mut edges = Vec::new();
        for step in steps {
            for edge in self.store().edges(self.id, step.number, true, crate::graph::MAX_EDGES as u32).await? {
                edges.push(crate::view::EdgeView { up: edge.number, down: step.number, kind: edge.kind });
            }
        }
        Ok(edges)
    }
}

type PageAt = (ChunkOutcomes, Arc<std::collections::HashMap<u64, String>>);

/// The chunk that holds a job, and the step's error texts.
async fn pages_at(store: &Arc<dyn Store>, workflow: WorkflowId, step: StepNumber, index: u64) -> Result<PageAt> {
    let texts = store.errors(workflow, step).await?.into_iter().map(|row| (row.number, row.text)).collect();
    let page = store.outcomes(workflow, step, index, 0).await?;
    let holds = |chunk: &ChunkOutcomes| index >= chunk.first && index < chunk.first + chunk.bytes.len() as u64;
    let missing = || Error::corrupt(format!("job #{index} of step {step} is in no chunk"));
    let mut chunk = page.into_iter().next().filter(holds).ok_or_else(missing)?;
    complete(&**store, workflow, step, &mut chunk).await?;
    Ok((chunk, Arc::new(texts)))
}
