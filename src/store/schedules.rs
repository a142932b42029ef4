//! What the verbs of schedules are given, and what they answer.

use serde::{Deserialize, Serialize};

use super::lanes::LoneJobs;
use super::verbs::Woken;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::id::WorkflowId;

/// The most instants that one [`Fire`] may start.
pub const MAX_FIRED: usize = 32;
/// The most occurrences that one look brings.
pub const MAX_OCCURRENCES: u32 = 500;
/// So many decided occurrences of a schedule are kept.
pub const HISTORY: u64 = 1_000;

/// Parameters of [`Store::put_schedule`](super::Store::put_schedule).
#[derive(Clone, Debug)]
pub struct PutSchedule {
    /// The shard it lives on.
    pub shard: u16,
    /// Its name.
    pub name: String,
    /// Which instants it means. A schedule that is there with the same rule keeps its next instant, if it has one.
    pub rule: String,
    /// All that it is.
    pub definition: String,
    /// The next instant if it is new or has another rule; `None` if there is none.
    pub next: Option<Millis>,
}

/// What becomes of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeSchedule {
    /// It fires no more until it is resumed.
    Pause,
    /// It fires again, first at that instant: what it left out while it was paused is not made up for.
    Resume(Option<Millis>),
    /// It lives on another shard from now on. Its history stays here, so that what is due already comes to its decision.
    Move,
    /// It is gone, with its history. Starts of it that have not begun come to nothing.
    Remove,
}

/// What [`Store::change_schedule`](super::Store::change_schedule) answers.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// As it was before; `None` if there is none of that name.
    pub before: Option<ScheduleRow>,
    /// Whether not all of its history has been deleted yet: call again.
    pub more: bool,
}

/// A schedule as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// The shard it lives on.
    pub shard: u16,
    /// Its name.
    pub name: String,
    /// All that it is.
    pub definition: String,
    /// When it fires next, if it is not paused.
    pub next: Option<Millis>,
    /// Whether it is paused.
    pub paused: bool,
}

/// A schedule whose next instant has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueSchedule {
    /// The schedule.
    pub schedule: ScheduleRow,
    /// The time of its shard at which it was.
    pub now: Millis,
}

/// Parameters of [`Store::fire`](super::Store::fire).
#[derive(Clone, Debug)]
pub struct Fire {
    /// The shard of the schedule.
    pub shard: u16,
    /// Its name.
    pub schedule: String,
    /// From which next instant to which; `None` if a person asks for it, whatever its rule says and also while it is paused.
    pub moves: Option<Move>,
    /// Instants that are passed over.
    pub passed_over: Option<PassedOver>,
    /// The instants that it fires at, at most [`MAX_FIRED`].
    pub instants: Vec<Millis>,
    /// Their jobs, one an instant.
    pub jobs: Option<LoneJobs>,
    /// Whether these jobs are start jobs, whose occurrences are decided when they run.
    pub starts: bool,
}

/// How a schedule goes on: whoever moves it first fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The next instant as it was read.
    pub from: Millis,
    /// The next one after those that are dealt with; `None` if there is none.
    pub to: Option<Millis>,
}

/// Instants of a schedule at which nothing ran that could have fired them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The first.
    pub from: Millis,
    /// The last.
    pub to: Millis,
    /// How many.
    pub count: u64,
}

/// What [`Store::fire`](super::Store::fire) answers.
#[derive(Clone, Debug, Default)]
pub struct Fired {
    /// Whether it has been fired: by this call, or, by hand at the same instant, before.
    pub fired: bool,
    /// Whom to wake.
    pub woken: Woken,
}

/// One occurrence of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Occurrence {
    /// The schedule.
    pub schedule: String,
    /// The instant.
    pub at: Millis,
}

/// What has become of an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum OccurrenceState {
    /// Its start job has not come to a decision.
    Due = 0,
    /// Its workflow has been started.
    Started = 1,
    /// Its job has been enqueued.
    Enqueued = 2,
    /// It was left out, since another workflow had the key.
    Skipped = 3,
    /// Nothing ran that could have fired it in time.
    Missed = 4,
    /// Its start job has failed.
    Failed = 5,
}

impl OccurrenceState {
    /// The inverse of `as u8`.
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Due, Self::Started, Self::Enqueued, Self::Skipped, Self::Missed, Self::Failed]
            .into_iter()
            .find(|state| *state as u8 == number)
    }

    /// Its word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Started => "started",
            Self::Enqueued => "enqueued",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
            Self::Failed => "failed",
        }
    }
}

/// An occurrence as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OccurrenceRow {
    /// The instant; the first of those that were missed together.
    pub at: Millis,
    /// The last of those that were missed together.
    pub to: Millis,
    /// How many instants it stands for.
    pub count: u64,
    /// What has become of it.
    pub state: OccurrenceState,
    /// When it was fired or passed over.
    pub fired_at: Millis,
    /// Its job: the lane, and the index there.
    pub job: Option<(WorkflowId, u64)>,
    /// The workflow that it started, or that was in its way.
    pub workflow: Option<WorkflowId>,
}

/// What waits until a workflow's key is free, in the order in which it came.
#[derive(Clone, Debug)]
pub struct Waits {
    /// The workflow's registered type name.
    pub name: String,
    /// Its key.
    pub key: String,
    /// The ids of the workflows that the jobs of the chunk are to start, in order.
    pub ids: Vec<WorkflowId>,
}

impl Fire {
    /// Refuses more than one operation may do: every store begins with it.
    pub fn check(&self) -> Result<()> {
        let jobs = self.jobs.as_ref().map_or(0, |jobs| jobs.chunk.jobs as usize);
        if self.instants.len() > MAX_FIRED || jobs != self.instants.len() {
            return Err(Error::usage(format!(
                "a schedule fires at {} instants with {jobs} jobs; there is one job for each of at most {MAX_FIRED}",
                self.instants.len()
            )));
        }
        Ok(())
    }
}
