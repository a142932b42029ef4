//! The graph of a workflow as data, and the checks that it must pass before a store sees it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::retry::Retry;
use crate::state::{EdgeKind, FailurePolicy, Tolerate};
use crate::waiting::WaitsFor;

/// The most steps that a workflow may have.
pub const MAX_STEPS: usize = 20_000;
/// The most edges that a workflow may have.
pub const MAX_EDGES: usize = 100_000;
/// The most bytes of a name of a step, type, queue or workflow.
pub const MAX_NAME: usize = 255;

/// The number of a step in its workflow, from 0 in the order in which `configure` made them.
pub type StepNumber = u32;

/// The most steps that may go on from one, each with the jobs of the one before it.
pub const MAX_CHAIN: usize = 16;

/// One of the steps before a chained one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The step.
    pub step: StepNumber,
    /// The registered name of its job type.
    pub job_type: String,
}

/// What a step is, apart from its jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Its name, unique in the workflow: the type's name unless it was given one.
    pub name: String,
    /// The registered name of its job type.
    pub job_type: String,
    /// The queue whose workers run it.
    pub queue: String,
    /// Higher runs first.
    pub priority: i32,
    /// The step that its jobs emit into, if they are a source.
    pub feeds: Option<StepNumber>,
    /// How many of its jobs may fail.
    pub tolerate: Tolerate,
    /// What becomes of the rest as soon as more have failed.
    #[serde(default, skip_serializing_if = "FailurePolicy::is_default")]
    pub policy: FailurePolicy,
    /// How many of its jobs may run at once, over all workers.
    pub max_in_flight: Option<u32>,
    /// How often a job may kill the worker that runs it alone before it fails.
    pub max_recoveries: u8,
    /// How long it waits once its upstream steps have settled.
    pub delay: Duration,
    /// Overrides the type's rule.
    pub retry: Option<Retry>,
    /// Overrides the type's limit for one attempt.
    pub timeout: Option<Duration>,
    /// What it waits for, if no worker runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitsFor>,
    /// What they emit is there at once, and they wait while the step that they feed has more unfinished jobs than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eager: Option<u64>,
    /// Whether each of its jobs stands for a workflow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub children: bool,
    /// Whether its job is a condition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub condition: bool,
    /// Whether jobs may be added to it as long as its batch has not settled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grows: bool,
    /// The steps that its jobs go on from, one to one: the first has parameters of its own, the last is its predecessor. None, if it is
    /// not chained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Link>,
}

impl StepSpec {
    /// The step whose jobs it goes on from, one to one.
    pub fn follows(&self) -> Option<StepNumber> {
        self.chain.last().map(|link| link.step)
    }

    /// A step of `job_type` with every option at its default.
    pub fn new(job_type: impl Into<String>, queue: impl Into<String>) -> Self {
        let job_type = job_type.into();
        Self {
            name: job_type.clone(),
            job_type,
            queue: queue.into(),
            priority: 0,
            feeds: None,
            tolerate: Tolerate::None,
            policy: FailurePolicy::RunOn,
            max_in_flight: None,
            max_recoveries: 3,
            delay: Duration::ZERO,
            retry: None,
            timeout: None,
            waits: None,
            eager: None,
            children: false,
            condition: false,
            grows: false,
            chain: Vec::new(),
        }
    }
}

/// One edge: `down` runs after `up`, as `kind` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// The step that must settle first.
    pub up: StepNumber,
    /// The step that waits for it.
    pub down: StepNumber,
    /// What it waits for.
    pub kind: EdgeKind,
}

/// A workflow's steps and edges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The steps by number.
    pub steps: Vec<StepSpec>,
    /// Every edge once.
    pub edges: Vec<Edge>,
}

