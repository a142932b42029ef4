//! Cases of what the occurrences of a schedule come to, under each rule for what overlaps or was missed.

use super::scene::*;
use super::schedules::{FIRST, HOUR, SHARD, change, fire, fired, handed_out, history, jobs, keep, put, states, tick};
use crate::clock::Millis;
use crate::error::ErrorKind;
use crate::id::WorkflowId;
use crate::schedule::definition::{Definition, What};
use crate::schedule::{Missed, Rule, fire_due};
use crate::state::WorkflowState;
use crate::store::{
    Begin, Begun, ChangeSchedule, Claim, Create, DraftKey, Key, Lane, NewWorkflow, Occurrence, OccurrenceState,
    Overlap, PutSchedule, Waits,
};

/// What happens to a case besides what it is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Fresh,
    Repeated,
    AnswerLost,
    LeaseTakenBack,
    Paused,
    Cancelling,
    Deleted,
}

/// A case for each column, of one rule.
macro_rules! columns {
    ($run:ident($rule:expr)) => {
        columns!($run($rule), fresh = Fresh, repeated = Repeated, answer_lost = AnswerLost);
        columns!($run($rule), lease_taken_back = LeaseTakenBack, paused = Paused, cancelling = Cancelling, deleted = Deleted);
    };
    ($run:ident($rule:expr), $($case:ident = $column:ident),*) => {
        $(pub async fn $case(scene: &Scene) {
            $run(scene, $rule, Column::$column).await;
        })*
    };
}

/// How the start of an occurrence begins, under a rule for what overlaps.
pub(super) fn start_of(scene: &Scene, at: Millis, overlap: Overlap) -> Begin {
    let id = WorkflowId::of_occurrence(SHARD, "nightly", at);
    let draft = DraftKey { session: scene.client(), number: scene.number() };
    let occurrence = Some(Occurrence { schedule: "nightly".into(), at });
    let key = Some(Key { key: "eu".into(), overlap });
    Begin { draft, workflow: NewWorkflow { key, occurrence, ..new_workflow(id) }, lease: LEASE }
}

/// The same by another attempt.
fn again(scene: &Scene, start: &Begin) -> Begin {
    Begin { draft: DraftKey { session: scene.client(), number: scene.number() }, ..start.clone() }
}

/// Three instants, fired under a rule; the first has been started.
async fn three(scene: &Scene, overlap: Overlap) -> [Begin; 3] {
    keep(scene, put("nightly")).await;
    let starts = [0, 1, 2].map(|n| start_of(scene, FIRST + n * HOUR, overlap));
    let mut fire = fire("nightly", FIRST, 3);
    if let Some(jobs) = fire.jobs.as_mut().filter(|_| overlap.waits()) {
        let ids = starts.iter().map(|start| start.workflow.id).collect();
        jobs.waits = Some(Waits { name: "Test".into(), key: "eu".into(), ids });
    }
    fired(scene, fire).await;
    scene.started(&starts[0]).await;
    starts
}

const DECIDED: Begun = Begun { held_by: None, ahead: 0, decided: true };

/// What comes of a second occurrence while the first one's workflow has not finished, and after it has.
async fn overlapping(scene: &Scene, overlap: Overlap, column: Column) {
    let [first, second, third] = three(scene, overlap).await;
    let holder = first.workflow.id;
    match column {
        Column::Paused => scene.pause(holder).await,
        Column::Cancelling => scene.store.cancel(holder, 10_000).await.expect("a cancel, of which the rest is a chore"),
        _ => {}
    }
    if column == Column::Deleted {
        finish(scene, holder).await;
        scene.delete(holder).await;
    } else {
        let in_the_way = Begun { held_by: Some(holder), ahead: 0, decided: overlap == Overlap::Skip };
        let repeated = match column {
            Column::AnswerLost => {
                lose(scene.store.begin(second.clone())).await;
                Some(second.clone())
            }
            _ => {
                assert_eq!(scene.begin(&second).await, in_the_way);
                (column == Column::Repeated).then(|| again(scene, &second))
            }
        };
        if let Some(repeated) = repeated {
            let expected = if overlap == Overlap::Skip { DECIDED } else { in_the_way };
            assert_eq!(scene.begin(&repeated).await, expected);
        }
        finish(scene, holder).await;
    }
    let was_asked = !matches!(column, Column::Deleted);
    if was_asked && overlap == Overlap::Skip {
        assert_eq!(states(scene, "nightly").await[1], OccurrenceState::Skipped);
        assert_eq!(history(scene, "nightly").await[1].workflow, Some(holder));
        assert_eq!(scene.begin(&again(scene, &second)).await, DECIDED, "what is left out stays so");
    } else {
        if column == Column::LeaseTakenBack {
            // An attempt takes the key and dies.
            assert_eq!(scene.begin(&second).await, Begun::default());
            let own = Begun { held_by: Some(second.workflow.id), ahead: 0, decided: false };
            assert_eq!(scene.begin(&again(scene, &second)).await, own, "it is not in its own way for good");
            scene.leases_end().await;
        }
        let second = again(scene, &second);
        scene.started(&second).await;
        let row = history(scene, "nightly").await.remove(1);
        assert_eq!((row.state, row.workflow), (OccurrenceState::Started, Some(second.workflow.id)));
        assert_eq!(scene.begin(&again(scene, &second)).await, DECIDED);
        finish(scene, second.workflow.id).await;
        scene.delete(second.workflow.id).await;
        assert_eq!(scene.begin(&again(scene, &second)).await, DECIDED, "it is not started again once it is gone");
    }
    // Whatever became of the second, the third has its turn.
    if column != Column::LeaseTakenBack {
        scene.started(&third).await;
    }
}

