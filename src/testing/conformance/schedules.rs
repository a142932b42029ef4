//! Cases of schedules: kept, changed, fired, and what their occurrences come to under each rule for what overlaps or was missed.

use super::scene::*;
use crate::clock::Millis;
use crate::error::ErrorKind;
use crate::id::WorkflowId;
use crate::schedule::definition::{Definition, What};
use crate::schedule::{Missed, Rule, fire_due};
use crate::state::WorkflowState;
use crate::store::{
    Begin, Begun, ChangeSchedule, Claim, Create, DraftKey, DueSchedule, Fire, Fired, Key, Lane, LoneJobs, Move,
    NewWorkflow, Occurrence, OccurrenceRow, OccurrenceState, Overlap, PassedOver, PutSchedule, ScheduleRow, Tick,
    Ticked, Waits,
};

/// The shard of all schedules of these cases.
const SHARD: u16 = 0;
const HOUR: Millis = 3_600_000;
/// A first instant, some time ahead.
const FIRST: Millis = START + HOUR;

fn put(name: &str) -> PutSchedule {
    PutSchedule {
        shard: SHARD,
        name: name.into(),
        rule: "hourly".into(),
        definition: format!("{name}, hourly"),
        next: Some(FIRST),
    }
}

async fn keep(scene: &Scene, put: PutSchedule) -> Option<ScheduleRow> {
    scene.store.put_schedule(put).await.expect("a schedule is kept")
}

async fn change(scene: &Scene, name: &str, change: ChangeSchedule) -> Option<ScheduleRow> {
    loop {
        let changed = scene.store.change_schedule(SHARD, name.into(), change).await.expect("a schedule is changed");
        if !changed.more {
            return changed.before;
        }
    }
}

async fn find(scene: &Scene, name: &str) -> Option<ScheduleRow> {
    let rows = scene.store.schedules(String::new(), 100).await.expect("a list of schedules");
    rows.into_iter().find(|row| row.name == name)
}

async fn next(scene: &Scene, name: &str) -> Option<Millis> {
    find(scene, name).await.expect("the schedule is there").next
}

/// The occurrences of a schedule, the first one first.
async fn history(scene: &Scene, name: &str) -> Vec<OccurrenceRow> {
    let mut rows: Vec<OccurrenceRow> = Vec::new();
    loop {
        let before = rows.last().map_or(Millis::MAX, |row| row.at);
        let page = scene.store.occurrences(SHARD, name.into(), before, 1_000).await.expect("a history");
        if page.is_empty() {
            rows.reverse();
            return rows;
        }
        rows.extend(page);
    }
}

async fn states(scene: &Scene, name: &str) -> Vec<OccurrenceState> {
    history(scene, name).await.iter().map(|row| row.state).collect()
}

/// A schedule that moves on an hour for each instant, with a job for each.
fn fire(name: &str, from: Millis, instants: u32) -> Fire {
    let at: Vec<Millis> = (0..Millis::from(instants)).map(|n| from + n * HOUR).collect();
    let jobs = (instants > 0).then(|| LoneJobs {
        lane: Lane::new(SHARD, QUEUE, 0, ROW),
        chunk: chunk(instants, "starts"),
        due: Vec::new(),
        waits: None,
    });
    Fire {
        shard: SHARD,
        schedule: name.into(),
        moves: Some(Move { from, to: Some(from + Millis::from(instants) * HOUR) }),
        passed_over: None,
        instants: at,
        jobs,
        starts: true,
    }
}

async fn fired(scene: &Scene, fire: Fire) -> Fired {
    scene.store.fire(fire).await.expect("a schedule is fired, or is told that it has been")
}

/// How many jobs its lane has.
async fn jobs(scene: &Scene) -> u64 {
    scene.check().await;
    scene.jobs(Lane::new(SHARD, QUEUE, 0, ROW).id).await.total
}

/// How many jobs a new worker gets; it reports none of them.
async fn handed_out(scene: &Scene) -> u32 {
    scene.worker().await.drain().await.iter().map(|slice| slice.jobs.len() as u32).sum()
}

