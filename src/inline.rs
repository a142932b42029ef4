//! Lone jobs that are performed as they are enqueued, in a simulation that wants it so. Everywhere else all of this is nothing.

use crate::client::Client;
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Job, JobError, Then};
use crate::lone::JobId;
use crate::outputs::decode_output;
use crate::state::JobState;
use crate::store::Lane;

impl Client {
    /// Performs a job instead of sending it to the store; returns which it has become. `None` unless jobs are performed at once.
    pub(crate) async fn performed_at_once<J: Job>(
        &self,
        queue: &str,
        priority: i32,
        due: Option<Millis>,
        json: &[u8],
    ) -> Result<Option<JobId>> {
        let Some(watcher) = self.watcher() else { return Ok(None) };
        let lane = Lane::new(self.store().next_shard(), queue, priority, J::NAME);
        let later = due.map(|due| due - self.store().now());
        let Some(id) = watcher.takes(&lane, later, json) else { return Ok(None) };
        let ended = match serde_json::from_slice::<J>(json) {
            Ok(job) => self.perform_at(id, job).await,
            Err(error) => Err(JobError::fatal(format!("the parameters do not fit the type `{}`: {error}", J::NAME))),
        };
        let (state, text) = match ended {
            Ok(output) => {
                let output = serde_json::to_string(&output).map_err(|e| {
                    Error::usage(format!("the output of {} cannot be written as JSON", J::NAME)).because(e)
                });
                (JobState::Succeeded, output?)
            }
            Err(error) => (state_after(&error), error.into_text()),
        };
        watcher.performed(id, state, text);
        Ok(Some(id))
    }

    /// What became of a job that was performed as it was enqueued.
    pub(crate) fn outcome_at_once<J: Job>(&self, id: JobId) -> Option<Result<J::Output>> {
        let (state, text) = self.watcher()?.outcome(id)?;
        Some(match state {
            JobState::Succeeded => decode_output(id.index, text.as_bytes()),
            _ => Err(Error::new(ErrorKind::Failed, format!("{} {id}: {text}", J::NAME))),
        })
    }
}

/// What a job is that ends with that error, and is not tried again.
fn state_after(error: &JobError) -> JobState {
    match error.then() {
        Then::Discard => JobState::Skipped,
        Then::Stopped => JobState::Cancelled,
        Then::Begun => JobState::Succeeded,
        Then::Retry | Then::RetryIn(_) | Then::Postpone(_) | Then::Never => JobState::Failed,
    }
}
