//! `start NAME`: creates a workflow.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::value::RawValue;

use super::follow::{STEPS, Wait};
use super::house::House;
use super::out::{Ending, Outcome};
use super::progress::Progress;
use crate::app::Registry;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::starting::Started;

/// Start a workflow; prints its id
#[derive(Debug, clap::Args)]
pub struct Start {
    /// Which workflow
    #[arg(value_name = "NAME")]
    name: String,
    /// Its arguments; {} unless given
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// Not beside another one that was started so and has not finished; prints that one's id and ends with 3
    #[arg(long)]
    unless_running: bool,
    /// Only those with the same key are in each other's way
    #[arg(long, value_name = "KEY", requires = "unless_running", default_value = "", hide_default_value = true)]
    key: String,
    #[command(flatten)]
    wait: Wait,
}

impl Start {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let arguments = arguments(&house.app.registry, &self.name, self.args.as_deref())?;
        if house.missing_file()?.is_some() {
            // A workflow that cannot be made must not leave a store behind.
            house.app.registry.plan(&self.name, &arguments)?;
        }
        let client = house.client_or_new().await?;
        let created = Arc::new(AtomicU64::new(0));
        if self.unless_running {
            let start = client.start_named_unless_running(&self.name, &self.key, &arguments, created.clone());
            return match start.await? {
                Started::New(handle) => announce(house, &client, &handle, &self.wait).await,
                Started::Running(handle) => in_the_way(house, handle.id()),
            };
        }
        let start = client.start_named(&self.name, &arguments, created.clone());
        let handle = if house.out.json { start.await? } else { creating(house, &self.name, &created, start).await? };
        announce(house, &client, &handle, &self.wait).await
    }
}

/// Tells that nothing has been started, and why.
fn in_the_way<S>(house: &House<S>, holder: WorkflowId) -> Outcome {
    if house.out.json {
        house.out.document(&serde_json::json!({ "started": false, "running": holder }))?;
    } else {
        house.out.text(&holder.to_string())?;
        house.out.note("nothing has been started: this one has not finished");
    }
    Ok(Ending::Skipped)
}

/// Shows the jobs being created, under the program's name.
pub async fn creating<S>(
    house: &House<S>,
    name: &str,
    created: &AtomicU64,
    work: impl Future<Output = Result<Handle>>,
) -> Result<Handle> {
    Progress::new().program(&house.out.program).creating(name, created, work).await
}

/// Prints a workflow that has begun, and waits for it if that was asked for.
pub async fn announce<S: Send + Sync + 'static>(
    house: &House<S>,
    client: &Client,
    handle: &Handle,
    wait: &Wait,
) -> Outcome {
    let out = &house.out;
    if !out.json {
        out.text(&handle.id().to_string())?;
    }
    if wait.is_asked_for() {
        return wait.follow(house, handle).await;
    }
    if out.json {
        out.document(&handle.status_with(STEPS).await?)?;
    } else if client.store().workers(1).await?.is_empty() {
        out.note(&format!("no worker is alive yet; `{} worker` runs it", out.program));
    }
    Ok(Ending::Fine)
}

/// The arguments as they were given. Without any, those of a workflow that has none or whose have defaults.
pub fn arguments(registry: &Registry, name: &str, given: Option<&str>) -> Result<Box<RawValue>> {
    if let Some(given) = given {
        return RawValue::from_string(given.to_owned())
            .map_err(|error| Error::usage("what stands behind --args is not JSON").because(error));
    }
    let none = RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned());
    // The fields of a type without fields may be written as `{}` or, of `struct Nightly;`, as `null`.
    let is_unit = registry.workflows.contains_key(name)
        && registry.plan(name, &none).is_err()
        && registry.plan(name, RawValue::NULL).is_ok();
    Ok(if is_unit { RawValue::NULL.to_owned() } else { none })
}
