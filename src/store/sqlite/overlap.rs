//! Keys: a workflow holds the one that it was started with from the moment on at which it begins to be built until it finishes.

use super::tx::{Tx, Wf};
use crate::error::{Error, Result};
use crate::id::WorkflowId;
use crate::store::{Append, Begin, Begun, DraftKey, DraftOf};

impl Tx<'_> {
    /// Takes a workflow's key for a draft that it makes, or tells who has it.
    pub fn begin(&mut self, begin: &Begin) -> Result<Begun> {
        let new = &begin.workflow;
        let key = new.key.as_ref().ok_or_else(|| Error::usage("only a workflow with a key has to begin"))?;
        if self.has_draft(begin.draft)? {
            // Sent again: it renews.
            let parts = Append {
                draft: begin.draft,
                of: DraftOf::Workflow(Box::new(new.clone())),
                number: 0,
                parts: Vec::new(),
                lease: begin.lease,
            };
            self.append(&parts)?;
            return Ok(Begun::default());
        }
        if let Some(begun) = self.what_is_in_the_way(begin)? {
            return Ok(begun);
        }
        let wf = self.begin_keyed(begin)?;
        self.take_key(wf, new.id, &new.name, &key.key)?;
        Ok(Begun::default())
    }

    /// Who holds a key.
    pub fn holder(&mut self, name: &str, key: &str) -> Result<Option<(Wf, WorkflowId)>> {
        let sql = "SELECT wf, id FROM held WHERE name = ? AND key = ?";
        let found = self.one(sql, (name, key), |row| Ok((row.get::<_, Wf>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        found.map(|(wf, id)| Ok((wf, WorkflowId::from_slice(&id)?))).transpose()
    }

    fn take_key(&mut self, wf: Wf, id: WorkflowId, name: &str, key: &str) -> Result<()> {
        let sql = "INSERT INTO held (name, key, wf, id) VALUES (?, ?, ?, ?)";
        self.run(sql, (name, key, wf, id.as_bytes().as_slice())).map(|_| ())
    }

    /// A finished workflow that is repaired takes its key again; returns who has it, if another does.
    pub fn take_key_again(&mut self, wf: Wf, id: WorkflowId) -> Result<Option<WorkflowId>> {
        let Some((name, key)) = self.key_of(wf)? else { return Ok(None) };
        match self.holder(&name, &key)? {
            Some((holder, _)) if holder == wf => Ok(None),
            Some((_, held_by)) => Ok(Some(held_by)),
            None => self.take_key(wf, id, &name, &key).map(|()| None),
        }
    }

    fn key_of(&mut self, wf: Wf) -> Result<Option<(String, String)>> {
        let sql = "SELECT name, key FROM workflow WHERE wf = ? AND key IS NOT NULL";
        self.one(sql, [wf], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Others may have the key from now on.
    pub fn free_key(&mut self, wf: Wf, name: &str, key: &str) -> Result<()> {
        self.run("DELETE FROM held WHERE name = ? AND key = ? AND wf = ?", (name, key, wf)).map(|_| ())
    }

    /// A draft that is given up frees the key that it holds.
    pub fn free_key_of(&mut self, wf: Wf) -> Result<()> {
        match self.key_of(wf)? {
            Some((name, key)) => self.free_key(wf, &name, &key),
            None => Ok(()),
        }
    }

    /// Gives up a draft of a workflow. One that is not there has been given up before.
    pub fn abandon_draft(&mut self, draft: DraftKey) -> Result<()> {
        self.abandon(Some(draft))?;
        self.cascade()
    }
}
