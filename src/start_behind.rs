//! Starts that wait until no other workflow of their type and key is under way: one is no workflow yet, but a start job in the store, so it
//! outlives the program that asked for it.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::id::{WorkflowId, shard_of};
use crate::lone::JobId;
use crate::start_job::{StartJobOf, start_type};
use crate::starting::Starting;
use crate::state::JobState;
use crate::store::{Key, Overlap, Waits};
use crate::workflow::Workflow;

/// How soon at first, and how rarely at last, it is looked whether a start has had its turn.
const LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// A workflow that is to start once no other one is in its way: `.await` puts it behind those that wait.
#[must_use = "nothing is started before this is awaited"]
#[derive(Debug)]
pub struct StartingBehind<W> {
    start: Starting<W>,
    key: Key,
}

impl<W: Workflow> StartingBehind<W> {
    pub(crate) fn new(start: Starting<W>, overlap: Overlap) -> Self {
        Self { start, key: Key { key: String::new(), overlap } }
    }

    /// Only workflows of its type that were started with the same key are in each other's way; without, all that were started so.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key.key = key.into();
        self
    }
}

impl<W: Workflow> IntoFuture for StartingBehind<W> {
    type Output = Result<WaitingStart>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { start, key } = self;
            crate::graph::check_key(&key.key)?;
            let client = start.client().clone();
            let shard = shard_of(&format!("{}/{}", W::NAME, key.key), client.store().shards());
            let waits = |id| Waits { name: W::NAME.to_owned(), key: key.key.clone(), ids: vec![id] };
            let (id, mut jobs) = start.into_job(shard, Some(key.clone()))?;
            jobs.waits = Some(waits(id));
            let of = jobs.lane.id;
            let index = client.send_lone(shard, vec![jobs]).await?.firsts.first().copied();
            let index = index.ok_or_else(|| Error::corrupt("the store's answer lacks a lane"))?;
            Ok(WaitingStart::new(client, id, JobId { lane: of, index }, W::NAME))
        })
    }
}

/// A start that waits in the store, for its turn or for a worker.
#[derive(Clone, Debug)]
pub struct WaitingStart {
    client: Client,
    id: WorkflowId,
    job: JobId,
    job_type: String,
}

impl WaitingStart {
    pub(crate) fn new(client: Client, id: WorkflowId, job: JobId, workflow: &str) -> Self {
        Self { client, id, job, job_type: start_type(workflow) }
    }

    /// The id that the workflow will have.
    pub fn id(&self) -> WorkflowId {
        self.id
    }

    /// The lone job that will start it.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Waits until it has started, which takes a worker that knows its type. An error of kind `Refused` if it is left out, since another
    /// one waited already, and of kind `Failed` if it cannot be built.
    pub async fn started(&self) -> Result<Handle> {
        let mut pause = LOOK;
        loop {
            let ended = self.client.lone::<StartJobOf<()>>(self.job).ended().await?;
            match self.client.find(self.id).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                found => return found,
            }
            match ended {
                None => {}
                Some(Ok(())) => {
                    return Err(Error::not_found(format!(
                        "workflow {} was started, and has been deleted since",
                        self.id
                    )));
                }
                Some(Err(error)) => {
                    let JobId { lane, index } = self.job;
                    return Err(match self.client.handle(lane).job(&self.job_type, index).await {
                        Ok(view) if view.state == JobState::Skipped => {
                            Error::refused(format!("{} has been left out, since another start waited already", self.id))
                        }
                        _ => error.during(format_args!("starting {}", self.id)),
                    });
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }
}
