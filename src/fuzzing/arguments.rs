//! What stands behind `--args`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check_error;
use super::graph::{Row, Rows, check_plan};
use crate::app::{App, Registry};
use crate::error::{ErrorKind, Result};
use crate::state::Tolerate;
use crate::workflow::{Flow, Step, Workflow};

/// A workflow whose graph is in its arguments.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Told {
    steps: Vec<Wish>,
    #[serde(default)]
    edges: Vec<(usize, usize)>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wish {
    Row(String),
    Rows { like: Option<char>, count: u8 },
    Source { name: Option<String>, tolerate: Tolerate, timeout: Option<Duration>, at: (f64, f32) },
    Other(BTreeMap<String, serde_json::Value>),
}

impl Workflow for Told {
    const NAME: &str = "Told";
    fn configure(&self, flow: &Flow) -> Result<()> {
        let steps: Vec<Step<'_, Row>> = self.steps.iter().take(50).map(|wish| wish.step(flow)).collect();
        for (up, down) in &self.edges {
            let (Some(up), Some(down)) = (steps.get(*up), steps.get(*down)) else {
                return Err(crate::Error::usage("an edge has no end"));
            };
            down.after(*up);
        }
        Ok(())
    }
}

impl Wish {
    fn step<'f>(&self, flow: &'f Flow) -> Step<'f, Row> {
        let row = |text: &str| Row { text: text.to_owned(), reads: None };
        match self {
            Wish::Row(name) => flow.run(row("")).named(name),
            Wish::Rows { like, count } => {
                let text = like.map(String::from).unwrap_or_default();
                flow.run_each((0..*count).map(move |_| Row { text: text.clone(), reads: None }))
            }
            Wish::Source { name, tolerate, timeout, .. } => {
                let step = flow.expand(Rows).tolerate(*tolerate);
                let step = timeout.map_or(step, |timeout| step.timeout(timeout));
                name.as_ref().map_or(step, |name| step.source(|source| source.named(name)))
            }
            Wish::Other(fields) => flow.run(row(&serde_json::to_string(fields).unwrap_or_default())),
        }
    }
}

/// One without arguments, of which `null` and nothing at all are right.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Nightly;

impl Workflow for Nightly {
    const NAME: &str = "Nightly";
    fn configure(&self, flow: &Flow) -> Result<()> {
        flow.run(Row { text: String::new(), reads: None });
        Ok(())
    }
}

/// Any text as arguments, and as the name, of a workflow: one that can be created, or an error that blames who typed it.
pub fn arguments(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let app = App::stateless().job::<Row>().source::<Rows>().workflow::<Told>().workflow::<Nightly>();
    for name in ["Told", "Nightly", text] {
        plan(&app.registry, name, Some(text));
    }
    assert!(plan(&app.registry, "Nightly", None).is_some());
}

fn plan(registry: &Registry, name: &str, given: Option<&str>) -> Option<String> {
    let planned = crate::cli::start::arguments(registry, name, given).and_then(|json| registry.plan(name, &json));
    let (arguments, plan) = match planned {
        Ok(planned) => planned,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            check_error(&error);
            return None;
        }
    };
    registry.check(name, &plan).unwrap();
    check_plan(plan);
    // What is stored starts the same workflow again.
    let stored = crate::view::raw(arguments.clone());
    assert_eq!(registry.plan(name, &stored).unwrap().0, arguments);
    Some(arguments)
}
