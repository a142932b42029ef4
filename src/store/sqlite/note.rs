//! What a ledger is told of an operation: nothing unless the store was opened with one.

use super::lease::Lease;
use super::tx::{Tx, Wf};
use crate::error::Result;
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};
use crate::ledger::{What, Whose, of_session, of_workflow};
use crate::slice::Mask;

impl Tx<'_> {
    /// Notes what happens to jobs under a lease.
    pub fn note(&mut self, what: What, lease: &Lease, jobs: Mask) -> Result<()> {
        if !self.notes.are_kept() || jobs.is_empty() {
            return Ok(());
        }
        let sql = "SELECT id FROM session WHERE session = ?";
        let id: Option<Vec<u8>> =
            self.uncounted(|conn| conn.prepare_cached(sql)?.query_row([lease.session], |row| row.get(0)))?;
        let session = id.map_or(Ok(0), |id| SessionId::from_slice(&id).map(of_session))?;
        let workflow = self.workflow_in_ledger(lease.wf)?;
        let first = lease.first as u64;
        self.notes.add(what, Whose { workflow, session, lease: lease.number as u64, step: lease.step, first }, jobs);
        Ok(())
    }

    /// Notes what the store itself does to jobs of the chunk whose first job is `first`.
    pub fn note_alone(&mut self, what: What, wf: Wf, step: StepNumber, first: i64, jobs: Mask) -> Result<()> {
        if self.notes.are_kept() {
            let workflow = self.workflow_in_ledger(wf)?;
            self.notes.add(what, Whose { workflow, step, first: first as u64, ..Whose::default() }, jobs);
        }
        Ok(())
    }

    /// Notes that a report under a lease that is not held was refused.
    pub fn note_refused(&mut self, session: SessionId, lease: u64) {
        let whose = Whose { session: of_session(session), lease, ..Whose::default() };
        self.notes.add(What::Refused, whose, Mask::EMPTY);
    }

    fn workflow_in_ledger(&mut self, wf: Wf) -> Result<u64> {
        let sql = "SELECT id FROM workflow WHERE wf = ?";
        let id: Option<Vec<u8>> = self.uncounted(|conn| conn.prepare_cached(sql)?.query_row([wf], |row| row.get(0)))?;
        id.map_or(Ok(0), |id| WorkflowId::from_slice(&id).map(of_workflow))
    }
}
