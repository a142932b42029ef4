//! `cargo xtask crash`: lets real workers die, stand still, run out of disk, lose their server and see wrong times (`tests/crash`),
//! then checks the ledgers that were written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::check::{self, Verdict};

/// The part of the kills, and of the jobs, that falls to the run on a disk that gets full.
const ON_A_SMALL_DISK: u64 = 10;
/// Room for the store's reserve, its log and some thousand jobs.
const DISK: &str = "64m";
/// At most so many jobs fit there.
const JOBS_ON_DISK: u64 = 20_000;

/// So many kills of workers come with one kill of the server, and with one cut of all its connections; there are some at least.
const KILLS_A_SERVER_KILL: u64 = 10;
const KILLS_A_CUT: u64 = 6;
const SERVER_FAULTS: u64 = 3;

/// Where the workers meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Redis,
    Valkey,
    Cluster,
}

impl Store {
    pub const ALL: [Self; 4] = [Self::Sqlite, Self::Redis, Self::Valkey, Self::Cluster];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Cluster => "cluster",
        }
    }
}

/// The brokers that slices can go by.
pub const BROKERS: [&str; 2] = ["rabbitmq", "sqs"];
/// So many kills of workers come with one fault of the broker.
const KILLS_A_BROKER_FAULT: u64 = 8;

/// A second.
const BROKER_KILL_RATE: &str = "5";
/// The imitation of SQS takes its time: leases over it last until their messages have arrived.
const LEASE_ON_MOTO: &str = "4000";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub store: Store,
    pub kills: u64,
    pub jobs: u64,
    pub seed: u64,
    pub json: bool,
    /// Slices go by this broker, which fails, doubles and is purged.
    pub broker: Option<&'static str>,
    /// How often it fails; now and then unless set.
    pub broker_faults: Option<u64>,
    /// A planted bug that acts in all processes.
    pub planted: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: Store::Sqlite,
            kills: 25,
            jobs: 3_000,
            seed: 1,
            json: false,
            broker: None,
            broker_faults: None,
            planted: None,
        }
    }
}

impl Options {
    pub fn parse(flags: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            let mut value = || flags.next().copied().with_context(|| format!("{flag} needs a value"));
            match *flag {
                "--json" => options.json = true,
                "--kills" => options.kills = number(value()?)?,
                "--jobs" => options.jobs = number(value()?)?,
                "--seed" => options.seed = number(value()?)?,
                "--planted" => options.planted = Some(value()?.to_owned()),
                "--broker" => {
                    let name = value()?;
                    let known = BROKERS.into_iter().find(|known| *known == name);
                    options.broker =
                        Some(known.with_context(|| {
                            format!("there is no broker `{name}`; there are: {}", BROKERS.join(", "))
                        })?);
                }
                "--broker-faults" => options.broker_faults = Some(number(value()?)?),
                "--store" => {
                    let name = value()?;
                    let known = || Store::ALL.map(Store::name).join(", ");
                    options.store = Store::ALL.into_iter().find(|store| store.name() == name).with_context(|| {
                        format!("there is no store `{name}` to crash workers of; there are: {}", known())
                    })?;
                }
                _ => bail!(
                    "`{flag}` is not known; there are --store, --broker, --broker-faults, --kills, --jobs, --seed, --planted, --json"
                ),
            }
        }
        let planted_in_vain = options.store != Store::Sqlite && options.planted.is_some();
        ensure!(!planted_in_vain, "the planted bugs are in the code of --store sqlite");
        Ok(options)
    }
}

/// A number of a flag; thousands may be set off by underscores.
pub fn number<N: FromStr>(text: &str) -> Result<N> {
    text.replace('_', "").parse().ok().with_context(|| format!("`{text}` is no number"))
}

/// One run and what the checker says of it.
#[derive(Debug)]
pub struct Crashed {
    pub name: &'static str,
    /// What the harness printed.
    pub run: Value,
    pub verdict: Verdict,
    /// What must not have happened.
    pub failed: Option<String>,
}

/// The command.
pub fn command(options: &Options) -> Result<()> {
    let (runs, skipped) = crash(options)?;
    if options.json {
        let runs: Vec<Value> = runs.iter().map(Crashed::json).collect();
        println!("{}", json!({ "runs": runs, "skipped": skipped }));
    }
    all_good(&runs)
}

