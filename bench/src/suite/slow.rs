//! Many fast rows and a few slow ones: the fast ones must not wait behind the slow ones, nor the slow ones for each other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gusher::WorkflowState;
use gusher::prelude::*;

use super::announce;
use super::scene::{Scene, Working};
use super::sizes::Sizes;
use super::table::Row;
use crate::cost::Worst;
use crate::figures::thousands;
use crate::rows::random;

/// One row of so many is slow.
const ONE_IN: u64 = 1_000;
/// How long it takes.
const SLOW: Duration = Duration::from_secs(2);
/// How many rows at once.
const SLOTS: u32 = 8;

#[derive(Serialize, Deserialize)]
struct Uneven {
    row: u64,
}

impl Uneven {
    /// One of every thousand, anywhere among them.
    fn is_slow(&self) -> bool {
        random(self.row / ONE_IN) % ONE_IN == self.row % ONE_IN
    }
}

impl Job for Uneven {
    const NAME: &str = "Uneven";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        if self.is_slow() {
            tokio::time::sleep(SLOW).await;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Mixed {
    rows: u64,
}

impl Workflow for Mixed {
    const NAME: &str = "Mixed";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..self.rows).map(|row| Uneven { row }));
        Ok(())
    }
}

/// What the slots allow at best: the slow rows in rounds of one a slot, the fast ones for nothing.
fn ideal(rows: u64) -> Duration {
    let slow = (rows / ONE_IN) as u32;
    slow.div_ceil(SLOTS) * SLOW
}

/// Measures.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    announce("a few slow rows among many");
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    let app = App::stateless().job::<Uneven>();
    let run = app.client_on(scene.store.clone()).start(Mixed { rows: sizes.with_slow }).await?;
    let started = Instant::now();
    let worker = Working::start(&app, scene.store.clone(), SLOTS).await?;
    let done = run.wait().await?;
    let took = started.elapsed();
    worker.stop().await?;
    scene.add_to(worst);
    ensure!(done.state == WorkflowState::Succeeded, "the import with slow rows ended as {}", done.state);

    let (took, ideal) = (took.as_secs_f64(), ideal(sizes.with_slow).as_secs_f64());
    let ratio = took / ideal;
    let measured = format!("{ratio:.2} × ({took:.2} s; {SLOTS} slots allow {ideal:.0} s)");
    let what = format!("{} rows, 0.1 % of them 2 s", thousands(sizes.with_slow));
    Ok(Row::judged(what, "≤ 1.5 × the ideal", measured, ratio <= 1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_in_a_thousand_is_slow_and_the_slots_share_them_in_rounds() {
        assert_eq!((0..100_000).filter(|row| Uneven { row: *row }.is_slow()).count(), 100);
        assert_eq!(ideal(100_000), Duration::from_secs(26));
    }
}
