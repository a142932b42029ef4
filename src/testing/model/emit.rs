//! What the sources of a game emit: into drafts, of which checkpoints cover some, so that the next attempt goes on with them; or eagerly, so that
//! it is there at once and stays.

use super::game::{Game, Held, LEASE, Verdict, ensure, sure};
use super::naive::{Phase, State};
use super::plan::chunks;
use crate::error::ErrorKind;
use crate::id::SessionId;
use crate::store::{Adopt, Append, Covers, DraftKey, DraftOf, LeaseReport, Part, SaveCheckpoint, TakeDraft};

/// What an attempt of a source has written, those before it included if it goes on with what they wrote.
#[derive(Debug)]
struct Written {
    draft: DraftKey,
    calls: u64,
    jobs: usize,
}

impl Game {
    /// Writes what a source's job emits; it is adopted if the job succeeds. Returns how many jobs there are then.
    pub async fn emit(
        &mut self,
        hand: usize,
        lease: u64,
        held: &Held,
        at: usize,
        succeeds: bool,
        part: &mut LeaseReport,
    ) -> Verdict<usize> {
        let written = self.write(hand, lease, held, at).await?;
        match (written.calls > 0, succeeds) {
            (false, _) => {}
            (true, true) => part.adopted.push((at as u16, written.draft.number)),
            (true, false) => part.dropped.push(written.draft.number),
        }
        Ok(written.jobs)
    }

    /// A source's attempt that nobody ever hears of.
    pub async fn leave_a_draft(&mut self) -> Verdict {
        let source = self.hands.iter().enumerate().find_map(|(number, hand)| {
            let is_source = |held: &Held| {
                let step = &self.models[held.workflow].steps[held.step];
                step.feeds.is_some() && !step.eager
            };
            let (lease, held) = hand.held.iter().find(|(_, held)| is_source(held))?;
            Some((number, *lease, held.clone(), held.jobs.iter().next()?))
        });
        let Some((hand, lease, held, at)) = source else { return Ok(()) };
        let written = self.write(hand, lease, &held, at).await?;
        self.say(|| format!("worker {hand} writes a draft for nothing: {written:?}"));
        Ok(())
    }

    /// An attempt of a source: it may go on from a checkpoint, and save one.
    async fn write(&mut self, hand: usize, lease: u64, held: &Held, at: usize) -> Verdict<Written> {
        self.hands[hand].last_draft += 1;
        let draft = DraftKey { session: self.hands[hand].session, number: self.hands[hand].last_draft };
        let mut written = Written { draft, calls: 0, jobs: 0 };
        let job = (held.workflow, held.step, held.first + at);
        let at = at as u16;
        if self.dice.chance(60) {
            let covered = self.covered.get(&job).copied();
            for _ in 0..1 + usize::from(self.dice.chance(20)) {
                let take = TakeDraft { session: draft.session, lease, at, draft: draft.number };
                let taken = sure(self.store.take_draft(take).await)?;
                let jobs = taken.body.is_some().then_some(taken.jobs as usize);
                ensure(jobs == covered && !taken.more, || format!("{job:?} goes on with {jobs:?}, not {covered:?}"))?;
                (written.calls, written.jobs) = (taken.calls, taken.jobs as usize);
            }
        }
        self.append(held, &mut written).await?;
        if self.dice.chance(30) {
            let covers = Covers { draft: draft.number, calls: written.calls };
            let covers = Some(covers).filter(|covers| covers.calls > 0);
            let save = SaveCheckpoint { session: draft.session, lease, at, body: b"17".to_vec(), covers };
            sure(self.store.save_checkpoint(save).await)?;
            self.covered.insert(job, written.jobs);
            self.append(held, &mut written).await?;
        }
        self.say(|| format!("worker {hand} writes for {job:?}: {written:?}"));
        Ok(written)
    }

