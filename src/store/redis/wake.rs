//! Wake-ups across hosts. A script that makes work ready publishes on the channel of the worker that it chose; the worker's store
//! listens there and passes the word on to the worker's port, where wake-ups of its own host arrive too.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::id::SessionId;
use crate::store::{Session, Woken};

/// How long a lost subscription waits before it is made anew: a wake-up that is missed meanwhile is caught by the worker's own look.
const AGAIN: Duration = Duration::from_millis(500);

/// The sessions of this process that are listened for.
#[derive(Debug, Default)]
pub struct Wakers(Mutex<HashMap<SessionId, AbortOnDropHandle<()>>>);

impl Wakers {
    /// Listens for a worker that has joined.
    pub fn listen(&self, client: &redis::Client, base: &str, session: &Session) {
        let Some(port) = session.wake_port.filter(|_| session.is_worker()) else { return };
        let (client, channel) = (client.clone(), format!("{base}:wake:{}", session.id));
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = pass_on(&client, &channel, port).await {
                    tracing::debug!(%error, "listening for wake-ups failed; it is tried again");
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        self.0.lock().insert(session.id, AbortOnDropHandle::new(task));
    }

    /// A worker has left.
    pub fn stop(&self, session: SessionId) {
        self.0.lock().remove(&session);
    }
}

async fn pass_on(client: &redis::Client, channel: &str, port: u16) -> redis::RedisResult<()> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    let mut messages = subscription.on_message();
    while messages.next().await.is_some() {
        crate::wake::wake(&Woken(vec![port]));
    }
    Ok(())
}
