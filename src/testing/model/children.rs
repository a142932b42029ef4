//! Workflows of a game that stand for jobs of others: what workers do to make them, and what a store should do with both.

use super::game::{Game, Held, Verdict, ensure, is_over, sure};
use super::naive::{Job, Phase, Workflow};
use super::plan::{Size, create, parts, random_steps};
use crate::error::ErrorKind;
use crate::id::WorkflowId;
use crate::store::{Create, LeaseReport, Parent, error_number};

/// They are small.
const INNER: Size = Size { workflows: 1, steps: 2, jobs: 3, operations: 0 };

/// A job by the numbers of its workflow and step, and its index.
type Of = (usize, usize, usize);

impl Game {
    /// What comes of a job that a worker has which stands for a workflow.
    pub async fn random_birth(
        &mut self,
        held: &Held,
        index: usize,
        at: usize,
        well: bool,
        part: &mut LeaseReport,
    ) -> Verdict<Option<Job>> {
        let job = (held.workflow, held.step, index);
        match self.dice.below(if well { 1 } else { 100 }) {
            0..=69 if self.bear(job).await? => {
                part.begun.insert(at);
                return Ok(Some(Job::Deferred));
            }
            70..=79 if !self.children.contains_key(&job) => {
                part.failed.insert(at);
                let text = "no such file".to_owned();
                part.errors.push((error_number(&text), text, part.failed));
                return Ok(Some(Job::Failed));
            }
            // It stops when it has made it, before it says so.
            80..=89 => drop(self.bear(job).await?),
            _ => {}
        }
        part.returned.insert(at);
        Ok(None)
    }

    /// Makes the workflow that stands for a job, or repairs it; returns whether it is there.
    async fn bear(&mut self, job: Of) -> Verdict<bool> {
        let (whole, step, _) = job;
        let stops = self.models[whole].stops(step);
        let generation = self.models[whole].steps[step].generation;
        let there = self.children.get(&job).filter(|(_, born)| *born == generation).map(|(child, _)| *child);
        match there.map(|child| (child, self.models[child].phase)) {
            None => {
                let id = WorkflowId::seeded(self.clock.now(), self.ids[whole].shard(), self.dice.bytes());
                let (model, make) = self.child(job, id, 0);
                self.say(|| format!("a workflow for {job:?}, stops: {stops}: {:?}", model.steps));
                let made = self.store.create(make.clone()).await;
                if stops {
                    let refused = made.is_err_and(|error| error.kind() == ErrorKind::Refused);
                    return ensure(refused, || format!("a workflow was made for {job:?}, which stops")).map(|()| false);
                }
                ensure(!sure(made)?.existed, || "a workflow is told to be there".into())?;
                if self.dice.chance(20) {
                    let again = sure(self.store.create(make).await)?;
                    ensure(again.existed, || "a workflow made twice is told to be new".into())?;
                }
                self.children.insert(job, (self.models.len(), generation));
                self.models.push(model);
                self.ids.push(id);
                Ok(true)
            }
            Some((_, Phase::Cancelling)) => Ok(false),
            Some(_) if stops => Ok(false),
            Some((child, Phase::Failed)) => self.retry(child, None).await.map(|()| true),
            Some((child, Phase::Cancelled)) => {
                let born = sure(self.store.workflow(self.ids[child]).await)?.generation;
                let (model, make) = self.child(job, self.ids[child], born + 1);
                self.say(|| format!("{child} anew for {job:?}: {:?}", model.steps));
                sure(self.store.create(make).await)?;
                self.models[child] = model;
                self.covered.retain(|(of, ..), _| *of != child);
                self.stored.retain(|(of, ..), _| *of != child);
                Ok(true)
            }
            Some(_) => Ok(true),
        }
    }

    fn child(&mut self, job: Of, id: WorkflowId, generation: u32) -> (Workflow, Create) {
        let mut steps = random_steps(&mut self.dice, INNER, self.clock.now());
        steps.iter_mut().for_each(|step| (step.children, step.generation) = (false, generation));
        let mut make = create(id, parts(&mut self.dice, &steps));
        let (whole, step, index) = job;
        make.workflow.parent = Some(Parent { workflow: self.ids[whole], step: step as u32, index: index as u64 });
        (make.workflow.generation, make.again) = (generation, generation > 0);
        (Workflow { parent: Some(job), ..Workflow::new(steps, None) }, make)
    }

    /// A job waits for its workflow from now on.
    pub fn has_begun(&mut self, job: Of) {
        let (child, _) = self.children[&job];
        self.models[child].told = false;
        let (whole, step, index) = job;
        if self.models[whole].stops(step) {
            self.step_stops(whole, step, index);
        }
    }

