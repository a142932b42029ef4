//! What a job adds to its own batch. It is there with the job's success, in the same operation: so nothing is doubled by an attempt that is
//! repeated, and an attempt that fails adds nothing. A little travels with the report; more is written into a draft, which the report adopts.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::{Batch, NewBatch, written_for_batch};
use crate::graph::StepSpec;
use crate::job::{Job, JobError, JobResult};
use crate::outputs::Outputs;
use crate::payload::{Chunk, check_size};
use crate::store::{Append, DraftKey, DraftOf, MAX_REPORTED_DRAFTS};
use crate::worker::attempt::Role;
use crate::worker::drafting::{self, Gathered};
use crate::worker::held::Held;

/// What a job adds of one type travels with its report up to so many bytes, and so many jobs.
const LITTLE_BYTES: usize = 16 * 1024;
const LITTLE_JOBS: usize = 256;

/// The batch of a running job.
#[derive(Clone, Copy)]
pub struct InBatch<'c> {
    held: &'c Arc<Held>,
    additions: &'c Mutex<Additions>,
}

impl fmt::Debug for InBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InBatch({})", self.held.slice.workflow)
    }
}

/// What a job has added so far.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    pub list: Vec<Addition>,
}

/// What a job has added of one type.
#[derive(Debug)]
pub(crate) struct Addition {
    pub step: StepSpec,
    /// A little of it, as JSON.
    pub jobs: Vec<Vec<u8>>,
    bytes: usize,
    /// All of it, if it is more than a little.
    pub draft: Option<Draft>,
}

/// What is more than a little.
#[derive(Debug)]
pub(crate) struct Draft {
    pub key: DraftKey,
    gathered: Gathered,
    calls: u64,
    broken: bool,
}

impl Additions {
    /// About how many bytes it takes in a report.
    pub fn size(&self) -> usize {
        self.list.iter().map(|addition| addition.bytes).sum()
    }

    /// The drafts that it has been written into.
    pub fn drafts(&self) -> impl Iterator<Item = u64> + '_ {
        self.list.iter().filter_map(|addition| addition.draft.as_ref()).map(|draft| draft.key.number)
    }
}

impl<'c> InBatch<'c> {
    pub(crate) fn new(held: &'c Arc<Held>, additions: &'c Mutex<Additions>) -> Self {
        Self { held, additions }
    }

    /// Adds a job to the batch of the job that runs: it is there with this job's success, and not at all if this attempt fails.
    pub async fn add<J: Job>(&self, job: J) -> JobResult<()> {
        let slice = &self.held.slice;
        if !slice.options.grows {
            return Err(JobError::fatal(format!(
                "`{}` of workflow {} is no job that was added to a batch, so it cannot add others to one; `ctx.client().find_batch(id)` adds \
                 to a batch from outside",
                slice.step_name, slice.workflow
            )));
        }
        self.held
            .client()
            .registry()
            .check_type(&format!("batch {}", slice.workflow), J::NAME, Role::Job)
            .map_err(JobError::fatal)?;
        let json = written_for_batch(&job).map_err(JobError::fatal)?;
        check_size("parameters", json.len()).map_err(JobError::fatal)?;
        let mut additions = self.additions.lock().await;
        let at = match additions.list.iter().position(|addition| addition.step.name == J::NAME) {
            Some(at) => at,
            None if additions.list.len() >= MAX_REPORTED_DRAFTS => {
                return Err(JobError::fatal(format!(
                    "one job adds jobs of more than {MAX_REPORTED_DRAFTS} types to its batch; let it add one that adds the others"
                )));
            }
            None => {
                let step = StepSpec { grows: true, ..StepSpec::new(J::NAME, J::QUEUE) };
                additions.list.push(Addition { step, jobs: Vec::new(), bytes: 0, draft: None });
                additions.list.len() - 1
            }
        };
        additions.list[at].push(self.held, json).await
    }

    /// Adds a job for each item.
    pub async fn add_each<J: Job>(&self, jobs: impl IntoIterator<Item = J, IntoIter: Send>) -> JobResult<()> {
        for job in jobs {
            self.add(job).await?;
        }
        Ok(())
    }

    /// Describes a batch within the batch of the job that runs. Unlike what is [added](Self::add) it is there at once, and each attempt that
    /// opens one makes another: close it before anything else can fail. One that an attempt leaves open is abandoned, and counts as failed.
    pub fn batch(&self, name: impl Into<String>) -> NewBatch {
        Batch { handle: self.held.client().handle(self.held.slice.workflow) }.batch(name)
    }

    /// The batch as others see it: a callback asks here how its jobs have ended, and whether it was abandoned.
    pub async fn find(&self) -> crate::Result<Batch> {
        self.held.client().find_batch(self.held.slice.workflow).await
    }
}

impl InBatch<'_> {
    /// What the jobs of one type have returned, for a callback that reads it: `ctx.batch().outputs::<Count>().await?.stream(ctx)`.
    pub async fn outputs<J: Job>(&self) -> crate::Result<Outputs<J::Output>> {
        Ok(Outputs::of(self.find().await?.step(J::NAME).await?.number))
    }
}

impl Addition {
    async fn push(&mut self, held: &Held, json: Vec<u8>) -> JobResult<()> {
        if self.draft.is_none() && self.bytes + json.len() <= LITTLE_BYTES && self.jobs.len() < LITTLE_JOBS {
            self.bytes += json.len() + 8;
            self.jobs.push(json);
            return Ok(());
        }
        let (key, little) = (|| held.begin_draft(), std::mem::take(&mut self.jobs));
        let draft = self.draft.get_or_insert_with(|| Draft {
            key: key(),
            gathered: Gathered::default(),
            calls: 0,
            broken: false,
        });
        self.bytes = 0;
        for json in little.into_iter().chain([json]) {
            draft.push(held, &self.step, &json).await?;
        }
        Ok(())
    }

    /// The job has come to its end: what is left is written.
    pub async fn finish(&mut self, held: &Held) -> JobResult<()> {
        match &mut self.draft {
            Some(draft) => draft.finish(held, &self.step).await,
            None => Ok(()),
        }
    }
}

impl Draft {
    async fn push(&mut self, held: &Held, step: &StepSpec, json: &[u8]) -> JobResult<()> {
        match self.gathered.push(json).map_err(JobError::fatal)? {
            true => {
                let chunks = self.gathered.take();
                self.append(held, step, chunks).await
            }
            false => Ok(()),
        }
    }

    async fn finish(&mut self, held: &Held, step: &StepSpec) -> JobResult<()> {
        if self.broken {
            return Err(JobError::new("jobs that were added to the batch could not be stored"));
        }
        match self.gathered.take_rest() {
            chunks if chunks.is_empty() => Ok(()),
            chunks => self.append(held, step, chunks).await,
        }
    }

    async fn append(&mut self, held: &Held, step: &StepSpec, chunks: Vec<Chunk>) -> JobResult<()> {
        let of = DraftOf::Added { workflow: held.slice.workflow, step: Box::new(step.clone()) };
        let parts = drafting::parts(chunks);
        let append = Append { draft: self.key, of, number: self.calls, parts, lease: held.lease_length };
        // Until they have been sent, parts are missing: whatever the job makes of an error, it cannot succeed.
        self.broken = true;
        drafting::append(held, append).await?;
        self.broken = false;
        self.calls += 1;
        Ok(())
    }
}
