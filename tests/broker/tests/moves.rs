//! A live queue that moves from one real broker to another, and to the store's own lines.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use brokers::{Moto, RabbitMq};
use gusher::prelude::*;
use gusher::store::Store;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::{CancellationToken, WorkerOptions, WorkflowState};
use tokio::sync::{Notify, Semaphore};

const ROWS: u32 = 500;
const SLOTS: u32 = 8;

/// How often each row was performed; a row starts when it is let.
struct Seen {
    rows: Vec<AtomicU32>,
    reports: AtomicU32,
    may_start: Semaphore,
    done: AtomicU32,
    news: Notify,
}

impl Seen {
    fn done(&self) -> u32 {
        self.done.load(Ordering::SeqCst)
    }
}

#[derive(Serialize, Deserialize)]
struct Row(u32);
impl Job for Row {
    const NAME: &str = "Row";
    const QUEUE: &str = "imports";
    type Output = ();
    type State = Arc<Seen>;
    async fn perform(self, ctx: &Context<Arc<Seen>>) -> JobResult<()> {
        ctx.state().may_start.acquire().await?.forget();
        ctx.state().rows[self.0 as usize].fetch_add(1, Ordering::SeqCst);
        ctx.state().done.fetch_add(1, Ordering::SeqCst);
        ctx.state().news.notify_one();
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Report;
impl Job for Report {
    const NAME: &str = "Report";
    const QUEUE: &str = "imports";
    type Output = ();
    type State = Arc<Seen>;
    async fn perform(self, ctx: &Context<Arc<Seen>>) -> JobResult<()> {
        ctx.state().reports.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Import;
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run_each((0..ROWS).map(Row));
        flow.run(Report).after(rows);
        Ok(())
    }
}

fn app(seen: &Arc<Seen>, way: &str) -> App<Arc<Seen>> {
    let seen = seen.clone();
    let made = move || {
        let seen = seen.clone();
        async move { Ok::<_, Infallible>(seen) }
    };
    App::new(made).workflow::<Import>().job::<Row>().job::<Report>().queue("imports").via(way)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_runs_once_and_one_report_though_the_queue_moves() {
    let (rabbitmq, sqs) =
        tokio::task::spawn_blocking(|| (RabbitMq::start(), Moto::start())).await.expect("both brokers start");
    let sqs = format!("{}&poll=1s", sqs.url());
    let seen = Arc::new(Seen {
        rows: (0..ROWS).map(|_| AtomicU32::new(0)).collect(),
        reports: AtomicU32::new(0),
        may_start: Semaphore::new(0),
        done: AtomicU32::new(0),
        news: Notify::new(),
    });
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(Options::in_memory()).unwrap());
    let run = app(&seen, "store:").client_on(store.clone()).start(Import).await.unwrap();
    let ways = [rabbitmq.url(), sqs.clone(), "store:".to_owned(), sqs, rabbitmq.url()];
    for (round, way) in (1..).zip(&ways) {
        let by = app(&seen, way);
        let options = WorkerOptions { slots: SLOTS, ..WorkerOptions::default() };
        let worker = by.worker_on(store.clone(), options).await.unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        let goal = ROWS * round / ways.len() as u32;
        seen.may_start.add_permits((goal - seen.done()) as usize);
        while seen.done() < goal {
            seen.news.notified().await;
        }
        if goal == ROWS {
            assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
        }
        // Those that have begun and wait may go on, for a worker that stops waits for them.
        seen.may_start.add_permits(SLOTS as usize);
        stop.cancel();
        worker.await.unwrap().unwrap();
        seen.may_start.forget_permits(SLOTS as usize);
        assert_eq!(by.traffic().counts().taken_over > 0, *way != "store:", "{way}: {}", by.traffic().counts());
    }
    assert!(seen.rows.iter().all(|times| times.load(Ordering::SeqCst) == 1));
    assert_eq!(seen.reports.load(Ordering::SeqCst), 1);
    assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
}
