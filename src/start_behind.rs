//! Starts that wait until no other workflow of their type and key is under way: one is no workflow yet, but a start job in the store, so it
//! outlives the program that asked for it.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::app::arguments_of;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::id::{WorkflowId, shard_of};
use crate::lone::JobId;
use crate::payload::ChunkBuilder;
use crate::start_job::{StartJob, StartJobOf, start_type};
use crate::state::JobState;
use crate::store::{Key, Lane, LoneJobs, Overlap, Waits};
use crate::workflow::Workflow;

/// How soon at first, and how rarely at last, it is looked whether a start has had its turn.
const LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// A workflow that is to start once no other one is in its way: `.await` puts it behind those that wait.
#[must_use = "nothing is started before this is awaited"]
#[derive(Debug)]
pub struct StartingBehind<W> {
    client: Client,
    workflow: W,
    key: Key,
}

impl<W: Workflow> StartingBehind<W> {
    pub(crate) fn new(client: Client, workflow: W, overlap: Overlap) -> Self {
        Self { client, workflow, key: Key { key: String::new(), overlap } }
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
            let Self { client, workflow, key } = self;
            crate::graph::check_key(&key.key)?;
            let (arguments, _) = client.registry().parse(W::NAME, &arguments_of(&workflow)?)?;
            let shard = shard_of(&format!("{}/{}", W::NAME, key.key), client.store().shards());
            let id = WorkflowId::new(client.store().now(), shard);
            let waits = Waits { name: W::NAME.to_owned(), key: key.key.clone(), ids: vec![id] };
            let start = StartJob { workflow: W::NAME.to_owned(), arguments, id, key: Some(key), occurrence: None };
            let mut chunk = ChunkBuilder::default();
            chunk.push(&start.to_json()?)?;
            let lane = Lane::new(shard, "default", 0, &start_type(W::NAME));
            let Some(chunk) = chunk.finish() else { return Err(Error::usage("there is nothing to start")) };
            let of = lane.id;
            let jobs = LoneJobs { lane, chunk, due: Vec::new(), waits: Some(waits) };
            let index = client.send_lone(shard, vec![jobs]).await?.first().copied();
            let index = index.ok_or_else(|| Error::corrupt("the store's answer lacks a lane"))?;
            Ok(WaitingStart { client, id, job: JobId { lane: of, index }, job_type: start_type(W::NAME) })
        })
    }
}

/// A start that waits for its turn, in the store.
#[derive(Clone, Debug)]
pub struct WaitingStart {
    client: Client,
    id: WorkflowId,
    job: JobId,
    job_type: String,
}

impl WaitingStart {
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
