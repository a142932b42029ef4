//! `cargo xtask test --full`: everything at the sizes by which the engine is accepted, and `RELIABILITY.md` with what came of it.

use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::crash::{self, Crashed, Store, number};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 60;
/// From a kill to its jobs running again, beyond the length of a lease: 99 of 100 must keep to it.
const RECOVERY_MS: f64 = 1000.0;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub seeds: u64,
    pub crash: crash::Options,
    pub on_redis: crash::Options,
    /// As they were given, for the page.
    flags: String,
}

impl Sizes {
    pub fn parse(flags: &[&str]) -> Result<Self> {
        let mut seeds = 1_000_000;
        let mut crash = crash::Options { kills: 3_000, jobs: 300_000, ..crash::Options::default() };
        let mut on_redis =
            crash::Options { store: Store::Redis, kills: 10_000, jobs: 1_000_000, ..crash::Options::default() };
        for pair in flags.chunks(2) {
            let [name, value] = pair else { anyhow::bail!("{} needs a value", pair[0]) };
            match *name {
                "--seeds" => seeds = number(value)?,
                "--kills" => crash.kills = number(value)?,
                "--jobs" => crash.jobs = number(value)?,
                "--redis-kills" => on_redis.kills = number(value)?,
                "--redis-jobs" => on_redis.jobs = number(value)?,
                "--seed" => (crash.seed, on_redis.seed) = (number(value)?, number(value)?),
                _ => anyhow::bail!(
                    "`{name}` is not known; there are --seeds, --kills, --jobs, --redis-kills, --redis-jobs, --seed"
                ),
            }
        }
        Ok(Self { seeds, crash, on_redis, flags: flags.iter().fold(String::new(), |all, flag| all + " " + flag) })
    }
}

/// What was done beside the crash runs.
#[derive(Debug, Default)]
struct Others {
    seeds: u64,
    targets: Vec<String>,
}

/// Does it all. What the crash runs show is written down even if it must not be.
pub fn full(sizes: &Sizes) -> Result<()> {
    // First of all, since what it lacks would else show after an hour.
    let targets = fuzz_targets()?;
    let (mut runs, skipped) = crash::crash(&sizes.crash)?;
    runs.extend(crash::crash(&sizes.on_redis)?.0);
    crate::model(&sizes.seeds.to_string())?;
    fuzz(&targets)?;
    let others = Others { seeds: sizes.seeds, targets };
    let page = page(sizes, &runs, skipped.as_deref(), &others)?;
    std::fs::write("RELIABILITY.md", page).context("writing RELIABILITY.md")?;
    println!("RELIABILITY.md has been written");
    crash::all_good(&runs)?;
    for run in &runs {
        let (allowed, took) = (allowed_ms(run), run.verdict.again.share(0.99));
        ensure!(took <= allowed, "{}: 99 % of the kills took up to {took:.0} ms, more than {allowed:.0} ms", run.name);
    }
    Ok(())
}