/// Fails if one of the runs has shown what must not be.
pub fn all_good(runs: &[Crashed]) -> Result<()> {
    let failed = runs.iter().find_map(|run| Some((run.name, run.failed.as_ref()?)));
    failed.map_or(Ok(()), |(name, why)| bail!("{name}: {why}"))
}

impl Crashed {
    pub fn json(&self) -> Value {
        json!({ "name": self.name, "run": self.run, "check": self.verdict.json(), "failed": self.failed })
    }
}

/// Makes the runs, whatever they show. Also tells what could not be done here, and why.
pub fn crash(options: &Options) -> Result<(Vec<Crashed>, Option<String>)> {
    let program = build(options)?;
    let servers = match options.store {
        Store::Sqlite => None,
        Store::Redis => Some("a Redis server that is killed, too"),
        Store::Valkey => Some("a Valkey server that is killed, too"),
        Store::Cluster => Some("a cluster of three Redis servers that are killed, too"),
    };
    if let Some(broker) = options.broker {
        return Ok((vec![by_broker(options, broker, &program)?], None));
    }
    if let Some(name) = servers {
        return Ok((vec![on_servers(options, name, &program)?], None));
    }
    let mut runs = vec![one(options, "a store on the disk", options.kills, |folder| {
        let mut run = Command::new(&program);
        run.args(flags(folder, options.kills, options.jobs, options.seed));
        run
    })?];
    if let Err(why) = small_disk_works() {
        let skipped = format!("the run on a disk that gets full was left out: {why:#}");
        say(options, &skipped);
        return Ok((runs, Some(skipped)));
    }
    let (kills, jobs) = (options.kills.div_ceil(ON_A_SMALL_DISK), options.jobs / ON_A_SMALL_DISK);
    runs.push(one(options, "a store on a disk that gets full", kills, |folder| {
        // Fills take some seconds each, in which few kills happen.
        let fills = (kills / 5).clamp(1, 12);
        let mut run = Command::new("unshare");
        let small = folder.join("small");
        let script = r#"mkdir "$1" && mount -t tmpfs -o "size=$2" tmpfs "$1" && shift 2 && exec "$@""#;
        run.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&small).arg(DISK).arg(&program);
        run.args(flags(folder, kills, jobs.clamp(1_000, JOBS_ON_DISK), options.seed));
        run.arg("--store-folder").arg(&small).args(["--fills", &fills.to_string()]);
        run
    })?);
    Ok((runs, None))
}

/// A run on servers that are killed, and started again on their append-only files, and that cut all connections.
fn on_servers(options: &Options, name: &'static str, program: &Path) -> Result<Crashed> {
    let Options { store, kills, jobs, seed, .. } = *options;
    one(options, name, kills, |folder| {
        let mut run = Command::new(program);
        run.args(flags(folder, kills, jobs, seed)).args(["--store", store.name()]);
        let faults = [("--server-kills", kills / KILLS_A_SERVER_KILL), ("--cuts", kills / KILLS_A_CUT)];
        faults.into_iter().for_each(|(name, number)| {
            run.args([name, &number.max(SERVER_FAULTS).to_string()]);
        });
        run
    })
}

/// A run whose slices come by a broker that is cut off, killed and purged, and of whose messages a third is doubled.
fn by_broker(options: &Options, broker: &'static str, program: &Path) -> Result<Crashed> {
    let Options { store, kills, jobs, seed, .. } = *options;
    let name = match broker {
        "sqs" => "slices by SQS",
        _ => "slices by RabbitMQ",
    };
    one(options, name, kills, |folder| {
        let mut run = Command::new(program);
        let faults = options.broker_faults.unwrap_or((kills / KILLS_A_BROKER_FAULT).max(SERVER_FAULTS));
        run.args(flags(folder, kills, jobs, seed)).args(["--store", store.name(), "--broker", broker]);
        run.args(["--broker-faults", &faults.to_string(), "--rate", BROKER_KILL_RATE]);
        if broker == "sqs" {
            run.args(["--lease", LEASE_ON_MOTO]);
        }
        crate::with_any_credentials(&mut run);
        run
    })
}

