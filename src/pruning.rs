//! Deleting what finished long ago: each is let expire, and ticks delete what has, a little at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::client::{Client, Workflows};
use crate::clock::{Millis, millis};
use crate::error::{Error, ErrorKind, Result};
use crate::id::WorkflowId;
use crate::state::WorkflowState;
use crate::store::{Keeping, Store, Tick};
use crate::view::WorkflowView;
use crate::wake::wake;

/// How many workflows are let expire at once.
const AT_ONCE: usize = 64;
/// The longest time between two looks at whether they are gone.
const LOOK: Duration = Duration::from_millis(100);

/// Finished workflows that are to be deleted: see [`Client::prune`].
#[derive(Debug)]
pub struct Pruning {
    client: Client,
    before: Millis,
    states: Vec<WorkflowState>,
    name: Option<String>,
}

impl Pruning {
    pub(crate) fn new(client: Client, age: Duration, state: Option<WorkflowState>, name: Option<&str>) -> Self {
        let all = [WorkflowState::Succeeded, WorkflowState::Failed, WorkflowState::Cancelled];
        Self {
            before: client.store().now().saturating_sub(millis(age)),
            states: all.into_iter().filter(|one| state.is_none_or(|state| state == *one)).collect(),
            name: name.map(ToOwned::to_owned),
            client,
        }
    }

    fn of(&self, state: WorkflowState) -> Workflows {
        let workflows = self.client.workflows().state(state).finished_before(self.before);
        match &self.name {
            Some(name) => workflows.named(name.as_str()),
            None => workflows,
        }
    }

    /// Which they are: not those that are pinned.
    pub fn stream(&self) -> BoxStream<'static, Result<WorkflowView>> {
        let streams: Vec<_> = self.states.iter().map(|state| self.of(*state).stream()).collect();
        futures::stream::iter(streams).flatten().try_filter(|view| futures::future::ready(!view.pinned)).boxed()
    }

    /// Deletes them and returns how many. None that has not finished is among them, whatever happens meanwhile.
    pub async fn run(&self) -> Result<u64> {
        let store = self.client.store();
        let mut last: BTreeMap<u16, VecDeque<WorkflowId>> = BTreeMap::new();
        let mut pruned = 0;
        let mut expired = self
            .stream()
            .map_ok(|view| async move { Ok::<_, Error>((view.id, let_expire(store, view.id).await?)) })
            .try_buffered(AT_ONCE);
        while let Some((id, expires)) = expired.try_next().await? {
            if expires {
                pruned += 1;
                let of_shard = last.entry(id.shard()).or_default();
                of_shard.push_back(id);
                if of_shard.len() > AT_ONCE {
                    of_shard.pop_front();
                }
            }
        }
        // They are deleted in the order in which they expired; those that did so at once, in any.
        for id in last.into_values().flatten() {
            self.wait_for(id).await?;
        }
        Ok(pruned)
    }

    /// Lends the workers a hand until a workflow is gone.
    async fn wait_for(&self, id: WorkflowId) -> Result<()> {
        let store = self.client.store();
        loop {
            match store.workflow(id).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                // Somebody has taken it back to work meanwhile, or pinned it.
                Ok(row) if row.state != WorkflowState::Deleting && row.expires_at.is_none() => return Ok(()),
                looked => drop(looked?),
            }
            let ticked = store.tick(Tick { lease: store.lease() }).await?;
            wake(&ticked.woken);
            if !ticked.more {
                let pause = ticked.next_in.map_or(LOOK, |next| Duration::from_millis(next.max(1).unsigned_abs()));
                tokio::time::sleep(pause.min(LOOK)).await;
            }
        }
    }
}

/// Whether it was there and may be deleted now.
async fn let_expire(store: &Arc<dyn Store>, id: WorkflowId) -> Result<bool> {
    match store.keep(id, Keeping::Expired).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        kept => Ok(kept?.expires_at.is_some()),
    }
}
