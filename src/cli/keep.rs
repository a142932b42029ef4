//! `expire ID`, `pin ID`, `unpin ID`: for how long one workflow is kept.

use super::house::House;
use super::out::{Ending, Outcome};
use super::target;
use crate::error::Error;
use crate::handle::Handle;
use crate::store::parse_duration;

/// Let a workflow be deleted some time after its end, or after now if it has finished
#[derive(Debug, clap::Args)]
pub struct Expire {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    /// After how long: 30m, 12h, 7d
    #[arg(long = "in", value_name = "TIME")]
    time: String,
}

impl Expire {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let time = parse_duration(&self.time).ok_or_else(|| {
            Error::usage(format!("`{}` is no length of time; one looks like 30m, 12h or 7d", self.time))
        })?;
        let handle = target::find(&house.client().await?, &self.id).await?;
        handle.expire_in(time).await?;
        tell(house, &handle).await
    }
}

/// Keep a workflow until it is unpinned, or deleted by its id
#[derive(Debug, clap::Args)]
pub struct Pin {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
}

impl Pin {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let handle = target::find(&house.client().await?, &self.id).await?;
        handle.pin().await?;
        tell(house, &handle).await
    }
}

/// Keep a workflow no longer than others of its type
#[derive(Debug, clap::Args)]
pub struct Unpin {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
}

impl Unpin {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let handle = target::find(&house.client().await?, &self.id).await?;
        handle.unpin().await?;
        tell(house, &handle).await
    }
}

/// How long it is kept from now on.
async fn tell<S>(house: &House<S>, handle: &Handle) -> Outcome {
    let view = handle.status_with(0).await?;
    if house.out.json {
        house.out.document(&view)?;
        return Ok(Ending::Fine);
    }
    let id = handle.id();
    house.out.text(&match view.expires_at {
        Some(at) => format!("{id} is kept until {}", super::time::at(at)),
        None if view.pinned => format!("{id} is pinned"),
        None if view.state.is_finished() => format!("{id} is kept for ever"),
        None => format!("{id} has not finished; it is kept until then"),
    })?;
    Ok(Ending::Fine)
}
