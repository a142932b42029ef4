//! What a store should do when people repair: the naive model's part of it.

use super::naive::{Asks, Job, Phase, Policy, Row, State, Step, Verdict, Workflow};

impl Workflow {
    /// Failed jobs run again, of one step or of all; those (step, index) whose workflows have been repaired, or are being so, wait for these.
    pub fn retry(&mut self, only: Option<usize>, waits: &[(usize, usize)]) {
        for number in 0..self.steps.len() {
            let step = &self.steps[number];
            // Nobody adds to a batch any more that was abandoned.
            let stands_for_batch = self.batch.is_some() && number == 0;
            if stands_for_batch || step.count(Job::Failed) == 0 || only.is_some_and(|only| only != number) {
                continue;
            }
            // One step after the other: what has run behind it by then, and is retried in part, is older than its input, too.
            self.take_back(number, true);
            let step = &mut self.steps[number];
            (step.state, step.exceeded, step.forgiven) = (State::Running, false, 0);
            let rest = step.policy == Policy::FailFast;
            // Nobody makes a batch anew: its jobs came from a program.
            let anew = !(step.children && self.batch.is_some());
            let again = |row: &&mut Row| row.job == Job::Failed && anew || rest && row.job == Job::Cancelled;
            step.rows.iter_mut().filter(again).for_each(|row| *row = Row::new());
            for (_, index) in waits.iter().filter(|(of, _)| *of == number) {
                step.rows[*index] = Row::waiting();
            }
            self.is_at_work_again();
        }
    }

    /// Jobs of a step whose workflows have been repaired, or are being so, wait for these; others that failed stay so.
    pub fn retry_by_children(&mut self, number: usize, waits: &[usize]) {
        self.outdate_after(&[number][..usize::from(self.steps[number].state > State::Running)]);
        let step = &mut self.steps[number];
        waits.iter().for_each(|index| step.rows[*index] = Row::waiting());
        step.reopened();
        self.is_at_work_again();
    }

    /// These failed jobs of a step run again, or wait for their workflows, which somebody has repaired; others that failed stay so.
    pub fn retry_chosen(&mut self, number: usize, chosen: &[usize], waits: &[usize]) {
        self.take_back(number, true);
        let step = &mut self.steps[number];
        for index in chosen {
            step.rows[*index] = if waits.contains(index) { Row::waiting() } else { Row::new() };
        }
        step.reopened();
        self.is_at_work_again();
    }

    /// Failed jobs, of one step or of all, count as skipped; also the one that stands for a batch which was abandoned.
    pub fn discard(&mut self, only: Option<usize>) {
        for number in (0..self.steps.len()).filter(|number| only.is_none_or(|only| only == *number)) {
            if self.steps[number].count(Job::Failed) == 0 {
                continue;
            }
            self.take_back(number, false);
            let step = &mut self.steps[number];
            let failed = step.rows.iter_mut().filter(|row| row.job == Job::Failed);
            failed.for_each(|row| row.job = Job::Skipped);
            step.reopened();
            self.is_at_work_again();
        }
    }

    /// A job that has failed or succeeded has succeeded with what a person says.
    pub fn replace(&mut self, number: usize, index: usize) {
        self.take_back(number, true);
        self.steps[number].rows[index].job = Job::Succeeded;
        self.steps[number].reopened();
        self.is_at_work_again();
    }

    /// A step that has settled is about to be repaired, perhaps so that more of its jobs succeed.
    fn take_back(&mut self, number: usize, can_succeed: bool) {
        let settled = self.steps[number].state > State::Running;
        if settled && can_succeed {
            self.reopen_behind(number);
        }
        self.outdate_after(&[number][..usize::from(settled)]);
    }

    pub fn is_at_work_again(&mut self) {
        if self.phase > Phase::Cancelling {
            (self.phase, self.told) = (Phase::Running, false);
        }
    }

    /// What is chained to a step that is repaired, and has settled, runs again if jobs of it may come back by that.
    fn reopen_behind(&mut self, up: usize) {
        let Some(number) = (0..self.steps.len()).find(|step| self.before(*step) == Some(up)) else { return };
        let step = &self.steps[number];
        let early = (0..step.rows.len()).any(|index| step.rows[index].is_final() && !self.goes_on(number, index));
        if step.state > State::Running && !step.passed_over && early {
            self.reopen_behind(number);
            self.outdate_after(&[number]);
            let step = &mut self.steps[number];
            (step.state, step.exceeded, step.forgiven) = (State::Running, false, step.count(Job::Failed));
        }
    }

