//! What a worker gives the store and is told: it claims slices, renews their leases, reports on their jobs.

use serde::{Deserialize, Serialize};

use super::batches::AddedJobs;
use super::children::MAX_REPORTED_CHILDREN;
use super::permits::Limited;
use super::verbs::Woken;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::{Link, StepNumber, StepSpec};
use crate::id::{SessionId, WorkflowId};
use crate::slice::Mask;

/// The most leases that one report may speak of.
pub const MAX_REPORTED_LEASES: usize = 24;
/// The most different waits before a retry that one report may speak of.
pub const MAX_REPORTED_WAITS: usize = 100;
/// The most drafts, adopted or dropped, that one report may speak of.
pub const MAX_REPORTED_DRAFTS: usize = 16;

/// Parameters of [`Store::claim`](super::Store::claim).
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who claims.
    pub session: SessionId,
    /// Leases get numbers from this one on, which ascend and need not follow on each other. A claim with a number used before is granted
    /// nothing: the answer lists what is held of it.
    pub first_lease: u64,
    /// How many leases to grant at most.
    pub max_leases: u32,
    /// How many the session may hold at once, those of earlier claims included; a forwarder sets it.
    pub most_held: Option<u32>,
    /// The queues to take from.
    pub queues: Vec<String>,
    /// Queues whose slices come by a broker. Only what does not travel is taken from them: what is suspected of killing workers, and what
    /// is of a type that `permits` names.
    pub by_broker: Vec<String>,
    /// How much to take of each type; a type that is not named is left alone.
    pub takes: Vec<Take>,
    /// How many jobs could start at once.
    pub free_slots: u32,
    /// Whether the worker holds nothing, so that it may run what is suspected of killing workers.
    pub alone: bool,
    /// How many jobs of all that is limited to grant at most: what cannot start here at once may start elsewhere. Limited are the jobs of a
    /// step with a bound of its own, those whose key has one, and those that need permits.
    pub max_limited: u32,
    /// What of its queues and types is limited, and how many permits it has for each: at most so many jobs of it are granted.
    pub permits: Vec<(Limited, u32)>,
    /// How long the leases last.
    pub lease: Millis,
}

/// How much a claim takes of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// The job type.
    pub job_type: String,
    /// The most jobs of one slice.
    pub jobs: u32,
    /// The most jobs of all slices of this claim; with 0 it only asks whether it should still drain.
    pub budget: u32,
}

/// What [`Store::claim`](super::Store::claim) answers.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The slices, in the order of their leases.
    pub slices: Vec<Slice>,
    /// The highest lease number that the session has used: the next claim begins behind it.
    pub last_lease: u64,
    /// Whether nothing is left that this claim could have had.
    pub empty: bool,
    /// How many leases the session holds now, if the claim said how many it may hold.
    pub held: u32,
    /// Whether the worker is now registered as idle: it has free slots, and is woken when there is work for them. Until then it need not ask.
    pub idle: bool,
    /// A suspect slice waits for this worker: it should want nothing until it holds nothing, then claim `alone`.
    pub drain: bool,
    /// Whom to wake: there is more than this worker took.
    pub woken: Woken,
    /// The limits of work that it lacks permits for.
    pub waits: Vec<Limited>,
    /// Whether a part of the store has not answered: what it may have granted comes with a later claim.
    pub unanswered: bool,
}

/// Jobs of one chunk, claimed together.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The lease's number in its session.
    pub lease: u64,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The workflow's registered type name.
    pub workflow_name: String,
    /// The step.
    pub step: StepNumber,
    /// Its name.
    pub step_name: String,
    /// Its job type.
    pub job_type: String,
    /// The queue that it was taken from, if the claim named permits of queues.
    pub queue: Option<String>,
    /// Its options, as they were when it was created.
    pub options: StepOptions,
    /// The step's generation.
    pub generation: u32,
    /// The step that its jobs emit into, if they are a source.
    pub feeds: Option<StepNumber>,
    /// Where the parameters are.
    pub chunk: ChunkRef,
    /// The index in the step of the chunk's first job.
    pub first: u64,
    /// The jobs of the slice.
    pub jobs: Mask,
    /// The attempts that each of those jobs has used, in order; empty if none has used any.
    pub attempts: Vec<u8>,
    /// Whether it is suspected of killing its worker.
    pub suspect: bool,
    /// Whether its step or the keys of its jobs limit how many run at once.
    pub limited: bool,
    /// The priority of its line, if a forwarder claimed it; 0 for others, whom nothing depends on it for.
    pub priority: i32,
    /// What [`Store::parameters`](super::Store::parameters) would answer, if nothing of it has been mended, it is at most 4 KiB, and the
    /// slice has at most 64 jobs: a few small jobs start one call earlier.
    pub parameters: Option<Parameters>,
}

