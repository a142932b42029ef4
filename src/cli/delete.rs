//! `delete ID`.

use super::house::House;
use super::out::{Ending, Outcome};
use super::target;

/// Delete a finished workflow
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
}

impl Delete {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        handle.delete().await?;
        if house.out.json {
            house.out.document(&serde_json::json!({ "deleted": handle.id() }))?;
        } else {
            house.out.text(&format!("{} is deleted", handle.id()))?;
        }
        Ok(Ending::Fine)
    }
}