impl Graph {
    /// Checks limits, names, edges and that there is no cycle. The error says what is wrong and where.
    pub fn check(&self) -> Result<()> {
        self.check_limits()?;
        self.check_names()?;
        self.check_options()?;
        self.check_chains()?;
        let known = |step: StepNumber| (step as usize) < self.steps.len();
        if let Some((step, fed)) =
            self.steps.iter().find_map(|step| Some((step, step.feeds.filter(|fed| !known(*fed))?)))
        {
            return Err(Error::usage(format!(
                "step `{}` feeds step {fed}, but the workflow has {} steps",
                step.name,
                self.steps.len()
            )));
        }
        for edge in &self.edges {
            if !known(edge.up) || !known(edge.down) {
                return Err(Error::usage(format!(
                    "an edge joins step {} and step {}, but the workflow has {} steps: a step of another flow was passed",
                    edge.up,
                    edge.down,
                    self.steps.len()
                )));
            }
        }
        match self.cycle() {
            Some(path) => {
                let names: Vec<&str> = path.iter().map(|step| self.steps[*step as usize].name.as_str()).collect();
                Err(Error::usage(format!(
                    "the steps wait for each other in a cycle: {} -> {}",
                    names.join(" -> "),
                    names[0]
                )))
            }
            None => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<()> {
        if self.steps.len() > MAX_STEPS {
            return Err(Error::usage(format!(
                "the workflow has {} steps; at most {MAX_STEPS} are allowed. A step can hold any number of jobs: `flow.run_each(..)`",
                self.steps.len()
            )));
        }
        if self.edges.len() > MAX_EDGES {
            return Err(Error::usage(format!(
                "the workflow has {} edges; at most {MAX_EDGES} are allowed. One step with many jobs in place of many steps needs one edge only",
                self.edges.len()
            )));
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(self.steps.len());
        for (number, step) in self.steps.iter().enumerate() {
            check_name("step", &step.name)?;
            check_name("queue", &step.queue)?;
            check_name("job type", &step.job_type)?;
            if let Some(first) = seen.insert(&step.name, number) {
                return Err(Error::usage(format!(
                    "two steps are named `{}` (steps {first} and {number}); give one of them another name by `.named(\"…\")`",
                    step.name
                )));
            }
        }
        Ok(())
    }

    fn check_options(&self) -> Result<()> {
        for step in &self.steps {
            let wrong = match step.tolerate {
                Tolerate::Fraction(share) if !(0.0..=1.0).contains(&share) => {
                    Some(format!("tolerates a fraction of {share}; a fraction is between 0 and 1"))
                }
                _ if step.max_in_flight == Some(0) => Some("may run 0 jobs at once, so it would never run".to_owned()),
                _ if step.max_recoveries == 0 => Some(
                    "has `max_recoveries(0)`; at least one recovery is needed to know that a job killed its worker"
                        .to_owned(),
                ),
                _ if step.feeds.is_some() && step.waits.is_some() => Some("waits, so it emits nothing".to_owned()),
                _ if step.eager.is_some() => self.eager_mistake(step),
                _ => {
                    step.waits.as_ref().and_then(WaitsFor::mistake).map(str::to_owned).or_else(|| policy_mistake(step))
                }
            };
            if let Some(wrong) = wrong {
                return Err(Error::usage(format!("step `{}` {wrong}", step.name)));
            }
        }
        Ok(())
    }

    /// What is wrong with a step that is told to be eager.
    fn eager_mistake(&self, step: &StepSpec) -> Option<String> {
        let Some(fed) = step.feeds else {
            return Some("emits nothing, so it cannot be `.eager()`; that is for what `flow.expand(..)` and `expand_each(..)` return".into());
        };
        if step.eager == Some(0) {
            return Some(
                "has `.ahead(0)`, so it would never emit anything; how many jobs may be unfinished: `.ahead(10_000)`"
                    .into(),
            );
        }
        let fed = self.steps.get(fed as usize).filter(|fed| !fed.delay.is_zero())?;
        Some(format!(
            "is `.eager()`, but `{}`, which it feeds, has a `.delay(..)` and begins once its sources have succeeded; leave one of the two out",
            fed.name
        ))
    }

    /// Each chained step has one predecessor, which comes before it and has no other follower of its kind, and no jobs of its own.
    fn check_chains(&self) -> Result<()> {
        let mut goes_on: HashMap<StepNumber, &StepSpec> = HashMap::new();
        for (number, step) in (0..).zip(&self.steps) {
            let Some(up) = step.follows() else { continue };
            let before = self.steps.get(up as usize).filter(|_| up < number);
            let mut chain = before.map(|before| before.chain.clone()).unwrap_or_default();
            chain.extend(before.map(|before| Link { step: up, job_type: before.job_type.clone() }));
            if chain != step.chain || !self.edges.contains(&Edge { up, down: number, kind: EdgeKind::Chains }) {
                return Err(Error::usage(format!(
                    "step `{}` does not go on from the steps that it is chained to",
                    step.name
                )));
            }
            let before = &self.steps[up as usize].name;
            if let Some(other) = goes_on.insert(up, step) {
                return Err(Error::usage(format!(
                    "two chains go on from step `{before}`: `{}` and `{}`; chain the second behind the first, or let it run after the whole step",
                    other.name, step.name
                )));
            }
            if chain.len() > MAX_CHAIN {
                return Err(Error::usage(format!(
                    "step `{}` is the {}th of its chain; a chain has at most {MAX_CHAIN} steps behind the first. Let one job do what two do",
                    step.name,
                    chain.len()
                )));
            }
            let wrong = match step {
                StepSpec { feeds: Some(_), .. } => Some("is a source; let a step of sources run after the whole step"),
                StepSpec { waits: Some(_), .. } => Some("waits, and no worker runs it"),
                StepSpec { children: true, .. } => Some("stands for workflows; let its jobs start them"),
                StepSpec { condition: true, .. } => Some("is a condition, which is asked once"),
                StepSpec { grows: true, .. } => Some("is one of a batch, whose jobs are added to it"),
                _ if self.steps[up as usize].grows => {
                    Some("goes on from a step of a batch; let the jobs of the batch add what comes after them")
                }
                _ if self.steps[up as usize].feeds.is_some() => {
                    Some("goes on from sources, whose rows are what there is to go on with")
                }
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Err(Error::usage(format!("step `{}` is chained to `{before}`, but it {wrong}", step.name)));
            }
        }
        match self.edges.iter().find(|edge| {
            edge.kind == EdgeKind::Chains
                && self.steps.get(edge.down as usize).is_some_and(|down| down.follows() != Some(edge.up))
        }) {
            Some(edge) => Err(Error::usage(format!(
                "an edge chains step {} to step {}, which does not go on from it",
                edge.up, edge.down
            ))),
            None => Ok(()),
        }
    }

    /// The steps of one cycle in order, if there is any. Kahn's algorithm (1962) leaves the steps on or behind a cycle; from any of
    /// them, walking upstream among those left must run into one.
    fn cycle(&self) -> Option<Vec<StepNumber>> {
        let mut upstream_left = self.upstream_counts();
        let mut followers: Vec<Vec<StepNumber>> = vec![Vec::new(); self.steps.len()];
        for edge in &self.edges {
            followers[edge.up as usize].push(edge.down);
        }
        let mut free: VecDeque<StepNumber> =
            (0..).zip(&upstream_left).filter(|(_, left)| **left == 0).map(|(step, _)| step).collect();
        let mut sorted = 0;
        while let Some(step) = free.pop_front() {
            sorted += 1;
            for &down in &followers[step as usize] {
                upstream_left[down as usize] -= 1;
                if upstream_left[down as usize] == 0 {
                    free.push_back(down);
                }
            }
        }
        if sorted == self.steps.len() {
            return None;
        }
        let blocked_by: HashMap<StepNumber, StepNumber> = self
            .edges
            .iter()
            .filter(|edge| upstream_left[edge.up as usize] > 0 && upstream_left[edge.down as usize] > 0)
            .map(|edge| (edge.down, edge.up))
            .collect();
        let mut path = Vec::new();
        let mut step = *blocked_by.keys().min()?;
        loop {
            if let Some(start) = path.iter().position(|seen| *seen == step) {
                let mut cycle = path.split_off(start);
                cycle.reverse();
                return Some(cycle);
            }
            path.push(step);
            step = *blocked_by.get(&step)?;
        }
    }

    /// How many edges lead into each step.
    pub fn upstream_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.steps.len()];
        for edge in &self.edges {
            counts[edge.down as usize] += 1;
        }
        counts
    }
}

/// What is wrong with a failure policy that could never act.
fn policy_mistake(step: &StepSpec) -> Option<String> {
    let said = step.policy.said()?;
    if step.waits.is_some() {
        Some(format!("waits, and has one job that no worker runs: `.{said}()` has no rest to stop; leave it out"))
    } else if matches!(step.tolerate, Tolerate::Fraction(share) if share >= 1.0) {
        Some(format!(
            "tolerates that all of its jobs fail, so `.{said}()` would never act; tolerate fewer: `.tolerate(10)`, `.tolerate(Tolerate::Fraction(0.01))`"
        ))
    } else {
        None
    }
}

/// Refuses a name that is empty, too long, or has characters that would break a line, a key or `STEP#INDEX`.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MAX_NAME {
        format!("has {} bytes; at most {MAX_NAME} are allowed", name.len())
    } else if let Some(bad) = name.chars().find(|c| c.is_control() || matches!(c, '#' | '/' | '{' | '}')) {
        format!("has the character {bad:?}; control characters and # / {{ }} are not allowed")
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(60).collect();
    Err(Error::usage(format!("the {what} name `{}` {problem}", shown.escape_debug())))
}

