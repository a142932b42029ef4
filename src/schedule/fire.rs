//! Firing what is due. Every worker does, and whoever moves a schedule's next instant first has fired it.

use super::definition::Definition;
use super::due::due;
use crate::error::Result;
use crate::store::{DueSchedule, Fire, Move, Store, Ticked};
use crate::wake::wake;

/// Fires the schedules that a tick has found due. Tells whether any has been: then more may be due.
pub(crate) async fn fire_due(store: &dyn Store, ticked: &Ticked) -> bool {
    let mut any = false;
    for due in &ticked.schedules {
        match fire_one(store, due).await {
            Ok(fired) => any |= fired,
            // Another worker may be able to; else it is told again and again, since nothing happens at its times.
            Err(error) => {
                tracing::warn!(%error, schedule = due.schedule.name, "a schedule cannot be fired; it is tried again")
            }
        }
    }
    any
}

async fn fire_one(store: &dyn Store, DueSchedule { schedule: row, now }: &DueSchedule) -> Result<bool> {
    let Some(next) = row.next else { return Ok(false) };
    let definition = Definition::decode(&row.name, &row.definition)?;
    let mut due = due(&definition.rule, definition.missed, definition.grace, next, *now);
    let jobs = definition.jobs(&row.name, row.shard, &due.instants)?;
    // What did not fit comes next.
    let fired = jobs.as_ref().map_or(0, |jobs| jobs.chunk.jobs as usize);
    if let Some(left) = due.instants.get(fired).copied() {
        due.next = Some(left);
        due.instants.truncate(fired);
    }
    let fire = Fire {
        shard: row.shard,
        schedule: row.name.clone(),
        moves: Some(Move { from: next, to: due.next }),
        passed_over: due.passed_over,
        instants: due.instants,
        jobs,
        starts: definition.starts(),
    };
    let answer = store.fire(fire).await?;
    wake(&answer.woken);
    Ok(answer.fired)
}

#[cfg(all(test, feature = "sqlite", feature = "testing"))]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, Millis};
    use crate::id::WorkflowId;
    use crate::payload::Lines;
    use crate::schedule::Rule;
    use crate::schedule::definition::What;
    use crate::start_job::{StartJob, start_type};
    use crate::store::sqlite::{Options, SqliteStore};
    use crate::store::{Key, Lane, OccurrenceRow, Overlap, PutSchedule, Tick};
    use crate::testing::model::dice::Dice;

    const INSTANTS: usize = 10_000;
    const INTERVAL: Millis = 20;
    const LEASE: Millis = 1_000;

    /// All that a store has of a schedule's instants, the first one first.
    async fn history(store: &dyn Store) -> Vec<OccurrenceRow> {
        let mut rows = VecDeque::new();
        loop {
            let before = rows.front().map_or(Millis::MAX, |row: &OccurrenceRow| row.at);
            let page = store.occurrences(0, "often".into(), before, 500).await.unwrap();
            if page.is_empty() {
                return rows.into();
            }
            page.into_iter().for_each(|row| rows.push_front(row));
        }
    }

    /// The start jobs in the lane, by their index.
    async fn start_jobs(store: &dyn Store, lane: WorkflowId) -> BTreeMap<u64, StartJob> {
        let (mut jobs, mut from) = (BTreeMap::new(), 0);
        loop {
            let page = store.outcomes(lane, 0, from, 0).await.unwrap();
            let Some(last) = page.last() else { return jobs };
            from = last.first + last.bytes.len() as u64;
            for chunk in &page {
                let lines = Lines::unpack(&store.parameters(chunk.chunk).await.unwrap().body).unwrap();
                let job = |at| serde_json::from_slice(lines.get(at).unwrap()).unwrap();
                jobs.extend((0..chunk.bytes.len()).map(|at| (chunk.first + at as u64, job(at))));
            }
        }
    }

    #[tokio::test]
    async fn five_schedulers_fire_each_of_10_000_instants_once_whenever_they_look_and_whatever_they_remember() {
        let clock = Clock::manual(0);
        let options = Options { clock: clock.clone(), ..Options::in_memory() };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options).unwrap());
        let what = What::Start {
            workflow: "Import".into(),
            arguments: r#"{"at":"{at}"}"#.into(),
            key: Some(Key { key: String::new(), overlap: Overlap::Wait }),
        };
        let rule = Rule::every(Duration::from_millis(INTERVAL as u64)).unwrap();
        let (rule, definition) = Definition::new(rule, what, "default").encode().unwrap();
        store
            .put_schedule(PutSchedule { shard: 0, name: "often".into(), rule, definition, next: Some(0) })
            .await
            .unwrap();
        let mut dice = Dice::new(7);
        // What each of them saw when it looked last; it may act on that much later, or die before.
        let mut seen: [Option<Ticked>; 5] = Default::default();
        while clock.now() < INSTANTS as Millis * INTERVAL {
            let who = dice.below(5);
            match seen[who].take() {
                None => seen[who] = Some(store.tick(Tick { lease: LEASE }).await.unwrap()),
                Some(_) if dice.below(10) == 0 => {}
                Some(ticked) => {
                    fire_due(&*store, &ticked).await;
                    if dice.below(4) == 0 {
                        fire_due(&*store, &ticked).await;
                    }
                }
            }
            clock.advance(dice.below(50) as Millis);
        }
        loop {
            let ticked = store.tick(Tick { lease: LEASE }).await.unwrap();
            if !fire_due(&*store, &ticked).await {
                break;
            }
        }
        let lane = Lane::new(0, "default", 0, &start_type("Import")).id;
        let (rows, mut jobs) = (history(&*store).await, start_jobs(&*store, lane).await);
        assert!(rows.len() >= INSTANTS);
        for (number, row) in rows.iter().enumerate() {
            let at = number as Millis * INTERVAL;
            assert_eq!((row.at, row.to, row.count), (at, at, 1));
            let (of, index) = row.job.expect("each has a start job");
            let job = jobs.remove(&index).expect("each has one of its own");
            assert_eq!((of, job.id), (lane, WorkflowId::of_occurrence(0, "often", at)));
            assert_eq!(job.occurrence.map(|occurrence| occurrence.at), Some(at));
        }
        assert!(jobs.is_empty(), "start jobs of no instant: {jobs:?}");
    }
}
