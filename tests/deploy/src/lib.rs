//! A worker for tests: `before URL` and `after URL` work on that store until they are told to stop.

use std::process::ExitCode;

use gusher::{App, CancellationToken, WorkerOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a worker of an application, as the arguments of this process say.
pub async fn work(app: App) -> ExitCode {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: before|after URL");
        return ExitCode::from(2);
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
        let options = WorkerOptions { slots: 4, ..WorkerOptions::default() };
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
