//! `cargo xtask test --full`: everything at the sizes by which the engine is accepted, and `RELIABILITY.md` with what came of it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::crash::{self, Crashed, Store, number};
use crate::reliability::{self, Part};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 60;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub seeds: u64,
    pub crash: crash::Options,
    pub on_redis: crash::Options,
    parts: Vec<Part>,
}

/// Valkey and a cluster differ from Redis in few things: that part of its kills and jobs is enough for each of them.
const OF_REDIS: u64 = 10;

/// How often a broker fails.
const BROKER_FAULTS: u64 = 50;

impl Sizes {
    pub fn parse(flags: &[&str]) -> Result<Self> {
        let mut seeds = 1_000_000;
        let mut crash = crash::Options { kills: 3_000, jobs: 300_000, ..crash::Options::default() };
        let mut on_redis =
            crash::Options { store: Store::Redis, kills: 10_000, jobs: 1_000_000, ..crash::Options::default() };
        let mut parts: Vec<Part> = Part::all().collect();
        for pair in flags.chunks(2) {
            let [name, value] = pair else { anyhow::bail!("{} needs a value", pair[0]) };
            match *name {
                "--seeds" => seeds = number(value)?,
                "--kills" => crash.kills = number(value)?,
                "--jobs" => crash.jobs = number(value)?,
                "--redis-kills" => on_redis.kills = number(value)?,
                "--redis-jobs" => on_redis.jobs = number(value)?,
                "--seed" => (crash.seed, on_redis.seed) = (number(value)?, number(value)?),
                // The page alone, from what there is.
                "--only" if *value == "page" => parts.clear(),
                "--only" => {
                    parts.retain(|part| part.name() == *value);
                    ensure!(
                        !parts.is_empty(),
                        "there is no part `{value}`; there are {}, page",
                        Part::all().map(Part::name).collect::<Vec<_>>().join(", ")
                    );
                }
                _ => anyhow::bail!(
                    "`{name}` is not known; there are --only, --seeds, --kills, --jobs, --redis-kills, --redis-jobs, --seed"
                ),
            }
        }
        Ok(Self { seeds, crash, on_redis, parts })
    }

    /// How much is done on a store.
    fn crash_on(&self, store: Store) -> crash::Options {
        match store {
            Store::Sqlite => self.crash.clone(),
            Store::Redis => self.on_redis.clone(),
            Store::Valkey | Store::Cluster => {
                let (kills, jobs) = (self.on_redis.kills / OF_REDIS, self.on_redis.jobs / OF_REDIS);
                crash::Options { store, kills, jobs, ..self.on_redis.clone() }
            }
        }
    }

    /// How much is done over a broker.
    fn crash_by(broker: &'static str) -> crash::Options {
        let broker_faults = Some(BROKER_FAULTS);
        let of =
            crash::Options { store: Store::Redis, broker: Some(broker), broker_faults, ..crash::Options::default() };
        crash::Options { kills: 500, jobs: 100_000, ..of }
    }
}

/// Does it all, or the parts asked for. What a part has shown is written down even if it must not be.
pub fn full(sizes: &Sizes) -> Result<()> {
    let does = |part| sizes.parts.contains(&part);
    // First of all, since what it lacks would else show after an hour.
    let targets = if does(Part::Fuzz) { fuzz_targets()? } else { Vec::new() };
    let mut crashed = Vec::new();
    for store in Store::ALL.into_iter().filter(|store| does(Part::Crash(*store))) {
        let options = sizes.crash_on(store);
        let (runs, skipped) = crash::crash(&options)?;
        let shown: Vec<Value> = runs.iter().map(Crashed::json).collect();
        let crash::Options { kills, jobs, seed, .. } = options;
        let command = format!("cargo xtask crash --store {} --kills {kills} --jobs {jobs} --seed {seed}", store.name());
        reliability::keep(Part::Crash(store), &command, &json!({ "runs": shown, "skipped": skipped }))?;
        crashed.extend(runs);
    }
    let mut by_broker = Vec::new();
    for broker in crash::BROKERS.into_iter().filter(|broker| does(Part::Broker(broker))) {
        let options = Sizes::crash_by(broker);
        let (runs, skipped) = crash::crash(&options)?;
        let shown: Vec<Value> = runs.iter().map(Crashed::json).collect();
        let crash::Options { kills, jobs, seed, .. } = options;
        let command = format!(
            "cargo xtask crash --store redis --broker {broker} --broker-faults {BROKER_FAULTS} --kills {kills} --jobs {jobs} --seed {seed}"
        );
        reliability::keep(Part::Broker(broker), &command, &json!({ "runs": shown, "skipped": skipped }))?;
        by_broker.extend(runs);
    }
    if does(Part::Model) {
        crate::model(&sizes.seeds.to_string())?;
        let command = format!("cargo xtask test --seeds {}", sizes.seeds);
        reliability::keep(Part::Model, &command, &json!({ "seeds": sizes.seeds }))?;
    }
    if does(Part::Fuzz) {
        fuzz(&targets)?;
        let figures = json!({ "targets": targets, "seconds": FUZZ_SECONDS });
        reliability::keep(Part::Fuzz, "cargo xtask reliability --only fuzz", &figures)?;
    }
    reliability::write_page()?;
    crash::all_good(&crashed)?;
    crash::all_good(&by_broker)?;
    crashed.iter().try_for_each(|run| reliability::check_recovery(&run.json()))
}

fn fuzz_targets() -> Result<Vec<String>> {
    // Not the cargo that runs this program: cargo-fuzz needs a nightly one.
    let listed = Command::new("cargo").args(["+nightly", "fuzz", "list"]).output().context("starting cargo")?;
    ensure!(
        listed.status.success(),
        "`cargo +nightly fuzz list` fails; it needs `rustup toolchain install nightly` and `cargo install cargo-fuzz`: {}",
        String::from_utf8_lossy(&listed.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
}

/// Runs each fuzz target for a while.
fn fuzz(targets: &[String]) -> Result<()> {
    for target in targets {
        let mut fuzz = Command::new("cargo");
        fuzz.args(["+nightly", "fuzz", "run", target, "--", &format!("-max_total_time={FUZZ_SECONDS}")]);
        crate::run(fuzz)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_acceptance_unless_told_otherwise() {
        let sizes = Sizes::parse(&[]).unwrap();
        assert_eq!((sizes.seeds, sizes.crash.kills, sizes.crash.jobs), (1_000_000, 3_000, 300_000));
        assert_eq!((sizes.on_redis.kills, sizes.on_redis.jobs), (10_000, 1_000_000));
        let sizes = Sizes::parse(&["--redis-kills", "20", "--redis-jobs", "1_000", "--seed", "4"]).unwrap();
        let crash::Options { store, kills, jobs, seed, .. } = sizes.on_redis;
        assert_eq!((store, kills, jobs, seed, sizes.crash.kills), (Store::Redis, 20, 1_000, 4, 3_000));
        let sizes = Sizes::parse(&["--kills", "10", "--seeds", "100"]).unwrap();
        assert_eq!((sizes.seeds, sizes.crash.kills, sizes.parts.len()), (100, 10, 8));
        let crash::Options { store, kills, jobs, .. } = sizes.crash_on(Store::Cluster);
        assert_eq!((store, kills, jobs), (Store::Cluster, 1_000, 100_000));
        assert_eq!(Sizes::parse(&["--only", "model"]).unwrap().parts, [Part::Model]);
        assert!(Sizes::parse(&["--only", "luck"]).unwrap_err().to_string().contains("there is no part `luck`"));
        assert!(Sizes::parse(&["--kills"]).is_err());
    }
}
