//! Signals of the system (Ctrl-C, SIGTERM): the first asks a worker to come to its end, the second ends the process at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The exit code of a command that a signal ended: 128 and the number of SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// What comes so soon after the first signal is the same one again.
const SAME: Duration = Duration::from_millis(50);

/// Cancels `stop` at the first SIGTERM or Ctrl-C, and says so; ends the process at the second.
pub fn listen(stop: CancellationToken) {
    tokio::spawn(async move {
        let Some(mut signals) = Signals::new() else { return };
        signals.next().await;
        tracing::info!("stopping: running jobs come to their end; another signal stops at once");
        stop.cancel();
        // `timeout` and some shells send one signal twice, to the process and to its group: that is no second thought.
        let _ = tokio::time::timeout(SAME, async {
            loop {
                signals.next().await;
            }
        })
        .await;
        signals.next().await;
        tracing::warn!("stopped at once; what was running runs again elsewhere");
        std::process::exit(i32::from(INTERRUPTED));
    });
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        match (interrupt, terminate) {
            (Ok(interrupt), Ok(terminate)) => Some(Self { interrupt, terminate }),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "signals cannot be heard; they end the process at once");
                None
            }
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Option<Self> {
        Some(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