async fn tick(scene: &Scene) -> Ticked {
    scene.store.tick(Tick { lease: LEASE }).await.expect("a tick")
}

pub mod put_schedule {
    use super::*;

    pub async fn fresh_is_listed_with_all_that_it_is(scene: &Scene) {
        assert_eq!(keep(scene, put("nightly")).await, None);
        let row = find(scene, "nightly").await.unwrap();
        let definition = "nightly, hourly".into();
        assert_eq!(
            row,
            ScheduleRow { shard: SHARD, name: "nightly".into(), definition, next: Some(FIRST), paused: false }
        );
    }

    pub async fn repeated_keeps_its_next_instant(scene: &Scene) {
        keep(scene, put("nightly")).await;
        let before = keep(scene, PutSchedule { next: Some(FIRST + 7), ..put("nightly") }).await;
        assert_eq!(before.map(|row| row.next), Some(Some(FIRST)));
        assert_eq!(next(scene, "nightly").await, Some(FIRST));
    }

    pub async fn answer_lost_keeps_one(scene: &Scene) {
        lose(scene.store.put_schedule(put("nightly")));
        keep(scene, put("nightly")).await;
        assert_eq!(scene.store.schedules(String::new(), 100).await.unwrap().len(), 1);
    }

    pub async fn without_a_next_instant_takes_the_one_that_it_is_given_later(scene: &Scene) {
        keep(scene, PutSchedule { next: None, ..put("nightly") }).await;
        assert_eq!(next(scene, "nightly").await, None);
        keep(scene, put("nightly")).await;
        assert_eq!(next(scene, "nightly").await, Some(FIRST));
    }

    pub async fn with_another_definition_goes_on_and_with_another_rule_begins_anew(scene: &Scene) {
        keep(scene, put("nightly")).await;
        fired(scene, fire("nightly", FIRST, 1)).await;
        keep(scene, PutSchedule { definition: "other".into(), ..put("nightly") }).await;
        let row = find(scene, "nightly").await.unwrap();
        assert_eq!((row.definition.as_str(), row.next), ("other", Some(FIRST + HOUR)));
        keep(scene, PutSchedule { rule: "daily".into(), next: Some(FIRST + 24 * HOUR), ..put("nightly") }).await;
        assert_eq!(next(scene, "nightly").await, Some(FIRST + 24 * HOUR));
        assert_eq!(history(scene, "nightly").await.len(), 1, "its history stays");
    }

    pub async fn paused_stays_paused(scene: &Scene) {
        keep(scene, put("nightly")).await;
        change(scene, "nightly", ChangeSchedule::Pause).await;
        keep(scene, PutSchedule { rule: "daily".into(), ..put("nightly") }).await;
        assert!(find(scene, "nightly").await.unwrap().paused);
    }

    pub async fn deleted_begins_anew(scene: &Scene) {
        keep(scene, put("nightly")).await;
        fired(scene, fire("nightly", FIRST, 1)).await;
        change(scene, "nightly", ChangeSchedule::Remove).await;
        assert_eq!(keep(scene, put("nightly")).await, None);
        assert_eq!(next(scene, "nightly").await, Some(FIRST));
        assert!(history(scene, "nightly").await.is_empty());
    }

    pub async fn many_are_listed_by_name_page_by_page(scene: &Scene) {
        for number in 0..25 {
            keep(scene, PutSchedule { next: None, ..put(&format!("{:02}", number * 7 % 25)) }).await;
        }
        let mut names: Vec<String> = Vec::new();
        loop {
            let behind = names.last().cloned().unwrap_or_default();
            let page = scene.store.schedules(behind, 10).await.unwrap();
            names.extend(page.iter().map(|row| row.name.clone()));
            if page.len() < 10 {
                break;
            }
        }
        assert_eq!(names, (0..25).map(|number| format!("{number:02}")).collect::<Vec<_>>());
    }
}

pub mod change_schedule {
    use super::*;

