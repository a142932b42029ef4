//! One attempt, with what its application does around it.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;

use super::attempt::{GRACE, guard, stopped, timed_out, until_told};
use super::held::{End, Held};
use crate::hooks::{Next, Performed};
use crate::job::{Context, JobError, JobResult};

/// How long hooks may take for their own end once the job within them has been dropped. With [`GRACE`] it is less than a worker
/// that stops waits for its slots.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// Lets one attempt run to its end, within the application's hooks if it has any. Without them nothing is allocated.
pub async fn attempt<S: Send + Sync>(
    held: &Held,
    ctx: &Context<S>,
    limit: Option<Duration>,
    work: impl Future<Output = JobResult<Vec<u8>>> + Send,
) -> End {
    let hooks = &ctx.surroundings().hooks;
    if hooks.is_empty() {
        return guard(held, ctx, limit, GRACE, work).await;
    }
    let was_stopped = AtomicBool::new(false);
    let job: BoxFuture<'_, JobResult<Performed>> = Box::pin(innermost(held, ctx, limit, &was_stopped, work));
    let outermost = hooks.iter().rev().fold(job, |rest, hook| hook.around(ctx, Next::new(rest)));
    let whole = async { outermost.await.map(|performed| performed.output) };
    match guard(held, ctx, limit, GRACE + AFTERWARDS, whole).await {
        // Whatever the hooks have made of it: no attempt is used up by a stop.
        End::Failed(_) if was_stopped.load(Ordering::SeqCst) => stopped(held, ctx.at()),
        end => end,
    }
}

/// The job within the hooks, which hear how it ended, in whatever way. It keeps no time of its own: the guard around the hooks does so for
/// all of them, and cancels the attempt's token.
async fn innermost<S: Send + Sync>(
    held: &Held,
    ctx: &Context<S>,
    limit: Option<Duration>,
    was_stopped: &AtomicBool,
    work: impl Future<Output = JobResult<Vec<u8>>>,
) -> JobResult<Performed> {
    match until_told(work, ctx.cancellation().cancelled(), || (), GRACE).await {
        Ok(ended) => ended.map(|output| Performed { output }),
        Err(()) if held.token.is_cancelled() || held.is_stopped(ctx.at()) => {
            was_stopped.store(true, Ordering::SeqCst);
            Err(JobError::stopped())
        }
        Err(()) => Err(timed_out(limit)),
    }
}
