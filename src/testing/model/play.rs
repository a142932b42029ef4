//! One game: random operations on a store and on the model side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dice::Dice;
use super::naive::{Job, Phase, State, Workflow};
use super::plan::{Size, TYPES, chunks, random_workflow};
use crate::clock::{Clock, Millis};
use crate::id::{SessionId, WorkflowId};
use crate::slice::Mask;
use crate::store::{
    Append, Claim, Claimed, DraftKey, DraftOf, LeaseReport, Part, Renew, Report, RetryFailed, Session, Slice, Store,
    Take, Tick, error_number,
};

/// The length of every lease of a game.
pub const LEASE: Millis = 1_000;
/// Time goes by in such steps while somebody looks.
const STEP: Millis = 100;
/// The waits before a retry.
const WAITS: [Millis; 3] = [300, 2_000, 60_000];

/// After how many of a hundred operations every single job is compared, which costs more than all else.
const JOBS_COMPARED: usize = 20;

/// What is wrong, in a sentence.
pub type Verdict<T = ()> = Result<T, String>;

/// A slice in a worker's hands.
#[derive(Clone, Debug)]
struct Held {
    workflow: usize,
    step: usize,
    first: usize,
    jobs: Mask,
    reports: u64,
}

/// A worker of the game.
#[derive(Debug)]
struct Hand {
    session: SessionId,
    last_lease: u64,
    last_draft: u64,
    held: BTreeMap<u64, Held>,
}

/// A game.
pub struct Game {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub dice: Dice,
    pub models: Vec<Workflow>,
    pub ids: Vec<WorkflowId>,
    hands: Vec<Hand>,
    client: Session,
    commands: u64,
    /// Reports under leases that the store has taken back, with the sessions that held them.
    late: Vec<(SessionId, LeaseReport)>,
    /// What was done, for who reads a failure.
    pub moves: Vec<String>,
}

impl Game {
    /// Sets a game up: some workflows and two or three workers.
    pub async fn new(store: Arc<dyn Store>, clock: Clock, seed: u64, size: Size) -> Verdict<Self> {
        let mut dice = Dice::new(seed);
        let client = session(&mut dice, false);
        let mut game = Self {
            store,
            clock,
            models: Vec::new(),
            ids: Vec::new(),
            hands: Vec::new(),
            client,
            commands: 0,
            late: Vec::new(),
            moves: Vec::new(),
            dice,
        };
        for _ in 0..2 + game.dice.below(2) {
            let hand = game.new_hand().await?;
            game.hands.push(hand);
        }
        for _ in 0..1 + game.dice.below(size.workflows) {
            let (model, create) = random_workflow(&mut game.dice, size, game.clock.now());
            let id = create.workflow.id;
            game.say(|| format!("create {}: {}", game_name(&model), model.steps.len()));
            sure(game.store.create(create.clone()).await)?;
            if game.dice.chance(20) {
                let again = sure(game.store.create(create).await)?;
                ensure(again.existed, || "a workflow created twice is told to be new".into())?;
            }
            game.models.push(model);
            game.ids.push(id);
        }
        game.settle(game.clock.now()).await?;
        Ok(game)
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        let time = self.clock.now();
        self.moves.push(format!("{time} {}", what()));
    }

    async fn new_hand(&mut self) -> Verdict<Hand> {
        let session = session(&mut self.dice, true);
        sure(self.store.join(session.clone()).await)?;
        Ok(Hand { session: session.id, last_lease: 0, last_draft: 0, held: BTreeMap::new() })
    }

    /// One random operation.
    pub async fn play(&mut self) -> Verdict {
        let since = self.clock.now();
        match self.dice.below(100) {
            0..=33 => self.claim_some().await?,
            34..=64 => self.report_some().await?,
            65..=72 => self.time_goes_by().await?,
            73..=77 => self.worker_dies().await?,
            78..=79 => self.worker_leaves().await?,
            80..=82 => self.clock_jumps().await?,
            83..=85 => self.report_late().await?,
            86..=87 => self.leave_a_draft().await?,
            88..=93 => self.command().await?,
            _ => self.renew_all().await?,
        }
        self.settle(since).await
    }

    /// Works off what is due, and applies the model's rules.
    pub async fn settle(&mut self, since: Millis) -> Verdict {
        for _ in 0..10_000 {
            if !sure(self.store.tick(Tick { lease: LEASE }).await)?.more {
                for model in &mut self.models {
                    model.settle(since, self.clock.now());
                }
                let jobs = self.dice.chance(JOBS_COMPARED);
                return self.compare(jobs).await;
            }
        }
        Err("ticks find something due for ever".into())
    }

