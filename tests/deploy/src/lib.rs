//! A worker for tests: `before URL [LEDGER]` and `after URL [LEDGER]` work on that store until they are told to stop; what they do
//! they write into the ledger.

use std::process::ExitCode;

use gusher::testing::ledger::Ledger;
use gusher::{App, CancellationToken, WorkerOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a worker of an application, as the arguments of this process say.
pub async fn work(app: App) -> ExitCode {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: before|after URL [LEDGER]");
        return ExitCode::from(2);
    };
    let ledger = match std::env::args().nth(2) {
        Some(path) => Ledger::create(path.as_ref(), u64::from(std::process::id())).expect("the ledger can be made"),
        None => Ledger::default(),
    };
    // Set up before the store knows this worker: whoever sees it there can tell it to stop.
    let mut term = signal(SignalKind::terminate()).expect("signals can be handled");
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        term.recv().await;
        told.cancel();
    });
    let run = async {
        let store = gusher::store::open(&url).await?;
        let options = WorkerOptions { slots: 4, ledger, ..WorkerOptions::default() };
        app.worker_on(store, options).await?.run(stop).await
    };
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
