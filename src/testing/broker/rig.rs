//! What a case plays with: a store in memory, queues that nobody else has, workers, and workflows of rows with a report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::App;
use crate::broker::{Broker, Brokers, Way};
use crate::client::Client;
use crate::error::Result;
use crate::handle::Handle;
use crate::id::random_bytes;
use crate::job::{Context, Job, JobError, JobResult};
use crate::outputs::Outputs;
use crate::retry::Retry;
use crate::state::WorkflowState;
use crate::store::Store;
use crate::store::sqlite::{Options, SqliteStore};
use crate::worker::WorkerOptions;
use crate::workflow::{Flow, Workflow};

/// How long leases last: what is lost comes again soon.
pub const LEASE: Duration = Duration::from_millis(500);
/// How long a workflow may take: beyond it something hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the jobs of a case share.
#[derive(Debug, Default)]
pub struct Notes {
    /// How often each row has been performed.
    pub rows: Mutex<BTreeMap<u64, u32>>,
    pub reports: Mutex<u32>,
    /// Rows that do not end before their worker does.
    pub stuck: Mutex<Vec<u64>>,
    /// Told of each row that starts.
    pub started: tokio::sync::Notify,
    /// Rows wait until it is cancelled, if they are told to.
    pub go: CancellationToken,
}

impl Notes {
    /// Waits until so much has been performed.
    pub async fn until(&self, is_so: impl Fn(&BTreeMap<u64, u32>) -> bool) {
        loop {
            let started = self.started.notified();
            tokio::pin!(started);
            started.as_mut().enable();
            if is_so(&self.rows.lock()) {
                return;
            }
            started.await;
        }
    }
}

/// One row.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    pub n: u64,
    pub does: Does,
}

/// What a row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Does {
    Nothing,
    /// Fails at its first attempt.
    FailsOnce,
    /// Waits until the case lets it go.
    Waits,
}

// No example for whoever has forgotten to write one.
#[diagnostic::do_not_recommend]
impl Job for Row {
    const NAME: &str = "Row";
    const RETRY: Retry = Retry::every(Duration::from_millis(200));
    type Output = u64;
    type State = Arc<Notes>;

    async fn perform(self, ctx: &Context<Arc<Notes>>) -> JobResult<u64> {
        let notes = ctx.state();
        *notes.rows.lock().entry(self.n).or_default() += 1;
        notes.started.notify_waiters();
        let is_stuck = notes.stuck.lock().contains(&self.n);
        if is_stuck {
            std::future::pending::<()>().await;
        }
        match self.does {
            Does::FailsOnce if ctx.attempt() == 1 => Err(JobError::new("not at the first attempt")),
            Does::Waits => {
                notes.go.cancelled().await;
                Ok(self.n)
            }
            _ => Ok(self.n),
        }
    }
}

/// A job of another type.
#[derive(Debug, Serialize, Deserialize)]
pub struct Other;

#[diagnostic::do_not_recommend]
impl Job for Other {
    const NAME: &str = "Other";
    type Output = ();
    type State = Arc<Notes>;

    async fn perform(self, _: &Context<Arc<Notes>>) -> JobResult<()> {
        Ok(())
    }
}

/// The report after all rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tell {
    rows: Outputs<u64>,
}

#[diagnostic::do_not_recommend]
impl Job for Tell {
    const NAME: &str = "Tell";
    type Output = u64;
    type State = Arc<Notes>;

    async fn perform(self, ctx: &Context<Arc<Notes>>) -> JobResult<u64> {
        *ctx.state().reports.lock() += 1;
        self.rows.stream(ctx).try_fold(0, |sum, (_, n)| async move { Ok(sum + n) }).await
    }
}

/// Rows of a queue, then their report in another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Import {
    pub rows: u64,
    pub does: Does,
    pub queue: String,
    pub reports: String,
    /// A job of the other type comes first.
    pub other: bool,
    pub delay: Duration,
}

impl Workflow for Import {
    const NAME: &str = "Import";

    fn configure(&self, flow: &Flow) -> Result<()> {
        let does = self.does;
        let rows = flow.run_each((0..self.rows).map(move |n| Row { n, does })).queue(&self.queue).delay(self.delay);
        if self.other {
            rows.after(flow.run(Other).queue(&self.queue));
        }
        flow.run(Tell { rows: rows.outputs() }).queue(&self.reports);
        Ok(())
    }
}

/// A store, a broker or none, and queues that no other case has.
pub struct Rig {
    pub store: Arc<dyn Store>,
    pub broker: Option<Arc<dyn Broker>>,
    pub queue: String,
    pub notes: Arc<Notes>,
    brokers: Brokers,
}

