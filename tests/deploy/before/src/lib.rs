//! A program as it is before a deploy.

#[path = "../../../support/work.rs"]
mod work;

use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use work::work_for;

/// Weighs each of so many parcels, then adds up what they weigh.
#[derive(Debug, Serialize, Deserialize)]
pub struct Delivery {
    pub parcels: u64,
}

impl Workflow for Delivery {
    const NAME: &str = "Delivery";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let weights = flow.run_each((0..self.parcels).map(Weigh::of));
        flow.run(Total { weights: weights.outputs() });
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Weigh {
    pub parcel: u64,
    pub grams: u32,
}

impl Weigh {
    pub fn of(parcel: u64) -> Self {
        Self { parcel, grams: (parcel % 1_000) as u32 }
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

#[derive(Debug, Serialize, Deserialize)]
pub struct Total {
    pub weights: Outputs<u32>,
}

impl Job for Total {
    const NAME: &str = "Total";
    type Output = u64;
    type State = ();

    async fn perform(self, ctx: &Context) -> JobResult<u64> {
        let add = |sum: u64, (_, grams): (u64, u32)| async move { Ok(sum + u64::from(grams)) };
        self.weights.stream(ctx).try_fold(0, add).await
    }
}

pub fn app() -> App {
    App::stateless().workflow::<Delivery>().job::<Weigh>().job::<Total>()
}
