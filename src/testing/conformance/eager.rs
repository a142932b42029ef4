//! Cases of `adopt` and `emitted`: what an eager source emits is there at once, and stays, whatever becomes of the source.

pub mod adopt {
    use super::super::scene::*;
    use super::super::worker::Worker;
    use crate::error::{ErrorKind, Result};
    use crate::id::WorkflowId;
    use crate::payload::{Chunk, ChunkBuilder, Lines};
    use crate::state::{EdgeKind, FailurePolicy, StepState, Tolerate, WorkflowState};
    use crate::store::{Adopt, Adopted, LeaseReport, MAX_ADOPTED_CHUNKS, Slice};

    const SOURCES: u32 = 0;
    const ROWS: u32 = 1;
    const REPORT: u32 = 2;

    /// A chunk of `jobs` rows, which are numbered from `first` on.
    fn rows(first: u32, jobs: u32) -> Chunk {
        let mut builder = ChunkBuilder::default();
        (first..first + jobs).for_each(|row| drop(builder.push(format!("{{\"row\":{row}}}").as_bytes()).unwrap()));
        builder.finish().unwrap()
    }

    /// What the source at position `at` of a slice adds to `before` jobs.
    fn adopting(worker: &Worker<'_>, slice: &Slice, at: u16, before: u64, chunks: Vec<Chunk>) -> Adopt {
        Adopt { session: worker.session.id, lease: slice.lease, at, before, chunks }
    }

    async fn try_adopt(worker: &Worker<'_>, slice: &Slice, before: u64, jobs: u32) -> Result<Adopted> {
        let adopt = adopting(worker, slice, first(slice), before, vec![rows(0, jobs)]);
        worker.scene().store.adopt(adopt).await
    }

    async fn adopt(worker: &Worker<'_>, slice: &Slice, before: u64, jobs: u32) -> Adopted {
        try_adopt(worker, slice, before, jobs).await.expect("jobs are adopted")
    }

    /// The position of a slice's first job.
    fn first(slice: &Slice) -> u16 {
        slice.jobs.iter().next().expect("a slice with a job") as u16
    }

    /// How many jobs are stored of a slice's first source, and the last of them.
    async fn emitted(scene: &Scene, slice: &Slice) -> (u64, Option<String>) {
        let emitted = scene.store.emitted(slice.chunk, first(slice)).await.unwrap();
        let last = emitted.last.map(|body| {
            let lines = Lines::unpack(&body).unwrap();
            String::from_utf8(lines.last().unwrap().to_vec()).unwrap()
        });
        (emitted.jobs, last)
    }

    async fn states(scene: &Scene, id: WorkflowId) -> [StepState; 3] {
        [scene.step_state(id, SOURCES).await, scene.step_state(id, ROWS).await, scene.step_state(id, REPORT).await]
    }

    async fn assert_done(scene: &Scene, id: WorkflowId, rows: u64) {
        assert_eq!(
            (scene.step(id, ROWS).await.jobs.succeeded, scene.state(id).await),
            (rows, WorkflowState::Succeeded)
        );
        scene.at_rest().await;
    }

