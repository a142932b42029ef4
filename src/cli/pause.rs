//! `pause ID`, `pause --queue NAME`, `pause --type NAME`; alone it tells what is paused.

use super::house::House;
use super::out::{Ending, Outcome};
use super::{show, target};
use crate::client::Client;
use crate::error::Result;
use crate::render::words::escape;
use crate::store::Pausable;

/// Hand out nothing more of a workflow, a queue or a job type until `resume`
///
/// Without any of them: show which queues and job types are paused.
#[derive(Debug, clap::Args)]
pub struct Pause {
    #[command(flatten)]
    what: What,
}

/// What is paused, or goes on.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct What {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// A queue, for all workflows and lone jobs
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// A job type, for all workflows and lone jobs
    #[arg(long = "type", value_name = "NAME")]
    job_type: Option<String>,
}

impl What {
    /// The queue or the type, if it is one.
    pub fn pausable(&self) -> Option<Pausable> {
        self.queue.clone().map(Pausable::Queue).or_else(|| self.job_type.clone().map(Pausable::Type))
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl Pause {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        match (self.what.pausable(), self.what.id()) {
            (Some(what), _) => client.pause(what).await?,
            (None, Some(id)) => {
                let handle = target::find(&client, id).await?;
                handle.pause().await?;
                show::state_now(&house.out, &handle).await?;
                return Ok(Ending::Fine);
            }
            (None, None) => {}
        }
        tell(house, &client).await
    }
}

/// Which queues and types are paused now.
pub async fn tell<S: Send + Sync + 'static>(house: &House<S>, client: &Client) -> Outcome {
    let paused: Result<Vec<Pausable>> = client.paused().await;
    let paused = paused?;
    if house.out.json {
        house.out.document(&paused)?;
    } else if paused.is_empty() {
        house.out.text("no queue and no job type is paused")?;
    } else {
        let lines: Vec<String> = paused.iter().map(|what| format!("{} is paused", escape(&what.to_string()))).collect();
        house.out.text(&lines.join("\n"))?;
    }
    Ok(Ending::Fine)
}
