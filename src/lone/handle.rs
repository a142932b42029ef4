//! The handle on a lone job that has been enqueued.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::JobId;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::job::Job;
use crate::outputs::{error_text, last_outcomes};
use crate::record::KILLED;
use crate::state::JobState;
use crate::store::ChunkOutcomes;
use crate::view::JobView;

/// A lone job that has been enqueued.
pub struct LoneJob<J> {
    client: Client,
    id: JobId,
    job: PhantomData<fn() -> J>,
}

impl<J> fmt::Debug for LoneJob<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoneJob({})", self.id)
    }
}

impl<J> Clone for LoneJob<J> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), id: self.id, job: PhantomData }
    }
}

impl<J: Job> LoneJob<J> {
    /// Which it is.
    pub fn id(&self) -> JobId {
        self.id
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The job, whole. An error of kind `NotFound` once it has settled and is not kept any more.
    pub async fn status(&self) -> Result<JobView> {
        self.client.find(self.id.lane).await?.job(J::NAME, self.id.index).await
    }

    /// Waits until it has settled; returns its output, or its last error as one of kind `Failed`.
    ///
    /// Once it is not kept any more, the answer is an error of kind `NotFound`, unless its output is `()`: then it is `Ok(())`, which is
    /// what it means for those that succeeded. One that failed, was cancelled or given up and whose time of being kept has passed can no
    /// longer be told from these. An `Option` comes back as `None` likewise.
    pub async fn wait(&self) -> Result<J::Output> {
        if let Some(ended) = self.client.outcome_at_once::<J>(self.id) {
            return ended;
        }
        let JobId { lane, index } = self.id;
        let store = self.client.store();
        let mut pause = Duration::from_millis(2);
        loop {
            let place = store.whereabouts(lane, 0, index).await?;
            if place.worker.is_none()
                && place.due.is_none()
                && place.turn.is_none()
                && !place.ready
                && let Some(settled) = self.ended().await?
            {
                return settled;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// What became of it; `None` while it has not settled.
    pub(crate) async fn ended(&self) -> Result<Option<Result<J::Output>>> {
        let JobId { lane, index } = self.id;
        let store = self.client.store();
        let page = store.outcomes(lane, 0, index, 0).await?;
        let holds = |chunk: &ChunkOutcomes| (chunk.first..chunk.first + chunk.bytes.len() as u64).contains(&index);
        let Some(mut chunk) = page.into_iter().next().filter(holds) else {
            // What succeeded without an output is forgotten at once. What failed, was cancelled or given up is kept for a time; after that
            // it looks the same.
            let forgotten =
                || Error::not_found(format!("lone job {} settled long ago, and is not kept any more", self.id));
            return Ok(Some(serde_json::from_str("null").map_err(|_| forgotten())));
        };
        crate::outputs::complete(&**store, lane, 0, &mut chunk).await?;
        let at = (index - chunk.first) as usize;
        let state = JobState::of(chunk.bytes[at]);
        if !state.is_settled() {
            return Ok(None);
        }
        let outcome = last_outcomes(&chunk)?.swap_remove(at).map(|outcome| outcome.result);
        let failed = |text: &str| Error::new(ErrorKind::Failed, format!("{} {}: {text}", J::NAME, self.id));
        Ok(Some(match (state, outcome) {
            (JobState::Succeeded, Some(Ok(json))) => crate::outputs::decode_output(index, &json),
            (JobState::Succeeded, _) => {
                Err(Error::corrupt(format!("{} succeeded, but its output is not kept", self.id)))
            }
            (JobState::Failed, Some(Err(error))) => {
                let texts = store.errors(lane, 0).await?.into_iter().map(|row| (row.number, row.text)).collect();
                Err(failed(&error_text(&error, &texts)))
            }
            (JobState::Failed, _) => Err(failed(KILLED)),
            (state, _) => Err(failed(state.as_str())),
        }))
    }
}

impl Client {
    /// A handle on a lone job, which need not be there any more.
    pub fn lone<J: Job>(&self, id: JobId) -> LoneJob<J> {
        LoneJob { client: self.clone(), id, job: PhantomData }
    }
}
