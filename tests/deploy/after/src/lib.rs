//! The same program as the deploy brings it: parcels are weighed with scales, which are calibrated first.

#[path = "../../../support/work.rs"]
mod work;

use std::time::Duration;

// What is the same in both versions.
pub use deploy_before::Total;
use gusher::prelude::*;
use work::work_for;

/// The scales that all parcels are weighed with.
pub const SCALES: &str = "the left ones";

/// Calibrates the scales, weighs each of so many parcels, then adds up what they weigh.
#[derive(Debug, Serialize, Deserialize)]
pub struct Delivery {
    pub parcels: u64,
}

impl Workflow for Delivery {
    const NAME: &str = "Delivery";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let calibrated = flow.run(Calibrate::the_scales());
        let weights = flow.run_each((0..self.parcels).map(Weigh::of)).after(calibrated);
        flow.run(Total { weights: weights.outputs() });
        Ok(())
    }
}

/// A type that did not exist before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Calibrate {
    pub scales: String,
}

impl Calibrate {
    pub fn the_scales() -> Self {
        Self { scales: SCALES.to_owned() }
    }
}

impl Job for Calibrate {
    const NAME: &str = "Calibrate";
    type Output = String;
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<String> {
        Ok(self.scales)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Weigh {
    pub parcel: u64,
    pub grams: u32,
    /// Did not exist before.
    #[serde(default)]
    pub scales: Option<String>,
}

impl Weigh {
    pub fn of(parcel: u64) -> Self {
        Self { parcel, grams: (parcel % 1_000) as u32, scales: Some(SCALES.to_owned()) }
    }
}

impl Job for Weigh {
    const NAME: &str = "Weigh";
    type Output = u32;
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<u32> {
        work_for(Duration::from_millis(2)).await;
        Ok(self.grams)
    }
}

pub fn app() -> App {
    App::stateless().workflow::<Delivery>().job::<Calibrate>().job::<Weigh>().job::<Total>()
}