    /// A claim of a random worker.
    async fn claim_some(&mut self) -> Verdict {
        let hand = self.dice.below(self.hands.len());
        let greedy = self.dice.chance(30);
        let (jobs, leases) = if greedy { (1024, 16) } else { (1 + self.dice.below(6), 1 + self.dice.below(4)) };
        self.claim(hand, jobs as u32, leases as u32).await.map(|_| ())
    }

    /// Claims for a worker; returns how many slices it got.
    pub async fn claim(&mut self, hand: usize, jobs: u32, leases: u32) -> Verdict<usize> {
        let claim = self.wish(hand, jobs, leases);
        let claimed = sure(self.store.claim(claim.clone()).await)?;
        self.say(|| format!("worker {hand} claims {jobs} × {leases}: {}", told(&claimed.slices)));
        for slice in &claimed.slices {
            self.accept(hand, slice, &claim, claimed.slices.len())?;
        }
        if self.dice.chance(15) && !claimed.slices.is_empty() {
            let again: Claimed = sure(self.store.claim(claim.clone()).await)?;
            let same = again.slices.len() == claimed.slices.len()
                && again.slices.iter().zip(&claimed.slices).all(|(a, b)| a.lease == b.lease && a.jobs == b.jobs);
            ensure(same, || format!("a claim sent again answers {}", told(&again.slices)))?;
        }
        if jobs == 1024 && claimed.slices.is_empty() {
            self.nothing_left(claim.alone)?;
        }
        Ok(claimed.slices.len())
    }

    fn wish(&self, hand: usize, jobs: u32, max_leases: u32) -> Claim {
        let takes = TYPES.map(|of| Take { job_type: of.into(), jobs, budget: jobs * 2 });
        Claim {
            session: self.hands[hand].session,
            first_lease: self.hands[hand].last_lease + 1,
            max_leases,
            queues: TYPES.map(String::from).into(),
            takes: takes.into(),
            free_slots: jobs,
            alone: self.hands[hand].held.is_empty(),
            lease: LEASE,
        }
    }

    /// Checks that a slice may be handed out, and notes that it was.
    fn accept(&mut self, hand: usize, slice: &Slice, claim: &Claim, slices: usize) -> Verdict {
        let now = self.clock.now();
        let lease = self.hands[hand].last_lease + 1;
        ensure(slice.lease == lease, || format!("lease {} was granted, not {lease}", slice.lease))?;
        self.hands[hand].last_lease = lease;
        let workflow = self.ids.iter().position(|id| *id == slice.workflow).ok_or("an unknown workflow was claimed")?;
        let (step, first) = (slice.step as usize, slice.first as usize);
        let mut attempts = slice.attempts.iter().copied();
        for index in slice.jobs.iter().map(|at| first + at) {
            let model = &mut self.models[workflow];
            let name = || format!("{step}#{index} of workflow {workflow}");
            ensure(index < model.steps[step].rows.len(), || format!("{} does not exist", name()))?;
            ensure(model.may_run(step, index, now), || format!("{} was handed out and may not run", name()))?;
            let row = &model.steps[step].rows[index];
            let told = attempts.next().unwrap_or(0);
            ensure(told == row.attempts, || format!("{}: {told} attempts instead of {}", name(), row.attempts))?;
            ensure(slice.suspect == row.suspect, || format!("{}: suspect is {}", name(), slice.suspect))?;
            ensure(!slice.suspect || claim.alone && slices == 1, || format!("{} is suspect, not alone", name()))?;
            model.claimed(step, index, (hand, lease));
            let (leased, limit) = (model.steps[step].leased(), model.steps[step].limit);
            ensure(leased <= limit, || format!("{leased} jobs of step {step} run, {limit} may"))?;
        }
        let held = Held { workflow, step, first, jobs: slice.jobs, reports: 0 };
        self.hands[hand].held.insert(lease, held);
        Ok(())
    }

    /// A claim for everything got nothing: then there must be nothing.
    fn nothing_left(&self, alone: bool) -> Verdict {
        let now = self.clock.now();
        for (number, model) in self.models.iter().enumerate() {
            for (step, rows) in model.steps.iter().enumerate().map(|(number, step)| (number, step.rows.len())) {
                for index in 0..rows {
                    ensure(!model.must_run(step, index, now, alone), || {
                        format!("{step}#{index} of workflow {number} is ready, and a claim got nothing")
                    })?;
                }
            }
        }
        Ok(())
    }

