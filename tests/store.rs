//! The rules of the store, verb by verb, with a clock that the tests hold in their hand.

use std::sync::Arc;
use std::time::Duration;

use gusher::store::sqlite::{Options, SqliteStore};
use gusher::store::{
    Append, Claim, Claimed, Create, DraftKey, DraftOf, LeaseReport, NewWorkflow, Part, Renew, Report, RetryFailed,
    Session, Store, Take, Tick, error_number,
};
use gusher::{
    Chunk, Clock, Counts, Edge, EdgeKind, ErrorKind, Mask, SessionId, StepSpec, StepState, WorkflowId, WorkflowState,
};

const LEASE: i64 = 1_000;

struct House {
    store: Arc<SqliteStore>,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_800_000_000_000);
        let options = Options {
            lease: Duration::from_millis(LEASE as u64),
            clock: clock.clone(),
            ..Options::new(folder.path().join("gusher.db"))
        };
        Self { store: Arc::new(SqliteStore::open(options).unwrap()), clock, folder }
    }

    /// A workflow of two steps: `jobs` jobs, and one behind them.
    async fn workflow(&self, jobs: u32) -> WorkflowId {
        self.workflow_with(jobs, |_| ()).await
    }

    async fn workflow_with(&self, jobs: u32, options: impl Fn(&mut StepSpec)) -> WorkflowId {
        let id = WorkflowId::new(self.clock.now(), 0);
        let mut rows = StepSpec::new("Row", "default");
        options(&mut rows);
        let report = StepSpec { name: "Report".into(), ..StepSpec::new("Row", "default") };
        let mut parts = vec![
            Part::Step { spec: rows, upstreams: 0, always: false },
            Part::Step { spec: report, upstreams: 1, always: false },
            Part::Edge(Edge { up: 0, down: 1, kind: EdgeKind::After }),
        ];
        parts.push(Part::Jobs { step: 1, chunk: chunk(1) });
        parts.extend(
            (0..jobs).step_by(1024).map(|first| Part::Jobs { step: 0, chunk: chunk((jobs - first).min(1024)) }),
        );
        self.store.create(Create { workflow: new_workflow(id), draft: None, parts, again: false }).await.unwrap();
        id
    }

    async fn worker(&self) -> Worker<'_> {
        let session = session();
        self.store.join(session.clone()).await.unwrap();
        Worker { house: self, session: session.id, next: 1 }
    }

    async fn tick(&self) {
        while self.store.tick(Tick { lease: LEASE }).await.unwrap().more {}
    }

    /// Time goes by in steps that somebody sees.
    async fn wait(&self, time: i64) {
        for _ in 0..time / 100 {
            self.clock.advance(100);
            self.tick().await;
        }
    }

    async fn jobs(&self, id: WorkflowId) -> Counts {
        self.store.workflow(id).await.unwrap().jobs
    }

    async fn under_way(&self) -> u64 {
        self.store.doctor().await.unwrap().under_way
    }

    async fn check(&self) {
        assert_eq!(self.store.doctor().await.unwrap().findings, Vec::<String>::new());
        assert_eq!(self.store.meters().over_bounds(), Vec::new());
    }
}

fn new_workflow(id: WorkflowId) -> NewWorkflow {
    NewWorkflow { id, name: "Test".into(), arguments: "{}".into(), generation: 0 }
}

/// A chunk of so many jobs, each `null`: a format byte, then lines.
fn chunk(jobs: u32) -> Chunk {
    Chunk { jobs, body: [&[0u8][..], "null\n".repeat(jobs as usize).as_bytes()].concat() }
}

fn session() -> Session {
    Session {
        id: SessionId::random(),
        host: "test".into(),
        pid: 1,
        queues: vec!["default".into()],
        types: vec!["Row".into()],
        slots: 4,
        wake_port: None,
        lease: LEASE,
    }
}

struct Worker<'h> {
    house: &'h House,
    session: SessionId,
    next: u64,
}

