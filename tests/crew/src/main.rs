//! A worker for tests: `crew URL [LEDGER]` works on that store until it is told to stop, or dies of a job; what it does it writes into the
//! ledger.

use std::process::ExitCode;
use std::sync::Arc;

use gusher::store::{Store, redis, sqlite};
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
        let store = open(&url, ledger.clone()).await?;
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

/// The store, which tells the ledger what it grants, too.
async fn open(url: &str, ledger: Ledger) -> gusher::Result<Arc<dyn Store>> {
    if url.starts_with("redis:") {
        let options = redis::Options { ledger, ..redis::Options::parse(url)? };
        return Ok(Arc::new(redis::RedisStore::open(options).await?));
    }
    let options = sqlite::Options { ledger, ..sqlite::Options::parse(url.trim_start_matches("sqlite:"))? };
    Ok(Arc::new(sqlite::SqliteStore::open(options)?))
}
