//! How soon a job starts on a worker that was idle.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use gusher::prelude::*;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::announce;
use super::scene::{Scene, Working};
use super::table::Row;
use crate::cost::Worst;
use crate::machine::DiskProbe;
use crate::rows::random;

/// How often it is measured.
const TIMES: u64 = 50;

/// Where jobs tell when they started.
#[derive(Debug)]
pub struct Started(UnboundedSender<Instant>);

impl Started {
    /// For who does not want to know.
    pub fn nowhere() -> Arc<Self> {
        Arc::new(Self(unbounded_channel().0))
    }
}

/// A job that tells when it started.
#[derive(Serialize, Deserialize)]
struct Tell;

impl Job for Tell {
    const NAME: &str = "Tell";
    type Output = ();
    type State = Arc<Started>;

    async fn perform(self, ctx: &Context<Arc<Started>>) -> JobResult<()> {
        // Nobody may want to know.
        let _ = ctx.state().0.send(Instant::now());
        Ok(())
    }
}

/// A workflow of one job.
#[derive(Serialize, Deserialize)]
pub struct Single;

impl Workflow for Single {
    const NAME: &str = "Single";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(Tell);
        Ok(())
    }
}

/// An application whose only job tells when it started.
pub fn app(started: &Arc<Started>) -> App<Arc<Started>> {
    let started = started.clone();
    App::new(move || std::future::ready(Ok::<_, std::convert::Infallible>(started.clone()))).job::<Tell>()
}

/// Measures.
pub async fn measure(folder: Option<&Path>, worst: &mut Worst) -> Result<Row> {
    announce("how soon an idle worker starts a job");
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    let (sender, mut starts) = unbounded_channel();
    let app = app(&Arc::new(Started(sender)));
    let client = app.client_on(scene.store.clone());
    let worker = Working::start(&app, scene.store.clone(), 4).await?;
    let mut times = Vec::new();
    // A disk does not take equally long all the time, so what a commit takes is measured in turn with the starts.
    let mut probe = DiskProbe::new(folder)?;
    for n in 0..TIMES {
        // Long enough to be idle again; not always equally long, so as not to fall into step with the worker's own looks.
        tokio::time::sleep(Duration::from_millis(60 + random(2 * n) % 50)).await;
        probe.commit()?;
        tokio::time::sleep(Duration::from_millis(60 + random(2 * n + 1) % 50)).await;
        let asked = Instant::now();
        let run = client.start(Single).await?;
        times.push(starts.recv().await.context("the worker has ended")? - asked);
        run.wait().await?;
    }
    worker.stop().await?;
    scene.add_to(worst);

    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let commit = probe.measured().commit;
    let budget = 2 * commit + Duration::from_millis(1);
    let measured = format!("median {median:.2?} of {TIMES}, longest {longest:.2?}");
    let told = format!("SQLite two commits + 1 ms: ≤ {budget:.2?} where a commit takes {commit:.2?}");
    Ok(Row::judged("idle → start", told, measured, median <= budget))
}
