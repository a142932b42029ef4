//! A whole store of which some cells are damaged: whatever is asked of it, the answer is right or an error.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::TryStreamExt;
use rusqlite::types::Value;
use tokio::sync::Mutex;

use super::bytes::Bytes;
use super::furnished::{Furnished, permits};
use crate::clock::Clock;
use crate::error::Result;
use crate::slice::Mask;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{
    ByHand, CancelJobs, Claim, DecideByHand, LeaseReport, List, Report, ResumeStep, RetryFailed, RunAgain, SendSignal,
    Store, Take, Tick,
};
use crate::testing::conformance::scene::{LEASE, QUEUE, ROW, START, session};

/// What is decoded when it is read back. Counters are left out: they are recounted by `doctor` and decode to any number.
const COLUMNS: [(&str, &str); 46] = [
    ("workflow", "id"),
    ("workflow", "arguments"),
    ("workflow", "state"),
    ("workflow", "retention"),
    ("step", "name"),
    ("step", "spec"),
    ("step", "options"),
    ("step", "state"),
    ("step", "decided"),
    ("edge", "kind"),
    ("edge", "decision"),
    ("edge", "up"),
    ("segment", "first"),
    ("segment", "jobs"),
    ("chunk", "first"),
    ("chunk", "jobs"),
    ("params", "body"),
    ("mended", "jobs"),
    ("mended", "body"),
    ("bytes", "body"),
    ("recovered", "body"),
    ("outcome", "body"),
    ("error", "text"),
    ("failed", "jobs"),
    ("entry", "jobs"),
    ("entry", "high"),
    ("session", "about"),
    ("session", "last_answer"),
    ("lease", "jobs"),
    ("lease", "progress"),
    ("limited", "said"),
    ("limited", "starts"),
    ("lease", "stop"),
    ("timer", "jobs"),
    ("chore", "kind"),
    ("key_row", "row"),
    ("deadline", "jobs"),
    ("checkpoint", "body"),
    ("keyed", "at"),
    ("sole", "lane"),
    ("sole", "job"),
    ("step", "awaits"),
    ("awaited", "type"),
    ("awaited", "becomes"),
    ("awaited", "record"),
    ("step", "policy"),
];

const TABLES: [&str; 33] = [
    "shard",
    "workflow",
    "step",
    "edge",
    "segment",
    "chunk",
    "params",
    "mended",
    "bytes",
    "recovered",
    "outcome",
    "error",
    "failed",
    "held",
    "hold",
    "line",
    "place",
    "ready",
    "entry",
    "session",
    "lease",
    "limited",
    "permit",
    "timer",
    "deadline",
    "checkpoint",
    "emitted",
    "chore",
    "draft",
    "keyed",
    "key_row",
    "sole",
    "awaited",
];

/// More pages or ticks than a store of this size can give.
const ENDLESS: usize = 200;

/// A store that is made once and put back as it was before each input: to make one takes longer than to use it.
struct Stage {
    store: Arc<SqliteStore>,
    clock: Clock,
    there: Furnished,
}

static STAGE: LazyLock<Mutex<Stage>> = LazyLock::new(|| Mutex::new(futures::executor::block_on(Stage::new())));

/// Damages a store as the bytes say, then reads and uses all of it.
pub fn store(data: &[u8]) {
    let stage = STAGE.blocking_lock();
    futures::executor::block_on(async {
        stage.put_back().await;
        let mut bytes = Bytes(data);
        let is_used = bytes.flag();
        for _ in 0..4 {
            if bytes.is_empty() {
                break;
            }
            damage(&stage.store, &mut bytes).await;
        }
        if is_used {
            stage.use_it().await;
        }
        let store: Arc<dyn Store> = stage.store.clone();
        read(&store, &stage.there).await;
    });
}

impl Stage {
    async fn new() -> Self {
        let clock = Clock::manual(START);
        let lease = Duration::from_millis(LEASE as u64);
        let options = Options { clock: clock.clone(), lease, ..Options::in_memory() };
        let store = Arc::new(SqliteStore::open(options).unwrap());
        let there = Furnished::new(store.clone(), clock.clone()).await;
        for table in TABLES {
            let copy = format!("CREATE TEMP TABLE before_{table} AS SELECT * FROM {table}");
            store.meddle(copy, None).await.unwrap();
        }
        Self { store, clock, there }
    }