impl Worker<'_> {
    fn wish(&self, jobs: u32, leases: u32, alone: bool) -> Claim {
        Claim {
            session: self.session,
            first_lease: self.next,
            max_leases: leases,
            queues: vec!["default".into()],
            takes: vec![Take { job_type: "Row".into(), jobs, budget: jobs * leases }],
            free_slots: jobs,
            alone,
            lease: LEASE,
        }
    }

    async fn claim(&mut self, jobs: u32, leases: u32) -> Claimed {
        let claimed = self.house.store.claim(self.wish(jobs, leases, false)).await.unwrap();
        self.next += claimed.slices.len() as u64;
        claimed
    }

    async fn claim_alone(&mut self) -> Claimed {
        let claimed = self.house.store.claim(self.wish(1024, 1, true)).await.unwrap();
        self.next += claimed.slices.len() as u64;
        claimed
    }

    async fn report(&self, part: LeaseReport) -> gusher::store::Reported {
        self.house.store.report(Report { session: self.session, leases: vec![part] }).await.unwrap()
    }

    async fn renew(&self, leases: Vec<u64>) -> gusher::store::Renewed {
        let renew = Renew { session: self.session, leases, drafts: Vec::new(), progress: Vec::new(), lease: LEASE };
        self.house.store.renew(renew).await.unwrap()
    }
}

fn succeeded(lease: u64, number: u64, jobs: Mask) -> LeaseReport {
    LeaseReport { lease, number, succeeded: jobs, ..LeaseReport::default() }
}

#[tokio::test]
async fn a_claim_sent_again_grants_nothing_new_and_tells_what_is_held() {
    let house = House::new();
    house.workflow(100).await;
    let worker = house.worker().await;
    let first = house.store.claim(worker.wish(10, 2, false)).await.unwrap();
    let again = house.store.claim(worker.wish(10, 2, false)).await.unwrap();
    let told = |claimed: &Claimed| claimed.slices.iter().map(|slice| (slice.lease, slice.jobs)).collect::<Vec<_>>();
    assert_eq!((told(&first), first.slices.len()), (told(&again), 2));
    assert_eq!(house.store.steps(first.slices[0].workflow, 0, 1).await.unwrap()[0].running, 20);
    house.check().await;
}

#[tokio::test]
async fn a_report_sent_again_changes_nothing() {
    let house = House::new();
    let id = house.workflow(10).await;
    let mut worker = house.worker().await;
    let slice = worker.claim(5, 1).await.slices.remove(0);
    let (some, rest) = slice.jobs.split(2);
    worker.report(succeeded(slice.lease, 1, some)).await;
    worker.report(succeeded(slice.lease, 1, some)).await;
    assert_eq!(house.jobs(id).await.succeeded, 2);
    worker.report(succeeded(slice.lease, 2, rest)).await;
    assert_eq!(house.jobs(id).await.succeeded, 5);
    let reported = worker.report(succeeded(slice.lease, 2, rest)).await;
    assert_eq!((reported.refused, house.jobs(id).await.succeeded), (vec![slice.lease], 5));
    house.check().await;
}

#[tokio::test]
async fn a_report_under_a_lease_that_was_taken_back_is_refused_as_a_whole() {
    let house = House::new();
    let id = house.workflow(10).await;
    let mut worker = house.worker().await;
    let slice = worker.claim(5, 1).await.slices.remove(0);
    house.wait(LEASE + 200).await;
    let reported = worker.report(succeeded(slice.lease, 1, slice.jobs)).await;
    assert_eq!(reported.refused, [slice.lease]);
    assert_eq!(house.jobs(id).await.succeeded, 0);
    assert_eq!(worker.renew(vec![slice.lease]).await.lost, [slice.lease]);
    house.check().await;
}

#[tokio::test]
async fn a_lease_is_held_past_its_deadline_until_somebody_takes_it_back() {
    let house = House::new();
    let id = house.workflow(10).await;
    let mut worker = house.worker().await;
    let slice = worker.claim(5, 1).await.slices.remove(0);
    house.clock.advance(10 * LEASE);
    assert!(worker.report(succeeded(slice.lease, 1, slice.jobs)).await.refused.is_empty());
    assert_eq!(house.jobs(id).await.succeeded, 5);
    house.check().await;
}

#[tokio::test]
async fn neither_an_outage_nor_a_jump_of_the_clock_costs_anybody_a_lease() {
    let house = House::new();
    house.workflow(10).await;
    let mut worker = house.worker().await;
    let slice = worker.claim(5, 1).await.slices.remove(0);
    for jump in [3_600_000, -7_200_000] {
        house.clock.advance(jump);
        house.tick().await;
        assert!(worker.renew(vec![slice.lease]).await.lost.is_empty(), "after a jump of {jump} ms");
    }
    house.check().await;
}