    /// What has run after these steps is older than its input.
    fn outdate_after(&mut self, repaired: &[usize]) {
        for step in self.steps.iter_mut().filter(|step| step.has_run()) {
            step.outdated |= step.edges.iter().any(|(up, asks)| repaired.contains(up) && *asks != Asks::Feeds);
        }
    }

    /// All jobs of a step run again, and with it what comes after it and has not run to its end, or all of that. What sources emitted they
    /// emit anew. Returns the steps.
    pub fn run_again(&mut self, root: usize, again: bool) -> Vec<usize> {
        let mut taken: Vec<usize> = (!self.steps[root].is_untouched()).then_some(root).into_iter().collect();
        let mut next = 0;
        while let Some(up) = taken.get(next).copied() {
            for (number, step) in self.steps.iter().enumerate() {
                let is_under_way = !step.has_run() && !step.is_untouched();
                let goes_too = |asks| again || matches!(asks, Asks::Feeds | Asks::Chains) || is_under_way;
                let follows = step.edges.iter().any(|(before, asks)| *before == up && goes_too(*asks));
                taken.extend((follows && !taken.contains(&number)).then_some(number));
            }
            next += 1;
        }
        self.outdate_after(&taken);
        for number in &taken {
            let emits_anew = |(up, asks): &(usize, Asks)| *asks == Asks::Feeds && taken.contains(up);
            let dropped = self.steps[*number].edges.iter().any(emits_anew);
            let chained = self.before(*number).is_some();
            let step = &mut self.steps[*number];
            step.generation += u32::from(step.count(Job::Succeeded) > 0);
            step.signalled &= step.is_untouched();
            step.rows.truncate(if dropped { 0 } else { usize::MAX });
            // What has not begun keeps what a person has decided about its jobs.
            let taken_back = if step.is_untouched() && !chained { 0 } else { usize::MAX };
            step.rows.iter_mut().take(taken_back).for_each(|row| *row = Row::new());
            (step.state, step.begun, step.passed_over, step.outdated) = (State::Waiting, false, false, false);
            (step.exceeded, step.forgiven, step.due) = (false, 0, (0, 0));
        }
        self.lengthen_chains();
        // What its source has emitted so far it begins with.
        for number in &taken {
            let source = self.strongest(*number, |asks| asks == Asks::Feeds);
            let released = self.strongest(*number, |asks| asks != Asks::Feeds) == Some(Verdict::Release);
            let step = &mut self.steps[*number];
            if matches!(source, None | Some(Verdict::Wait)) && released && step.delay == 0 && !step.rows.is_empty() {
                (step.begun, step.state) = (true, State::Running);
            }
        }
        self.is_at_work_again();
        taken
    }

    /// A person skips a job, or all of a step, whatever has not succeeded. Returns how many.
    pub fn skip(&mut self, number: usize, only: Option<usize>) -> usize {
        let step = &mut self.steps[number];
        let (settled, untouched) = (step.state > State::Running, step.is_untouched());
        let rows = step.rows.iter_mut().enumerate().filter(|(index, _)| only.is_none_or(|only| only == *index));
        let left = rows.filter(|(_, row)| !matches!(row.job, Job::Succeeded | Job::Skipped | Job::Behind));
        let jobs = left.map(|(_, row)| (row.job, row.lease) = (Job::Skipped, None)).count();
        if jobs == 0 {
            return 0;
        }
        step.passed_over |= untouched && only.is_none();
        if !untouched {
            step.reopened();
        }
        self.outdate_after(&[number][..usize::from(settled)]);
        self.is_at_work_again();
        jobs
    }
}

impl Step {
    /// Part of it has been repaired: what has failed besides is forgiven, and what was cancelled for it runs again.
    fn reopened(&mut self) {
        (self.state, self.exceeded, self.forgiven) = (State::Running, false, self.count(Job::Failed));
        let rest = self.rows.iter_mut().filter(|row| row.job == Job::Cancelled && self.policy == Policy::FailFast);
        rest.for_each(|row| *row = Row::new());
    }
}

impl Row {
    /// It waits for its workflow, which somebody has repaired; or for the batch with which it came.
    pub fn waiting() -> Self {
        Self { job: Job::Deferred, attempts: 1, ..Self::new() }
    }
}
