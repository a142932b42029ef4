//! `prune`: deletes what finished long ago.

use std::collections::BTreeMap;

use futures::TryStreamExt;

use super::house::House;
use super::out::{Ending, Outcome};
use crate::client::Client;
use crate::error::{Error, did_you_mean};
use crate::state::WorkflowState;
use crate::store::parse_duration;

/// Delete workflows that finished long ago, a little at a time; never one that is pinned or unfinished
#[derive(Debug, clap::Args)]
pub struct Prune {
    /// Only those that finished so long ago: 30m, 12h, 7d
    #[arg(long, value_name = "TIME")]
    older_than: String,
    /// Only those that ended so: succeeded, failed, cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<WorkflowState>,
    /// Only those of this type
    #[arg(long = "type", value_name = "NAME")]
    workflow: Option<String>,
    /// Only tell which
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let age = parse_duration(&self.older_than).ok_or_else(|| {
            Error::usage(format!("`{}` is no length of time; one looks like 30m, 12h or 7d", self.older_than))
        })?;
        if let Some(state) = self.state.filter(|state| !state.is_finished()) {
            return Err(Error::usage(format!(
                "a {state} workflow is not finished, and is never pruned; there are: succeeded, failed, cancelled"
            ))
            .into());
        }
        let client = house.client().await?;
        self.check_type(&client).await?;
        let pruning = client.prune(age, self.state, self.workflow.as_deref());
        let mut counts: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
        let mut chosen = pruning.stream();
        while let Some(view) = chosen.try_next().await? {
            *counts.entry((view.name, view.state.as_str())).or_default() += 1;
        }
        drop(chosen);
        let found: u64 = counts.values().sum();
        let pruned = if self.dry_run || found == 0 { 0 } else { pruning.run().await? };
        if house.out.json {
            let groups: Vec<_> = counts
                .iter()
                .map(|((name, state), count)| serde_json::json!({ "type": name, "state": state, "workflows": count }))
                .collect();
            house.out.document(&serde_json::json!({ "found": found, "pruned": pruned, "groups": groups }))?;
            return Ok(Ending::Fine);
        }
        let mut lines: Vec<String> =
            counts.iter().map(|((name, state), count)| format!("{count:>9} {state:<10} {name}")).collect();
        lines.push(match (self.dry_run, found) {
            (_, 0) => "there is nothing to prune".to_owned(),
            (true, _) => format!("{found} would be deleted"),
            (false, _) => format!("{pruned} deleted"),
        });
        house.out.text(&lines.join("\n"))?;
        Ok(Ending::Fine)
    }

    /// A type that nothing has is mistyped.
    async fn check_type(&self, client: &Client) -> Outcome<()> {
        let Some(name) = &self.workflow else { return Ok(()) };
        if client.workflow_names().contains(&name.as_str())
            || !client.workflows().named(name.as_str()).page(1).await?.is_empty()
        {
            return Ok(());
        }
        let near = did_you_mean(name, client.workflow_names());
        Err(Error::not_found(format!("there is no workflow `{name}` in this store{near}")).into())
    }
}