#[tokio::test]
async fn a_step_is_released_only_when_the_last_job_before_it_has_settled() {
    let house = House::new();
    let id = house.workflow(3).await;
    let mut worker = house.worker().await;
    for left in (0..3).rev() {
        let slice = worker.claim(1, 1).await.slices.remove(0);
        assert_eq!(slice.step, 0);
        worker.report(succeeded(slice.lease, 1, slice.jobs)).await;
        let report = &house.store.steps(id, 1, 1).await.unwrap()[0];
        assert_eq!(report.state, if left == 0 { StepState::Running } else { StepState::Waiting });
    }
    let slice = worker.claim(9, 9).await.slices.remove(0);
    worker.report(succeeded(slice.lease, 1, slice.jobs)).await;
    assert_eq!(house.store.workflow(id).await.unwrap().state, WorkflowState::Succeeded);
    assert!(worker.claim(9, 9).await.empty);
    house.check().await;
}

#[tokio::test]
async fn what_is_taken_back_is_open_and_not_what_retries_or_has_settled() {
    let house = House::new();
    let id = house.workflow(4).await;
    let mut worker = house.worker().await;
    house.worker().await;
    let slice = worker.claim(1, 4).await.slices;
    assert_eq!(slice.len(), 4);
    worker.report(succeeded(slice[0].lease, 1, slice[0].jobs)).await;
    let retry = LeaseReport {
        lease: slice[1].lease,
        number: 1,
        retries: vec![(3_600_000, slice[1].jobs)],
        ..LeaseReport::default()
    };
    worker.report(retry).await;
    house.wait(2 * LEASE).await;
    let mut other = house.worker().await;
    let claimed = other.claim(1, 9).await.slices;
    let jobs: Vec<_> = claimed.iter().flat_map(|slice| slice.jobs.iter().collect::<Vec<_>>()).collect();
    assert_eq!(
        {
            let mut jobs = jobs;
            jobs.sort_unstable();
            jobs
        },
        [2, 3]
    );
    assert_eq!((house.jobs(id).await.succeeded, house.jobs(id).await.retrying), (1, 1));
    house.check().await;
}

#[tokio::test]
async fn a_retry_is_due_at_its_time_and_keeps_its_attempts() {
    let house = House::new();
    house.workflow(1).await;
    let mut worker = house.worker().await;
    let slice = worker.claim(1, 1).await.slices.remove(0);
    worker
        .report(LeaseReport {
            lease: slice.lease,
            number: 1,
            retries: vec![(500, slice.jobs)],
            ..LeaseReport::default()
        })
        .await;
    house.wait(400).await;
    assert!(worker.claim(1, 1).await.slices.is_empty());
    house.wait(200).await;
    let slice = worker.claim(1, 1).await.slices.remove(0);
    assert_eq!(slice.attempts, [1]);
    house.check().await;
}

#[tokio::test]
async fn a_slice_that_kills_its_workers_is_halved_and_runs_with_nothing_beside_it() {
    let house = House::new();
    house.workflow(16).await;
    let mut sizes = Vec::new();
    for death in 0..2 {
        let mut worker = house.worker().await;
        let claimed = worker.claim(8, 1).await.slices;
        sizes.push(claimed[0].jobs.len());
        assert!(!claimed[0].suspect, "death {death}");
        house.wait(2 * LEASE).await;
    }
    assert_eq!(sizes, [8, 8]);
    let mut busy = house.worker().await;
    let beside = busy.claim(1024, 9).await;
    assert!(beside.slices.iter().all(|slice| !slice.suspect));
    assert!(beside.drain, "it is asked to run the suspect slices alone");
    for slice in beside.slices {
        busy.report(succeeded(slice.lease, 1, slice.jobs)).await;
    }
    let alone = busy.claim_alone().await.slices;
    assert_eq!((alone.len(), alone[0].suspect, alone[0].jobs.len()), (1, true, 4));
    house.check().await;
}

#[tokio::test]
async fn beside_a_backlog_another_workflow_gets_its_turn_in_one_rotation() {
    let house = House::new();
    let large = house.workflow(20_000).await;
    let mut worker = house.worker().await;
    assert_eq!(worker.claim(10, 3).await.slices.len(), 3);
    let small = house.workflow(1).await;
    let turns: Vec<_> = worker.claim(10, 3).await.slices.iter().map(|slice| slice.workflow).collect();
    assert!(turns[..2].contains(&small), "{turns:?}");
    assert!(turns.contains(&large), "{turns:?}");
    house.check().await;
}

