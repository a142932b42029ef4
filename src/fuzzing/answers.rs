//! What Redis answers, as anything else: whatever is asked of a store on it, the answer is right or an error.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::bytes::Bytes;
use super::furnished::Furnished;
use super::store::{PANICKED, read, seen, use_it};
use crate::clock::Clock;
use crate::graph::StepSpec;
use crate::store::redis::{Options, RedisStore};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{
    AddJobs, Adopt, Append, Begin, ChangeSchedule, CloseBatch, Create, DraftKey, DraftOf, Fire, Keeping, LeaseName,
    Pausable, PutSchedule, Renew, Store, TakeDraft, TakeOver,
};
use crate::testing::conformance::scene::{LEASE, QUEUE, ROW, START, chunk, new_workflow, root};

/// The ids of a store that there has been once: what is asked names them.
static THERE: LazyLock<Furnished> = LazyLock::new(|| {
    let clock = Clock::manual(START);
    let store = SqliteStore::open(sqlite::Options { clock: clock.clone(), ..sqlite::Options::in_memory() }).unwrap();
    futures::executor::block_on(Furnished::new(Arc::new(store), clock))
});

/// Takes the bytes as answers, and asks for everything.
pub fn answers(data: &[u8]) {
    // A server may say, too, what `seen` knows a caught panic by.
    if data.windows(PANICKED.len()).any(|text| text == PANICKED.as_bytes()) {
        return;
    }
    let clock = Clock::manual(START);
    let (store, there) = (store(data, clock.clone()), &*THERE);
    futures::executor::block_on(async {
        ask(&*store, there).await;
        read(&store, there).await;
        use_it(&store, &clock, there).await;
    });
}

/// A store that is answered so.
fn store(data: &[u8], clock: Clock) -> Arc<dyn Store> {
    let mut bytes = Bytes(data);
    let shards = Some(1 + bytes.below(2) as u16);
    let mut written = Vec::new();
    while !bytes.is_empty() {
        written.push(answer(&mut bytes));
    }
    let lease = Duration::from_millis(LEASE as u64);
    let options = Options { clock, lease, shards, ..Options::new("redis://nowhere") };
    Arc::new(RedisStore::written(options, written))
}

/// A verb, and what it is answered: JSON, mostly within what goes around each answer, and up to three more parts.
fn answer(bytes: &mut Bytes<'_>) -> (String, Vec<Vec<u8>>) {
    let verb = bytes.text();
    let form = bytes.byte();
    let json = bytes.long();
    let json = match form & 1 {
        0 => [br#"{"cost":{"calls":1,"rows":1,"bytes":1},"sequence":7,"answer":"#, json, b"}"].concat(),
        _ => json.to_vec(),
    };
    let more = (0..form >> 6).map(|_| bytes.long().to_vec());
    (verb, [json].into_iter().chain(more).collect())
}

/// What neither readers nor a worker ask for.
async fn ask(store: &dyn Store, there: &Furnished) {
    let (workflow, session) = (there.workflow, there.worker.id);
    let (slice, chunk_ref) = (&there.slices[0], there.slices[0].chunk);
    seen(store.schedules(String::new(), 10).await);
    seen(store.occurrences(0, "nightly".into(), i64::MAX, 10).await);
    seen(store.paused().await);
    seen(store.children(workflow, 0, 0, 10).await);
    seen(store.step_named(workflow, "rows".into()).await);
    seen(store.size(workflow).await);
    seen(store.whereabouts(workflow, 0, 3).await);
    seen(store.emitted(chunk_ref, 0).await);
    seen(store.outcomes_of_chunk(workflow, 0, 0, 0).await);
    seen(store.identity().await);

    let draft = DraftKey { session, number: 1 };
    let new = new_workflow(workflow);
    seen(store.begin(Begin { draft, workflow: new.clone(), lease: LEASE }).await);
    seen(store.abandon(workflow, draft).await);
    let of = DraftOf::Workflow(Box::new(new.clone()));
    seen(store.append(Append { draft, of, number: 0, parts: vec![root("rows")], lease: LEASE }).await);
    seen(store.create(Create { workflow: new, draft: None, parts: vec![root("rows")], again: false }).await);
    let step = StepSpec::new(ROW, QUEUE);
    let add = AddJobs { session, command: 7, workflow, step, draft: None, chunk: Some(chunk(3, "added")) };
    seen(store.add_jobs(add).await);
    seen(store.close_batch(CloseBatch { workflow, draft }).await);

    let next = Some(START + LEASE);
    let put = PutSchedule { shard: 0, name: "nightly".into(), rule: "{}".into(), definition: "{}".into(), next };
    seen(store.put_schedule(put).await);
    for change in [ChangeSchedule::Pause, ChangeSchedule::Resume(next), ChangeSchedule::Move, ChangeSchedule::Remove] {
        seen(store.change_schedule(0, "nightly".into(), change).await);
    }
    let (moves, passed_over, jobs) = (None, None, None);
    let instants = vec![START];
    let fire = Fire { shard: 0, schedule: "nightly".into(), moves, passed_over, instants, jobs, starts: true };
    seen(store.fire(fire).await);

    let leases = there.slices.iter().map(|slice| LeaseName { session, lease: slice.lease }).collect();
    seen(store.take_over(TakeOver { session, first_lease: 1, leases, types: vec![ROW.into()], lease: LEASE }).await);
    let leases = there.slices.iter().map(|slice| slice.lease).collect();
    seen(store.renew(Renew { session, leases, drafts: vec![1], progress: Vec::new(), lease: LEASE }).await);
    seen(store.take_draft(TakeDraft { session, lease: slice.lease, at: 0, draft: 2 }).await);
    let chunks = vec![chunk(3, "emitted")];
    seen(store.adopt(Adopt { session, lease: slice.lease, at: 0, before: 0, chunks }).await);
    seen(store.keep(workflow, Keeping::Pinned).await);
    seen(store.set_paused(Pausable::Queue(QUEUE.into()), true).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_servers_have_answered_once_is_read() {
        let corpus = include_bytes!("../../fuzz/corpus/answers/all");
        let store = store(corpus, Clock::manual(START));
        let there = tokio::task::spawn_blocking(|| &*THERE).await.unwrap();
        assert!(!store.workflow(there.workflow).await.unwrap().name.is_empty());
        assert!(!store.steps(there.workflow, 0, 10).await.unwrap().is_empty());
        assert!(store.workflow(there.workflow).await.is_err(), "each answer is given once");
    }
}
