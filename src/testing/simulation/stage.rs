//! What a simulation and the processes in it share: who is awake, what goes wrong, and what has been seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::patience::Patience;
use super::run::{Attempt, AttemptEnd};
use super::script::{Fault, JobKey, Script};
use crate::graph::StepNumber;
use crate::id::{WorkflowId, random_bytes};
use crate::store::Woken;
use crate::worker::held::{End, Ended, Held, Taken};
use crate::worker::hub::Hub;
use crate::worker::watch::Watcher;

/// Each job lets others go first less often than this.
const TURNS: u8 = 4;

/// What the processes of a simulation share.
pub struct Stage {
    began: Instant,
    script: Script,
    calls: Mutex<Vec<&'static str>>,
    over: AtomicBool,
    ledger: Mutex<Ledger>,
    ran_again: Mutex<BTreeSet<(JobKey, u8)>>,
    /// The workflow that is simulated. What its jobs start or enqueue runs beside it, but is not what the script speaks of.
    subject: OnceLock<WorkflowId>,
    /// The store has been called: something may have changed.
    pub called: Notify,
    hubs: Mutex<BTreeMap<u16, Weak<Hub>>>,
    patience: Arc<Patience>,
}

/// Every attempt, in the order of their starts.
#[derive(Default)]
struct Ledger {
    attempts: Vec<Attempt>,
    /// Those that have not ended, by process, lease and position.
    open: BTreeMap<(u16, u64, u16), usize>,
}

impl Stage {
    pub fn new(script: Script, patience: Arc<Patience>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            script,
            calls: Mutex::default(),
            over: AtomicBool::new(false),
            ledger: Mutex::default(),
            ran_again: Mutex::default(),
            subject: OnceLock::new(),
            called: Notify::new(),
            hubs: Mutex::default(),
            patience,
        })
    }

    /// From now on the script speaks of this workflow.
    pub fn is_about(&self, workflow: WorkflowId) {
        // It is said once, before anything of it runs.
        let _ = self.subject.set(workflow);
    }

    /// The name of a job in the script; `None` if it is not one of the workflow that is simulated.
    pub fn key(&self, workflow: WorkflowId, step: StepNumber, index: u64) -> Option<JobKey> {
        (self.subject.get() == Some(&workflow)).then_some((step, index))
    }

    /// How much time has passed.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// From now on nothing goes wrong any more.
    pub fn is_over(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// What is to happen at the next call of a worker to its store.
    pub fn next_call(&self, verb: &'static str) -> Option<Fault> {
        if self.over.load(Ordering::SeqCst) {
            return None;
        }
        let mut calls = self.calls.lock();
        calls.push(verb);
        let (number, fault) = self.script.fault?;
        (number == calls.len() as u64).then_some(fault)
    }

    /// Whether a job, that has run with so many attempts used before, has to run once more.
    pub fn runs_again(&self, job: JobKey, used: u8) -> bool {
        self.script.again.includes(job) && self.ran_again.lock().insert((job, used))
    }

    /// Every call that a worker has made, how many attempts have been made again, and every attempt.
    pub fn take_records(&self) -> (Vec<&'static str>, u64, Vec<Attempt>) {
        let again = self.ran_again.lock().len() as u64;
        (std::mem::take(&mut self.calls.lock()), again, std::mem::take(&mut self.ledger.lock().attempts))
    }

    /// Wakes those workers whom the store has picked; none is left for the wake-ups between real processes.
    pub fn wake(&self, woken: &mut Woken) {
        let hubs = self.hubs.lock();
        for port in woken.0.drain(..) {
            if let Some(hub) = hubs.get(&port).and_then(Weak::upgrade) {
                hub.woken.notify_one();
                hub.tick_now.notify_one();
            }
        }
    }

    /// Lets the workers ask what has become of their leases: a workflow was cancelled.
    pub fn look_at_the_leases(&self) {
        self.hubs.lock().values().filter_map(Weak::upgrade).for_each(|hub| hub.renew_now.notify_one());
    }

    /// Lets the workers look at what is due: something may be due earlier than they know.
    pub fn look_at_the_clock(&self) {
        self.hubs.lock().values().filter_map(Weak::upgrade).for_each(|hub| hub.tick_now.notify_one());
    }
}

/// A process of a simulation that runs a worker.
pub struct Process {
    /// Which one; the first is 1.
    pub number: u16,
    pub stage: Arc<Stage>,
    /// Cancelled when it is killed.
    pub killed: CancellationToken,
}

impl Process {
    pub fn new(number: u16, stage: Arc<Stage>) -> Arc<Self> {
        Arc::new(Self { number, stage, killed: CancellationToken::new() })
    }
}

impl Watcher for Process {
    fn wake_port(&self) -> u16 {
        self.number
    }

    fn begins(&self, hub: &Arc<Hub>) {
        self.stage.hubs.lock().insert(self.number, Arc::downgrade(hub));
    }

    fn turns(&self) -> u32 {
        let [dice] = random_bytes();
        u32::from(dice % TURNS)
    }

    fn started(&self, held: &Held, taken: Taken) {
        let started = self.stage.elapsed();
        let mut ledger = self.stage.ledger.lock();
        let number = ledger.attempts.len();
        ledger.open.insert((self.number, held.slice.lease, taken.at), number);
        ledger.attempts.push(Attempt {
            step: held.slice.step_name.clone(),
            index: held.slice.first + u64::from(taken.at),
            job_type: held.slice.job_type.clone(),
            attempt: u32::from(taken.attempt),
            started,
            ended: None,
            end: None,
            logs: Vec::new(),
            key: self.stage.key(held.slice.workflow, held.slice.step, held.slice.first + u64::from(taken.at)),
        });
    }

    fn ended(&self, held: &Held, ended: &Ended) {
        let now = self.stage.elapsed();
        let mut ledger = self.stage.ledger.lock();
        let Some(number) = ledger.open.remove(&(self.number, held.slice.lease, ended.at)) else { return };
        let attempt = &mut ledger.attempts[number];
        attempt.ended = Some(now);
        attempt.logs.clone_from(&ended.logs);
        attempt.end = Some(match &ended.end {
            End::Succeeded(_) => AttemptEnd::Succeeded,
            End::Failed(error) => AttemptEnd::Failed(error.to_string()),
            End::Cancelled | End::Stopped => AttemptEnd::Stopped,
        });
    }

    fn at_work(&self, slots: i32) {
        self.stage.patience.at_work(slots);
    }

    fn polled(&self) {
        self.stage.patience.polled();
    }

    fn patience(&self) -> Duration {
        self.stage.patience.next()
    }

    fn waited(&self, came: bool) {
        self.stage.patience.waited(came);
    }
}
