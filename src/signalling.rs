//! Giving a workflow the signal that one of its steps waits for.

use serde_json::value::RawValue;

use crate::client::Client;
use crate::clock::Millis;
use crate::error::{Error, Result, did_you_mean};
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::store::SendSignal;
use crate::waiting::{Signal, WaitsFor, carried, signal_record};
use crate::wake::wake;

/// How many steps are looked at to tell what a workflow waits for, and how many of them are named.
const LOOKED_AT: u32 = 1000;
const NAMED: usize = 8;

/// What became of a signal that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// The step that waited for it has settled.
    Settled,
    /// The step has not been released yet: the signal is kept, and settles it then.
    Kept,
}

impl Client {
    /// Gives the workflow the signal that its step of that name waits for. A signal that comes early is kept; a second one is refused, and so is
    /// one for a workflow that has finished or was cancelled. What it carries may have 256 KiB as JSON.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # use gusher::WorkflowId;
    /// # #[derive(Serialize, Deserialize)] struct Approval { by: String }
    /// # impl Signal for Approval { const NAME: &str = "Approval"; }
    /// # async fn example(client: gusher::Client, id: WorkflowId) -> gusher::Result<()> {
    /// client.signal(id, "manager", &Approval { by: "Ada".into() }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn signal<T: Signal>(&self, workflow: WorkflowId, name: &str, carries: &T) -> Result<Signalled> {
        self.handle(workflow).signal(name, carries).await
    }
}

impl Handle {
    /// Gives the workflow the signal that its step of that name waits for; see [`Client::signal`].
    pub async fn signal<T: Signal>(&self, name: &str, carries: &T) -> Result<Signalled> {
        self.give(name, T::NAME, carried(carries)?).await
    }

    /// The same, with JSON that must fit the type that the step waits for, which must be one of this program's.
    pub async fn signal_json(&self, name: &str, json: &RawValue) -> Result<Signalled> {
        let waits_for = self.waits_for(name).await?;
        let read = self.client().registry().signals.get(waits_for.as_str()).ok_or_else(|| {
            Error::usage(format!(
                "`{name}` waits for a signal of type `{waits_for}`, which this program does not know; add .signal::<{waits_for}>() to the App"
            ))
        })?;
        self.give(name, &waits_for, read(json.get())?).await
    }

    /// The type of the signal that the step of that name waits for.
    async fn waits_for(&self, name: &str) -> Result<String> {
        let step = self.store().step_named(self.id(), name.to_owned()).await?;
        match step.map(|step| step.spec.waits) {
            Some(Some(WaitsFor::Signal { signal_type, .. })) => Ok(signal_type),
            Some(Some(_)) => Err(Error::usage(format!(
                "`{name}` of workflow {} waits for a time and no signal{}",
                self.id(),
                self.signals(name).await?
            ))),
            Some(None) => Err(Error::usage(format!(
                "`{name}` of workflow {} is a step of jobs and waits for no signal{}",
                self.id(),
                self.signals(name).await?
            ))),
            None => Err(Error::not_found(format!(
                "workflow {} waits for no signal `{name}`{}",
                self.id(),
                self.signals(name).await?
            ))),
        }
    }

    /// What would be right in place of `name`.
    async fn signals(&self, name: &str) -> Result<String> {
        let steps = self.store().steps(self.id(), 0, LOOKED_AT).await?;
        let is_signal = |waits: &Option<WaitsFor>| matches!(waits, Some(WaitsFor::Signal { .. }));
        let names: Vec<&str> =
            steps.iter().filter(|step| is_signal(&step.spec.waits)).map(|step| step.spec.name.as_str()).collect();
        if names.is_empty() {
            return Ok(" (it waits for none)".to_owned());
        }
        let more = if names.len() > NAMED { ", …" } else { "" };
        let some: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
        Ok(format!("{} (there are: {}{more})", did_you_mean(name, names.iter().copied()), some.join(", ")))
    }

    async fn give(&self, name: &str, signal_type: &str, json: Vec<u8>) -> Result<Signalled> {
        let waits_for = self.waits_for(name).await?;
        if waits_for != signal_type {
            return Err(Error::usage(format!(
                "`{name}` of workflow {} waits for a signal of type `{waits_for}`, and this one is of type `{signal_type}`",
                self.id()
            )));
        }
        let (client, store) = (self.client(), self.store());
        let who = format!("a signal from {}:{}", crate::store::hostname(), std::process::id());
        let record = signal_record(&who, store.now(), json);
        let send = |command| {
            store.signal(SendSignal {
                session: client.session(),
                command,
                workflow: self.id(),
                name: name.to_owned(),
                signal_type: signal_type.to_owned(),
                record: record.clone(),
            })
        };
        let told = client.command(self.id().shard(), send).await?;
        if let Some(at) = told.already {
            return Err(Error::refused(format!(
                "the signal `{name}` of workflow {} has been given already, at {}; it counts once",
                self.id(),
                time(at)
            )));
        }
        wake(&told.woken);
        if told.more {
            client.lend_a_hand().await;
        }
        Ok(if told.kept { Signalled::Kept } else { Signalled::Settled })
    }
}

fn time(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| format!("{at} ms"), |at| at.to_string())
}