/// Up to so many bytes of packed parameters come with a slice, if it has at most [`FEW_JOBS`].
pub const FEW_BYTES: usize = 4096;
/// See [`FEW_BYTES`].
pub const FEW_JOBS: usize = 64;

/// What a worker needs to know of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepOptions {
    /// Overrides the type's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<crate::retry::Retry>,
    /// Overrides the type's limit for one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<std::time::Duration>,
    /// Whether its jobs are those of a batch, and may add others to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grows: bool,
    /// What its jobs emit is there at once, and they wait while the step that they feed has more unfinished jobs than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eager: Option<u64>,
    /// The steps that its jobs go on from, one to one: then they are made of the parameters of the first, and of what those of each returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Link>,
}

impl StepOptions {
    /// What a worker needs to know of a step that is created so.
    pub fn of(spec: &StepSpec) -> Self {
        let StepSpec { retry, timeout, grows, eager, .. } = *spec;
        Self { retry, timeout, grows, eager, chain: spec.chain.clone() }
    }
}

/// A chunk of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// The shard it is on.
    pub shard: u16,
    /// Its number there.
    pub id: u64,
    /// The step that has it from its predecessor, to which it is chained; 0 if it is a chunk with parameters of its own. The first step of a
    /// workflow is never chained.
    pub chained: StepNumber,
}

impl ChunkRef {
    /// No store has it: they number chunks from 1 on.
    pub(crate) const NONE: Self = Self { shard: 0, id: 0, chained: 0 };
}

/// The packed parameters of a chunk.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// As they were created.
    pub body: Vec<u8>,
    /// What replaces some of them: each mask with the packed new parameters of its jobs, oldest first.
    pub mended: Vec<(Mask, Vec<u8>)>,
}

/// Parameters of [`Store::renew`](super::Store::renew).
#[derive(Clone, Debug)]
pub struct Renew {
    /// Who renews.
    pub session: SessionId,
    /// The leases to keep.
    pub leases: Vec<u64>,
    /// The drafts to keep.
    pub drafts: Vec<u64>,
    /// How far long jobs are: lease, and a JSON text for people.
    pub progress: Vec<(u64, String)>,
    /// For how long.
    pub lease: Millis,
}

/// What [`Store::renew`](super::Store::renew) answers.
#[derive(Clone, Debug, Default)]
pub struct Renewed {
    /// Leases that are no longer held: what their jobs report will be refused.
    pub lost: Vec<u64>,
    /// Leases of cancelled workflows: start nothing more of them.
    pub cancelled: Vec<u64>,
    /// Leases with lone jobs that are cancelled by themselves: start none of these, and stop those that run.
    pub stopped: Vec<(u64, Mask)>,
    /// Leases on a part of the store that is away: they have not been renewed, and the call is to be repeated for them.
    pub away: Vec<u64>,
    /// The shards that are away: permits there have not been renewed.
    pub away_shards: Vec<u16>,
}

/// Parameters of [`Store::report`](super::Store::report): one session's outcomes under several leases. Each lease's part counts wholly or not at all.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who reports.
    pub session: SessionId,
    /// One part a lease.
    pub leases: Vec<LeaseReport>,
}

impl Report {
    /// Refuses one that speaks of more than one operation may look at: every store begins with it.
    pub fn check(&self) -> Result<()> {
        if self.leases.len() > MAX_REPORTED_LEASES {
            return Err(Error::usage(format!(
                "a report speaks of {} leases; at most {MAX_REPORTED_LEASES} are allowed",
                self.leases.len()
            )));
        }
        let waits: usize = self.leases.iter().map(|part| part.retries.len() + part.postponed.len()).sum();
        if waits > MAX_REPORTED_WAITS {
            return Err(Error::usage(format!(
                "a report speaks of {waits} different waits; at most {MAX_REPORTED_WAITS} are allowed"
            )));
        }
        let drafts: usize = self.leases.iter().map(LeaseReport::drafts).sum();
        if drafts > MAX_REPORTED_DRAFTS {
            return Err(Error::usage(format!(
                "a report speaks of {drafts} drafts; at most {MAX_REPORTED_DRAFTS} are allowed"
            )));
        }
        let begun: usize = self.leases.iter().map(|part| part.begun.len()).sum();
        if begun > MAX_REPORTED_CHILDREN {
            return Err(Error::usage(format!(
                "a report speaks of {begun} jobs whose workflows have been created; at most {MAX_REPORTED_CHILDREN} are allowed"
            )));
        }
        if let Some(part) =
            self.leases.iter().find(|part| !part.added.iter().all(|added| added.by.is_within(part.succeeded)))
        {
            return Err(Error::usage(format!(
                "a report under lease {} brings what jobs added to their batch that have not succeeded",
                part.lease
            )));
        }
        match self.leases.iter().find_map(|part| Some((part.lease, part.adopted_in_vain()?))) {
            Some((lease, at)) => Err(Error::usage(format!(
                "a report under lease {lease} adopts what the job at position {at} emitted, which has not succeeded"
            ))),
            None => Ok(()),
        }
    }
}