    pub async fn fresh_pauses_resumes_and_removes(scene: &Scene) {
        keep(scene, put("nightly")).await;
        assert_eq!(change(scene, "nightly", ChangeSchedule::Pause).await.map(|row| row.paused), Some(false));
        scene.clock.advance(2 * HOUR);
        assert!(tick(scene).await.schedules.is_empty(), "a schedule that is paused is not due");
        change(scene, "nightly", ChangeSchedule::Resume(Some(FIRST + 5 * HOUR))).await;
        let row = find(scene, "nightly").await.unwrap();
        assert_eq!((row.paused, row.next), (false, Some(FIRST + 5 * HOUR)));
        assert!(change(scene, "nightly", ChangeSchedule::Remove).await.is_some());
        assert_eq!(find(scene, "nightly").await, None);
    }

    pub async fn repeated_is_done_once(scene: &Scene) {
        keep(scene, put("nightly")).await;
        for paused in [false, true] {
            assert_eq!(change(scene, "nightly", ChangeSchedule::Pause).await.unwrap().paused, paused);
        }
        change(scene, "nightly", ChangeSchedule::Resume(Some(FIRST + HOUR))).await;
        change(scene, "nightly", ChangeSchedule::Resume(Some(FIRST + 9 * HOUR))).await;
        assert_eq!(next(scene, "nightly").await, Some(FIRST + HOUR), "one that is not paused goes on");
        assert!(change(scene, "nightly", ChangeSchedule::Remove).await.is_some());
        assert_eq!(change(scene, "nightly", ChangeSchedule::Remove).await, None);
    }

    pub async fn answer_lost_is_changed_all_the_same(scene: &Scene) {
        keep(scene, put("nightly")).await;
        lose(scene.store.change_schedule(SHARD, "nightly".into(), ChangeSchedule::Pause));
        change(scene, "nightly", ChangeSchedule::Pause).await;
        assert!(find(scene, "nightly").await.unwrap().paused);
        lose(scene.store.change_schedule(SHARD, "nightly".into(), ChangeSchedule::Remove));
        change(scene, "nightly", ChangeSchedule::Remove).await;
        assert_eq!(find(scene, "nightly").await, None);
    }

    pub async fn deleted_tells_that_there_is_none(scene: &Scene) {
        for what in [ChangeSchedule::Pause, ChangeSchedule::Resume(Some(FIRST)), ChangeSchedule::Remove] {
            assert_eq!(change(scene, "nightly", what).await, None);
        }
        assert_eq!(find(scene, "nightly").await, None);
    }

    pub async fn a_move_to_another_shard_leaves_what_is_due_to_its_start(scene: &Scene) {
        keep(scene, put("nightly")).await;
        fired(scene, fire("nightly", FIRST, 1)).await;
        assert_eq!(change(scene, "nightly", ChangeSchedule::Move).await.map(|row| row.next), Some(Some(FIRST + HOUR)));
        assert_eq!(find(scene, "nightly").await, None);
        assert!(!fired(scene, fire("nightly", FIRST + HOUR, 1)).await.fired);
        scene.started(&start_of(scene, FIRST, Overlap::Skip)).await;
        assert_eq!(states(scene, "nightly").await, [OccurrenceState::Started]);
    }

    pub async fn a_removal_takes_the_history_with_it_whatever_its_length(scene: &Scene) {
        keep(scene, put("nightly")).await;
        for call in 0..70 {
            fired(scene, fire("nightly", FIRST + 32 * call * HOUR, 32)).await;
        }
        assert_eq!(history(scene, "nightly").await.len(), 70 * 32);
        change(scene, "nightly", ChangeSchedule::Remove).await;
        assert!(history(scene, "nightly").await.is_empty());
        scene.check().await;
    }
}

pub mod fire {
    use futures::future::join_all;

    use super::*;

