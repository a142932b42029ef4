//! A job that does what its parameters say, and a log of what ran.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gusher::prelude::*;
use tokio::sync::Semaphore;

/// What the jobs of a test share.
pub struct Stage {
    ran: Mutex<Vec<String>>,
    /// Lets jobs that wait go on.
    pub gate: Semaphore,
    /// One permit for each job that waits at the gate.
    pub at_gate: Semaphore,
    running: Mutex<(u32, u32)>,
}

pub type Shared = Arc<Stage>;

impl Stage {
    pub fn new() -> Shared {
        Arc::new(Self {
            ran: Mutex::default(),
            gate: Semaphore::new(0),
            at_gate: Semaphore::new(0),
            running: Mutex::default(),
        })
    }

    /// What has run, in the order of its end.
    pub fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().clone()
    }

    pub fn add(&self, line: impl Into<String>) {
        self.ran.lock().unwrap().push(line.into());
    }

    /// The most jobs that ran at once.
    pub fn most_at_once(&self) -> u32 {
        self.running.lock().unwrap().1
    }

    /// Waits until `jobs` more jobs stand at the gate.
    pub async fn wait_for(&self, jobs: u32) {
        self.at_gate.acquire_many(jobs).await.unwrap().forget();
    }
}

/// Does what it says: "ok", "fail", "fatal", "panic", "fail once", "wait" (at the gate), "wait for cancel", "hang".
#[derive(Clone, Serialize, Deserialize)]
pub struct Act {
    pub name: String,
    pub does: String,
}

pub fn act(name: impl Into<String>, does: &str) -> Act {
    Act { name: name.into(), does: does.to_owned() }
}

impl Job for Act {
    const NAME: &str = "Act";
    const RETRY: Retry = Retry::every(Duration::from_millis(1)).attempts(3);
    type Output = String;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<String> {
        let stage = ctx.state().clone();
        {
            let mut running = stage.running.lock().unwrap();
            running.0 += 1;
            running.1 = running.1.max(running.0);
        }
        let result = self.go(ctx, &stage).await;
        stage.running.lock().unwrap().0 -= 1;
        result?;
        stage.add(&self.name);
        Ok(self.name)
    }
}

impl Act {
    async fn go(&self, ctx: &Context<Shared>, stage: &Stage) -> JobResult<()> {
        match self.does.as_str() {
            "ok" => Ok(()),
            "fail" => Err(JobError::new(format!("{} failed", self.name))),
            "fatal" => Err(JobError::fatal(format!("{} failed for good", self.name))),
            "panic" => panic!("{} panicked", self.name),
            "fail once" if ctx.attempt() == 1 => Err(JobError::new("only the first time")),
            "fail once" => Ok(()),
            "wait" => {
                stage.at_gate.add_permits(1);
                stage.gate.acquire().await?.forget();
                Ok(())
            }
            "wait for cancel" => {
                stage.at_gate.add_permits(1);
                ctx.cancellation().cancelled().await;
                Err(JobError::new("cancelled"))
            }
            "hang" => std::future::pending().await,
            other => Err(JobError::fatal(format!("nobody can {other}"))),
        }
    }
}

/// Fails until the test mends the world.
#[derive(Serialize, Deserialize)]
pub struct Mendable {
    pub file: std::path::PathBuf,
}

impl Source for Mendable {
    const NAME: &str = "Mendable";
    const RETRY: Retry = Retry::never();
    type Emits = Act;
    type State = Shared;

    async fn produce(self, _: &Context<Shared>, out: &mut Emitter<Act>) -> JobResult<()> {
        out.emit(act("early", "ok")).await?;
        for name in std::fs::read_to_string(&self.file)?.lines() {
            out.emit(act(name, "ok")).await?;
        }
        Ok(())
    }
}
