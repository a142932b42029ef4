//! Start jobs: a schedule, and a start that waits for its turn, build no workflow themselves. They enqueue a lone job, and a worker that
//! knows the workflow's type builds it, under an id that was given before: so it is built once, however often the job runs.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::id::WorkflowId;
use crate::job::{Context, Job, JobError, JobResult};
use crate::retention::Retention;
use crate::starting::New;
use crate::store::{Key, Occurrence, Overlap};

/// After so long a start looks again whether its turn has come, for each one before it; at most after [`LONGEST`].
const LOOK: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// After so long a start looks again whether the workflow has ended that gives way to it.
const LOOK_AT_CANCELLED: Duration = Duration::from_millis(200);
/// After so long a start is tried again that the store could not take.
const AWAY: Duration = Duration::from_secs(2);

/// The queue of start jobs, unless told otherwise.
pub(crate) const START_QUEUE: &str = "default";

/// The type of the jobs that start workflows of a type.
pub(crate) fn start_type(workflow: &str) -> String {
    format!("start {workflow}")
}

/// The same, for as long as the program runs.
pub(crate) fn static_start_type(workflow: &str) -> &'static str {
    static_type(start_type(workflow))
}

/// A name of a type that is made at run time, for as long as the program runs.
pub(crate) fn static_type(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock();
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = name.leak();
    names.insert(name);
    name
}

/// What is to be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartJob {
    pub workflow: String,
    /// As JSON.
    pub arguments: String,
    pub id: WorkflowId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<Occurrence>,
    /// Set for this one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

impl StartJob {
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::usage("a start cannot be written as JSON").because(e))
    }

    async fn run(self, client: &Client) -> JobResult<()> {
        let (arguments, plan) = client.registry().parse(&self.workflow, &self.arguments).map_err(JobError::fatal)?;
        let new = New { name: &self.workflow, arguments, retention: self.retention };
        let new = client.new_workflow(self.id, new, self.key.clone(), self.occurrence)?;
        let Some(Key { overlap, .. }) = self.key else {
            client.build(new, plan()?, None, false, Arc::default()).await?;
            return Ok(());
        };
        let draft = client.new_draft();
        let begun = client.begin(&new, draft).await?;
        if begun.is_begun() {
            client.build_begun(new, plan, draft, false, Arc::default()).await?;
            return Ok(());
        }
        match begun.held_by {
            Some(holder) if begun.decided => Err(JobError::discard(format!("{holder} has not finished"))),
            _ if begun.decided => Ok(()),
            Some(holder) if overlap == Overlap::Cancel && holder != self.id => {
                client.handle(holder).make_way().await?;
                Err(JobError::postpone(LOOK_AT_CANCELLED))
            }
            _ => Err(JobError::postpone((LOOK * (1 + begun.ahead)).min(LONGEST))),
        }
    }
}

/// The same as a job of an application.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StartJobOf<S> {
    start: StartJob,
    #[serde(skip)]
    state: PhantomData<fn() -> S>,
}

impl<S: Send + Sync + 'static> Job for StartJobOf<S> {
    /// Each workflow type has start jobs of its own, under the name of [`start_type`].
    const NAME: &'static str = "start";
    type Output = ();
    type State = S;

    async fn perform(self, ctx: &Context<S>) -> JobResult<()> {
        match self.start.run(ctx.client()).await {
            // Nobody's fault, so it takes no attempt.
            Err(error) if error.downcast_ref::<Error>().is_some_and(Error::is_transient) => {
                Err(JobError::postpone(AWAY))
            }
            ended => ended,
        }
    }
}
