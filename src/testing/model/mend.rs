//! What people decide about single jobs in a game that have failed: some of them run again, perhaps with other parameters, or they count as
//! skipped, or as succeeded.

use super::game::{Game, LEASE, Verdict, ensure, sure};
use super::naive::{Job, Step};
use crate::slice::Mask;
use crate::store::{Append, ByHand, DecideByHand, DraftKey, DraftOf, Part, RetryFailed};

/// Drafts that name jobs have numbers from this one on.
const CHOICES: u64 = 2_000_000;

impl Game {
    /// Some failed jobs of a step run again.
    pub async fn retry_chosen(&mut self, number: usize) -> Verdict {
        let model = &self.models[number];
        let is_batch = model.batch.is_some();
        let may_choose = |step: &usize| !is_batch || *step > 0 && !model.steps[*step].children;
        let steps: Vec<usize> =
            (0..model.steps.len()).filter(may_choose).filter(|step| self.failed(number, Some(*step)) > 0).collect();
        if steps.is_empty() {
            return Ok(());
        }
        let step = steps[self.dice.below(steps.len())];
        let rows = &self.models[number].steps[step].rows;
        let failed: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].job == Job::Failed).collect();
        let mut chosen: Vec<usize> = failed.iter().copied().filter(|_| self.dice.chance(50)).collect();
        if chosen.is_empty() {
            chosen.push(failed[0]);
        }
        self.say(|| format!("retry {chosen:?} of step {step} of {number}"));
        let (session, command, workflow) = self.begin_command(number).await?;
        let draft = DraftKey { session, number: CHOICES + command };
        self.name_jobs(draft, (number, step), &chosen).await?;
        let retry =
            RetryFailed { session, command, workflow, step: Some(step as u32), mended: Some(draft), discard: false };
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let retried = sure(self.store.retry(retry.clone()).await)?;
            ensure(retried.more, || "a retry of some jobs is told to do nothing".into())?;
        }
        let repaired = self.repaired_children(number);
        let waits: Vec<usize> = repaired
            .into_iter()
            .filter(|(of, index)| *of == step && chosen.contains(index))
            .map(|(_, index)| index)
            .collect();
        self.models[number].retry_chosen(step, &chosen, &waits);
        let waits: Vec<(usize, usize)> = waits.into_iter().map(|index| (step, index)).collect();
        self.are_told_again(number, &waits);
        Ok(())
    }

    /// Writes a draft that names jobs of a step of a workflow, and perhaps gives them parameters.
    async fn name_jobs(&mut self, draft: DraftKey, (number, step): (usize, usize), chosen: &[usize]) -> Verdict {
        let workflow = self.ids[number];
        let pages = sure(self.store.outcomes(workflow, step as u32, 0, 0).await)?;
        let mut parts = Vec::new();
        for page in &pages {
            let at = |index: &usize| (*index as u64).checked_sub(page.first).filter(|at| *at < page.bytes.len() as u64);
            let jobs: Mask = chosen.iter().filter_map(at).map(|at| at as usize).collect();
            let body = match self.dice.chance(50) {
                true => [&[0u8][..], "null\n".repeat(jobs.len()).as_bytes()].concat(),
                false => Vec::new(),
            };
            if !jobs.is_empty() {
                parts.push(Part::Mended { chunk: page.chunk.id, first: page.first, jobs, body });
            }
        }
        let of = DraftOf::Mended { workflow, step: step as u32 };
        let append = Append { draft, of, number: 0, parts, lease: LEASE };
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            sure(self.store.append(append.clone()).await)?;
        }
        Ok(())
    }

    /// Failed jobs are given up.
    pub async fn discard(&mut self, number: usize) -> Verdict {
        let step = self.dice.chance(50).then(|| self.dice.below(self.models[number].steps.len()));
        self.say(|| format!("discard {number}, step {step:?}"));
        let (session, command, workflow) = self.begin_command(number).await?;
        let discard =
            RetryFailed { session, command, workflow, step: step.map(|step| step as u32), mended: None, discard: true };
        let of_step = |(at, of): (usize, &Step)| match step.is_none_or(|step| step == at) {
            true => of.count(Job::Failed) as u64,
            false => 0,
        };
        let failed: u64 = self.models[number].steps.iter().enumerate().map(of_step).sum();
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let told = sure(self.store.retry(discard.clone()).await)?;
            ensure(told.jobs == failed, || format!("{} jobs are given up, {failed} failed", told.jobs))?;
        }
        self.models[number].discard(step);
        Ok(())
    }

    /// Somebody says what a job returned; that is refused of one that has neither failed nor succeeded, or stands for a workflow.
    pub async fn replace(&mut self, number: usize) -> Verdict {
        let step = self.dice.below(self.models[number].steps.len());
        let of = &self.models[number].steps[step];
        if of.rows.is_empty() {
            return Ok(());
        }
        let index = self.dice.below(of.rows.len());
        let is_taken = matches!(of.rows[index].job, Job::Failed | Job::Succeeded) && !of.children;
        self.say(|| {
            format!("replace the output of {step}#{index} of {number}: {}", if is_taken { "taken" } else { "refused" })
        });
        let (session, command, workflow) = self.begin_command(number).await?;
        let what = ByHand::Replace { index: index as u64, record: b"given".to_vec() };
        let decide = DecideByHand { session, command, workflow, step: step as u32, what };
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            match self.store.decide_by_hand(decide.clone()).await {
                Ok(told) => ensure(is_taken && told.jobs == 1, || format!("{told:?} of an output that is replaced"))?,
                Err(error) => ensure(!is_taken && !error.is_transient(), || format!("replace: {error}"))?,
            }
        }
        if is_taken {
            self.models[number].replace(step, index);
        }
        Ok(())
    }
}
