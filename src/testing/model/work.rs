//! What workers of a game do: claim, report, also late and more than once.

use super::game::{Game, Held, LEASE, Verdict, ensure, sure};
use super::naive::{Job, Policy};
use super::plan::TYPES;
use crate::clock::Millis;
use crate::slice::Mask;
use crate::store::{Claim, Claimed, LeaseReport, Report, Slice, Take, error_number};

/// The waits before a retry.
const WAITS: [Millis; 3] = [300, 2_000, 60_000];

impl Game {
    /// A claim of a random worker.
    pub async fn claim_some(&mut self) -> Verdict {
        let hand = self.dice.below(self.hands.len());
        let greedy = self.dice.chance(30);
        let (jobs, leases) = if greedy { (1024, 16) } else { (1 + self.dice.below(6), 1 + self.dice.below(4)) };
        self.claim(hand, jobs as u32, leases as u32).await.map(|_| ())
    }

    /// Claims for a worker; returns how many slices it got.
    pub async fn claim(&mut self, hand: usize, jobs: u32, leases: u32) -> Verdict<usize> {
        let claim = self.wish(hand, jobs, leases);
        let claimed = sure(self.store.claim(claim.clone()).await)?;
        self.say(|| format!("worker {hand} claims {jobs} × {leases}: {}", told(&claimed.slices)));
        for slice in &claimed.slices {
            self.accept(hand, slice, &claim, claimed.slices.len())?;
        }
        let last = self.hands[hand].last_lease;
        ensure(claimed.last_lease >= last, || {
            format!("lease {last} was granted by a claim that says its last is lower")
        })?;
        self.hands[hand].last_lease = last.max(claimed.last_lease);
        if self.dice.chance(15) && !claimed.slices.is_empty() {
            let again: Claimed = sure(self.store.claim(claim.clone()).await)?;
            let same = again.slices.len() == claimed.slices.len()
                && again.slices.iter().zip(&claimed.slices).all(|(a, b)| a.lease == b.lease && a.jobs == b.jobs);
            ensure(same, || format!("a claim sent again answers {}", told(&again.slices)))?;
        }
        if jobs == 1024 && claimed.slices.is_empty() {
            self.nothing_left(claim.alone)?;
        }
        Ok(claimed.slices.len())
    }

    pub fn wish(&self, hand: usize, jobs: u32, max_leases: u32) -> Claim {
        let takes = TYPES.map(|of| Take { job_type: of.into(), jobs, budget: jobs * 2 });
        Claim {
            session: self.hands[hand].session,
            first_lease: self.hands[hand].last_lease + 1,
            max_leases,
            queues: TYPES.map(String::from).into(),
            by_broker: Vec::new(),
            most_held: None,
            takes: takes.into(),
            free_slots: jobs,
            max_limited: jobs,
            alone: self.hands[hand].held.is_empty(),
            permits: Vec::new(),
            lease: LEASE,
        }
    }

    /// Checks that a slice may be handed out, and notes that it was.
    pub fn accept(&mut self, hand: usize, slice: &Slice, claim: &Claim, slices: usize) -> Verdict {
        let now = self.clock.now();
        let (lease, last) = (slice.lease, self.hands[hand].last_lease);
        ensure(lease > last, || format!("lease {lease} was granted behind lease {last}"))?;
        self.hands[hand].last_lease = lease;
        let workflow = self.ids.iter().position(|id| *id == slice.workflow).ok_or("an unknown workflow was claimed")?;
        let (step, first) = (slice.step as usize, slice.first as usize);
        let mut attempts = slice.attempts.iter().copied();
        for index in slice.jobs.iter().map(|at| first + at) {
            let model = &mut self.models[workflow];
            let name = || format!("{step}#{index} of workflow {workflow}");
            ensure(index < model.steps[step].rows.len(), || format!("{} does not exist", name()))?;
            ensure(model.may_run(step, index, now), || format!("{} was handed out and may not run", name()))?;
            let row = &model.steps[step].rows[index];
            let told = attempts.next().unwrap_or(0);
            ensure(told == row.attempts, || format!("{}: {told} attempts instead of {}", name(), row.attempts))?;
            ensure(slice.suspect == row.is_suspect(), || format!("{}: suspect is {}", name(), slice.suspect))?;
            ensure(!slice.suspect || claim.alone && slices == 1, || format!("{} is suspect, not alone", name()))?;
            model.claimed(step, index, (hand, lease));
            let (leased, limit) = (model.steps[step].leased(), model.steps[step].limit);
            ensure(leased <= limit, || format!("{leased} jobs of step {step} run, {limit} may"))?;
        }
        let held = Held { workflow, step, first, jobs: slice.jobs, reports: 0 };
        self.hands[hand].held.insert(lease, held);
        Ok(())
    }

    /// A claim for everything got nothing: then there must be nothing.
    pub fn nothing_left(&self, alone: bool) -> Verdict {
        let now = self.clock.now();
        for (number, model) in self.models.iter().enumerate() {
            for (step, rows) in model.steps.iter().enumerate().map(|(number, step)| (number, step.rows.len())) {
                for index in 0..rows {
                    ensure(!model.must_run(step, index, now, alone), || {
                        format!("{step}#{index} of workflow {number} is ready, and a claim got nothing")
                    })?;
                }
            }
        }
        Ok(())
    }

    pub async fn report_some(&mut self) -> Verdict {
        let hand = self.dice.below(self.hands.len());
        let leases: Vec<u64> = self.hands[hand].held.keys().copied().collect();
        if leases.is_empty() {
            return Ok(());
        }
        let lease = leases[self.dice.below(leases.len())];
        self.report(hand, lease, false).await
    }

