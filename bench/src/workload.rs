//! The workflow that is measured: a job for each row that does nothing (or always fails), then one report.

use std::sync::Arc;
use std::time::Duration;

use gusher::prelude::*;
use tokio::sync::Notify;

use crate::airports::{Airport, airports};
use crate::rows::{Payment, RowKind, payments};

/// What the jobs share: the report tells that it has run, so that nobody has to ask the store all the time.
#[derive(Debug, Default)]
pub struct Signals {
    /// The report has run.
    pub reported: Notify,
}

/// The state of the jobs.
pub type Shared = Arc<Signals>;

/// A workflow without steps: after it, a store has everything that its first use makes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Nothing;

impl Workflow for Nothing {
    const NAME: &str = "Nothing";

    fn configure(&self, _: &Flow) -> gusher::Result<()> {
        Ok(())
    }
}

/// A job for each row, then a report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Import {
    /// How many rows.
    pub rows: u64,
    /// Of which kind.
    pub row: RowKind,
    /// Whether every row fails at each of its three attempts.
    pub fails: bool,
}

impl Workflow for Import {
    const NAME: &str = "Import";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let report = flow.run(Report);
        match (self.row, self.fails) {
            (_, true) => report.after_settled(flow.run_each(payments(self.rows).map(Failing))),
            (RowKind::E, false) => report.after(flow.run_each(payments(self.rows))),
            (RowKind::A, false) => match airports(self.rows) {
                Ok(rows) => report.after(flow.run_each(rows)),
                Err(error) => {
                    report.after(flow.try_run_each([Err::<Airport, _>(JobError::fatal(format!("{error:#}")))]))
                }
            },
        };
        Ok(())
    }
}

impl Job for Payment {
    const NAME: &str = "Payment";
    type Output = ();
    type State = Shared;

    async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
        Ok(())
    }
}

impl Job for Airport {
    const NAME: &str = "Airport";
    type Output = ();
    type State = Shared;

    async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
        Ok(())
    }
}

/// A row that fails three times, always with the same text.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failing(Payment);

impl Job for Failing {
    const NAME: &str = "Failing";
    const RETRY: Retry = Retry::every(Duration::from_millis(100)).attempts(3);
    type Output = ();
    type State = Shared;

    async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
        Err(JobError::new("the payment was refused: the account is closed"))
    }
}

/// The report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report;

impl Job for Report {
    const NAME: &str = "Report";
    type Output = ();
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        ctx.state().reported.notify_one();
        Ok(())
    }
}

/// An application that knows what an import of `row` needs, and no other type.
pub fn app(row: RowKind, fails: bool, signals: &Shared) -> App<Shared> {
    let signals = signals.clone();
    let app = App::new(move || std::future::ready(Ok::<_, std::convert::Infallible>(signals.clone())));
    let app = app.workflow::<Import>().workflow::<Nothing>().job::<Report>();
    match (row, fails) {
        (_, true) => app.job::<Failing>(),
        (RowKind::E, false) => app.job::<Payment>(),
        (RowKind::A, false) => app.job::<Airport>(),
    }
}
