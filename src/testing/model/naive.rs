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
    /// A signal ends a wait, or its time; a sleep is over some time after its step's release; or a certain time ends it.
    Wait { Signal, Sleep, Until }
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
    /// What its jobs emit is there at once.
    pub eager: bool,
    pub always: bool,
    /// So many may fail; or this share of them, in hundredths.
    pub tolerates: usize,
    pub share: usize,
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
    pub waits: Option<(Wait, i64, Job)>,
    pub signalled: bool,
    /// Its jobs stand for workflows: one whose workflow is at work is deferred.
    pub children: bool,
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
    /// A job of a batch within it has failed for good.
    pub death_within: bool,
    /// The job for which it stands: workflow, step, index; whether that knows how it has ended.
    pub parent: Option<(usize, usize, usize)>,
    pub told: bool,
    /// Steps that have just failed fast.
    pub stopped: Vec<usize>,
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
            _ if self.count(Job::Failed) > self.tolerated() => State::Failed,
            _ if self.count(Job::Cancelled) > 0 => State::Cancelled,
            jobs if jobs > 0 && self.count(Job::Skipped) + self.count(Job::Behind) == jobs => State::Skipped,
            _ => State::Succeeded,
        })
    }

    /// Its policy acts, if it has to (it is open while its source may emit more); or, if it waits, its job comes to this: released, or
    /// repaired, between these two times.
    fn go_on(&mut self, open: bool, since: i64, now: i64) {
        let Some((wait, time, then)) = self.waits else { return self.act_on_failures(open) };
        let (since, now) = if wait == Wait::Until { (0, 0) } else { (since, now) };
        match self.rows[0].job {
            Job::Open | Job::Deferred if self.signalled => self.rows[0].job = Job::Succeeded,
            Job::Open => (self.rows[0].job, self.due) = (Job::Deferred, (since + time, now + time)),
            Job::Deferred if self.due.1 == 0 => self.rows[0].job = then,
            _ => {}
        }
    }

    /// Ends every job that is neither final nor running, nor ends with its workflow.
    pub fn end_rest(&mut self, as_: Job) {
        let children = self.children;
        let goes_on = |row: &Row| row.lease.is_some() || children && row.job == Job::Deferred;
        self.rows.iter_mut().filter(|row| !row.is_final() && !goes_on(row)).for_each(|row| row.job = as_);
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
    pub fn hands_out(&self, step: &Step) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Running) || self.phase == Phase::Cancelling && step.always
    }

    /// Whether what runs of a step is to come to its end.
    pub fn stops(&self, step: usize) -> bool {
        let step = &self.steps[step];
        self.phase == Phase::Cancelling && !step.always || step.exceeded && step.policy == Policy::FailFast
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

    /// What the edges into a step come to together, or some of them; nothing, if that is open.
    pub fn strongest(&self, step: usize, which: impl Fn(Asks) -> bool) -> Option<Verdict> {
        let edges = self.steps[step].edges.iter().filter(|(_, asks)| which(*asks));
        let verdicts: Option<Vec<_>> = edges.map(|(up, asks)| verdict(&self.steps[*up], *asks)).collect();
        verdicts.map(|verdicts| verdicts.into_iter().max().unwrap_or(Verdict::Release))
    }

    /// A signal is given to a step that waits for one; whether it is taken.
    pub fn signal(&mut self, number: usize) -> bool {
        let step = &self.steps[number];
        let at_work = self.hands_out(step) || self.phase == Phase::Paused;
        let waits = step.waits.is_some_and(|(wait, ..)| wait == Wait::Signal);
        let taken = at_work && waits && step.state <= State::Running && !step.passed_over && !step.signalled;
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
        while self.settle_one(since, now) | self.look_at_batch() {}
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
                State::Running => {
                    let exceeded = step.exceeded;
                    step.go_on(open, since, now);
                    if step.exceeded && !exceeded && step.policy == Policy::FailFast {
                        self.stopped.push(number);
                    }
                }
                _ => continue,
            }
            let step = &mut self.steps[number];
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