    /// A step stops: what stands for its jobs from this one on is cancelled, but for what a person has begun for jobs that have settled, if
    /// only the step stops.
    fn step_stops(&mut self, whole: usize, step: usize, from: usize) {
        let is_cancelled = self.models[whole].phase == Phase::Cancelling && !self.models[whole].steps[step].always;
        let is_done = |job| matches!(job, Job::Failed | Job::Succeeded);
        self.cancel_children(whole, step, |index, job| index >= from && (is_cancelled || !is_done(job)));
    }

    /// The workflows of these jobs of a step, by index and state, are cancelled as far as they are at work.
    pub fn cancel_children(&mut self, whole: usize, step: usize, which: impl Fn(usize, Job) -> bool) {
        for child in 0..self.models.len() {
            let of_step = self.models[child].parent.filter(|job| (job.0, job.1) == (whole, step));
            let Some((.., index)) = of_step else { continue };
            let job = self.models[whole].steps[step].rows[index].job;
            if self.models[child].phase < Phase::Cancelling && which(index, job) {
                self.models[child].cancel();
                self.whole_is_cancelled(child);
            }
        }
    }

    /// A workflow is cancelled, and with it all that stands for its jobs.
    pub fn whole_is_cancelled(&mut self, whole: usize) {
        for step in 0..self.models[whole].steps.len() {
            if !self.models[whole].steps[step].always {
                self.cancel_children(whole, step, |_, _| true);
            }
        }
    }

    /// Which failed jobs have workflows that have been repaired, or are being so: step and index.
    pub fn repaired_children(&self, whole: usize) -> Vec<(usize, usize)> {
        let of_whole = self.children.iter().filter(|((of, ..), _)| *of == whole);
        let failed =
            of_whole.filter(|((_, step, index), _)| self.models[whole].steps[*step].rows[*index].job == Job::Failed);
        let repaired =
            failed.filter(|(_, (child, _))| !matches!(self.models[*child].phase, Phase::Failed | Phase::Cancelled));
        repaired.map(|((_, step, index), _)| (*step, *index)).collect()
    }

    /// Jobs wait for workflows that may have ended.
    pub fn are_told_again(&mut self, whole: usize, jobs: &[(usize, usize)]) {
        for (step, index) in jobs {
            if self.models[whole].steps[*step].rows[*index].job == Job::Deferred {
                let (child, _) = self.children[&(whole, *step, *index)];
                self.models[child].told = false;
            }
        }
    }

    /// Lets jobs end as their workflows do, and workflows as their jobs do that stop; returns whether there was any.
    pub fn children_move(&mut self) -> bool {
        let mut moved = false;
        for whole in 0..self.models.len() {
            for step in std::mem::take(&mut self.models[whole].stopped) {
                self.step_stops(whole, step, 0);
                moved = true;
            }
        }
        for child in 0..self.models.len() {
            moved |= self.tell_death(child);
            let model = &mut self.models[child];
            let ends = is_over(model) && !model.told;
            model.told = is_over(model);
            if let Some(job) = model.parent.filter(|job| ends && self.children[job].0 == child) {
                moved |= self.has_ended(child, job);
            }
        }
        moved
    }

    /// The batch around one hears of the first death within it.
    fn tell_death(&mut self, child: usize) -> bool {
        let model = &self.models[child];
        let Some((outer, ..)) = model.parent.filter(|_| model.batch.is_some() && model.has_death()) else {
            return false;
        };
        let at_work = model.phase != Phase::Cancelling && self.models[outer].phase != Phase::Cancelling;
        at_work && !std::mem::replace(&mut self.models[outer].death_within, true)
    }

    fn has_ended(&mut self, child: usize, (whole, step, index): Of) -> bool {
        let (phase, stops) = (self.models[child].phase, self.models[whole].stops(step));
        let cancelled = matches!(self.models[whole].phase, Phase::Cancelling | Phase::Cancelled);
        let job = &mut self.models[whole].steps[step].rows[index].job;
        match (*job, phase) {
            (Job::Deferred, Phase::Succeeded) => *job = Job::Succeeded,
            (Job::Deferred, Phase::Cancelled) if stops => *job = Job::Cancelled,
            // What somebody cancelled by itself is missing to the whole, like what failed.
            (Job::Deferred, _) => *job = Job::Failed,
            (Job::Failed, Phase::Succeeded) if !cancelled => {
                let of_step = self.repaired_children(whole).into_iter().filter(|(of, _)| *of == step);
                let waits: Vec<(usize, usize)> = of_step.collect();
                let jobs: Vec<usize> = waits.iter().map(|(_, index)| *index).collect();
                self.models[whole].retry_by_children(step, &jobs);
                self.are_told_again(whole, &waits);
            }
            _ => return false,
        }
        true
    }
}
