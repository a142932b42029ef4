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
use super::play::RunBy;
use super::played::Noted;
use super::run::{Attempt, AttemptEnd, Settled};
use super::script::{Fault, JobKey, Script};
use crate::clock::Millis;
use crate::graph::StepNumber;
use crate::id::{WorkflowId, random_bytes};
use crate::lone::JobId;
use crate::payload::Lines;
use crate::state::JobState;
use crate::store::{Enqueued, Lane, LoneJobs, Woken};
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
    run_by: RunBy,
    /// Every lone job that was enqueued.
    enqueued: Mutex<Vec<Noted>>,
}

/// Every attempt, in the order of their starts.
#[derive(Default)]
struct Ledger {
    attempts: Vec<Attempt>,
    /// Those that have not ended, by process, lease and position.
    open: BTreeMap<(u16, u64, u16), usize>,
}

impl Stage {
    pub fn new(script: Script, patience: Arc<Patience>, run_by: RunBy) -> Arc<Self> {
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
            run_by,
            enqueued: Mutex::default(),
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

    /// Every lone job that was enqueued, in that order.
    pub fn take_enqueued(&self) -> Vec<Noted> {
        std::mem::take(&mut self.enqueued.lock())
    }

    /// Lone jobs have come into the store.
    pub fn enqueued(&self, jobs: &[LoneJobs], enqueued: &Enqueued, now: Millis) {
        for (lane, (jobs, first)) in jobs.iter().zip(&enqueued.firsts).enumerate() {
            // The store has taken it, so it can be read.
            let Ok(lines) = Lines::unpack(&jobs.chunk.body) else { continue };
            let taken = |at: &usize| !enqueued.refused.iter().any(|one| (one.lane, usize::from(one.at)) == (lane, *at));
            for at in (0..jobs.chunk.jobs as usize).filter(taken) {
                let due = jobs.due.iter().find(|(_, mask)| mask.contains(at)).map(|(due, _)| *due);
                let id = JobId { lane: jobs.lane.id, index: first + at as u64 };
                self.note(id, &jobs.lane, due.map(|due| due - now), lines.get(at).unwrap_or_default());
            }
        }
    }

    fn note(&self, id: JobId, lane: &Lane, later: Option<Millis>, json: &[u8]) {
        self.enqueued.lock().push(Noted {
            id,
            job_type: lane.job_type.clone(),
            queue: lane.queue.clone(),
            priority: lane.priority,
            at: self.elapsed(),
            later: later.map(|wait| Duration::from_millis(wait.max(0) as u64)),
            parameters: String::from_utf8_lossy(json).into_owned(),
            settled: None,
        });
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
            workflow: held.slice.workflow,
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

    fn takes(&self, lane: &Lane, later: Option<Millis>, json: &[u8]) -> Option<JobId> {
        if self.stage.run_by != RunBy::Caller {
            return None;
        }
        let index = self.stage.enqueued.lock().iter().filter(|noted| noted.id.lane == lane.id).count() as u64;
        let id = JobId { lane: lane.id, index };
        self.stage.note(id, lane, later, json);
        Some(id)
    }

    fn performed(&self, job: JobId, state: JobState, text: String) {
        let (output, error) = if state == JobState::Succeeded { (Some(text), None) } else { (None, Some(text)) };
        let mut enqueued = self.stage.enqueued.lock();
        if let Some(noted) = enqueued.iter_mut().find(|noted| noted.id == job) {
            noted.settled = Some(Settled { state, output, error });
        }
    }

    fn outcome(&self, job: JobId) -> Option<(JobState, String)> {
        let enqueued = self.stage.enqueued.lock();
        let settled = enqueued.iter().find(|noted| noted.id == job)?.settled.as_ref()?;
        Some((settled.state, settled.output.clone().or(settled.error.clone())?))
    }
}
