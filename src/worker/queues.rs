//! In which order a worker takes from its queues.

use crate::error::{Error, Result};
use crate::id::random_bytes;

/// In which order a worker takes from its queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// All queues have their turn; within each, what has the highest priority goes first.
    #[default]
    Turns,
    /// Nothing is taken of a queue while one that is named before it has anything that this worker could run.
    Strict,
    /// Each time it takes something, a queue comes first with the chance that its weight gives it; if it is empty, another one does. One weight
    /// for each queue that is named.
    Weights(Vec<u32>),
}

impl QueueOrder {
    /// Refuses an order that does not fit the queues that are named.
    pub(crate) fn check(&self, queues: Option<&[String]>) -> Result<()> {
        match (self, queues) {
            (Self::Turns, _) => Ok(()),
            (_, None) => Err(Error::usage("an order of queues needs their names: set `WorkerOptions::queues`, too")),
            (Self::Weights(weights), Some(queues)) if weights.len() != queues.len() || weights.contains(&0) => {
                let (named, weighed) = (queues.len(), weights.len());
                Err(Error::usage(format!("{named} queues have {weighed} weights; each needs one, of 1 or more")))
            }
            (Self::Strict | Self::Weights(_), Some(_)) => Ok(()),
        }
    }

    /// From which queues to claim, one set after another until one of them gives something. The last one is all of them: who finds nothing
    /// there is woken for any.
    pub(crate) fn rounds(&self, queues: &[String]) -> Vec<Vec<String>> {
        let mut order = match self {
            Self::Turns => Vec::new(),
            Self::Strict => queues.to_vec(),
            Self::Weights(weights) => shuffled(queues, weights),
        };
        // What only the last one has is found among all.
        order.pop();
        order.into_iter().map(|queue| vec![queue]).chain([queues.to_vec()]).collect()
    }
}

/// In an order in which each comes before the others with the chance that its weight gives it.
fn shuffled(queues: &[String], weights: &[u32]) -> Vec<String> {
    let mut left: Vec<(&String, u64)> = queues.iter().zip(weights.iter().map(|weight| u64::from(*weight))).collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let all: u64 = left.iter().map(|(_, weight)| weight).sum();
        let mut drawn = u64::from_le_bytes(random_bytes()) % all.max(1);
        let at = left.iter().position(|(_, weight)| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it
        });
        order.push(left.remove(at.unwrap_or(0)).0.clone());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_last_round_is_all_queues() {
        let queues = named(&["urgent", "mail", "images"]);
        assert_eq!(QueueOrder::Turns.rounds(&queues), std::slice::from_ref(&queues));
        assert_eq!(QueueOrder::Strict.rounds(&queues), [named(&["urgent"]), named(&["mail"]), queues.clone()]);
        assert_eq!(QueueOrder::Strict.rounds(&named(&["mail"])), [named(&["mail"])]);
    }

    #[test]
    fn a_queue_comes_first_as_often_as_its_weight_says() {
        let queues = named(&["urgent", "mail"]);
        let first = || QueueOrder::Weights(vec![3, 1]).rounds(&queues)[0].clone();
        let urgent = (0..10_000).filter(|_| first() == ["urgent"]).count();
        // 7,500 are expected; further away than this is one of many millions.
        assert!((7_200..7_800).contains(&urgent), "{urgent}");
    }

    #[test]
    fn an_order_that_does_not_fit_the_queues_is_refused() {
        let queues = named(&["urgent", "mail"]);
        assert!(QueueOrder::Turns.check(None).is_ok());
        assert!(QueueOrder::Weights(vec![3, 1]).check(Some(&queues)).is_ok());
        for (order, queues, told) in [
            (QueueOrder::Strict, None, "needs their names"),
            (QueueOrder::Weights(vec![3]), Some(&queues[..]), "2 queues have 1 weights"),
            (QueueOrder::Weights(vec![3, 0]), Some(&queues[..]), "each needs one, of 1 or more"),
        ] {
            let error = order.check(queues).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
