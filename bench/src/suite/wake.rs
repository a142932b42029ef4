//! How soon a job starts on a worker that was idle.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use gusher::prelude::*;
use gusher::store::Store;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::announce;
use super::scene::{Scene, Working};
use super::table::Row;
use crate::cost::Worst;
use crate::machine::DiskProbe;
use crate::place::Place;
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

/// Measures on a file.
pub async fn measure(folder: Option<&Path>, worst: &mut Worst) -> Result<Row> {
    announce("how soon an idle worker starts a job");
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    // A disk does not take equally long all the time, so what a commit takes is measured in turn with the starts.
    let mut probe = DiskProbe::new(folder)?;
    let times = Times::measure(scene.store.clone(), || probe.commit()).await?;
    scene.add_to(worst);
    let commit = probe.measured().commit;
    let budget = 2 * commit + Duration::from_millis(1);
    let told = format!("SQLite two commits + 1 ms: ≤ {budget:.2?} where a commit takes {commit:.2?}");
    Ok(times.against("idle → start", told, budget))
}

/// Measures on a Redis server of its own.
pub async fn measure_redis(worst: &mut Worst) -> Result<Row> {
    announce("how soon an idle worker starts a job on Redis");
    let place = Place::named("redis", None)?;
    let store = gusher::store::open(place.fresh()?).await?;
    let times = Times::measure(store.clone(), || Ok(())).await?;
    worst.take_in(Worst::of(store.meters()));
    Ok(times.against("Redis, idle → start", "≤ 2 ms median".to_owned(), Duration::from_millis(2)))
}

/// From asking for jobs until they had started, in order of length.
struct Times(Vec<Duration>);

impl Times {
    /// Does `between` in the middle of each pause.
    async fn measure(store: Arc<dyn Store>, mut between: impl FnMut() -> Result<()>) -> Result<Self> {
        let (sender, mut starts) = unbounded_channel();
        let app = app(&Arc::new(Started(sender)));
        let client = app.client_on(store.clone());
        let worker = Working::start(&app, store, 4).await?;
        let mut times = Vec::new();
        for n in 0..TIMES {
            // Long enough to be idle again; not always equally long, so as not to fall into step with the worker's own looks.
            tokio::time::sleep(Duration::from_millis(60 + random(2 * n) % 50)).await;
            between()?;
            tokio::time::sleep(Duration::from_millis(60 + random(2 * n + 1) % 50)).await;
            let asked = Instant::now();
            let run = client.start(Single).await?;
            times.push(starts.recv().await.context("the worker has ended")? - asked);
            run.wait().await?;
        }
        worker.stop().await?;
        times.sort_unstable();
        Ok(Self(times))
    }

    fn against(&self, what: &str, told: String, budget: Duration) -> Row {
        let (median, longest) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        let measured = format!("median {median:.2?} of {TIMES}, longest {longest:.2?}");
        Row::judged(what, told, measured, median <= budget)
    }
}
