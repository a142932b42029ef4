//! `worker`: runs jobs until a signal comes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::house::House;
use super::interrupt;
use super::out::{Ending, Outcome};
use crate::error::Error;
use crate::store::parse_duration;
use crate::worker::QueueOrder;

/// Run jobs until SIGTERM or Ctrl-C; a second signal stops at once
#[derive(Debug, clap::Args)]
pub struct Worker {
    /// How many jobs run at once [default: what the program says, or twice the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: Option<u32>,
    /// Take from this queue only; may be given several times [default: the queues of all registered types]. With a weight (mail=3) a
    /// queue comes first that much more often than one of weight 1
    #[arg(long = "queue", value_name = "QUEUE[=WEIGHT]", value_parser = queue)]
    queues: Vec<(String, Option<u32>)>,
    /// Take nothing of a queue while one that is named before it has anything
    #[arg(long, requires = "queues")]
    strict: bool,
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
        interrupt::listen(stop.clone());
        let client = house.client_or_new().await?;
        let mut options = house.app.options.clone();
        options.slots = self.slots.unwrap_or(options.slots);
        if !self.queues.is_empty() {
            options.order = order(self.strict, &self.queues)?;
            options.queues = Some(self.queues.into_iter().map(|(name, _)| name).collect());
        }
        options.lease = self.lease.or(options.lease);
        options.patience = self.patience.unwrap_or(options.patience);
        let kinds = &house.app.registry.kinds;
        let queues = options.queues.clone().unwrap_or_else(|| house.app.registry.queues());
        let slots = options.slots;
        let worker = house.app.worker_on(client.store().clone(), options).await?;
        tracing::info!(
            store = crate::store::without_passwords(&client.store().url()),
            queues = queues.join(","),
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

fn queue(text: &str) -> Result<(String, Option<u32>), String> {
    match text.split_once('=') {
        None => Ok((text.to_owned(), None)),
        Some((name, weight)) => match weight.parse() {
            Ok(weight) if weight > 0 => Ok((name.to_owned(), Some(weight))),
            _ => Err("a weight is a number of 1 or more".to_owned()),
        },
    }
}

fn order(strict: bool, queues: &[(String, Option<u32>)]) -> crate::Result<QueueOrder> {
    let weighed = queues.iter().any(|(_, weight)| weight.is_some());
    match (strict, weighed) {
        (true, true) => Err(Error::usage("queues are taken from in strict order or by weight, not both")),
        (true, false) => Ok(QueueOrder::Strict),
        (false, true) => Ok(QueueOrder::Weights(queues.iter().map(|(_, weight)| weight.unwrap_or(1)).collect())),
        (false, false) => Ok(QueueOrder::Turns),
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

    #[test]
    fn queues_have_an_order_or_weights() {
        let queues = |names: &[&str]| -> Vec<_> { names.iter().map(|name| queue(name).unwrap()).collect() };
        assert_eq!(order(true, &queues(&["urgent", "mail"])).unwrap(), QueueOrder::Strict);
        assert_eq!(order(false, &queues(&["urgent=3", "mail"])).unwrap(), QueueOrder::Weights(vec![3, 1]));
        assert!(order(true, &queues(&["urgent=3", "mail"])).is_err());
        assert!(queue("mail=0").unwrap_err().contains("1 or more"));
    }
}
