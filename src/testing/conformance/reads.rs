//! What people see of workflows, steps and edges: reading changes nothing, and shows the moment.

pub mod workflow {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::retention::Retention;
    use crate::state::{Counts, WorkflowState};
    use crate::store::WorkflowRow;

    pub async fn fresh_shows_all_of_it(scene: &Scene) {
        let id = scene.rows(3).await;
        let expected = WorkflowRow {
            id,
            name: "Test".into(),
            arguments: r#"{"of":"test"}"#.into(),
            generation: 0,
            state: WorkflowState::Pending,
            steps: 2,
            unsettled_steps: 2,
            jobs: Counts { total: 4, ..Counts::default() },
            created_at: START,
            started_at: None,
            finished_at: None,
            expires_at: None,
            pinned: false,
            retention: Retention::for_ever(),
            key: None,
            parent: None,
            batch: None,
        };
        assert_eq!(scene.row(id).await, expected);
    }

    pub async fn fresh_follows_it_to_its_end(scene: &Scene) {
        let id = scene.rows(1).await;
        let worker = scene.worker().await;
        scene.clock.advance(10);
        worker.succeed(&worker.take(1).await).await;
        let row = scene.row(id).await;
        assert_eq!((row.state, row.unsettled_steps, row.jobs.succeeded), (WorkflowState::Running, 1, 1));
        scene.clock.advance(10);
        worker.run().await;
        let row = scene.row(id).await;
        assert_eq!((row.state, row.unsettled_steps), (WorkflowState::Succeeded, 0));
        assert_eq!((row.started_at, row.finished_at), (Some(START + 10), Some(START + 20)));
    }

    pub async fn repeated_is_the_same(scene: &Scene) {
        let id = scene.failed(3).await;
        let first = scene.row(id).await;
        scene.clock.advance(60_000);
        assert_eq!((first.jobs.failed, &first), (3, &scene.row(id).await));
    }

    pub async fn answer_lost_stops_nobody(scene: &Scene) {
        let id = scene.rows(3).await;
        lose(scene.store.workflow(id)).await;
        assert_eq!(scene.row(id).await.jobs.total, 4);
        scene.worker().await.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn lease_taken_back_shows_no_end_of_its_jobs(scene: &Scene) {
        let id = scene.rows(3).await;
        scene.worker().await.take(1).await;
        scene.leases_end().await;
        let row = scene.row(id).await;
        assert_eq!((row.state, row.jobs.settled(), row.jobs.retrying), (WorkflowState::Running, 0, 0));
    }

    pub async fn paused_is_shown_and_then_what_it_was(scene: &Scene) {
        let id = scene.rows(3).await;
        scene.worker().await.take(1).await;
        scene.pause(id).await;
        assert_eq!(scene.state(id).await, WorkflowState::Paused);
        scene.resume(id).await;
        assert_eq!(scene.state(id).await, WorkflowState::Running);
    }

    pub async fn cancelling_is_shown_until_what_runs_has_ended(scene: &Scene) {
        let id = scene.rows(3).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        let row = scene.row(id).await;
        assert_eq!((row.state, row.finished_at, row.jobs.cancelled), (WorkflowState::Cancelling, None, 3));
        worker.succeed(&slice).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.workflow(id).await), ErrorKind::NotFound);
    }
}

pub mod workflows {
    use super::super::scene::*;
    use crate::id::WorkflowId;
    use crate::state::WorkflowState;
    use crate::store::List;