/// What became of jobs under one lease.
#[derive(Clone, Debug, Default)]
pub struct LeaseReport {
    /// The lease.
    pub lease: u64,
    /// Counts up with each report under this lease, from 1; one seen before changes nothing.
    pub number: u64,
    /// Jobs that succeeded.
    pub succeeded: Mask,
    /// Jobs that failed for good.
    pub failed: Mask,
    /// Jobs that are tried again, and how long after now: at most [`MAX_REPORTED_WAITS`] of these in all parts of a report.
    pub retries: Vec<(Millis, Mask)>,
    /// Jobs that want to run later, and how long after now: that uses up no attempt. They count towards the same limit.
    pub postponed: Vec<(Millis, Mask)>,
    /// Jobs that found out that there is nothing to be done.
    pub skipped: Mask,
    /// Jobs whose workflows have been created: each is deferred until its workflow has finished, and ends as that did.
    pub begun: Mask,
    /// Jobs that have not been started, or whose attempt does not count.
    pub returned: Mask,
    /// Jobs whose attempt was stopped: the workflow is cancelled, the step fails fast, or they are lone jobs that were cancelled or whose deadline has come.
    pub cancelled: Mask,
    /// The lease's open outcome record, whole.
    pub record: Vec<u8>,
    /// The number of that record in the lease, from 0.
    pub record_number: u32,
    /// Error texts: number, text, and the jobs that failed for good with it (none for one that is tried again).
    pub errors: Vec<(u64, String, Mask)>,
    /// Drafts that successful attempts of sources, and of jobs of a batch, wrote, to be adopted in this order: the position of the job, and its draft. They and those
    /// that are dropped are at most [`MAX_REPORTED_DRAFTS`] in all parts of a report.
    pub adopted: Vec<(u16, u64)>,
    /// Drafts of failed attempts, to be collected.
    pub dropped: Vec<u64>,
    /// What successful jobs of a batch have added to it, if it is little: one chunk of a type. They count like drafts.
    pub added: Vec<AddedJobs>,
    /// How long what settles here is kept if these are lone jobs, in milliseconds; 0: it is not wanted any more.
    pub keep: Millis,
}

impl LeaseReport {
    /// How many jobs it names.
    pub fn jobs(&self) -> usize {
        self.masks().map(|mask| mask.len()).sum()
    }

    /// How many drafts it speaks of.
    pub fn drafts(&self) -> usize {
        self.adopted.len() + self.dropped.len() + self.added.len()
    }

    /// Leaves out what these jobs have added to their batch, as far as it has not been written into drafts: they run again, and with them
    /// those that have added jobs to the same chunk. Returns all of them.
    pub(crate) fn leave_out_added_by(&mut self, jobs: Mask) -> Mask {
        let mut again = jobs;
        loop {
            let (left_out, kept): (Vec<AddedJobs>, Vec<AddedJobs>) =
                std::mem::take(&mut self.added).into_iter().partition(|added| !added.by.and(again).is_empty());
            self.added = kept;
            if left_out.is_empty() {
                return again;
            }
            again = left_out.iter().fold(again, |again, added| again.or(added.by));
        }
    }

    /// A job that has not succeeded and whose draft it adopts all the same.
    fn adopted_in_vain(&self) -> Option<u16> {
        self.adopted.iter().map(|(at, _)| *at).find(|at| !self.succeeded.contains(usize::from(*at)))
    }

    /// The jobs that it names, by what became of them.
    pub fn masks(&self) -> impl Iterator<Item = Mask> + '_ {
        let waits = self.retries.iter().chain(&self.postponed).map(|(_, mask)| *mask);
        let ended = [self.succeeded, self.failed, self.skipped, self.begun, self.returned, self.cancelled];
        ended.into_iter().chain(waits)
    }
}

/// What [`Store::report`](super::Store::report) answers.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// Leases that are not held: nothing of their part counted.
    pub refused: Vec<u64>,
    /// Leases of cancelled workflows: start nothing more of them.
    pub cancelled: Vec<u64>,
    /// Leases with lone jobs that are cancelled by themselves: start none of these, and stop those that run.
    pub stopped: Vec<(u64, Mask)>,
    /// Leases on a part of the store that is away: the call is to be repeated for them.
    pub away: Vec<u64>,
    /// Error texts that the steps' tables hold: lease and number.
    pub known_errors: Vec<(u64, u64)>,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
    /// Whom to wake.
    pub woken: Woken,
}
