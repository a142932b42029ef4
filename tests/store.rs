//! What the embedded store does about a file that has been damaged, and how it finds what it looks for. The rules that hold for every
//! store are in its conformance suite.

use std::time::Duration;

use gusher::store::sqlite::{Options, SqliteStore};
use gusher::store::{
    Append, Claim, Create, DraftKey, DraftOf, LeaseReport, Limited, NewWorkflow, Part, Permit, Report, Session, Slice,
    Store, Take, Tick, Wanted,
};
use gusher::{Chunk, Clock, Limit, Mask, SessionId, StepSpec, WorkflowId};

const LEASE: i64 = 1_000;

struct House {
    store: SqliteStore,
    clock: Clock,
    worker: SessionId,
    folder: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_800_000_000_000);
        let file = Options::new(folder.path().join("gusher.db"));
        let options = Options { lease: Duration::from_millis(LEASE as u64), clock: clock.clone(), ..file };
        let store = SqliteStore::open(options).unwrap();
        let session =
            Session { queues: vec!["default".into()], types: vec!["Row".into()], slots: 4, ..Session::new(LEASE) };
        store.join(session.clone()).await.unwrap();
        Self { store, clock, worker: session.id, folder }
    }

    async fn workflow(&self, jobs: u32) -> WorkflowId {
        let id = WorkflowId::new(self.clock.now(), 0);
        let parts = vec![
            Part::Step { spec: StepSpec::new("Row", "default"), upstreams: 0, always: false, awaits: None },
            Part::Jobs { step: 0, chunk: Chunk { jobs, body: b"some jobs".to_vec() } },
        ];
        let workflow = NewWorkflow {
            id,
            name: "Test".into(),
            arguments: "{}".into(),
            generation: 0,
            retention: gusher::Retention::default(),
            key: None,
            occurrence: None,
            parent: None,
        };
        self.store.create(Create { workflow, draft: None, parts, again: false }).await.unwrap();
        id
    }

    /// Claims one job after the other until one of that workflow comes.
    async fn claim_of(&self, id: WorkflowId, first_lease: u64) -> Slice {
        for lease in first_lease.. {
            let mut slices = self.claim(lease).await;
            if slices[0].workflow == id {
                return slices.remove(0);
            }
        }
        unreachable!("leases never end")
    }

    async fn claim(&self, lease: u64) -> Vec<Slice> {
        let claim = Claim {
            session: self.worker,
            first_lease: lease,
            max_leases: 1,
            queues: vec!["default".into()],
            by_broker: Vec::new(),
            most_held: None,
            takes: vec![Take { job_type: "Row".into(), jobs: 1, budget: 1 }],
            free_slots: 1,
            max_limited: 1,
            alone: false,
            permits: Vec::new(),
            lease: LEASE,
        };
        self.store.claim(claim).await.unwrap().slices
    }
}

#[tokio::test]
async fn what_can_never_be_done_is_set_aside_and_stops_nothing_else() {
    let house = House::new().await;
    let broken = house.workflow(10).await;
    assert_eq!(house.claim(1).await.len(), 1);
    let damage = rusqlite::Connection::open(house.folder.path().join("gusher.db")).unwrap();
    damage
        .execute_batch(
            "INSERT INTO chore (turn, kind, wf, step, cursor, argument) VALUES (0, 'dance', 1, 0, 0, 0);
             UPDATE workflow SET chores = 1 WHERE wf = 1;
             INSERT INTO bytes SELECT chunk, x'00' FROM lease;",
        )
        .unwrap();
    let id = house.workflow(1).await;
    let slice = house.claim_of(id, 2).await;
    let retry =
        LeaseReport { lease: slice.lease, number: 1, retries: vec![(100, slice.jobs)], ..LeaseReport::default() };
    house.store.report(Report { session: house.worker, leases: vec![retry] }).await.unwrap();
    for _ in 0..30 {
        house.clock.advance(100);
        while house.store.tick(Tick { lease: LEASE }).await.unwrap().more {}
    }
    let again = house.claim_of(id, slice.lease + 1).await;
    assert_eq!(again.attempts, [1], "its timer was not held up");
    let findings = house.store.doctor().await.unwrap().findings.join("\n");
    assert!(findings.contains("the chore `dance` of workflow number 1 is set aside"), "{findings}");
    let why = house.store.waiting(broken, 0).await.unwrap();
    assert!(why.chore.unwrap().contains("set aside"));
}

#[tokio::test]
async fn a_limit_that_does_not_decode_is_told_anew_and_what_is_held_of_it_stays_counted() {
    let house = House::new().await;
    let other = Session::new(LEASE);
    house.store.join(other.clone()).await.unwrap();
    let ask_for = async |session, more| {
        let of = Limited::Type("Row".into());
        let limits = vec![Wanted { of, limit: Limit::at_once(3), held: 0, unstarted: 0, used: 0, more }];
        house.store.permit(Permit { session, shard: 0, limits, lease: LEASE }).await.unwrap().granted[0].more
    };
    assert_eq!(ask_for(house.worker, 2).await, 2);
    let damage = rusqlite::Connection::open(house.folder.path().join("gusher.db")).unwrap();
    assert_eq!(damage.execute("UPDATE limited SET said = '{', starts = 'none'", []).unwrap(), 1);
    assert_eq!(ask_for(other.id, 3).await, 1);
}

#[tokio::test]
async fn a_claim_reads_no_more_rows_however_many_parameters_are_being_mended() {
    let house = House::new().await;
    let id = house.workflow(10).await;
    house.claim(1).await;
    let rows_read = || house.store.meters().by_verb()["claim"].max.rows;
    let before = rows_read();
    let chunk = house.store.outcomes(id, 0, 0, 0).await.unwrap()[0].chunk.id;
    for number in 0..10 {
        // The chunk that is claimed comes last.
        let part =
            |n| Part::Mended { chunk: chunk + 499 - n, first: 0, jobs: Mask::range(0..1), body: b"mended".to_vec() };
        let append = Append {
            draft: DraftKey { session: house.worker, number: 1 },
            of: DraftOf::Mended { workflow: id, step: 0 },
            number,
            parts: (0..500).map(part).collect(),
            lease: LEASE,
        };
        house.store.append(append).await.unwrap();
    }
    let slices = house.claim(2).await;
    assert!(slices[0].parameters.is_some(), "none of them is valid yet");
    assert!(rows_read() <= before + 2, "it read {} rows, before {before}", rows_read());
}