    async fn report_some(&mut self) -> Verdict {
        let hand = self.dice.below(self.hands.len());
        let leases: Vec<u64> = self.hands[hand].held.keys().copied().collect();
        if leases.is_empty() {
            return Ok(());
        }
        let lease = leases[self.dice.below(leases.len())];
        self.report(hand, lease, false).await
    }

    /// Reports some jobs under a lease, or all of them as succeeded.
    pub async fn report(&mut self, hand: usize, lease: u64, all_well: bool) -> Verdict {
        let mut held = self.hands[hand].held[&lease].clone();
        held.reports += 1;
        let mut part = LeaseReport { lease, number: held.reports, ..LeaseReport::default() };
        let mut ends: Vec<(usize, Option<Job>)> = Vec::new();
        let whole = all_well || self.dice.chance(70);
        for at in held.jobs.iter() {
            if whole || self.dice.chance(60) {
                let ended = self.random_end(&held, held.first + at, at, all_well, &mut part);
                ends.push((held.first + at, ended));
            }
        }
        let mut emitted = 0;
        if self.models[held.workflow].steps[held.step].feeds.is_some() && !ends.is_empty() {
            emitted = self.emit(hand, &held, &mut part).await?;
        }
        let sends = 1 + usize::from(self.dice.chance(20));
        self.say(|| format!("worker {hand} reports under {lease}: {ends:?}, emitted {emitted}, sent {sends} times"));
        for _ in 0..sends {
            let report = Report { session: self.hands[hand].session, leases: vec![part.clone()] };
            let reported = sure(self.store.report(report).await)?;
            let over = ends.len() == held.jobs.len();
            ensure(reported.refused.is_empty() || over, || format!("the report under {lease} was refused"))?;
            if over {
                // From the second time on the lease has ended.
                self.late.push((self.hands[hand].session, part.clone()));
            }
        }
        for (index, ended) in &ends {
            self.models[held.workflow].reported(held.step, *index, *ended);
            if *ended == Some(Job::Succeeded) {
                self.models[held.workflow].emitted(held.step, emitted);
            }
            held.jobs = held.jobs.minus(Mask::range(index - held.first..index - held.first + 1));
        }
        match held.jobs.is_empty() {
            true => self.hands[hand].held.remove(&lease),
            false => self.hands[hand].held.insert(lease, held),
        };
        Ok(())
    }

    fn random_end(&mut self, held: &Held, index: usize, at: usize, well: bool, part: &mut LeaseReport) -> Option<Job> {
        let model = &self.models[held.workflow];
        let stops = model.phase == Phase::Cancelling && !model.steps[held.step].always;
        let attempts = model.steps[held.step].rows[index].attempts;
        match self.dice.below(if well { 1 } else { 100 }) {
            0..=54 => {
                part.succeeded.insert(at);
                Some(Job::Succeeded)
            }
            55..=69 => {
                part.failed.insert(at);
                let text = format!("error {}", self.dice.below(3));
                part.errors.push((error_number(&text), text, Mask::range(at..at + 1)));
                Some(Job::Failed)
            }
            70..=87 if attempts < 20 => {
                let wait = WAITS[self.dice.below(WAITS.len())];
                part.retries.push((wait, Mask::range(at..at + 1)));
                let now = self.clock.now();
                Some(Job::Retrying(now + wait, now + wait + wait / 4 + 2))
            }
            88..=93 if stops => {
                part.cancelled.insert(at);
                Some(Job::Cancelled)
            }
            _ => {
                part.returned.insert(at);
                None
            }
        }
    }

    /// Writes what a source's job emits; it is adopted if the job succeeds.
    async fn emit(&mut self, hand: usize, held: &Held, part: &mut LeaseReport) -> Verdict<usize> {
        let jobs = self.dice.below(7);
        if jobs == 0 {
            return Ok(0);
        }
        let draft = self.append(hand, held, jobs).await?;
        match part.succeeded.is_empty() {
            true => part.dropped.push(draft),
            false => part.adopted = Some(draft),
        }
        Ok(jobs)
    }

