//! A batch that this program holds open: a draft that it renews until it closes the batch. Should it end without that, the draft dies, and the
//! batch with it is abandoned.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::Batch;
use crate::client::Client;
use crate::clock::Millis;
use crate::creation::answered;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::payload::ChunkBuilder;
use crate::retention::Retention;
use crate::starting::{New, Started};
use crate::store::{Append, CloseBatch, DraftKey, DraftOf, Key, Overlap, Store};
use crate::wake::wake;
use crate::worker::backoff::Backoff;
use crate::workflow::Plan;

/// For so many leases a batch stays open without word from who holds it: unlike a slice, an abandoned batch is given to nobody else, so there
/// is no hurry, and a program that was only slow must not lose it.
const HELD_FOR_LEASES: Millis = 4;

/// A batch that this program holds open. While it does, the batch does not settle, whatever has become of its jobs.
///
/// Whoever drops it without [`close`](Self::close), or dies, has abandoned the batch: it runs to its end with the jobs that it has, its
/// `on_complete` runs and its `on_success` does not.
#[derive(Debug)]
pub struct OpenBatch {
    batch: Batch,
    draft: DraftKey,
    keeper: AbortHandle,
    is_closed: AtomicBool,
}

impl Deref for OpenBatch {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        &self.batch
    }
}

/// Makes a batch, and holds it open from then on.
pub(super) async fn open(client: Client, new: New<'_>, key: Option<String>, plan: Plan) -> Result<OpenBatch> {
    let (plan, draft) = held_open(&client, plan);
    let handle = match key {
        None => client.create(new, plan, Arc::default()).await?,
        Some(key) => {
            let name = new.name.to_owned();
            let alone = Key { key: key.clone(), overlap: Overlap::Skip };
            match client.create_alone(new, alone, move || Ok(plan), Arc::default()).await? {
                Started::New(handle) => handle,
                Started::Running(other) => {
                    return Err(Error::refused(format!(
                        "batch {name} is not opened: {} has its key `{key}`, and has not finished",
                        other.id()
                    )));
                }
            }
        }
    };
    Ok(OpenBatch::new(handle, draft))
}

/// Makes a batch within another one, beside that on its shard, and holds it open from then on.
pub(super) async fn open_within(outer: &Batch, new: New<'_>, plan: Plan) -> Result<OpenBatch> {
    let client = outer.client();
    let id = WorkflowId::new(client.store().now(), outer.id().shard());
    // What people see as the parameters of the job that it stands for.
    let mut job = ChunkBuilder::default();
    job.push(serde_json::json!({ "batch": id, "name": new.name }).to_string().as_bytes())?;
    let (plan, draft) = held_open(client, plan);
    let plan = Plan { within: job.finish().map(|job| (outer.id(), job)), ..plan };
    let new = client.new_workflow(id, New { retention: Some(Retention::for_ever()), ..new }, None, None)?;
    let handle = client.build(new, plan, None, false, Arc::default()).await?;
    Ok(OpenBatch::new(handle, draft))
}

/// The plan of a batch with the draft that will hold it open.
fn held_open(client: &Client, plan: Plan) -> (Plan, DraftKey) {
    let draft = client.new_draft();
    (Plan { held_open: Some((draft, HELD_FOR_LEASES * client.store().lease())), ..plan }, draft)
}

/// Renews what holds a batch open, until somebody ends this or the batch is held open no more.
async fn keep_open(store: Arc<dyn Store>, workflow: WorkflowId, draft: DraftKey) {
    let lease = store.lease();
    let held_for = HELD_FOR_LEASES * lease;
    let renewal = Append { draft, of: DraftOf::Open { workflow }, number: 0, parts: Vec::new(), lease: held_for };
    let mut backoff = Backoff::new();
    loop {
        tokio::time::sleep(Duration::from_millis(lease.unsigned_abs() / 3)).await;
        while let Err(error) = store.append(renewal.clone()).await {
            if !error.is_transient() {
                return tracing::warn!(%error, batch = %workflow, "the batch is held open no more");
            }
            tracing::warn!(%error, batch = %workflow, "the store does not hear that the batch is held open; it is told again");
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

impl OpenBatch {
    fn new(handle: Handle, draft: DraftKey) -> Self {
        let keeper = tokio::spawn(keep_open(handle.store().clone(), handle.id(), draft)).abort_handle();
        Self { batch: Batch { handle }, draft, keeper, is_closed: AtomicBool::new(false) }
    }

    /// Nothing more comes from this program: from here on the batch settles once all of its jobs have. Jobs of it may still add others, and so
    /// may whoever [finds](Client::find_batch) it before that. An error if it has been abandoned: the store had not heard of this program for
    /// four leases.
    pub async fn close(&self) -> Result<()> {
        let (store, closing) = (self.store(), CloseBatch { workflow: self.id(), draft: self.draft });
        let closed = answered(|| store.close_batch(closing)).await?;
        self.keeper.abort();
        self.is_closed.store(true, Ordering::SeqCst);
        wake(&closed.woken);
        if closed.more {
            self.client().lend_a_hand().await;
        }
        if closed.abandoned {
            return Err(Error::refused(format!(
                "batch {} has been abandoned, since the store had not heard of this program in time: it runs to its end with what it has, and \
                 its `on_success` does not run",
                self.id()
            )));
        }
        Ok(())
    }
}

impl Drop for OpenBatch {
    fn drop(&mut self) {
        self.keeper.abort();
        if self.is_closed.load(Ordering::SeqCst) {
            return;
        }
        // It is abandoned at once, if this program lives on; if it does not, its draft dies.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, id, draft) = (self.store().clone(), self.id(), self.draft);
            runtime.spawn(async move {
                if let Err(error) = store.abandon(id, draft).await {
                    tracing::debug!(%error, batch = %id, "a batch is left to be abandoned by the store");
                }
            });
        }
    }
}
