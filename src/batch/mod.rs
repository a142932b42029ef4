//! Batches: jobs of any types that belong together, and what runs after them. One is described, opened, filled and closed; jobs of it may add
//! further ones. In a store it is a workflow with steps that grow and steps that are callbacks (`store/batches.rs`).

mod inside;
mod open;
mod stream;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

pub(crate) use self::inside::Additions;
pub use self::inside::InBatch;
pub use self::open::OpenBatch;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::graph::{StepNumber, StepSpec};
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::job::{Job, JobError};
use crate::payload::{Chunk, ChunkBuilder};
use crate::retention::{KeepFor, Retention};
use crate::starting::New;
use crate::state::{BatchState, EdgeKind};
use crate::store::{AddJobs, Added, BATCH_STEP_NAME, DraftKey, MAX_CALLBACKS};
use crate::waiting::WaitsFor;
use crate::wake::wake;
use crate::worker::attempt::Role;
use crate::workflow::{Flow, Step};

/// A batch that is about to be opened: what is told of it, and what runs after its jobs.
///
/// ```
/// # use gusher::prelude::*;
/// # #[derive(Serialize, Deserialize)] struct ImportCsv { file: String }
/// # #[derive(Serialize, Deserialize)] struct GenReport; #[derive(Serialize, Deserialize)] struct Mail { to: String }
/// # macro_rules! job { ($($t:ident)*) => { $(impl Job for $t { const NAME: &str = stringify!($t); type Output = (); type State = ();
/// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } })* } }
/// # job!(ImportCsv GenReport Mail);
/// # async fn example(client: gusher::Client, files: Vec<String>) -> gusher::Result<()> {
/// let night = client.batch("nightly").on_success(GenReport).on_complete(Mail { to: "ops".into() }).open().await?;
/// for file in files {
///     night.add(ImportCsv { file }).await?;
/// }
/// night.close().await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is there before `.open()`"]
pub struct NewBatch {
    client: Client,
    name: String,
    flow: Flow,
    /// What `with` speaks of.
    last: Option<StepNumber>,
    callbacks: StepNumber,
    success: u32,
    complete: u32,
    death: u32,
    /// Steps that grow and whose options are given.
    declared: Vec<StepNumber>,
    description: Option<String>,
    retention: Option<Retention>,
    key: Option<String>,
    /// The batch that it is to be within.
    within: Option<Batch>,
    mistake: Option<Error>,
}

impl fmt::Debug for NewBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewBatch({}, {:?})", self.name, self.flow)
    }
}

impl Client {
    /// Describes a batch of that name; many may have the same. `.open()` makes it.
    pub fn batch(&self, name: impl Into<String>) -> NewBatch {
        let flow = Flow::new();
        let stands_for_it = StepSpec { waits: Some(WaitsFor::Batch), ..StepSpec::new(BATCH_STEP_NAME, "-") };
        flow.waiting_step::<()>(stands_for_it);
        NewBatch {
            client: self.clone(),
            name: name.into(),
            flow,
            last: None,
            callbacks: 0,
            success: 0,
            complete: 0,
            death: 0,
            declared: Vec::new(),
            description: None,
            retention: None,
            key: None,
            within: None,
            mistake: None,
        }
    }

    /// A batch that is in the store: to add jobs to it from outside, as long as it has not settled, and to follow it.
    pub async fn find_batch(&self, id: WorkflowId) -> Result<Batch> {
        let row = self.row(id).await?;
        match row.batch {
            Some(_) => Ok(Batch { handle: self.handle(id) }),
            None => Err(Error::usage(format!("workflow {id} ({}) is no batch; `find` finds it", row.name))),
        }
    }
}

impl NewBatch {
    /// Runs once all jobs of the batch have succeeded. While some have failed it waits for their repair.
    pub fn on_success<J: Job>(self, job: J) -> Self {
        self.callback(EdgeKind::After, job)
    }

    /// Runs once all jobs of the batch have settled, whatever became of them; also if the batch was cancelled, or abandoned by its client.
    pub fn on_complete<J: Job>(self, job: J) -> Self {
        self.callback(EdgeKind::Always, job)
    }

    /// Runs as soon as the first job of the batch has failed for good; not again for those that follow.
    pub fn on_death<J: Job>(self, job: J) -> Self {
        self.callback(EdgeKind::OnDeath, job)
    }