    async fn append(&mut self, hand: usize, held: &Held, jobs: usize) -> Verdict<u64> {
        let fed = self.models[held.workflow].steps[held.step].feeds.ok_or("no source")?;
        self.hands[hand].last_draft += 1;
        let draft = DraftKey { session: self.hands[hand].session, number: self.hands[hand].last_draft };
        for (number, chunk) in (0..).zip(chunks(&mut self.dice, jobs)) {
            let append = Append {
                draft,
                of: DraftOf::Jobs { workflow: self.ids[held.workflow], step: fed as u32 },
                number,
                parts: vec![Part::Jobs { step: fed as u32, chunk }],
                lease: LEASE,
            };
            for _ in 0..1 + usize::from(self.dice.chance(20)) {
                sure(self.store.append(append.clone()).await)?;
            }
        }
        Ok(draft.number)
    }

    /// A source's attempt that nobody ever hears of.
    async fn leave_a_draft(&mut self) -> Verdict {
        let source = self.hands.iter().enumerate().find_map(|(number, hand)| {
            let held = hand.held.values().find(|held| self.models[held.workflow].steps[held.step].feeds.is_some());
            held.map(|held| (number, held.clone()))
        });
        let Some((hand, held)) = source else { return Ok(()) };
        self.say(|| format!("worker {hand} writes a draft for nothing"));
        self.append(hand, &held, 3).await.map(|_| ())
    }

    /// A report under a lease that has ended, or was taken back, changes nothing.
    async fn report_late(&mut self) -> Verdict {
        if self.late.is_empty() {
            return Ok(());
        }
        let (session, mut part) = self.late[self.dice.below(self.late.len())].clone();
        part.number += self.dice.below(2) as u64;
        self.say(|| format!("a late report under {}", part.lease));
        let lease = part.lease;
        let reported = sure(self.store.report(Report { session, leases: vec![part] }).await)?;
        ensure(reported.refused == [lease], || format!("a late report under lease {lease} was not refused"))
    }

    async fn renew_all(&mut self) -> Verdict {
        for hand in 0..self.hands.len() {
            self.renew(hand).await?;
        }
        Ok(())
    }

    async fn renew(&mut self, hand: usize) -> Verdict {
        let leases: Vec<u64> = self.hands[hand].held.keys().copied().collect();
        let session = self.hands[hand].session;
        let renew = Renew { session, leases, drafts: Vec::new(), progress: Vec::new(), lease: LEASE };
        let renewed = sure(self.store.renew(renew).await)?;
        ensure(renewed.lost.is_empty(), || format!("worker {hand} has lost {:?}", renewed.lost))
    }

    /// A little time, which everybody lives through.
    async fn time_goes_by(&mut self) -> Verdict {
        self.renew_all().await?;
        let time = [10, 90, 400][self.dice.below(3)];
        self.say(|| format!("{time} ms go by"));
        self.clock.advance(time);
        self.renew_all().await
    }

    /// The clock is set, or nobody looked for long: that costs nobody a lease.
    async fn clock_jumps(&mut self) -> Verdict {
        self.renew_all().await?;
        let by = [3_600_000, -200, 20_000][self.dice.below(3)];
        self.say(|| format!("the clock jumps by {by} ms"));
        self.clock.advance(by);
        self.renew_all().await
    }

    /// A worker is killed; the others live on until the store has noticed.
    async fn worker_dies(&mut self) -> Verdict {
        let hand = self.dice.below(self.hands.len());
        let new = self.new_hand().await?;
        let dead = std::mem::replace(&mut self.hands[hand], new);
        self.say(|| format!("worker {hand} dies with {:?}", dead.held.keys().collect::<Vec<_>>()));
        for _ in 0..LEASE * 3 / 2 / STEP {
            self.clock.advance(STEP);
            self.renew_all().await?;
            sure(self.store.tick(Tick { lease: LEASE }).await)?;
        }
        for (lease, held) in dead.held {
            let jobs: Vec<usize> = held.jobs.iter().map(|at| held.first + at).collect();
            self.models[held.workflow].died(held.step, &jobs);
            let late = LeaseReport { lease, number: held.reports + 1, succeeded: held.jobs, ..LeaseReport::default() };
            self.late.push((dead.session, late));
        }
        Ok(())
    }

    /// A worker stops as it should: what it holds goes back as it was.
    async fn worker_leaves(&mut self) -> Verdict {
        let hand = self.dice.below(self.hands.len());
        let new = self.new_hand().await?;
        let gone = std::mem::replace(&mut self.hands[hand], new);
        self.say(|| format!("worker {hand} leaves"));
        while sure(self.store.leave(gone.session).await)?.more {}
        for held in gone.held.values() {
            for at in held.jobs.iter() {
                self.models[held.workflow].reported(held.step, held.first + at, None);
            }
        }
        Ok(())
    }

