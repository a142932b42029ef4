//! `start-again ID`: runs a finished workflow anew under its id.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::follow::Wait;
use super::house::House;
use super::out::Outcome;
use super::start::{announce, creating};
use super::target;

/// Run a finished workflow anew, under the same id; what it had is deleted
#[derive(Debug, clap::Args)]
pub struct StartAgain {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    wait: Wait,
}

impl StartAgain {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        let name = handle.status_with(0).await?.name;
        let created = Arc::new(AtomicU64::new(0));
        let start = client.start_again(handle.id(), created.clone());
        let handle = if house.out.json { start.await? } else { creating(house, &name, &created, start).await? };
        announce(house, &client, &handle, &self.wait).await
    }
}
