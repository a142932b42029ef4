//! `cargo xtask test --full`: everything at the sizes by which the engine is accepted, and `RELIABILITY.md` with what came of it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::crash::{self, Crashed, Store, number};
use crate::reliability::{self, Part};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 60;

/// After so many games it is written down how far they are.
const GAMES_AT_A_TIME: u64 = 100_000;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub seeds: u64,
    pub crash: crash::Options,
    pub on_redis: crash::Options,
    /// Also what has passed at this commit.
    fresh: bool,
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
        let fresh = flags.contains(&"--fresh");
        let flags: Vec<&str> = flags.iter().copied().filter(|flag| *flag != "--fresh").collect();
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
                    "`{name}` is not known; there are --only, --fresh, --seeds, --kills, --jobs, --redis-kills, --redis-jobs, --seed"
                ),
            }
        }
        Ok(Self { seeds, crash, on_redis, fresh, parts })
    }

    /// By which command a part is repeated.
    fn command(&self, part: Part) -> String {
        let crash = |options: crash::Options, on: String| {
            let crash::Options { kills, jobs, seed, .. } = options;
            format!("cargo xtask crash --store {on} --kills {kills} --jobs {jobs} --seed {seed}")
        };
        match part {
            Part::Tests => "cargo xtask test --full --only tests".to_owned(),
            Part::Crash(store) => crash(self.crash_on(store), store.name().to_owned()),
            Part::Broker(broker) => {
                let on = format!("redis --broker {broker} --broker-faults {BROKER_FAULTS}");
                crash(Self::crash_by(broker), on)
            }
            Part::Model => format!("cargo xtask test --seeds {}", self.seeds),
            Part::Fuzz => "cargo xtask test --full --only fuzz".to_owned(),
        }
    }

    /// Whether a part is through with these figures.
    fn passed(&self, part: Part, figures: &Value) -> bool {
        part.check(figures).is_ok() && (part != Part::Model || played(figures) >= self.seeds)
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

/// Does it all, or the parts asked for, but for what has passed at this very commit: so it goes on where it was when something stopped it.
/// What a part has shown is written down even if it must not be.
pub fn full(sizes: &Sizes) -> Result<()> {
    // First of all, since what it lacks would else show after an hour.
    let targets = if sizes.parts.contains(&Part::Fuzz) { fuzz_targets()? } else { Vec::new() };
    for part in &sizes.parts {
        let command = sizes.command(*part);
        let kept = if sizes.fresh { None } else { reliability::kept_here(*part, &command)? };
        if kept.as_ref().is_some_and(|kept| sizes.passed(*part, kept)) {
            println!("{}: passed at this commit before (--fresh does it again): {command}", part.name());
            continue;
        }
        match part {
            Part::Tests => {
                crate::check_everything(&[])?;
                reliability::keep(*part, &command, &json!({}))?;
            }
            Part::Crash(store) => crash_run(*part, &command, &sizes.crash_on(*store))?,
            Part::Broker(broker) => crash_run(*part, &command, &Sizes::crash_by(broker))?,
            Part::Model => games(sizes.seeds, &command, kept.as_ref())?,
            Part::Fuzz => {
                fuzz(&targets)?;
                reliability::keep(*part, &command, &json!({ "targets": targets, "seconds": FUZZ_SECONDS }))?;
            }
        }
    }
    let kept = reliability::write_page()?;
    kept.iter().filter(|(part, _)| sizes.parts.contains(part)).try_for_each(|(part, kept)| part.check(&kept["figures"]))
}

fn crash_run(part: Part, command: &str, options: &crash::Options) -> Result<()> {
    let (runs, skipped) = crash::crash(options)?;
    let runs: Vec<Value> = runs.iter().map(Crashed::json).collect();
    reliability::keep(part, command, &json!({ "runs": runs, "skipped": skipped }))
}

/// Plays the games that are missing, and writes down now and then how many it has played.
fn games(seeds: u64, command: &str, kept: Option<&Value>) -> Result<()> {
    let mut played = kept.map_or(0, played);
    while played < seeds {
        let some = GAMES_AT_A_TIME.min(seeds - played);
        crate::model(played, some)?;
        played += some;
        reliability::keep(Part::Model, command, &json!({ "seeds": played }))?;
    }
    Ok(())
}

fn played(figures: &Value) -> u64 {
    figures["seeds"].as_u64().unwrap_or(0)
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
        assert_eq!((sizes.seeds, sizes.crash.kills, sizes.parts.len()), (100, 10, 9));
        let crash::Options { store, kills, jobs, .. } = sizes.crash_on(Store::Cluster);
        assert_eq!((store, kills, jobs), (Store::Cluster, 1_000, 100_000));
        assert_eq!(Sizes::parse(&["--only", "model"]).unwrap().parts, [Part::Model]);
        assert!(Sizes::parse(&["--only", "luck"]).unwrap_err().to_string().contains("there is no part `luck`"));
        assert!(Sizes::parse(&["--kills"]).is_err());
        assert!(Sizes::parse(&["--seeds", "5", "--fresh"]).unwrap().fresh);
    }

    #[test]
    fn a_part_is_through_with_what_it_has_shown_if_that_is_good_and_enough() {
        let sizes = Sizes::parse(&["--seeds", "100"]).unwrap();
        assert!(sizes.passed(Part::Model, &json!({ "seeds": 100 })));
        assert!(!sizes.passed(Part::Model, &json!({ "seeds": 99 })), "the rest is to be played");
        let lost = json!({ "runs": [{ "name": "a disk", "failed": "a job was lost" }] });
        assert!(!sizes.passed(Part::Broker("sqs"), &lost));
        assert!(sizes.passed(Part::Broker("sqs"), &json!({ "runs": [{ "name": "a disk", "failed": null }] })));
    }
}