#[tokio::test]
async fn a_step_at_its_limit_hands_out_no_more_than_that_many_jobs() {
    let house = House::new();
    house.workflow_with(10, |rows| rows.max_in_flight = Some(3)).await;
    let (mut one, mut other) = (house.worker().await, house.worker().await);
    let held = [one.claim(2, 4).await.slices, other.claim(2, 4).await.slices].concat();
    assert_eq!(held.iter().map(|slice| slice.jobs.len()).sum::<usize>(), 3);
    assert!(other.claim(2, 4).await.slices.is_empty());
    let slice = &held[0];
    one.report(succeeded(slice.lease, 1, slice.jobs)).await;
    let more: usize = other.claim(9, 4).await.slices.iter().map(|slice| slice.jobs.len()).sum();
    assert_eq!(more, slice.jobs.len());
    house.check().await;
}

#[tokio::test]
async fn a_draft_that_nobody_renews_is_collected_and_what_comes_late_is_refused() {
    let house = House::new();
    let session = session();
    let draft = DraftKey { session: session.id, number: 1 };
    let of = DraftOf::Workflow(new_workflow(WorkflowId::new(0, 0)));
    let append = |number, parts| Append { draft, of: of.clone(), number, parts, lease: LEASE };
    let step = Part::Step { spec: StepSpec::new("Row", "default"), upstreams: 0, always: false };
    house.store.append(append(0, vec![step])).await.unwrap();
    house.store.append(append(1, vec![Part::Jobs { step: 0, chunk: chunk(9) }])).await.unwrap();
    house.store.append(append(1, vec![Part::Jobs { step: 0, chunk: chunk(9) }])).await.unwrap();
    house.wait(2 * LEASE).await;
    assert_eq!(house.under_way().await, 0);
    let late = house.store.append(append(2, Vec::new())).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Refused);
    house.check().await;
}

#[tokio::test]
async fn an_appended_part_counts_once_however_often_it_is_sent() {
    let house = House::new();
    let draft = DraftKey { session: SessionId::random(), number: 1 };
    let id = WorkflowId::new(house.clock.now(), 0);
    let append = |number, parts| Append { draft, of: DraftOf::Workflow(new_workflow(id)), number, parts, lease: LEASE };
    let step = Part::Step { spec: StepSpec::new("Row", "default"), upstreams: 0, always: false };
    house.store.append(append(0, vec![step])).await.unwrap();
    for number in [1, 1, 2, 1, 2] {
        house.store.append(append(number, vec![Part::Jobs { step: 0, chunk: chunk(9) }])).await.unwrap();
    }
    let create = Create { workflow: new_workflow(id), draft: Some(draft), parts: Vec::new(), again: false };
    assert!(!house.store.create(create.clone()).await.unwrap().existed);
    assert!(house.store.create(create).await.unwrap().existed);
    assert_eq!(house.jobs(id).await.total, 18);
    house.check().await;
}

#[tokio::test]
async fn after_a_cancel_nothing_is_handed_out_and_what_runs_still_counts_within_its_grace() {
    let house = House::new();
    let id = house.workflow(3_000).await;
    let mut worker = house.worker().await;
    let slices = worker.claim(10, 2).await.slices;
    house.store.cancel(id, 300).await.unwrap();
    house.store.cancel(id, 300).await.unwrap();
    assert!(worker.claim(10, 2).await.slices.is_empty());
    let reported = worker.report(succeeded(slices[0].lease, 1, slices[0].jobs)).await;
    assert_eq!(reported.cancelled, [slices[0].lease]);
    worker.renew(vec![slices[1].lease]).await;
    house.wait(1_000).await;
    let row = house.store.workflow(id).await.unwrap();
    assert_eq!((row.state, row.jobs.succeeded, row.jobs.cancelled), (WorkflowState::Cancelled, 10, 2_991));
    house.check().await;
}

#[tokio::test]
async fn a_session_that_leaves_gives_back_its_slices_without_a_recovery() {
    let house = House::new();
    house.workflow(10).await;
    let mut worker = house.worker().await;
    assert_eq!(worker.claim(5, 1).await.slices.len(), 1);
    house.store.leave(worker.session).await.unwrap();
    let mut other = house.worker().await;
    let slice = other.claim(5, 1).await.slices.remove(0);
    assert_eq!((slice.jobs.iter().next(), slice.suspect), (Some(0), false));
    house.check().await;
}

