//! Batches of a game: jobs are added to them from outside and by their own jobs, and batches within them, until they are closed, or whoever
//! holds them open is dead.

use super::dice::Dice;
use super::game::{Game, Held, Verdict, ensure, sure};
use super::naive::{Asks, Batch, Job, Phase, Policy, Row, State, Step, Wait, Workflow};
use super::plan::{FOR_EVER, TYPES, chunks, create, parts, policy, tolerate};
use crate::clock::Millis;
use crate::error::ErrorKind;
use crate::graph::StepSpec;
use crate::id::{SessionId, WorkflowId};
use crate::slice::Mask;
use crate::store::{AddJobs, AddedJobs, BATCH_STEP_NAME, CloseBatch, Create, DraftKey, Part, step_of_batches};
use crate::waiting::WaitsFor;

/// How many types of jobs a batch of the game has.
const KINDS: usize = 3;
/// Where the jobs of a batch are that stand for batches within it.
const WITHIN: usize = KINDS;
/// In a game of so many workflows no batch is opened within another.
const MOST_WORKFLOWS: usize = 6;
/// A batch of so many jobs gets no more from its own.
const MOST_JOBS: usize = 60;
/// Drafts that hold batches open have numbers from this one on.
const HOLDS: u64 = 1_000_000;

/// A batch with some callbacks, which a client holds open.
pub fn random_batch(
    dice: &mut Dice,
    now: Millis,
    shard: u16,
    (client, number): (SessionId, usize),
) -> (Workflow, Create) {
    let stands_for_it = Step {
        rows: vec![Row::new()],
        edges: Vec::new(),
        waits: Some((Wait::Signal, FOR_EVER, Job::Failed)),
        ..Step::growing()
    };
    let mut steps = vec![stands_for_it];
    for _ in 0..dice.below(4) {
        let asks = [Asks::Success, Asks::Always, Asks::Settled, Asks::Death][dice.below(4)];
        steps.push(Step {
            rows: vec![Row::new()],
            edges: vec![(0, asks)],
            always: asks == Asks::Always,
            ..Step::growing()
        });
    }
    let mut parts = parts(dice, &steps);
    let awaits = WaitsFor::Batch.awaits(BATCH_STEP_NAME, b"");
    let spec = StepSpec { waits: Some(WaitsFor::Batch), ..StepSpec::new(BATCH_STEP_NAME, "-") };
    parts[0] = Part::Step { spec, upstreams: 0, always: false, awaits: Some(Box::new(awaits)) };
    parts.push(Part::Open { draft: hold(client, number), lease: FOR_EVER });
    let create = create(WorkflowId::seeded(now, shard, dice.bytes()), parts);
    (Workflow::new(steps, Some(Batch::Open)), create)
}

fn hold(client: SessionId, number: usize) -> DraftKey {
    DraftKey { session: client, number: HOLDS + number as u64 }
}

/// The step of a kind of jobs.
fn growing(kind: usize) -> Step {
    match kind {
        1 => Step { policy: Policy::FailFast, tolerates: 1, ..Step::growing() },
        2 => Step { policy: Policy::Pause, share: 50, ..Step::growing() },
        _ => Step::growing(),
    }
}

fn spec(kind: usize) -> StepSpec {
    let (of, step) = (TYPES[kind % TYPES.len()], growing(kind));
    let (tolerate, policy) = (tolerate(&step), policy(&step));
    StepSpec { name: format!("kind {kind}"), grows: true, tolerate, policy, ..StepSpec::new(of, of) }
}

impl Game {
    /// Somebody adds to a batch, closes it, or is found dead who held it open.
    pub async fn batch_command(&mut self, number: usize) -> Verdict {
        match self.dice.below(11) {
            0..=4 => self.add(number).await,
            5..=6 => self.close(number).await,
            7..=9 if self.models.len() < MOST_WORKFLOWS => self.open_within(number).await,
            _ => {
                self.say(|| format!("whoever held batch {number} open is dead"));
                sure(self.store.abandon(self.ids[number], hold(self.client.id, number)).await)?;
                let model = &mut self.models[number];
                let is_held = model.batch == Some(Batch::Open) && model.phase < Phase::Cancelling;
                model.batch = if is_held { Some(Batch::Abandoned) } else { model.batch };
                Ok(())
            }
        }
    }

