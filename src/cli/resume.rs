//! `resume ID`.

use super::house::House;
use super::out::{Ending, Outcome};
use super::{show, target};

/// Undo `pause`
#[derive(Debug, clap::Args)]
pub struct Resume {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
}

impl Resume {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        handle.resume().await?;
        show::state_now(&house.out, &handle).await?;
        Ok(Ending::Fine)
    }
}
