//! `lanes`: lone jobs, by queue, type and priority.

use super::house::House;
use super::out::{Ending, Outcome};
use super::table::Table;
use crate::render::words::{escape, number};
use crate::view::LaneView;

/// List lone jobs by queue, type and priority
///
/// The ID of a lane can be used like a workflow's: `failures ID TYPE`, `retry ID`, `show ID/TYPE#INDEX`.
#[derive(Debug, clap::Args)]
pub struct Lanes {}

impl Lanes {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let lanes = house.client().await?.lanes().await?;
        if house.out.json {
            house.out.document(&lanes)?;
        } else if lanes.is_empty() {
            house.out.text("no lone job has been enqueued")?;
        } else {
            house.out.text(&lines(&lanes))?;
        }
        Ok(Ending::Fine)
    }
}

fn lines(lanes: &[LaneView]) -> String {
    let headings =
        ["QUEUE", "TYPE", ">PRIORITY", ">READY", ">RUNNING", ">RETRYING", ">DEFERRED", ">FAILED", ">KEPT", "ID"];
    let mut table = Table::new(&headings);
    let figure = |n: u64| if n == 0 { String::new() } else { number(n) };
    for lane in lanes {
        let jobs = lane.jobs;
        let ids = match lane.ids.as_slice() {
            [one] => one.to_string(),
            several => format!("on {} shards (--json names them)", several.len()),
        };
        table.row([
            escape(&lane.queue).into(),
            escape(&lane.job_type).into(),
            lane.priority.to_string().into(),
            figure(jobs.open().saturating_sub(lane.running)).into(),
            figure(lane.running).into(),
            figure(jobs.retrying).into(),
            figure(jobs.deferred).into(),
            figure(jobs.failed).into(),
            figure(jobs.settled() - jobs.failed).into(),
            ids.into(),
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Counts;
    use crate::store::Lane;

    #[test]
    fn a_lane_tells_what_waits_runs_and_is_kept() {
        let lane = Lane::new(0, "mail", 5, "SendMail");
        let jobs = Counts { total: 12, succeeded: 3, failed: 1, retrying: 2, deferred: 1, ..Counts::default() };
        let view =
            |ids| LaneView { queue: "mail".into(), job_type: "SendMail".into(), priority: 5, jobs, running: 4, ids };
        let text = lines(&[view(vec![lane.id]), view(vec![lane.id; 3])]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let id = lane.id.to_string();
        assert_eq!(words[1], ["mail", "SendMail", "5", "1", "4", "2", "1", "1", "3", id.as_str()]);
        assert!(text.contains("on 3 shards"), "{text}");
    }
}
