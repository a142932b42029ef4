//! Why nothing of a workflow moves that somebody watches.

use crate::clock::Millis;
use crate::error::Result;
use crate::handle::Handle;
use crate::state::{StepState, WorkflowState};
use crate::view::{StepView, WorkflowView};
use crate::why::{Cause, CauseKind, is_closed_batch};

/// How many steps that stand still are asked about.
const ASKED: usize = 3;
/// What is due sooner is not worth a word.
const SOON: Millis = 10_000;

/// What is said below the bars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about: as long as that is the same, it has been said.
    pub about: String,
    pub text: String,
}

impl Notice {
    /// One that is said whenever its text is another.
    pub fn passing(text: String) -> Self {
        Self { about: text.clone(), text }
    }
}

/// Why nothing of it moves, if that is plain to see: what holds all of it, else what `why` says of the first steps of which no job runs.
pub async fn find(handle: &Handle, workflow: &WorkflowView, program: &str) -> Result<Option<Notice>> {
    match workflow.state {
        WorkflowState::Paused => {
            let text = format!("paused; `{program} resume {}` lets it go on", workflow.id);
            return Ok(Some(Notice::passing(text)));
        }
        WorkflowState::Cancelling => return Ok(Some(Notice::passing("being cancelled".to_owned()))),
        _ => {}
    }
    if let Some(step) = workflow.steps.iter().find(|step| step.paused) {
        return Ok(Some(Notice::passing(super::show::paused_line(workflow, step, program))));
    }
    for step in workflow.steps.iter().filter(|step| stands_still(workflow, step)).take(ASKED) {
        let why = handle.why_step(&step.name).await?;
        let now = handle.store().now();
        if let Some(cause) = why.causes.into_iter().find(|cause| is_obstacle(cause, now)) {
            return Ok(Some(told(cause, &step.name, program)));
        }
    }
    Ok(None)
}

fn stands_still(workflow: &WorkflowView, step: &StepView) -> bool {
    let is_idle = step.state == StepState::Running && step.running == 0 && step.jobs.unsettled() > 0;
    is_idle && !is_closed_batch(workflow.batch, step.number, step.state)
}

/// Whether somebody or something else must act, or time go by: not so where other jobs of it come first.
fn is_obstacle(cause: &Cause, now: Millis) -> bool {
    let is_one = |kind: &CauseKind| match kind {
        CauseKind::Retrying | CauseKind::Delayed => cause.next_due.is_some_and(|due| due > now + SOON),
        CauseKind::Signal
        | CauseKind::Workflow
        | CauseKind::AtLimit
        | CauseKind::Suspect
        | CauseKind::NoWorker
        | CauseKind::BrokerAway
        | CauseKind::Chore
        | CauseKind::Held
        | CauseKind::Paused => true,
        CauseKind::Running
        | CauseKind::Ready
        | CauseKind::Ahead
        | CauseKind::Predecessor
        | CauseKind::Cancelling
        | CauseKind::Failed
        | CauseKind::Skipped
        | CauseKind::Cancelled
        | CauseKind::Released => false,
    };
    cause.kinds.iter().any(is_one)
}

fn told(cause: Cause, step: &str, program: &str) -> Notice {
    let about = format!("{step} {:?}", cause.kinds);
    let mut text = cause.text;
    if cause.kinds.contains(&CauseKind::NoWorker) {
        text.push_str(&format!("; `{program} worker` starts one"));
    }
    Notice { about, text }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::prelude::*;
    use crate::store::sqlite::{Options, SqliteStore};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[derive(Serialize, Deserialize)]
    struct Row;
    impl Job for Row {
        const NAME: &str = "Row";
        type Output = ();
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<()> {
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Approval;
    impl Signal for Approval {
        const NAME: &str = "Approval";
    }

    #[derive(Serialize, Deserialize)]
    struct Play(String);
    impl Workflow for Play {
        const NAME: &str = "Play";
        fn configure(&self, flow: &Flow) -> crate::Result<()> {
            match self.0.as_str() {
                "rows" => _ = flow.run_each((0..3).map(|_| Row)),
                "approval" => _ = flow.run(Row).after(flow.wait_for::<Approval>("manager")),
                "nap" => _ = flow.run(Row).after(flow.sleep(DAY)),
                "later" => _ = flow.run(Row).after(flow.until(4_102_444_800_000)),
                other => unreachable!("nobody stages {other}"),
            }
            Ok(())
        }
    }

    fn client() -> Client {
        client_on(Options::in_memory())
    }

    fn client_on(options: Options) -> Client {
        let store = Arc::new(SqliteStore::open(options).unwrap());
        App::stateless().workflow::<Play>().job::<Row>().signal::<Approval>().client_on(store)
    }

    async fn said(handle: &Handle) -> String {
        find(handle, &handle.status().await.unwrap(), "demo")
            .await
            .unwrap()
            .map(|notice| notice.text)
            .unwrap_or_default()
    }

    async fn said_of(play: &str) -> (String, Handle) {
        let handle = client().start(Play(play.into())).await.unwrap();
        (said(&handle).await, handle)
    }

    #[tokio::test]
    async fn whoever_watches_what_nobody_runs_is_told_how_a_worker_is_started() {
        let (told, handle) = said_of("rows").await;
        assert!(told.contains("no live worker that knows `Row`; `demo worker` starts one"), "{told}");
        handle.pause().await.unwrap();
        assert_eq!(said(&handle).await, format!("paused; `demo resume {}` lets it go on", handle.id()));
    }

    #[tokio::test]
    async fn whoever_watches_what_waits_is_told_for_what() {
        let (told, handle) = said_of("approval").await;
        assert!(
            told.contains("waits for the signal `manager`") && told.contains(&format!("signal {}", handle.id())),
            "{told}"
        );
        assert!(said_of("nap").await.0.contains("`sleep` sleeps for 1 d, ends in "));
        assert!(said_of("later").await.0.contains(" sleeps until "));
    }

    #[tokio::test]
    async fn that_time_has_gone_by_is_no_other_notice() {
        let clock = Clock::manual(1_000_000);
        let options = Options { clock: clock.clone(), ..Options::in_memory() };
        let handle = client_on(options).start(Play("nap".into())).await.unwrap();
        let workflow = handle.status().await.unwrap();
        let at_first = find(&handle, &workflow, "demo").await.unwrap().unwrap();
        clock.advance(crate::clock::millis(DAY / 2));
        let later = find(&handle, &workflow, "demo").await.unwrap().unwrap();
        assert_eq!(at_first.about, later.about);
        assert_ne!(at_first.text, later.text);
    }

    #[tokio::test]
    async fn whoever_watches_a_batch_is_told_that_it_is_held_open_and_which_one_within_it_is() {
        let outer = client().batch("nightly").open().await.unwrap();
        let told = said(&outer).await;
        assert!(told.contains("`batch` is held open"), "{told}");
        let inner = outer.batch("supplier 7").open().await.unwrap();
        outer.close().await.unwrap();
        let told = said(&outer).await;
        assert!(
            told.contains("`batches` waits for the batch within this one: `supplier 7`") && told.contains("held open"),
            "{told}"
        );
        inner.close().await.unwrap();
    }
}
