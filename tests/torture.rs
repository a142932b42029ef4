//! Torture of workflows: what is safe to repeat passes, and what is not is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::testing::{TortureReport, torture};

/// What is outside: a table, a list, and what is wrong with how they are written.
#[derive(Default)]
struct World {
    rows: Mutex<BTreeMap<u64, u64>>,
    mails: Mutex<Vec<String>>,
    bug: Bug,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Bug {
    #[default]
    None,
    /// Row 17 counts up instead of setting its value.
    OneRow,
    EveryRow,
    /// A row tells whether it is the first to be written.
    Answer,
    Source,
    Report,
    /// One double is forgiven.
    TwoTogether,
    /// The report has one attempt, and needs the store for it.
    NoRetry,
}

type Shared = Arc<World>;

impl World {
    fn with(bug: Bug) -> Shared {
        Arc::new(Self { bug, ..Self::default() })
    }

    /// Writes a row; whether it is new.
    fn put(&self, n: u64) -> bool {
        let mut rows = self.rows.lock().unwrap();
        let counts = match self.bug {
            Bug::OneRow => n == 17,
            Bug::EveryRow => true,
            Bug::TwoTogether => n == 3 || n == 12,
            _ => false,
        };
        let new = !rows.contains_key(&n);
        let value = rows.entry(n).or_default();
        *value = if counts { *value + 1 } else { 1 };
        new
    }

    fn mail(&self, text: String) {
        self.mails.lock().unwrap().push(text);
    }

