//! Lone jobs and starts that come with a transaction of the application's own: both happen, or neither does.

use rusqlite::Transaction;

use crate::error::Result;
use crate::job::Job;
use crate::lone::{JobId, LoneJob, NewJob, Prepared};
use crate::start_behind::WaitingStart;
use crate::starting::Starting;
use crate::store::LoneJobs;
use crate::store::sqlite::enqueue_within;
use crate::workflow::Workflow;

impl<J: Job> NewJob<'_, J> {
    /// Enqueues it within a transaction of the application's own, on a connection to the store's file: it is there once that has been
    /// committed, and if it is not, it has never been. A worker sees it within a second.
    ///
    /// The transaction's type is that of [`gusher::store::sqlite::rusqlite`](crate::store::sqlite::rusqlite).
    pub fn within(self, tx: &Transaction<'_>) -> Result<LoneJob<J>> {
        let client = self.client().clone();
        let Prepared { lane, json, times, keyed, unique } = self.prepared()?;
        let store = client.store();
        let mut jobs = LoneJobs { keyed: keyed.into_iter().collect(), ..LoneJobs::one(lane, &json, times.due)? };
        jobs.deadlines.extend(times.expires.map(|time| (time, crate::slice::Mask::range(0..1))));
        let (index, refused) = enqueue_within(tx, &store.url(), store.now(), &jobs)?;
        let id = JobId { lane: jobs.lane.id, index };
        let first = refused.first().map(|(_, first)| *first);
        Ok(client.lone(Prepared::answer(J::NAME, unique.as_ref(), id, first)?))
    }
}

impl<W: Workflow> Starting<W> {
    /// Starts it within a transaction of the application's own, on a connection to the store's file: a worker that knows its type starts
    /// it once that has been committed, and if it is not, nobody does.
    ///
    /// The transaction's type is that of [`gusher::store::sqlite::rusqlite`](crate::store::sqlite::rusqlite).
    pub fn within(self, tx: &Transaction<'_>) -> Result<WaitingStart> {
        let client = self.client().clone();
        let store = client.store();
        let (id, jobs) = self.into_job(store.next_shard(), None)?;
        let (index, _) = enqueue_within(tx, &store.url(), store.now(), &jobs)?;
        let job = JobId { lane: jobs.lane.id, index };
        Ok(WaitingStart::new(client, id, job, W::NAME))
    }
}
