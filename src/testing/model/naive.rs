//! What a store should do, written as plainly as possible: one workflow as lists of jobs, every rule applied from scratch after each
//! change, nothing stored that can be computed, no bounds, no chores. It shares no code with the stores.

macro_rules! words {
    ($($(#[$meaning:meta])+ $name:ident { $($word:tt)+ })+) => {
        $($(#[$meaning])+ #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)] pub enum $name { $($word)+ })+
    };
}
words! {
    /// Where a job stands; the next attempt of one that is retrying may begin between these two times; `Behind` one that did not succeed it is skipped.
    Job { Open, Retrying(i64, i64), Deferred, Succeeded, Failed, Skipped, Cancelled, Behind }
    /// Where a step stands.
    State { Waiting, Running, Succeeded, Failed, Skipped, Cancelled }
    /// Where a workflow stands.
    Phase { Pending, Running, Paused, Cancelling, Succeeded, Failed, Cancelled }
    /// What an edge asks; `Feeds` comes from the source that feeds the step, `Grows` from the batch whose jobs the step has, and `Death` is for
    /// the first of these that fails. `Chains` comes from the step whose jobs those of the step go on from, one to one.
    Asks { Success, Settled, Failure, Always, Feeds, When, Unless, Grows, Death, Chains }
    /// Whether a batch is held open.
    Batch { Open, Closed, Abandoned }
    /// What an edge comes to; of several the last in this order decides.
    Verdict { Release, Skip, Wait, Cancel }
    /// What a step does once more of its jobs have failed than it tolerates.
    Policy { RunOn, FailFast, Pause }
}

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
    pub policy: Policy,
    /// It has done so; so many that had failed before do not count.
    pub exceeded: bool,
    pub forgiven: usize,
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
    /// How often something of it that had succeeded was taken back; whether something that it ran after has been repaired since.
    pub generation: u32,
    pub outdated: bool,
}

#[derive(Clone, Debug)]
pub struct Workflow {
    pub steps: Vec<Step>,
    pub phase: Phase,
    pub started: bool,
    /// Of a batch: its first step stands for it, then come its callbacks, then steps to which jobs are added.
    pub batch: Option<Batch>,
}

impl Row {
    pub fn new() -> Self {
        Self { job: Job::Open, attempts: 0, lease: None, deaths: 0, alone: 0 }
    }

    pub fn is_final(&self) -> bool {
        self.job > Job::Deferred
    }

    /// Whether it is suspected of killing its workers.
    pub fn is_suspect(&self) -> bool {
        self.deaths > 1
    }
}

impl Step {
    /// A step of a batch.
    pub fn growing() -> Self {
        Self {
            rows: Vec::new(),
            edges: vec![(0, Asks::Grows)],
            feeds: None,
            always: false,
            tolerates: 0,
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
            generation: 0,
            outdated: false,
        }
    }

    pub fn leased(&self) -> usize {
        self.rows.iter().filter(|row| row.lease.is_some()).count()
    }

    pub fn count(&self, job: Job) -> usize {
        self.rows.iter().filter(|row| row.job == job).count()
    }

    /// Whether it has run to its end; whether it still waits for its edges to say what becomes of it.
    pub fn has_run(&self) -> bool {
        self.begun && self.state > State::Running
    }

    pub fn is_untouched(&self) -> bool {
        self.state == State::Waiting && !self.begun && !self.passed_over
    }

    /// What it has settled as, if every job of it is final.
    fn outcome(&self, skip: bool) -> Option<State> {
        self.rows.iter().all(Row::is_final).then(|| match self.rows.len() {
            0 if self.passed_over && skip => State::Skipped,
            0 if self.passed_over => State::Cancelled,
            _ if self.count(Job::Failed) > self.tolerates => State::Failed,
            _ if self.count(Job::Cancelled) > 0 => State::Cancelled,
            jobs if jobs > 0 && self.count(Job::Skipped) + self.count(Job::Behind) == jobs => State::Skipped,
            _ => State::Succeeded,
        })
    }

    /// Its policy acts, if it has to (it is open while its source may emit more); or, if it waits, its job comes to this: released, or
    /// repaired, between these two times.
    fn go_on(&mut self, open: bool, since: i64, now: i64) {
        let Some((time, then)) = self.waits else {
            let exceeds = self.count(Job::Failed) > self.tolerates + self.forgiven && self.policy != Policy::RunOn;
            self.exceeded |= exceeds && (open || !self.rows.iter().all(Row::is_final));
            let fails_fast = self.exceeded && self.policy == Policy::FailFast;
            return if fails_fast {
                self.end_rest(Job::Cancelled)
            };
        };
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

fn verdict(upstream: &Step, asks: Asks) -> Option<Verdict> {
    use {Asks as A, State as S, Verdict as V};
    Some(match upstream.state {
        S::Waiting | S::Running => return None,
        S::Cancelled if asks != A::Always => V::Cancel,
        _ if asks == A::Death => V::Skip,
        _ if asks == A::Grows => V::Release,
        S::Skipped if matches!(asks, A::Feeds | A::When | A::Chains) || asks == A::Unless && upstream.passed_over => {
            V::Skip
        }
        S::Succeeded if asks == A::Unless => V::Skip,
        S::Succeeded | S::Skipped if asks == A::Failure => V::Skip,
        S::Failed if matches!(asks, A::Success | A::Feeds | A::When | A::Unless | A::Chains) => V::Wait,
        S::Succeeded | S::Skipped | S::Failed | S::Cancelled => V::Release,
    })
}

impl Workflow {
    /// Whether its jobs are handed out at all.
    fn hands_out(&self, step: &Step) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Running) || self.phase == Phase::Cancelling && step.always
    }

    /// Whether what runs of a step is to come to its end.
    pub fn stops(&self, step: usize) -> bool {
        let step = &self.steps[step];
        self.phase == Phase::Cancelling && !step.always || step.exceeded && step.policy == Policy::FailFast
    }

    /// Whether a job may be handed out now.
    pub fn may_run(&self, step: usize, index: usize, now: i64) -> bool {
        let goes_on = self.goes_on(step, index);
        let (step, row) = (&self.steps[step], &self.steps[step].rows[index]);
        let due = row.job == Job::Open || matches!(row.job, Job::Retrying(earliest, _) if now >= earliest);
        let released = step.state == State::Running && step.due.0 <= now && !step.exceeded;
        due && row.lease.is_none() && released && goes_on && self.hands_out(step)
    }

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
    fn look_at_chain(&mut self, number: usize, up: usize) -> bool {
        let (others, source) =
            (self.strongest(number, |asks| asks != Asks::Chains), self.strongest(number, |asks| asks == Asks::Chains));
        let before: Vec<Job> = self.steps[up].rows.iter().map(|row| row.job).collect();
        let (cancelling, up) = (self.phase == Phase::Cancelling, self.steps[up].state);
        let step = &mut self.steps[number];
        if step.passed_over || step.state > State::Running {
            return false;
        }
        let mut changed = false;
        for (row, before) in step.rows.iter_mut().zip(&before) {
            let job = match (row.job, *before) {
                (Job::Behind, Job::Succeeded) => Job::Open,
                (Job::Open, before) if before > Job::Succeeded && up == State::Succeeded => Job::Behind,
                (job, _) => job,
            };
            changed |= std::mem::replace(&mut row.job, job) != job;
        }
        let going = step.rows.iter().zip(&before).any(|(row, before)| !row.is_final() && *before == Job::Succeeded);
        let open = matches!(source, None | Some(Verdict::Wait));
        let stands = matches!(up, State::Waiting | State::Failed) && open && !cancelling;
        let released = step.begun || others == Some(Verdict::Release);
        let state = match step.state {
            State::Waiting if going && open && released && !cancelling => State::Running,
            State::Running if !going && stands => State::Waiting,
            state => state,
        };
        step.begun |= state == State::Running;
        changed |= std::mem::replace(&mut step.state, state) != state;
        changed
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

    /// A source's job has emitted so many jobs: they may run at once, unless their step has a delay or waits for others, too.
    pub fn emitted(&mut self, step: usize, jobs: usize) {
        let Some(number) = self.steps[step].feeds.filter(|_| jobs > 0) else { return };
        let others = self.strongest(number, |asks| asks != Asks::Feeds);
        let fed = &mut self.steps[number];
        if self.phase == Phase::Cancelling && !fed.always || fed.state > State::Running || fed.passed_over {
            return;
        }
        fed.rows.extend((0..jobs).map(|_| Row::new()));
        fed.begun |= fed.delay == 0 && others == Some(Verdict::Release);
        fed.state = if fed.begun { State::Running } else { fed.state };
        self.lengthen_chains();
    }

    pub fn grows(&self, step: usize) -> bool {
        self.steps[step].edges.iter().any(|(_, asks)| *asks == Asks::Grows)
    }

    /// Whether jobs may still be added from outside.
    pub fn takes_jobs(&self) -> bool {
        self.batch.is_some() && self.phase < Phase::Cancelling && !self.steps[0].rows[0].is_final()
    }

    /// So many jobs come to a step of a batch, which is new if it has that number; the callbacks wait for it, too.
    pub fn added(&mut self, number: usize, jobs: usize) {
        if number == self.steps.len() {
            self.steps.push(Step::growing());
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

    /// Nobody holds a batch open, and all of its jobs are final; or the first of them has failed.
    fn look_at_batch(&mut self) {
        let jobs = || (0..self.steps.len()).filter(|step| self.grows(*step)).flat_map(|step| &self.steps[step].rows);
        let (over, death) = (jobs().all(Row::is_final), jobs().any(|row| row.job == Job::Failed));
        let (closed, abandoned) = (self.batch == Some(Batch::Closed), self.batch == Some(Batch::Abandoned));
        if over && self.phase < Phase::Cancelling && closed | abandoned && self.steps[0].rows[0].job == Job::Deferred {
            (self.steps[0].signalled, self.steps[0].due.1) = (closed, 0);
        }
        let on_death = |step: &&mut Step| step.edges.iter().any(|edge| edge.1 == Asks::Death) && !step.passed_over;
        let at_work = self.phase < Phase::Cancelling && death;
        for step in self.steps.iter_mut().filter(on_death).filter(|step| at_work && !step.begun) {
            (step.state, step.begun) = (State::Running, true);
        }
    }

    /// What the edges into a step come to together, or some of them; nothing, if that is open.
    pub fn strongest(&self, step: usize, which: impl Fn(Asks) -> bool) -> Option<Verdict> {
        let edges = self.steps[step].edges.iter().filter(|(_, asks)| which(*asks));
        let verdicts: Option<Vec<_>> = edges.map(|(up, asks)| verdict(&self.steps[*up], *asks)).collect();
        verdicts.map(|verdicts| verdicts.into_iter().max().unwrap_or(Verdict::Release))
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

    /// A signal is given to a step that waits for one; whether it is taken.
    pub fn signal(&mut self, number: usize) -> bool {
        let step = &self.steps[number];
        let at_work = self.hands_out(step) || self.phase == Phase::Paused;
        let taken = at_work && step.state <= State::Running && !step.passed_over && !step.signalled;
        self.steps[number].signalled |= taken;
        taken
    }

    pub fn cancel(&mut self) {
        self.phase = Phase::Cancelling;
        for step in self.steps.iter_mut().filter(|step| !step.always && step.state <= State::Running) {
            step.passed_over |= step.state == State::Waiting;
            step.end_rest(Job::Cancelled);
        }
    }

    /// Applies every rule until nothing changes any more. What has happened did so between these two times.
    pub fn settle(&mut self, since: i64, now: i64) {
        // What was due once stays due, whatever the clock does.
        let seen = |time: i64| if time <= now { 0 } else { time };
        for step in &mut self.steps {
            step.due = (seen(step.due.0), seen(step.due.1));
            for row in &mut step.rows {
                if let Job::Retrying(earliest, latest) = row.job {
                    row.job = if latest <= now { Job::Open } else { Job::Retrying(seen(earliest), latest) };
                }
            }
        }
        self.look_at_batch();
        while self.settle_one(since, now) {
            self.look_at_batch();
        }
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
            let before = self.before(number);
            if before.is_some_and(|up| self.look_at_chain(number, up)) {
                return true;
            }
            let held = |asks| matches!(asks, Asks::Feeds | Asks::Grows | Asks::Chains);
            let strongest = self.strongest(number, |asks| !begun || held(asks));
            let (phase, step) = (self.phase, &mut self.steps[number]);
            // Nothing will be repaired in a cancelled workflow.
            let overruled = |asked: &Verdict| phase == Phase::Cancelling && (!step.always || *asked == Verdict::Wait);
            let strongest = strongest.map(|asked| if overruled(&asked) { Verdict::Cancel } else { asked });
            let (skip, open) = (strongest == Some(Verdict::Skip), matches!(strongest, None | Some(Verdict::Wait)));
            match step.state {
                State::Waiting if step.passed_over => step.end_rest(Job::Cancelled),
                State::Waiting if open => continue,
                State::Waiting if strongest == Some(Verdict::Release) => {
                    (step.state, step.begun) = (State::Running, true);
                    step.due = if step.delay > 0 { (since + step.delay, now + step.delay) } else { (0, 0) };
                    return true;
                }
                State::Waiting => {
                    step.passed_over = true;
                    step.end_rest(if skip { Job::Skipped } else { Job::Cancelled });
                }
                State::Running => step.go_on(open, since, now),
                _ => continue,
            }
            // While its source may emit more it does not settle. Once that has failed it waits, with what it has, for the repair of that.
            let fed = step.state == State::Running && open;
            if fed && before.is_some() {
                continue;
            }
            if let Some(outcome) = step.outcome(skip).filter(|_| !fed || strongest.is_some()) {
                (step.state, step.exceeded) = (if fed { State::Waiting } else { outcome }, fed && step.exceeded);
                return true;
            }
        }
        false
    }
}