    fn look(&self) -> (BTreeMap<u64, u64>, Vec<String>) {
        let mut rows = self.rows.lock().unwrap().clone();
        if self.bug == Bug::TwoTogether && rows.values().sum::<u64>() <= 21 {
            rows.values_mut().for_each(|value| *value = 1);
        }
        (rows, self.mails.lock().unwrap().clone())
    }
}

#[derive(Serialize, Deserialize)]
struct Read {
    rows: u64,
}
impl Source for Read {
    const NAME: &str = "Read";
    type Emits = Row;
    type State = Shared;
    async fn produce(self, ctx: &Context<Shared>, rows: &mut Emitter<Row>) -> JobResult<()> {
        if ctx.state().bug == Bug::Source {
            ctx.state().mail("reading".to_owned());
        }
        for n in 0..self.rows {
            rows.emit(Row { n }).await?;
        }
        Ok(())
    }
}

/// Its first attempt fails if its number can be divided by seven. Every fifth takes its time.
#[derive(Serialize, Deserialize)]
struct Row {
    n: u64,
}
impl Job for Row {
    const NAME: &str = "Row";
    const RETRY: Retry = Retry::every(Duration::from_secs(600));
    type Output = bool;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<bool> {
        if self.n.is_multiple_of(7) && ctx.attempt() == 1 {
            return Err(JobError::new("not at the first try"));
        }
        if self.n.is_multiple_of(5) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let new = ctx.state().put(self.n);
        Ok(new || ctx.state().bug != Bug::Answer)
    }
}

#[derive(Serialize, Deserialize)]
struct Report {
    rows: Outputs<bool>,
}
impl Job for Report {
    const NAME: &str = "Report";
    type Output = BTreeSet<u64>;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<BTreeSet<u64>> {
        let rows: BTreeSet<u64> = self.rows.stream(ctx).map_ok(|(index, _)| index).try_collect().await?;
        let sent = ctx.state().mails.lock().unwrap().len();
        if sent == 0 || matches!(ctx.state().bug, Bug::Report | Bug::Source) {
            ctx.state().mail(format!("{} rows", rows.len()));
        }
        Ok(rows)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Import {
    rows: u64,
    retry: Retry,
}
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(Read { rows: self.rows }).named("rows");
        flow.run(Report { rows: rows.outputs() }).retry(self.retry);
        Ok(())
    }
}

fn app(world: &Shared) -> App<Shared> {
    let world = world.clone();
    App::new(move || futures::future::ready(Ok::<_, std::io::Error>(world.clone())))
        .source::<Read>()
        .job::<Row>()
        .job::<Report>()
}

fn tortured(bug: Bug) -> TortureReport {
    let retry = if bug == Bug::NoRetry { Retry::never() } else { Retry::DEFAULT };
    // Which job it is shows without the faults; of those few are enough here, unless they are what a test is about.
    let rounds = if matches!(bug, Bug::None | Bug::NoRetry) { 1_000 } else { 6 };
    let tortured = torture(|| World::with(bug), app, |world| world.look()).at_most(rounds);
    tortured.run(Import { rows: 20, retry }).unwrap()
}

#[test]
fn a_workflow_that_may_be_repeated_passes_every_round() {
    let report = tortured(Bug::None);
    assert!(report.is_safe(), "{report}");
    println!("{report}");
    assert!(report.calls > 10, "{report}");
    assert_eq!((report.kills, report.lost_answers), (2 * report.calls, report.calls), "{report}");
    // A source, 20 rows of which three need a second attempt, a report.
    assert_eq!(report.repeats, 25);
    assert!(report.to_string().starts_with("every round ended as the undisturbed run did"), "{report}");
}

#[test]
fn the_one_row_that_is_not_safe_to_repeat_is_named() {
    let report = tortured(Bug::OneRow);
    let found: Vec<_> = report.unsafe_jobs.iter().map(|job| (&*job.job_type, job.index, job.more)).collect();
    assert_eq!(found, [("Row", 17, false)], "{report}");
    let told =
        "rows #17 (Row) is not safe to repeat: with it run twice the world differs: `17: 2` instead of `17: 1`\n";
    assert!(report.to_string().starts_with(told), "{report}");
    assert!(!report.is_safe());
}

#[test]
fn of_many_unsafe_rows_some_are_named_and_more_are_said_to_be_there() {
    let report = tortured(Bug::EveryRow);
    let found: Vec<_> = report.unsafe_jobs.iter().map(|job| (&*job.job_type, job.index)).collect();
    assert_eq!(found, [("Row", 0), ("Row", 1), ("Row", 2)], "{report}");
    assert!(report.unsafe_jobs[2].more);
}

#[test]
fn an_answer_that_depends_on_how_often_it_was_asked_is_found() {
    let report = tortured(Bug::Answer);
    let told = report.unsafe_jobs[0].to_string();
    assert_eq!(
        told,
        "rows #0 (Row) is not safe to repeat: with it run twice rows #0 returned `false` instead of `true`"
    );
}

#[test]
fn a_source_and_a_report_are_jobs_like_others() {
    let found = |bug| tortured(bug).unsafe_jobs.iter().map(|job| job.job_type.clone()).collect::<Vec<_>>();
    assert_eq!(found(Bug::Source), ["Read", "Report"]);
    assert_eq!(found(Bug::Report), ["Report"]);
}

#[test]
fn jobs_that_only_harm_together_are_found_together() {
    let report = tortured(Bug::TwoTogether);
    let job = &report.unsafe_jobs[0];
    assert_eq!((&*job.job_type, report.unsafe_jobs.len()), ("Row", 1), "{report}");
    let jobs: Vec<u64> = std::iter::once(job.index).chain(job.together_with.iter().copied()).collect();
    assert!(jobs.contains(&3) && jobs.contains(&12), "{report}");
}

#[test]
fn a_job_that_a_lost_answer_fails_for_good_is_a_surprise() {
    let report = tortured(Bug::NoRetry);
    assert_eq!(report.unsafe_jobs, []);
    let surprise = report.surprises[0].to_string();
    assert!(surprise.starts_with("the answer was lost to call "), "{surprise}");
    assert!(surprise.contains("the workflow is failed instead of succeeded"), "{surprise}");
}

#[test]
fn a_world_that_is_another_each_time_is_refused() {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let fresh = || {
        let world = World::default();
        world.mail(format!("round {}", ROUND.fetch_add(1, Ordering::SeqCst)));
        Arc::new(world)
    };
    let import = Import { rows: 2, retry: Retry::DEFAULT };
    let error = torture(fresh, app, |world| world.look()).run(import).unwrap_err().to_string();
    assert!(error.starts_with("two undisturbed runs of Import differ"), "{error}");
    assert!(error.contains("`\"round 1\"` instead of `\"round 0\"`"), "{error}");
}

#[test]
fn torture_finds_the_same_each_time_and_with_many_slots() {
    let run = |seed, slots| {
        let tortured =
            torture(|| World::with(Bug::OneRow), app, |world| world.look()).seed(seed).slots(slots).at_most(20);
        tortured.run(Import { rows: 18, retry: Retry::DEFAULT }).unwrap()
    };
    assert_eq!(run(3, 1).to_string(), run(3, 1).to_string());
    let report = run(4, 4);
    assert_eq!(report.unsafe_jobs.iter().map(|job| job.index).collect::<Vec<_>>(), [17], "{report}");
}

#[test]
fn large_workflows_are_tortured_in_as_many_rounds_as_one_likes() {
    let tortured = torture(|| World::with(Bug::None), app, |world| world.look()).at_most(9);
    let report = tortured.run(Import { rows: 1_000, retry: Retry::DEFAULT }).unwrap();
    assert!(report.is_safe(), "{report}");
    assert_eq!((report.kills + report.lost_answers, report.repeats), (9, 1_145));
}

/// Asks a thread of its own, which answers at once or has much to do first.
#[derive(Serialize, Deserialize)]
struct Ask {
    slowly: bool,
}

impl Job for Ask {
    const NAME: &str = "Ask";
    type Output = u64;
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<u64> {
        let (answer, mut answered) = tokio::sync::oneshot::channel();
        let (ask, asked) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || asked.recv().map(|()| answer.send(7)));
        if !self.slowly {
            ask.send(()).unwrap();
            thread.join().unwrap().unwrap().unwrap();
            return Ok(answered.await?);
        }
        // It is asked once the job waits already.
        let answer = std::future::poll_fn(|cx| {
            let answer = std::pin::Pin::new(&mut answered).poll(cx);
            if answer.is_pending() {
                // Whoever has answered listens no more.
                let _ = ask.send(());
            }
            answer
        });
        Ok(answer.await?)
    }
}

#[derive(Serialize, Deserialize)]
struct Questions {
    slowly: bool,
}

impl Workflow for Questions {
    const NAME: &str = "Questions";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let slowly = self.slowly;
        let first = flow.run_each((0..4).map(move |_| Ask { slowly }));
        flow.run_each((0..4).map(move |_| Ask { slowly })).named("again").after(first);
        Ok(())
    }
}

#[test]
fn how_fast_another_thread_answers_changes_nothing() {
    let tortured = |slowly| {
        let report = torture(|| (), |()| App::stateless().job::<Ask>(), |()| ()).run(Questions { slowly }).unwrap();
        assert!(report.is_safe(), "{report}");
        assert_eq!(
            (report.kills, report.lost_answers),
            (2 * report.calls, report.calls),
            "every call went wrong once in each way"
        );
        report.calls
    };
    assert_eq!(tortured(true), tortured(false));
}