/// Brings a workflow to its end: by a cancel, that no worker is needed.
async fn finish(scene: &Scene, id: WorkflowId) {
    if !scene.state(id).await.is_finished() {
        scene.cancel(id, 0).await;
        scene.wait(200).await;
    }
    assert!(scene.state(id).await.is_finished());
}

pub mod skip {
    use super::*;

    columns!(overlapping(Overlap::Skip));
}

pub mod wait {
    use super::*;

    columns!(overlapping(Overlap::Wait));

    pub async fn goes_in_order_whoever_asks_first(scene: &Scene) {
        let [first, second, third] = three(scene, Overlap::Wait).await;
        let behind = Begun { held_by: Some(first.workflow.id), ahead: 1, decided: false };
        assert_eq!(scene.begin(&third).await, behind);
        finish(scene, first.workflow.id).await;
        assert_eq!(scene.begin(&third).await, Begun { held_by: None, ahead: 1, decided: false });
        scene.started(&second).await;
        finish(scene, second.workflow.id).await;
        scene.started(&third).await;
    }

    pub async fn is_not_held_up_by_a_start_that_has_failed(scene: &Scene) {
        let [first, _, third] = three(scene, Overlap::Wait).await;
        finish(scene, first.workflow.id).await;
        let worker = scene.worker().await;
        let lane = Lane::new(SHARD, QUEUE, 0, ROW).id;
        let mut slices = worker.send(Claim { ..worker.wish(2, 1) }).await.slices;
        slices.retain(|slice| slice.workflow == lane);
        for slice in slices {
            worker.fail(&slice, "cannot be built").await;
        }
        scene.started(&third).await;
    }
}

pub mod wait_one {
    use super::*;

    columns!(overlapping(Overlap::WaitOne));

    pub async fn leaves_out_what_comes_while_one_waits(scene: &Scene) {
        let [first, second, third] = three(scene, Overlap::WaitOne).await;
        let holder = first.workflow.id;
        assert_eq!(scene.begin(&second).await, Begun { held_by: Some(holder), ahead: 0, decided: false });
        assert_eq!(scene.begin(&third).await, Begun { held_by: Some(holder), ahead: 1, decided: true });
        let rows = history(scene, "nightly").await;
        assert_eq!((rows[2].state, rows[2].workflow), (OccurrenceState::Skipped, Some(holder)));
        finish(scene, holder).await;
        scene.started(&second).await;
        assert_eq!(scene.begin(&third).await, DECIDED);
    }

    pub async fn waits_while_the_one_before_it_is_being_built(scene: &Scene) {
        let [first, second, third] = three(scene, Overlap::WaitOne).await;
        finish(scene, first.workflow.id).await;
        assert_eq!(scene.begin(&second).await, Begun::default());
        let held_by = Some(second.workflow.id);
        assert_eq!(scene.begin(&third).await, Begun { held_by, ahead: 0, decided: false });
        scene.make(&second).await;
        assert_eq!(scene.begin(&third).await, Begun { held_by, ahead: 0, decided: false });
        finish(scene, second.workflow.id).await;
        scene.started(&third).await;
    }

    pub async fn leaves_out_what_comes_while_one_waits_and_another_is_about_to_start(scene: &Scene) {
        let [first, second, third] = three(scene, Overlap::WaitOne).await;
        finish(scene, first.workflow.id).await;
        let mut more = fire("nightly", FIRST + 3 * HOUR, 1);
        let fourth = start_of(scene, FIRST + 3 * HOUR, Overlap::WaitOne);
        let waits = Waits { name: "Test".into(), key: "eu".into(), ids: vec![fourth.workflow.id] };
        more.jobs.as_mut().unwrap().waits = Some(waits);
        fired(scene, more).await;
        let behind = Begun { held_by: Some(second.workflow.id), ahead: 2, decided: true };
        assert_eq!(scene.begin(&fourth).await, behind);
        assert_eq!(scene.begin(&third).await, Begun { held_by: None, ahead: 1, decided: false });
        scene.started(&second).await;
        finish(scene, second.workflow.id).await;
        scene.started(&third).await;
    }
}

pub mod cancel_other {
    use super::*;

    columns!(overlapping(Overlap::Cancel));
}