    async fn put_back(&self) {
        self.clock.advance(START - self.clock.now());
        for table in TABLES {
            self.store.meddle(format!("DELETE FROM {table}"), None).await.unwrap();
            let back = format!("INSERT INTO {table} SELECT * FROM before_{table}");
            self.store.meddle(back, None).await.unwrap();
        }
    }

    async fn use_it(&self) {
        let store: Arc<dyn Store> = self.store.clone();
        use_it(&store, &self.clock, &self.there).await;
    }
}

async fn damage(store: &SqliteStore, bytes: &mut Bytes<'_>) {
    let (table, column) = COLUMNS[bytes.below(COLUMNS.len())];
    let value = match bytes.below(5) {
        0 => Value::Null,
        1 => Value::Integer(i64::from(bytes.byte()) - 3),
        2 => Value::Integer(i64::from(bytes.byte() as i8) << bytes.below(57)),
        3 => Value::Text(bytes.text()),
        _ => Value::Blob(bytes.some().to_vec()),
    };
    // Tables have checks of their own; what they refuse is no damage that a store can have.
    let _ = store.meddle(format!("UPDATE {table} SET {column} = ?"), Some(value)).await;
}

/// What the writer says of a panic that it has caught.
pub(super) const PANICKED: &str = "operation panicked";

/// Damage may show as an error, but not as a panic that was caught.
pub(super) fn seen<T>(result: Result<T>) -> Option<T> {
    result
        .inspect_err(|error| {
            let text = error.to_string();
            assert!(!text.contains(PANICKED), "{text}");
        })
        .ok()
}

pub(super) async fn read(store: &Arc<dyn Store>, there: &Furnished) {
    let id = there.workflow;
    let client = crate::app::App::stateless().client_on(store.clone());
    seen(store.workflows(List { limit: 10, ..List::default() }).await);
    seen(store.workers(10).await);
    seen(store.doctor().await);
    seen(client.lanes().await);
    let lane = client.handle(there.lane);
    for index in 0..8 {
        seen(lane.job(ROW, index).await);
        seen(lane.why_job(ROW, index).await);
    }
    let Some(handle) = seen(client.find(id).await) else { return };
    seen(handle.status().await);
    seen(handle.why().await);
    for (number, step) in (0..).zip(["rows", "report", "cleanup", "manager", "nap"]) {
        seen(store.edges(id, number, true, 10).await);
        seen(store.waiting(id, number).await);
        seen(store.errors(id, number).await);
        seen(handle.why_step(step).await);
        let mut pages = crate::outputs::pages(store.clone(), id, number);
        let mut count = 0;
        while seen(pages.try_next().await).flatten().is_some() {
            count += 1;
            assert!(count < ENDLESS, "the pages of a step have no end");
        }
        if let Some(failures) = seen(handle.failures(step).await) {
            seen(failures.try_collect::<Vec<_>>().await);
        }
        seen(handle.error_groups(number, step).await);
        for index in [0, 3, 7].into_iter().take(if number == 0 { 3 } else { 1 }) {
            seen(handle.why_job(step, index).await);
        }
    }
}