    pub async fn fresh_enqueues_a_job_an_instant_and_moves_on(scene: &Scene) {
        keep(scene, put("nightly")).await;
        assert!(fired(scene, super::fire("nightly", FIRST, 3)).await.fired);
        assert_eq!(next(scene, "nightly").await, Some(FIRST + 3 * HOUR));
        assert_eq!(jobs(scene).await, 3);
        let lane = Lane::new(SHARD, QUEUE, 0, ROW).id;
        let row = |n: Millis| OccurrenceRow {
            at: FIRST + n * HOUR,
            to: FIRST + n * HOUR,
            count: 1,
            state: OccurrenceState::Due,
            fired_at: scene.clock.now(),
            job: Some((lane, n as u64)),
            workflow: None,
        };
        assert_eq!(history(scene, "nightly").await, [row(0), row(1), row(2)]);
        assert_eq!(handed_out(scene).await, 3);
    }

    pub async fn repeated_fires_once(scene: &Scene) {
        keep(scene, put("nightly")).await;
        assert!(fired(scene, super::fire("nightly", FIRST, 2)).await.fired);
        assert!(!fired(scene, super::fire("nightly", FIRST, 2)).await.fired);
        assert_eq!((jobs(scene).await, history(scene, "nightly").await.len()), (2, 2));
    }

    pub async fn answer_lost_fires_once(scene: &Scene) {
        keep(scene, put("nightly")).await;
        lose(scene.store.fire(super::fire("nightly", FIRST, 2)));
        fired(scene, super::fire("nightly", FIRST, 2)).await;
        assert_eq!((jobs(scene).await, history(scene, "nightly").await.len()), (2, 2));
    }

    pub async fn of_many_at_once_one_does(scene: &Scene) {
        keep(scene, put("nightly")).await;
        let all = join_all((0..50).map(|_| fired(scene, super::fire("nightly", FIRST, 1)))).await;
        assert_eq!(all.iter().filter(|one| one.fired).count(), 1);
        assert_eq!(jobs(scene).await, 1);
    }

    pub async fn lease_taken_back_gives_the_start_to_another(scene: &Scene) {
        keep(scene, put("nightly")).await;
        fired(scene, super::fire("nightly", FIRST, 1)).await;
        let dead = scene.worker().await;
        dead.take(1).await;
        scene.leases_end().await;
        assert_eq!(scene.worker().await.take(1).await.jobs.len(), 1);
        assert_eq!(states(scene, "nightly").await, [OccurrenceState::Due]);
    }

    pub async fn paused_fires_by_hand_alone(scene: &Scene) {
        keep(scene, put("nightly")).await;
        change(scene, "nightly", ChangeSchedule::Pause).await;
        assert!(!fired(scene, super::fire("nightly", FIRST, 1)).await.fired);
        let by_hand = || Fire { moves: None, ..super::fire("nightly", START + 5, 1) };
        for _ in 0..2 {
            assert!(fired(scene, by_hand()).await.fired, "sent again it has been fired before");
        }
        assert_eq!((jobs(scene).await, history(scene, "nightly").await.len()), (1, 1));
        assert_eq!(next(scene, "nightly").await, Some(FIRST));
    }

    pub async fn deleted_fires_nothing(scene: &Scene) {
        keep(scene, put("nightly")).await;
        change(scene, "nightly", ChangeSchedule::Remove).await;
        assert!(!fired(scene, super::fire("nightly", FIRST, 1)).await.fired);
        assert!(!fired(scene, Fire { moves: None, ..super::fire("nightly", FIRST, 1) }).await.fired);
        assert!(history(scene, "nightly").await.is_empty());
    }

    pub async fn is_due_at_its_time_and_not_before(scene: &Scene) {
        keep(scene, put("nightly")).await;
        scene.clock.advance(HOUR - 40);
        let ticked = tick(scene).await;
        assert!(ticked.schedules.is_empty() && ticked.next_in.is_some_and(|left| left <= 40), "{ticked:?}");
        scene.clock.advance(40);
        let ticked = tick(scene).await;
        assert_eq!(ticked.schedules, [DueSchedule { schedule: find(scene, "nightly").await.unwrap(), now: FIRST }]);
        fired(scene, super::fire("nightly", FIRST, 1)).await;
        assert!(tick(scene).await.schedules.is_empty());
    }