    /// So many workflows, a millisecond apart; oldest first.
    async fn several(scene: &Scene, count: usize) -> Vec<WorkflowId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(scene.lone(2).await);
            scene.clock.advance(1);
        }
        ids
    }

    fn of(state: WorkflowState) -> List {
        List { state: Some(state), ..List::default() }
    }

    pub async fn fresh_is_newest_first(scene: &Scene) {
        let mut ids = several(scene, 5).await;
        ids.reverse();
        assert_eq!(scene.list(List::default()).await, ids);
    }

    pub async fn fresh_by_name_and_time(scene: &Scene) {
        let old = scene.plan().named("Import").step("rows", 1).create().await;
        scene.clock.advance(10);
        let new = scene.plan().named("Import").step("rows", 1).create().await;
        scene.lone(1).await;
        let imports = List { name: Some("Import".into()), ..List::default() };
        assert_eq!(scene.list(imports.clone()).await, [new, old]);
        assert_eq!(scene.list(List { created_from: Some(START + 10), ..imports.clone() }).await, [new]);
        assert_eq!(scene.list(List { created_before: Some(START + 10), ..imports.clone() }).await, [old]);
        let pending = List { state: Some(WorkflowState::Pending), ..imports.clone() };
        assert_eq!(scene.list(pending).await, [new, old]);
        assert!(scene.list(List { state: Some(WorkflowState::Failed), ..imports }).await.is_empty());
    }

    pub async fn repeated_page_by_page_shows_each_once(scene: &Scene) {
        // All of the same millisecond: the id decides.
        let mut ids = Vec::new();
        for _ in 0..7 {
            ids.push(scene.lone(1).await);
        }
        let mut shown = Vec::new();
        let mut after = None;
        loop {
            let page = scene.store.workflows(List { after, limit: 3, ..List::default() }).await.unwrap();
            after = page.last().map(|row| (row.created_at, row.id));
            shown.extend(page.iter().map(|row| row.id));
            if page.len() < 3 {
                break;
            }
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(shown, ids);
    }

    pub async fn answer_lost_shows_the_same_page_again(scene: &Scene) {
        let ids = several(scene, 3).await;
        lose(scene.store.workflows(List { limit: 2, ..List::default() })).await;
        let page = scene.store.workflows(List { limit: 2, ..List::default() }).await.unwrap();
        assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
    }

    pub async fn lease_taken_back_is_still_listed_as_running(scene: &Scene) {
        let ids = several(scene, 2).await;
        let started = scene.worker().await.take(1).await.workflow;
        scene.leases_end().await;
        assert_eq!(scene.list(of(WorkflowState::Running)).await, [started]);
        assert_eq!(scene.list(of(WorkflowState::Pending)).await.len(), ids.len() - 1);
    }

    pub async fn paused_is_listed_by_that(scene: &Scene) {
        let ids = several(scene, 3).await;
        scene.pause(ids[1]).await;
        assert_eq!(scene.list(of(WorkflowState::Paused)).await, [ids[1]]);
        assert_eq!(scene.list(of(WorkflowState::Pending)).await, [ids[2], ids[0]]);
        assert_eq!(scene.list(List::default()).await.len(), 3);
    }

    pub async fn cancelling_is_listed_by_that_and_then_as_cancelled(scene: &Scene) {
        let ids = several(scene, 2).await;
        scene.cancel(ids[0], 0).await;
        assert_eq!(scene.list(of(WorkflowState::Cancelling)).await, [ids[0]]);
        scene.tick().await;
        assert_eq!(scene.list(of(WorkflowState::Cancelled)).await, [ids[0]]);
        assert!(scene.list(of(WorkflowState::Cancelling)).await.is_empty());
    }

    pub async fn deleted_is_not_listed(scene: &Scene) {
        let gone = scene.succeeded(1).await;
        let stays = scene.succeeded(1).await;
        scene.store.delete(gone).await.unwrap();
        assert_eq!(scene.list(of(WorkflowState::Succeeded)).await, [stays]);
        scene.tick().await;
        assert_eq!(scene.list(List::default()).await, [stays]);
    }
}

pub mod steps {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::graph::StepSpec;
    use crate::state::{EdgeKind, StepState, Tolerate};

    pub async fn fresh_shows_what_they_were_created_as(scene: &Scene) {
        let mut spec = StepSpec { name: "rows".into(), ..StepSpec::new(OTHER, "elsewhere") };
        (spec.priority, spec.tolerate, spec.max_in_flight) = (7, Tolerate::Fraction(0.25), Some(3));
        (spec.max_recoveries, spec.delay, spec.timeout) = (9, milliseconds(5_000), Some(milliseconds(70)));
        let id = scene.plan().step_with("rows", 3, |step| *step = spec.clone()).create().await;
        let step = scene.step(id, 0).await;
        assert_eq!((step.number, &step.spec, step.jobs.total), (0, &spec, 3));
        assert_eq!((step.state, step.released_at, step.started_at), (StepState::Running, Some(START), None));
    }