    pub async fn close(&mut self, number: usize) -> Verdict {
        self.say(|| format!("close {number}"));
        let model = &mut self.models[number];
        let abandoned = model.batch == Some(Batch::Abandoned);
        let is_held = model.batch == Some(Batch::Open) && model.phase < Phase::Cancelling;
        model.batch = if is_held { Some(Batch::Closed) } else { model.batch };
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            let close = CloseBatch { workflow: self.ids[number], draft: hold(self.client.id, number) };
            let closed = sure(self.store.close_batch(close).await)?;
            ensure(closed.abandoned == abandoned, || format!("abandoned: {}, not {abandoned}", closed.abandoned))?;
        }
        Ok(())
    }

    async fn add(&mut self, number: usize) -> Verdict {
        let kind = self.dice.below(KINDS);
        let jobs = 1 + self.dice.below(4);
        let chunk = chunks(&mut self.dice, jobs).into_iter().next();
        let jobs = chunk.as_ref().map_or(0, |chunk| chunk.jobs as usize);
        let takes = self.models[number].takes_jobs();
        self.say(|| format!("add {jobs} of kind {kind} to {number}: {}", if takes { "taken" } else { "refused" }));
        let (session, command, workflow) = self.begin_command(number).await?;
        let add = AddJobs { session, command, workflow, step: spec(kind), draft: None, chunk };
        for _ in 0..1 + usize::from(self.dice.chance(20)) {
            match self.store.add_jobs(add.clone()).await {
                Ok(added) => ensure(takes && added.jobs == jobs as u64, || format!("{added:?} were added"))?,
                Err(error) => ensure(!takes && error.kind() == ErrorKind::BatchSettled, || format!("add: {error}"))?,
            }
        }
        if takes {
            self.grow(number, kind, jobs);
        }
        Ok(())
    }

    /// Opens a batch within a batch.
    async fn open_within(&mut self, number: usize) -> Verdict {
        let (now, shard) = (self.clock.now(), self.ids[number].shard());
        let (mut model, mut make) = random_batch(&mut self.dice, now, shard, (self.client.id, self.models.len()));
        for chunk in chunks(&mut self.dice, 1) {
            make.parts.push(Part::Within { batch: self.ids[number], step: Box::new(step_of_batches()), chunk });
        }
        let takes = self.models[number].takes_jobs();
        self.say(|| format!("open a batch within {number}: {}", if takes { "taken" } else { "refused" }));
        let id = make.workflow.id;
        for nth in 0..1 + usize::from(self.dice.chance(20)) {
            match self.store.create(make.clone()).await {
                Ok(made) => ensure(takes && made.existed == (nth > 0), || format!("{made:?} within {number}"))?,
                Err(error) => ensure(!takes && error.kind() == ErrorKind::BatchSettled, || format!("open: {error}"))?,
            }
        }
        if takes {
            let step = self.grow(number, WITHIN, 1);
            let outer = &mut self.models[number].steps[step];
            outer.children = true;
            let job = (number, step, outer.rows.len() - 1);
            outer.rows[job.2] = Row::waiting();
            self.children.insert(job, (self.models.len(), 0));
            model.parent = Some(job);
            self.models.push(model);
            self.ids.push(id);
        }
        Ok(())
    }

    /// Batches within this one, or in this step of it, are retried with it.
    pub fn retry_within(&mut self, number: usize, only: Option<usize>) {
        for child in 0..self.models.len() {
            let of_whole =
                self.models[child].parent.filter(|job| job.0 == number && self.models[child].batch.is_some());
            let Some((_, step, index)) = of_whole.filter(|job| only.is_none_or(|only| only == job.1)) else { continue };
            let is_failed = self.models[number].steps[step].rows[index].job == Job::Failed;
            if is_failed && self.models[child].phase == Phase::Failed {
                self.models[child].is_at_work_again();
                self.retried(child, None);
            }
        }
    }

    /// Jobs of a kind have come to a batch; returns their step.
    fn grow(&mut self, number: usize, kind: usize, jobs: usize) -> usize {
        let kinds = &mut self.kinds;
        let model = &mut self.models[number];
        let step = *kinds.entry((number, kind)).or_insert(model.steps.len());
        model.added(step, jobs, growing(kind));
        step
    }

    /// What successful jobs add to their batch with a report.
    pub fn add_inside(&mut self, held: &Held, succeeded: Mask) -> Vec<(usize, AddedJobs)> {
        let mut added = Vec::new();
        // Jobs that add more than one job each on average would never come to an end.
        let jobs: usize = self.models[held.workflow].steps.iter().map(|step| step.rows.len()).sum();
        let by = succeeded.iter().next().filter(|_| jobs < MOST_JOBS);
        let Some(by) = by.filter(|_| self.models[held.workflow].grows(held.step) && self.dice.chance(40)) else {
            return added;
        };
        for _ in 0..1 + self.dice.below(2) {
            let kind = self.dice.below(KINDS);
            let jobs = 1 + self.dice.below(3);
            for chunk in chunks(&mut self.dice, jobs) {
                added.push((kind, AddedJobs { step: spec(kind), chunk, by: Mask::range(by..by + 1) }));
            }
        }
        added
    }

    /// They have come, unless the batch is cancelled.
    pub fn added_inside(&mut self, number: usize, added: &[(usize, AddedJobs)]) {
        if self.models[number].phase == Phase::Cancelling {
            return;
        }
        for (kind, one) in added {
            self.grow(number, *kind, one.chunk.jobs as usize);
        }
    }

    /// Nobody holds any batch open any more.
    pub async fn close_all(&mut self) -> Verdict {
        for number in 0..self.models.len() {
            if self.models[number].batch == Some(Batch::Open) && self.models[number].steps[0].state == State::Running {
                self.close(number).await?;
            }
        }
        Ok(())
    }
}
