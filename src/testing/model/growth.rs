//! What a store should do with batches: the naive model's part of it.

use super::naive::{Asks, Batch, Job, Phase, Policy, Row, State, Step, Workflow};

impl Step {
    /// A step of a batch.
    pub fn growing() -> Self {
        Self {
            rows: Vec::new(),
            edges: vec![(0, Asks::Grows)],
            feeds: None,
            eager: false,
            always: false,
            tolerates: 0,
            share: 0,
            policy: Policy::RunOn,
            exceeded: false,
            forgiven: 0,
            limit: usize::MAX,
            max_deaths: 3,
            delay: 0,
            state: State::Waiting,
            begun: false,
            passed_over: false,
            due: (0, 0),
            waits: None,
            signalled: false,
            children: false,
            generation: 0,
            outdated: false,
        }
    }
}

impl Workflow {
    pub fn grows(&self, step: usize) -> bool {
        self.steps[step].edges.iter().any(|(_, asks)| *asks == Asks::Grows)
    }

    /// Whether jobs may still be added from outside.
    pub fn takes_jobs(&self) -> bool {
        self.batch.is_some() && self.phase < Phase::Cancelling && !self.steps[0].rows[0].is_final()
    }

    /// So many jobs come to a step of a batch, which is new if it has that number, and then like this; the callbacks wait for it, too.
    pub fn added(&mut self, number: usize, jobs: usize, like: Step) {
        if number == self.steps.len() {
            self.steps.push(like);
            let callbacks = self.steps.iter_mut().filter(|step| !step.begun && !step.passed_over);
            for callback in callbacks.filter(|step| step.edges.iter().any(|edge| edge.0 == 0 && edge.1 < Asks::Grows)) {
                let asks = callback.edges[0].1;
                callback.edges.push((number, asks));
            }
        }
        let step = &mut self.steps[number];
        step.rows.extend((0..jobs).map(|_| Row::new()));
        (step.state, step.begun) = (State::Running, true);
    }

    /// Whether a job of a batch has failed for good, or of one within it.
    pub fn has_death(&self) -> bool {
        let failed = |step: usize| self.grows(step) && self.steps[step].count(Job::Failed) > 0;
        self.death_within || (0..self.steps.len()).any(failed)
    }

    /// Nobody holds a batch open, and all of its jobs are final; or the first of them has failed. Returns whether that is new.
    pub fn look_at_batch(&mut self) -> bool {
        let jobs = || (0..self.steps.len()).filter(|step| self.grows(*step)).flat_map(|step| &self.steps[step].rows);
        let (over, death) = (jobs().all(Row::is_final), self.has_death());
        let (closed, abandoned) = (self.batch == Some(Batch::Closed), self.batch == Some(Batch::Abandoned));
        let waits_for_jobs =
            closed | abandoned && self.steps[0].rows[0].job == Job::Deferred && self.steps[0].due.1 > 0;
        let mut is_new = over && self.phase < Phase::Cancelling && waits_for_jobs;
        if is_new {
            (self.steps[0].signalled, self.steps[0].due.1) = (closed, 0);
        }
        let on_death = |step: &&mut Step| step.edges.iter().any(|edge| edge.1 == Asks::Death) && !step.passed_over;
        let at_work = self.phase < Phase::Cancelling && death;
        for step in self.steps.iter_mut().filter(on_death).filter(|step| at_work && !step.begun) {
            (step.state, step.begun) = (State::Running, true);
            is_new = true;
        }
        is_new
    }
}
