//! Versions: what a new program says of workflows that an older one created.

mod support;

use std::time::Duration;

use gusher::Signal;
use gusher::prelude::*;
use support::House;

/// A workflow whose rows have the fields of one version.
macro_rules! version {
    ($name:ident, $row:item) => {
        mod $name {
            use super::*;

            #[derive(Serialize, Deserialize)]
            $row

            impl Job for Row {
                const NAME: &str = "Row";
                type Output = ();
                type State = ();
                async fn perform(self, _: &Context) -> JobResult<()> {
                    Ok(())
                }
            }
        }
    };
}

version!(
    before,
    pub struct Row {
        pub line: String,
    }
);
version!(
    changed,
    pub struct Row {
        pub line: u32,
    }
);
version!(
    grown,
    pub struct Row {
        pub line: String,
        #[serde(default)]
        pub delimiter: Option<char>,
    }
);

#[derive(Serialize, Deserialize)]
struct Report;
impl Job for Report {
    const NAME: &str = "Report";
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

/// As the older program starts it: nothing of it runs for a day.
#[derive(Serialize, Deserialize)]
struct Import;
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let lines = ["a;1", "b;2"].map(|line| before::Row { line: line.into() });
        let rows = flow.run_each(lines).delay(Duration::from_secs(86_400));
        let approval = flow.wait_for::<Approval>("manager").after(rows);
        flow.run(Report).after(approval);
        Ok(())
    }
}

async fn warnings(house: &House, app: App) -> Vec<String> {
    let warnings = house.client(&app).doctor().await.unwrap().warnings;
    // That no worker lives is another matter.
    warnings.into_iter().filter(|warning| !warning.contains("cannot run")).collect()
}

#[tokio::test]
async fn the_doctor_says_which_running_workflows_hold_what_this_program_lacks() {
    let house = House::new();
    let old = App::stateless().job::<before::Row>().job::<Report>().signal::<Approval>();
    let client = house.client(&old);
    let (_, newest) = (client.start(Import).await.unwrap(), client.start(Import).await.unwrap().id());
    assert_eq!(warnings(&house, old).await, Vec::<String>::new());

    let grown = App::stateless().job::<grown::Row>().job::<Report>().signal::<Approval>();
    assert_eq!(warnings(&house, grown).await, Vec::<String>::new(), "a field with a default is no harm");

    let changed = App::stateless().job::<changed::Row>().job::<Report>().signal::<Approval>();
    let told = warnings(&house, changed).await;
    let start = format!(
        "2 workflows Import (the newest is {newest}), step `Row`: 4 jobs would fail, since the parameters do not fit"
    );
    assert!(told.len() == 1 && told[0].starts_with(&start), "{told:?}");
    assert!(told[0].contains("`Row`, at field `line`: invalid type: string \"a;1\", expected u32"), "{told:?}");

    let told = warnings(&house, App::stateless().job::<before::Row>()).await;
    let [report, signal] = told.as_slice() else { panic!("{told:?}") };
    let unknown = "step `Report`: this program does not know the type `Report` of 2 jobs";
    assert!(report.contains(unknown) && report.ends_with("add .job::<Report>() to the App"), "{report}");
    assert!(signal.ends_with("add .signal::<Approval>() to the App"), "{signal}");
    assert_eq!(warnings(&house, App::stateless()).await, Vec::<String>::new(), "a program without types runs nothing");
}

#[tokio::test]
async fn of_a_batch_that_several_programs_add_to_the_doctor_reads_what_each_has_added() {
    let house = House::new();
    let old = house.client(&App::stateless().job::<before::Row>());
    let night = old.batch("nightly").open().await.unwrap();
    night.add(before::Row { line: "a;1".into() }).await.unwrap();
    let new = App::stateless().job::<changed::Row>();
    house.client(&new).find_batch(night.id()).await.unwrap().add(changed::Row { line: 2 }).await.unwrap();
    let told = warnings(&house, new).await;
    assert!(told.len() == 1 && told[0].contains("invalid type: string \"a;1\", expected u32"), "{told:?}");
    let told = warnings(&house, App::stateless().job::<before::Row>()).await;
    assert!(told.len() == 1 && told[0].contains("invalid type: integer `2`, expected a string"), "{told:?}");
}
