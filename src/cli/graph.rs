//! `graph NAME|ID`: a picture of a workflow that could be started, or of a run.

use serde::Serialize;

use super::house::House;
use super::out::{Ending, Outcome};
use super::{start, target};
use crate::error::Result;
use crate::render::words::escape;
use crate::render::{Picture, dot, mermaid, text};
use crate::state::{Counts, EdgeKind, FailurePolicy, StepState};
use crate::waiting::WaitsFor;

/// Draw the graph of a workflow, or of a run with its states
#[derive(Debug, clap::Args)]
pub struct Graph {
    /// A registered workflow, or a run
    #[arg(value_name = "NAME|ID")]
    what: String,
    /// The arguments of the registered workflow; {} unless given
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// As what
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    /// A flowchart for Markdown
    Mermaid,
    /// For Graphviz
    Dot,
}

#[derive(Serialize)]
struct GraphView<'a> {
    name: &'a str,
    steps: Vec<NodeView<'a>>,
    edges: Vec<LinkView<'a>>,
}

#[derive(Serialize)]
struct NodeView<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    job_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<&'a WaitsFor>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    condition: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    eager: bool,
    #[serde(skip_serializing_if = "FailurePolicy::is_default")]
    policy: FailurePolicy,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<StepState>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    jobs: Option<Counts>,
}

#[derive(Serialize)]
struct LinkView<'a> {
    from: &'a str,
    to: &'a str,
    kind: EdgeKind,
}

impl Graph {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let picture = if target::is_id(&self.what) { self.of_run(house).await? } else { self.of_registered(house)? };
        if house.out.json {
            house.out.document(&view(&picture))?;
            return Ok(Ending::Fine);
        }
        let drawn = match self.format {
            Format::Text => text::text(&picture).lines().map(|line| escape(line) + "\n").collect::<String>(),
            Format::Mermaid => mermaid::mermaid(&picture),
            Format::Dot => dot::dot(&picture),
        };
        house.out.text(&drawn)?;
        Ok(Ending::Fine)
    }

    fn of_registered<S>(&self, house: &House<S>) -> Result<Picture> {
        let registry = &house.app.registry;
        let arguments = start::arguments(registry, &self.what, self.args.as_deref())?;
        Ok(Picture::of_graph(&self.what, &registry.plan(&self.what, &arguments)?.1.graph))
    }

    async fn of_run<S: Send + Sync + 'static>(&self, house: &House<S>) -> Result<Picture> {
        let client = house.client().await?;
        let handle = target::find(&client, &self.what).await?;
        handle.picture().await
    }
}

fn view(picture: &Picture) -> GraphView<'_> {
    let name = |step: u32| picture.nodes.get(step as usize).map_or("", |node| node.name.as_str());
    GraphView {
        name: &picture.title,
        steps: picture
            .nodes
            .iter()
            .map(|node| NodeView {
                name: &node.name,
                job_type: &node.job_type,
                waits: node.waits.as_ref(),
                condition: node.condition,
                eager: node.eager,
                policy: node.policy,
                paused: node.paused,
                state: node.progress.map(|(state, _)| state),
                jobs: node.progress.map(|(_, jobs)| jobs),
            })
            .collect(),
        edges: picture
            .edges
            .iter()
            .map(|edge| LinkView { from: name(edge.up), to: name(edge.down), kind: edge.kind })
            .collect(),
    }
}
