//! docs/coming-from-sidekiq.md

use super::*;

#[derive(Serialize, Deserialize)]
struct SendMail { to: String }

impl Job for SendMail {
    const NAME: &str = "SendMail";
    const QUEUE: &str = "mail";
    const RETRY: Retry = Retry::exponential(Duration::from_secs(1)).attempts(9);
    type Output = ();
    type State = Mailer;
    async fn perform(self, ctx: &Context<Mailer>) -> JobResult<()> {
        Ok(ctx.state().welcome(&self.to).await?)
    }
}

/// Tried as its errors deserve.
#[derive(Serialize, Deserialize)]
struct Remind { to: String }

impl Job for Remind {
    const NAME: &str = "Remind";
    const RETRY: Retry = Retry::never();
    type Output = ();
    type State = Mailer;
    fn retry_on(error: &JobError) -> Option<Retry> {
        if error.is::<Busy>() {
            Some(Retry::every(Duration::from_secs(5)).attempts(20))
        } else {
            None
        }
    }
    fn discard_on(error: &JobError) -> bool {
        error.is::<UserIsGone>()
    }
    async fn perform(self, ctx: &Context<Mailer>) -> JobResult<()> {
        ctx.state().welcome(&self.to).await?;
        let to = self.to.parse::<String>().fatal()?;
        ctx.perform_now(SendMail { to }).await?;
        let to = self.to;
        ctx.enqueue(SendMail { to }).await?;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Count { of: Vec<u32> }

impl Job for Count {
    const NAME: &str = "Count";
    type Output = usize;
    type State = Mailer;
    async fn perform(self, _: &Context<Mailer>) -> JobResult<usize> {
        Ok(self.of.len())
    }
}

/// One reader after the other: it goes on where it was, and lets others go first in between.
#[derive(Serialize, Deserialize)]
struct Newsletter { readers: Vec<String> }

impl Job for Newsletter {
    const NAME: &str = "Newsletter";
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(600));
    type Output = u64;
    type State = Mailer;
    async fn perform(self, ctx: &Context<Mailer>) -> JobResult<u64> {
        let done: u64 = ctx.last_checkpoint().await?.unwrap_or(0);
        let (of, line) = (self.readers.len() as u64, format!("{done} have been welcomed"));
        ctx.progress(done, of);
        ctx.log(line);
        if let Some(to) = self.readers.get(done as usize) {
            ctx.state().welcome(to).await.discard()?;
            let (cursor, duration) = (done + 1, Duration::from_millis(1));
            ctx.checkpoint(&cursor).await?;
            return Err(JobError::postpone(duration));
        }
        Ok(done)
    }
}

#[derive(Serialize, Deserialize)]
struct ImportRow { row: u32 }
#[derive(Serialize, Deserialize)]
struct Report;
#[derive(Serialize, Deserialize)]
struct TidyUp;
does_nothing!(Mailer: ImportRow Report TidyUp);

#[derive(Serialize, Deserialize)]
struct Batch { rows: Vec<u32> }

impl Workflow for Batch {
    const NAME: &str = "Batch";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run_each(self.rows.clone().into_iter().map(|row| ImportRow { row }));
        flow.run(Report).after(rows);
        flow.run(TidyUp).after_settled(rows);
        Ok(())
    }
}

fn app() -> App<Mailer> {
    let app = App::new(|| async { Ok::<_, std::convert::Infallible>(Mailer) })
        .job::<SendMail>().job::<Remind>().job::<Count>().job::<ImportRow>().job::<Report>().job::<TidyUp>()
        .job::<Newsletter>();
    let (outputs, failures) = (Duration::from_secs(24 * 3_600), Duration::from_secs(7 * 24 * 3_600));
    let app = app.keep_lone_jobs(Keep { outputs, failures });
    let app = app.retention(Retention::days(7));
    app.slots(8)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_of_sidekiq_look_for_is_there() {
    let (house, hour, time) = (House::new(), Duration::from_secs(3_600), 1_000);
    let client = house.client(&app());
    let to = String::from("ada@example.org");
    let soon = client.enqueue(SendMail { to }).await.unwrap();
    let to = String::from("ada@example.org");
    client.enqueue(SendMail { to }).later(hour).await.unwrap();
    let to = String::from("ada@example.org");
    client.enqueue(SendMail { to }).at(time).await.unwrap();
    let to = String::from("ada@example.org");
    client.enqueue(SendMail { to }).queue("low").priority(5).await.unwrap();
    let to = String::from("ada@example.org");
    client.perform_now(SendMail { to }).await.unwrap();
    let readers = (0..3).map(|n| SendMail { to: format!("{n}@example.org") });
    client.enqueue_all(readers).await.unwrap();
    let (to, user) = (String::from("ada@example.org"), 7);
    client.enqueue(SendMail { to }).unique(Unique::until_settled(user)).later(hour).await.unwrap();
    let to = String::from("ada@example.org");
    client.enqueue(SendMail { to }).expires_in(hour).await.unwrap();
    let to = String::from("ada@example.org");
    client.enqueue(SendMail { to }).deadline(time).await.unwrap();
    let job = client.enqueue(Remind { to: "bob@example.org".into() }).later(hour).await.unwrap();
    let id = job.id();
    let cancelled = async {
        client.cancel_job(id).await?;
        client.lone_jobs().of::<Remind>().cancel_all().await
    };
    cancelled.await.unwrap();
    let to = String::from("bob@example.org");
    client.enqueue(Remind { to }).unique(Unique::until_started(user)).later(hour).await.unwrap();
    client.enqueue(Count { of: vec![] }).unique(Unique::for_a_time(hour, user)).later(hour).await.unwrap();
    client.pause(Pausable::Queue("mail".into())).await.unwrap();
    let worker = house.worker(&app()).await;
    let of = vec![1, 2, 3];
    let count = async {
        let counted = client.enqueue(Count { of }).await?.wait().await?;
        Ok::<usize, gusher::Error>(counted)
    };
    assert_eq!(count.await.unwrap(), 3);
    client.resume(Pausable::Queue("mail".into())).await.unwrap();
    soon.wait().await.unwrap();
    let gone = client.enqueue(Remind { to: "gone@example.org".into() }).await.unwrap();
    assert!(gone.wait().await.unwrap_err().to_string().contains("skipped"));
    let readers = vec!["ada@example.org".into(), "bob@example.org".into()];
    let sent = client.enqueue(Newsletter { readers }).await.unwrap();
    assert_eq!(sent.wait().await.unwrap(), 2);
    let sent = sent.status().await.unwrap();
    assert_eq!((sent.attempts, sent.logs), (1, vec![String::from("2 have been welcomed")]));
    let left = client.enqueue(Newsletter { readers: vec!["gone@example.org".into()] }).await.unwrap();
    assert!(left.wait().await.unwrap_err().to_string().contains("skipped"));
    let run = client.start(Batch { rows: vec![1, 2, 3] }).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    worker.stop().await;
    house.check().await;
}
