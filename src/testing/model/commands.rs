//! What people command in a game: pause, resume, cancel, retry.

use super::game::{Game, Verdict, ensure, sure};
use super::naive::{Job, Phase};
use crate::store::RetryFailed;

impl Game {
    /// A person's command.
    pub async fn command(&mut self) -> Verdict {
        let number = self.dice.below(self.models.len());
        let (id, phase) = (self.ids[number], self.models[number].phase);
        match self.dice.below(10) {
            0..=2 if matches!(phase, Phase::Pending | Phase::Running) => {
                self.say(|| format!("pause {number}"));
                self.models[number].phase = Phase::Paused;
                sure(self.store.pause(id).await)
            }
            0..=4 if phase == Phase::Paused => self.resume(number).await,
            5 if matches!(phase, Phase::Pending | Phase::Running | Phase::Paused) => {
                self.say(|| format!("cancel {number}"));
                self.models[number].cancel();
                sure(self.store.cancel(id, 1_000_000_000).await)
            }
            6..=9 if !matches!(phase, Phase::Cancelling | Phase::Cancelled) => self.retry(number).await,
            _ => Ok(()),
        }
    }

    pub async fn resume(&mut self, number: usize) -> Verdict {
        self.say(|| format!("resume {number}"));
        let model = &mut self.models[number];
        model.phase = if model.started { Phase::Running } else { Phase::Pending };
        sure(self.store.resume(self.ids[number]).await).map(|_| ())
    }

    pub async fn retry(&mut self, number: usize) -> Verdict {
        let step = self.dice.chance(50).then(|| self.dice.below(self.models[number].steps.len()));
        self.say(|| format!("retry {number}, step {step:?}"));
        sure(self.store.join(self.client.clone()).await)?;
        self.commands += 1;
        let retry = RetryFailed {
            session: self.client.id,
            command: self.commands,
            workflow: self.ids[number],
            step: step.map(|step| step as u32),
            mended: None,
            discard: false,
        };
        let failed = self.failed(number, step);
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let retried = sure(self.store.retry(retry.clone()).await)?;
            ensure(retried.jobs == failed, || format!("{} jobs are retried, {failed} failed", retried.jobs))?;
        }
        self.models[number].retry(step);
        Ok(())
    }

    pub fn failed(&self, number: usize, only: Option<usize>) -> u64 {
        let steps = self.models[number].steps.iter().enumerate();
        let rows = steps.filter(|(step, _)| only.is_none_or(|only| only == *step)).flat_map(|(_, step)| &step.rows);
        rows.filter(|row| row.job == Job::Failed).count() as u64
    }
}