    /// Sets the options of the callback before: `.on_complete(mail).with(|mail| mail.queue("mail").retry(Retry::never()))`.
    pub fn with(mut self, options: impl for<'f> FnOnce(Step<'f, ()>) -> Step<'f, ()>) -> Self {
        match self.last {
            Some(number) => drop(options(self.flow.step_numbered(number))),
            None => {
                let mistake = "`.with(..)` sets the options of the callback before it, and there is none";
                self.mistake.get_or_insert_with(|| Error::usage(mistake));
            }
        }
        self
    }

    /// Sets the options of the jobs of one type in this batch: `.jobs_of::<ImportCsv>(|csv| csv.queue("bulk").tolerate(10))`.
    pub fn jobs_of<J: Job>(mut self, options: impl for<'f> FnOnce(Step<'f, J>) -> Step<'f, J>) -> Self {
        let spec = StepSpec { grows: true, ..StepSpec::new(J::NAME, J::QUEUE) };
        let step = options(self.flow.growing_step(spec));
        // Jobs are added by the name of their type.
        step.named(J::NAME).set_spec(|spec| spec.delay = Duration::ZERO);
        self.declared.push(step.number());
        self
    }

    /// What people are told of it.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// It may be deleted so long after its end, whatever holds for others.
    pub fn expire_in(mut self, time: Duration) -> Self {
        self.retention = Some(Retention::all(KeepFor::time(time)));
        self
    }

    /// There is one of this name and key at a time: while another one is open or at work, [`open`](Self::open) refuses this one with its id.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    fn callback<J: Job>(mut self, kind: EdgeKind, job: J) -> Self {
        let (event, before) = match kind {
            EdgeKind::After => ("on_success", &mut self.success),
            EdgeKind::Always => ("on_complete", &mut self.complete),
            _ => ("on_death", &mut self.death),
        };
        *before += 1;
        let name = if *before == 1 { event.to_owned() } else { format!("{event}-{before}") };
        let step = self.flow.run(job).named(name);
        self.flow.step_numbered::<()>(step.number()).behind_batch(kind);
        self.last = Some(step.number());
        self.callbacks += 1;
        self
    }

    /// Makes it: it is there from then on, and held open by this program until [`close`](OpenBatch::close).
    pub async fn open(self) -> Result<OpenBatch> {
        let Self { client, name, flow, declared, callbacks, description, retention, key, within, mistake, .. } = self;
        if let Some(mistake) = mistake {
            return Err(mistake.during(format_args!("batch {name}")));
        }
        if callbacks > MAX_CALLBACKS {
            return Err(Error::usage(format!(
                "batch {name} has {callbacks} callbacks; at most {MAX_CALLBACKS} are allowed. A callback may start a workflow of any size"
            )));
        }
        let arguments = match description {
            Some(text) => serde_json::json!({ "description": text }).to_string(),
            None => "{}".to_owned(),
        };
        let (new, plan) = (New { name: &name, arguments, retention }, flow.finish_batch(&declared)?);
        match within {
            None => open::open(client, new, key, plan).await,
            Some(outer) if key.is_some() || retention.is_some() => Err(Error::usage(format!(
                "batch {name} is within batch {}: it is kept as long as that one, and has no key of its own; leave out `.key` and `.expire_in`",
                outer.id()
            ))),
            Some(outer) => open::open_within(&outer, new, plan).await,
        }
    }
}

/// A batch in a store. It is a [`Handle`] like that of any workflow, and takes further jobs as long as it has not settled.
#[derive(Clone, Debug)]
pub struct Batch {
    handle: Handle,
}

impl Deref for Batch {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Batch {
    /// Adds a job. An error of kind [`BatchSettled`](crate::ErrorKind::BatchSettled) if the batch has settled, or is cancelled. Returns the
    /// number that the job has among those of its type.
    ///
    /// Each call is one of the store's own: many jobs come with [`add_each`](Self::add_each).
    pub async fn add<J: Job>(&self, job: J) -> Result<u64> {
        let spec = self.step_of::<J>()?;
        let mut builder = ChunkBuilder::default();
        builder.push(&written_for_batch(&job)?)?;
        Ok(self.give(spec, None, builder.finish()).await?.first)
    }