    pub async fn fresh_follows_each_to_its_end(scene: &Scene) {
        let id = scene.rows(1).await;
        let worker = scene.worker().await;
        scene.clock.advance(10);
        let slice = worker.take(1).await;
        assert_eq!(scene.step(id, 0).await.running, 1);
        scene.clock.advance(10);
        worker.succeed(&slice).await;
        let (rows, report) = (scene.step(id, 0).await, scene.step(id, 1).await);
        assert_eq!((rows.state, rows.running, rows.jobs.succeeded), (StepState::Succeeded, 0, 1));
        assert_eq!((rows.started_at, rows.finished_at), (Some(START + 10), Some(START + 20)));
        assert_eq!((report.state, report.released_at), (StepState::Running, Some(START + 20)));
    }

    pub async fn repeated_page_by_page_shows_each_once(scene: &Scene) {
        let mut plan = scene.plan();
        for step in 0..7 {
            plan = plan.step(&format!("step {step}"), 1);
        }
        let id = plan.create().await;
        let mut shown = Vec::new();
        for from in [0, 3, 6] {
            shown.extend(scene.store.steps(id, from, 3).await.unwrap().iter().map(|step| step.number));
        }
        assert_eq!(shown, (0..7).collect::<Vec<_>>());
        assert!(scene.store.steps(id, 7, 3).await.unwrap().is_empty());
    }

    pub async fn answer_lost_shows_the_same_again(scene: &Scene) {
        let id = scene.failed(3).await;
        lose(scene.store.steps(id, 0, 9)).await;
        let states: Vec<_> = scene.store.steps(id, 0, 9).await.unwrap().iter().map(|step| step.state).collect();
        assert_eq!(states, [StepState::Failed, StepState::Waiting]);
    }

    pub async fn lease_taken_back_shows_nothing_as_running(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(2).await;
        assert_eq!(scene.step(id, 0).await.running, 2);
        scene.leases_end().await;
        assert_eq!((scene.step(id, 0).await.running, scene.step_state(id, 0).await), (0, StepState::Running));
    }

    pub async fn paused_still_shows_what_runs(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(2).await;
        scene.pause(id).await;
        assert_eq!((scene.step(id, 0).await.running, scene.step_state(id, 0).await), (2, StepState::Running));
    }

    pub async fn cancelling_shows_which_have_ended(scene: &Scene) {
        let plan = scene.plan().step("rows", 2).step("report", 1).edge(0, 1, EdgeKind::After);
        let id = plan.create().await;
        scene.worker().await.take(1).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        let (rows, report) = (scene.step(id, 0).await, scene.step(id, 1).await);
        assert_eq!((rows.state, rows.running, rows.jobs.cancelled), (StepState::Running, 1, 1));
        assert_eq!((report.state, report.jobs.cancelled, report.released_at), (StepState::Cancelled, 1, None));
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.steps(id, 0, 9).await), ErrorKind::NotFound);
    }
}

pub mod step_named {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::state::StepState;
    use crate::store::StepRow;

    async fn named(scene: &Scene, id: WorkflowId, name: &str) -> Option<StepRow> {
        scene.store.step_named(id, name.into()).await.unwrap()
    }

    pub async fn fresh_finds_it_by_its_whole_name(scene: &Scene) {
        let (id, other) = (scene.rows(3).await, scene.lone(5).await);
        assert_eq!(named(scene, id, "report").await.map(|step| (step.number, step.jobs.total)), Some((1, 1)));
        assert_eq!(named(scene, other, "report").await, None, "that is a step of another workflow");
        assert_eq!((named(scene, id, "rep").await, named(scene, id, "Report").await), (None, None));
    }

    pub async fn repeated_is_the_same_as_by_number(scene: &Scene) {
        let id = scene.failed(3).await;
        for (number, name) in [(0, "rows"), (1, "report")] {
            assert_eq!(named(scene, id, name).await, Some(scene.step(id, number).await));
        }
    }

    pub async fn answer_lost_finds_it_again(scene: &Scene) {
        let id = scene.rows(3).await;
        lose(scene.store.step_named(id, "rows".into())).await;
        assert_eq!(named(scene, id, "rows").await.map(|step| step.jobs.total), Some(3));
    }

