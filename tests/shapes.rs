//! Graphs of unusual shapes: wide, long, random, empty. Each runs right, and no store operation goes over its bound.

mod support;

use std::collections::HashMap;

use gusher::prelude::*;
use gusher::store::Store;
use gusher::{StepState, WorkflowState};
use support::House;
use support::act::{Act, Shared, Stage, act};

#[derive(Serialize, Deserialize)]
enum Shape {
    Random { steps: usize, seed: u64 },
    Chain { steps: usize, empty: bool },
    Followers { steps: usize },
    FanIn { steps: usize },
    Empty,
}

/// SplitMix64, the finalizer of Steele, Lea and Flood (2014).
fn mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The steps that step `n` of a random graph runs after: up to three earlier ones.
fn random_upstream(seed: u64, n: usize) -> Vec<usize> {
    let dice = |k: u64| mix(seed ^ mix(n as u64 * 8 + k)) as usize;
    let mut upstream: Vec<usize> =
        if n == 0 { Vec::new() } else { (1..=dice(0) % 4).map(|k| dice(k as u64) % n).collect() };
    upstream.sort_unstable();
    upstream.dedup();
    upstream
}

impl Workflow for Shape {
    const NAME: &str = "Shape";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        match *self {
            Shape::Random { steps, seed } => {
                let mut made: Vec<Step<'_, Act>> = Vec::new();
                for n in 0..steps {
                    let upstream: Vec<_> = random_upstream(seed, n).into_iter().map(|up| made[up]).collect();
                    // One step in eight has no jobs, one in eight has three.
                    let jobs = match mix(seed + n as u64) % 8 {
                        0 => 0,
                        1 => 3,
                        _ => 1,
                    };
                    made.push(flow.run_each((0..jobs).map(move |_| act(n.to_string(), "ok"))).after(upstream));
                }
            }
            Shape::Chain { steps, empty } => {
                let mut last: Option<Step<'_, Act>> = None;
                for n in 0..steps {
                    let jobs = if empty && n > 0 { Vec::new() } else { vec![act(n.to_string(), "ok")] };
                    last = Some(flow.run_each(jobs).after(last));
                }
            }
            Shape::Followers { steps } => {
                let first = flow.run(act("first", "ok"));
                for n in 0..steps {
                    flow.run(act(n.to_string(), "ok")).after(first);
                }
            }
            Shape::FanIn { steps } => {
                let all: Vec<_> = (0..steps).map(|n| flow.run(act(n.to_string(), "ok"))).collect();
                flow.run(act("last", "ok")).after(all);
            }
            Shape::Empty => {}
        }
        Ok(())
    }
}

/// Runs a shape; returns what ran, in order.
async fn run(shape: Shape, jobs: u64) -> Vec<String> {
    let stage = Stage::new();
    let shared: Shared = stage.clone();
    let app = App::new(move || std::future::ready(Ok::<_, std::io::Error>(shared.clone()))).job::<Act>();
    let house = House::new();
    let worker = house.worker(&app).await;
    let started = std::time::Instant::now();
    let run = house.client(&app).start(shape).await.unwrap();
    let created = started.elapsed();
    let done = run.wait().await.unwrap();
    eprintln!("created in {created:?}, done after {:?}", started.elapsed());
    assert_eq!((done.state, done.jobs.succeeded), (WorkflowState::Succeeded, jobs));
    worker.stop().await;
    for (verb, cost) in house.store.meters().by_verb() {
        eprintln!("  {verb}: {} operations, at most {:?}", cost.operations, cost.max);
    }
    house.check().await;
    stage.ran()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_graph_of_2_000_steps_runs_every_job_after_all_before_it() {
    let (steps, seed) = (2_000, 7);
    let jobs_of = |n: usize| match mix(seed + n as u64) % 8 {
        0 => 0,
        1 => 3,
        _ => 1,
    };
    let ran = run(Shape::Random { steps, seed }, (0..steps).map(jobs_of).sum()).await;
    let mut last_of: HashMap<&str, usize> = HashMap::new();
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    for (at, name) in ran.iter().enumerate() {
        last_of.insert(name, at);
        first_of.entry(name).or_insert(at);
    }
    for n in 0..steps {
        let Some(first) = first_of.get(n.to_string().as_str()) else { continue };
        for up in random_upstream(seed, n) {
            let before = last_of.get(up.to_string().as_str());
            assert!(before.is_none_or(|before| before < first), "step {n} ran before step {up} had ended");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_10_000_steps_runs_in_order() {
    let ran = run(Shape::Chain { steps: 10_000, empty: false }, 10_000).await;
    assert!(ran.iter().enumerate().all(|(n, name)| *name == n.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_10_000_empty_steps_settles() {
    run(Shape::Chain { steps: 10_000, empty: true }, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_step_releases_10_000_followers() {
    let ran = run(Shape::Followers { steps: 10_000 }, 10_001).await;
    assert_eq!(ran[0], "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_in_of_1_000_single_steps_runs_its_last_step_last() {
    let ran = run(Shape::FanIn { steps: 1_000 }, 1_001).await;
    assert_eq!(ran[1_000], "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_workflow_succeeds_at_once() {
    assert!(run(Shape::Empty, 0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_without_jobs_count_as_succeeded() {
    let app = App::new(|| std::future::ready(Ok::<_, std::io::Error>(Stage::new()))).job::<Act>();
    let house = House::new();
    let run = house.client(&app).start(Shape::Chain { steps: 1, empty: true }).await.unwrap();
    assert_eq!(run.status().await.unwrap().steps[0].state, StepState::Running, "nobody has run its only job");
}
