//! A worker is killed with -9 while it holds jobs: how long until another, which lives or comes later, has started all of them again.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gusher::prelude::*;
use gusher::store::Store;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::announce;
use super::scene::{Scene, Working};
use super::sizes::Sizes;
use super::table::Row;
use crate::child::{self, Task};
use crate::cost::Worst;

/// How many jobs the victim holds, one a slot.
const JOBS: u32 = 4;
/// How often one is killed while another lives.
const KILLS: u32 = 3;

/// Who runs the jobs.
#[derive(Debug)]
enum Role {
    /// Says on its standard output that it has started a job, and never ends it.
    Victim,
    /// Tells when it started a job, and ends it at once.
    Survivor(UnboundedSender<Instant>),
}

#[derive(Serialize, Deserialize)]
struct Held {
    job: u32,
}

impl Job for Held {
    const NAME: &str = "Held";
    type Output = ();
    type State = Arc<Role>;

    async fn perform(self, ctx: &Context<Arc<Role>>) -> JobResult<()> {
        match &**ctx.state() {
            Role::Survivor(started) => Ok(started.send(Instant::now())?),
            Role::Victim => {
                println!("started");
                std::future::pending().await
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Few;

impl Workflow for Few {
    const NAME: &str = "Few";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..JOBS).map(|job| Held { job }));
        Ok(())
    }
}

fn app(role: Role) -> App<Arc<Role>> {
    let role = Arc::new(role);
    App::new(move || std::future::ready(Ok::<_, std::convert::Infallible>(role.clone()))).job::<Held>()
}

/// Works on the store until it is killed, or until who started it is gone.
pub async fn be_a_victim(url: &str, slots: u32) -> Result<()> {
    let orphaned = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let worker = Working::start(&app(Role::Victim), gusher::store::open(url).await?, slots).await?;
    orphaned.await??;
    drop(worker);
    std::process::exit(1)
}

/// Measures with another worker that lives, then with none.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Vec<Row>> {
    let mut longest = Duration::ZERO;
    for kill in 0..KILLS {
        announce(&format!("a killed worker, {} of {KILLS}", kill + 1));
        let scene = Scene::new(folder, sizes.lease).await?;
        longest = longest.max(kill_one(&scene, sizes.lease, Other::Lives { number: kill }).await?);
        scene.add_to(worst);
    }
    announce("the only worker killed");
    let scene = Scene::new(folder, sizes.lease).await?;
    let alone = kill_one(&scene, sizes.lease, Other::ComesBack).await?;
    scene.add_to(worst);

    let row = |what: &str, took: Duration, of: &str| {
        let budget = format!("≤ lease ({} s) + 1 s", sizes.lease.as_secs());
        let within = took <= sizes.lease + Duration::from_secs(1);
        Row::judged(what, budget, format!("{:.2} s{of}", took.as_secs_f64()), within)
    };
    let of = format!(", the longest of {KILLS}");
    Ok(vec![
        row("worker killed with -9 while another lives → its jobs can be claimed again", longest, &of),
        row("the same if none lived, after the first is back", alone, ""),
    ])
}

/// Who takes the jobs of the victim.
#[derive(Clone, Copy)]
enum Other {
    /// A worker that is there when the victim is killed, each time at another moment between two of its renewals.
    Lives { number: u32 },
    /// One that starts long after that.
    ComesBack,
}

/// Kills a worker that holds jobs; returns how long it took, once another was there, until that had started all of them.
async fn kill_one(scene: &Scene, lease: Duration, other: Other) -> Result<Duration> {
    let (sender, mut starts) = unbounded_channel();
    let app = app(Role::Survivor(sender));
    let run = app.client_on(scene.store.clone()).start(Few).await?;
    let victim = child::start(&Task::Victim { url: scene.store.url(), slots: JOBS })?;
    let mut victim = Guard(victim);
    let holds = victim.0.stdout.take().context("a victim has an output")?;
    let told = tokio::task::spawn_blocking(move || BufReader::new(holds).lines().take(JOBS as usize).count());
    ensure!(told.await? == JOBS as usize, "the victim ended before it was killed");

    let start = || Working::start(&app, scene.store.clone(), JOBS);
    let survivor = match other {
        Other::Lives { number } => {
            let survivor = start().await?;
            tokio::time::sleep(Duration::from_secs(1) + number * lease / 3 / KILLS).await;
            Some(survivor)
        }
        Other::ComesBack => None,
    };
    let held: u64 = scene.store.workers(9).await?.iter().map(|worker| worker.leases).sum();
    ensure!(held > 0 && starts.try_recv().is_err(), "the victim should still hold every job when it is killed");
    let killed = Instant::now();
    victim.kill()?;
    let (there, survivor) = match survivor {
        Some(survivor) => (killed, survivor),
        None => {
            tokio::time::sleep(lease).await;
            (Instant::now(), start().await?)
        }
    };
    let mut last = there;
    for _ in 0..JOBS {
        let start = tokio::time::timeout(4 * lease, starts.recv()).await;
        last = start.context("the victim's jobs do not come back")?.context("the survivor has ended")?;
    }
    run.wait().await?;
    survivor.stop().await?;
    Ok(last - there)
}

/// A child that does not outlive its scene.
struct Guard(Child);

impl Guard {
    /// SIGKILL.
    fn kill(&mut self) -> Result<()> {
        self.0.kill().context("killing the victim")?;
        self.0.wait().context("waiting for the victim's end")?;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.kill();
    }
}
