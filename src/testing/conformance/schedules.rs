//! Cases of schedules: kept, changed, fired.

use super::occurrences::start_of;
use super::scene::*;
use crate::clock::Millis;
use crate::error::ErrorKind;
use crate::store::{
    ChangeSchedule, DueSchedule, Fire, Fired, Lane, LoneJobs, Move, OccurrenceRow, OccurrenceState, Overlap,
    PassedOver, PutSchedule, ScheduleRow, Tick, Ticked,
};

/// The shard of all schedules of these cases.
pub(super) const SHARD: u16 = 0;
pub(super) const HOUR: Millis = 3_600_000;
/// A first instant, some time ahead.
pub(super) const FIRST: Millis = START + HOUR;

pub(super) fn put(name: &str) -> PutSchedule {
    PutSchedule {
        shard: SHARD,
        name: name.into(),
        rule: "hourly".into(),
        definition: format!("{name}, hourly"),
        next: Some(FIRST),
    }
}

pub(super) async fn keep(scene: &Scene, put: PutSchedule) -> Option<ScheduleRow> {
    scene.store.put_schedule(put).await.expect("a schedule is kept")
}

pub(super) async fn change(scene: &Scene, name: &str, change: ChangeSchedule) -> Option<ScheduleRow> {
    loop {
        let changed = scene.store.change_schedule(SHARD, name.into(), change).await.expect("a schedule is changed");
        if !changed.more {
            return changed.before;
        }
    }
}

pub(super) async fn find(scene: &Scene, name: &str) -> Option<ScheduleRow> {
    let rows = scene.store.schedules(String::new(), 100).await.expect("a list of schedules");
    rows.into_iter().find(|row| row.name == name)
}

async fn next(scene: &Scene, name: &str) -> Option<Millis> {
    find(scene, name).await.expect("the schedule is there").next
}

/// The occurrences of a schedule, the first one first.
pub(super) async fn history(scene: &Scene, name: &str) -> Vec<OccurrenceRow> {
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

pub(super) async fn states(scene: &Scene, name: &str) -> Vec<OccurrenceState> {
    history(scene, name).await.iter().map(|row| row.state).collect()
}

/// A schedule that moves on an hour for each instant, with a job for each.
pub(super) fn fire(name: &str, from: Millis, instants: u32) -> Fire {
    let at: Vec<Millis> = (0..Millis::from(instants)).map(|n| from + n * HOUR).collect();
    let jobs = (instants > 0).then(|| LoneJobs::new(Lane::new(SHARD, QUEUE, 0, ROW), chunk(instants, "starts")));
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

pub(super) async fn fired(scene: &Scene, fire: Fire) -> Fired {
    scene.store.fire(fire).await.expect("a schedule is fired, or is told that it has been")
}

/// How many jobs its lane has.
pub(super) async fn jobs(scene: &Scene) -> u64 {
    scene.check().await;
    scene.jobs(Lane::new(SHARD, QUEUE, 0, ROW).id).await.total
}

/// How many jobs a new worker gets; it reports none of them.
pub(super) async fn handed_out(scene: &Scene) -> u32 {
    scene.worker().await.drain().await.iter().map(|slice| slice.jobs.len() as u32).sum()
}

pub(super) async fn tick(scene: &Scene) -> Ticked {
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
        lose(scene.store.put_schedule(put("nightly"))).await;
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
        lose(scene.store.change_schedule(SHARD, "nightly".into(), ChangeSchedule::Pause)).await;
        change(scene, "nightly", ChangeSchedule::Pause).await;
        assert!(find(scene, "nightly").await.unwrap().paused);
        lose(scene.store.change_schedule(SHARD, "nightly".into(), ChangeSchedule::Remove)).await;
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
        lose(scene.store.fire(super::fire("nightly", FIRST, 2))).await;
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
