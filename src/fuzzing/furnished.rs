//! The store that is damaged: a workflow in the middle of its run and lone jobs of every sort, with something in nearly every table.

use std::sync::Arc;
use std::time::Duration;

use super::store::seen;
use crate::clock::Clock;
use crate::error::Result;
use crate::id::{SessionId, WorkflowId};
use crate::limit::Limit;
use crate::record::{ErrorText, Outcome, Record, error_number};
use crate::state::{EdgeKind, JobState};
use crate::store::sqlite::SqliteStore;
use crate::store::{
    Enqueue, Keyed, Lane, LeaseReport, Limited, LoneJobs, Permit, Permitted, Renew, SaveCheckpoint, Session, Slice,
    Store, Until, Wanted,
};
use crate::testing::conformance::scene::{LEASE, QUEUE, ROW, START, Scene, chunk, job};
use crate::testing::conformance::waits::{approval, asleep};
use crate::testing::conformance::worker::Worker;

/// What is in it.
pub struct Furnished {
    pub workflow: WorkflowId,
    pub lane: WorkflowId,
    /// Who holds these.
    pub worker: Session,
    pub slices: Vec<Slice>,
}

impl Furnished {
    pub async fn new(store: Arc<SqliteStore>, clock: Clock) -> Self {
        let scene = Scene::new(store, clock).await;
        let worker = scene.worker().await;
        let workflow = under_way(&scene, &worker).await;
        let mut slices = worker.claim(2, 2).await.slices;
        let leases: Vec<u64> = slices.iter().map(|slice| slice.lease).collect();
        let progress = leases.iter().map(|lease| (*lease, r#"{"5":{"done":1,"of":2}}"#.to_owned())).collect();
        let renewal = Renew { progress, ..worker.renewal(&leases) };
        scene.store.renew(renewal).await.unwrap();
        seen(permits(&*scene.store, worker.session.id, 2).await);
        slices.extend(lone_jobs(&scene, &worker).await);
        Self { workflow, lane: lane().id, worker: worker.session.clone(), slices }
    }

    /// More jobs of the keys that are there.
    pub fn more_lone_jobs(&self, session: SessionId) -> Enqueue {
        Enqueue {
            session,
            command: 1,
            jobs: vec![LoneJobs { keyed: keys(), ..LoneJobs::new(lane(), chunk(6, "more")) }],
        }
    }
}

fn lane() -> Lane {
    Lane::new(0, QUEUE, 0, ROW)
}

/// A workflow of which some jobs have succeeded, some failed, one is to be tried again, and one is held by a worker that nobody hears of;
/// a step waits for a signal, and one for a time.
async fn under_way(scene: &Scene, worker: &Worker<'_>) -> WorkflowId {
    let plan = scene
        .plan()
        .step("rows", 8)
        .step("report", 1)
        .step("cleanup", 2)
        .wait("manager", approval())
        .wait("nap", asleep(LEASE));
    let id = plan.edge(0, 1, EdgeKind::After).edge(0, 2, EdgeKind::AfterSettled).create().await;
    let first = worker.take(4).await;
    let at: Vec<usize> = first.jobs.iter().collect();
    let (one, other) = first.jobs.split(at.len() / 2);
    let (failed, later) = other.split(1);
    let record = Record { worker: "host:17".into(), outcomes: first.jobs.iter().map(outcome).collect() };
    let errors = vec![(error_number("broken"), "broken".to_owned(), failed)];
    let part = worker.part(&first);
    let report =
        LeaseReport { succeeded: one, failed, retries: vec![(500, later)], record: record.encode(), errors, ..part };
    worker.report(report).await;
    scene.worker().await.take(1).await;
    let body = "{\"n\":1}\n";
    scene.mend(id, 0, at.last().map(|at| job(*at)).unwrap_or_default(), body).await;
    id
}

/// Lone jobs with a key that lets one after the other start, the only ones of a key, put off, with deadlines; and of one that runs, how far
/// it has come.
async fn lone_jobs(scene: &Scene, worker: &Worker<'_>) -> Vec<Slice> {
    let now = scene.clock.now();
    let jobs = LoneJobs {
        due: vec![(now + 3 * LEASE, job(6))],
        deadlines: vec![(now + LEASE, job(5)), (now + 30 * LEASE, job(7))],
        keyed: keys(),
        ..LoneJobs::new(lane(), chunk(8, "rows"))
    };
    scene.store.enqueue(scene.enqueue_of(vec![jobs])).await.unwrap();
    let mut slices = Vec::new();
    while !slices.iter().any(|slice: &Slice| slice.workflow == lane().id) {
        slices.push(worker.take(1).await);
    }
    let held = slices.last().expect("one of the lane");
    let at = held.jobs.iter().next().unwrap_or_default() as u16;
    let save = SaveCheckpoint { session: worker.session.id, lease: held.lease, at, body: b"17".to_vec(), covers: None };
    scene.store.save_checkpoint(save).await.unwrap();
    slices
}

fn keys() -> Vec<Keyed> {
    let limit = Limit::at_once(1).and_rate(2, Duration::from_millis(LEASE as u64));
    let limited = |at| Keyed { at, limit: Some(("ada".to_owned(), limit)), unique: None };
    let unique = |at, key: &str, until| Keyed { at, limit: None, unique: Some((key.to_owned(), until)) };
    vec![limited(0), limited(1), limited(2), unique(3, "one", Until::Settled), unique(4, "two", Until::Over(2 * LEASE))]
}

/// A session takes permits of a type, of which as many may start as want to.
pub async fn permits(store: &dyn Store, session: SessionId, more: u32) -> Result<Permitted> {
    let of = Limited::Type(ROW.to_owned());
    let limit = Limit::at_once(5).and_rate(7, Duration::from_secs(60));
    let limits = vec![Wanted { of, limit, held: 1, unstarted: 0, used: 1, more }];
    store.permit(Permit { session, shard: 0, limits, lease: LEASE }).await
}

fn outcome(at: usize) -> Outcome {
    let failed = at % 2 == 1;
    Outcome {
        at: at as u16,
        state: if failed { JobState::Failed } else { JobState::Succeeded },
        attempt: 1,
        started: START,
        finished: START + 5,
        result: if failed { Err(ErrorText::Text("broken".into())) } else { Ok(b"17".to_vec()) },
        logs: vec!["a line".into()],
    }
}
