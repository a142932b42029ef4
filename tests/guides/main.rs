//! What the guides show: every line of Rust in those that a test below lists is one of these, and so is what the tables of docs/coming-from-*.md name of ours.
//!
//! Each guide has a file here.

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::testing::Simulation;
use gusher::{
    AroundPerform, JobState, JobToEnqueue, Keep, Next, Pausable, Performed, Retention, Started, Unique, WorkflowState,
};
use support::House;

#[derive(Clone, Default)]
struct Mailer;

#[derive(Debug, thiserror::Error)]
#[error("the server is busy")]
struct Busy;

#[derive(Debug, thiserror::Error)]
#[error("the user has left")]
struct UserIsGone;

impl Mailer {
    async fn welcome(&self, to: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match to {
            "busy@example.org" => Err(Busy.into()),
            "gone@example.org" => Err(UserIsGone.into()),
            _ => Ok(()),
        }
    }
}

/// Jobs of which only the parameters matter here.
macro_rules! does_nothing {
    ($state:ty: $($job:ident)+) => {$(
        impl Job for $job {
            const NAME: &str = stringify!($job);
            type Output = ();
            type State = $state;
            async fn perform(self, _: &Context<$state>) -> JobResult<()> {
                Ok(())
            }
        }
    )+};
}

#[rustfmt::skip]
mod sidekiq;
#[rustfmt::skip]
mod gush;
#[rustfmt::skip]
mod lone_jobs;
#[rustfmt::skip]
mod limits;
#[rustfmt::skip]
mod hooks;
#[rustfmt::skip]
mod played;
#[rustfmt::skip]
mod schedules;
#[rustfmt::skip]
mod sources;
#[rustfmt::skip]
mod waiting;
#[rustfmt::skip]
mod failures;
#[rustfmt::skip]
mod conditions;
#[rustfmt::skip]
mod sub_workflows;
#[rustfmt::skip]
mod repair;
#[rustfmt::skip]
mod shapes;
#[rustfmt::skip]
mod batches;
#[rustfmt::skip]
mod chains;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The files of this test.
const FILES: [&str; 17] = [
    "main",
    "sidekiq",
    "gush",
    "lone_jobs",
    "limits",
    "hooks",
    "played",
    "schedules",
    "sources",
    "waiting",
    "failures",
    "conditions",
    "sub_workflows",
    "repair",
    "shapes",
    "batches",
    "chains",
];

/// Checks that a guide shows the workflow's graph as it is.
fn is_drawn_in(guide: &str, workflow: &impl Workflow) {
    let picture = gusher::testing::picture(workflow).unwrap();
    assert!(read(guide).contains(&format!("```text\n{picture}```\n")), "{guide} lacks this picture:\n{picture}");
}

/// Without any spaces: a guide breaks its lines elsewhere.
fn bare(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn every_line_of_rust_in_the_guides_is_one_of_these_files() {
    let here: String = FILES.iter().map(|name| bare(&read(&format!("tests/guides/{name}.rs")))).collect();
    let mut checked = 0;
    for guide in [
        "lone-jobs",
        "limits",
        "coming-from-sidekiq",
        "coming-from-gush",
        "schedules",
        "sources",
        "waiting",
        "failures",
        "conditions",
        "sub-workflows",
        "repair",
        "shapes",
        "batches",
        "chains",
    ]
    .map(|name| format!("docs/{name}.md"))
    {
        let text = read(&guide);
        for block in text.split("```rust\n").skip(1) {
            let code = block.split("```").next().unwrap();
            assert!(here.contains(&bare(code)), "{guide}: not in these files:\n{code}");
            checked += 1;
        }
    }
    // The second column of the tables: whatever looks like code of ours.
    let values = ["client.", "flow.", "app.", "ctx.", "played.", "error."];
    let types = ["App::", "JobError::", "Limit::", "Retry::", "Simulation::", "Unique::"];
    let begins = [".", "const ", "fn ", "async fn "];
    let is_ours = |code: &&str| {
        values.iter().chain(&types).any(|ours| code.contains(ours)) || begins.iter().any(|ours| code.starts_with(ours))
    };
    let others = ["sidekiq", "gush", "celery", "bullmq", "oban"];
    let tables: String = others.iter().map(|name| read(&format!("docs/coming-from-{name}.md"))).collect();
    let here = here + &bare(&read("tests/transactions.rs"));
    for row in tables.lines().filter(|line| line.starts_with("| ")) {
        // A bar within a cell is written so.
        let row = row.replace("\\|", "\u{0}");
        let ours = row.trim_matches('|').rsplit(" | ").next().unwrap().replace('\u{0}', "|");
        for code in ours.split('`').skip(1).step_by(2).filter(is_ours) {
            assert!(here.contains(&bare(code)), "in the table, but not in these files: {code}");
            checked += 1;
        }
    }
    assert!(checked >= 120, "only {checked} pieces of code");
}