    pub async fn lease_taken_back_shows_nothing_as_running(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(2).await;
        assert_eq!(named(scene, id, "rows").await.map(|step| step.running), Some(2));
        scene.leases_end().await;
        assert_eq!(named(scene, id, "rows").await.map(|step| step.running), Some(0));
    }

    pub async fn paused_is_found(scene: &Scene) {
        let id = scene.rows(4).await;
        scene.pause(id).await;
        assert_eq!(named(scene, id, "rows").await.map(|step| step.state), Some(StepState::Running));
    }

    pub async fn cancelling_shows_its_end(scene: &Scene) {
        let id = scene.rows(4).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(named(scene, id, "report").await.map(|step| step.state), Some(StepState::Cancelled));
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.step_named(id, "rows".into()).await), ErrorKind::NotFound);
    }
}

pub mod edges {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::state::{EdgeKind, StepState};

    /// Two steps, each behind the first in a way of its own, and one behind both.
    async fn diamond(scene: &Scene) -> WorkflowId {
        let plan = scene.plan().step("first", 3).step("left", 1).step("right", 1).step("last", 1);
        let plan = plan.edge(0, 1, EdgeKind::After).edge(0, 2, EdgeKind::AfterFailure);
        plan.edge(1, 3, EdgeKind::AfterSettled).edge(2, 3, EdgeKind::After).create().await
    }

    /// The other end, kind and state of each edge out of a step, or into it.
    async fn seen(scene: &Scene, id: WorkflowId, step: u32, upstream: bool) -> Vec<(u32, EdgeKind, StepState)> {
        let edges = scene.store.edges(id, step, upstream, 9).await.unwrap();
        edges.iter().map(|edge| (edge.number, edge.kind, edge.state)).collect()
    }

    pub async fn fresh_are_seen_from_both_ends(scene: &Scene) {
        let id = diamond(scene).await;
        let waiting = StepState::Waiting;
        let down = [(1, EdgeKind::After, waiting), (2, EdgeKind::AfterFailure, waiting)];
        assert_eq!(seen(scene, id, 0, false).await, down);
        let up = [(1, EdgeKind::AfterSettled, waiting), (2, EdgeKind::After, waiting)];
        assert_eq!(seen(scene, id, 3, true).await, up);
        assert!(seen(scene, id, 0, true).await.is_empty() && seen(scene, id, 3, false).await.is_empty());
        let first = &scene.store.edges(id, 1, true, 9).await.unwrap()[0];
        assert_eq!((first.name.as_str(), first.jobs.total), ("first", 3));
    }

    pub async fn repeated_up_to_a_limit(scene: &Scene) {
        let id = diamond(scene).await;
        for _ in 0..2 {
            let edges = scene.store.edges(id, 0, false, 1).await.unwrap();
            assert_eq!(edges.iter().map(|edge| edge.number).collect::<Vec<_>>(), [1]);
        }
    }

    pub async fn answer_lost_shows_the_same_again(scene: &Scene) {
        let id = diamond(scene).await;
        lose(scene.store.edges(id, 3, true, 9)).await;
        assert_eq!(seen(scene, id, 3, true).await.len(), 2);
    }

    pub async fn lease_taken_back_shows_the_step_before_as_running(scene: &Scene) {
        let id = diamond(scene).await;
        scene.worker().await.take(1).await;
        scene.leases_end().await;
        assert_eq!(seen(scene, id, 1, true).await, [(0, EdgeKind::After, StepState::Running)]);
    }

    pub async fn paused_shows_what_settled_meanwhile(scene: &Scene) {
        let id = diamond(scene).await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        scene.pause(id).await;
        for slice in &slices {
            worker.succeed(slice).await;
        }
        let expected = [(1, EdgeKind::After, StepState::Running), (2, EdgeKind::AfterFailure, StepState::Skipped)];
        assert_eq!(seen(scene, id, 0, false).await, expected);
        let before = &scene.store.edges(id, 1, true, 9).await.unwrap()[0];
        assert_eq!((before.state, before.jobs.succeeded), (StepState::Succeeded, 3));
    }

    pub async fn cancelling_shows_what_is_cancelled_behind(scene: &Scene) {
        let id = diamond(scene).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert!(seen(scene, id, 0, false).await.iter().all(|(.., state)| *state == StepState::Cancelled));
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.edges(id, 0, true, 9).await), ErrorKind::NotFound);
    }
}
