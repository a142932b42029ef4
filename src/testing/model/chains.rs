//! What a store should do with element-wise chains: the naive model's part of it.

use super::naive::{Asks, Job, Phase, Row, State, Verdict, Workflow};

impl Workflow {
    /// The step that a chained one goes on from.
    pub fn before(&self, step: usize) -> Option<usize> {
        self.steps[step].edges.iter().find(|(_, asks)| *asks == Asks::Chains).map(|(up, _)| *up)
    }

    /// Whether the job before one in a chain has succeeded, if it has one.
    pub fn goes_on(&self, step: usize, index: usize) -> bool {
        self.before(step).is_none_or(|up| self.steps[up].rows[index].job == Job::Succeeded)
    }

    /// Steps that are chained have as many jobs as those before them.
    pub fn lengthen_chains(&mut self) {
        for number in 0..self.steps.len() {
            let Some(jobs) = self.before(number).map(|up| self.steps[up].rows.len()) else { continue };
            let cancelling = self.phase == Phase::Cancelling && !self.steps[number].always;
            let step = &mut self.steps[number];
            step.rows.truncate(jobs);
            while step.rows.len() < jobs {
                let job = match (step.passed_over, step.state) {
                    (true, State::Skipped) => Job::Skipped,
                    (true, _) => Job::Cancelled,
                    _ if cancelling => Job::Cancelled,
                    _ => Job::Open,
                };
                step.rows.push(Row { job, ..Row::new() });
            }
        }
    }

    /// What a chained step can go on with, what it cannot, and whether it rests. Returns whether anything has changed.
    pub fn look_at_chain(&mut self, number: usize, up: usize) -> bool {
        let (others, source) =
            (self.strongest(number, |asks| asks != Asks::Chains), self.strongest(number, |asks| asks == Asks::Chains));
        let before: Vec<Job> = self.steps[up].rows.iter().map(|row| row.job).collect();
        let (cancelling, up) = (self.phase == Phase::Cancelling, self.steps[up].state);
        // What is skipped as a whole is not skipped element by element.
        let passes_over = matches!(self.strongest(number, |_| true), Some(Verdict::Skip | Verdict::Cancel));
        let step = &mut self.steps[number];
        if step.passed_over || step.state > State::Running || passes_over && !step.begun {
            return false;
        }
        let open = matches!(source, None | Some(Verdict::Wait));
        // Before it rests.
        if step.state == State::Running {
            step.act_on_failures(open);
        }
        let mut changed = false;
        let released = step.begun || others == Some(Verdict::Release);
        for (row, before) in step.rows.iter_mut().zip(&before) {
            let job = match (row.job, *before) {
                (Job::Behind, Job::Succeeded) => Job::Open,
                (Job::Open, before) if before > Job::Succeeded && up == State::Succeeded && released => Job::Behind,
                (job, _) => job,
            };
            changed |= std::mem::replace(&mut row.job, job) != job;
        }
        let going = step.rows.iter().zip(&before).any(|(row, before)| !row.is_final() && *before == Job::Succeeded);
        let stands = matches!(up, State::Waiting | State::Failed) && open && !cancelling;
        let state = match step.state {
            State::Waiting if going && open && released && !cancelling => State::Running,
            State::Running if !going && stands => State::Waiting,
            state => state,
        };
        step.begun |= state == State::Running;
        changed |= std::mem::replace(&mut step.state, state) != state;
        changed
    }
}
