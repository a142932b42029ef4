//! The worker processes of a run: started, stopped, continued, killed.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use gusher::store::{Store, WorkerRow};
use gusher::testing::ledger::{Kind, Ledger, Record};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::stage::patiently;
use crate::worker::{CLOCK_MOVED, Death};

/// One process.
#[derive(Debug)]
pub struct Member {
    pub number: u64,
    child: Child,
    /// Where it was told to die by itself.
    pub dies: Option<Death>,
    /// Until when it stands still.
    pub stopped_until: Option<Instant>,
}

impl Member {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to worker {}", self.number))
    }

    /// Stops it, and waits until every thread of it stands still, or until it has died.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let stopped_or_dead = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), stopped_or_dead)?;
        Ok(())
    }

    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already; whoever started it does not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All processes of a run, and the harness' own ledger.
#[derive(Debug)]
pub struct Crew {
    folder: PathBuf,
    url: String,
    slots: u32,
    /// The broker of every queue; the store's own lines if there is none.
    broker: Option<String>,
    pub members: Vec<Member>,
    next_number: u64,
    pub ledger: Ledger,
}

impl Crew {
    pub fn new(folder: PathBuf, url: String, slots: u32, broker: Option<String>, ledger: Ledger) -> Self {
        Self { folder, url, slots, broker, members: Vec::new(), next_number: 1, ledger }
    }

    /// One more process.
    pub fn hire(&mut self, dies: Option<Death>) -> Result<()> {
        let number = self.next_number;
        self.next_number += 1;
        let log = File::options().create(true).append(true).open(self.folder.join("workers.log"))?;
        let mut worker = Command::new(std::env::current_exe()?);
        worker.args([
            "worker",
            "--store",
            &self.url,
            "--number",
            &number.to_string(),
            "--slots",
            &self.slots.to_string(),
        ]);
        worker.arg("--ledger").arg(self.folder.join(format!("worker-{number:05}.ledger")));
        if let Some(broker) = &self.broker {
            worker.args(["--broker", broker]);
        }
        worker.arg("--clock").arg(self.folder.join("clock"));
        if let Some(Death { at: (name, _), passes }) = dies {
            worker.arg("--dies").arg(format!("{name}:{passes}"));
        }
        let child =
            worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().context("starting a worker")?;
        self.members.push(Member { number, child, dies, stopped_until: None });
        Ok(())
    }

    /// Tells all that the clock has been moved.
    pub fn clock_was_moved(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| member.signal(CLOCK_MOVED))
    }

    /// Notes what is done to a process.
    pub fn note(&self, kind: Kind, number: u64) {
        self.ledger.write(&[Record { at: Ledger::now(), who: number, kind, ..Record::default() }]);
    }

    /// Kills a process; that it holds jobs has been noted.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        let mut member = self.members.remove(at);
        member.signal(Signal::KILL)?;
        member.child.wait()?;
        Ok(())
    }

    /// Takes out those that have ended: who they were, and whether they were killed.
    pub fn ended(&mut self) -> Result<Vec<(Member, bool)>> {
        let mut ended = Vec::new();
        let mut at = 0;
        while at < self.members.len() {
            match self.members[at].ended()? {
                Some(status) => ended.push((self.members.remove(at), status.signal() == Some(9))),
                None => at += 1,
            }
        }
        Ok(ended)
    }

    /// Tells all to stop, and waits for it; returns how many did not end well.
    pub fn dismiss(&mut self) -> Result<usize> {
        for member in &self.members {
            member.signal(Signal::CONT)?;
            member.signal(Signal::TERM)?;
        }
        let mut bad = 0;
        for mut member in self.members.drain(..) {
            let status = member.child.wait()?;
            // A process may still come to the place where it was told to die.
            bad += usize::from(!status.success() && (status.signal() != Some(9) || member.dies.is_none()));
        }
        Ok(bad)
    }
}

/// What the store says of each process.
pub async fn rows(store: &dyn Store) -> Result<HashMap<u32, WorkerRow>> {
    let rows = patiently(|| store.workers(1000)).await?;
    Ok(rows.into_iter().map(|row| (row.session.pid, row)).collect())
}
