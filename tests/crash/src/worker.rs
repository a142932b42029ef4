//! A worker that keeps a ledger and may be told to kill itself at a named point.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use gusher::store::Store;
use gusher::store::redis::{self, RedisStore};
use gusher::store::sqlite::{self, SqliteStore};
use gusher::testing::ledger::{Kind, Ledger, Point, Record};
use gusher::{CancellationToken, Clock, WorkerOptions};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::stage::patiently;

/// What a worker process is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The store.
    #[arg(long)]
    pub store: String,
    /// Where its ledger is written.
    #[arg(long)]
    pub ledger: PathBuf,
    /// The ledger's number.
    #[arg(long)]
    pub number: u64,
    /// A file that says by how many milliseconds the clock has been moved.
    #[arg(long)]
    pub clock: PathBuf,
    /// How many jobs it runs at once.
    #[arg(long)]
    pub slots: u32,
    /// The broker of every queue.
    #[arg(long)]
    pub broker: Option<String>,
    /// Where it dies by itself.
    #[arg(long)]
    pub dies: Option<Death>,
}

/// The place where a worker kills itself, and how often it passes it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    pub at: NamedPlace,
    pub passes: u32,
}

/// A place at which it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between a job's effect and its report.
    AfterEffect,
    /// In the middle of the commit of this verb: its statements have run, and the ledger says so. On a server: before it is called.
    InCommit(&'static str),
    /// The server has been called, and may do it at any time.
    InCall(&'static str),
    /// The store has it, the worker does not know.
    AfterCommit(&'static str),
}

/// A place, and the name that it has on the command line.
pub type NamedPlace = (&'static str, Place);

/// The one where a job's effect is made and nobody knows.
pub const AFTER_EFFECT: NamedPlace = ("after-effect", Place::AfterEffect);

/// The places of a worker whose store is a file.
pub const IN_FILES: [NamedPlace; 8] = [
    AFTER_EFFECT,
    ("in-commit-of-report", Place::InCommit("report")),
    ("after-commit-of-report", Place::AfterCommit("report")),
    ("in-commit-of-claim", Place::InCommit("claim")),
    ("after-commit-of-claim", Place::AfterCommit("claim")),
    ("in-commit-of-renew", Place::InCommit("renew")),
    ("in-commit-of-tick", Place::InCommit("tick")),
    ("in-commit-of-append", Place::InCommit("append")),
];

/// The places of a worker whose store is a server.
pub const ON_SERVERS: [NamedPlace; 9] = [
    AFTER_EFFECT,
    ("before-call-of-report", Place::InCommit("report")),
    ("in-call-of-report", Place::InCall("report")),
    ("after-call-of-report", Place::AfterCommit("report")),
    ("in-call-of-claim", Place::InCall("claim")),
    ("after-call-of-claim", Place::AfterCommit("claim")),
    ("in-call-of-renew", Place::InCall("renew")),
    ("in-call-of-tick", Place::InCall("tick")),
    ("in-call-of-append", Place::InCall("append")),
];

impl FromStr for Death {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, passes) = text.split_once(':').ok_or("a death looks like after-effect:9")?;
        let mut places = IN_FILES.into_iter().chain(ON_SERVERS);
        let at = places.find(|(known, _)| *known == name).ok_or("there is no such place")?;
        Ok(Self { at, passes: passes.parse().map_err(|_| "how often it passes the place is no number")? })
    }
}

impl Place {
    fn is(self, point: Point<'_>) -> bool {
        match (self, point) {
            (Self::AfterEffect, Point::Ended) => true,
            (Self::InCommit(verb), Point::BeforeCommit(verbs)) => verbs.contains(&verb),
            (Self::InCall(verb), Point::Sent(verbs)) => verbs.contains(&verb),
            (Self::AfterCommit(verb), Point::AfterCommit(verbs)) => verbs.contains(&verb),
            _ => false,
        }
    }
}

/// Kills this very process: nothing of it runs on.
fn die(ledger: &Ledger, notes_it: bool) -> ! {
    if notes_it {
        let who = ledger.number().unwrap_or(0);
        ledger.write(&[Record { at: Ledger::now(), who, kind: Kind::Killed, ..Record::default() }]);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// Tells a process that the file with the clock has changed. A process that does not listen yet ignores it.
pub const CLOCK_MOVED: Signal = Signal::WINCH;

/// A clock that is moved as a file says, whenever the process is told so.
fn moved_clock(file: PathBuf) -> Result<Clock> {
    let mut told = signal(SignalKind::window_change())?;
    let clock = Clock::movable();
    let mut moved = moved_by(&file).unwrap_or(0);
    clock.advance(moved);
    let followed = clock.clone();
    tokio::spawn(async move {
        while told.recv().await.is_some() {
            let by = moved_by(&file).unwrap_or(moved);
            followed.advance(by - std::mem::replace(&mut moved, by));
        }
    });
    Ok(clock)
}

fn moved_by(file: &Path) -> Option<i64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Works until it is told to stop.
pub async fn work(arguments: Arguments) -> Result<()> {
    let ledger = Ledger::create(&arguments.ledger, arguments.number).context("making the ledger")?;
    let ledger = match arguments.dies {
        None => ledger,
        Some(death) => {
            let passed = AtomicU32::new(0);
            // A server goes on with what this process has sent; so the harness has the server note the death.
            let notes_it = !is_server(&arguments.store);
            ledger.at_points(move |ledger, point| {
                if death.at.1.is(point) && passed.fetch_add(1, Ordering::SeqCst) == death.passes {
                    die(ledger, notes_it);
                }
            })
        }
    };
    let stop = CancellationToken::new();
    let told = stop.clone();
    let mut term = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        term.recv().await;
        told.cancel();
    });
    let (url, clock) = (arguments.store.as_str(), &arguments.clock);
    let store: Arc<dyn Store> = match url.strip_prefix("sqlite:") {
        Some(file) => open_file(file, clock, ledger.clone())?,
        None => open_server(url, clock, ledger.clone()).await?,
    };
    let options = WorkerOptions { slots: arguments.slots, ledger, ..WorkerOptions::default() };
    let app = crate::workload::app(arguments.ledger);
    let app = match arguments.broker {
        Some(url) => app.via(url),
        None => app,
    };
    let traffic = app.traffic().clone();
    let ended = app.worker_on(store, options).await?.run(stop).await;
    eprintln!("messages: {}", traffic.counts());
    Ok(ended?)
}

fn is_server(url: &str) -> bool {
    !url.starts_with("sqlite:")
}

/// Opens a store in a file with a ledger and with the clock of the run.
pub fn open_file(url: &str, clock: &Path, ledger: Ledger) -> Result<Arc<SqliteStore>> {
    let mut options = sqlite::Options::parse(url)?;
    options.clock = moved_clock(clock.to_owned())?;
    options.ledger = ledger;
    Ok(Arc::new(SqliteStore::open(options)?))
}

/// Opens the store on a server, which may be away for a moment.
pub async fn open_server(url: &str, clock: &Path, ledger: Ledger) -> Result<Arc<RedisStore>> {
    let mut options = redis::Options::parse(url)?;
    options.clock = moved_clock(clock.to_owned())?;
    options.ledger = ledger;
    Ok(Arc::new(patiently(|| RedisStore::open(options.clone())).await?))
}