    pub async fn at_its_last_instant_is_due_no_more(scene: &Scene) {
        keep(scene, put("nightly")).await;
        let last = Fire { moves: Some(Move { from: FIRST, to: None }), ..super::fire("nightly", FIRST, 1) };
        assert!(fired(scene, last).await.fired);
        assert_eq!(next(scene, "nightly").await, None);
        scene.clock.advance(48 * HOUR);
        assert!(tick(scene).await.schedules.is_empty());
    }

    pub async fn what_was_passed_over_is_one_row(scene: &Scene) {
        keep(scene, put("nightly")).await;
        let over = PassedOver { from: FIRST, to: FIRST + 9 * HOUR, count: 10 };
        let moves = Some(Move { from: FIRST, to: Some(FIRST + 10 * HOUR) });
        let passed = Fire { moves, passed_over: Some(over), ..super::fire("nightly", FIRST, 0) };
        assert!(fired(scene, passed).await.fired);
        let rows = history(scene, "nightly").await;
        let told: Vec<_> = rows.iter().map(|row| (row.at, row.to, row.count, row.state)).collect();
        assert_eq!(told, [(over.from, over.to, 10, OccurrenceState::Missed)]);
    }

    pub async fn of_more_than_its_bound_is_refused(scene: &Scene) {
        keep(scene, put("nightly")).await;
        assert_eq!(refusal(scene.store.fire(super::fire("nightly", FIRST, 33)).await), ErrorKind::Usage);
        let odd = Fire { instants: vec![FIRST], ..super::fire("nightly", FIRST, 2) };
        assert_eq!(refusal(scene.store.fire(odd).await), ErrorKind::Usage);
        assert_eq!(next(scene, "nightly").await, Some(FIRST));
    }

    pub async fn keeps_a_thousand_that_are_decided_and_all_that_are_not(scene: &Scene) {
        keep(scene, put("nightly")).await;
        fired(scene, super::fire("nightly", FIRST, 2)).await;
        for call in 0..40 {
            let enqueued = super::fire("nightly", FIRST + (2 + 32 * call) * HOUR, 32);
            fired(scene, Fire { starts: false, ..enqueued }).await;
        }
        let states = states(scene, "nightly").await;
        assert_eq!(states[..2], [OccurrenceState::Due; 2]);
        assert_eq!(states[2..], [OccurrenceState::Enqueued; 1_000]);
        scene.check().await;
    }

    pub async fn a_start_job_that_came_to_nothing_is_on_record_as_failed(scene: &Scene) {
        keep(scene, put("nightly")).await;
        fired(scene, super::fire("nightly", FIRST, 1)).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.fail(&slice, "cannot be built").await;
        fired(scene, super::fire("nightly", FIRST + HOUR, 1)).await;
        assert_eq!(states(scene, "nightly").await, [OccurrenceState::Failed, OccurrenceState::Due]);
    }
}

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
fn start_of(scene: &Scene, at: Millis, overlap: Overlap) -> Begin {
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
        if column == Column::AnswerLost {
            lose(scene.store.begin(second.clone()));
            // Whether the first call was heard in time nobody knows.
            assert_eq!(scene.begin(&second).await.decided, overlap == Overlap::Skip);
        } else {
            assert_eq!(scene.begin(&second).await, in_the_way);
        }
        if column == Column::Repeated {
            let expected = if overlap == Overlap::Skip { DECIDED } else { in_the_way };
            assert_eq!(scene.begin(&again(scene, &second)).await, expected);
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
        Column::AnswerLost => lose(scene.store.create(second.clone())),
        Column::LeaseTakenBack => {
            // An attempt has written a part and died.
            let draft = scene.draft(crate::store::DraftOf::Workflow(second.workflow.clone()), vec![root("rows")]);
            scene.append(&draft).await;
            scene.leases_end().await;
        }
        Column::Fresh | Column::Repeated => {}
    }
    scene.store.create(second.clone()).await.unwrap();
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
        Column::Repeated => 2,
        Column::AnswerLost => {
            lose(fire_due(&*scene.store, &ticked));
            1
        }
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
