//! Whole workflows, whichever way their slices go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::rig::{Does, Import, LEASE, Rig};
use super::{Hostile, InProcess};
use crate::broker::{Broker, Brokers, Way};
use crate::state::WorkflowState;
use crate::store::Tick;

type Given = Option<Arc<dyn Broker>>;

pub async fn every_row_runs_and_one_report_comes_after_them(broker: Given) {
    let rig = Rig::new(broker);
    let workers = [rig.worker().await, rig.worker().await];
    let handle = rig.start(rig.import(5_000)).await;
    rig.succeeds(&handle, 5_000).await;
    assert_eq!((rig.notes.rows.lock().len(), *rig.notes.reports.lock()), (5_000, 1));
    for worker in workers {
        worker.stop().await;
    }
    rig.at_rest().await;
    if rig.broker.is_some() {
        let traffic = rig.traffic();
        assert!(traffic.taken_over > 0 && traffic.published < 1_000, "{traffic}");
    }
}

pub async fn a_hostile_broker_harms_nothing(broker: Given) {
    let hostile = broker.map(|broker| Arc::new(Hostile::new(broker, 1, 3 * LEASE)));
    let rig = Rig::new(hostile.clone().map(|hostile| hostile as Arc<dyn Broker>));
    let mut workers = vec![rig.worker().await, rig.worker().await];
    let mut handles = Vec::new();
    for _ in 0..3 {
        handles.push(rig.start(Import { does: Does::FailsOnce, ..rig.import(1_500) }).await);
    }
    // One dies and another comes.
    drop(workers.pop());
    workers.push(rig.worker().await);
    for handle in &handles {
        rig.succeeds(handle, 1_500).await;
    }
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(*rig.notes.reports.lock(), 3);
    rig.at_rest().await;
    if let Some(hostile) = hostile {
        let (dropped, doubled, late) = hostile.misdeeds();
        assert!(dropped > 0 && doubled > 0 && late > 0, "{:?}", hostile.misdeeds());
        assert!(rig.traffic().gone > 0, "{}", rig.traffic());
    }
}

pub async fn retries_and_delays_wait_in_the_store(broker: Given) {
    let rig = Rig::new(broker);
    let worker = rig.worker().await;
    let import = Import { does: Does::FailsOnce, delay: Duration::from_millis(700), ..rig.import(100) };
    let handle = rig.start(import).await;
    let began = tokio::time::Instant::now();
    rig.succeeds(&handle, 100).await;
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(rig.notes.rows.lock().values().all(|attempts| *attempts == 2));
    worker.stop().await;
    rig.at_rest().await;
}

pub async fn a_type_that_one_worker_does_not_know_is_run_by_another(broker: Given) {
    let rig = Rig::new(broker);
    let knows_rows = [rig.worker_by(None, false).await, rig.worker_by(None, false).await];
    let knows_all = rig.worker().await;
    let handle = rig.start(Import { other: true, ..rig.import(500) }).await;
    rig.succeeds(&handle, 500).await;
    for worker in knows_rows.into_iter().chain([knows_all]) {
        worker.stop().await;
    }
    rig.at_rest().await;
}

pub async fn a_worker_that_dies_costs_its_own_jobs_a_recovery_and_no_others(broker: Given) {
    let rig = Rig::new(broker);
    let handle = rig.start(Import { does: Does::Waits, ..rig.import(1_000) }).await;
    let dies = rig.worker().await;
    rig.notes.until(|rows| rows.len() >= 4).await;
    drop(dies);
    let lives = rig.worker().await;
    rig.notes.go.cancel();
    rig.succeeds(&handle, 1_000).await;
    let recovered = rig.store.outcomes(handle.id(), 0, 0, 0).await.unwrap();
    let recovered: usize =
        recovered.iter().map(|chunk| chunk.recoveries.iter().filter(|count| **count > 0).count()).sum();
    assert!((1..=60).contains(&recovered), "{recovered} jobs were recovered: those that it held, not those in flight");
    lives.stop().await;
    rig.at_rest().await;
}

/// The worker whose row never ends is killed again and again; as suspect the row runs alone, wherever it came from.
pub async fn a_job_that_kills_its_workers_fails_alone(broker: Given) {
    let rig = Rig::new(broker);
    rig.notes.stuck.lock().push(3);
    let handle = rig.start(rig.import(40)).await;
    for _ in 0..40 {
        let starts = |rows: &BTreeMap<u64, u32>| rows.get(&3).copied().unwrap_or(0);
        let before = starts(&rig.notes.rows.lock());
        let worker = rig.worker().await;
        let ended = tokio::select! {
            () = rig.notes.until(|rows| starts(rows) > before) => false,
            state = rig.ends(&handle) => {
                assert_eq!(state, WorkflowState::Failed);
                true
            }
        };
        if ended {
            worker.stop().await;
            let view = handle.status().await.unwrap();
            assert_eq!((view.jobs.failed, view.jobs.succeeded), (1, 39));
            return rig.check().await;
        }
        drop(worker);
    }
    panic!("the job that kills its workers has not failed");
}