/// A worker at work; it dies, as if killed, when it is dropped.
pub struct AtWork {
    task: AbortOnDropHandle<Result<()>>,
    stop: CancellationToken,
}

impl AtWork {
    /// Tells it to stop, and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("a worker does not panic").expect("a worker ends well");
    }
}

impl Rig {
    pub fn new(broker: Option<Arc<dyn Broker>>) -> Self {
        let store = SqliteStore::open(Options { lease: LEASE, ..Options::in_memory() }).expect("a store in memory");
        let queue = format!("q{:016x}", u64::from_le_bytes(random_bytes()));
        let mut brokers = Brokers::default();
        if let Some(broker) = &broker {
            for queue in [queue.clone(), format!("{queue}-reports"), format!("{queue}.aside")] {
                brokers.set(queue, Way::Broker(broker.clone()));
            }
        }
        Self { store: Arc::new(store), broker, queue, notes: Arc::default(), brokers }
    }

    /// The messages of the rig's workers.
    pub fn traffic(&self) -> crate::broker::TrafficCounts {
        self.brokers.traffic().counts()
    }

    pub fn brokers(&self) -> Brokers {
        self.brokers.clone()
    }

    /// A workflow of so many rows.
    pub fn import(&self, rows: u64) -> Import {
        let reports = format!("{}-reports", self.queue);
        Import { rows, does: Does::Nothing, queue: self.queue.clone(), reports, other: false, delay: Duration::ZERO }
    }

    fn app(&self, knows_others: bool) -> App<Arc<Notes>> {
        let notes = self.notes.clone();
        let app = App::new(move || {
            let notes = notes.clone();
            async move { Ok::<_, std::convert::Infallible>(notes) }
        });
        let mut app = app.workflow::<Import>().job::<Row>().job::<Tell>();
        if knows_others {
            app = app.job::<Other>();
        }
        // So that what its workers send and receive is counted with the rig's.
        app.registry.brokers = self.brokers.clone();
        app
    }

    pub fn client(&self) -> Client {
        self.app(true).client_on(self.store.clone())
    }

    pub async fn start(&self, import: Import) -> Handle {
        self.client().start(import).await.expect("the workflow starts")
    }

    /// A worker as any.
    pub async fn worker(&self) -> AtWork {
        self.worker_by(None, true).await
    }

    /// A worker whose queues all go this way, or which does not know the other type.
    pub async fn worker_by(&self, way: Option<Way>, knows_others: bool) -> AtWork {
        let mut brokers = Brokers::default();
        if let Some(way) = way {
            brokers.set_every(way);
        }
        let names = ["", "-reports", ".aside", "-direct"];
        let queues = Some(names.iter().map(|name| format!("{}{name}", self.queue)).collect());
        let options = WorkerOptions { slots: 4, queues, brokers, ..WorkerOptions::default() };
        let worker = self.app(knows_others).worker_on(self.store.clone(), options).await.expect("a worker");
        let stop = CancellationToken::new();
        AtWork { task: AbortOnDropHandle::new(tokio::spawn(worker.run(stop.clone()))), stop }
    }

    /// Waits until a workflow has finished, and checks that everything in it happened as often as it must.
    pub async fn succeeds(&self, handle: &Handle, rows: u64) {
        let state = self.ends(handle).await;
        let broker = self.broker.as_ref().map_or_else(|| "the store's own lines".to_owned(), |broker| broker.name());
        assert_eq!(state, WorkflowState::Succeeded, "over {broker}");
        let view = handle.status().await.expect("its status");
        assert_eq!((view.jobs.succeeded, view.jobs.total), (view.jobs.total, view.jobs.total));
        let told = handle.job("Tell", 0).await.expect("the report").output.expect("its output").to_string();
        assert_eq!(told, (rows * rows.saturating_sub(1) / 2).to_string(), "each row is in the report once");
        self.check().await;
    }

    /// Waits until a workflow has finished.
    pub async fn ends(&self, handle: &Handle) -> WorkflowState {
        match tokio::time::timeout(PATIENCE, handle.wait()).await {
            Ok(view) => view.expect("its end").state,
            Err(_) => {
                panic!("after {PATIENCE:?} it has not ended: {:?}; messages: {}", handle.why().await, self.traffic())
            }
        }
    }

    /// What must hold at every moment.
    pub async fn check(&self) {
        assert_eq!(self.store.doctor().await.expect("a checkup").findings, Vec::<String>::new());
        assert_eq!(self.store.meters().over_bounds(), Vec::new());
    }

    /// Nothing is under way any more.
    pub async fn at_rest(&self) {
        self.check().await;
        assert_eq!(self.store.doctor().await.expect("a checkup").under_way, 0);
    }
}
