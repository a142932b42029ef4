//! Wake-ups across hosts. A script that makes work ready publishes on the channel of the worker that it chose; the worker's store
//! listens there and passes the word on to the worker's port, where wake-ups of its own host arrive too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::link::Link;
use super::script::redis_error;
use crate::error::Result;
use crate::id::SessionId;
use crate::store::{Session, Woken};

/// How long a lost subscription waits before it is made anew: a wake-up that is missed meanwhile is caught by the worker's own look.
const AGAIN: Duration = Duration::from_millis(500);

/// Where a worker is told, on whichever shard there is work.
pub fn channel(prefix: &str, session: SessionId) -> String {
    format!("{prefix}:wake:{session}")
}

/// The sessions of this process that are listened for.
#[derive(Debug, Default)]
pub struct Wakers(Mutex<HashMap<SessionId, AbortOnDropHandle<()>>>);

impl Wakers {
    /// Listens for a worker that has joined.
    pub fn listen(&self, link: &Arc<Link>, prefix: &str, session: &Session) {
        let Some(port) = session.wake_port.filter(|_| session.is_worker()) else { return };
        let (link, channel) = (link.clone(), channel(prefix, session.id));
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = pass_on(&link, &channel, port).await {
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

async fn pass_on(link: &Link, channel: &str, port: u16) -> Result<()> {
    let mut subscription = link.listen().await?;
    subscription.subscribe(channel).await.map_err(|error| redis_error("listening for wake-ups", error))?;
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        let port = Woken(vec![port]);
        if message.get_payload_bytes() == b"renew" { crate::wake::hurry(&port) } else { crate::wake::wake(&port) }
    }
    Ok(())
}