    /// Writes some jobs into a draft for the step that a source feeds; nothing, if that has settled for good.
    async fn append(&mut self, held: &Held, written: &mut Written) -> Verdict {
        let model = &self.models[held.workflow];
        let is_cancelled = matches!(model.phase, Phase::Cancelling | Phase::Cancelled);
        let fed = model.steps[held.step].feeds.ok_or("no source")?;
        let is_over = model.steps[fed].state > State::Running && !is_cancelled && written.calls == 0;
        let jobs = self.dice.below(5);
        for chunk in chunks(&mut self.dice, jobs) {
            let jobs = chunk.jobs as usize;
            let append = Append {
                draft: written.draft,
                of: DraftOf::Jobs { workflow: self.ids[held.workflow], step: fed as u32 },
                number: written.calls,
                parts: vec![Part::Jobs { step: fed as u32, chunk }],
                lease: LEASE,
            };
            for _ in 0..1 + usize::from(self.dice.chance(20)) {
                let answer = self.store.append(append.clone()).await;
                if is_over {
                    return ensure(answer.is_err(), || "jobs were written for a step that has settled".into());
                }
                sure(answer)?;
            }
            (written.calls, written.jobs) = (written.calls + 1, written.jobs + jobs);
        }
        Ok(())
    }

    /// An eager source under a lease emits some jobs.
    pub async fn adopt_some(&mut self) -> Verdict {
        let mut sources = Vec::new();
        for (number, hand) in self.hands.iter().enumerate() {
            for (lease, held) in &hand.held {
                let step = &self.models[held.workflow].steps[held.step];
                let at = held.jobs.iter().next();
                sources.extend(at.filter(|_| step.eager).map(|at| (number, *lease, held.clone(), at)));
            }
        }
        if sources.is_empty() {
            return Ok(());
        }
        let (hand, lease, held, at) = sources.swap_remove(self.dice.below(sources.len()));
        let job = (held.workflow, held.step, held.first + at);
        let before = self.stored.get(&job).copied().unwrap_or(0);
        let amount = self.dice.below(6);
        let chunks = chunks(&mut self.dice, amount);
        let adopt = Adopt { session: self.hands[hand].session, lease, at: at as u16, before: before as u64, chunks };
        let model = &self.models[held.workflow];
        let fed = model.steps[held.step].feeds.ok_or("no source")?;
        let (in_vain, is_over) = (model.emits_in_vain(held.step, fed), model.steps[fed].state > State::Running);
        self.say(|| format!("worker {hand} adopts {amount} jobs of {job:?} behind {before}"));
        let sends = 1 + usize::from(self.dice.chance(30));
        for send in 0..sends {
            let answer = self.store.adopt(adopt.clone()).await;
            if is_over && !in_vain && amount > 0 {
                return ensure(answer.is_err(), || "jobs were adopted by a step that has settled".into());
            }
            let adopted = sure(answer)?;
            if send == 0 && !in_vain && amount > 0 {
                self.models[held.workflow].emitted(held.step, amount);
                self.stored.insert(job, before + amount);
            }
            let stored = self.stored.get(&job).copied().unwrap_or(0);
            let unfinished = if in_vain { 0 } else { self.models[held.workflow].unfinished(fed) };
            let told = (adopted.cancelled, adopted.stored as usize, adopted.unfinished as usize);
            ensure(told == (in_vain, stored, unfinished) || in_vain && adopted.cancelled, || {
                format!("an adoption answers {told:?} instead of {:?}", (in_vain, stored, unfinished))
            })?;
        }
        Ok(())
    }

    /// One under a lease that has ended, or was taken back, adds nothing.
    pub async fn adopt_late(&mut self, session: SessionId, lease: u64) -> Verdict {
        self.say(|| format!("a late adoption under {lease}"));
        let chunks = chunks(&mut self.dice, 3);
        for at in 0..4 {
            let adopt = Adopt { session, lease, at, before: 0, chunks: chunks.clone() };
            let refused = self.store.adopt(adopt).await.is_err_and(|error| error.kind() == ErrorKind::Refused);
            ensure(refused, || format!("a late adoption under lease {lease} was not refused"))?;
        }
        Ok(())
    }

    /// A job that has settled goes on from nothing.
    pub fn forget_covered(&mut self) {
        let models = &self.models;
        self.covered.retain(|(workflow, step, index), _| !models[*workflow].steps[*step].rows[*index].is_final());
    }
}
