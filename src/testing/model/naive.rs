//! What a store should do, written as plainly as possible: one workflow as lists of jobs, every rule applied from scratch after each
//! change, nothing stored that can be computed, no bounds, no chores. It shares no code with the stores.

/// Where a job stands; the next attempt of one that is retrying may begin between these two times.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job { Open, Retrying(i64, i64), Deferred, Succeeded, Failed, Skipped, Cancelled }

/// Where a step stands.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State { Waiting, Running, Succeeded, Failed, Skipped, Cancelled }

/// Where a workflow stands.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase { Pending, Running, Paused, Cancelling, Succeeded, Failed, Cancelled }

/// What an edge asks; `Feeds` comes from the source that feeds the step.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks { Success, Settled, Failure, Always, Feeds }

/// What an edge comes to; of several the last in this order decides.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict { Release, Skip, Wait, Cancel }

#[derive(Clone, Debug)]
pub struct Row {
    pub job: Job,
    pub attempts: u8,
    /// Under which lease it is: the number of a worker and its lease.
    pub lease: Option<(usize, u64)>,
    /// How often its worker died; how often with nothing beside it.
    pub deaths: u32,
    pub alone: u32,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub rows: Vec<Row>,
    pub edges: Vec<(usize, Asks)>,
    pub feeds: Option<usize>,
    pub always: bool,
    pub tolerates: usize,
    pub limit: usize,
    pub max_deaths: u32,
    pub delay: i64,
    pub state: State,
    /// Released, perhaps by its source's first jobs; from then on only its source is asked.
    pub begun: bool,
    /// Skipped or cancelled without having been released.
    pub passed_over: bool,
    /// When its delay, or its wait, is over: between these two times.
    pub due: (i64, i64),
    /// Its one job waits for so long at most, and then comes to this; or until its signal has come.
    pub waits: Option<(i64, Job)>,
    pub signalled: bool,
}

#[derive(Clone, Debug)]
pub struct Workflow {
    pub steps: Vec<Step>,
    pub phase: Phase,
    pub started: bool,
}

impl Row {
    pub fn new() -> Self {
        Self { job: Job::Open, attempts: 0, lease: None, deaths: 0, alone: 0 }
    }

    pub fn is_final(&self) -> bool {
        !matches!(self.job, Job::Open | Job::Retrying(..) | Job::Deferred)
    }

    /// Whether it is suspected of killing its workers.
    pub fn is_suspect(&self) -> bool {
        self.deaths > 1
    }
}

impl Step {
    pub fn is_settled(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Running)
    }

    pub fn leased(&self) -> usize {
        self.rows.iter().filter(|row| row.lease.is_some()).count()
    }

    /// What it has settled as, if every job of it is final.
    fn outcome(&self, skip: bool) -> Option<State> {
        let count = |job| self.rows.iter().filter(|row| row.job == job).count();
        self.rows.iter().all(Row::is_final).then(|| match self.rows.len() {
            0 if self.passed_over && skip => State::Skipped,
            0 if self.passed_over => State::Cancelled,
            _ if count(Job::Failed) > self.tolerates => State::Failed,
            _ if count(Job::Cancelled) > 0 => State::Cancelled,
            jobs if jobs > 0 && count(Job::Skipped) == jobs => State::Skipped,
            _ => State::Succeeded,
        })
    }

    /// What its job comes to, if it waits: released, or repaired, between these two times.
    fn wait(&mut self, since: i64, now: i64) {
        let Some((time, then)) = self.waits else { return };
        match self.rows[0].job {
            Job::Open | Job::Deferred if self.signalled => self.rows[0].job = Job::Succeeded,
            Job::Open => (self.rows[0].job, self.due) = (Job::Deferred, (since + time, now + time)),
            Job::Deferred if self.due.1 == 0 => self.rows[0].job = then,
            _ => {}
        }
    }

    /// Ends every job that is neither final nor running.
    fn end_rest(&mut self, as_: Job) {
        self.rows.iter_mut().filter(|row| !row.is_final() && row.lease.is_none()).for_each(|row| row.job = as_);
    }
}

