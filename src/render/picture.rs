//! What a picture of a workflow shows, whatever it is drawn as.

use super::words::number;
use crate::graph::{Edge, Graph};
use crate::state::{Counts, EdgeKind, FailurePolicy, StepState};
use crate::view::{EdgeView, StepView};
use crate::waiting::WaitsFor;

/// What a picture of a workflow shows.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The workflow's name.
    pub title: String,
    /// Its steps by number.
    pub nodes: Vec<Node>,
    /// Its edges; both ends are numbers of `nodes`.
    pub edges: Vec<Edge>,
}

/// One step of a picture.
#[derive(Clone, Debug)]
pub struct Node {
    /// The step's name.
    pub name: String,
    /// The type of its jobs.
    pub job_type: String,
    /// What it waits for, if no worker runs it.
    pub waits: Option<WaitsFor>,
    /// Whether its job is a condition.
    pub condition: bool,
    /// Whether its jobs are sources whose rows run while they still emit.
    pub eager: bool,
    /// What becomes of it as soon as more of its jobs have failed than it tolerates.
    pub policy: FailurePolicy,
    /// Where it stands, if the picture is of a run.
    pub progress: Option<(StepState, Counts)>,
    /// Whether it is paused, since so many have.
    pub paused: bool,
}

impl Node {
    /// The name, with the type if that is another, and what is not the usual: that it is eager, what failures do to it.
    pub fn label(&self) -> String {
        let label = match &self.waits {
            Some(waits) => format!("{}: {}", self.name, waits.words()),
            None if self.name == self.job_type => self.name.clone(),
            None => format!("{}: {}", self.name, self.job_type),
        };
        let label = if self.condition { format!("{label}?") } else { label };
        let label = if self.eager { format!("{label} (eager)") } else { label };
        match self.policy {
            FailurePolicy::RunOn => label,
            FailurePolicy::FailFast => format!("{label} (fails fast)"),
            FailurePolicy::Pause => format!("{label} (or pauses)"),
        }
    }

    /// How far it is, in a few words; nothing for a graph that does not run.
    pub fn status(&self) -> Option<String> {
        let (state, jobs) = self.progress?;
        let failed = if jobs.failed > 0 { format!(", {} failed", number(jobs.failed)) } else { String::new() };
        let state = if self.paused { "paused" } else { state.as_str() };
        Some(match (state, jobs.total) {
            ("waiting", 0) => state.to_owned(),
            (_, total) => format!("{state} {} of {}{failed}", number(jobs.settled()), number(total)),
        })
    }
}

impl Picture {
    /// Of a workflow that has not been created.
    pub fn of_graph(title: &str, graph: &Graph) -> Self {
        let node = |step: &crate::graph::StepSpec| Node {
            name: step.name.clone(),
            job_type: step.job_type.clone(),
            waits: step.waits.clone(),
            condition: step.condition,
            eager: step.eager.is_some(),
            policy: step.policy,
            progress: None,
            paused: false,
        };
        Self { title: title.to_owned(), nodes: graph.steps.iter().map(node).collect(), edges: graph.edges.clone() }
    }

    /// Of a run. `steps` are the first of the workflow, in order; an edge to a step behind them is left out.
    pub fn of_run(title: &str, steps: &[StepView], edges: &[EdgeView]) -> Self {
        let node = |step: &StepView| Node {
            name: step.name.clone(),
            job_type: step.job_type.clone(),
            waits: step.waits.clone(),
            condition: step.condition,
            eager: step.eager,
            policy: step.policy,
            progress: Some((step.state, step.jobs)),
            paused: step.paused,
        };
        let shown = |edge: &&EdgeView| (edge.up.max(edge.down) as usize) < steps.len();
        let edge = |edge: &EdgeView| Edge { up: edge.up, down: edge.down, kind: edge.kind };
        Self {
            title: title.to_owned(),
            nodes: steps.iter().map(node).collect(),
            edges: edges.iter().filter(shown).map(edge).collect(),
        }
    }

    /// The steps in layers: each stands one layer below the lowest of those that it waits for. By Kahn's algorithm (1962).
    pub fn layers(&self) -> Vec<Vec<usize>> {
        let mut upstream_left = vec![0u32; self.nodes.len()];
        let mut followers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            upstream_left[edge.down as usize] += 1;
            followers[edge.up as usize].push(edge.down as usize);
        }
        let mut layers = Vec::new();
        let mut layer: Vec<usize> = (0..self.nodes.len()).filter(|step| upstream_left[*step] == 0).collect();
        while !layer.is_empty() {
            let mut next = Vec::new();
            for step in &layer {
                for &down in &followers[*step] {
                    upstream_left[down] -= 1;
                    if upstream_left[down] == 0 {
                        next.push(down);
                    }
                }
            }
            next.sort_unstable();
            layers.push(std::mem::replace(&mut layer, next));
        }
        layers
    }
}

