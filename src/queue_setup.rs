//! How a queue is set up: what [`App::queue`] gives.

use crate::app::App;
use crate::limit::Limit;

/// A queue to be set up; each method gives the application back.
#[derive(Debug)]
#[must_use = "a queue that is named is set up by what follows: `.limit(..)`"]
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
}