fn verdict(upstream: State, asks: Asks) -> Option<Verdict> {
    use {Asks as A, State as S, Verdict as V};
    Some(match upstream {
        S::Waiting | S::Running => return None,
        S::Skipped if asks == A::Feeds => V::Skip,
        S::Succeeded | S::Skipped if asks == A::Failure => V::Skip,
        S::Failed if asks == A::Success || asks == A::Feeds => V::Wait,
        S::Cancelled if asks != A::Always => V::Cancel,
        S::Succeeded | S::Skipped | S::Failed | S::Cancelled => V::Release,
    })
}

impl Workflow {
    /// Whether its jobs are handed out at all.
    fn hands_out(&self, step: &Step) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Running) || self.phase == Phase::Cancelling && step.always
    }

    /// Whether a job may be handed out now.
    pub fn may_run(&self, step: usize, index: usize, now: i64) -> bool {
        let step = &self.steps[step];
        let row = &step.rows[index];
        let due = row.job == Job::Open || matches!(row.job, Job::Retrying(earliest, _) if now >= earliest);
        due && row.lease.is_none() && step.state == State::Running && step.due.0 <= now && self.hands_out(step)
    }

    /// Whether a job should be handed out to who asks for everything.
    pub fn must_run(&self, step: usize, index: usize, now: i64, alone: bool) -> bool {
        let row = &self.steps[step].rows[index];
        let open = !matches!(row.job, Job::Retrying(_, latest) if now < latest);
        let room = self.steps[step].leased() < self.steps[step].limit;
        let delayed = self.steps[step].due.1 > now;
        self.may_run(step, index, now) && open && room && !delayed && (!row.is_suspect() || alone)
    }

    pub fn claimed(&mut self, step: usize, index: usize, lease: (usize, u64)) {
        let row = &mut self.steps[step].rows[index];
        row.job = Job::Open;
        row.lease = Some(lease);
        self.phase = if self.phase == Phase::Pending { Phase::Running } else { self.phase };
        self.started = true;
    }

    /// An attempt has ended; `None`: it does not count, and the job goes back.
    pub fn reported(&mut self, step: usize, index: usize, ended: Option<Job>) {
        let stops = self.phase == Phase::Cancelling && !self.steps[step].always;
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

    /// A source's job has emitted so many jobs: they may run at once, unless their step has a delay or waits for others, too.
    pub fn emitted(&mut self, step: usize, jobs: usize) {
        let Some(number) = self.steps[step].feeds.filter(|_| jobs > 0) else { return };
        let others = self.strongest(number, |asks| asks != Asks::Feeds);
        let fed = &mut self.steps[number];
        if self.phase == Phase::Cancelling && !fed.always || fed.is_settled() || fed.passed_over {
            return;
        }
        fed.rows.extend((0..jobs).map(|_| Row::new()));
        fed.begun |= fed.delay == 0 && others == Some(Verdict::Release);
        fed.state = if fed.begun { State::Running } else { fed.state };
    }

    /// What the edges into a step come to together, or some of them; nothing, if that is open.
    fn strongest(&self, step: usize, which: impl Fn(Asks) -> bool) -> Option<Verdict> {
        let edges = self.steps[step].edges.iter().filter(|(_, asks)| which(*asks));
        let verdicts: Option<Vec<_>> = edges.map(|(up, asks)| verdict(self.steps[*up].state, *asks)).collect();
        verdicts.map(|verdicts| verdicts.into_iter().max().unwrap_or(Verdict::Release))
    }

    /// The worker of a lease died, with these jobs of a step unreported.
    pub fn died(&mut self, step: usize, jobs: &[usize]) {
        let stops = self.phase == Phase::Cancelling && !self.steps[step].always;
        let max_deaths = self.steps[step].max_deaths;
        let single = jobs.len() == 1;
        for index in jobs {
            let row = &mut self.steps[step].rows[*index];
            row.lease = None;
            if stops {
                row.job = Job::Cancelled;
                continue;
            }
            row.alone = if single { row.alone + u32::from(row.is_suspect()) } else { 0 };
            row.deaths += 1;
            if single && row.alone >= max_deaths {
                row.job = Job::Failed;
            }
        }
    }

    /// A signal is given to a step that waits for one; whether it is taken.
    pub fn signal(&mut self, number: usize) -> bool {
        let step = &self.steps[number];
        let at_work = self.hands_out(step) || self.phase == Phase::Paused;
        let taken = at_work && !step.is_settled() && !step.passed_over && !step.signalled;
        self.steps[number].signalled |= taken;
        taken
    }

    pub fn cancel(&mut self) {
        self.phase = Phase::Cancelling;
        for step in self.steps.iter_mut().filter(|step| !step.always && !step.is_settled()) {
            step.passed_over |= step.state == State::Waiting;
            step.end_rest(Job::Cancelled);
        }
    }

    /// Failed jobs run again, of one step or of all.
    pub fn retry(&mut self, only: Option<usize>) {
        for (number, step) in self.steps.iter_mut().enumerate() {
            let failed = step.rows.iter().any(|row| row.job == Job::Failed);
            if failed && only.is_none_or(|only| only == number) {
                step.state = State::Running;
                step.rows.iter_mut().filter(|row| row.job == Job::Failed).for_each(|row| *row = Row::new());
                let over = matches!(self.phase, Phase::Succeeded | Phase::Failed);
                self.phase = if over { Phase::Running } else { self.phase };
            }
        }
    }

    /// Applies every rule until nothing changes any more. What has happened did so between these two times.
    pub fn settle(&mut self, since: i64, now: i64) {
        // What was due once stays due, whatever the clock does.
        let seen = |time: i64| if time <= now { 0 } else { time };
        for step in &mut self.steps {
            step.due = (seen(step.due.0), seen(step.due.1));
            for row in &mut step.rows {
                row.job = match row.job {
                    Job::Retrying(_, latest) if latest <= now => Job::Open,
                    Job::Retrying(earliest, latest) => Job::Retrying(seen(earliest), latest),
                    job => job,
                };
            }
        }
        while self.settle_one(since, now) {}
        let over = !self.steps.iter().any(|step| step.state == State::Running);
        let unsettled = self.steps.iter().any(|step| matches!(step.state, State::Waiting | State::Failed));
        self.phase = match self.phase {
            Phase::Cancelling if over => Phase::Cancelled,
            Phase::Pending | Phase::Running | Phase::Paused if over && unsettled => Phase::Failed,
            Phase::Pending | Phase::Running | Phase::Paused if over => Phase::Succeeded,
            phase => phase,
        };
    }

    fn settle_one(&mut self, since: i64, now: i64) -> bool {
        for number in 0..self.steps.len() {
            let begun = self.steps[number].begun;
            let strongest = self.strongest(number, |asks| !begun || asks == Asks::Feeds);
            let cancelling = self.phase == Phase::Cancelling;
            let step = &mut self.steps[number];
            let mut skip = false;
            match (step.state, strongest) {
                (State::Waiting, _) if step.passed_over => step.end_rest(Job::Cancelled),
                (State::Running, Some(Verdict::Wait)) if !cancelling => {
                    // Its source has failed: with nothing more to do it waits for the repair of that.
                    step.state = if step.rows.iter().all(Row::is_final) { State::Waiting } else { continue };
                    return true;
                }
                (_, None) => continue,
                (State::Waiting, Some(strongest)) => {
                    let wait = strongest == Verdict::Wait;
                    if strongest == Verdict::Cancel || cancelling && (!step.always || wait) {
                        step.passed_over = true;
                        step.end_rest(Job::Cancelled);
                    } else if wait {
                        continue;
                    } else if strongest == Verdict::Skip {
                        (step.passed_over, skip) = (true, true);
                        step.end_rest(Job::Skipped);
                    } else {
                        (step.state, step.begun) = (State::Running, true);
                        step.due = if step.delay > 0 { (since + step.delay, now + step.delay) } else { (0, 0) };
                        return true;
                    }
                }
                (State::Running, _) => step.wait(since, now),
                _ => continue,
            }
            if let Some(outcome) = step.outcome(skip) {
                step.state = outcome;
                return true;
            }
        }
        false
    }
}