/// Without a key nothing is in the way; the occurrence is decided by the creation.
async fn side_by_side(scene: &Scene, (): (), column: Column) {
    keep(scene, put("nightly")).await;
    fired(scene, fire("nightly", FIRST, 2)).await;
    let create = |at: Millis| {
        let Begin { workflow, .. } = start_of(scene, at, Overlap::Skip);
        let workflow = NewWorkflow { key: None, ..workflow };
        Create { workflow, draft: None, parts: vec![root("rows"), jobs_part(0, 3)], again: false }
    };
    let (first, second) = (create(FIRST), create(FIRST + HOUR));
    assert!(!scene.store.create(first.clone()).await.unwrap().existed);
    let other = first.workflow.id;
    match column {
        Column::Paused => scene.pause(other).await,
        Column::Cancelling => scene.cancel(other, 10_000).await,
        Column::Deleted => {
            finish(scene, other).await;
            scene.delete(other).await;
            assert!(scene.store.create(first).await.unwrap().existed, "it is not started again once it is gone");
        }
        Column::AnswerLost => lose(scene.store.create(second.clone())).await,
        Column::LeaseTakenBack => {
            // An attempt has written a part and died.
            let draft =
                scene.draft(crate::store::DraftOf::Workflow(Box::new(second.workflow.clone())), vec![root("rows")]);
            scene.append(&draft).await;
            scene.leases_end().await;
        }
        Column::Fresh | Column::Repeated => {}
    }
    let created = scene.store.create(second.clone()).await.unwrap();
    assert_eq!(created.existed, column == Column::AnswerLost);
    if column == Column::Repeated {
        assert!(scene.store.create(second.clone()).await.unwrap().existed);
    }
    assert_eq!(states(scene, "nightly").await, [OccurrenceState::Started; 2]);
    assert_eq!(scene.state(second.workflow.id).await, WorkflowState::Pending);
}

pub mod allow {
    use super::*;

    columns!(side_by_side(()));

    pub async fn of_a_schedule_that_is_gone_starts_nothing(scene: &Scene) {
        keep(scene, put("nightly")).await;
        fired(scene, fire("nightly", FIRST, 1)).await;
        change(scene, "nightly", ChangeSchedule::Remove).await;
        let start = start_of(scene, FIRST, Overlap::Skip);
        assert_eq!(scene.begin(&start).await, DECIDED);
        let workflow = NewWorkflow { key: None, ..start.workflow };
        let create = Create { workflow, draft: None, parts: vec![root("rows")], again: false };
        assert!(scene.store.create(create).await.unwrap().existed);
        assert!(scene.list(crate::store::List::default()).await.is_empty());
    }
}

/// What becomes of three nights that were missed, under each rule and whatever else happens.
async fn three_nights(scene: &Scene, missed: Missed, column: Column) {
    use OccurrenceState::{Enqueued, Missed as Over};
    const DAY: Millis = 24 * HOUR;
    let rule = Rule::cron("0 2 * * *", "UTC").unwrap();
    let what = What::Enqueue { job: ROW.into(), parameters: "null".into() };
    let definition = Definition { missed, ..Definition::new(rule, what, QUEUE) };
    let (rule, json) = definition.encode().unwrap();
    let next = definition.rule.next_after(scene.clock.now()).unwrap();
    keep(scene, PutSchedule { rule, definition: json, next: Some(next), ..put("nightly") }).await;
    if column == Column::Paused {
        change(scene, "nightly", ChangeSchedule::Pause).await;
    }
    scene.clock.advance(next + 2 * DAY + HOUR - scene.clock.now());
    let ticked = tick(scene).await;
    if column == Column::Deleted {
        change(scene, "nightly", ChangeSchedule::Remove).await;
    }
    let tickers = match column {
        // Whoever ticks learns nothing of what another was answered.
        Column::Repeated | Column::AnswerLost => 2,
        _ => 1,
    };
    for _ in 0..tickers {
        fire_due(&*scene.store, &ticked).await;
    }
    let expected: &[OccurrenceState] = match (missed, column) {
        (_, Column::Paused | Column::Deleted) => &[],
        (Missed::Last, _) => &[Over, Enqueued],
        (Missed::All(_), _) => &[Over, Enqueued, Enqueued],
        (Missed::None, _) => &[Over],
    };
    assert_eq!(states(scene, "nightly").await, expected);
    let count = expected.iter().filter(|state| **state == Enqueued).count() as u32;
    if count == 0 {
        return;
    }
    let lane = Lane::new(SHARD, QUEUE, 0, ROW).id;
    match column {
        Column::LeaseTakenBack => {
            handed_out(scene).await;
            scene.leases_end().await;
        }
        Column::Cancelling => assert_eq!(refusal(scene.store.cancel(lane, 0).await), ErrorKind::Refused),
        _ => {}
    }
    assert_eq!(jobs(scene).await, u64::from(count), "each is enqueued once");
    let worker = scene.worker().await;
    let mut ran = 0;
    for slice in worker.drain().await {
        ran += slice.jobs.len() as u32;
        worker.succeed(&slice).await;
    }
    assert_eq!(ran, count);
}

pub mod missed_last {
    use super::*;

    columns!(three_nights(Missed::Last));
}

pub mod missed_all {
    use super::*;

    columns!(three_nights(Missed::All(2)));
}

pub mod missed_none {
    use super::*;

    columns!(three_nights(Missed::None));
}
