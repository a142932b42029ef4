//! What the guides show: every line of Rust in them is one of these, and so is what the tables of docs/coming-from-*.md name of ours.
//!
//! docs/lone-jobs.md, docs/limits.md, docs/schedules.md, docs/coming-from-*.md, and lone jobs in docs/testing-your-workflow.md

mod support;

use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::testing::Simulation;
use gusher::{
    AroundPerform, JobState, JobToEnqueue, Keep, Next, Pausable, Performed, Retention, Started, Unique, WorkflowState,
};
use support::House;

#[derive(Clone, Default)]
struct Mailer;

#[derive(Debug, thiserror::Error)]
#[error("the server is busy")]
struct Busy;

#[derive(Debug, thiserror::Error)]
#[error("the user has left")]
struct UserIsGone;

impl Mailer {
    async fn welcome(&self, to: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match to {
            "busy@example.org" => Err(Busy.into()),
            "gone@example.org" => Err(UserIsGone.into()),
            _ => Ok(()),
        }
    }
}

/// Jobs of which only the parameters matter here.
macro_rules! does_nothing {
    ($state:ty: $($job:ident)+) => {$(
        impl Job for $job {
            const NAME: &str = stringify!($job);
            type Output = ();
            type State = $state;
            async fn perform(self, _: &Context<$state>) -> JobResult<()> {
                Ok(())
            }
        }
    )+};
}

#[rustfmt::skip]
mod sidekiq {
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
}

#[rustfmt::skip]
mod gush {
    use super::*;

    fn count_rows(file: &str) -> usize {
        read_rows(file).len()
    }

    fn read_rows(file: &str) -> Vec<String> {
        file.split(' ').map(str::to_owned).collect()
    }

    #[derive(Serialize, Deserialize)]
    struct ImportCsv { from: String }

    impl Job for ImportCsv {
        const NAME: &str = "ImportCsv";
        type Output = usize;
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<usize> {
            Ok(count_rows(&self.from))
        }
    }

    #[derive(Serialize, Deserialize)]
    struct ImportXml { from: String }
    #[derive(Serialize, Deserialize)]
    struct GenReport {}

    does_nothing!((): ImportXml GenReport);

    #[derive(Serialize, Deserialize)]
    struct ImportWorkflow { csv: String, xml: String }

