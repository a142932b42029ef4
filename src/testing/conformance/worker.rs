//! What a worker does to a store, in short words.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::scene::*;
use crate::clock::Millis;
use crate::error::Result;
use crate::store::{
    Append, Claim, Claimed, DraftKey, DraftOf, LeaseReport, Renew, Renewed, Report, Reported, Session, Slice, Take,
    error_number,
};

/// A worker: it claims, reports and renews as its case says, and dies by doing nothing any more.
pub struct Worker<'s> {
    scene: &'s Scene,
    pub session: Session,
    next: Cell<u64>,
    reports: RefCell<HashMap<u64, u64>>,
}

impl<'s> Worker<'s> {
    /// The worker of a session that has joined.
    pub fn new(scene: &'s Scene, session: Session) -> Self {
        Self { scene, session, next: Cell::new(1), reports: RefCell::default() }
    }

    pub fn scene(&self) -> &'s Scene {
        self.scene
    }

    /// The number of the next lease that it asks for.
    pub fn next_lease(&self) -> u64 {
        self.next.get()
    }

    /// Leases up to this number have been granted.
    pub fn has_used(&self, lease: u64) {
        self.next.set(self.next.get().max(lease + 1));
    }

    /// What it asks for: at most `leases` slices of at most `jobs` jobs.
    pub fn wish(&self, jobs: u32, leases: u32) -> Claim {
        let take = |job_type: &String| Take { job_type: job_type.clone(), jobs, budget: jobs.saturating_mul(leases) };
        Claim {
            session: self.session.id,
            first_lease: self.next.get(),
            max_leases: leases,
            queues: self.session.queues.clone(),
            by_broker: Vec::new(),
            most_held: None,
            takes: self.session.types.iter().map(take).collect(),
            free_slots: jobs,
            max_limited: jobs,
            alone: false,
            permits: Vec::new(),
            lease: self.session.lease,
        }
    }

    /// Claims just that.
    pub async fn send(&self, claim: Claim) -> Claimed {
        let claimed = self.scene.store.claim(claim).await.expect("a claim");
        self.has_used(claimed.last_lease);
        claimed
    }

    pub async fn claim(&self, jobs: u32, leases: u32) -> Claimed {
        self.send(self.wish(jobs, leases)).await
    }

    /// Claims one slice of at most `jobs` jobs, which must be there.
    pub async fn take(&self, jobs: u32) -> Slice {
        let mut slices = self.claim(jobs, 1).await.slices;
        assert_eq!(slices.len(), 1, "there is a slice to claim");
        slices.remove(0)
    }

    /// Claims a suspect slice, holding nothing else.
    pub async fn take_alone(&self) -> Slice {
        let mut slices = self.send(Claim { alone: true, ..self.wish(1024, 1) }).await.slices;
        assert_eq!(slices.len(), 1, "there is a slice to claim alone");
        slices.remove(0)
    }

    /// Claims everything that can be claimed.
    pub async fn drain(&self) -> Vec<Slice> {
        let mut slices = Vec::new();
        loop {
            let claimed = self.claim(1024, 16).await;
            if claimed.slices.is_empty() {
                return slices;
            }
            slices.extend(claimed.slices);
        }
    }

    /// Performs whatever can be performed, successfully.
    pub async fn run(&self) {
        loop {
            self.scene.tick().await;
            let slices = self.drain().await;
            for slice in &slices {
                self.succeed(slice).await;
            }
            if slices.is_empty() {
                return;
            }
        }
    }

    /// The next part that it reports under a lease, still empty.
    pub fn part(&self, slice: &Slice) -> LeaseReport {
        let mut reports = self.reports.borrow_mut();
        let number = reports.entry(slice.lease).or_default();
        *number += 1;
        LeaseReport { lease: slice.lease, number: *number, ..LeaseReport::default() }
    }

    pub async fn try_report(&self, leases: Vec<LeaseReport>) -> Result<Reported> {
        self.scene.store.report(Report { session: self.session.id, leases }).await
    }

    pub async fn report(&self, part: LeaseReport) -> Reported {
        self.try_report(vec![part]).await.expect("a report")
    }

    /// That all jobs of a slice succeeded.
    pub fn success(&self, slice: &Slice) -> LeaseReport {
        LeaseReport { succeeded: slice.jobs, ..self.part(slice) }
    }

    /// That all jobs of a slice failed for good.
    pub fn failure(&self, slice: &Slice, text: &str) -> LeaseReport {
        let errors = vec![(error_number(text), text.to_owned(), slice.jobs)];
        LeaseReport { failed: slice.jobs, errors, ..self.part(slice) }
    }

    /// That each job of a slice failed for good with a text of its own.
    pub fn failures(&self, slice: &Slice, text: impl Fn(usize) -> String) -> LeaseReport {
        let errors = slice.jobs.iter().map(|at| (error_number(&text(at)), text(at), job(at))).collect();
        LeaseReport { failed: slice.jobs, errors, ..self.part(slice) }
    }

    /// That all jobs of a slice are tried again after a while.
    pub fn postponement(&self, slice: &Slice, wait: Millis) -> LeaseReport {
        LeaseReport { retries: vec![(wait, slice.jobs)], ..self.part(slice) }
    }

    pub async fn succeed(&self, slice: &Slice) -> Reported {
        self.report(self.success(slice)).await
    }

    pub async fn fail(&self, slice: &Slice, text: &str) -> Reported {
        self.report(self.failure(slice, text)).await
    }

    pub async fn retry_in(&self, slice: &Slice, wait: Millis) -> Reported {
        self.report(self.postponement(slice, wait)).await
    }

    pub async fn give_back(&self, slice: &Slice) -> Reported {
        self.report(LeaseReport { returned: slice.jobs, ..self.part(slice) }).await
    }

    /// What it asks to keep.
    pub fn renewal(&self, leases: &[u64]) -> Renew {
        Renew {
            session: self.session.id,
            leases: leases.to_vec(),
            drafts: Vec::new(),
            progress: Vec::new(),
            lease: self.session.lease,
        }
    }

    pub async fn renew(&self, leases: &[u64]) -> Renewed {
        self.scene.store.renew(self.renewal(leases)).await.expect("a renewal")
    }

    /// A source's attempt writes `jobs` jobs for the step that it feeds; returns the draft's number.
    pub async fn emit(&self, slice: &Slice, jobs: u32) -> u64 {
        self.try_emit(slice, jobs).await.expect("jobs are emitted")
    }

    pub async fn try_emit(&self, slice: &Slice, jobs: u32) -> Result<u64> {
        let draft = DraftKey { session: self.session.id, number: self.scene.number() };
        let step = slice.feeds.expect("a slice of a source");
        let of = DraftOf::Jobs { workflow: slice.workflow, step };
        let parts = if jobs > 0 { vec![jobs_part(step, jobs)] } else { Vec::new() };
        let append = Append { draft, of, number: 0, parts, lease: LEASE };
        self.scene.store.append(append).await?;
        Ok(draft.number)
    }

    /// That the sources of a slice have succeeded, each with `jobs` jobs.
    pub async fn production(&self, slice: &Slice, jobs: u32) -> LeaseReport {
        let mut adopted = Vec::new();
        for at in slice.jobs.iter() {
            adopted.push((at as u16, self.emit(slice, jobs).await));
        }
        LeaseReport { adopted, ..self.success(slice) }
    }

    /// The sources of a slice succeed, each with `jobs` jobs.
    pub async fn produce(&self, slice: &Slice, jobs: u32) -> Reported {
        self.report(self.production(slice, jobs).await).await
    }
}
