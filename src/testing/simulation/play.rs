//! Code of the application's own, played in a simulation: what it enqueues is noted, runs in virtual time, and is told.

use std::cell::OnceCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use super::played::{Played, note_what_became};
use super::script::Script;
use super::stage::{Process, Stage};
use super::{Setup, Simulation, check, in_virtual_time, open, work};
use crate::app::App;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::state::WorkflowState;
use crate::store::{List, Store};
use crate::worker::watch;

/// More lanes than an application has in a test.
const LANES: u32 = 10_000;

/// Who runs the lone jobs that are enqueued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunBy {
    /// A worker, as it comes.
    #[default]
    Worker,
    /// Whoever enqueues them, at once.
    Caller,
    Nobody,
}

impl<S: Send + Sync + 'static> Simulation<S> {
    /// Lone jobs run as they are enqueued, each to its end before `enqueue` returns, and none is tried again. Delays, deadlines,
    /// priorities, pauses, limits and `unique` mean nothing then, and no store knows the jobs: of a handle on one only `wait` answers.
    pub fn inline(mut self) -> Self {
        self.setup.run_by = RunBy::Caller;
        self
    }

    /// No job runs: [`play`](Self::play) only tells what was enqueued.
    pub fn without_workers(mut self) -> Self {
        self.setup.run_by = RunBy::Nobody;
        self
    }

    /// Plays code that enqueues lone jobs, and starts workflows if it likes, with a client of the application. A worker runs them beside
    /// it, and afterwards until none is left; what is put off for days, or fails and is tried again hours later, takes no real time.
    ///
    /// An error if the code returns one, if the application's state cannot be made, or if jobs are left after
    /// [`at_most`](Self::at_most): then it tells which. A panic of the code goes on to the caller.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use gusher::prelude::*;
    /// use gusher::JobState;
    /// use gusher::testing::Simulation;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct SendMail { to: String }
    ///
    /// impl Job for SendMail {
    ///     const NAME: &str = "SendMail";
    ///     const QUEUE: &str = "mail";
    ///     type Output = ();
    ///     type State = ();
    ///     async fn perform(self, ctx: &Context) -> JobResult<()> {
    ///         if ctx.attempt() == 1 { Err(JobError::new("the server is busy")) } else { Ok(()) }
    ///     }
    /// }
    ///
    /// async fn sign_up(client: &Client, who: &str) -> gusher::Result<()> {
    ///     client.enqueue(SendMail { to: who.into() }).later(Duration::from_secs(3600)).await?;
    ///     Ok(())
    /// }
    ///
    /// let app = App::stateless().job::<SendMail>();
    /// let played = Simulation::new(app).play(async |client| sign_up(&client, "ada@example.org").await)?;
    ///
    /// let mails = played.enqueued::<SendMail>()?;
    /// assert_eq!((mails.len(), mails[0].job.to.as_str(), mails[0].queue.as_str()), (1, "ada@example.org", "mail"));
    /// assert_eq!(mails[0].later, Some(Duration::from_secs(3600)));
    /// assert_eq!((mails[0].state, mails[0].attempts.len()), (JobState::Succeeded, 2));
    /// # Ok::<(), gusher::Error>(())
    /// ```
    pub fn play<F>(self, code: impl FnOnce(Client) -> F + Send) -> Result<Played>
    where
        F: Future<Output = Result<()>>,
    {
        if !self.acts.is_empty() {
            return Err(Error::usage(
                "`.at(..)` does something with the workflow of `.run(..)`; code that is played waits with `tokio::time::sleep`",
            ));
        }
        in_virtual_time(&self.setup, Script::default(), async |stage| {
            conduct(&self.app, &self.setup, stage, code).await
        })
    }
}

async fn conduct<S: Send + Sync + 'static, F: Future<Output = Result<()>>>(
    app: &App<S>,
    setup: &Setup,
    stage: Arc<Stage>,
    code: impl FnOnce(Client) -> F,
) -> Result<Played> {
    let (store, client) = open(app, &stage)?;
    let ended = OnceCell::new();
    let all = async {
        let code = async {
            let returned = code(client.clone()).await;
            ended.get_or_init(|| returned);
        };
        // While the code waits for another thread everything stands still, as for a job.
        let mut code = pin!(watch::follow(Some(Process::new(0, stage.clone())), code));
        if setup.run_by == RunBy::Nobody {
            code.await;
            return Ok(());
        }
        work(app, setup, &store, &stage, async || {
            code.as_mut().await;
            // Whoever fails wants to hear of it at once.
            if ended.get().is_some_and(Result::is_err) { Ok(()) } else { rest(&store, &stage).await }
        })
        .await
    };
    let done = tokio::time::timeout(setup.at_most, all).await;
    stage.is_over();
    match (done, ended.into_inner()) {
        (_, Some(Err(error))) => return Err(error),
        (Ok(worked), _) => worked?,
        (Err(_), None) => {
            return Err(Error::refused(format!("the code has not ended after {:?} of virtual time", setup.at_most)));
        }
        (Err(_), Some(Ok(()))) => return Err(what_is_left(&client, setup).await?),
    }
    let elapsed = stage.elapsed();
    check(&store).await?;
    let (_, _, attempts) = stage.take_records();
    let mut enqueued = stage.take_enqueued();
    note_what_became(&store, &mut enqueued).await?;
    Ok(Played { enqueued, attempts, elapsed })
}

/// Waits until every lone job has settled, and every workflow has finished.
async fn rest(store: &Arc<dyn Store>, stage: &Stage) -> Result<()> {
    while !is_at_rest(&**store).await? {
        stage.called.notified().await;
    }
    Ok(())
}

async fn is_at_rest(store: &dyn Store) -> Result<bool> {
    let list = |state| List { state: Some(state), limit: LANES, ..List::default() };
    let lanes = store.workflows(list(WorkflowState::Standing)).await?;
    if lanes.iter().any(|lane| lane.jobs.unsettled() > 0) {
        return Ok(false);
    }
    let unfinished =
        WorkflowState::ALL.iter().filter(|state| !state.is_finished() && **state != WorkflowState::Standing);
    for state in unfinished {
        if !store.workflows(List { limit: 1, ..list(*state) }).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn what_is_left(client: &Client, setup: &Setup) -> Result<Error> {
    let queues = setup.queues_of(client.registry());
    let lanes = client.lanes().await?.into_iter().filter(|lane| lane.jobs.unsettled() > 0).map(|lane| {
        let taken = queues.contains(&lane.queue);
        let hint =
            if taken { "" } else { ", from which no worker takes unless the simulation is given that `.queue(..)`" };
        format!("{} of {} in `{}`{hint}", lane.jobs.unsettled(), lane.job_type, lane.queue)
    });
    let workflows = client.workflows().page(LANES).await?.into_iter().filter(|workflow| !workflow.state.is_finished());
    let workflows =
        workflows.map(|workflow| format!("{} {} ({})", workflow.name, workflow.id, workflow.state.as_str()));
    let left: Vec<String> = lanes.chain(workflows).collect();
    let after = setup.at_most;
    Ok(Error::refused(format!("after {after:?} of virtual time these have not come to their end: {}", left.join("; "))))
}
