//! What follows an error, by its type.

mod support;

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