    /// Reports some jobs under a lease, or all of them as succeeded.
    pub async fn report(&mut self, hand: usize, lease: u64, all_well: bool) -> Verdict {
        let mut held = self.hands[hand].held[&lease].clone();
        held.reports += 1;
        let mut part = LeaseReport { lease, number: held.reports, ..LeaseReport::default() };
        let mut ends: Vec<(usize, Option<Job>)> = Vec::new();
        let whole = all_well || self.dice.chance(70);
        for at in held.jobs.iter() {
            if whole || self.dice.chance(60) {
                let index = held.first + at;
                let ended = match self.models[held.workflow].steps[held.step].children {
                    true => self.random_birth(&held, index, at, all_well, &mut part).await?,
                    false => self.random_end(&held, index, at, all_well, &mut part),
                };
                ends.push((held.first + at, ended));
            }
        }
        let mut emitted = vec![0; ends.len()];
        let of = &self.models[held.workflow].steps[held.step];
        if of.feeds.is_some() && !of.eager {
            for ((index, ended), jobs) in ends.iter().zip(&mut emitted) {
                let at = index - held.first;
                *jobs = self.emit(hand, lease, &held, at, *ended == Some(Job::Succeeded), &mut part).await?;
            }
        }
        let added = self.add_inside(&held, part.succeeded);
        part.added = added.iter().map(|(_, added)| added.clone()).collect();
        let sends = 1 + usize::from(self.dice.chance(20));
        self.say(|| {
            format!(
                "worker {hand} adds {:?}",
                added.iter().map(|(kind, one)| (kind, one.chunk.jobs)).collect::<Vec<_>>()
            )
        });
        self.say(|| format!("worker {hand} reports under {lease}: {ends:?}, emitted {emitted:?}, sent {sends} times"));
        for _ in 0..sends {
            let report = Report { session: self.hands[hand].session, leases: vec![part.clone()] };
            let reported = sure(self.store.report(report).await)?;
            let over = ends.len() == held.jobs.len();
            ensure(reported.refused.is_empty() || over, || format!("the report under {lease} was refused"))?;
            if over {
                // From the second time on the lease has ended.
                self.late.push((self.hands[hand].session, part.clone()));
            }
        }
        for ((index, ended), emitted) in ends.iter().zip(emitted) {
            self.models[held.workflow].reported(held.step, *index, *ended);
            match ended {
                Some(Job::Succeeded) => self.models[held.workflow].emitted(held.step, emitted),
                Some(Job::Deferred) => self.has_begun((held.workflow, held.step, *index)),
                _ => {}
            }
            held.jobs = held.jobs.minus(Mask::range(index - held.first..index - held.first + 1));
        }
        self.added_inside(held.workflow, &added);
        match held.jobs.is_empty() {
            true => self.hands[hand].held.remove(&lease),
            false => self.hands[hand].held.insert(lease, held),
        };
        Ok(())
    }

    pub fn random_end(
        &mut self,
        held: &Held,
        index: usize,
        at: usize,
        well: bool,
        part: &mut LeaseReport,
    ) -> Option<Job> {
        let model = &self.models[held.workflow];
        // An attempt may have been told to end before its step was repaired.
        let stops = model.stops(held.step) || model.steps[held.step].policy == Policy::FailFast;
        let attempts = model.steps[held.step].rows[index].attempts;
        match self.dice.below(if well { 1 } else { 100 }) {
            0..=49 => {
                part.succeeded.insert(at);
                Some(Job::Succeeded)
            }
            // Of a small step often all: then it ends as skipped.
            50..=54 => {
                part.skipped.insert(at);
                Some(Job::Skipped)
            }
            55..=69 => {
                part.failed.insert(at);
                let text = format!("error {}", self.dice.below(3));
                part.errors.push((error_number(&text), text, Mask::range(at..at + 1)));
                Some(Job::Failed)
            }
            70..=87 if attempts < 20 => {
                let wait = WAITS[self.dice.below(WAITS.len())];
                part.retries.push((wait, Mask::range(at..at + 1)));
                let now = self.clock.now();
                Some(Job::Retrying(now + wait, now + wait + wait / 4 + 2))
            }
            88..=93 if stops => {
                part.cancelled.insert(at);
                Some(Job::Cancelled)
            }
            _ => {
                part.returned.insert(at);
                None
            }
        }
    }

    /// A report under a lease that has ended, or was taken back, changes nothing.
    pub async fn report_late(&mut self) -> Verdict {
        if self.late.is_empty() {
            return Ok(());
        }
        let (session, mut part) = self.late[self.dice.below(self.late.len())].clone();
        if self.dice.chance(30) {
            return self.adopt_late(session, part.lease).await;
        }
        part.number += self.dice.below(2) as u64;
        self.say(|| format!("a late report under {}", part.lease));
        let lease = part.lease;
        let reported = sure(self.store.report(Report { session, leases: vec![part] }).await)?;
        ensure(reported.refused == [lease], || format!("a late report under lease {lease} was not refused"))
    }
}

fn told(slices: &[Slice]) -> String {
    let told: Vec<String> = slices
        .iter()
        .map(|slice| {
            let jobs: Vec<u64> = slice.jobs.iter().map(|at| slice.first + at as u64).collect();
            format!("{} = step {} {jobs:?}", slice.lease, slice.step)
        })
        .collect();
    if told.is_empty() { "nothing".into() } else { told.join(", ") }
}
