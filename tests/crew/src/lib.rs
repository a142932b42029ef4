//! A workflow whose jobs can kill the process that runs them, for tests with real workers: the `crew` binary is such a worker.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;

/// A job for each of `rows` numbers, then a report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Count {
    pub rows: u64,
    /// The row that aborts every process which runs it.
    pub poison: Option<u64>,
    /// How long each row takes, in milliseconds.
    pub each_takes: u64,
    /// Every row leaves its number here, if it is given: a line in a file for each process.
    pub ledger: Option<PathBuf>,
}

impl Workflow for Count {
    const NAME: &str = "Count";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let (poison, each_takes, ledger) = (self.poison, self.each_takes, self.ledger.clone());
        let rows = (0..self.rows).map(move |n| Row {
            n,
            aborts: poison == Some(n),
            takes: each_takes,
            ledger: ledger.clone(),
        });
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
    #[serde(default)]
    takes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ledger: Option<PathBuf>,
}

impl Job for Row {
    const NAME: &str = "Row";
    type Output = u64;
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<u64> {
        if self.aborts {
            std::process::abort();
        }
        if self.takes > 0 {
            tokio::time::sleep(Duration::from_millis(self.takes)).await;
        }
        if let Some(folder) = self.ledger {
            use std::io::Write;
            let path = folder.join(std::process::id().to_string());
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{}", self.n)?;
        }
        Ok(self.n)
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

/// The application of the tests and of their workers.
pub fn app() -> App {
    App::new(|| async { Ok::<(), Infallible>(()) }).workflow::<Count>().job::<Row>().job::<Report>()
}
