//! What the store shows of what is in it: parameters, outcomes, errors, sizes, and what a checkup finds.

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
        lose(scene.store.parameters(slice.chunk)).await;
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
        lose(scene.store.outcomes(id, 0, 0, 0)).await;
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
        lose(scene.store.errors(id, 0)).await;
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
        lose(scene.store.size(id)).await;
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
        lose(scene.store.doctor()).await;
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