pub(super) async fn use_it(store: &Arc<dyn Store>, clock: &Clock, there: &Furnished) {
    let (id, worker) = (there.workflow, &there.worker);
    for slice in &there.slices {
        let part = LeaseReport { lease: slice.lease, number: 1, succeeded: slice.jobs, ..LeaseReport::default() };
        seen(store.report(Report { session: worker.id, leases: vec![part] }).await);
    }
    tick(store).await;
    clock.advance(2 * LEASE);
    tick(store).await;
    clock.advance(2 * LEASE);
    tick(store).await;
    let newcomer = session();
    seen(store.join(newcomer.clone()).await);
    seen(store.enqueue(there.more_lone_jobs(newcomer.id)).await);
    seen(permits(&**store, newcomer.id, 9).await);
    let mut first_lease = 1;
    for alone in [false, true, false] {
        let take = Take { job_type: ROW.to_owned(), jobs: 100, budget: 100 };
        let claim = Claim {
            session: newcomer.id,
            first_lease,
            max_leases: 4,
            queues: vec![QUEUE.to_owned()],
            by_broker: Vec::new(),
            most_held: None,
            takes: vec![take],
            free_slots: 100,
            max_limited: 100,
            alone,
            permits: Vec::new(),
            lease: LEASE,
        };
        let Some(claimed) = seen(store.claim(claim).await) else { break };
        seen(store.held(newcomer.id, 10).await);
        first_lease = claimed.last_lease + 1;
        for slice in claimed.slices {
            if let Some(parameters) = seen(store.parameters(slice.chunk).await) {
                seen(crate::outputs::ChunkParameters::unpack(&parameters));
            }
            for at in slice.jobs.iter() {
                seen(store.checkpoint(slice.chunk, at as u16).await);
            }
            let (failed, returned): (Mask, Mask) = slice.jobs.split(1);
            let part = LeaseReport { lease: slice.lease, number: 1, failed, returned, ..LeaseReport::default() };
            seen(store.report(Report { session: newcomer.id, leases: vec![part] }).await);
        }
    }
    let send = SendSignal {
        session: newcomer.id,
        command: 2,
        workflow: id,
        name: "manager".to_owned(),
        signal_type: "Approval".to_owned(),
        record: b"approved".to_vec(),
    };
    seen(store.signal(send.clone()).await);
    seen(store.signal(send).await);
    let retry =
        RetryFailed { session: newcomer.id, command: 3, workflow: id, step: None, mended: None, discard: false };
    seen(store.retry(retry.clone()).await);
    seen(store.retry(retry).await);
    let resume = ResumeStep { session: newcomer.id, command: 4, workflow: id, step: 0 };
    seen(store.resume_step(resume).await);
    let run = RunAgain { session: newcomer.id, command: 5, workflow: id, step: 0, again: true };
    seen(store.run_again(run).await);
    let what = ByHand::Skip { index: 0 };
    seen(store.decide_by_hand(DecideByHand { session: newcomer.id, command: 6, workflow: id, step: 0, what }).await);
    tick(store).await;
    seen(store.leave(newcomer.id).await);
    seen(store.pause(id).await);
    seen(store.resume(id).await);
    seen(store.cancel(id, 0).await);
    tick(store).await;
    seen(store.delete(id).await);
    let all = CancelJobs { lane: there.lane, index: 0, jobs: Mask::range(0..8), keep: 0 };
    seen(store.cancel_jobs(all).await);
    clock.advance(60 * LEASE);
    tick(store).await;
}

async fn tick(store: &Arc<dyn Store>) {
    for _ in 0..ENDLESS {
        match seen(store.tick(Tick { lease: LEASE }).await) {
            Some(ticked) if ticked.more => {}
            _ => return,
        }
    }
    panic!("the ticks have no end");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance::scene::job;

    async fn meddle(stage: &Stage, statement: &str) {
        stage.put_back().await;
        assert!(stage.store.meddle(statement.to_owned(), None).await.unwrap() > 0);
    }

    #[tokio::test]
    async fn chunks_of_impossible_sizes_are_damage_and_not_a_panic_or_a_loop() {
        let stage = STAGE.lock().await;
        let store: Arc<dyn Store> = stage.store.clone();
        for jobs in ["0", "-1", "1025", "1 << 62"] {
            meddle(&stage, &format!("UPDATE chunk SET jobs = {jobs}")).await;
            let error = store.outcomes(stage.there.workflow, 0, 0, 0).await.unwrap_err().to_string();
            assert!(error.contains("jobs from job 0 on"), "{error}");
            stage.use_it().await;
            read(&store, &stage.there).await;
        }
        stage.put_back().await;
    }

    #[tokio::test]
    async fn a_lease_on_jobs_that_its_chunk_lacks_ends_all_the_same() {
        let stage = STAGE.lock().await;
        let store: Arc<dyn Store> = stage.store.clone();
        meddle(&stage, "UPDATE lease SET jobs = unhex('ffffffff')").await;
        for slice in &stage.there.slices {
            let part = LeaseReport { lease: slice.lease, number: 1, succeeded: job(20), ..LeaseReport::default() };
            let report = Report { session: stage.there.worker.id, leases: vec![part] };
            let error = store.report(report).await.unwrap_err().to_string();
            assert!(error.contains("holds jobs that are not open"), "{error}");
        }
        for _ in 0..4 {
            stage.clock.advance(2 * LEASE);
            tick(&store).await;
        }
        assert_eq!(store.doctor().await.unwrap().leases, 0);
        stage.put_back().await;
    }
}
