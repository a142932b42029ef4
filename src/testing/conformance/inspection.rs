//! A closer look: at jobs, their parameters and outcomes, at what waits and who works, and the doctor's.

pub mod parameters {
    use super::super::scene::*;
    use crate::error::ErrorKind;

    pub async fn fresh_are_those_of_each_chunk(scene: &Scene) {
        scene.lone(2_000).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            let parameters = scene.store.parameters(slice.chunk).await.unwrap();
            assert_eq!(parameters.body, format!("rows from {}", slice.first).into_bytes());
            assert!(parameters.mended.is_empty());
        }
    }

    pub async fn fresh_come_with_a_slice_of_a_few_small_jobs(scene: &Scene) {
        scene.lone(2_000).await;
        let worker = scene.worker().await;
        let few = worker.take(2).await;
        let parameters = few.parameters.expect("a few small ones come with the slice");
        let asked = scene.store.parameters(few.chunk).await.unwrap();
        assert_eq!((parameters.body, parameters.mended), (asked.body, asked.mended));
        let many = worker.take(1_000).await;
        assert!(many.jobs.len() > 64 && many.parameters.is_none());
    }

    pub async fn repeated_are_the_same_after_all_has_run(scene: &Scene) {
        scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let before = scene.store.parameters(slice.chunk).await.unwrap().body;
        worker.succeed(&slice).await;
        worker.run().await;
        assert_eq!((scene.store.parameters(slice.chunk).await.unwrap().body, before.len()), (before, 11));
    }

    pub async fn answer_lost_are_read_again(scene: &Scene) {
        scene.lone(4).await;
        let slice = scene.worker().await.take(2).await;
        lose(scene.store.parameters(slice.chunk));
        assert_eq!(scene.store.parameters(slice.chunk).await.unwrap().body, b"rows from 0");
    }

    pub async fn lease_taken_back_are_there_for_the_next(scene: &Scene) {
        scene.lone(4).await;
        let lost = scene.worker().await.take(2).await;
        scene.leases_end().await;
        let next = scene.worker().await.take(2).await;
        assert_eq!(next.chunk, lost.chunk);
        assert_eq!(scene.store.parameters(next.chunk).await.unwrap().body, b"rows from 0");
    }

    pub async fn paused_can_be_read(scene: &Scene) {
        let id = scene.lone(4).await;
        let slice = scene.worker().await.take(2).await;
        scene.pause(id).await;
        assert_eq!(scene.store.parameters(slice.chunk).await.unwrap().body, b"rows from 0");
    }

    pub async fn cancelling_can_be_read_to_the_end(scene: &Scene) {
        let id = scene.lone(4).await;
        let slice = scene.worker().await.take(2).await;
        scene.cancel(id, 0).await;
        scene.leases_end().await;
        assert!(scene.state(id).await.is_finished());
        assert_eq!(scene.store.parameters(slice.chunk).await.unwrap().body, b"rows from 0");
    }

    pub async fn deleted_are_not_found(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.succeed(&slice).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.parameters(slice.chunk).await), ErrorKind::NotFound);
    }
}

pub mod outcomes {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::JobState;
    use crate::store::LeaseReport;

    pub async fn fresh_shows_each_chunk_in_order(scene: &Scene) {
        let id = scene.lone(2_500).await;
        let page = scene.store.outcomes(id, 0, 0, 0).await.unwrap();
        let chunks: Vec<(u64, usize)> = page.iter().map(|chunk| (chunk.first, chunk.bytes.len())).collect();
        assert_eq!(chunks, [(0, 1_024), (1_024, 1_024), (2_048, 452)]);
        assert!(page.iter().all(|chunk| chunk.recoveries.is_empty() && chunk.more_after.is_none()));
        let from = scene.store.outcomes(id, 0, 1_500, 0).await.unwrap();
        assert_eq!(from[0].first, 1_024, "from the chunk that holds the job");
        assert!(scene.store.outcomes(id, 0, 2_500, 0).await.unwrap().is_empty());
    }

