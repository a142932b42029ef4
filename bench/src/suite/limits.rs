//! What is beyond a limit is refused with a clear error; what is at it is taken.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use gusher::prelude::*;
use gusher::{ErrorKind, WorkflowState};

use super::announce;
use super::scene::{Scene, Working};
use super::table::Row;
use crate::cost::Worst;

/// A job with parameters, and an output, of a given size.
#[derive(Serialize, Deserialize)]
struct Blob {
    text: String,
    returns: usize,
}

impl Blob {
    /// Whose parameters have so many bytes as JSON.
    fn of(bytes: usize) -> Self {
        let frame = serde_json::to_vec(&Blob { text: String::new(), returns: 0 }).map_or(0, |json| json.len());
        Blob { text: "x".repeat(bytes - frame), returns: 0 }
    }
}

impl Job for Blob {
    const NAME: &str = "Blob";
    type Output = String;
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<String> {
        // Two of the bytes are quotes.
        Ok("x".repeat(self.returns.saturating_sub(2)))
    }
}

/// A workflow at, or beyond, one of the limits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Sized {
    Parameters(usize),
    Output(usize),
    Steps(usize),
    Edges(usize),
    Name(usize),
}

impl Workflow for Sized {
    const NAME: &str = "Sized";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let small = || Blob { text: String::new(), returns: 0 };
        match *self {
            Sized::Parameters(bytes) => {
                flow.run(Blob::of(bytes));
            }
            Sized::Output(bytes) => {
                flow.run(Blob { returns: bytes, ..small() });
            }
            Sized::Name(bytes) => {
                flow.run(small()).named("n".repeat(bytes));
            }
            Sized::Steps(steps) => {
                for step in 0..steps {
                    flow.run(small()).named(format!("s{step}"));
                }
            }
            Sized::Edges(edges) => {
                // Every step after all before it: 450 of them have 101,025 edges.
                let mut steps = Vec::new();
                let mut left = edges;
                for number in 0..450 {
                    let step = flow.run(small()).named(format!("s{number}"));
                    let before = left.min(steps.len());
                    step.after(&steps[..before]);
                    left -= before;
                    steps.push(step);
                }
            }
        }
        Ok(())
    }
}

/// The limits of the design, and one more than each of them.
fn limits() -> [(Sized, Sized, &'static str); 5] {
    let kib = 1024;
    [
        (Sized::Parameters(256 * kib), Sized::Parameters(256 * kib + 1), "262144"),
        (Sized::Output(256 * kib), Sized::Output(256 * kib + 1), "262144"),
        (Sized::Steps(20_000), Sized::Steps(20_001), "20000"),
        (Sized::Edges(100_000), Sized::Edges(100_001), "100000"),
        (Sized::Name(255), Sized::Name(256), "255"),
    ]
}

/// Measures.
pub async fn measure(folder: Option<&Path>, worst: &mut Worst) -> Result<Row> {
    announce("what is refused");
    let mut broken = Vec::new();
    for (at, beyond, figure) in limits() {
        let scene = Scene::new(folder, Duration::from_secs(15)).await?;
        if let Some(error) = refused(&scene, at).await? {
            broken.push(format!("{at:?} is refused: {error}"));
        }
        // The error must name the limit, with or without commas.
        match refused(&scene, beyond).await? {
            Some(error) if error.replace(',', "").contains(figure) => {}
            Some(error) => broken.push(format!("{beyond:?} is refused without the limit: {error}")),
            None => broken.push(format!("{beyond:?} is taken")),
        }
        scene.add_to(worst);
    }
    let measured = if broken.is_empty() {
        "each limit is taken, one more is refused, and the error names it".to_owned()
    } else {
        broken.join("; ")
    };
    let budget = "256 KiB a job's parameters or output, 20,000 steps, 100,000 edges, 255 bytes a name";
    Ok(Row::judged("limits, refused with a clear error beyond", budget, measured, broken.is_empty()))
}

/// The error that refuses it, if one does: when it is created or, for an output, when its job returns it.
async fn refused(scene: &Scene, sized: Sized) -> Result<Option<String>> {
    let app = App::stateless().job::<Blob>();
    let run = match app.client_on(scene.store.clone()).start(sized).await {
        Ok(run) => run,
        Err(error) if error.kind() == ErrorKind::Usage => return Ok(Some(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    if !matches!(sized, Sized::Output(_)) {
        return Ok(None);
    }
    let worker = Working::start(&app, scene.store.clone(), 1).await?;
    let done = run.wait().await?;
    worker.stop().await?;
    if done.state == WorkflowState::Succeeded {
        return Ok(None);
    }
    Ok(run.job("Blob", 0).await?.errors.pop().map(|attempt| attempt.error))
}
