//! docs/failures.md

use super::*;

#[derive(Serialize, Deserialize)]
struct CheckAddress { to: String }
#[derive(Serialize, Deserialize)]
struct SendMail { to: String }
#[derive(Serialize, Deserialize)]
struct Thank;
#[derive(Serialize, Deserialize)]
struct Alarm;
does_nothing!((): Thank Alarm);

const HOUR: Duration = Duration::from_secs(3600);
/// What each of them takes, in virtual time.
const A_WHILE: Duration = Duration::from_millis(100);

impl Job for CheckAddress {
    const NAME: &str = "CheckAddress";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        tokio::time::sleep(A_WHILE).await;
        if self.to.contains('@') { Ok(()) } else { Err(JobError::fatal("this is no address")) }
    }
}

impl Job for SendMail {
    const NAME: &str = "SendMail";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        tokio::time::sleep(A_WHILE).await;
        if self.to.starts_with("no ") { Err(JobError::fatal("the server does not know them")) } else { Ok(()) }
    }
}

#[derive(Serialize, Deserialize)]
struct Mailing { to: Vec<String> }

impl Workflow for Mailing {
    const NAME: &str = "Mailing";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let (checks, mails) = (self.to.clone(), self.to.clone());
        let checked = flow.run_each(checks.into_iter().map(|to| CheckAddress { to })).tolerate(10).fail_fast();
        let sent = flow.run_each(mails.into_iter().map(|to| SendMail { to })).after(checked).tolerate(10).or_pause();
        flow.run(Thank).after(sent);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct ReadList { of: Vec<String>, takes: Duration }

impl Source for ReadList {
    const NAME: &str = "ReadList";
    type Emits = SendMail;
    type State = ();
    async fn produce(self, _: &Context, out: &mut Emitter<SendMail>) -> JobResult<()> {
        tokio::time::sleep(self.takes).await;
        for to in self.of {
            out.emit(SendMail { to }).await?;
        }
        Ok(())
    }
}

/// Lists of people, each of which is read an hour after the one before.
#[derive(Serialize, Deserialize)]
struct MailingByLists { lists: Vec<Vec<String>> }

impl Workflow for MailingByLists {
    const NAME: &str = "MailingByLists";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let files = (0..).map(|n| HOUR * n).zip(self.lists.clone()).map(|(takes, of)| ReadList { of, takes });
        let files = files.collect::<Vec<_>>();
        let rows = flow.expand_each(files).tolerate(10).fail_fast();
        rows.source(|files| files.tolerate(3).or_pause());
        flow.run(Thank).after(rows);
        Ok(())
    }
}

/// A policy of one source, which could never act.
#[derive(Serialize, Deserialize)]
struct Misplaced;

impl Workflow for Misplaced {
    const NAME: &str = "Misplaced";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.expand(ReadList { of: Vec::new(), takes: A_WHILE }).source(|list| list.fail_fast());
        Ok(())
    }
}

/// The lines of the table.
#[derive(Serialize, Deserialize)]
struct Rest;

impl Workflow for Rest {
    const NAME: &str = "Rest";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let sent = flow.run_each([SendMail { to: "no one".into() }]).tolerate(Tolerate::Fraction(0.001));
        flow.run(Alarm).after_failure(sent);
        Ok(())
    }
}

fn app() -> App {
    App::stateless().workflow::<Mailing>().workflow::<MailingByLists>().workflow::<Misplaced>().source::<ReadList>().job::<CheckAddress>().job::<SendMail>().job::<Thank>().job::<Alarm>()
}

/// A hundred people, of whom so many have no address, and so many are not known.
fn to(without: usize, unknown: usize) -> Mailing {
    let without = (0..without).map(|_| "nowhere".to_owned());
    let unknown = (0..unknown).map(|n| format!("no {n}@example.org"));
    let known = (0..).map(|n| format!("{n}@example.org"));
    Mailing { to: without.chain(unknown).chain(known).take(100).collect() }
}

#[test]
fn too_many_failures_stop_the_checks_and_pause_the_mails() {
    is_drawn_in("docs/failures.md", &Mailing { to: Vec::new() });
    let run = Simulation::new(app()).run(to(11, 0)).unwrap();
    assert_eq!((run.state(), run.ran("SendMail")), (WorkflowState::Failed, 0));
    assert!(run.ran("CheckAddress") < 50, "{} of 100 checks ran", run.ran("CheckAddress"));

    let resume = async |handle: gusher::Handle| {
        assert!(handle.status().await?.steps[1].paused);
        handle.resume_step("SendMail").await.map(drop)
    };
    let run = Simulation::new(app()).at(Duration::from_secs(3600), resume).run(to(0, 11)).unwrap();
    assert_eq!((run.state(), run.ran("SendMail"), run.ran("Thank")), (WorkflowState::Failed, 100, 0));

    let discard = async |handle: gusher::Handle| handle.discard_failed(Some("SendMail")).await.map(drop);
    let run = Simulation::new(app()).at(Duration::from_secs(3600), discard).run(to(0, 11)).unwrap();
    assert_eq!((run.state(), run.ran("SendMail"), run.ran("Thank")), (WorkflowState::Succeeded, 100, 1));

    let rest = Simulation::new(app()).run(Rest).unwrap();
    assert_eq!((rest.state(), rest.ran("Alarm")), (WorkflowState::Failed, 1));
}

#[test]
fn what_a_list_emits_after_too_many_mails_have_failed_is_cancelled_and_runs_with_a_retry() {
    let lists = || MailingByLists { lists: vec![to(0, 11).to, to(0, 0).to] };
    let run = Simulation::new(app()).run(lists()).unwrap();
    assert_eq!((run.state(), run.ran("ReadList"), run.ran("Thank")), (WorkflowState::Failed, 2, 0));
    assert!(run.ran("SendMail") < 50, "{} of 200 mails were sent", run.ran("SendMail"));

    let discard = async |handle: gusher::Handle| handle.discard_failed(Some("SendMail")).await.map(drop);
    let run = Simulation::new(app()).at(2 * HOUR, discard).run(lists()).unwrap();
    assert_eq!((run.state(), run.ran("SendMail"), run.ran("Thank")), (WorkflowState::Succeeded, 200, 1));
}

#[test]
fn a_policy_of_one_source_is_refused_with_where_to_say_it() {
    let error = Simulation::new(app()).run(Misplaced).unwrap_err().to_string();
    assert!(error.contains("`.fail_fast()` has no rest to stop; say it of what the source emits"), "{error}");
}

#[tokio::test]
async fn commands_on_a_step_that_is_not_paused_change_nothing() {
    let house = House::new();
    let handle = house.client(&app()).start(to(0, 0)).await.unwrap();
    assert!(!handle.resume_step("SendMail").await.unwrap());
    assert_eq!(handle.retry_failed(Some("SendMail")).await.unwrap(), 0);
    assert!(handle.resume_step("SendMails").await.unwrap_err().to_string().contains("did you mean `SendMail`"));
}