    /// Adds a job for each item, wholly or not at all: they are there once this returns. The iterator is read one item at a time, so it may be
    /// of any length. Returns how many there were.
    pub async fn add_each<J: Job, I>(&self, jobs: I) -> Result<u64>
    where
        I: IntoIterator<Item = J>,
        I::IntoIter: Send + 'static,
    {
        self.try_add_each(jobs.into_iter().map(Ok::<J, JobError>)).await
    }

    /// Like [`add_each`](Self::add_each), for items that can fail: after the first error nothing is added.
    pub async fn try_add_each<J: Job, E: Into<JobError>, I>(&self, jobs: I) -> Result<u64>
    where
        I: IntoIterator<Item = Result<J, E>>,
        I::IntoIter: Send + 'static,
    {
        let spec = self.step_of::<J>()?;
        let stream = jobs.into_iter().enumerate().map(|(row, job)| match job.map_err(Into::<JobError>::into) {
            Ok(job) => written_for_batch(&job),
            Err(error) => Err(Error::usage(format!("row {row} of what is added: {error}"))),
        });
        self.add_stream(spec, Box::new(stream)).await
    }

    /// Describes a batch within this one, which settles only once that has finished with its callbacks. Once `.open()` has made it, it is a
    /// batch like any other: held open, added to, closed; it may have others within. What becomes of it is what becomes of a job of this one:
    /// if it does not succeed, this one has a failed job. It is cancelled, retried, kept and deleted with this one.
    ///
    /// `.open()` answers with an error of kind [`BatchSettled`](crate::ErrorKind::BatchSettled) if this one has settled, or is cancelled.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct ImportCsv { file: String } #[derive(Serialize, Deserialize)] struct TellSupplier;
    /// # macro_rules! job { ($($t:ident)*) => { $(impl Job for $t { const NAME: &str = stringify!($t); type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } })* } }
    /// # job!(ImportCsv TellSupplier);
    /// # async fn example(night: gusher::OpenBatch, files: Vec<String>) -> gusher::Result<()> {
    /// let supplier = night.batch("supplier 7").on_success(TellSupplier).open().await?;
    /// supplier.add_each(files.into_iter().map(|file| ImportCsv { file })).await?;
    /// supplier.close().await?;
    /// night.close().await?;
    /// # Ok(()) }
    /// ```
    pub fn batch(&self, name: impl Into<String>) -> NewBatch {
        NewBatch { within: Some(self.clone()), ..self.client().batch(name) }
    }

    /// The batch that this one is within, if it is within one. While this one has not finished, also in its callbacks, the other one takes jobs.
    pub async fn outer(&self) -> Result<Option<Batch>> {
        match self.client().row(self.id()).await?.parent {
            Some(parent) => Ok(Some(self.client().find_batch(parent.workflow).await?)),
            None => Ok(None),
        }
    }

    /// Whether the client that held it open ended without closing it.
    pub async fn is_abandoned(&self) -> Result<bool> {
        Ok(self.state().await? == BatchState::Abandoned)
    }

    /// Whether it is held open, closed, or abandoned.
    pub async fn state(&self) -> Result<BatchState> {
        let row = self.client().row(self.id()).await?;
        row.batch.ok_or_else(|| Error::usage(format!("workflow {} is no batch", self.id())))
    }

    fn step_of<J: Job>(&self) -> Result<StepSpec> {
        self.client().registry().check_type(&format!("batch {}", self.id()), J::NAME, Role::Job)?;
        Ok(StepSpec { grows: true, ..StepSpec::new(J::NAME, J::QUEUE) })
    }

    /// Adds the jobs of a draft, and those that come with the call.
    async fn give(&self, step: StepSpec, draft: Option<DraftKey>, chunk: Option<Chunk>) -> Result<Added> {
        let (client, store) = (self.client(), self.store());
        let add = AddJobs { session: client.session(), command: 0, workflow: self.id(), step, draft, chunk };
        let send = |command| store.add_jobs(AddJobs { command, ..add.clone() });
        let added = client.command(self.id().shard(), send).await?;
        wake(&added.woken);
        Ok(added)
    }
}

/// A job as JSON. It reads no outputs: those of which steps would it be?
fn written_for_batch(job: &impl Job) -> Result<Vec<u8>> {
    let (json, reads) = crate::outputs::written(job)?;
    match reads.first() {
        None => Ok(json),
        Some(step) => Err(Error::usage(format!(
            "a job of a batch reads the outputs of step {step}, and a batch has no steps before its jobs; a workflow has"
        ))),
    }
}
