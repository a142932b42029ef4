//! How long finished workflows are kept. When one finishes it is noted from when on it may be deleted; ticks delete what may be, a little
//! at a time and with pauses, so that nobody else waits for it.

use rusqlite::OptionalExtension;

use super::command::refuse_lane;
use super::create::to_json;
use super::tx::{Tx, Wf};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::id::WorkflowId;
use crate::planted::planted;
use crate::retention::{KeepFor, Retention};
use crate::state::WorkflowState;
use crate::store::{Keeping, Kept};

/// So long after one bite the next may begin, whoever takes it.
const PAUSE: Millis = 50;
/// From this many statements on a bite begins with no further workflow.
const SOFT_CALLS: u64 = 400;
/// How many of those that are too many one end makes due: one more comes than goes.
const TOO_MANY: i64 = 20;
/// Never: of what is kept for any time, but not in any number.
const NEVER: Millis = Millis::MAX;
/// How long what cannot be deleted, since its rows are damaged, is left alone.
const SET_ASIDE: Millis = 3_600_000;

impl Tx<'_> {
    /// Notes of a workflow that has just finished from when on it may be deleted, and frees its key.
    pub fn note_end(&mut self, wf: Wf, state: WorkflowState) -> Result<()> {
        let sql = "SELECT name, retention, pinned, key, parent, parent_step, parent_index FROM workflow WHERE wf = ?";
        let found = self.one(sql, [wf], |row| {
            let parent = match row.get::<_, Option<Wf>>(4)? {
                Some(wf) => Some((wf, row.get(5)?, row.get(6)?)),
                None => None,
            };
            let kept = (row.get::<_, String>(1)?, row.get::<_, bool>(2)?);
            Ok((row.get::<_, String>(0)?, kept, row.get(3)?, parent))
        })?;
        let Some((name, (retention, pinned), key, parent)) = found else { return Ok(()) };
        if let Some(parent) = parent {
            self.note_child_ended(wf, parent)?;
            // It is kept as long as the workflow that it belongs to.
            if !planted!("a child expires by itself") {
                return Ok(());
            }
        }
        let key: Option<String> = key;
        if let Some(key) = key.filter(|_| !planted!("a key is held beyond the end")) {
            self.free_key(wf, &name, &key)?;
        }
        if pinned && !planted!("what is pinned expires") {
            return Ok(());
        }
        let keep = retention_of(&retention)?.of(state);
        self.expire_at(wf, expiry(keep, self.now))?;
        match keep.most {
            Some(most) => self.expire_surplus(wf, &name, state, most),
            None => Ok(()),
        }
    }

    fn expire_at(&mut self, wf: Wf, at: Option<Millis>) -> Result<()> {
        self.run("UPDATE workflow SET expires_at = ?2 WHERE wf = ?1", (wf, at)).map(|_| ())
    }

    /// A workflow is not to be deleted by its age any more: it is at work again, or is being deleted already.
    pub fn forget_expiry(&mut self, wf: Wf) -> Result<()> {
        self.expire_at(wf, None)
    }

    /// Of the workflows that finished like this one, those that are too many may be deleted now. This one is not in the index yet.
    fn expire_surplus(&mut self, wf: Wf, name: &str, state: WorkflowState, most: u32) -> Result<()> {
        if most == 0 {
            return self.expire_at(wf, Some(self.now));
        }
        let sql = "UPDATE workflow SET expires_at = ?1 WHERE wf IN (SELECT wf FROM workflow INDEXED BY workflow_by_end WHERE name = ?2 \
                   AND state = ?3 AND expires_at IS NOT NULL AND expires_at > ?1 AND wf <> ?4 ORDER BY finished_at DESC LIMIT ?5 OFFSET ?6)";
        self.run(sql, (self.now, name, state as u8, wf, TOO_MANY, most - 1)).map(|_| ())
    }

    /// Changes for how long a workflow is kept.
    pub fn keep(&mut self, id: WorkflowId, keeping: Keeping) -> Result<Kept> {
        let workflow = self.find(id)?;
        refuse_lane(id, workflow.state)?;
        self.refuse_child(id, workflow.wf, "kept")?;
        let (wf, end) = (workflow.wf, workflow.finished_at.filter(|_| workflow.state.is_finished()));
        if workflow.state == WorkflowState::Deleting {
            return Err(super::read::no_workflow(id));
        }
        let sql = "SELECT retention, pinned FROM workflow WHERE wf = ?";
        let found = self.one(sql, [wf], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
        let (retention, pinned) = found.ok_or_else(|| super::read::no_workflow(id))?;
        let mut retention = retention_of(&retention)?;
        let expires_at = match keeping {
            Keeping::ExpireIn(time) => {
                retention = Retention::all(KeepFor { age: Some(time.max(0)), most: None });
                end.and_then(|_| expiry(retention.of(workflow.state), self.now))
            }
            Keeping::Pinned => None,
            Keeping::Unpinned => end.and_then(|end| expiry(retention.of(workflow.state), end)),
            Keeping::Expired if pinned || end.is_none() => return Ok(Kept::default()),
            Keeping::Expired => Some(self.now),
        };
        let sql = "UPDATE workflow SET retention = ?2, pinned = ?3, expires_at = ?4 WHERE wf = ?1";
        self.run(sql, (wf, to_json(&retention)?, keeping == Keeping::Pinned, expires_at))?;
        Ok(Kept { expires_at: expires_at.filter(|at| *at < NEVER) })
    }

    /// Deletes a bite of what may be deleted. Returns in how many milliseconds the next one may be taken, if there is something left.
    pub fn prune(&mut self) -> Result<Option<Millis>> {
        let wait = self.one("SELECT prune_at - ?1 FROM shard", [self.now], |row| row.get::<_, Millis>(0))?.unwrap_or(0);
        // Somebody has just taken one, unless the clock has jumped back since.
        if (1..=PAUSE).contains(&wait) {
            return Ok(Some(wait));
        }
        let mut worked = false;
        while self.cost().calls < SOFT_CALLS {
            let sql =
                "SELECT wf FROM workflow WHERE expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT 1";
            let Some(wf) = self.one(sql, [self.now], |row| row.get::<_, Wf>(0))? else {
                if worked {
                    self.pause_pruning()?;
                }
                return Ok(None);
            };
            worked = true;
            let mut gone = false;
            let pruned = self.guarded(|tx| {
                let mut workflow = tx.workflow(wf)?;
                if workflow.state.is_finished() {
                    workflow.state = WorkflowState::Deleting;
                    tx.put_workflow(workflow);
                } else if workflow.state != WorkflowState::Deleting {
                    gone = true;
                    return tx.forget_expiry(wf);
                }
                gone = tx.delete_some(wf)?;
                Ok(())
            })?;
            if let Err(error) = pruned {
                tracing::error!(%error, "a workflow cannot be deleted; it is set aside");
                self.expire_at(wf, Some(self.now + SET_ASIDE))?;
            } else if !gone {
                break;
            }
        }
        self.pause_pruning()?;
        Ok(Some(PAUSE))
    }

    fn pause_pruning(&mut self) -> Result<()> {
        self.run("UPDATE shard SET prune_at = ?", [self.now + PAUSE]).map(|_| ())
    }
}