    pub async fn repeated_page_by_page_shows_every_record_once(scene: &Scene) {
        let id = scene.lone(400).await;
        let worker = scene.worker().await;
        for at in 0..10_u8 {
            let slice = worker.take(1).await;
            let record = vec![at; 60_000];
            worker.report(LeaseReport { record, ..worker.success(&slice) }).await;
        }
        let (mut records, mut after, mut pages) = (Vec::new(), 0, 0);
        loop {
            let page = scene.store.outcomes(id, 0, 0, after).await.unwrap().remove(0);
            assert!(page.records.iter().map(Vec::len).sum::<usize>() <= 300_000, "a page is about 256 KiB");
            records.extend(page.records.iter().map(|record| record[0]));
            pages += 1;
            let Some(more) = page.more_after else { break };
            after = more;
        }
        assert_eq!((records, pages), ((0..10).collect(), 3));
    }

    pub async fn answer_lost_shows_the_same_again(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.report(LeaseReport { record: b"done".to_vec(), ..worker.success(&slice) }).await;
        lose(scene.store.outcomes(id, 0, 0, 0));
        assert_eq!(scene.store.outcomes(id, 0, 0, 0).await.unwrap()[0].records, [b"done"]);
    }

    pub async fn lease_taken_back_keeps_what_it_reported_before(scene: &Scene) {
        let id = scene.lone(20).await;
        let worker = scene.worker().await;
        let slice = worker.take(3).await;
        let part = LeaseReport { succeeded: job(1), record: b"one".to_vec(), ..worker.part(&slice) };
        worker.report(part).await;
        scene.leases_end().await;
        let chunk = scene.store.outcomes(id, 0, 0, 0).await.unwrap().remove(0);
        assert_eq!((chunk.records, &chunk.recoveries[..3]), (vec![b"one".to_vec()], &[1, 0, 1][..]));
        assert_eq!(JobState::of(chunk.bytes[1]), JobState::Succeeded);
    }

    pub async fn paused_shows_what_has_ended(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.pause(id).await;
        worker.succeed(&slice).await;
        assert_eq!(scene.job_states(id, 0).await[..2], [JobState::Succeeded, JobState::Open]);
    }

    pub async fn cancelling_shows_what_is_cancelled_and_what_runs(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(1).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        let expected = [JobState::Open, JobState::Cancelled, JobState::Cancelled, JobState::Cancelled];
        assert_eq!(scene.job_states(id, 0).await, expected);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(1).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.outcomes(id, 0, 0, 0).await), ErrorKind::NotFound);
    }
}

pub mod errors {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::store::error_number;

    pub async fn fresh_are_of_one_step(scene: &Scene) {
        let id = scene.plan().step("a", 1).step("b", 2).create().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, &format!("bad step {}", slice.step)).await;
        }
        assert_eq!(scene.errors(id, 0).await, [("bad step 0".into(), 1)]);
        assert_eq!(scene.errors(id, 1).await, [("bad step 1".into(), 2)]);
    }

    pub async fn repeated_are_the_same(scene: &Scene) {
        let id = scene.failed(3).await;
        let first = scene.store.errors(id, 0).await.unwrap();
        assert_eq!((first[0].jobs, &first), (3, &scene.store.errors(id, 0).await.unwrap()));
    }

    pub async fn answer_lost_are_shown_again(scene: &Scene) {
        let id = scene.failed(3).await;
        lose(scene.store.errors(id, 0));
        let row = scene.store.errors(id, 0).await.unwrap().remove(0);
        assert_eq!((row.number, row.text.as_str()), (error_number("broken"), "broken"));
    }

    pub async fn lease_taken_back_is_none(scene: &Scene) {
        let id = scene.lone(3).await;
        scene.worker().await.take(1).await;
        scene.leases_end().await;
        assert!(scene.errors(id, 0).await.is_empty(), "a job whose worker died has not failed");
    }

    pub async fn paused_are_counted_as_ever(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.pause(id).await;
        worker.fail(&slice, "bad").await;
        assert_eq!(scene.errors(id, 0).await, [("bad".into(), 2)]);
    }

    pub async fn cancelling_keeps_them(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(2).await, "bad").await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(scene.errors(id, 0).await, [("bad".into(), 2)]);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.failed(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.errors(id, 0).await), ErrorKind::NotFound);
    }
}

pub mod waiting {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::store::Waiting;

