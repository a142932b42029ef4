//! `resume ID`, `resume --queue NAME`, `resume --type NAME`.

use super::house::House;
use super::out::{Ending, Outcome};
use super::pause::{What, tell};
use super::{show, target};
use crate::error::Error;

/// Undo `pause`
#[derive(Debug, clap::Args)]
pub struct Resume {
    #[command(flatten)]
    what: What,
}

impl Resume {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        match (self.what.pausable(), self.what.id()) {
            (Some(what), _) => {
                client.resume(what).await?;
                tell(house, &client).await
            }
            (None, Some(id)) => {
                let handle = target::find(&client, id).await?;
                handle.resume().await?;
                show::state_now(&house.out, &handle).await?;
                Ok(Ending::Fine)
            }
            (None, None) => {
                Err(Error::usage("what is to go on? Name a workflow's ID, --queue NAME or --type NAME").into())
            }
        }
    }
}