/// When a workflow that is kept so and finished at `end` may be deleted; `None` if nothing but a person ends it.
fn expiry(keep: KeepFor, end: Millis) -> Option<Millis> {
    // What is kept in limited number stands in the index of those that may have to go.
    keep.until(end).or(keep.most.map(|_| NEVER))
}

pub fn retention_of(text: &str) -> Result<Retention> {
    serde_json::from_str(text).map_err(|e| Error::corrupt("for how long a workflow is kept does not decode").because(e))
}

/// In how many milliseconds a bite may be taken, seen without a lock; `None` if nothing expires.
pub fn next_prune(conn: &rusqlite::Connection, now: Millis) -> rusqlite::Result<Option<Millis>> {
    let sql = "SELECT expires_at FROM workflow WHERE expires_at IS NOT NULL ORDER BY expires_at LIMIT 1";
    let first: Option<Millis> = conn.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    let Some(first) = first.filter(|first| *first < NEVER) else { return Ok(None) };
    let prune_at: Millis = conn.prepare_cached("SELECT prune_at FROM shard")?.query_row([], |row| row.get(0))?;
    let pause = Some(prune_at - now).filter(|wait| (1..=PAUSE).contains(wait)).unwrap_or(0);
    Ok(Some((first - now).max(pause)))
}