/// While a disk is full, or the server is away, nobody can take anything back.
fn allowed_ms(run: &Crashed) -> f64 {
    let told = |name: &str| run.run[name].as_f64().unwrap_or(0.0);
    let full = if told("disk_fills") > 0.0 { told("disk_full_ms") } else { 0.0 };
    told("lease_ms") + RECOVERY_MS + full + told("server_away_ms")
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

fn page(sizes: &Sizes, runs: &[Crashed], skipped: Option<&str>, others: &Others) -> Result<String> {
    let mut page = String::new();
    let out = &mut page;
    let (date, commit) = (said("date", &["-u", "+%Y-%m-%d"])?, said("git", &["rev-parse", "--short=12", "HEAD"])?);
    writeln!(out, "# Reliability\n")?;
    writeln!(
        out,
        "Written by `cargo xtask test --full{}` on {date}, at commit {commit}, on {}.\n",
        sizes.flags,
        machine()?
    )?;
    writeln!(
        out,
        "Real worker processes share one store. They are killed with SIGKILL, each while it holds unsettled jobs: at any moment, and at"
    )?;
    writeln!(
        out,
        "named places (between a job's effect and its report, in the middle of a commit, just after one). They are stopped for longer"
    )?;
    writeln!(
        out,
        "than their leases last and continued, clocks jump, a disk gets full, a Redis server is killed with SIGKILL and cuts its"
    )?;
    writeln!(out, "connections. What each process, or the server, does stands in its ledger; a checker")?;
    writeln!(
        out,
        "that shares no code with the engine says whether every job settled once, none was lost, no report counted under a lease that"
    )?;
    writeln!(out, "had been taken back, and no step began before those it waits for had settled.\n")?;
    let total = |count: fn(&Crashed) -> u64| runs.iter().map(count).sum::<u64>();
    writeln!(out, "| what | how much |\n|---|---|")?;
    writeln!(
        out,
        "| kills, each on a worker that held unsettled jobs | {} |",
        total(|run| run.verdict.book.kills.len() as u64)
    )?;
    writeln!(out, "| jobs under them | {} |", total(|run| run.verdict.book.jobs() as u64))?;
    writeln!(
        out,
        "| **jobs lost, settled twice, or settled without a right to** | **{}** |",
        total(|run| run.verdict.book.violations.len() as u64)
    )?;
    writeln!(
        out,
        "| jobs that were taken back from a dead worker and run again | {} |",
        total(|run| run.verdict.book.tally.recovered)
    )?;
    writeln!(out, "| late reports that were refused | {} |", total(|run| run.verdict.book.tally.refused))?;
    writeln!(out, "| workers stopped for longer than a lease | {} |", total(|run| run.verdict.book.tally.stops))?;
    writeln!(
        out,
        "| clock jumps (up to an hour forth, 1.5 s back) | {} |",
        total(|run| run.run["clock_jumps"].as_u64().unwrap_or(0))
    )?;
    writeln!(out, "| full disks | {} |", total(|run| run.run["disk_fills"].as_u64().unwrap_or(0)))?;
    writeln!(
        out,
        "| kills of a Redis server, which goes on from its append-only file | {} |",
        total(|run| run.run["server_kills"].as_u64().unwrap_or(0))
    )?;
    writeln!(out, "| times that it cut all connections | {} |", total(|run| run.run["cuts"].as_u64().unwrap_or(0)))?;
    writeln!(out, "| games of random operations against a naive model | {}, no difference |", others.seeds)?;
    writeln!(out, "| fuzz targets, {FUZZ_SECONDS} s each | {} |\n", others.targets.join(", "))?;
    if let Some(skipped) = skipped {
        writeln!(out, "Left out: {skipped}\n")?;
    }
    for run in runs {
        describe(out, run)?;
    }
    writeln!(out, "## Again\n")?;
    writeln!(
        out,
        "```text\ncargo xtask test --full{}\ncargo xtask crash --kills {} --jobs {} --seed {}",
        sizes.flags, sizes.crash.kills, sizes.crash.jobs, sizes.crash.seed
    )?;
    let crash::Options { kills, jobs, seed, .. } = sizes.on_redis;
    writeln!(out, "cargo xtask crash --store redis --kills {kills} --jobs {jobs} --seed {seed}")?;
    writeln!(out, "cargo xtask test --seeds {}\n```\n", others.seeds)?;
    writeln!(out, "A seed repeats the faults, not what the processes make of them.")?;
    Ok(page)
}

fn describe(out: &mut String, run: &Crashed) -> Result<()> {
    let (verdict, told) = (&run.verdict, &run.run);
    writeln!(out, "## Workers on {}\n", run.name)?;
    let [half, most, longest] = [0.5, 0.99, 1.0].map(|share| verdict.again.share(share));
    let (kills, jobs, workflows) = (verdict.book.kills.len(), verdict.book.jobs(), verdict.book.tally.workflows);
    writeln!(
        out,
        "{kills} kills, {jobs} jobs of {workflows} workflows, {} s, leases of {} ms.",
        told["seconds"], told["lease_ms"]
    )?;
    if run.run["disk_fills"].as_u64() > Some(0) {
        writeln!(out, "Each time the disk stays full for {} ms.", run.run["disk_full_ms"])?;
    }
    if run.run["server_kills"].as_u64() > Some(0) {
        writeln!(
            out,
            "The server (`appendfsync always`) was killed {} times, and away for {} ms at most; {} times it cut all connections.",
            told["server_kills"], told["server_away_ms"], told["cuts"]
        )?;
    }
    if let Some(failed) = &run.failed {
        writeln!(out, "\n**Failed: {failed}**\n")?;
    }
    let places = told["kills_by_place"].as_object().into_iter().flatten();
    let places: Vec<String> = places.map(|(place, count)| format!("{count} {place}")).collect();
    writeln!(out, "Where they died: {}.\n", places.join(", "))?;
    let [back_half, back_most, back_longest] = [0.5, 0.99, 1.0].map(|share| verdict.back.share(share));
    writeln!(out, "| from a kill to | half within | 99 % within | longest |\n|---|---|---|---|")?;
    writeln!(out, "| the first of its jobs running again elsewhere | {half:.0} ms | {most:.0} ms | {longest:.0} ms |")?;
    if verdict.suspect.len() > 0 {
        let [half, most, longest] = [0.5, 0.99, 1.0].map(|share| verdict.suspect.share(share));
        writeln!(
            out,
            "| the first running again alone, since all of it had lost a worker before | {half:.0} ms | {most:.0} ms | {longest:.0} ms |"
        )?;
    }
    writeln!(out, "| all that it held taken back | {back_half:.0} ms | {back_most:.0} ms | {back_longest:.0} ms |\n")?;
    writeln!(out, "Running again (the budget is {:.0} ms for 99 %):\n\n```text", allowed_ms(run))?;
    verdict.again.lines().iter().try_for_each(|line| writeln!(out, "{}", line.trim_end()))?;
    writeln!(out, "```\n")?;
    Ok(())
}

fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<u64>().ok());
    let memory =
        kilobytes.map_or_else(|| "unknown".to_owned(), |kilobytes| format!("{:.0} GiB", kilobytes as f64 / 1048576.0));
    Ok(format!("{} with {cores} cores and {memory} of memory", said("uname", &["-sm"])?))
}

/// What a command prints.
fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("starting {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
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
        assert_eq!((sizes.seeds, sizes.crash.kills, sizes.flags.as_str()), (100, 10, " --kills 10 --seeds 100"));
        assert!(Sizes::parse(&["--kills"]).is_err());
    }
}
