//! `worker`: runs jobs until a signal comes.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::house::House;
use super::out::{Ending, Outcome};
use super::signals;
use crate::store::parse_duration;

/// Run jobs until SIGTERM or Ctrl-C; a second signal stops at once
#[derive(Debug, clap::Args)]
pub struct Worker {
    /// How many jobs run at once [default: what the program says, or twice the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: Option<u32>,
    /// Take from this queue only; may be given several times [default: the queues of all registered types]
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<String>,
    /// How long leases last [default: what the store says, 15s]
    #[arg(long, value_name = "TIME", value_parser = lease)]
    lease: Option<Duration>,
    /// How long running jobs may take to come to their end when it is told to stop [default: 25s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    patience: Option<Duration>,
}

impl Worker {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let stop = CancellationToken::new();
        signals::listen(stop.clone());
        let client = house.client_or_new().await?;
        let mut options = house.app.options.clone();
        options.slots = self.slots.unwrap_or(options.slots);
        options.queues = if self.queues.is_empty() { options.queues } else { Some(self.queues) };
        options.lease = self.lease.or(options.lease);
        options.patience = self.patience.unwrap_or(options.patience);
        let kinds = &house.app.registry.kinds;
        let own_queues = || kinds.values().map(|kind| kind.queue.to_owned()).collect();
        let queues: BTreeSet<String> =
            options.queues.clone().map_or_else(own_queues, |queues| queues.into_iter().collect());
        let slots = options.slots;
        let worker = house.app.worker_on(client.store().clone(), options).await?;
        tracing::info!(
            store = crate::store::without_passwords(&client.store().url()),
            queues = Vec::from_iter(queues).join(","),
            types = kinds.keys().copied().collect::<Vec<_>>().join(","),
            slots,
            pid = std::process::id(),
            "worker started"
        );
        worker.run(stop).await?;
        let traffic = house.app.traffic().counts();
        if traffic != Default::default() {
            tracing::info!(messages = %traffic, "by brokers");
        }
        tracing::info!("worker stopped");
        Ok(Ending::Fine)
    }
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a length of time looks like 250ms, 15s, 5m, 2h or 1d".to_owned())
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = time(text)?;
    if lease < Duration::from_millis(100) { Err("a lease lasts at least 100ms".to_owned()) } else { Ok(lease) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_nobody_could_renew_in_time_is_refused() {
        assert_eq!(lease("15s"), Ok(Duration::from_secs(15)));
        assert!(lease("50ms").is_err());
        assert!(time("15").unwrap_err().contains("250ms"));
    }
}
