//! Whether the store shows what the model says.

use super::game::{Game, Verdict, ensure, sure};
use super::naive::{Job, Phase, Row, State, Step};
use crate::clock::Millis;
use crate::state::{JobState, StepState, WorkflowState, attempts};
use crate::testing::job_bytes;

impl Game {
    /// Compares every workflow and step, and if `jobs` every job. Nothing may be due.
    pub async fn compare(&mut self, jobs: bool) -> Verdict {
        for number in 0..self.models.len() {
            let id = self.ids[number];
            let row = sure(self.store.workflow(id).await)?;
            let phase = phase(row.state)?;
            let expected = self.models[number].phase;
            ensure(phase == expected, || format!("workflow {number} is {phase:?} instead of {expected:?}"))?;
            let steps = sure(self.store.steps(id, 0, 1000).await)?;
            for (step, found) in steps.iter().enumerate() {
                let name = format!("step {step} of workflow {number}");
                let model = &self.models[number].steps[step];
                let state = state(found.state);
                ensure(state == model.state, || format!("{name} is {state:?} instead of {:?}", model.state))?;
                ensure(found.exceeded == model.exceeded, || {
                    format!("{name}: its policy has acted is {} instead of {}", found.exceeded, model.exceeded)
                })?;
                let (generation, outdated) = (model.generation, model.outdated);
                ensure(found.generation == generation && found.outdated == outdated, || {
                    let found = (found.generation, found.outdated);
                    format!("{name} is of generation, and outdated: {found:?} instead of {:?}", (generation, outdated))
                })?;
                let leased = model.leased() as u64;
                ensure(found.running == leased, || format!("{name}: {} run instead of {leased}", found.running))?;
                if !jobs {
                    continue;
                }
                let bytes = sure(job_bytes(&*self.store, id, step as u32).await)?;
                let now = self.clock.now();
                let rows = &mut self.models[number].steps[step].rows;
                ensure(bytes.len() == rows.len(), || {
                    format!("{name} has {} jobs instead of {}", bytes.len(), rows.len())
                })?;
                for (index, (byte, row)) in bytes.iter().zip(rows).enumerate() {
                    compare_job(*byte, row, now).map_err(|wrong| format!("#{index} of {name} {wrong}"))?;
                }
            }
        }
        Ok(())
    }

    /// Everything has come to its end: nothing is left under way, and nothing at all once it has been deleted.
    pub async fn at_rest(&mut self) -> Verdict {
        self.compare(true).await?;
        self.doctor().await?;
        // With what stands for their jobs.
        for (id, model) in self.ids.iter().zip(&self.models).filter(|(_, model)| model.parent.is_none()) {
            sure(self.store.delete(*id).await).map_err(|wrong| format!("{wrong}, in state {:?}", model.phase))?;
        }
        self.models.clear();
        self.ids.clear();
        self.settle(self.clock.now()).await?;
        self.doctor().await?;
        let listed = sure(self.store.workflows(crate::store::List { limit: 1, ..Default::default() }).await)?;
        ensure(listed.is_empty(), || "a deleted workflow is listed".into())
    }

    async fn doctor(&self) -> Verdict {
        let checkup = sure(self.store.doctor().await)?;
        ensure(checkup.findings.is_empty(), || format!("the doctor finds {:?}", checkup.findings))?;
        ensure(checkup.under_way == 0, || format!("at rest {} rows are under way", checkup.under_way))?;
        let over = self.store.meters().over_bounds();
        ensure(over.is_empty(), || format!("operations went over their bounds: {over:?}"))
    }

    /// Applies the model's rules. Whether a wait is over whose time may have come, and may come yet, is for the store to say: it tells when
    /// it has settled; what it must be then is the model's.
    pub async fn apply_rules(&mut self, since: Millis) -> Verdict {
        loop {
            let now = self.clock.now();
            self.models.iter_mut().for_each(|model| model.settle(since, now));
            if self.children_move() {
                continue;
            }
            let mut looked_at = Vec::new();
            for (number, model) in self.models.iter().enumerate() {
                let open = model.steps.iter().enumerate().filter(|(_, step)| may_be_over(step, now));
                looked_at.extend(open.map(|(step, _)| (number, step)));
            }
            let mut over = false;
            for (number, step) in looked_at {
                let bytes = sure(job_bytes(&*self.store, self.ids[number], step as u32).await)?;
                if JobState::of(bytes[0]).is_settled() {
                    self.models[number].steps[step].due.1 = 0;
                    over = true;
                }
            }
            if !over {
                return Ok(());
            }
        }
    }
}

fn may_be_over(step: &Step, now: Millis) -> bool {
    step.waits.is_some() && step.rows[0].job == Job::Deferred && step.due.0 <= now
}

fn compare_job(byte: u8, row: &mut Row, now: i64) -> Verdict {
    let found = JobState::of(byte);
    if let (Job::Retrying(earliest, latest), JobState::Open | JobState::Retrying) = (row.job, found) {
        let open = found == JobState::Open;
        ensure(!open || now >= earliest, || "is tried again too early".into())?;
        ensure(open || now < latest, || "is not tried again, although it is time".into())?;
        if open {
            row.job = Job::Open;
        }
    } else {
        let same = matches!(
            (row.job, found),
            (Job::Open, JobState::Open)
                | (Job::Deferred, JobState::Deferred)
                | (Job::Succeeded, JobState::Succeeded)
                | (Job::Failed, JobState::Failed)
                | (Job::Skipped, JobState::Skipped)
                | (Job::Cancelled, JobState::Cancelled)
                | (Job::Behind, JobState::SkippedByPredecessor)
        );
        ensure(same, || format!("is {found:?} instead of {:?}", row.job))?;
    }
    ensure(attempts(byte) == row.attempts, || format!("has {} attempts instead of {}", attempts(byte), row.attempts))
}

fn phase(state: WorkflowState) -> Verdict<Phase> {
    Ok(match state {
        WorkflowState::Pending => Phase::Pending,
        WorkflowState::Running => Phase::Running,
        WorkflowState::Paused => Phase::Paused,
        WorkflowState::Cancelling => Phase::Cancelling,
        WorkflowState::Succeeded => Phase::Succeeded,
        WorkflowState::Failed => Phase::Failed,
        WorkflowState::Cancelled => Phase::Cancelled,
        WorkflowState::Building | WorkflowState::Deleting | WorkflowState::Standing => {
            return Err(format!("a workflow is {state}"));
        }
    })
}

fn state(state: StepState) -> State {
    match state {
        StepState::Waiting => State::Waiting,
        StepState::Running => State::Running,
        StepState::Succeeded => State::Succeeded,
        StepState::Failed => State::Failed,
        StepState::Skipped => State::Skipped,
        StepState::Cancelled => State::Cancelled,
    }
}
