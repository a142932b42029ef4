//! What people command in a game: pause, resume, cancel, retry; and the signals that they give.

use super::game::{Game, Verdict, ensure, sure};
use super::naive::{Job, Phase, Policy, State, Step};
use super::plan::SIGNAL;
use crate::store::{ResumeStep, RetryFailed, SendSignal};

impl Game {
    /// A person's command.
    pub async fn command(&mut self) -> Verdict {
        let number = self.dice.below(self.models.len());
        let (id, phase) = (self.ids[number], self.models[number].phase);
        if self.models[number].batch.is_some() && self.dice.chance(60) {
            return self.batch_command(number).await;
        }
        match self.dice.below(14) {
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
            10..=13 if self.dice.chance(50) => self.signal_some(number).await,
            10..=13 => self.resume_a_step(number).await.map(drop),
            _ => Ok(()),
        }
    }

    pub async fn resume(&mut self, number: usize) -> Verdict {
        self.say(|| format!("resume {number}"));
        let model = &mut self.models[number];
        model.phase = if model.started { Phase::Running } else { Phase::Pending };
        sure(self.store.resume(self.ids[number]).await).map(|_| ())
    }

    /// Lets the first step go on that has paused by itself, if there is one; returns whether.
    pub async fn resume_a_step(&mut self, number: usize) -> Verdict<bool> {
        let is_paused = |step: &Step| step.exceeded && step.policy == Policy::Pause && step.state == State::Running;
        let Some(step) = self.models[number].steps.iter().position(is_paused) else { return Ok(false) };
        self.say(|| format!("resume step {step} of {number}"));
        sure(self.store.join(self.client.clone()).await)?;
        self.commands += 1;
        let (session, command, workflow) = (self.client.id, self.commands, self.ids[number]);
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let resume = ResumeStep { session, command, workflow, step: step as u32 };
            let resumed = sure(self.store.resume_step(resume).await)?;
            ensure(resumed.was_paused, || format!("step {step} is told not to be paused"))?;
        }
        let step = &mut self.models[number].steps[step];
        (step.exceeded, step.forgiven) = (false, step.count(Job::Failed));
        Ok(true)
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

    /// A signal for a random step that waits for one, perhaps once too often or too late.
    async fn signal_some(&mut self, number: usize) -> Verdict {
        let steps = &self.models[number].steps;
        let waits: Vec<usize> = (0..steps.len()).filter(|step| steps[*step].waits.is_some()).collect();
        if waits.is_empty() || self.models[number].batch.is_some() {
            return Ok(());
        }
        let step = waits[self.dice.below(waits.len())];
        self.signal(number, step).await
    }

    pub async fn signal(&mut self, number: usize, step: usize) -> Verdict {
        let before = self.models[number].steps[step].signalled;
        let taken = self.models[number].signal(step);
        self.say(|| format!("signal step {step} of {number}: {}", if taken { "taken" } else { "refused" }));
        sure(self.store.join(self.client.clone()).await)?;
        self.commands += 1;
        let send = SendSignal {
            session: self.client.id,
            command: self.commands,
            workflow: self.ids[number],
            name: format!("step {step}"),
            signal_type: SIGNAL.into(),
            record: b"answer".to_vec(),
        };
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            match self.store.signal(send.clone()).await {
                Ok(told) => {
                    ensure(taken || before, || "a signal was taken that comes too late".into())?;
                    ensure(told.already.is_some() == before, || {
                        format!("a signal is told to be one of several: {told:?}")
                    })?;
                }
                Err(error) => {
                    ensure(!taken && !before && !error.is_transient(), || format!("a signal was refused: {error}"))?
                }
            }
        }
        Ok(())
    }

    pub fn failed(&self, number: usize, only: Option<usize>) -> u64 {
        let steps = self.models[number].steps.iter().enumerate();
        let rows = steps.filter(|(step, _)| only.is_none_or(|only| only == *step)).flat_map(|(_, step)| &step.rows);
        let failed = rows.filter(|row| row.job == Job::Failed).count() as u64;
        // The one that stands for a batch which was abandoned is none of them.
        let model = &self.models[number];
        let abandoned =
            model.batch.is_some() && model.steps[0].count(Job::Failed) > 0 && only.is_none_or(|only| only == 0);
        failed - u64::from(abandoned)
    }
}
