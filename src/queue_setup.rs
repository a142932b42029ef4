//! How a queue is set up: what [`App::queue`] gives.

use std::sync::Arc;

use crate::app::App;
use crate::broker::{Broker, Way};
use crate::limit::Limit;

/// A queue to be set up; each method gives the application back.
#[derive(Debug)]
#[must_use = "a queue that is named is set up by what follows: `.limit(..)`, `.via(..)`"]
pub struct QueueSetup<A> {
    app: A,
    name: String,
}

impl<A> QueueSetup<A> {
    pub(crate) fn new(app: A, name: String) -> Self {
        Self { app, name }
    }
}

impl<S: Send + Sync + 'static> QueueSetup<App<S>> {
    /// How many jobs of the queue run at once, and how many start in a time: over all workers whose program has this line, of all types, of
    /// workflows and lone jobs together.
    pub fn limit(self, limit: Limit) -> App<S> {
        self.app.limit_queue(self.name, limit)
    }

    /// The slices of the queue come to workers by the broker of a URL (`amqp://HOST`, `sqs://REGION`), or by the store's own lines
    /// (`store:`). What is limited goes by those in any case: a queue cannot have a limit and a broker, and of its types those with a limit
    /// do not travel.
    ///
    /// The variable `GUSHER_QUEUE_IMPORTS` of the environment, for a queue `imports`, overrules this, and `--broker` both.
    ///
    /// ```
    /// # use gusher::App;
    /// App::stateless().queue("imports").via("amqp://127.0.0.1:5672").queue("mail").via("store:");
    /// ```
    pub fn via(self, url: impl Into<String>) -> App<S> {
        self.app.send_queue(self.name, Way::Url(url.into()))
    }

    /// The slices of the queue come to workers by a broker of the program's own.
    pub fn via_broker(self, broker: Arc<dyn Broker>) -> App<S> {
        self.app.send_queue(self.name, Way::Broker(broker))
    }
}