fn flags(folder: &Path, kills: u64, jobs: u64, seed: u64) -> Vec<String> {
    let numbers = [("--kills", kills), ("--jobs", jobs), ("--seed", seed)];
    let folder = ["run".to_owned(), "--folder".to_owned(), folder.display().to_string()];
    folder
        .into_iter()
        .chain(numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()]))
        .collect()
}

/// One run with so many kills.
fn one(options: &Options, name: &'static str, kills: u64, command: impl FnOnce(&Path) -> Command) -> Result<Crashed> {
    let folder = tempfile::Builder::new().prefix("gusher-crash-").tempdir().context("making a temporary folder")?;
    say(options, &format!("crash run: {name}"));
    let result = run_and_check(options, folder.path(), name, kills, command(folder.path()));
    if result.as_ref().map_or(true, |crashed| crashed.failed.is_some()) {
        // What shows the error must not be thrown away.
        say(options, &format!("the ledgers are kept in {}", folder.keep().display()));
    }
    result
}

fn run_and_check(
    options: &Options,
    folder: &Path,
    name: &'static str,
    asked: u64,
    mut run: Command,
) -> Result<Crashed> {
    if let Some(bug) = &options.planted {
        run.env("GUSHER_PLANTED", bug);
    }
    let output = run.stderr(Stdio::inherit()).output().with_context(|| format!("starting {run:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
    say(options, &format!("{told}"));
    let verdict = check::check(&check::read(&[folder.to_owned()])?);
    if !options.json {
        verdict.print();
    }
    let kills = verdict.book.kills.len() as u64;
    // The ledgers say most when the run has failed.
    let failed = if !verdict.is_good() {
        Some(format!("{} violations, the first: {}", verdict.book.violations.len(), verdict.first()))
    } else if !output.status.success() {
        Some(format!("the run ended with {}", output.status))
    } else {
        (kills < asked).then(|| format!("only {kills} kills hit a worker that held jobs, not {asked}"))
    };
    Ok(Crashed { name, run: told, verdict, failed })
}

fn say(options: &Options, text: &str) {
    if options.json { eprintln!("{text}") } else { println!("{text}") }
}

/// Builds the harness, which is its own worker.
fn build(options: &Options) -> Result<PathBuf> {
    let mut cargo = crate::cargo();
    cargo.args(crate::RELEASE_BUILD).arg("--quiet");
    if options.broker == Some("sqs") {
        cargo.args(["--features", "crash/sqs"]);
    }
    let mut target = PathBuf::from(crate::target_folder());
    if options.planted.is_some() {
        target.push("planted");
        cargo.env("RUSTFLAGS", "--cfg planted").env("CARGO_TARGET_DIR", &target);
    }
    ensure!(cargo.status().context("starting cargo")?.success(), "the harness of the crash runs does not compile");
    Ok(std::env::current_dir()?.join(target).join("release/crash"))
}

/// Whether this user may mount a file system of its own.
fn small_disk_works() -> Result<()> {
    let script = "folder=$(mktemp -d) && mount -t tmpfs -o size=1m tmpfs \"$folder\"; code=$?; umount \"$folder\"; rmdir \"$folder\"; exit $code";
    let tried = Command::new("unshare").args(["--map-root-user", "--mount", "sh", "-c", script]).output();
    let tried = tried.context("`unshare`, a part of util-linux, cannot be started")?;
    let said = String::from_utf8_lossy(&tried.stderr);
    ensure!(tried.status.success(), "no small file system can be mounted here: {}", said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_others_are_refused() {
        let options = Options::parse(&["--store", "sqlite", "--kills", "3_000", "--json", "--seed", "9"]).unwrap();
        assert_eq!((options.kills, options.jobs, options.seed, options.json), (3000, 3000, 9, true));
        assert_eq!(options.store, Store::Sqlite);
        assert_eq!(Options::parse(&["--store", "redis"]).unwrap().store, Store::Redis);
        assert!(
            Options::parse(&["--store", "paper"])
                .unwrap_err()
                .to_string()
                .contains("are: sqlite, redis, valkey, cluster")
        );
        assert!(Options::parse(&["--store", "redis", "--planted", "a bug"]).is_err());
        assert!(Options::parse(&["--kills"]).unwrap_err().to_string().contains("--kills needs a value"));
        assert!(Options::parse(&["--faster"]).unwrap_err().to_string().contains("`--faster` is not known"));
    }
}
