//! Cancelling lone jobs: one, or many by what they are. What waits never starts; what runs sees its token, and is dropped after a grace
//! period of ten seconds.

use std::fmt;
use std::marker::PhantomData;

use crate::client::Client;
use crate::clock::millis;
use crate::error::Result;
use crate::id::WorkflowId;
use crate::job::Job;
use crate::lone::{JobId, LoneJob};
use crate::outputs::ChunkParameters;
use crate::slice::Mask;
use crate::state::JobState;
use crate::store::{CancelJobs, CancelledJobs, ChunkOutcomes};

/// What a cancel of lone jobs came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cancelled {
    /// How many jobs are cancelled: none of them starts any more.
    pub cancelled: u64,
    /// How many are in a worker's hands: it is told, gives those that run their cancellation token and ten seconds, and starts no other.
    /// One that succeeds within that time has succeeded.
    pub stopping: u64,
}

impl Cancelled {
    /// Both together.
    pub fn total(&self) -> u64 {
        self.cancelled + self.stopping
    }

    fn add(&mut self, told: &CancelledJobs) {
        self.cancelled += u64::from(told.cancelled);
        self.stopping += u64::from(told.stopping);
    }
}

/// Whether a job is meant, by its parameters as JSON.
type Chosen<'f> = &'f mut (dyn FnMut(&[u8]) -> bool + Send);

impl Client {
    /// Cancels a lone job: one that waits never starts, one that runs sees [its token](crate::Context::cancellation) and is dropped after
    /// a grace period of ten seconds. One that has succeeded, failed or been skipped stays as it is, and is not counted; one that had been
    /// cancelled before is counted again.
    pub async fn cancel_job(&self, id: JobId) -> Result<Cancelled> {
        let mut cancelled = Cancelled::default();
        cancelled.add(&self.cancel_in(id.lane, id.index, Mask::range(0..1)).await?);
        Ok(cancelled)
    }

    /// Lone jobs, to be narrowed down to one type and then cancelled, or, if they have failed, run again or given up.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct SendMail { to: String }
    /// # impl Job for SendMail { const NAME: &str = "SendMail"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # async fn unsubscribe(client: &gusher::Client, reader: &str) -> gusher::Result<()> {
    /// let mails = client.lone_jobs().of::<SendMail>().queue("newsletters");
    /// let gone = mails.cancel(|mail| mail.to == reader).await?;
    /// println!("{} mails are not sent", gone.total());
    /// # Ok(()) }
    /// ```
    pub fn lone_jobs(&self) -> LoneJobs<'_> {
        LoneJobs { client: self }
    }

    async fn cancel_in(&self, lane: WorkflowId, index: u64, jobs: Mask) -> Result<CancelledJobs> {
        let keep = millis(self.registry().keep.outputs);
        let told = self.store().cancel_jobs(CancelJobs { lane, index, jobs, keep }).await?;
        crate::wake::hurry(&told.told);
        Ok(told)
    }

    /// Cancels the unsettled jobs of the lanes of one type, in one queue or all, whose parameters `chosen` accepts.
    pub(crate) async fn cancel_chosen(
        &self,
        job_type: &str,
        queue: Option<&str>,
        mut chosen: Option<Chosen<'_>>,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Cancelled> {
        let (mut cancelled, mut looked) = (Cancelled::default(), 0);
        let lanes = self.lanes_of(job_type, queue).await?;
        let of: u64 = lanes.iter().map(|lane| lane.jobs.total).sum();
        for lane in lanes.iter().flat_map(|lane| &lane.ids) {
            let mut from = 0;
            loop {
                let page = self.store().outcomes(*lane, 0, from, 0).await?;
                let Some(last) = page.last() else { break };
                from = last.first + last.bytes.len() as u64;
                for chunk in &page {
                    let jobs = self.chosen_of(chunk, &mut chosen).await?;
                    if !jobs.is_empty() {
                        cancelled.add(&self.cancel_in(*lane, chunk.first, jobs).await?);
                    }
                    looked += chunk.bytes.len() as u64;
                    progress(looked, of.max(looked));
                }
            }
        }
        Ok(cancelled)
    }

    async fn chosen_of(&self, chunk: &ChunkOutcomes, chosen: &mut Option<Chosen<'_>>) -> Result<Mask> {
        let unsettled: Mask =
            (0..chunk.bytes.len()).filter(|at| !JobState::of(chunk.bytes[*at]).is_settled()).collect();
        let Some(chosen) = chosen.as_mut().filter(|_| !unsettled.is_empty()) else { return Ok(unsettled) };
        let parameters = match self.store().parameters(chunk.chunk).await {
            Ok(parameters) => ChunkParameters::unpack(&parameters)?,
            // Its last job has settled meanwhile, and nobody wants it any more.
            Err(error) if error.kind() == crate::ErrorKind::NotFound => return Ok(Mask::EMPTY),
            Err(error) => return Err(error),
        };
        Ok(unsettled.iter().filter(|at| parameters.get(*at).is_some_and(&mut **chosen)).collect())
    }
}

/// The lone jobs of a store: [`Client::lone_jobs`].
#[derive(Debug)]
pub struct LoneJobs<'c> {
    client: &'c Client,
}

impl<'c> LoneJobs<'c> {
    /// Those of type `J`.
    pub fn of<J: Job>(self) -> LoneJobsOf<'c, J> {
        LoneJobsOf { client: self.client, queue: None, progress: Box::new(|_, _| ()), job: PhantomData }
    }
}

/// The lone jobs of one type.
#[must_use = "nothing is done before `.cancel(..)`, `.cancel_all()`, `.error_groups()`, `.retry_failed()` or `.discard_failed()`"]
pub struct LoneJobsOf<'c, J> {
    pub(crate) client: &'c Client,
    pub(crate) queue: Option<String>,
    progress: Box<dyn FnMut(u64, u64) + Send + 'c>,
    job: PhantomData<fn() -> J>,
}

impl<J: Job> fmt::Debug for LoneJobsOf<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoneJobsOf({} in {:?})", J::NAME, self.queue)
    }
}

impl<'c, J: Job> LoneJobsOf<'c, J> {
    /// Only those in that queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Tells after each chunk how many jobs have been looked at, and of how many.
    pub fn on_progress(mut self, progress: impl FnMut(u64, u64) + Send + 'c) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Cancels those that have not settled and that `chosen` accepts, chunk by chunk. Jobs that are enqueued meanwhile may be among them
    /// or not. A job whose parameters do not fit the type is left alone.
    pub async fn cancel(mut self, mut chosen: impl FnMut(&J) -> bool + Send) -> Result<Cancelled> {
        let mut fits = |json: &[u8]| serde_json::from_slice::<J>(json).is_ok_and(|job| chosen(&job));
        self.client.cancel_chosen(J::NAME, self.queue.as_deref(), Some(&mut fits), &mut *self.progress).await
    }

    /// Cancels all that have not settled.
    pub async fn cancel_all(mut self) -> Result<Cancelled> {
        self.client.cancel_chosen(J::NAME, self.queue.as_deref(), None, &mut *self.progress).await
    }
}

impl<J: Job> LoneJob<J> {
    /// Cancels it; see [`Client::cancel_job`]. Whoever waits for it is told so by an error.
    pub async fn cancel(&self) -> Result<Cancelled> {
        self.client().cancel_job(self.id()).await
    }
}
