//! `cargo xtask planted`: builds the crate once with its planted bugs and shows, one bug after the other, which test catches it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::programs;

/// The tests that must catch them, in the order in which they are tried, and which cases: what catches most in the shortest time comes first.
const TESTS: [(&str, &[&str]); 10] = [
    ("store", &[]),
    ("conformance", &["in_memory", "--skip", "bounds"]),
    ("model", &[]),
    (UNITS, &[]),
    ("workers", &[]),
    ("inside", &[]),
    ("sources", &[]),
    ("eager", &[]),
    ("batches", &[]),
    ("conformance", &["in_a_file"]),
];
/// The tests beside the code, which have the crate's name.
const UNITS: &str = "gusher";
/// How many games of the model tests each bug gets.
const SEEDS: &str = "600";
/// A bug may make a test run for ever: that it does not end within so many times of what it takes without a bug is a catch, too.
const PATIENCE: u32 = 4;
/// The least that a test is waited for.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);

/// Plants each bug that has these words in its name.
pub fn planted(words: &str) -> Result<()> {
    let mut bugs = bugs(Path::new("src"))?;
    bugs.retain(|bug| bug.contains(words));
    ensure!(!bugs.is_empty(), "no planted bug has the words `{words}` in its name");
    let programs = build()?;
    let mut patience = Vec::new();
    for test in &programs {
        let started = Instant::now();
        ensure!(test.caught("", Duration::MAX)?.is_none(), "`{}` is red although no bug is planted", test.name);
        patience.push(LEAST_PATIENCE.max(PATIENCE * started.elapsed()));
    }
    let mut missed = Vec::new();
    for bug in &bugs {
        let mut catch = None;
        for (test, patience) in programs.iter().zip(&patience) {
            if let Some(name) = test.caught(bug, *patience)? {
                catch = Some(format!("{}: {name}", test.name));
                break;
            }
        }
        println!("{bug}\n    {}", catch.as_deref().unwrap_or("NOT CAUGHT"));
        if catch.is_none() {
            missed.push(bug.as_str());
        }
    }
    ensure!(missed.is_empty(), "{} of {} bugs were not caught: {}", missed.len(), bugs.len(), missed.join("; "));
    println!("{} planted bugs, each of them caught", bugs.len());
    Ok(())
}

/// The names in every `planted!("…")` below a folder.
fn bugs(folder: &Path) -> Result<BTreeSet<String>> {
    let mut bugs = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            bugs.extend(self::bugs(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("planted.rs") {
            let text = fs::read_to_string(&path)?;
            let names = text.split("planted!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            bugs.extend(names.map(str::to_owned));
        }
    }
    Ok(bugs)
}

/// Compiles the tests with all bugs in them; none acts before it is chosen. This program goes between cargo and the compiler for the
/// workspace's own crates: flags for all crates would compile every dependency once more.
fn build() -> Result<Vec<Test>> {
    let mut cargo = crate::cargo();
    cargo.args(["test", "--workspace", "--lib"]);
    let names: BTreeSet<&str> = TESTS.iter().map(|(name, _)| *name).filter(|name| *name != UNITS).collect();
    cargo.args(names.iter().flat_map(|name| ["--test", name]));
    cargo.env("RUSTC_WORKSPACE_WRAPPER", std::env::current_exe().context("finding this program")?);
    let built = programs::build(cargo)?;
    let test = |(name, cases): &(&'static str, &'static [&'static str])| {
        let program = built.iter().find(|program| program.name == *name);
        let program = program.with_context(|| format!("cargo names no program for the test `{name}`"))?;
        Ok(Test { name, program: program.path.clone(), cases })
    };
    TESTS.iter().map(test).collect()
}

/// Runs the compiler that cargo names, with the bugs in what it compiles.
pub fn compile(rustc: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(rustc).args(arguments).args(["--cfg", "planted"]).status();
    let status = status.with_context(|| format!("starting {rustc}"))?;
    ensure!(status.success(), "the compiler ended with {status}");
    Ok(())
}

/// Some cases of a test, built with the bugs.
struct Test {
    name: &'static str,
    program: PathBuf,
    cases: &'static [&'static str],
}

impl Test {
    /// The first case that fails while a bug acts. The others are not waited for.
    fn caught(&self, bug: &str, patience: Duration) -> Result<Option<String>> {
        let output = tempfile::NamedTempFile::new()?;
        let mut test = Command::new(&self.program);
        test.args(self.cases).env("GUSHER_PLANTED", bug).env("GUSHER_SEEDS", SEEDS).envs(crate::QUICK_MEMORY);
        let mut running = test.stdout(output.reopen()?).stderr(Stdio::null()).spawn().context("starting a test")?;
        let started = Instant::now();
        loop {
            let ended = running.try_wait()?;
            let text = fs::read_to_string(output.path())?;
            let failed = text.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
            let caught = match (failed, ended) {
                (Some(name), _) => Some(name.to_owned()),
                (None, Some(status)) if status.success() => return Ok(None),
                (None, Some(status)) => Some(format!("ended with {status}")),
                (None, None) if started.elapsed() > patience => Some("does not end".to_owned()),
                (None, None) => None,
            };
            if caught.is_some() {
                // It may have ended meanwhile.
                let _ = running.kill();
                running.wait()?;
                return Ok(caught);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
