//! Which queue goes which way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Broker, Traffic, open};
use crate::error::{Error, Result};

/// How long somebody who only asks waits for a broker.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the slices of a queue come to workers.
#[derive(Clone, Debug)]
pub enum Way {
    /// By the broker of a URL; `store:` for the store's own lines.
    Url(String),
    /// By this broker.
    Broker(Arc<dyn Broker>),
}

/// Which queue goes which way: what the program says, which the environment overrules, which the command line overrules. A queue of which
/// nothing is said goes by the store's own lines.
#[derive(Clone, Debug, Default)]
pub struct Brokers {
    ways: BTreeMap<String, Way>,
    /// The way of every queue.
    every: Option<Way>,
    /// Queues with a limit: who may run how much of them is asked where they are claimed, so they do not travel.
    limited: BTreeSet<String>,
    traffic: Traffic,
}

/// Queues that share a broker.
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    pub broker: Arc<dyn Broker>,
    pub queues: Vec<String>,
}

impl Way {
    fn is_the_stores(&self) -> bool {
        matches!(self, Self::Url(url) if matches!(open(url), Ok(None)))
    }
}

impl Brokers {
    /// Sends a queue this way.
    pub fn set(&mut self, queue: impl Into<String>, way: Way) {
        self.ways.insert(queue.into(), way);
    }

    /// Keeps a queue with the store's own lines, since it has a limit.
    pub(crate) fn limit(&mut self, queue: &str) {
        self.limited.insert(queue.to_owned());
    }

    /// Refuses a queue that has a limit and is sent by a broker.
    pub(crate) fn check(&self) -> Result<()> {
        let refused = self.limited.iter().find(|queue| self.said_of(queue).is_some_and(|way| !way.is_the_stores()));
        refused.map_or(Ok(()), |queue| {
            Err(Error::usage(format!(
                "queue `{queue}` has a limit and goes by a broker; it can have one of them only: what is limited is counted where it is \
                 claimed, which is in the store's own lines (`store:`)"
            )))
        })
    }

    /// Sends every queue this way, whatever else is said.
    pub fn set_every(&mut self, way: Way) {
        self.every = Some(way);
    }

    /// These ways, where `other` says nothing else. What travels is counted with these.
    pub(crate) fn overruled_by(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.ways.extend(other.ways.clone());
        both.limited.extend(other.limited.clone());
        both.every = other.every.clone().or(both.every);
        both
    }

    /// What has travelled by them in this process.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The way of a queue, with what the environment says; `None` for the store's own lines.
    fn way(&self, queue: &str) -> Option<Way> {
        if self.limited.contains(queue) {
            return None;
        }
        self.every.clone().or_else(|| self.said_of(queue))
    }

    /// What is said of just this queue.
    fn said_of(&self, queue: &str) -> Option<Way> {
        self.said_in(queue, |variable| std::env::var(variable).ok())
    }

    fn said_in(&self, queue: &str, environment: impl Fn(&str) -> Option<String>) -> Option<Way> {
        let from_environment = environment(&variable(queue)).filter(|url| !url.is_empty()).map(Way::Url);
        from_environment.or_else(|| self.ways.get(queue).cloned())
    }

    /// The broker of one queue.
    pub(crate) fn of(&self, queue: &str) -> Result<Option<Arc<dyn Broker>>> {
        match self.way(queue) {
            None => Ok(None),
            Some(Way::Url(url)) => {
                open(&url).map_err(|error| error.during(format_args!("the broker of queue `{queue}`")))
            }
            Some(Way::Broker(broker)) => Ok(Some(broker)),
        }
    }

    /// What keeps the broker of a queue from carrying its slices, if it has one and something does.
    pub(crate) async fn trouble(&self, queue: &str) -> Option<String> {
        let broker = match self.of(queue) {
            Ok(broker) => broker?,
            Err(error) => return Some(error.to_string()),
        };
        let name = broker.name();
        match tokio::time::timeout(PATIENCE, broker.check(queue)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("queue `{queue}` goes by the broker {name}, which does not carry: {error}")),
            Err(_) => Some(format!(
                "queue `{queue}` goes by the broker {name}, which has not answered for {} s",
                PATIENCE.as_secs()
            )),
        }
    }

    /// The queues that go by brokers: those of one URL share one.
    pub(crate) fn carriers(&self, queues: &[String]) -> Result<Vec<Carrier>> {
        let mut carriers: Vec<(Option<String>, Carrier)> = Vec::new();
        for queue in queues {
            let url = match self.way(queue) {
                Some(Way::Url(url)) => Some(url),
                _ => None,
            };
            if let Some((_, carrier)) = carriers.iter_mut().find(|(other, _)| url.is_some() && *other == url) {
                carrier.queues.push(queue.clone());
            } else if let Some(broker) = self.of(queue)? {
                let broker = broker.for_worker().unwrap_or(broker);
                carriers.push((url, Carrier { broker, queues: vec![queue.clone()] }));
            }
        }
        Ok(carriers.into_iter().map(|(_, carrier)| carrier).collect())
    }
}

/// The variable of the environment that says how a queue goes: of `e-mail` it is `GUSHER_QUEUE_E_MAIL`.
fn variable(queue: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("GUSHER_QUEUE_{}", queue.chars().map(letter).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_a_variable_of_its_own() {
        assert_eq!(variable("e-mail.v2"), "GUSHER_QUEUE_E_MAIL_V2");
    }

    #[test]
    fn the_environment_overrules_the_program_unless_it_says_nothing() {
        let mut brokers = Brokers::default();
        brokers.set("imports", Way::Url("store:".to_owned()));
        let told = |said: Option<&str>| match brokers.said_in("imports", |name| {
            assert_eq!(name, "GUSHER_QUEUE_IMPORTS");
            said.map(str::to_owned)
        }) {
            Some(Way::Url(url)) => url,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(Some("amqp://host")), "amqp://host");
        assert_eq!((told(Some("")), told(None)), ("store:".to_owned(), "store:".to_owned()));
    }

    #[test]
    fn a_queue_with_a_limit_and_a_broker_is_refused_and_goes_by_the_store_when_every_queue_goes_by_one() {
        let mut brokers = Brokers::default();
        brokers.limit("imports");
        brokers.set_every(Way::Url("kafka://host".to_owned()));
        brokers.check().unwrap();
        assert!(brokers.of("imports").unwrap().is_none());
        brokers.set("imports", Way::Url("store:".to_owned()));
        brokers.check().unwrap();
        brokers.set("imports", Way::Url("kafka://host".to_owned()));
        let error = brokers.check().unwrap_err().to_string();
        assert!(error.contains("`imports` has a limit and goes by a broker"), "{error}");
    }

    #[test]
    fn a_queue_goes_by_the_store_unless_something_else_is_said() {
        let mut brokers = Brokers::default();
        let queues = ["imports".to_owned(), "mail".to_owned()];
        assert!(brokers.carriers(&queues).unwrap().is_empty());
        brokers.set("imports", Way::Url("kafka://host".to_owned()));
        let error = brokers.carriers(&queues).unwrap_err().to_string();
        assert!(error.contains("the broker of queue `imports`"), "{error}");
        brokers.set_every(Way::Url("store:".to_owned()));
        assert!(brokers.carriers(&queues).unwrap().is_empty());
    }
}
