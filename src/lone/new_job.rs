//! A job that is about to be enqueued, and how it goes to the store.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use super::JobId;
use super::gathering::Times;
use super::handle::LoneJob;
use crate::client::Client;
use crate::clock::{Millis, millis};
use crate::error::{Error, Result};
use crate::id::shard_of;
use crate::job::Job;
use crate::payload::check_size;
use crate::store::{Keyed, Lane};
use crate::unique::Unique;
use crate::worker::attempt::Role;

/// A job that is about to be enqueued: `client.enqueue(job).later(hour).await?`.
#[must_use = "nothing is enqueued before it is awaited"]
pub struct NewJob<'c, J> {
    client: &'c Client,
    job: J,
    queue: String,
    priority: i32,
    due: Option<Due>,
    unique: Option<Unique>,
    expires: Option<Due>,
}

/// A job as it goes to the store.
pub(crate) struct Prepared {
    pub lane: Lane,
    pub json: Vec<u8>,
    pub times: Times,
    pub keyed: Option<Keyed>,
    pub unique: Option<Unique>,
}

impl Prepared {
    /// What became of it: the job that it is, or the one that is there instead.
    pub fn answer(job_type: &str, unique: Option<&Unique>, id: JobId, first: Option<JobId>) -> Result<JobId> {
        match (first, unique) {
            (None, _) => Ok(id),
            (Some(first), Some(unique)) if unique.or_first => Ok(first),
            (Some(first), unique) => Err(Error::there_is_one(job_type, unique.map_or("", |unique| &unique.key), first)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Due {
    In(Duration),
    At(Millis),
}

impl<J: Job> fmt::Debug for NewJob<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NewJob({} into {}, priority {}, {:?}, {:?})",
            J::NAME,
            self.queue,
            self.priority,
            self.due,
            self.expires
        )
    }
}

impl<J: Job> NewJob<'_, J> {
    /// Runs in another queue than its type's.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Runs before ready work of lower priority in the same queue; 0 unless set.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Starts no earlier than after `wait`.
    pub fn later(mut self, wait: Duration) -> Self {
        self.due = Some(Due::In(wait));
        self
    }

    /// Starts no earlier than at a time, in milliseconds since the epoch.
    pub fn at(mut self, time: Millis) -> Self {
        self.due = Some(Due::At(time));
        self
    }

    /// Is not enqueued while there is one of its type with the same key: an error of kind `Refused`, whose
    /// [`first_job`](Error::first_job) is that one.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # use gusher::Unique;
    /// # #[derive(Serialize, Deserialize)] struct Remind { invoice: u64 }
    /// # impl Job for Remind { const NAME: &str = "Remind"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # async fn remind(client: &gusher::Client, invoice: u64) -> gusher::Result<()> {
    /// let reminder = client.enqueue(Remind { invoice }).unique(Unique::until_settled(invoice).or_first()).await?;
    /// println!("{} is this one, or was there before", reminder.id());
    /// # Ok(()) }
    /// ```
    pub fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }

    /// Is cancelled if it has not settled after so long: then it never starts, or is told to come to its end, like one that
    /// [is cancelled](crate::Client::cancel_job).
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires = Some(Due::In(time));
        self
    }

    /// Is cancelled if it has not settled by a time, in milliseconds since the epoch; see [`expires_in`](Self::expires_in).
    pub fn deadline(mut self, time: Millis) -> Self {
        self.expires = Some(Due::At(time));
        self
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn client(&self) -> &Client {
        self.client
    }

    /// The same as it goes to the store, if it can.
    pub(crate) fn prepared(self) -> Result<Prepared> {
        self.client.check_lone::<J>(&self.queue)?;
        let json = to_json(&self.job)?;
        check_size("parameters", json.len())?;
        let time_of = |due| match due {
            Due::In(wait) => self.client.store().now().saturating_add(millis(wait)),
            Due::At(time) => time,
        };
        let times = Times { due: self.due.map(time_of), expires: self.expires.map(time_of) };
        let hooks = &self.client.registry().before_enqueue;
        hooks.ask(J::NAME, &self.queue, self.priority, times.due, &json)?;
        let (keyed, shard) = match keyed(&self.job, self.unique.as_ref(), self.client.store().shards())? {
            Some((keyed, shard)) => (Some(keyed), shard),
            None => (None, self.client.gathering().shard()),
        };
        let lane = Lane::new(shard, &self.queue, self.priority, J::NAME);
        Ok(Prepared { lane, json, times, keyed, unique: self.unique })
    }
}

pub(super) fn to_json<J: Job>(job: &J) -> Result<Vec<u8>> {
    serde_json::to_vec(job).map_err(|e| Error::usage(format!("{} cannot be written as JSON", J::NAME)).because(e))
}

/// The keys of a job, and the shard on which they are; `None` if it has none.
pub(super) fn keyed<J: Job>(job: &J, unique: Option<&Unique>, shards: u16) -> Result<Option<(Keyed, u16)>> {
    let limit = if J::LIMIT_PER_KEY.is_none() { None } else { job.key() };
    for key in limit.iter().chain(unique.map(|unique| &unique.key)) {
        crate::graph::check_key(key)?;
    }
    // One that is unique is so among those of its limit's key, for both live on one shard.
    let unique = unique.map(|unique| match &limit {
        Some(key) => (format!("{key}\0{}", unique.key), unique.until),
        None => (unique.key.clone(), unique.until),
    });
    let Some(key) = limit.as_ref().or(unique.as_ref().map(|(key, _)| key)) else { return Ok(None) };
    let shard = shard_of(&format!("{}/{key}", J::NAME), shards);
    Ok(Some((Keyed { at: 0, limit: limit.map(|key| (key, J::LIMIT_PER_KEY)), unique }, shard)))
}

impl<'c, J: Job> IntoFuture for NewJob<'c, J> {
    type Output = Result<LoneJob<J>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'c>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let client = self.client;
            let job = self.prepared()?;
            let (lane, due) = (&job.lane, job.times.due);
            let id = match client.performed_at_once::<J>(&lane.queue, lane.priority, due, &job.json).await? {
                Some(id) => id,
                None => client.enqueued(job).await?,
            };
            Ok(client.lone(id))
        })
    }
}

impl Client {
    /// Prepares to enqueue a lone job: `client.enqueue(SendMail { .. }).await?`, or with `.later(..)`, `.queue(..)`, `.priority(..)` before
    /// the `await`.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # use std::time::Duration;
    /// # #[derive(Serialize, Deserialize)] struct SendMail { to: String }
    /// # impl Job for SendMail { const NAME: &str = "SendMail"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # async fn send(client: &gusher::Client) -> gusher::Result<()> {
    /// client.enqueue(SendMail { to: "ada@example.org".into() }).await?;
    /// let reminder = client.enqueue(SendMail { to: "bob@example.org".into() }).later(Duration::from_secs(3_600)).await?;
    /// println!("{}", reminder.id());
    /// # Ok(()) }
    /// ```
    pub fn enqueue<J: Job>(&self, job: J) -> NewJob<'_, J> {
        NewJob { client: self, job, queue: J::QUEUE.to_owned(), priority: 0, due: None, unique: None, expires: None }
    }

    pub(super) fn check_lone<J: Job>(&self, queue: &str) -> Result<()> {
        crate::graph::check_name("queue", queue)?;
        self.registry().check_type("enqueueing a lone job", J::NAME, Role::Job)
    }
}
