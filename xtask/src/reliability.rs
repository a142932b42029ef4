//! `RELIABILITY.md`: written from what each part of the acceptance has left in `docs/reliability`, at whatever commit that was.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::check::bars;
use crate::crash::{self, Store};

const FOLDER: &str = "docs/reliability";
/// For git: what tells of the code.
const ALL_BUT_FIGURES: &[&str] = &["--", ".", ":!docs/reliability", ":!RELIABILITY.md"];
/// From a kill to its jobs running again, beyond the length of a lease: 99 of 100 must keep to it.
const RECOVERY_MS: f64 = 1000.0;

/// A part of what the engine is accepted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All tests, those of millions of jobs on every server among them.
    Tests,
    Crash(Store),
    /// A crash run on Redis whose slices go by that broker.
    Broker(&'static str),
    Model,
    Fuzz,
}

impl Part {
    pub fn all() -> impl Iterator<Item = Self> {
        let brokers = crash::BROKERS.into_iter().map(Self::Broker);
        let crashes = Store::ALL.into_iter().map(Self::Crash);
        std::iter::once(Self::Tests).chain(crashes).chain(brokers).chain([Self::Model, Self::Fuzz])
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tests => "tests",
            Self::Crash(store) => store.name(),
            Self::Broker(name) => name,
            Self::Model => "model",
            Self::Fuzz => "fuzz",
        }
    }

    fn file(self) -> PathBuf {
        Path::new(FOLDER).join(self.name()).with_extension("json")
    }

    /// Fails if it has shown what must not be.
    pub fn check(self, figures: &Value) -> Result<()> {
        for run in figures["runs"].as_array().into_iter().flatten() {
            if let Some(why) = run["failed"].as_str() {
                bail!("{}: {why}", run["name"].as_str().unwrap_or_default());
            }
            if let Self::Crash(_) = self {
                check_recovery(run)?;
            }
        }
        Ok(())
    }
}

/// What a part has shown by that command at this commit: the figures themselves may have been committed since, and nothing else.
pub fn kept_here(part: Part, command: &str) -> Result<Option<Value>> {
    if !part.file().exists() || !is_clean()? {
        return Ok(None);
    }
    let mut kept = read(part)?;
    let commit = kept["commit"].as_str().unwrap_or_default();
    let unchanged = Command::new("git").args(["diff", "--quiet", commit, "HEAD"]).args(ALL_BUT_FIGURES).status()?;
    Ok((kept["command"] == command && unchanged.success()).then(|| kept["figures"].take()))
}

/// Whether the files are those of the commit.
fn is_clean() -> Result<bool> {
    Ok(said("git", &[&["status", "--porcelain"], ALL_BUT_FIGURES].concat())?.is_empty())
}

fn read(part: Part) -> Result<Value> {
    let file = part.file();
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
}

/// Keeps what a part has shown, with where and when that was, and by which command.
pub fn keep(part: Part, command: &str, figures: &Value) -> Result<()> {
    let with = if is_clean()? { "" } else { " and changes" };
    let kept = json!({
        "command": command,
        "commit": said("git", &["rev-parse", "--short=12", "HEAD"])? + with,
        "date": said("date", &["-u", "+%Y-%m-%d"])?,
        "machine": machine()?,
        "figures": figures,
    });
    fs::create_dir_all(FOLDER)?;
    let text = serde_json::to_string_pretty(&kept)? + "\n";
    fs::write(part.file(), text).with_context(|| format!("writing {}", part.file().display()))
}

/// Writes the page anew, from all parts that there are, and returns them.
pub fn write_page() -> Result<Vec<(Part, Value)>> {
    let there = Part::all().filter(|part| part.file().exists());
    let kept = there.map(|part| Ok((part, read(part)?))).collect::<Result<Vec<_>>>()?;
    fs::write("RELIABILITY.md", page(&kept)?).context("writing RELIABILITY.md")?;
    println!("RELIABILITY.md has been written");
    Ok(kept)
}

/// Fails if a crash run without a broker took longer than it may until the jobs of killed workers ran again.
fn check_recovery(run: &Value) -> Result<()> {
    let (allowed, took) = (allowed_ms(run), number(&run["check"]["kill_to_running_again"]["p99_ms"]));
    ensure!(took <= allowed, "{}: 99 % of the kills took up to {took:.0} ms, more than {allowed:.0} ms", run["name"]);
    Ok(())
}

