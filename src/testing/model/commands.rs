//! What people command in a game: pause, resume, cancel, retry, run again, skip; and the signals that they give.

use super::game::{Game, Held, Verdict, ensure, sure};
use super::naive::{Job, Phase, Policy, State, Step};
use super::plan::SIGNAL;
use crate::id::{SessionId, WorkflowId};
use crate::store::{ByHand, DecideByHand, LeaseReport, ResumeStep, RetryFailed, RunAgain, SendSignal};

impl Game {
    /// A person's command.
    pub async fn command(&mut self) -> Verdict {
        let number = self.dice.below(self.models.len());
        let (id, phase) = (self.ids[number], self.models[number].phase);
        let can_repair = !matches!(phase, Phase::Cancelling | Phase::Cancelled);
        if self.models[number].batch.is_some() && self.dice.chance(60) {
            return self.batch_command(number).await;
        }
        match self.dice.below(23) {
            0..=2 if matches!(phase, Phase::Pending | Phase::Running) => {
                self.say(|| format!("pause {number}"));
                self.models[number].phase = Phase::Paused;
                sure(self.store.pause(id).await)
            }
            0..=4 if phase == Phase::Paused => self.resume(number).await,
            5 if matches!(phase, Phase::Pending | Phase::Running | Phase::Paused) => {
                self.say(|| format!("cancel {number}"));
                self.models[number].cancel();
                self.whole_is_cancelled(number);
                sure(self.store.cancel(id, 1_000_000_000).await)
            }
            6..=9 if can_repair => self.retry_some(number).await,
            14 if can_repair => self.retry_chosen(number).await,
            15 if can_repair => self.discard(number).await,
            // What cannot be said of a batch.
            16..=22 if self.models[number].batch.is_some() => Ok(()),
            16..=18 if can_repair => self.run_again(number).await,
            19..=20 if can_repair => self.skip(number).await,
            21..=22 if can_repair => self.replace(number).await,
            10..=13 if self.dice.chance(50) => self.signal_some(number).await,
            10..=13 => self.resume_a_step(number).await.map(drop),
            _ => Ok(()),
        }
    }

    /// What names a new command about a workflow: the session that gives it, and its number.
    pub async fn begin_command(&mut self, number: usize) -> Verdict<(SessionId, u64, WorkflowId)> {
        sure(self.store.join(self.client.clone()).await)?;
        self.commands += 1;
        Ok((self.client.id, self.commands, self.ids[number]))
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
        let (session, command, workflow) = self.begin_command(number).await?;
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let resume = ResumeStep { session, command, workflow, step: step as u32 };
            let resumed = sure(self.store.resume_step(resume).await)?;
            ensure(resumed.was_paused, || format!("step {step} is told not to be paused"))?;
        }
        let step = &mut self.models[number].steps[step];
        (step.exceeded, step.forgiven) = (false, step.count(Job::Failed));
        Ok(true)
    }

    async fn retry_some(&mut self, number: usize) -> Verdict {
        let step = self.dice.chance(50).then(|| self.dice.below(self.models[number].steps.len()));
        self.retry(number, step).await
    }

    /// Failed jobs run again, of one step or of all.
    pub async fn retry(&mut self, number: usize, step: Option<usize>) -> Verdict {
        self.say(|| format!("retry {number}, step {step:?}"));
        let (session, command, workflow) = self.begin_command(number).await?;
        let step_number = step.map(|step| step as u32);
        let retry = RetryFailed { session, command, workflow, step: step_number, mended: None, discard: false };
        let failed = self.failed(number, step);
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let retried = sure(self.store.retry(retry.clone()).await)?;
            ensure(retried.jobs == failed, || format!("{} jobs are retried, {failed} failed", retried.jobs))?;
        }
        self.retried(number, step);
        Ok(())
    }

    /// They do so in the model.
    pub fn retried(&mut self, number: usize, step: Option<usize>) {
        self.retry_within(number, step);
        let waits = self.repaired_children(number);
        self.models[number].retry(step, &waits);
        self.are_told_again(number, &waits);
    }

    /// A step runs again, perhaps with all that comes after it. Who holds anything of that has lost it.
    pub async fn run_again(&mut self, number: usize) -> Verdict {
        let (step, again) = (self.dice.below(self.models[number].steps.len()), self.dice.chance(50));
        self.say(|| format!("run step {step} of {number} again, all after it: {again}"));
        let (session, command, workflow) = self.begin_command(number).await?;
        let jobs = self.models[number].steps[step].rows.len();
        let taken = self.models[number].run_again(step, again);
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let run = RunAgain { session, command, workflow, step: step as u32, again };
            let told = sure(self.store.run_again(run).await)?;
            let expected = if taken.is_empty() { 0 } else { jobs };
            ensure(told.jobs == expected as u64, || format!("{} jobs run again instead of {expected}", told.jobs))?;
        }
        taken.iter().for_each(|step| self.cancel_children(number, *step, |_, _| true));
        self.lose(|held| held.workflow == number && taken.contains(&held.step));
        self.covered.retain(|(workflow, step, _), _| *workflow != number || !taken.contains(step));
        self.stored.retain(|(workflow, step, _), _| *workflow != number || !taken.contains(step));
        Ok(())
    }

    /// A person skips a job, or what is left of a step. Who holds a job of that has lost the whole lease.
    async fn skip(&mut self, number: usize) -> Verdict {
        let step = self.dice.below(self.models[number].steps.len());
        let rows = self.models[number].steps[step].rows.len();
        if rows == 0 {
            return Ok(());
        }
        let only = self.dice.chance(70).then(|| self.dice.below(rows));
        self.say(|| format!("skip {only:?} of step {step} of {number}"));
        let jobs = self.models[number].skip(step, only);
        let what = only.map_or(ByHand::SkipAll, |index| ByHand::Skip { index: index as u64 });
        let (session, command, workflow) = self.begin_command(number).await?;
        let decide = DecideByHand { session, command, workflow, step: step as u32, what };
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let told = sure(self.store.decide_by_hand(decide.clone()).await)?;
            ensure(told.jobs == jobs as u64, || format!("{} jobs are skipped instead of {jobs}", told.jobs))?;
        }
        if jobs == 0 {
            return Ok(());
        }
        self.cancel_children(number, step, |index, _| only.is_none_or(|only| only == index));
        let has_it = |held: &Held| only.is_none_or(|index| held.jobs.iter().any(|at| held.first + at == index));
        for held in self.lose(|held| held.workflow == number && held.step == step && has_it(held)) {
            for index in held.jobs.iter().map(|at| held.first + at) {
                if self.models[number].steps[step].rows[index].job == Job::Open {
                    self.models[number].reported(step, index, None);
                }
            }
        }
        Ok(())
    }

    /// Some leases have been taken away: whoever reports under one comes too late.
    fn lose(&mut self, is_lost: impl Fn(&Held) -> bool) -> Vec<Held> {
        let mut lost = Vec::new();
        for hand in &mut self.hands {
            let leases: Vec<u64> =
                hand.held.iter().filter(|(_, held)| is_lost(held)).map(|(lease, _)| *lease).collect();
            for lease in leases {
                let Some(held) = hand.held.remove(&lease) else { continue };
                let number = held.reports + 1;
                let late = LeaseReport { lease, number, succeeded: held.jobs, ..LeaseReport::default() };
                self.late.push((hand.session, late));
                lost.push(held);
            }
        }
        lost
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
        let (session, command, workflow) = self.begin_command(number).await?;
        let send = SendSignal {
            session,
            command,
            workflow,
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