#[tokio::test]
async fn a_part_without_a_record_leaves_the_records_before_it_as_they_are() {
    let house = House::new();
    let id = house.workflow(10).await;
    let mut worker = house.worker().await;
    let slice = worker.claim(5, 1).await.slices.remove(0);
    let (first, rest) = slice.jobs.split(1);
    let (second, third) = rest.split(1);
    let with_record = |number, jobs, record: &[u8], record_number| LeaseReport {
        record: record.to_vec(),
        record_number,
        ..succeeded(slice.lease, number, jobs)
    };
    worker.report(with_record(1, first, b"one", 0)).await;
    let returned =
        LeaseReport { lease: slice.lease, number: 2, record_number: 1, returned: third, ..Default::default() };
    worker.report(returned).await;
    worker.report(with_record(3, second, b"two", 1)).await;
    let kept = house.store.outcomes(id, 0, 0, 0).await.unwrap().remove(0).records;
    assert_eq!(kept, [b"one".to_vec(), b"two".to_vec()]);
    house.check().await;
}

/// A workflow whose first step is a source that feeds the second, and whose third always runs behind the first.
async fn source_and_cleanup(house: &House) -> WorkflowId {
    let id = WorkflowId::new(house.clock.now(), 0);
    let step = |name: &str| StepSpec { name: name.into(), ..StepSpec::new("Row", "default") };
    let parts = vec![
        Part::Step { spec: StepSpec { feeds: Some(1), ..step("source") }, upstreams: 0, always: false },
        Part::Step { spec: step("rows"), upstreams: 1, always: false },
        Part::Step { spec: step("clean up"), upstreams: 1, always: true },
        Part::Edge(Edge { up: 0, down: 1, kind: EdgeKind::Feeds }),
        Part::Edge(Edge { up: 0, down: 2, kind: EdgeKind::Always }),
        Part::Jobs { step: 0, chunk: chunk(1) },
        Part::Jobs { step: 2, chunk: chunk(1) },
    ];
    house.store.create(Create { workflow: new_workflow(id), draft: None, parts, again: false }).await.unwrap();
    id
}

#[tokio::test]
async fn a_source_that_succeeds_within_the_grace_of_a_cancel_adds_no_jobs() {
    let house = House::new();
    let id = source_and_cleanup(&house).await;
    let mut worker = house.worker().await;
    let slice = worker.claim(1, 1).await.slices.remove(0);
    let draft = DraftKey { session: worker.session, number: 1 };
    let of = DraftOf::Jobs { workflow: id, step: 1 };
    let parts = vec![Part::Jobs { step: 1, chunk: chunk(5) }];
    house.store.append(Append { draft, of, number: 0, parts, lease: LEASE }).await.unwrap();
    house.store.cancel(id, 5_000).await.unwrap();
    house.tick().await;
    worker.report(LeaseReport { adopted: Some(1), ..succeeded(slice.lease, 1, slice.jobs) }).await;
    house.tick().await;
    let cleanup = worker.claim(1, 1).await.slices.remove(0);
    worker.report(succeeded(cleanup.lease, 1, cleanup.jobs)).await;
    let row = house.store.workflow(id).await.unwrap();
    assert_eq!((row.state, row.jobs.total, house.under_way().await), (WorkflowState::Cancelled, 2, 0));
    house.check().await;
}

#[tokio::test]
async fn a_step_that_always_runs_keeps_its_lease_past_the_grace_of_a_cancel() {
    let house = House::new();
    let id = source_and_cleanup(&house).await;
    let mut worker = house.worker().await;
    let source = worker.claim(1, 1).await.slices.remove(0);
    house.store.cancel(id, 300).await.unwrap();
    worker.report(succeeded(source.lease, 1, source.jobs)).await;
    house.tick().await;
    let cleanup = worker.claim(1, 1).await.slices.remove(0);
    for _ in 0..10 {
        house.wait(300).await;
        let renewed = worker.renew(vec![cleanup.lease]).await;
        assert_eq!((renewed.lost, renewed.cancelled), (vec![], vec![]));
    }
    assert!(worker.report(succeeded(cleanup.lease, 1, cleanup.jobs)).await.refused.is_empty());
    assert_eq!(house.store.workflow(id).await.unwrap().state, WorkflowState::Cancelled);
    house.check().await;
}