/// While a disk is full, or the server is away, nobody can take anything back.
fn allowed_ms(run: &Value) -> f64 {
    let told = |name: &str| number(&run["run"][name]);
    let full = if told("disk_fills") > 0.0 { told("disk_full_ms") } else { 0.0 };
    told("lease_ms") + RECOVERY_MS + full + told("server_away_ms")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn page(kept: &[(Part, Value)]) -> Result<String> {
    let mut page = String::new();
    let out = &mut page;
    out.push_str(
        "# Reliability

Real worker processes share one store. They are killed with SIGKILL, each while it holds unsettled jobs: at any moment, and at
named places (between a job's effect and its report, in the middle of a commit, just after one). They are stopped for longer
than their leases last and continued, clocks jump, a disk gets full, a Redis server is killed with SIGKILL and cuts its
connections, and so is a broker that brings the slices. What each process, or the server, does stands in its ledger; a checker
that shares no code with the engine says whether every job settled once, none was lost, no report counted under a lease that
had been taken back, and no step began before those it waits for had settled. What a row brings about outside it asks of a sink by
its idempotency key: in the end each has come under exactly one, however often its row ran.

| what | how much |
|---|---|
",
    );
    let runs: Vec<&Value> = kept.iter().flat_map(|(_, part)| part["figures"]["runs"].as_array()).flatten().collect();
    let of = |part: Part| kept.iter().find(|(other, _)| *other == part).map(|(_, kept)| &kept["figures"]);
    let total = |group: &str, name: &str| runs.iter().filter_map(|run| run[group][name].as_u64()).sum::<u64>();
    for (what, group, name) in [
        ("kills, each on a worker that held unsettled jobs", "check", "kills"),
        ("jobs under them", "check", "jobs"),
        ("**jobs lost, settled twice, or settled without a right to**", "check", "violations"),
        ("jobs that were taken back from a dead worker and run again", "check", "jobs_recovered"),
        ("late reports that were refused", "check", "reports_refused"),
        ("effects that were made again, under the key that the sink outside knew them by", "run", "effects_again"),
        ("workers stopped for longer than a lease", "check", "stops"),
        ("clock jumps (up to an hour forth, 1.5 s back)", "run", "clock_jumps"),
        ("full disks", "run", "disk_fills"),
        ("kills of a Redis or Valkey server, which goes on from its append-only file", "run", "server_kills"),
        ("times that it cut all connections", "run", "cuts"),
    ] {
        writeln!(out, "| {what} | {} |", total(group, name))?;
    }
    let of_brokers = |name: &str| runs.iter().filter_map(|run| run["run"]["broker"][name].as_u64()).sum::<u64>();
    for (what, name) in [
        ("restarts of a broker, which forgets what it carries", "restarts"),
        ("times that all connections to one were cut", "cuts"),
        ("messages that were received and published twice instead", "messages_doubled"),
    ] {
        writeln!(out, "| {what} | {} |", of_brokers(name))?;
    }
    if let Some(model) = of(Part::Model) {
        writeln!(out, "| games of random operations against a naive model | {}, no difference |", model["seeds"])?;
    }
    if let Some(fuzz) = of(Part::Fuzz) {
        let targets: Vec<&str> = fuzz["targets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        writeln!(out, "| fuzz targets, {} s each | {} |", fuzz["seconds"], targets.join(", "))?;
    }
    for run in &runs {
        describe(out, run)?;
    }
    out.push_str("\n## When, where, and again\n\n| part | commit | on | command |\n|---|---|---|---|\n");
    for (part, kept) in kept {
        let text = |name: &str| kept[name].as_str().unwrap_or_default().to_owned();
        let (date, machine) = (text("date"), text("machine"));
        writeln!(out, "| {} | {} of {date} | {machine} | `{}` |", part.name(), text("commit"), text("command"))?;
        if let Some(skipped) = kept["figures"]["skipped"].as_str() {
            writeln!(out, "| | | | left out: {skipped} |")?;
        }
    }
    out.push_str("\nA seed repeats the faults, not what the processes make of them. `docs/reliability` holds the figures as JSON.\n");
    Ok(page)
}

fn describe(out: &mut String, run: &Value) -> Result<()> {
    let (check, told) = (&run["check"], &run["run"]);
    writeln!(out, "\n## Workers on {}\n", run["name"].as_str().unwrap_or_default())?;
    writeln!(
        out,
        "{} kills, {} jobs of {} workflows, {:.0} s, leases of {} ms.",
        check["kills"],
        check["jobs"],
        check["workflows"],
        number(&told["seconds"]),
        told["lease_ms"]
    )?;
    if number(&told["disk_fills"]) > 0.0 {
        writeln!(out, "Each time the disk stays full for {} ms.", told["disk_full_ms"])?;
    }
    if number(&told["server_kills"]) > 0.0 {
        writeln!(
            out,
            "The server (`appendfsync always`) was killed {} times, and away for {} ms at most; {} times it cut all connections.",
            told["server_kills"], told["server_away_ms"], told["cuts"]
        )?;
    }
    let broker = &told["broker"];
    if broker.is_object() {
        writeln!(
            out,
            "The broker was killed and started again {} times; {} times all connections to it were cut; {} messages were doubled; once, half way, \
             its queue was purged.",
            broker["restarts"], broker["cuts"], broker["messages_doubled"]
        )?;
    }
    if let Some(failed) = run["failed"].as_str() {
        writeln!(out, "\n**Failed: {failed}**")?;
    }
    let places = told["kills_by_place"].as_object().into_iter().flatten();
    let places: Vec<String> = places.map(|(place, count)| format!("{count} {place}")).collect();
    writeln!(out, "\nWhere they died: {}.\n", places.join(", "))?;
    out.push_str("| from a kill to | half within | 99 % within | longest |\n|---|---|---|---|\n");
    for (what, times) in [
        ("the first of its jobs running again elsewhere", "kill_to_running_again"),
        ("the first running again alone, since all of it had lost a worker before", "kill_to_running_again_alone"),
        ("all that it held taken back", "kill_to_taken_back"),
    ] {
        let times = &check[times];
        if number(&times["count"]) > 0.0 {
            let [half, most, longest] = ["p50_ms", "p99_ms", "longest_ms"].map(|share| number(&times[share]));
            writeln!(out, "| {what} | {half:.0} ms | {most:.0} ms | {longest:.0} ms |")?;
        }
    }
    if broker.is_object() {
        // A lease that travels lasts twice as long with each message that is lost.
        writeln!(out, "\nRunning again:\n\n```text")?;
    } else {
        writeln!(out, "\nRunning again (the budget is {:.0} ms for 99 %):\n\n```text", allowed_ms(run))?;
    }
    let classes: Vec<(String, usize)> =
        serde_json::from_value(check["kill_to_running_again"]["histogram"].clone()).unwrap_or_default();
    bars(&classes).iter().try_for_each(|line| writeln!(out, "{}", line.trim_end()))?;
    writeln!(out, "```")?;
    Ok(())
}

fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<u64>().ok());
    let memory =
        kilobytes.map_or_else(|| "unknown".to_owned(), |kilobytes| format!("{:.0} GiB", kilobytes as f64 / 1048576.0));
    Ok(format!("{}, {cores} cores, {memory}", said("uname", &["-sm"])?))
}

/// What a command prints.
fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("starting {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(p99: u64) -> Value {
        json!({
            "name": "a store on the disk",
            "run": { "lease_ms": 1000, "disk_fills": 0, "disk_full_ms": 2000, "kills_by_place": { "anywhere": 3 } },
            "check": {
                "kills": 3, "jobs": 100, "violations": 0,
                "kill_to_running_again": { "count": 3, "p50_ms": 900, "p99_ms": p99, "longest_ms": p99, "histogram": [["0 to 250 ms", 3]] },
            },
            "failed": null,
        })
    }

    #[test]
    fn a_run_must_keep_to_its_lease_and_a_second() {
        check_recovery(&run(2000)).unwrap();
        let error = check_recovery(&run(2001)).unwrap_err().to_string();
        assert!(error.contains("2001 ms, more than 2000 ms"), "{error}");
        let mut full = run(3500);
        full["run"]["disk_fills"] = 2.into();
        check_recovery(&full).unwrap();
    }

    #[test]
    fn the_page_adds_up_all_runs_and_names_each_parts_commit() {
        let kept = |figures| json!({ "commit": "abc", "date": "2026-11-24", "machine": "Linux", "command": "c", "figures": figures });
        let crash = kept(json!({ "runs": [run(900), run(900)], "skipped": null }));
        let mut over = run(900);
        over["run"]["broker"] = json!({ "restarts": 5, "cuts": 45, "messages_doubled": 1234 });
        let by_broker = kept(json!({ "runs": [over], "skipped": null }));
        let parts = [
            (Part::Crash(Store::Sqlite), crash),
            (Part::Broker("sqs"), by_broker),
            (Part::Model, kept(json!({ "seeds": 7 }))),
        ];
        let page = page(&parts).unwrap();
        assert!(page.contains("published twice instead | 1234 |") && page.contains("started again 5 times"), "{page}");
        assert!(page.contains("| jobs under them | 300 |") && page.contains("| 7, no difference |"), "{page}");
        assert!(page.contains("| model | abc of 2026-11-24 | Linux | `c` |"), "{page}");
        assert!(page.contains("0 to 250 ms"), "{page}");
    }
}
