//! What runs while processes are killed: a source emits rows, some of which fail once or for good, a check follows for each few of
//! them, then one report on all. What must come of it can be computed from its arguments.

#[path = "../../support/work.rs"]
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use work::work_for;

use crate::sink::Sink;

/// Every so many rows there is one check.
const ROWS_A_CHECK: u64 = 4;
/// How often a job may be on a worker that is killed while it runs alone: nobody here kills its worker, so it never counts.
const MAX_RECOVERIES: u8 = 250;

/// One workflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Season {
    pub seed: u64,
    pub rows: u64,
    /// How long a row takes on average, in milliseconds.
    pub pace: u64,
}

impl Season {
    pub fn checks(&self) -> u64 {
        self.rows / ROWS_A_CHECK
    }

    /// The jobs of all steps.
    pub fn jobs(&self) -> u64 {
        1 + self.rows + self.checks() + 1
    }

    /// What its report must say: how many rows succeeded, their sum, and how many checks did.
    pub fn report(&self) -> Told {
        let good = (0..self.rows).filter(|n| !self.row(*n).is_bad());
        let (rows, sum) = good.fold((0, 0), |(rows, sum), n| (rows + 1, sum + n));
        Told { rows, sum, checks: self.checks() }
    }

    fn row(&self, n: u64) -> Row {
        Row { n, dice: mix(self.seed ^ mix(n)), pace: self.pace }
    }
}

/// Bits that look random and are the same each time.
pub fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

impl Workflow for Season {
    const NAME: &str = "Season";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let emit = Emit { season: self.clone() };
        let rows = flow.expand(emit).source(|source| source.max_recoveries(MAX_RECOVERIES));
        let rows = rows.tolerate(Tolerate::Fraction(0.1)).max_recoveries(MAX_RECOVERIES);
        let pace = self.pace;
        let checks = flow.run_each((0..self.checks()).map(move |_| Check { pace }));
        let checks = checks.after(rows).max_recoveries(MAX_RECOVERIES);
        flow.run(Tell { rows: rows.outputs(), checks: checks.outputs() }).max_recoveries(MAX_RECOVERIES);
        Ok(())
    }
}

/// Emits the rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Emit {
    season: Season,
}

impl Source for Emit {
    const NAME: &str = "Emit";
    type Emits = Row;
    type State = Arc<Sink>;

    async fn produce(self, _: &Context<Arc<Sink>>, rows: &mut Emitter<Row>) -> JobResult<()> {
        for n in 0..self.season.rows {
            // Takes its time, as a download does, so that kills fall into it.
            if n % 256 == 0 {
                work_for(Duration::from_millis(20)).await;
            }
            rows.emit(self.season.row(n)).await?;
        }
        Ok(())
    }
}

/// One row.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    n: u64,
    dice: u64,
    pace: u64,
}

impl Row {
    /// One in a hundred never gets better.
    fn is_bad(&self) -> bool {
        self.dice.is_multiple_of(100)
    }

    /// How long its work takes. One in fifty outlasts a lease: who is stopped while it runs it is still in time with its late report when another has only
    /// begun it again.
    fn time(&self) -> Duration {
        let slow = self.dice % 50 == 2 && self.pace > 0;
        Duration::from_millis(if slow { 1500 } else { self.dice / 1000 % (2 * self.pace).max(1) })
    }

    /// One in ten fails at first.
    fn fails_once(&self) -> bool {
        self.dice % 10 == 1
    }
}

impl Job for Row {
    const NAME: &str = "Row";
    const RETRY: Retry = Retry::every(Duration::from_millis(100));
    type Output = u64;
    type State = Arc<Sink>;

    async fn perform(self, ctx: &Context<Arc<Sink>>) -> JobResult<u64> {
        work_for(self.time()).await;
        if self.is_bad() {
            return Err(JobError::fatal("this row is bad"));
        }
        if self.fails_once() && ctx.attempt() == 1 {
            return Err(JobError::new("not at the first attempt"));
        }
        ctx.state().ask(&ctx.idempotency_key(), &format!("{} {}", ctx.workflow_id(), self.n))?;
        Ok(self.n)
    }
}

/// Follows the rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Check {
    pace: u64,
}

impl Job for Check {
    const NAME: &str = "Check";
    type Output = ();
    type State = Arc<Sink>;

    async fn perform(self, _: &Context<Arc<Sink>>) -> JobResult<()> {
        work_for(Duration::from_millis(self.pace)).await;
        Ok(())
    }
}

/// The report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tell {
    rows: Outputs<u64>,
    checks: Outputs<()>,
}

/// What it says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub rows: u64,
    pub sum: u64,
    pub checks: u64,
}

impl Job for Tell {
    const NAME: &str = "Tell";
    type Output = Told;
    type State = Arc<Sink>;

    async fn perform(self, ctx: &Context<Arc<Sink>>) -> JobResult<Told> {
        let add = |(rows, sum), (_, n)| async move { Ok((rows + 1, sum + n)) };
        let (rows, sum) = self.rows.stream(ctx).try_fold((0, 0), add).await?;
        let count = |count, _| async move { Ok(count + 1) };
        Ok(Told { rows, sum, checks: self.checks.stream(ctx).try_fold(0, count).await? })
    }
}

/// The application of the harness, and of the worker with that ledger.
pub fn app(ledger: PathBuf) -> App<Arc<Sink>> {
    App::new(move || std::future::ready(Sink::beside(&ledger)))
        .workflow::<Season>()
        .source::<Emit>()
        .job::<Row>()
        .job::<Check>()
        .job::<Tell>()
}