    async fn of(scene: &Scene, id: WorkflowId) -> Waiting {
        scene.store.waiting(id, 0).await.unwrap()
    }

    pub async fn fresh_counts_who_could_run_it(scene: &Scene) {
        let id = scene.lone(4).await;
        assert_eq!((of(scene, id).await.able_workers, of(scene, id).await.queue_workers), (0, 0));
        scene.worker().await;
        scene.worker_with(|about| about.types = vec![OTHER.into()]).await;
        scene.worker_with(|about| about.queues = vec!["elsewhere".into()]).await;
        assert_eq!((of(scene, id).await.able_workers, of(scene, id).await.queue_workers), (1, 2));
    }

    pub async fn for_workers_that_are_over_is_for_none(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await;
        scene.clock.advance(LEASE);
        assert_eq!((of(scene, id).await.able_workers, of(scene, id).await.queue_workers), (0, 0));
    }

    pub async fn fresh_names_who_holds_its_jobs(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker_with(|about| (about.host, about.pid) = ("ant".into(), 17)).await;
        worker.take(3).await;
        assert_eq!(of(scene, id).await.leases, [("ant:17".to_owned(), 3)]);
    }

    pub async fn repeated_tells_the_next_time(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(1).await, 60_000).await;
        worker.retry_in(&worker.take(1).await, 3_000).await;
        for _ in 0..2 {
            let due = of(scene, id).await.next_due.unwrap();
            assert!((START + 3_000..START + 3_400).contains(&due), "{due}");
        }
    }

    pub async fn answer_lost_is_told_again(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(2).await;
        lose(scene.store.waiting(id, 0));
        assert_eq!(of(scene, id).await.leases.len(), 1);
    }

    pub async fn lease_taken_back_holds_nothing(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(2).await;
        scene.leases_end().await;
        let waiting = of(scene, id).await;
        assert!(waiting.leases.is_empty() && !waiting.suspect && !waiting.parked);
        assert_eq!(waiting.able_workers, 0, "its only worker has died");
    }

    pub async fn paused_is_parked_from_the_first_claim_on(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        scene.pause(id).await;
        worker.claim(1, 1).await;
        assert!(of(scene, id).await.parked);
        scene.resume(id).await;
        assert!(!of(scene, id).await.parked);
    }

    pub async fn cancelling_names_its_chore(scene: &Scene) {
        let id = scene.lone(3_000).await;
        scene.cancel(id, 0).await;
        assert!(of(scene, id).await.chore.is_some());
        scene.tick().await;
        assert_eq!(of(scene, id).await.chore, None);
    }

    pub async fn retried_names_its_hold_or_its_chore(scene: &Scene) {
        let id = scene.failed(4).await;
        assert!(of(scene, id).await.chore.is_none());
        scene.store.retry(scene.retry_of(id)).await.unwrap();
        assert!(of(scene, id).await.chore.is_some());
        scene.tick().await;
        let waiting = of(scene, id).await;
        assert!(waiting.chore.is_none() && waiting.holds.is_empty());
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.waiting(id, 0).await), ErrorKind::NotFound);
    }
}

pub mod size {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;

    async fn parameters(scene: &Scene, id: WorkflowId) -> u64 {
        scene.store.size(id).await.unwrap().parameter_bytes
    }

    pub async fn fresh_counts_parameters(scene: &Scene) {
        let (small, large) = (scene.lone(10).await, scene.lone(100_000).await);
        let (small, large) = (scene.store.size(small).await.unwrap(), scene.store.size(large).await.unwrap());
        assert!(small.parameter_bytes > 0 && large.parameter_bytes > 10 * small.parameter_bytes, "{small:?} {large:?}");
        assert!(small.state_bytes > 0 && small.outcome_bytes == 0, "{small:?}");
        assert_eq!(large.total(), large.parameter_bytes + large.outcome_bytes + large.state_bytes);
    }

    pub async fn repeated_is_the_same(scene: &Scene) {
        let id = scene.lone(10).await;
        assert_eq!(scene.store.size(id).await.unwrap(), scene.store.size(id).await.unwrap());
    }

