//! A worker for tests: `crew URL [LEDGER]` works on that store until it is told to stop, or dies of a job; what it does it writes into the
//! ledger.

use std::process::ExitCode;

use gusher::testing::ledger::Ledger;
use gusher::{CancellationToken, WorkerOptions};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: crew URL [LEDGER]");
        return ExitCode::from(2);
    };
    let ledger = match std::env::args().nth(2) {
        Some(path) => Ledger::create(path.as_ref(), u64::from(std::process::id())).expect("the ledger can be made"),
        None => Ledger::default(),
    };
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let mut term =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals can be handled");
        term.recv().await;
        told.cancel();
    });
    let run = async {
        let store = gusher::store::open(&url).await?;
        crew::app()
            .worker_on(store, WorkerOptions { slots: 4, ledger, ..WorkerOptions::default() })
            .await?
            .run(stop)
            .await
    };
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