    impl Workflow for ImportWorkflow {
        const NAME: &str = "ImportWorkflow";
        fn configure(&self, flow: &Flow) -> gusher::Result<()> {
            let csv = flow.run(ImportCsv { from: self.csv.clone() });
            let xml = flow.run(ImportXml { from: self.xml.clone() });
            flow.run(GenReport {}).after((csv, xml));
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct ImportRow { row: String }

    impl Job for ImportRow {
        const NAME: &str = "ImportRow";
        type Output = usize;
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<usize> {
            Ok(self.row.len())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct ReadRows { from: String }

    impl Source for ReadRows {
        const NAME: &str = "ReadRows";
        type Emits = ImportRow;
        type State = ();
        async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
            for row in read_rows(&self.from) {
                rows.emit(ImportRow { row }).await?;
            }
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct SumUp { added: Outputs<usize> }

    impl Job for SumUp {
        const NAME: &str = "SumUp";
        type Output = usize;
        type State = ();
        async fn perform(self, ctx: &Context) -> JobResult<usize> {
            let lengths: Vec<(u64, usize)> = self.added.stream(ctx).try_collect().await?;
            Ok(lengths.into_iter().map(|(_, length)| length).sum())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct RowByRow { csv: String }

    impl Workflow for RowByRow {
        const NAME: &str = "RowByRow";
        fn configure(&self, flow: &Flow) -> gusher::Result<()> {
            let rows = flow.expand(ReadRows { from: self.csv.clone() });
            flow.run(SumUp { added: rows.outputs() });
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Later {}

    impl Workflow for Later {
        const NAME: &str = "Later";
        fn configure(&self, flow: &Flow) -> gusher::Result<()> {
            let (job, minutes) = (GenReport {}, Duration::from_secs(300));
            flow.run(job).queue("imports").delay(minutes);
            Ok(())
        }
    }

    fn app() -> App {
        App::stateless().retention(Retention::days(7))
            .workflow::<ImportWorkflow>().source::<ReadRows>().job::<ImportRow>().job::<SumUp>()
            .job::<ImportCsv>().job::<ImportXml>().job::<GenReport>()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_people_of_gush_look_for_is_there() -> gusher::Result<()> {
        let house = House::new();
        let client = house.client(&app());
        client.start(ImportWorkflow { csv: "airports.csv".into(), xml: "territories.xml".into() }).await?;
        for is_new in [true, false] {
            let import = ImportWorkflow { csv: "airports.csv".into(), xml: "territories.xml".into() };
            let started = client.start(import).unless_running().await?;
            assert_eq!(started.is_new(), is_new);
        }
        let import = ImportWorkflow { csv: "airports.csv".into(), xml: "territories.xml".into() };
        match client.start(import).unless_running().await? {
            Started::New(run) => println!("started {}", run.id()),
            Started::Running(run) => println!("{} has not finished", run.id()),
        }
        let import = ImportWorkflow { csv: "airports.csv".into(), xml: "territories.xml".into() };
        let unconditional = client.start(import).await?;
        let id = unconditional.id();
        let imports: Vec<_> = client.workflows().of::<ImportWorkflow>().stream().try_collect().await?;
        assert_eq!(imports.len(), 3);

        let worker = house.worker(&app()).await;
        let rows = client.start(RowByRow { csv: "one two three".into() }).await?;
        assert_eq!(rows.wait().await?.state, WorkflowState::Succeeded);
        assert_eq!(serde_json::from_str::<usize>(rows.job("SumUp", 0).await?.output.unwrap().get()).unwrap(), 11);
        assert_eq!(unconditional.wait().await?.state, WorkflowState::Succeeded);
        let later = client.start(Later {}).await?.status().await?;
        assert_eq!(later.steps[0].queue, "imports");
        worker.stop().await;

        assert_eq!(client.find(id).await?.status().await?.state, WorkflowState::Succeeded);
        assert_eq!(client.find(id).await?.retry_failed(None).await?, 0);
        client.find(id).await?.delete().await?;
        house.check().await;
        Ok(())
    }
}

#[rustfmt::skip]
mod lone_jobs {
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
}

#[rustfmt::skip]
mod limits {
    use super::*;
    use gusher::Limit;

    #[derive(Serialize, Deserialize)]
    struct Geocode;

    impl Job for Geocode {
        const NAME: &str = "Geocode";
        const LIMIT: Limit = Limit::at_once(20).and_rate(100, Duration::from_secs(60));
        type Output = ();
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<()> {
            Ok(())
        }
    }

    fn app() -> App {
        App::stateless().job::<Geocode>().queue("imports").limit(Limit::at_once(5))
    }

    #[derive(Serialize, Deserialize)]
    struct Call;

    impl Job for Call {
        const NAME: &str = "Call";
        const LIMIT: Limit = Limit::rate(100, Duration::from_secs(60));
        type Output = ();
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<()> {
            Ok(())
        }
    }

    fn few_mails(app: App) -> App {
        app.queue("mail").limit(Limit::at_once(8))
    }

    #[test]
    fn limits_are_two_lines() {
        app().check().unwrap();
        few_mails(app().job::<Call>()).check().unwrap();
        assert_eq!(Call::LIMIT.starts().map(|rate| (rate.starts, rate.period)), Some((100, 60_000)));
    }
}

#[rustfmt::skip]
mod hooks {
    use super::*;

    tokio::task_local! {
        static TENANT: &'static str;
    }

    /// The databases of tenants.
    #[derive(Default)]
    struct Tenants;

    impl Tenants {
        async fn connect() -> Result<Self, std::io::Error> {
            Ok(Self)
        }

        async fn check_out(&self, job_type: &str) -> Result<&'static str, std::io::Error> {
            if job_type == "SendMail" { Ok("acme") } else { Err(std::io::Error::other("whose?")) }
        }
    }

    /// Tells for whom it works.
    #[derive(Serialize, Deserialize)]
    struct SendMail { to: String }

    impl Job for SendMail {
        const NAME: &str = "SendMail";
        type Output = String;
        type State = Tenants;
        async fn perform(self, _: &Context<Tenants>) -> JobResult<String> {
            if self.to.is_empty() {
                return Err(JobError::fatal("to nobody"));
            }
            Ok(format!("{} of {}", self.to, TENANT.get()))
        }
    }

    static REPORTED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

    fn report(job_type: &str, _: String, attempt: u32, error: &JobError) {
        REPORTED.lock().unwrap().push(format!("{job_type}, attempt {attempt}: {error}"));
    }

    /// Sends what fails to where people look.
    struct ReportErrors;

    impl<S: Send + Sync + 'static> AroundPerform<S> for ReportErrors {
        async fn around(&self, ctx: &Context<S>, next: Next<'_>) -> JobResult<Performed> {
            let ended = next.run().await;
            if let Err(error) = &ended && error.is_failure() {
                report(ctx.job_type(), ctx.idempotency_key(), ctx.attempt(), error);
            }
            ended
        }
    }

    /// Lets the jobs of a tenant work for that tenant, whoever it is.
    struct ForTenant;

    impl AroundPerform<Tenants> for ForTenant {
        async fn around(&self, ctx: &Context<Tenants>, next: Next<'_>) -> JobResult<Performed> {
            let tenant = ctx.state().check_out(ctx.job_type()).await?;
            TENANT.scope(tenant, next.run()).await
        }
    }

    fn app() -> App<Tenants> {
        App::new(Tenants::connect)
            .job::<SendMail>()
            .around_perform(ReportErrors)
            .around_perform(ForTenant)
            .before_enqueue(|job| match job.parameters.contains("@example.invalid") {
                true => Err("nobody reads mail there".into()),
                false => Ok(()),
            })
    }

    fn may_be_sent(job: &JobToEnqueue<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if job.parameters.contains("@example.invalid") {
            return Err("nobody reads mail there".into());
        }
        Ok(())
    }

    /// The same hooks, one by one.
    fn hooked(app: App<Tenants>) -> App<Tenants> {
        let app = app.around_perform(ReportErrors);
        app.before_enqueue(may_be_sent)
    }

    async fn send_now(client: &Client) -> gusher::Result<String> {
        let sent = client.perform_now(SendMail { to: "ada@example.org".into() }).await?;
        Ok(sent)
    }

    #[tokio::test]
    async fn hooks_are_around_what_is_performed_and_are_asked_before_what_is_enqueued() {
        let house = House::new();
        let client = house.client(&app());
        assert_eq!(send_now(&client).await.unwrap(), "ada@example.org of acme");
        client.perform_now(SendMail { to: String::new() }).await.unwrap_err();
        assert_eq!(*REPORTED.lock().unwrap(), ["SendMail, attempt 1: to nobody"]);
        for client in [client, house.client(&hooked(App::new(Tenants::connect).job::<SendMail>()))] {
            let refused = client.enqueue(SendMail { to: "eve@example.invalid".into() }).await.unwrap_err();
            assert_eq!(refused.to_string(), "SendMail is not enqueued: nobody reads mail there");
        }
    }
}

#[rustfmt::skip]
mod played {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct SendMail { to: String }

    impl Job for SendMail {
        const NAME: &str = "SendMail";
        const QUEUE: &str = "mail";
        type Output = ();
        type State = Mailer;
        async fn perform(self, ctx: &Context<Mailer>) -> JobResult<()> {
            Ok(ctx.state().welcome(&self.to).await?)
        }
    }

    fn app() -> App<Mailer> {
        App::new(|| async { Ok::<_, std::convert::Infallible>(Mailer) }).job::<SendMail>()
    }

    async fn sign_up(client: &Client, who: &str) -> gusher::Result<()> {
        client.enqueue(SendMail { to: who.into() }).await?;
        client.enqueue(SendMail { to: who.into() }).later(Duration::from_secs(24 * 3_600)).await?;
        Ok(())
    }

    #[test]
    fn who_signs_up_gets_a_mail_at_once_and_another_one_a_day_later() {
        let played = Simulation::new(app()).play(async |client| sign_up(&client, "ada@example.org").await).unwrap();

        let mails = played.enqueued::<SendMail>().unwrap();
        assert_eq!((mails.len(), mails[0].job.to.as_str()), (2, "ada@example.org"));
        assert_eq!((mails[1].queue.as_str(), mails[1].later), ("mail", Some(Duration::from_secs(24 * 3_600))));
        assert_eq!((mails[1].state, mails[1].attempts.len()), (JobState::Succeeded, 1));
        assert!(played.failures().is_empty());
    }

    #[test]
    fn both_mails_are_sent_as_they_are_enqueued_or_not_at_all() {
        let inline = Simulation::new(app()).inline().play(async |client| sign_up(&client, "ada@example.org").await);
        let unworked = Simulation::new(app()).without_workers().play(async |client| sign_up(&client, "ada@example.org").await);

        let (inline, unworked) = (inline.unwrap(), unworked.unwrap());
        assert_eq!((inline.enqueued::<SendMail>().unwrap().len(), inline.ran::<SendMail>()), (2, 2));
        assert_eq!((unworked.enqueued::<SendMail>().unwrap().len(), unworked.ran::<SendMail>()), (2, 0));
    }
}

#[rustfmt::skip]
mod schedules {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct ImportWorkflow { day: String }

    impl Workflow for ImportWorkflow {
        const NAME: &str = "ImportWorkflow";
        fn configure(&self, _: &Flow) -> gusher::Result<()> {
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct SendMail { to: String }
    does_nothing!((): SendMail);

    fn app() -> App {
        App::stateless()
            .workflow::<ImportWorkflow>()
            .schedule("nightly import")
            .cron("0 2 * * *")
            .zone("Europe/Berlin")
            .unless_running()
            .start(ImportWorkflow { day: "{at:%Y-%m-%d}".into() })
    }

    fn nightly(app: App, import: ImportWorkflow) -> App {
        app.schedule("nightly import").cron("0 2 * * *").zone("Europe/Berlin").unless_running().start(import)
    }

    fn weekly(app: App, digest: SendMail) -> App {
        app.schedule("digest").cron("0 7 * * MON").zone("Europe/Berlin").enqueue(digest)
    }

    async fn change(client: &Client) -> gusher::Result<()> {
        let schedule = client.schedule("hourly mail").cron("0 * * * *").enqueue(SendMail { to: "ada@example.org".into() }).await?;
        schedule.pause().await?;
        schedule.resume().await?;
        schedule.run().await?;
        for occurrence in schedule.history(None, 20).await? {
            println!("{} {}", occurrence.at, occurrence.state.as_str());
        }
        schedule.remove().await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_schedule_is_declared_and_changed_in_these_lines() {
        let house = House::new();
        app().check().unwrap();
        let nights = nightly(App::stateless().workflow::<ImportWorkflow>(), ImportWorkflow { day: String::new() });
        weekly(nights.job::<SendMail>(), SendMail { to: String::new() }).check().unwrap();
        let client = house.client(&app().job::<SendMail>());
        change(&client).await.unwrap();
        assert!(client.schedules().await.unwrap().is_empty());
        assert_eq!(client.lanes().await.unwrap()[0].jobs.total, 1);
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Without any spaces: a guide breaks its lines elsewhere.
fn bare(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn every_line_of_rust_in_the_guides_is_one_of_this_file() {
    let here = bare(&read("tests/guides.rs"));
    let mut checked = 0;
    for guide in ["lone-jobs", "limits", "coming-from-sidekiq", "coming-from-gush", "schedules"]
        .map(|name| format!("docs/{name}.md"))
    {
        let text = read(&guide);
        for block in text.split("```rust\n").skip(1) {
            let code = block.split("```").next().unwrap();
            assert!(here.contains(&bare(code)), "{guide}: not in this file:\n{code}");
            checked += 1;
        }
    }
    // The second column of the tables: whatever looks like code of ours.
    let values = ["client.", "flow.", "app.", "ctx.", "played.", "error."];
    let types = ["App::", "JobError::", "Limit::", "Retry::", "Simulation::", "Unique::"];
    let begins = [".", "const ", "fn ", "async fn "];
    let is_ours = |code: &&str| {
        values.iter().chain(&types).any(|ours| code.contains(ours)) || begins.iter().any(|ours| code.starts_with(ours))
    };
    let others = ["sidekiq", "gush", "celery", "bullmq", "oban"];
    let tables: String = others.iter().map(|name| read(&format!("docs/coming-from-{name}.md"))).collect();
    let here = here + &bare(&read("tests/transactions.rs"));
    for row in tables.lines().filter(|line| line.starts_with("| ")) {
        // A bar within a cell is written so.
        let row = row.replace("\\|", "\u{0}");
        let ours = row.trim_matches('|').rsplit(" | ").next().unwrap().replace('\u{0}', "|");
        for code in ours.split('`').skip(1).step_by(2).filter(is_ours) {
            assert!(here.contains(&bare(code)), "in the table, but not in this file: {code}");
            checked += 1;
        }
    }
    assert!(checked >= 120, "only {checked} pieces of code");
}