    pub async fn answer_lost_is_told_again(scene: &Scene) {
        let id = scene.lone(10).await;
        lose(scene.store.size(id));
        assert!(parameters(scene, id).await > 0);
    }

    pub async fn lease_taken_back_is_as_before(scene: &Scene) {
        let id = scene.lone(10).await;
        let before = parameters(scene, id).await;
        scene.worker().await.take(3).await;
        scene.leases_end().await;
        assert_eq!(parameters(scene, id).await, before);
    }

    pub async fn paused_is_as_before(scene: &Scene) {
        let id = scene.lone(10).await;
        let before = parameters(scene, id).await;
        scene.pause(id).await;
        assert_eq!(parameters(scene, id).await, before);
    }

    pub async fn cancelling_is_as_before(scene: &Scene) {
        let id = scene.lone(10).await;
        let before = parameters(scene, id).await;
        let holder = scene.worker().await;
        holder.take(1).await;
        scene.cancel(id, 60_000).await;
        assert_eq!(parameters(scene, id).await, before);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.lone(10).await;
        scene.worker().await.run().await;
        scene.delete(id).await;
        assert_eq!(scene.store.size(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    pub async fn what_ran_has_outcomes(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(1024).await;
        let record = vec![7; 5_000];
        worker.report(crate::store::LeaseReport { record, ..worker.success(&slice) }).await;
        let outcomes = scene.store.size(id).await.unwrap().outcome_bytes;
        assert!((5_000..10_000).contains(&outcomes), "{outcomes}");
    }
}

pub mod whereabouts {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::store::{Whereabouts, due_time};

    async fn of(scene: &Scene, id: WorkflowId, index: u64) -> Whereabouts {
        scene.store.whereabouts(id, 0, index).await.unwrap()
    }

    pub async fn fresh_is_in_its_line(scene: &Scene) {
        let id = scene.rows(2_000).await;
        let at = of(scene, id, 1_999).await;
        assert_eq!((at.ready, at.worker, at.due), (true, None, None));
        assert!(!scene.store.whereabouts(id, 1, 0).await.unwrap().ready, "its step has not been released");
    }

    pub async fn repeated_follows_the_job(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker_with(|about| (about.host, about.pid) = ("ant".into(), 17)).await;
        let slice = worker.take(1).await;
        let at = of(scene, id, 0).await;
        assert_eq!((at.worker.as_deref(), at.ready), (Some("ant:17"), false));
        worker.retry_in(&slice, 3_000).await;
        let at = of(scene, id, 0).await;
        assert_eq!((at.worker, at.ready, at.due), (None, false, Some(due_time(START, milliseconds(3_000)))));
        scene.clock.advance(4_000);
        scene.tick().await;
        let at = of(scene, id, 0).await;
        assert_eq!((at.ready, at.due), (true, None));
        worker.run().await;
        assert!(!of(scene, id, 0).await.ready, "it has settled");
    }

    pub async fn answer_lost_is_told_again(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(1).await;
        lose(scene.store.whereabouts(id, 0, 0));
        assert_eq!(of(scene, id, 0).await.worker.as_deref(), Some("test:1"));
        assert_eq!(of(scene, id, 1).await.worker, None);
    }

    pub async fn lease_taken_back_is_in_its_line_again(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(1).await;
        scene.leases_end().await;
        let at = of(scene, id, 0).await;
        assert_eq!((at.worker, at.ready), (None, true));
    }

    pub async fn paused_keeps_its_worker(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(1).await;
        scene.pause(id).await;
        assert!(of(scene, id, 0).await.worker.is_some());
    }

    pub async fn cancelling_is_in_no_line(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(1).await, 3_000).await;
        worker.take(1).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        let (retried, runs, waited) = (of(scene, id, 0).await, of(scene, id, 1).await, of(scene, id, 2).await);
        assert_eq!((retried.due, retried.ready, waited.ready), (None, false, false));
        assert!(runs.worker.is_some(), "it has its grace");
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.whereabouts(id, 0, 0).await), ErrorKind::NotFound);
    }
}

pub mod workers {
    use super::super::scene::*;

    async fn leases(scene: &Scene) -> Vec<u64> {
        scene.store.workers(9).await.unwrap().iter().map(|row| row.leases).collect()
    }

