//! What the sources of a game emit: into drafts, of which checkpoints cover some, so that the next attempt goes on with them.

use super::game::{Game, Held, LEASE, Verdict, ensure, sure};
use super::naive::{Phase, State};
use super::plan::chunks;
use crate::store::{Append, Covers, DraftKey, DraftOf, LeaseReport, Part, SaveCheckpoint, TakeDraft};

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
            let is_source = |held: &Held| self.models[held.workflow].steps[held.step].feeds.is_some();
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

    /// A job that has settled goes on from nothing.
    pub fn forget_covered(&mut self) {
        let models = &self.models;
        self.covered.retain(|(workflow, step, index), _| !models[*workflow].steps[*step].rows[*index].is_final());
    }
}
