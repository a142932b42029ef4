//! A worker that keeps a ledger and may be told to kill itself at a named point.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::testing::ledger::{Kind, Ledger, Point, Record};
use gusher::{CancellationToken, Clock, WorkerOptions};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

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
    /// Where it dies by itself.
    #[arg(long)]
    pub dies: Option<Death>,
}

/// The place where a worker kills itself, and how often it passes it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    pub place: Place,
    pub passes: u32,
}

/// A place at which it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between a job's effect and its report.
    AfterEffect,
    /// In the middle of the commit of this verb: its statements have run, and the ledger says so.
    InCommit(&'static str),
    /// The store has it, the worker does not know.
    AfterCommit(&'static str),
}

/// Every place, by the name that it has on the command line.
pub const PLACES: [(&str, Place); 8] = [
    ("after-effect", Place::AfterEffect),
    ("in-commit-of-report", Place::InCommit("report")),
    ("after-commit-of-report", Place::AfterCommit("report")),
    ("in-commit-of-claim", Place::InCommit("claim")),
    ("after-commit-of-claim", Place::AfterCommit("claim")),
    ("in-commit-of-renew", Place::InCommit("renew")),
    ("in-commit-of-tick", Place::InCommit("tick")),
    ("in-commit-of-append", Place::InCommit("append")),
];

impl FromStr for Death {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, passes) = text.split_once(':').ok_or("a death looks like after-effect:9")?;
        let place = PLACES.iter().find(|(known, _)| *known == name).ok_or("there is no such place")?.1;
        Ok(Self { place, passes: passes.parse().map_err(|_| "how often it passes the place is no number")? })
    }
}

impl Place {
    fn is(self, point: Point<'_>) -> bool {
        match (self, point) {
            (Self::AfterEffect, Point::Ended) => true,
            (Self::InCommit(verb), Point::BeforeCommit(verbs)) => verbs.contains(&verb),
            (Self::AfterCommit(verb), Point::AfterCommit(verbs)) => verbs.contains(&verb),
            _ => false,
        }
    }
}

/// Kills this very process: nothing of it runs on.
fn die(ledger: &Ledger) -> ! {
    let who = ledger.number().unwrap_or(0);
    ledger.write(&[Record { at: Ledger::now(), who, kind: Kind::Killed, ..Record::default() }]);
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
            ledger.at_points(move |ledger, point| {
                if death.place.is(point) && passed.fetch_add(1, Ordering::SeqCst) == death.passes {
                    die(ledger);
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
    let store = open(&arguments.store, &arguments.clock, ledger.clone())?;
    let options = WorkerOptions { slots: arguments.slots, ledger, ..WorkerOptions::default() };
    Ok(crate::workload::app().worker_on(store, options).await?.run(stop).await?)
}

/// Opens the store with a ledger and with the clock of the run.
pub fn open(url: &str, clock: &Path, ledger: Ledger) -> Result<Arc<SqliteStore>> {
    let mut options = Options::parse(url.strip_prefix("sqlite:").unwrap_or(url))?;
    options.clock = moved_clock(clock.to_owned())?;
    options.ledger = ledger;
    Ok(Arc::new(SqliteStore::open(options)?))
}