    pub async fn fresh_shows_each_with_what_it_holds(scene: &Scene) {
        scene.lone(100).await;
        let one = scene.worker().await;
        scene.clock.advance(10);
        let other = scene.worker_with(|about| about.host = "other".into()).await;
        one.claim(2, 3).await;
        other.take(1).await;
        let rows = scene.store.workers(9).await.unwrap();
        let told: Vec<_> = rows.iter().map(|row| (row.session.host.as_str(), row.since, row.leases)).collect();
        assert_eq!(told, [("test", START, 3), ("other", START + 10, 1)]);
    }

    pub async fn repeated_up_to_a_limit(scene: &Scene) {
        for _ in 0..3 {
            scene.worker().await;
        }
        assert_eq!(scene.store.workers(2).await.unwrap().len(), 2);
        assert_eq!(scene.store.workers(9).await.unwrap().len(), 3);
    }

    pub async fn answer_lost_shows_them_again(scene: &Scene) {
        scene.worker().await;
        lose(scene.store.workers(9));
        assert_eq!(leases(scene).await, [0]);
    }

    pub async fn lease_taken_back_is_held_no_more(scene: &Scene) {
        scene.lone(10).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 2).await.slices;
        assert_eq!(leases(scene).await, [2]);
        scene.wait(LEASE / 2).await;
        worker.renew(&[slices[0].lease]).await;
        scene.wait(LEASE / 2 + 200).await;
        assert_eq!(leases(scene).await, [1]);
    }

    pub async fn paused_keeps_what_it_holds(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        scene.pause(id).await;
        worker.claim(1, 1).await;
        assert_eq!(leases(scene).await, [1]);
    }

    pub async fn cancelling_holds_nothing_after_the_grace(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 200).await;
        assert_eq!(leases(scene).await, [1]);
        worker.renew(&[slice.lease]).await;
        scene.wait(400).await;
        assert_eq!(leases(scene).await, [0]);
    }

    pub async fn deleted_workflow_is_held_by_nobody(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.delete(id).await;
        assert_eq!(leases(scene).await, [0]);
    }

    pub async fn one_whose_lease_is_over_is_gone_although_nobody_has_looked(scene: &Scene) {
        scene.worker().await;
        scene.clock.advance(LEASE - 1);
        assert_eq!(leases(scene).await, [0]);
        scene.clock.advance(1);
        assert!(leases(scene).await.is_empty());
    }
}

pub mod held {
    use super::super::scene::*;
    use super::super::worker::Worker;
    use crate::id::{SessionId, WorkflowId};
    use crate::store::{HeldRow, Slice};

    async fn of(scene: &Scene, worker: &Worker<'_>) -> Vec<HeldRow> {
        scene.store.held(worker.session.id, 9).await.unwrap()
    }

    /// The workflow, the step, the jobs of each slice.
    fn told(rows: &[HeldRow]) -> Vec<(WorkflowId, String, Vec<usize>)> {
        rows.iter().map(|row| (row.workflow, row.step_name.clone(), row.jobs.iter().collect())).collect()
    }

    pub async fn fresh_tells_which_jobs_of_which_step_in_the_order_of_their_claims(scene: &Scene) {
        let id = scene.plan().step("rows", 5).step("others", 1).create().await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let one = worker.take(2).await;
        scene.clock.advance(10);
        let another = worker.take(2).await;
        let of_other = other.take(1).await;
        let as_held = |slice: &Slice| (id, slice.step_name.clone(), slice.jobs.iter().collect::<Vec<usize>>());
        let rows = of(scene, &worker).await;
        assert_eq!(told(&rows), [as_held(&one), as_held(&another)]);
        assert_eq!(told(&of(scene, &other).await), [as_held(&of_other)]);
        let times: Vec<_> = rows.iter().map(|row| (row.step, row.first, row.claimed_at)).collect();
        assert_eq!(times, [(one.step, 0, START), (another.step, 0, START + 10)]);
        assert_eq!(rows[0].workflow_name, scene.row(id).await.name);
    }

    pub async fn repeated_up_to_a_limit(scene: &Scene) {
        scene.lone(9).await;
        let worker = scene.worker().await;
        worker.claim(1, 5).await;
        let rows = scene.store.held(worker.session.id, 3).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.jobs.iter().next().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((of(scene, &worker).await.len(), of(scene, &worker).await.len()), (5, 5));
    }