/// Refuses a key that a store could not hold or a person not read; it may be empty.
pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.len() > MAX_NAME || key.chars().any(char::is_control) {
        let shown: String = key.chars().take(60).collect();
        return Err(Error::usage(format!(
            "the key `{}` is no key: it may have at most {MAX_NAME} bytes, and no control characters",
            shown.escape_debug()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(names: &[&str], edges: &[(u32, u32)]) -> Graph {
        Graph {
            steps: names.iter().map(|name| StepSpec::new(*name, "default")).collect(),
            edges: edges.iter().map(|&(up, down)| Edge { up, down, kind: EdgeKind::After }).collect(),
        }
    }

    #[test]
    fn a_graph_without_cycles_passes() {
        graph(&["csv", "xml", "report"], &[(0, 2), (1, 2)]).check().unwrap();
        graph(&[], &[]).check().unwrap();
    }

    #[test]
    fn a_cycle_is_refused_with_its_path() {
        let error =
            graph(&["in", "a", "b", "c", "out"], &[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)]).check().unwrap_err();
        let text = error.to_string();
        assert!(
            ["a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"].iter().any(|path| text.contains(path)),
            "{text}"
        );
    }

    #[test]
    fn a_step_that_waits_for_itself_is_a_cycle() {
        assert!(graph(&["a"], &[(0, 0)]).check().unwrap_err().to_string().contains("a -> a"));
    }

    #[test]
    fn what_a_source_feeds_must_be_there() {
        let mut source = graph(&["source", "rows"], &[(0, 1)]);
        source.steps[0].feeds = Some(2);
        assert!(source.check().unwrap_err().to_string().contains("step `source` feeds step 2"));
    }

    #[test]
    fn two_steps_of_one_name_are_refused() {
        assert!(graph(&["a", "a"], &[]).check().unwrap_err().to_string().contains("two steps are named `a`"));
    }

    #[test]
    fn names_and_options_that_cannot_work_are_refused() {
        assert!(graph(&["a#1"], &[]).check().unwrap_err().to_string().contains("'#'"));
        let mut typeless = graph(&["a"], &[]);
        typeless.steps[0].job_type = "a/b".into();
        assert!(typeless.check().unwrap_err().to_string().contains("the job type name `a/b`"));
        let mut never = graph(&["a"], &[]);
        never.steps[0].max_in_flight = Some(0);
        assert!(never.check().unwrap_err().to_string().contains("never run"));
        let mut hasty = graph(&["a"], &[]);
        hasty.steps[0].waits =
            Some(WaitsFor::Signal { signal_type: "A".into(), timeout: None, then: crate::waiting::Then::Skip });
        assert!(hasty.check().unwrap_err().to_string().contains("has no `.timeout(..)`"));
        let mut odd = graph(&["a"], &[]);
        odd.steps[0].tolerate = Tolerate::Fraction(1.5);
        assert!(odd.check().unwrap_err().to_string().contains("between 0 and 1"));
    }

    #[test]
    fn a_failure_policy_that_could_never_act_is_refused_with_what_would_be_right() {
        let refused = |change: fn(&mut StepSpec)| {
            let mut graph = graph(&["a", "b"], &[]);
            graph.steps[0].policy = FailurePolicy::FailFast;
            graph.steps[0].tolerate = Tolerate::Fraction(0.5);
            graph.check().unwrap();
            change(&mut graph.steps[0]);
            graph.check().unwrap_err().to_string()
        };
        assert!(
            refused(|step| step.tolerate = Tolerate::Fraction(1.0))
                .contains("`.fail_fast()` would never act; tolerate fewer")
        );
        let wait = |step: &mut StepSpec| {
            step.policy = FailurePolicy::Pause;
            step.waits =
                Some(WaitsFor::Signal { signal_type: "A".into(), timeout: None, then: crate::waiting::Then::Fail });
        };
        assert!(refused(wait).contains("`.or_pause()` has no rest to stop; leave it out"));
    }
}