#[tokio::test]
async fn two_sets_of_mended_parameters_are_both_fed_again() {
    let house = House::new();
    let id = house.workflow(4).await;
    let mut worker = house.worker().await;
    let slice = worker.claim(4, 1).await.slices.remove(0);
    let rest = worker.claim(4, 9).await.slices;
    for slice in [&[slice][..], &rest].concat() {
        worker.report(LeaseReport { lease: slice.lease, number: 1, failed: slice.jobs, ..Default::default() }).await;
    }
    let chunk_id = house.store.outcomes(id, 0, 0, 0).await.unwrap()[0].chunk.id;
    for (number, at) in [(1, 0), (2, 3)] {
        let key = DraftKey { session: worker.session, number };
        let part = Part::Mended { chunk: chunk_id, first: 0, jobs: Mask::range(at..at + 1), body: chunk(1).body };
        let of = DraftOf::Mended { workflow: id, step: 0 };
        house.store.append(Append { draft: key, of, number: 0, parts: vec![part], lease: LEASE }).await.unwrap();
        let retry =
            RetryFailed { session: worker.session, command: number, workflow: id, step: Some(0), mended: Some(key) };
        house.store.retry(retry).await.unwrap();
    }
    house.tick().await;
    let again = worker.claim(4, 9).await.slices;
    let jobs: Vec<usize> = again.iter().flat_map(|slice| slice.jobs.iter().collect::<Vec<_>>()).collect();
    assert_eq!((jobs, house.under_way().await), (vec![0, 3], 2), "the two leases");
}

/// A report that all jobs of a slice failed, each with a text of its own.
fn failed_apart(lease: u64, jobs: Mask, length: usize) -> LeaseReport {
    let text = |at: usize| format!("{at:>length$}");
    let errors = jobs.iter().map(|at| (error_number(&text(at)), text(at), Mask::range(at..at + 1))).collect();
    LeaseReport { lease, number: 1, failed: jobs, errors, ..Default::default() }
}

async fn counted_by_error(house: &House, id: WorkflowId) -> u64 {
    house.store.errors(id, 0).await.unwrap().iter().map(|row| row.jobs).sum()
}

#[tokio::test]
async fn errors_without_number_are_counted_together_once_a_bound_or_the_table_is_full() {
    let house = House::new();
    let id = house.workflow(30_000).await;
    let mut worker = house.worker().await;
    for _ in 0..2 {
        let slices = worker.claim(1024, 12).await.slices;
        let leases = slices.iter().map(|slice| failed_apart(slice.lease, slice.jobs, 300)).collect();
        house.store.report(Report { session: worker.session, leases }).await.unwrap();
    }
    assert_eq!(counted_by_error(&house, id).await, house.jobs(id).await.failed);
    house.check().await;
}

#[tokio::test]
async fn counts_by_error_follow_the_jobs_through_retries_new_failures_and_a_cancel() {
    let house = House::new();
    let id = house.workflow(3_000).await;
    let mut worker = house.worker().await;
    let slices = worker.claim(1024, 2).await.slices;
    worker.report(failed_apart(slices[0].lease, slices[0].jobs, 9)).await;
    let retry = RetryFailed { session: worker.session, command: 1, workflow: id, step: None, mended: None };
    house.store.retry(retry).await.unwrap();
    // These fail between the command and the chore that carries it out.
    worker.report(failed_apart(slices[1].lease, slices[1].jobs, 9)).await;
    house.tick().await;
    assert_eq!((counted_by_error(&house, id).await, house.jobs(id).await.failed), (0, 0));
    house.check().await;

    let slice = worker.claim(1024, 1).await.slices.remove(0);
    worker.report(failed_apart(slice.lease, slice.jobs, 9)).await;
    let retry = RetryFailed { session: worker.session, command: 2, workflow: id, step: None, mended: None };
    house.store.retry(retry).await.unwrap();
    house.store.cancel(id, 0).await.unwrap();
    house.tick().await;
    assert_eq!(counted_by_error(&house, id).await, house.jobs(id).await.failed);
    house.check().await;
}