    pub async fn fresh_jobs_run_while_their_source_still_emits(scene: &Scene) {
        let id = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        let adopted = adopt(&worker, &source, 0, 3).await;
        assert_eq!((adopted.stored, adopted.unfinished, adopted.cancelled), (3, 3, false));
        let rows = worker.drain().await;
        assert_eq!((rows[0].step, jobs_of(&rows)), (ROWS, vec![0, 1, 2]));
        for slice in &rows {
            worker.succeed(slice).await;
        }
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Running, StepState::Waiting]);
        let adopted = adopt(&worker, &source, 3, 2).await;
        assert_eq!((adopted.stored, adopted.unfinished), (5, 2));
        scene.check().await;
        worker.succeed(&source).await;
        worker.run().await;
        assert_done(scene, id, 5).await;
    }

    pub async fn fresh_wakes_who_can_run_them(scene: &Scene) {
        let _ = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        let idle = scene.worker_with(|session| session.wake_port = Some(4_711)).await;
        assert!(idle.claim(1, 1).await.idle);
        assert_eq!(adopt(&worker, &source, 0, 3).await.woken.0, [4_711]);
    }

    pub async fn repeated_adds_them_once(scene: &Scene) {
        let id = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        adopt(&worker, &source, 0, 3).await;
        let again = adopt(&worker, &source, 0, 3).await;
        assert_eq!((again.stored, again.unfinished, scene.step(id, ROWS).await.jobs.total), (3, 3, 3));
        adopt(&worker, &source, 3, 3).await;
        assert_eq!((adopt(&worker, &source, 3, 3).await.stored, scene.jobs(id).await.total), (6, 8));
    }

    pub async fn answer_lost_adds_them_once(scene: &Scene) {
        let id = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        lose(try_adopt(&worker, &source, 0, 3)).await;
        adopt(&worker, &source, 0, 3).await;
        assert_eq!(emitted(scene, &source).await.0, 3);
        worker.succeed(&source).await;
        worker.run().await;
        assert_done(scene, id, 3).await;
    }

    pub async fn lease_taken_back_stays_and_what_comes_late_is_refused(scene: &Scene) {
        let id = scene.sources(1).await;
        let (dead, heir) = (scene.worker().await, scene.worker().await);
        let lost = dead.take(1).await;
        adopt(&dead, &lost, 0, 3).await;
        scene.leases_end().await;
        assert_eq!(refusal(try_adopt(&dead, &lost, 3, 4).await), ErrorKind::Refused);
        let slices = heir.drain().await;
        let again = slices.iter().find(|slice| slice.step == SOURCES).expect("the source runs again");
        assert_eq!(refusal(try_adopt(&dead, &lost, 3, 4).await), ErrorKind::Refused);
        assert_eq!(emitted(scene, again).await, (3, Some(r#"{"row":2}"#.to_owned())));
        assert_eq!(adopt(&heir, again, 3, 2).await.stored, 5);
        for slice in &slices {
            heir.succeed(slice).await;
        }
        heir.run().await;
        assert_done(scene, id, 5).await;
    }

    pub async fn paused_is_adopted_but_not_handed_out(scene: &Scene) {
        let id = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        scene.pause(id).await;
        assert_eq!(adopt(&worker, &source, 0, 5).await.unfinished, 5);
        assert!(worker.drain().await.is_empty());
        scene.resume(id).await;
        assert_eq!(count_jobs(&worker.drain().await), 5);
    }

    pub async fn cancelling_adds_no_jobs_and_says_so(scene: &Scene) {
        let id = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        adopt(&worker, &source, 0, 5).await;
        scene.cancel(id, 5_000).await;
        assert!(adopt(&worker, &source, 5, 5).await.cancelled);
        assert!(scene.store.adopt(adopting(&worker, &source, 0, 5, Vec::new())).await.unwrap().cancelled);
        scene.tick().await;
        worker.report(LeaseReport { cancelled: source.jobs, ..worker.part(&source) }).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.cancelled), (WorkflowState::Cancelled, 5));
        scene.at_rest().await;
    }

    pub async fn deleted_is_gone_with_all_that_was_emitted(scene: &Scene) {
        let id = scene.sources(20).await;
        let worker = scene.worker().await;
        for slice in worker.claim(1, 20).await.slices {
            adopt(&worker, &slice, 0, 2).await;
            worker.succeed(&slice).await;
        }
        worker.run().await;
        assert_eq!(scene.step(id, ROWS).await.jobs.succeeded, 40);
        scene.delete(id).await;
        scene.at_rest().await;
    }

    pub async fn that_failed_is_retried_and_goes_on_behind_what_is_stored(scene: &Scene) {
        let id = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        adopt(&worker, &source, 0, 5).await;
        worker.fail(&source, "the line is down").await;
        for slice in worker.drain().await {
            worker.succeed(&slice).await;
        }
        assert_eq!(states(scene, id).await, [StepState::Failed, StepState::Waiting, StepState::Waiting]);
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.retry(id).await;
        let again = worker.take(1).await;
        assert_eq!(emitted(scene, &again).await.0, 5);
        let adopted = adopt(&worker, &again, 5, 2).await;
        assert_eq!((adopted.stored, adopted.unfinished), (7, 2));
        worker.succeed(&again).await;
        worker.run().await;
        assert_done(scene, id, 7).await;
    }

    pub async fn behind_another_number_than_is_stored_is_refused(scene: &Scene) {
        let id = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        adopt(&worker, &source, 0, 5).await;
        for (before, jobs) in [(0, 4), (4, 2), (6, 1)] {
            assert_eq!(refusal(try_adopt(&worker, &source, before, jobs).await), ErrorKind::Usage);
        }
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 5);
    }

    pub async fn the_last_job_is_told_as_it_was_emitted(scene: &Scene) {
        let _ = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        assert_eq!(emitted(scene, &source).await, (0, None));
        let chunks = vec![rows(0, 3), rows(3, 4)];
        scene.store.adopt(adopting(&worker, &source, 0, 0, chunks)).await.unwrap();
        assert_eq!(emitted(scene, &source).await, (7, Some(r#"{"row":6}"#.to_owned())));
    }

    pub async fn of_sources_of_one_chunk_each_has_its_own_count(scene: &Scene) {
        let id = scene.sources(8).await;
        let worker = scene.worker().await;
        let sources = worker.take(3).await;
        for round in 0..3 {
            for at in 0..3 {
                let jobs = u32::from(at) + 1;
                let adopt = adopting(&worker, &sources, at, round * u64::from(jobs), vec![rows(0, jobs)]);
                assert_eq!(scene.store.adopt(adopt).await.unwrap().stored, (round + 1) * u64::from(jobs));
            }
        }
        for at in 0..3 {
            assert_eq!(scene.store.emitted(sources.chunk, at).await.unwrap().jobs, 3 * (u64::from(at) + 1));
        }
        scene.check().await;
        worker.succeed(&sources).await;
        worker.run().await;
        assert_done(scene, id, 18).await;
    }

    pub async fn of_a_source_that_has_been_reported_is_refused(scene: &Scene) {
        let id = scene.sources(8).await;
        let worker = scene.worker().await;
        let sources = worker.take(2).await;
        worker.report(LeaseReport { succeeded: job(0), ..worker.part(&sources) }).await;
        let late = adopting(&worker, &sources, 0, 0, vec![rows(0, 4)]);
        assert_eq!(refusal(scene.store.adopt(late).await), ErrorKind::Refused);
        let other = adopting(&worker, &sources, 1, 0, vec![rows(0, 4)]);
        scene.store.adopt(other).await.unwrap();
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 4);
    }

    pub async fn without_jobs_tells_how_many_are_unfinished(scene: &Scene) {
        let _ = scene.sources(2).await;
        let worker = scene.worker().await;
        let (one, other) = (worker.take(1).await, worker.take(1).await);
        adopt(&worker, &one, 0, 7).await;
        worker.succeed(&worker.take(4).await).await;
        let look = scene.store.adopt(adopting(&worker, &other, first(&other), 0, Vec::new())).await.unwrap();
        assert_eq!((look.stored, look.unfinished), (0, 3));
        let look = scene.store.adopt(adopting(&worker, &one, first(&one), 0, Vec::new())).await.unwrap();
        assert_eq!((look.stored, look.unfinished), (7, 3), "whatever it says that there was before");
    }

    pub async fn for_a_step_that_has_settled_is_refused(scene: &Scene) {
        let plan = scene.plan().step_with("source", 2, |spec| {
            spec.feeds = Some(ROWS);
            spec.tolerate = Tolerate::Jobs(1);
        });
        let id = plan.step("rows", 0).edge(SOURCES, ROWS, EdgeKind::Feeds).create().await;
        let worker = scene.worker().await;
        let (good, bad) = (worker.take(1).await, worker.take(1).await);
        adopt(&worker, &good, 0, 2).await;
        worker.succeed(&good).await;
        worker.fail(&bad, "no such file").await;
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.retry(id).await;
        let again = worker.take(1).await;
        let error = try_adopt(&worker, &again, 0, 1).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("has settled"), "{error}");
        worker.succeed(&again).await;
        assert_done(scene, id, 2).await;
    }

    pub async fn for_a_step_that_failed_fast_is_cancelled_with_the_rest(scene: &Scene) {
        let plan = scene.plan().step_with("source", 1, |spec| spec.feeds = Some(ROWS));
        let plan = plan.step_with("rows", 0, |spec| spec.policy = FailurePolicy::FailFast);
        let id = plan.edge(SOURCES, ROWS, EdgeKind::Feeds).create().await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        adopt(&worker, &source, 0, 2).await;
        worker.fail(&worker.take(1).await, "bad").await;
        scene.tick().await;
        adopt(&worker, &source, 2, 3).await;
        scene.tick().await;
        worker.succeed(&source).await;
        scene.tick().await;
        let jobs = scene.step(id, ROWS).await.jobs;
        assert_eq!((jobs.failed, jobs.cancelled, scene.state(id).await), (1, 4, WorkflowState::Failed));
        scene.at_rest().await;
    }

    pub async fn of_a_job_that_is_no_source_is_refused(scene: &Scene) {
        let _ = scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert_eq!(refusal(try_adopt(&worker, &slice, 0, 1).await), ErrorKind::Usage);
    }

    pub async fn of_a_source_that_runs_again_begins_anew(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        for slice in worker.claim(1, 2).await.slices {
            adopt(&worker, &slice, 0, 3).await;
            worker.succeed(&slice).await;
        }
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.run_again(id, SOURCES, true).await;
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 0);
        let slices = worker.claim(1, 2).await.slices;
        assert_eq!((slices.len(), slices[0].generation), (2, 1));
        for slice in &slices {
            assert_eq!(emitted(scene, slice).await, (0, None));
            adopt(&worker, slice, 0, 2).await;
            worker.succeed(slice).await;
        }
        worker.run().await;
        assert_done(scene, id, 4).await;
    }

    pub async fn of_a_source_that_runs_again_while_it_emits_is_refused(scene: &Scene) {
        let id = scene.sources(1).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        adopt(&worker, &source, 0, 3).await;
        scene.run_again(id, SOURCES, false).await;
        assert_eq!(refusal(try_adopt(&worker, &source, 3, 3).await), ErrorKind::Refused);
        let again = worker.take(1).await;
        assert_eq!(adopt(&worker, &again, 0, 4).await.stored, 4);
        worker.succeed(&again).await;
        worker.run().await;
        assert_done(scene, id, 4).await;
    }

    /// As many as a worker sends at most, and beside a thousand sources.
    pub async fn of_the_most_chunks_keeps_its_bounds(scene: &Scene) {
        let id = scene.sources(1_000).await;
        let worker = scene.worker().await;
        let source = worker.take(1).await;
        let full = || vec![chunk(1_000, &"x".repeat(4_096)); MAX_ADOPTED_CHUNKS];
        for round in 0..3 {
            let before = round * 1_000 * MAX_ADOPTED_CHUNKS as u64;
            scene.store.adopt(adopting(&worker, &source, first(&source), before, full())).await.unwrap();
        }
        let total = 3 * 1_000 * MAX_ADOPTED_CHUNKS as u64;
        assert_eq!(scene.step(id, ROWS).await.jobs.total, total);
        let mut more = full();
        more.push(rows(0, 1));
        let more = adopting(&worker, &source, first(&source), total, more);
        assert_eq!(refusal(scene.store.adopt(more).await), ErrorKind::Usage);
        scene.check().await;
    }
}