/// Whichever way the rest of the work comes: from the second death on nothing runs beside what may have caused them.
pub async fn beside_a_slice_that_may_kill_its_worker_nothing_starts(broker: Given) {
    const KILLER: u64 = 1_000;
    let rig = Rig::new(broker);
    rig.notes.stuck.lock().push(KILLER);
    let first = rig.start(rig.import(KILLER + 1)).await;
    let mut other = None;
    for deaths in 0..3 {
        if deaths == 2 {
            // Both wait when the next worker comes.
            while first.status().await.unwrap().steps[0].running > 0 {
                rig.store.tick(Tick { lease: rig.store.lease() }).await.unwrap();
                tokio::task::yield_now().await;
            }
            other = Some(rig.start(Import { does: Does::FailsOnce, ..rig.import(KILLER) }).await);
        }
        let starts = |rows: &BTreeMap<u64, u32>| rows.get(&KILLER).copied().unwrap_or(0);
        let before = starts(&rig.notes.rows.lock());
        let worker = rig.worker().await;
        rig.notes.until(|rows| starts(rows) > before).await;
        if let Some(other) = &other {
            // What is in the same slice starts, too; then nothing, though rows of the other import are due again after 200 ms.
            while tokio::time::timeout(LEASE, rig.notes.started.notified()).await.is_ok() {}
            let left = other.status().await.unwrap().jobs.unsettled();
            assert!(left > 1, "all of the other import has run meanwhile");
        }
        drop(worker);
    }
    rig.notes.stuck.lock().clear();
    let worker = rig.worker().await;
    rig.succeeds(&first, KILLER + 1).await;
    rig.succeeds(&other.expect("the other import"), KILLER).await;
    worker.stop().await;
    rig.at_rest().await;
}

pub async fn a_live_queue_moves_from_one_way_to_another_and_back(broker: Given) {
    let rig = Rig::new(broker);
    let handle = rig.start(Import { does: Does::FailsOnce, ..rig.import(4_000) }).await;
    let direct = || Some(Way::Url("store:".to_owned()));
    let another = || Some(Way::Broker(Arc::new(InProcess::default()) as Arc<dyn Broker>));
    for way in [None, direct(), another(), None, another(), direct(), None] {
        let before = rig.notes.rows.lock().len();
        let worker = rig.worker_by(way, true).await;
        rig.notes.until(|rows| rows.len() >= (before + 600).min(4_000)).await;
        worker.stop().await;
    }
    let last = rig.worker().await;
    rig.succeeds(&handle, 4_000).await;
    last.stop().await;
    rig.at_rest().await;
}

pub async fn a_cancelled_workflow_ends(broker: Given) {
    let rig = Rig::new(broker);
    let worker = rig.worker().await;
    let handle = rig.start(Import { does: Does::Waits, ..rig.import(3_000) }).await;
    rig.notes.until(|rows| !rows.is_empty()).await;
    handle.cancel().await.unwrap();
    rig.notes.go.cancel();
    assert_eq!(rig.ends(&handle).await, WorkflowState::Cancelled);
    worker.stop().await;
    rig.at_rest().await;
}

pub async fn a_paused_workflow_waits_and_goes_on(broker: Given) {
    let rig = Rig::new(broker);
    let worker = rig.worker().await;
    let handle = rig.start(Import { does: Does::FailsOnce, ..rig.import(3_000) }).await;
    rig.notes.until(|rows| !rows.is_empty()).await;
    handle.pause().await.unwrap();
    let running = async || handle.status().await.unwrap().steps[0].running;
    while running().await > 0 {
        tokio::task::yield_now().await;
    }
    let ran = rig.notes.rows.lock().values().sum::<u32>();
    let starts = tokio::time::timeout(3 * LEASE, rig.notes.started.notified()).await;
    assert!(starts.is_err(), "nothing starts");
    assert_eq!(rig.notes.rows.lock().values().sum::<u32>(), ran);
    handle.resume().await.unwrap();
    rig.succeeds(&handle, 3_000).await;
    worker.stop().await;
    rig.at_rest().await;
}

pub async fn queues_of_one_program_go_different_ways(broker: Given) {
    let rig = Rig::new(broker.clone());
    let worker = rig.worker().await;
    // The rows go by the broker, their reports by the store's own lines.
    let reports = format!("{}-direct", rig.queue);
    let handle = rig.start(Import { reports: reports.clone(), ..rig.import(1_000) }).await;
    rig.succeeds(&handle, 1_000).await;
    let brokers: Brokers = rig.brokers();
    assert_eq!(brokers.of(&rig.queue).unwrap().is_some(), broker.is_some());
    assert!(brokers.of(&reports).unwrap().is_none());
    worker.stop().await;
    rig.at_rest().await;
}
