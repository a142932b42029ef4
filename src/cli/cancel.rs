//! `cancel ID`.

use super::house::House;
use super::out::{Ending, Outcome};
use super::{show, target};

/// Hand out nothing more of a workflow; running jobs have ten seconds to come to their end
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
}

impl Cancel {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        handle.cancel().await?;
        show::state_now(&house.out, &handle).await?;
        Ok(Ending::Fine)
    }
}