    /// A person's command.
    async fn command(&mut self) -> Verdict {
        let number = self.dice.below(self.models.len());
        let (id, phase) = (self.ids[number], self.models[number].phase);
        match self.dice.below(10) {
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
            _ => Ok(()),
        }
    }

    async fn resume(&mut self, number: usize) -> Verdict {
        self.say(|| format!("resume {number}"));
        let model = &mut self.models[number];
        model.phase = if model.started { Phase::Running } else { Phase::Pending };
        sure(self.store.resume(self.ids[number]).await).map(|_| ())
    }

    async fn retry(&mut self, number: usize) -> Verdict {
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
        };
        let failed = self.failed(number, step);
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let retried = sure(self.store.retry(retry.clone()).await)?;
            ensure(retried.jobs == failed, || format!("{} jobs are retried, {failed} failed", retried.jobs))?;
        }
        self.models[number].retry(step);
        Ok(())
    }

    fn failed(&self, number: usize, only: Option<usize>) -> u64 {
        let steps = self.models[number].steps.iter().enumerate();
        let rows = steps.filter(|(step, _)| only.is_none_or(|only| only == *step)).flat_map(|(_, step)| &step.rows);
        rows.filter(|row| row.job == Job::Failed).count() as u64
    }

    /// Lets everything come to its end, without any further fault.
    pub async fn finish(&mut self) -> Verdict {
        for number in 0..self.models.len() {
            if self.models[number].phase == Phase::Paused {
                self.resume(number).await?;
            }
        }
        self.settle(self.clock.now()).await?;
        let mut idle = 0;
        while idle < 12 {
            let mut moved = false;
            for hand in 0..self.hands.len() {
                moved |= self.claim(hand, 1024, 16).await? > 0;
                for lease in self.hands[hand].held.keys().copied().collect::<Vec<_>>() {
                    let since = self.clock.now();
                    self.report(hand, lease, true).await?;
                    self.settle(since).await?;
                    moved = true;
                }
            }
            if !moved {
                // Only what waits for a time is left: 12 of these are longer than any wait, and than a lease.
                let since = self.clock.now();
                self.renew_all().await?;
                self.clock.advance(10_000);
                self.renew_all().await?;
                self.settle(since).await?;
            }
            idle = if moved { 0 } else { idle + 1 };
        }
        for (number, model) in self.models.iter().enumerate() {
            let over = matches!(model.phase, Phase::Succeeded | Phase::Failed | Phase::Cancelled);
            ensure(over, || format!("workflow {number} is {:?} for ever", model.phase))?;
            let left = model.steps.iter().any(|step| step.state == State::Running);
            ensure(!left, || format!("workflow {number} is over with a step that runs"))?;
        }
        self.at_rest().await
    }
}

fn game_name(model: &Workflow) -> String {
    let steps: Vec<String> = model
        .steps
        .iter()
        .map(|step| {
            format!(
                "{} jobs after {:?}{}{}",
                step.rows.len(),
                step.edges,
                if step.always { " always" } else { "" },
                step.feeds.map(|fed| format!(" feeds {fed}")).unwrap_or_default()
            )
        })
        .collect();
    format!("[{}]", steps.join("; "))
}

fn told(slices: &[Slice]) -> String {
    let told: Vec<String> = slices
        .iter()
        .map(|slice| {
            let jobs: Vec<u64> = slice.jobs.iter().map(|at| slice.first + at as u64).collect();
            format!("{} = step {} {jobs:?}", slice.lease, slice.step)
        })
        .collect();
    if told.is_empty() { "nothing".into() } else { told.join(", ") }
}

fn session(dice: &mut Dice, is_worker: bool) -> Session {
    let names = if is_worker { TYPES.map(String::from).to_vec() } else { Vec::new() };
    Session {
        id: SessionId::from_slice(&dice.bytes::<12>()).expect("twelve bytes"),
        host: "game".into(),
        pid: 1,
        queues: names.clone(),
        types: names,
        slots: 4,
        wake_port: None,
        lease: LEASE,
    }
}

/// The store has no reason to refuse this.
pub fn sure<T>(answer: crate::Result<T>) -> Verdict<T> {
    answer.map_err(|error| format!("the store says: {error}"))
}

pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}
