//! Leases that a forwarder holds in a broker's name: how a consumer takes one over, and what becomes of one that nobody took over.

use rusqlite::params;

use super::lease::{Lease, Taken};
use super::tx::Tx;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::ledger::What;
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::WorkflowState;
use crate::store::{LeaseName, REFUSED_FOR, TakeOver, TakenOver};

/// So many leases that travel are taken back by one cancel; jobs under others are cancelled where those arrive, or end.
const RECALLED: usize = 8;

impl Tx<'_> {
    /// Makes leases of forwarders leases of this session.
    pub fn take_over(&mut self, take: &TakeOver) -> Result<TakenOver> {
        take.check()?;
        let lease_time = self.advance_lease_time(take.lease)?;
        let session = self.known_session(take.session)?;
        let sql = "SELECT last_lease FROM session WHERE session = ?";
        let mut last_lease: i64 = self.one(sql, [session], |row| row.get(0))?.unwrap_or(0);
        let used = last_lease;
        let mut taken = TakenOver::default();
        for (number, name) in (take.first_lease as i64..).zip(&take.leases) {
            if number <= used {
                let condition = "session = ?1 AND number = ?2 AND replaced = ?3 LIMIT 1";
                if let Some(lease) = self.leases_where(condition, (session, number, text(name)))?.pop() {
                    // Sent again.
                    taken.slices.push((*name, self.slice_of(&lease)?));
                    continue;
                }
            }
            let Some(forwarded) = self.forwarded(name)? else { continue };
            if number <= used {
                taken.again.push(*name);
                continue;
            }
            let mut slice = None;
            let tried = self.guarded(|tx| {
                match tx.who_may_have(&forwarded, &take.types)? {
                    May::Take => {
                        let lease = tx.replace(name, &forwarded, session, number, lease_time + take.lease)?;
                        slice = Some(tx.slice_of(&lease)?);
                    }
                    May::Refuse => {
                        let sql = "UPDATE lease SET deadline = min(deadline, ?3) WHERE session = ?1 AND number = ?2";
                        tx.run(sql, (forwarded.session, forwarded.number, lease_time + REFUSED_FOR))?;
                        taken.unknown.push(*name);
                    }
                    May::NotNow => tx.take_back(&forwarded, Taken::GivenBack)?,
                }
                Ok(())
            })?;
            if let Err(error) = tried {
                // Its end, which a tick deals with, comes by itself.
                tracing::error!(%error, step = forwarded.step, "a forwarded lease cannot be taken over");
            } else if let Some(slice) = slice {
                last_lease = number;
                taken.slices.push((*name, slice));
            }
        }
        if last_lease > used {
            self.run("UPDATE session SET last_lease = ?2 WHERE session = ?1", (session, last_lease))?;
        }
        taken.last_lease = last_lease as u64;
        self.cascade()?;
        self.admit()?;
        taken.woken = self.wake()?;
        Ok(taken)
    }

    /// A lease that a forwarder holds.
    fn forwarded(&mut self, name: &LeaseName) -> Result<Option<Lease>> {
        let Some(session) = self.session(name.session)? else { return Ok(None) };
        let condition = "session = ?1 AND number = ?2 AND published > 0 LIMIT 1";
        Ok(self.leases_where(condition, (session, name.lease as i64))?.pop())
    }

    fn who_may_have(&mut self, lease: &Lease, types: &[String]) -> Result<May> {
        let (state, step) = (self.workflow(lease.wf)?.state, self.step(lease.wf, lease.step)?);
        let may_run = match state {
            WorkflowState::Pending | WorkflowState::Running | WorkflowState::Standing => true,
            WorkflowState::Cancelling => step.always,
            _ => planted!("a paused workflow is handed out"),
        };
        // Whoever cancelled some of its jobs must not see them start.
        if !may_run || step.is_held_back() || !lease.stop.is_empty() {
            return Ok(May::NotNow);
        }
        let sql = "SELECT step.type, EXISTS (SELECT 1 FROM paused WHERE is_type = 0 AND name = queue OR is_type = 1 AND name = line.type) \
                   FROM step JOIN line USING (line) WHERE wf = ? AND step = ?";
        let found = self.one(sql, (lease.wf, lease.step), |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let (job_type, is_paused) = found.ok_or_else(|| Error::corrupt(format!("step {} is missing", lease.step)))?;
        Ok(match (is_paused, types.contains(&job_type)) {
            (true, _) => May::NotNow,
            (false, true) => May::Take,
            (false, false) => May::Refuse,
        })
    }

    /// Puts a lease of a worker in the place of a forwarder's: the same jobs, under a name of its own.
    fn replace(
        &mut self,
        name: &LeaseName,
        forwarded: &Lease,
        session: i64,
        number: i64,
        deadline: Millis,
    ) -> Result<Lease> {
        self.note(What::TakenBack { expired: false }, forwarded, forwarded.jobs)?;
        let sql = "UPDATE lease SET session = ?3, number = ?4, deadline = ?5, claimed_at = ?6, published = 0, replaced = ?7 \
                   WHERE session = ?1 AND number = ?2";
        let now = self.now;
        self.run(sql, params![forwarded.session, forwarded.number, session, number, deadline, now, text(name)])?;
        let lease = Lease { session, number, published: 0, ..forwarded.clone() };
        self.note(What::Granted, &lease, lease.jobs)?;
        Ok(lease)
    }

    /// Takes back what is on its way to a worker of these jobs of a chunk: it has started nowhere.
    pub fn recall_forwarded(&mut self, chunk: i64, jobs: Mask) -> Result<()> {
        let forwarded = self.leases_where("chunk = ?1 AND published > 0 LIMIT 1024", [chunk])?;
        let of_these = forwarded.iter().filter(|lease| !lease.jobs.and(jobs).is_empty());
        of_these.take(RECALLED).try_for_each(|lease| self.take_back(lease, Taken::GivenBack))
    }

    /// Remembers how often a slice has been published, which is back at the front of its line.
    pub fn note_published(&mut self, lease: &Lease) -> Result<()> {
        if lease.published == 0 {
            return Ok(());
        }
        let first = "(SELECT min(seq) FROM entry WHERE wf = ?1 AND step = ?2 AND suspect = 0)";
        let sql =
            format!("UPDATE entry SET published = ?3 WHERE wf = ?1 AND step = ?2 AND suspect = 0 AND seq = {first}");
        self.run(&sql, (lease.wf, lease.step, lease.published))?;
        Ok(())
    }

    /// The number of this store.
    pub fn read_identity(&mut self) -> Result<u64> {
        let identity = self.one("SELECT id FROM identity", [], |row| row.get::<_, i64>(0))?;
        identity.map(|id| id as u64).ok_or_else(|| Error::corrupt("the store has lost its identity"))
    }
}

/// What becomes of a forwarded lease whose message has arrived.
enum May {
    Take,
    /// The consumer does not know the type.
    Refuse,
    /// The workflow, its queue or its type is paused, or it is cancelled, or some of its jobs are.
    NotNow,
}

/// A lease's name as it is kept.
fn text(name: &LeaseName) -> String {
    format!("{}:{}", name.session, name.lease)
}
