//! Lone jobs that have failed for good, on whatever shards they are: run again, or given up.

use crate::cancelling::LoneJobsOf;
use crate::client::Client;
use crate::error::Result;
use crate::handle::Handle;
use crate::job::Job;
use crate::view::ErrorGroup;

impl Client {
    /// Gives the failed lone jobs of a type, in one queue or all, a new set of attempts; returns how many.
    pub(crate) async fn retry_failed_lone(&self, job_type: &str, queue: Option<&str>) -> Result<u64> {
        let mut jobs = 0;
        for lane in self.lanes_with_failed(job_type, queue).await? {
            jobs += lane.retry_failed(None).await?;
        }
        Ok(jobs)
    }

    /// Gives them up; returns how many.
    pub(crate) async fn discard_failed_lone(&self, job_type: &str, queue: Option<&str>) -> Result<u64> {
        let mut jobs = 0;
        for lane in self.lanes_with_failed(job_type, queue).await? {
            jobs += lane.discard_failed(None).await?;
        }
        Ok(jobs)
    }

    /// They by the kind of their errors, most first.
    pub(crate) async fn errors_of_failed_lone(&self, job_type: &str, queue: Option<&str>) -> Result<Vec<ErrorGroup>> {
        let mut found = Vec::new();
        for lane in self.lanes_with_failed(job_type, queue).await? {
            found.extend(lane.error_groups(0, job_type).await?);
        }
        Ok(ErrorGroup::gathered(found))
    }

    async fn lanes_with_failed(&self, job_type: &str, queue: Option<&str>) -> Result<Vec<Handle>> {
        let lanes = self.lanes_of(job_type, queue).await?;
        let failed = lanes.iter().filter(|lane| lane.jobs.failed > 0);
        Ok(failed.flat_map(|lane| &lane.ids).map(|id| self.handle(*id)).collect())
    }
}

impl<J: Job> LoneJobsOf<'_, J> {
    /// Those that have failed for good, by the kind of their errors, most first.
    pub async fn error_groups(self) -> Result<Vec<ErrorGroup>> {
        self.client.errors_of_failed_lone(J::NAME, self.queue.as_deref()).await
    }

    /// Gives all that have failed for good a new set of attempts; returns how many.
    pub async fn retry_failed(self) -> Result<u64> {
        self.client.retry_failed_lone(J::NAME, self.queue.as_deref()).await
    }

    /// Gives all that have failed for good up: they count as skipped. Returns how many.
    pub async fn discard_failed(self) -> Result<u64> {
        self.client.discard_failed_lone(J::NAME, self.queue.as_deref()).await
    }
}
