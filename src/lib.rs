//! A parallel workflow engine: download a file, run one job for each of its rows, then exactly one report after all of them.
//!
//! Implement [`Job`] for units of work, [`Source`] for what emits jobs, [`Workflow`] for what runs after what; register them with
//! an [`App`]. Start with the README, then `examples/import`; `ARCHITECTURE.md` says where everything is.

mod app;
mod batch;
pub mod broker;
mod cancelling;
mod chain;
mod checkpoint;
mod checkup;
mod children;
#[cfg(feature = "cli")]
mod cli;
mod client;
mod clock;
mod condition;
mod creation;
mod eager;
mod emitter;
mod error;
#[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli", feature = "redis"))]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod handle;
mod hooks;
mod id;
mod inline;
mod job;
// Without a store, or without tests, nobody has anything to tell.
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
mod ledger;
mod limit;
mod lone;
mod outputs;
mod payload;
mod perform_now;
mod planted;
mod pruning;
mod queue_setup;
mod record;
mod render;
mod repairing;
mod retention;
mod retry;
mod retrying;
pub mod schedule;
mod shape;
mod signalling;
mod slice;
mod start_behind;
mod start_job;
mod starting;
mod state;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod unique;
mod versions;
mod view;
mod waiting;
mod wake;
mod why;
#[cfg(feature = "sqlite")]
mod within;
mod worker;
mod workflow;

pub use app::App;
pub use batch::{Batch, InBatch, NewBatch, OpenBatch};
pub use cancelling::{Cancelled, LoneJobs, LoneJobsOf};
pub use chain::Follows;
pub use children::{Child, Returning};
#[cfg(feature = "cli")]
pub use cli::{logging::log_to_stderr, progress::Progress};
pub use client::{Client, Workflows};
pub use clock::{Clock, Millis};
pub use condition::Condition;
pub use emitter::Emitter;
pub use error::{Error, ErrorKind, Result};
pub use graph::{Edge, Graph, Link, MAX_CHAIN, MAX_EDGES, MAX_NAME, MAX_STEPS, StepNumber, StepSpec};
pub use handle::Handle;
pub use hooks::{AroundPerform, JobToEnqueue, Next, Performed};
pub use id::{SessionId, WorkflowId};
pub use job::{Context, Job, JobError, JobResult, ResultExt, Source, Start, Stored};
pub use limit::{Limit, Rate};
pub use lone::{JobId, Keep, LoneJob, NewJob};
pub use outputs::{Failure, Outputs};
pub use payload::{Chunk, MAX_JOB_BYTES};
pub use pruning::Pruning;
pub use queue_setup::QueueSetup;
pub use repairing::{RunningAgain, StepWouldRun, WouldRun};
pub use retention::{KeepFor, Retention};
pub use retry::Retry;
pub use retrying::Retrying;
pub use signalling::Signalled;
pub use slice::{CHUNK_JOBS, Mask};
pub use start_behind::{StartingBehind, WaitingStart};
pub use starting::{Started, Starting, StartingAlone};
pub use state::{BatchState, Counts, Decision, EdgeKind, FailurePolicy, JobState, StepState, Tolerate, WorkflowState};
pub use store::Pausable;
pub use tokio_util::sync::CancellationToken;
pub use unique::Unique;
pub use view::{AttemptView, EdgeView, ErrorGroup, JobView, LaneView, StepView, WorkflowView};
pub use waiting::{Signal, Then, Wait, WaitsFor};
pub use why::{Cause, CauseKind, Why};
pub use worker::{QueueOrder, Worker, WorkerOptions};
pub use workflow::{Flow, Step, Steps, Workflow};

/// What most programs need: `use gusher::prelude::*;`.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};

    pub use crate::{
        App, Client, Condition, Context, Emitter, Flow, Follows, Job, JobError, JobResult, Limit, Outputs, ResultExt,
        Retry, Signal, Source, Step, Tolerate, Workflow,
    };
}
