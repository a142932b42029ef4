//! What follows an error, by its type.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gusher::WorkflowState;
use gusher::prelude::*;
use support::House;

#[derive(Debug, thiserror::Error)]
#[error("the server is busy")]
struct Busy;

#[derive(Debug, thiserror::Error)]
#[error("there is no such mailbox")]
struct NoSuchMailbox;

/// One among whose causes is the one that matters.
#[derive(Debug, thiserror::Error)]
#[error("the mail was not sent")]
struct NotSent(#[source] NoSuchMailbox);

/// Tried twice, but as often as it takes while the server is busy, and once if there is nobody to get it.
#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

impl Job for Mail {
    const NAME: &str = "Mail";
    const RETRY: Retry = Retry::every(Duration::from_millis(1)).attempts(2);
    type Output = u32;
    type State = ();

    fn retry_on(error: &JobError) -> Option<Retry> {
        if error.is::<NoSuchMailbox>() {
            Some(Retry::never())
        } else if error.is::<Busy>() {
            Some(Retry::every(Duration::from_millis(1)).attempts(9))
        } else {
            None
        }
    }

    async fn perform(self, ctx: &Context) -> JobResult<u32> {
        match self.to.as_str() {
            "busy" if ctx.attempt() < 5 => Err(Busy)?,
            "nobody" => Err(NotSent(NoSuchMailbox))?,
            "urgent" => Err(Busy).fatal()?,
            "broken" => Err(std::io::Error::other("the line is dead"))?,
            _ => {}
        }
        Ok(ctx.attempt())
    }
}

#[derive(Serialize, Deserialize)]
struct Mails {
    to: Vec<String>,
}

impl Workflow for Mails {
    const NAME: &str = "Mails";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each(self.to.clone().into_iter().map(|to| Mail { to }));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_of_an_error_decides_how_often_its_job_is_tried() {
    let (house, app) = (House::new(), App::stateless().job::<Mail>());
    let worker = house.worker(&app).await;
    let to = ["busy", "nobody", "urgent", "broken", "Ada"].map(String::from).to_vec();
    let run = house.client(&app).start(Mails { to }).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let mut attempts = Vec::new();
    for index in 0..5 {
        let job = run.job("Mail", index).await.unwrap();
        attempts.push((job.attempts, job.output.map(|output| output.get().to_owned())));
    }
    let succeeded = |output: &str| Some(output.to_owned());
    assert_eq!(attempts, [(5, succeeded("5")), (1, None), (1, None), (2, None), (1, succeeded("1"))]);
    worker.stop().await;
    house.check().await;
}

#[derive(Debug, thiserror::Error)]
#[error("the reader has left")]
struct ReaderIsGone;

/// Runs when it is its time: not before it has been asked three times. Whose reader has left is not wanted any more.
#[derive(Serialize, Deserialize)]
struct Reminder {
    reader: Option<String>,
}

static ASKED: AtomicU32 = AtomicU32::new(0);

impl Job for Reminder {
    const NAME: &str = "Reminder";
    const RETRY: Retry = Retry::never();
    type Output = u32;
    type State = ();

    fn discard_on(error: &JobError) -> bool {
        error.is::<ReaderIsGone>()
    }

    async fn perform(self, ctx: &Context) -> JobResult<u32> {
        let reader = self.reader.ok_or(ReaderIsGone)?;
        if reader == "nobody" {
            return Err(JobError::discard("nobody reads this"));
        }
        if ASKED.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(JobError::postpone(Duration::from_millis(20)));
        }
        Ok(ctx.attempt())
    }
}

#[derive(Serialize, Deserialize)]
struct Reminders;

impl Workflow for Reminders {
    const NAME: &str = "Reminders";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let readers = [Some("Ada"), None, Some("nobody")];
        flow.run_each(readers.map(|reader| Reminder { reader: reader.map(String::from) }));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_postponed_without_using_up_an_attempt_and_discarded_without_a_failure() {
    let (house, app) = (House::new(), App::stateless().job::<Reminder>());
    let worker = house.worker(&app).await;
    let run = house.client(&app).start(Reminders).await.unwrap();
    let ended = run.wait().await.unwrap();
    assert_eq!((ended.state, ended.jobs.succeeded, ended.jobs.skipped), (WorkflowState::Succeeded, 1, 2));
    let reminded = run.job("Reminder", 0).await.unwrap();
    assert_eq!((reminded.attempts, ASKED.load(Ordering::SeqCst)), (1, 3));
    let discarded = run.job("Reminder", 1).await.unwrap();
    assert_eq!(discarded.errors.last().unwrap().error, "the reader has left");
    worker.stop().await;
    house.check().await;
}
