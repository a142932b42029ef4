//! A workflow whose jobs can kill the process that runs them, for tests with real workers: the `crew` binary is such a worker.

#[path = "../../support/work.rs"]
mod work;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use work::work_for;

/// A job for each of `rows` numbers, then a report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Count {
    pub rows: u64,
    /// The row that aborts every process which runs it.
    pub poison: Option<u64>,
    /// Where each row stands until the test lets it pass, if it is given.
    pub gate: Option<SocketAddr>,
}

impl Workflow for Count {
    const NAME: &str = "Count";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let (poison, gate) = (self.poison, self.gate);
        let rows = (0..self.rows).map(move |n| Row { n, aborts: poison == Some(n), gate });
        let rows = flow.run_each(rows).tolerate(Tolerate::Jobs(u64::from(self.poison.is_some())));
        flow.run(Report { rows: rows.outputs() });
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    n: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    aborts: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<SocketAddr>,
}

impl Job for Row {
    const NAME: &str = "Row";
    type Output = u64;
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<u64> {
        if self.aborts {
            std::process::abort();
        }
        if let Some(gate) = self.gate {
            let mut gate = TcpStream::connect(gate).await?;
            gate.write_u32(std::process::id()).await?;
            gate.write_u64(self.n).await?;
            gate.read_u8().await?;
        }
        Ok(self.n)
    }
}

/// Rows that some eager sources emit, then a report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Feeds {
    pub feeds: u64,
    pub rows: u64,
}

impl Workflow for Feeds {
    const NAME: &str = "Feeds";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = self.rows;
        let feeds = (0..self.feeds).map(move |feed| Feed { first: feed * rows, rows });
        let rows = flow.expand_each(feeds).eager().ahead(400);
        // They are killed from outside, and more often than a source that kills its workers itself would be let.
        rows.max_recoveries(200).source(|feeds| feeds.max_recoveries(200));
        flow.run(Report { rows: rows.outputs() });
        Ok(())
    }
}

/// Emits rows; an attempt goes on behind what the one before has emitted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Feed {
    first: u64,
    rows: u64,
}

impl Source for Feed {
    const NAME: &str = "Feed";
    type Emits = Row;
    type State = ();

    async fn produce(self, _: &Context, out: &mut Emitter<Row>) -> JobResult<()> {
        for n in self.first + out.done().await?..self.first + self.rows {
            out.emit(Row { n, aborts: false, gate: None }).await?;
        }
        Ok(())
    }
}

/// The sum of the rows that succeeded.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    rows: Outputs<u64>,
}

impl Job for Report {
    const NAME: &str = "Report";
    type Output = (u64, u64);
    type State = ();

    async fn perform(self, ctx: &Context) -> JobResult<(u64, u64)> {
        let add = |(rows, sum), (_, n)| async move { Ok((rows + 1, sum + n)) };
        self.rows.stream(ctx).try_fold((0, 0), add).await
    }
}

/// A visit to a host, which takes a while. No host has more than two visitors at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Visit {
    pub host: u64,
    pub takes: Duration,
}

impl Job for Visit {
    const NAME: &str = "Visit";
    const LIMIT_PER_KEY: Limit = Limit::at_once(2);
    type Output = ();
    type State = ();

    fn key(&self) -> Option<String> {
        Some(self.host.to_string())
    }

    async fn perform(self, _: &Context) -> JobResult<()> {
        work_for(self.takes).await;
        Ok(())
    }
}

/// Something of which there is to be one at a time.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sweep {
    pub takes: Duration,
}

impl Job for Sweep {
    const NAME: &str = "Sweep";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        work_for(self.takes).await;
        Ok(())
    }
}

/// A ride in a lift that takes three, wherever they get in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ride {
    pub takes: Duration,
}

impl Job for Ride {
    const NAME: &str = "Ride";
    const LIMIT: Limit = Limit::at_once(3);
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        work_for(self.takes).await;
        Ok(())
    }
}

/// A load for a narrow street, which takes two, whatever they carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Load {
    pub takes: Duration,
}

impl Job for Load {
    const NAME: &str = "Load";
    const QUEUE: &str = "narrow street";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        work_for(self.takes).await;
        Ok(())
    }
}

/// So many calls may start in such a time, to one host or to all.
pub const RATE: (u32, Duration) = (5, Duration::from_millis(500));

/// A call to a host that does not like to be called often.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallHost {
    pub host: u64,
}

impl Job for CallHost {
    const NAME: &str = "CallHost";
    const LIMIT_PER_KEY: Limit = Limit::rate(RATE.0, RATE.1);
    type Output = ();
    type State = ();

    fn key(&self) -> Option<String> {
        Some(self.host.to_string())
    }

    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

/// A call of a line that does not take many.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call;

impl Job for Call {
    const NAME: &str = "Call";
    const LIMIT: Limit = Limit::rate(RATE.0, RATE.1);
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

/// A job of a batch that adds another to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fork {
    pub n: u64,
}

impl Job for Fork {
    const NAME: &str = "Fork";
    type Output = ();
    type State = ();

    async fn perform(self, ctx: &Context) -> JobResult<()> {
        ctx.batch().add(Leaf { n: self.n }).await
    }
}

/// What it adds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leaf {
    n: u64,
}

impl Job for Leaf {
    const NAME: &str = "Leaf";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

/// A callback of a batch: tells how many of its jobs were unsettled when it ran.
#[derive(Debug, Serialize, Deserialize)]
pub struct Callback {
    pub event: String,
}

impl Job for Callback {
    const NAME: &str = "Callback";
    type Output = (String, u64);
    type State = ();

    async fn perform(self, ctx: &Context) -> JobResult<(String, u64)> {
        let batch = ctx.batch().find().await?;
        let row = batch.status().await?;
        let unsettled = row.steps.iter().filter(|step| !step.name.starts_with("on_")).map(|step| step.jobs.unsettled());
        Ok((self.event, unsettled.sum()))
    }
}

/// The application of the tests and of their workers.
pub fn app() -> App {
    let app = App::new(|| async { Ok::<(), Infallible>(()) }).workflow::<Count>().job::<Row>().job::<Report>();
    let app = app.job::<Visit>().job::<Sweep>().job::<Ride>().job::<Load>().job::<CallHost>().job::<Call>();
    let app = app.workflow::<Feeds>().source::<Feed>();
    let app = app.job::<Fork>().job::<Leaf>().job::<Callback>();
    app.queue("narrow street").limit(Limit::at_once(2))
}