/// What an edge asks, in a word or two; nothing for the usual one.
pub fn edge_label(kind: EdgeKind) -> Option<&'static str> {
    match kind {
        EdgeKind::After => None,
        EdgeKind::AfterSettled => Some("settled"),
        EdgeKind::AfterFailure => Some("failed"),
        EdgeKind::Always => Some("always"),
        EdgeKind::Feeds => Some("emits"),
        EdgeKind::Chains => Some("each then"),
        EdgeKind::When => Some("if"),
        EdgeKind::Unless => Some("if not"),
        EdgeKind::Grows => Some("grows"),
        EdgeKind::OnDeath => Some("first death"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The import: two downloads, a step of rows that one of them emits, a report.
    pub fn import(run: bool) -> Picture {
        let node = |name: &str, state, total, succeeded, failed| Node {
            name: name.into(),
            job_type: name.into(),
            waits: None,
            condition: false,
            eager: false,
            policy: FailurePolicy::RunOn,
            paused: false,
            progress: run.then_some((state, Counts { total, succeeded, failed, ..Counts::default() })),
        };
        let edge = |up, down, kind| Edge { up, down, kind };
        Picture {
            title: "Import".into(),
            nodes: vec![
                node("ImportXml", StepState::Succeeded, 1, 1, 0),
                node("DownloadCsv", StepState::Succeeded, 1, 1, 0),
                node("ImportCsvRow", StepState::Running, 28_298, 12_345, 12),
                node("GenReport", StepState::Waiting, 1, 0, 0),
            ],
            edges: vec![edge(0, 3, EdgeKind::After), edge(1, 2, EdgeKind::Feeds), edge(2, 3, EdgeKind::AfterSettled)],
        }
    }

    /// Steps without edges, or each after the one before it.
    pub fn steps(count: u32, chain: bool) -> Picture {
        let node = |n: u32| Node {
            name: format!("s{n}"),
            job_type: "Step".into(),
            waits: None,
            condition: false,
            eager: false,
            policy: FailurePolicy::RunOn,
            progress: None,
            paused: false,
        };
        let edges = if chain {
            (1..count).map(|n| Edge { up: n - 1, down: n, kind: EdgeKind::After }).collect()
        } else {
            Vec::new()
        };
        Picture { title: "Many".into(), nodes: (0..count).map(node).collect(), edges }
    }

    #[test]
    fn a_step_stands_below_the_lowest_of_those_it_waits_for() {
        assert_eq!(import(false).layers(), [vec![0, 1], vec![2], vec![3]]);
        assert_eq!(steps(3, true).layers(), [[0], [1], [2]]);
        assert_eq!(steps(0, true).layers(), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_step_that_waits_is_labelled_with_what_it_waits_for() {
        let mut picture = import(false);
        picture.nodes[0].waits = Some(WaitsFor::Sleep(60_000));
        assert_eq!(picture.nodes[0].label(), "ImportXml: 1 min");
    }

    #[test]
    fn a_step_is_labelled_with_what_is_not_the_usual_and_says_that_it_is_paused() {
        let mut picture = import(true);
        picture.nodes[0].eager = true;
        picture.nodes[1].policy = FailurePolicy::FailFast;
        (picture.nodes[2].policy, picture.nodes[2].paused) = (FailurePolicy::Pause, true);
        assert_eq!(picture.nodes[0].label(), "ImportXml (eager)");
        assert_eq!(picture.nodes[1].label(), "DownloadCsv (fails fast)");
        assert_eq!(picture.nodes[2].label(), "ImportCsvRow (or pauses)");
        assert_eq!(picture.nodes[2].status().unwrap(), "paused 12,357 of 28,298, 12 failed");
    }

    #[test]
    fn a_status_says_how_many_jobs_are_settled_and_how_many_failed() {
        let picture = import(true);
        assert_eq!(picture.nodes[2].status().unwrap(), "running 12,357 of 28,298, 12 failed");
        assert_eq!(import(false).nodes[2].status(), None);
    }
}
