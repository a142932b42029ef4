//! What a store should hand out, and what should become of a job by the worker that has it: the naive model's part of it.

use super::naive::{Job, Phase, Policy, Row, State, Step, Workflow};

impl Workflow {
    /// Whether a job may be handed out now.
    pub fn may_run(&self, step: usize, index: usize, now: i64) -> bool {
        let goes_on = self.goes_on(step, index);
        let (step, row) = (&self.steps[step], &self.steps[step].rows[index]);
        let due = row.job == Job::Open || matches!(row.job, Job::Retrying(earliest, _) if now >= earliest);
        let released = step.state == State::Running && step.due.0 <= now && !step.exceeded;
        due && row.lease.is_none() && released && goes_on && self.hands_out(step)
    }

    /// Whether a job should be handed out to who asks for everything.
    pub fn must_run(&self, step: usize, index: usize, now: i64, alone: bool) -> bool {
        let (of, row) = (&self.steps[step], &self.steps[step].rows[index]);
        let open = !matches!(row.job, Job::Retrying(_, latest) if now < latest) && of.due.1 <= now;
        self.may_run(step, index, now) && open && of.leased() < of.limit && (!row.is_suspect() || alone)
    }

    pub fn claimed(&mut self, step: usize, index: usize, lease: (usize, u64)) {
        let row = &mut self.steps[step].rows[index];
        (row.job, row.lease) = (Job::Open, Some(lease));
        (self.phase, self.started) = (self.phase.max(Phase::Running), true);
    }

    /// An attempt has ended; `None`: it does not count, and the job goes back.
    pub fn reported(&mut self, step: usize, index: usize, ended: Option<Job>) {
        let stops = self.stops(step);
        // What was cut off of a step that has been repaired meanwhile runs again.
        let ended = ended.filter(|job| stops || *job != Job::Cancelled);
        let row = &mut self.steps[step].rows[index];
        row.lease = None;
        row.attempts += u8::from(ended.is_some());
        row.job = match ended {
            None | Some(Job::Retrying(..)) if stops => Job::Cancelled,
            None => Job::Open,
            Some(job) => job,
        };
        if let Some(Job::Retrying(..)) = ended {
            (row.deaths, row.alone) = (0, 0);
        }
    }

    /// The worker of a lease died, with these jobs of a step unreported.
    pub fn died(&mut self, step: usize, jobs: &[usize]) {
        let (stops, single, max_deaths) = (self.stops(step), jobs.len() == 1, self.steps[step].max_deaths);
        for index in jobs {
            let row = &mut self.steps[step].rows[*index];
            row.alone = if single { row.alone + u32::from(row.is_suspect()) } else { 0 };
            row.deaths += 1;
            let killed = single && row.alone >= max_deaths;
            (row.lease, row.job) = (None, if killed { Job::Failed } else { row.job });
            row.job = if stops { Job::Cancelled } else { row.job };
        }
    }

    /// Whether a job of a source that emits now is told to come to its end.
    pub fn emits_in_vain(&self, step: usize, fed: usize) -> bool {
        let fed = &self.steps[fed];
        self.stops(step) || self.phase == Phase::Cancelling && !fed.always || fed.passed_over
    }

    /// How many jobs of a step are not final.
    pub fn unfinished(&self, step: usize) -> usize {
        self.steps[step].rows.iter().filter(|row| !row.is_final()).count()
    }
}

impl Step {
    /// How many of its jobs may fail.
    pub fn tolerated(&self) -> usize {
        self.tolerates + self.rows.len() * self.share / 100
    }

    /// Its policy acts, if too many of its jobs have failed and there is something left that it could stop, or may still come.
    pub fn act_on_failures(&mut self, open: bool) {
        // Of what may still grow no share can be said.
        let is_known = self.share == 0 || !open;
        let exceeds =
            self.count(Job::Failed) > self.tolerated() + self.forgiven && self.policy != Policy::RunOn && is_known;
        self.exceeded |= exceeds && (open || !self.rows.iter().all(Row::is_final));
        if self.exceeded && self.policy == Policy::FailFast {
            self.end_rest(Job::Cancelled);
        }
    }
}