#[tokio::test]
async fn mended_parameters_for_another_step_are_refused_and_harm_nobody() {
    let house = House::new();
    let id = house.workflow(4).await;
    let mut worker = house.worker().await;
    for slice in worker.claim(4, 4).await.slices {
        worker.report(LeaseReport { lease: slice.lease, number: 1, failed: slice.jobs, ..Default::default() }).await;
    }
    let key = DraftKey { session: worker.session, number: 1 };
    let part = Part::Mended { chunk: 4_711, first: 0, jobs: Mask::range(0..1), body: chunk(1).body };
    let of = DraftOf::Mended { workflow: id, step: 0 };
    house.store.append(Append { draft: key, of, number: 0, parts: vec![part], lease: LEASE }).await.unwrap();
    let retry = |command, step| RetryFailed { session: worker.session, command, workflow: id, step, mended: Some(key) };
    let failed = house.jobs(id).await.failed;
    assert_eq!(failed, 4);
    house.store.retry(retry(1, Some(0))).await.unwrap();
    house.tick().await;
    assert_eq!((house.jobs(id).await.failed, house.under_way().await), (4, 0));
}

#[tokio::test]
async fn what_can_never_be_done_is_set_aside_and_stops_nothing_else() {
    let house = House::new();
    let broken = house.workflow(10).await;
    let mut worker = house.worker().await;
    worker.claim(5, 1).await;
    let damage = rusqlite::Connection::open(house.folder.path().join("gusher.db")).unwrap();
    damage
        .execute_batch(
            "INSERT INTO chore (turn, kind, wf, step, cursor, argument) VALUES (0, 'dance', 1, 0, 0, 0);
             UPDATE workflow SET chores = 1 WHERE wf = 1;
             INSERT INTO bytes SELECT chunk, x'00' FROM lease;",
        )
        .unwrap();
    let id = house.workflow(1).await;
    let slice = loop {
        let slice = worker.claim(1, 1).await.slices.remove(0);
        if slice.workflow == id {
            break slice;
        }
    };
    worker
        .report(LeaseReport { lease: slice.lease, number: 1, retries: vec![(100, slice.jobs)], ..Default::default() })
        .await;
    house.wait(3 * LEASE).await;
    let again = loop {
        let slice = worker.claim(1, 1).await.slices.remove(0);
        if slice.workflow == id {
            break slice;
        }
    };
    assert_eq!(again.attempts, [1], "its timer was not held up");
    let findings = house.store.doctor().await.unwrap().findings.join("\n");
    assert!(findings.contains("the chore `dance` of workflow number 1 is set aside"), "{findings}");
    let why = house.store.waiting(broken, 0).await.unwrap();
    assert!(why.chore.unwrap().contains("set aside"));
}

#[tokio::test]
async fn a_step_that_is_being_repaired_in_bites_does_not_settle_between_two_of_them() {
    let house = House::new();
    let id = house.workflow(40 * 1024).await;
    let mut worker = house.worker().await;
    // Everything that can be claimed ends so.
    async fn end_all(worker: &mut Worker<'_>, end: impl Fn(&gusher::store::Slice) -> LeaseReport) {
        loop {
            let slices = worker.claim(1024, 16).await.slices;
            if slices.is_empty() {
                return;
            }
            for slice in slices {
                worker.report(end(&slice)).await;
            }
        }
    }
    end_all(&mut worker, |slice| {
        let errors = vec![(error_number("bad"), "bad".to_owned(), slice.jobs)];
        LeaseReport { lease: slice.lease, number: 1, failed: slice.jobs, errors, ..LeaseReport::default() }
    })
    .await;
    assert_eq!(house.store.workflow(id).await.unwrap().state, WorkflowState::Failed);

    let client = session();
    house.store.join(client.clone()).await.unwrap();
    let retry = RetryFailed { session: client.id, command: 1, workflow: id, step: Some(0), mended: None };
    house.store.retry(retry).await.unwrap();
    let mut bites_between = 0;
    while house.store.tick(Tick { lease: LEASE }).await.unwrap().more {
        end_all(&mut worker, |slice| succeeded(slice.lease, 1, slice.jobs)).await;
        let step = house.store.steps(id, 0, 1).await.unwrap().remove(0);
        let under_repair = step.jobs.succeeded > 0 && step.jobs.failed > 0;
        assert!(!under_repair || step.state == StepState::Running, "{step:?}");
        bites_between += u32::from(under_repair);
    }
    assert!(bites_between > 0, "the repair took one bite only");
    end_all(&mut worker, |slice| succeeded(slice.lease, 1, slice.jobs)).await;
    assert_eq!(house.store.workflow(id).await.unwrap().state, WorkflowState::Succeeded);
    house.check().await;
}
