//! Ticking: every worker looks at what is due, all the time. Nobody leads, and any number may do it at once.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::hub::Hub;
use super::jitter;
use crate::schedule::fire_due;
use crate::store::Tick;
use crate::wake::wake;

/// The longest time between two looks: something may have become due that was not known at the last one.
const LONGEST: Duration = Duration::from_millis(900);

/// Ticks until the worker stops.
pub async fn tick(hub: Arc<Hub>) {
    let mut backoff = Backoff::new();
    let often = LONGEST.min(Duration::from_millis(hub.lease.max(4) as u64 / 4));
    // Who asked for this look has told of what is ready, too.
    let mut was_asked = false;
    while !hub.stopping.is_cancelled() {
        let now = hub.tick_now.notified();
        let wait = match hub.store.tick(Tick { lease: hub.lease }).await {
            Ok(ticked) => {
                backoff.reset();
                wake(&ticked.woken);
                crate::wake::hurry(&ticked.told);
                let fired = fire_due(&*hub.store, &ticked).await;
                if ticked.more || fired {
                    continue;
                }
                if ticked.ready && !was_asked && hub.permits.looks_now() {
                    hub.claim_what_is_ready();
                }
                let often = hub.look_after(jitter(often));
                ticked.next_in.map_or(often, |next| Duration::from_millis(next.max(1) as u64).min(often))
            }
            Err(error) => {
                tracing::warn!(%error, "a tick failed; it is tried again");
                backoff.next()
            }
        };
        tokio::select! {
            biased;
            () = hub.stopping.cancelled() => {}
            () = now => was_asked = true,
            () = tokio::time::sleep(wait) => was_asked = false,
        }
    }
}
