//! docs/lone-jobs.md

use super::*;

#[derive(Serialize, Deserialize)]
struct SendMail { to: String }

impl Job for SendMail {
    const NAME: &str = "SendMail";
    type Output = ();
    type State = Mailer;
    async fn perform(self, ctx: &Context<Mailer>) -> JobResult<()> {
        Ok(ctx.state().welcome(&self.to).await?)
    }
}

#[derive(Serialize, Deserialize)]
struct SyncCustomer { customer: u64 }

impl Job for SyncCustomer {
    const NAME: &str = "SyncCustomer";
    const LIMIT_PER_KEY: Limit = Limit::at_once(1).and_rate(100, Duration::from_secs(60));
    type Output = ();
    type State = ();
    fn key(&self) -> Option<String> {
        Some(self.customer.to_string())
    }
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Remind { invoice: u64 }

impl Job for Remind {
    const NAME: &str = "Remind";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

async fn remind(client: &Client, invoice: u64) -> gusher::Result<()> {
    let first = {
        let reminder = client.enqueue(Remind { invoice }).unique(Unique::until_settled(invoice)).await?;
        reminder.id()
    };
    let reminder = client.enqueue(Remind { invoice }).unique(Unique::until_settled(invoice).or_first()).await?;
    assert_eq!(reminder.id(), first);
    Ok(())
}

#[tokio::test]
async fn keys_are_a_line_each() {
    let house = House::new();
    let client = house.client(&App::stateless().job::<SyncCustomer>().job::<Remind>());
    remind(&client, 7).await.unwrap();
    client.enqueue_all([1, 1, 2].map(|customer| SyncCustomer { customer })).await.unwrap();
    let sync = client.lanes().await.unwrap().into_iter().find(|lane| lane.job_type == "SyncCustomer").unwrap();
    assert_eq!((sync.jobs.total, sync.jobs.deferred), (3, 1));
}

async fn send(client: &Client, readers: impl Iterator<Item = String>) -> gusher::Result<()> {
    client.enqueue(SendMail { to: "ada@example.org".into() }).await?;
    client.enqueue(SendMail { to: "bob@example.org".into() }).later(Duration::from_secs(3_600)).await?;
    client.enqueue(SendMail { to: "eve@example.org".into() }).queue("newsletters").priority(-5).await?;
    client.enqueue_all(readers.map(|to| SendMail { to })).await?;
    Ok(())
}

async fn cancel(client: &Client) -> gusher::Result<()> {
    let reminder = client.enqueue(SendMail { to: "bob@example.org".into() }).later(Duration::from_secs(3_600)).await?;
    reminder.cancel().await?;
    let mails = client.lone_jobs().of::<SendMail>().queue("newsletters");
    let gone = mails.cancel(|mail| mail.to == "eve@example.org").await?;
    println!("{} never start, {} are told to stop", gone.cancelled, gone.stopping);
    client.enqueue(SendMail { to: "ada@example.org".into() }).expires_in(Duration::from_secs(600)).await?;
    Ok(())
}

/// Goes on where it was.
#[derive(Serialize, Deserialize)]
struct Welcome { readers: Vec<String> }

impl Job for Welcome {
    const NAME: &str = "Welcome";
    type Output = ();
    type State = Mailer;
    async fn perform(self, ctx: &Context<Mailer>) -> JobResult<()> {
        let from: usize = ctx.last_checkpoint().await?.unwrap_or(0);
        for (n, to) in self.readers.iter().enumerate().skip(from) {
            ctx.state().welcome(to).await?;
            ctx.checkpoint(&(n + 1)).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_mail_is_one_line() {
    let house = House::new();
    let app = App::new(|| async { Ok::<_, std::convert::Infallible>(Mailer) }).job::<SendMail>();
    let client = house.client(&app);
    send(&client, ["a@example.org".to_owned()].into_iter()).await.unwrap();
    let jobs: Vec<(String, u64)> =
        client.lanes().await.unwrap().into_iter().map(|lane| (lane.queue, lane.jobs.total)).collect();
    assert_eq!(jobs, [("default".to_owned(), 3), ("newsletters".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_cancelled_and_a_long_job_goes_on() {
    let house = House::new();
    let app = App::new(|| async { Ok::<_, std::convert::Infallible>(Mailer) }).job::<SendMail>().job::<Welcome>();
    let client = house.client(&app);
    cancel(&client).await.unwrap();
    let lanes = client.lanes().await.unwrap();
    assert_eq!(lanes.iter().map(|lane| lane.jobs.cancelled).sum::<u64>(), 1);
    let worker = house.worker(&app).await;
    let readers = vec!["a@example.org".into(), "b@example.org".into()];
    client.enqueue(Welcome { readers }).await.unwrap().wait().await.unwrap();
    worker.stop().await;
    house.check().await;
}