    pub async fn answer_lost_tells_it_again(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        lose(scene.store.held(worker.session.id, 9));
        assert_eq!(told(&of(scene, &worker).await), [(id, "rows".into(), vec![0])]);
    }

    pub async fn lease_taken_back_is_nothing(scene: &Scene) {
        scene.lone(4).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        scene.leases_end().await;
        assert!(of(scene, &worker).await.is_empty());
    }

    pub async fn paused_is_still_held(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.pause(id).await;
        assert_eq!(told(&of(scene, &worker).await), [(id, "rows".into(), vec![0, 1])]);
        worker.succeed(&slice).await;
        assert!(of(scene, &worker).await.is_empty());
    }

    pub async fn cancelling_is_held_until_the_grace_ends(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 200).await;
        assert_eq!(of(scene, &worker).await.len(), 1);
        worker.renew(&[slice.lease]).await;
        scene.wait(400).await;
        assert!(of(scene, &worker).await.is_empty());
    }

    pub async fn deleted_is_held_no_more(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.delete(id).await;
        assert!(of(scene, &worker).await.is_empty());
    }

    pub async fn names_a_lane_as_it_is_listed(scene: &Scene) {
        let lane = super::super::lone::lone_rows(scene, 3).await;
        let worker = scene.worker().await;
        worker.take(2).await;
        let rows = of(scene, &worker).await;
        assert_eq!((rows[0].workflow, &rows[0].workflow_name), (lane, &scene.row(lane).await.name));
    }

    pub async fn of_a_session_that_is_not_known_is_nothing(scene: &Scene) {
        assert!(scene.store.held(SessionId::random(), 9).await.unwrap().is_empty());
    }
}

pub mod doctor {
    use super::super::scene::*;
    use crate::state::WorkflowState;

    pub async fn fresh_finds_an_empty_store_at_rest(scene: &Scene) {
        let checkup = scene.checkup().await;
        assert_eq!((checkup.workflows, checkup.steps, checkup.jobs, checkup.under_way), (0, 0, 0, 0));
        scene.at_rest().await;
    }

    pub async fn repeated_recounts_everything_each_time(scene: &Scene) {
        scene.rows(1_500).await;
        scene.worker().await.claim(1, 3).await;
        for _ in 0..2 {
            let checkup = scene.checkup().await;
            assert_eq!((checkup.workflows, checkup.steps, checkup.jobs, checkup.leases), (1, 2, 1_501, 3));
            assert_eq!(checkup.findings, Vec::<String>::new());
        }
    }

    pub async fn answer_lost_stops_nobody(scene: &Scene) {
        let id = scene.rows(3).await;
        lose(scene.store.doctor());
        scene.worker().await.run().await;
        assert_eq!((scene.state(id).await, scene.under_way().await), (WorkflowState::Succeeded, 0));
    }

    pub async fn lease_taken_back_is_not_counted(scene: &Scene) {
        scene.lone(4).await;
        scene.worker().await.take(1).await;
        assert_eq!(scene.checkup().await.leases, 1);
        scene.leases_end().await;
        assert_eq!(scene.checkup().await.leases, 0);
        scene.check().await;
    }

    pub async fn paused_is_under_way(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.pause(id).await;
        scene.worker().await.drain().await;
        assert!(scene.under_way().await > 0, "it waits for its resume");
        scene.check().await;
    }

    pub async fn cancelling_is_under_way_until_it_has_ended(scene: &Scene) {
        let id = scene.lone(3_000).await;
        scene.cancel(id, 0).await;
        scene.check().await;
        assert!(scene.under_way().await > 0);
        scene.tick().await;
        scene.at_rest().await;
        assert_eq!(scene.checkup().await.jobs, 3_000);
    }

    pub async fn deleted_is_not_counted(scene: &Scene) {
        let id = scene.failed(3).await;
        scene.store.delete(id).await.unwrap();
        assert_eq!(scene.checkup().await.workflows, 0, "from the moment of the command");
        scene.tick().await;
        scene.at_rest().await;
    }
}
