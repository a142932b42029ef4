//! The developers' commands: `cargo xtask test`, `crash`, `check`, `servers`, `planted`, `bench`.

mod check;
mod crash;
mod full;
mod planted;
mod programs;
mod reliability;
mod servers;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

const USAGE: &str = "usage: cargo xtask test [--seeds N]
                                 formats, lints, tests, N model games (10,000), documentation, the example, 25 kills on SQLite, Redis, a cluster, and by RabbitMQ each
       cargo xtask test --full [--only PART] [--fresh] [--seeds N] [--kills N] [--jobs N] [--redis-kills N] [--redis-jobs N] [--seed N]
                                 what the engine is accepted by, and RELIABILITY.md with it: all tests, 3,000 kills over 300,000 jobs,
                                 10,000 over 1,000,000 on Redis, 1,000,000 model games, the fuzz targets. PART: tests, sqlite, redis,
                                 valkey, cluster, rabbitmq, sqs, model, fuzz; page writes the page alone. It goes on where it was: what
                                 has passed at this commit is not done again without --fresh
       cargo xtask crash [--store sqlite|redis|valkey|cluster] [--broker rabbitmq|sqs] [--broker-faults N] [--kills N]
                         [--jobs N] [--seed N] [--planted BUG] [--json]
                                 kills, stops and misleads workers, and checks what they did
       cargo xtask check FILES… [--json]
                                 checks ledgers
       cargo xtask servers       installs the servers that the tests start
       cargo xtask planted [WORDS]
                                 shows that each planted bug, or each whose name has these words, is caught, and by which test
       cargo xtask bench ARGS…   measures the engine: --store sqlite, --suite, --help for all";

/// A store in memory takes and frees much of it; without these settings glibc hands each piece back to the system at once.
const QUICK_MEMORY: [(&str, &str); 2] =
    [("MALLOC_TRIM_THRESHOLD_", "500000000"), ("MALLOC_MMAP_THRESHOLD_", "500000000")];

/// All that `test` runs in release is built by this one command: another selection of members or of kinds of targets would have other
/// features, of `serde` for one, and compile nearly everything again. The conformance cases are for debug builds: they take minutes to optimise.
const RELEASE_BUILD: &[&str] = &[
    "build",
    "--release",
    "--workspace",
    "--exclude",
    "conformance",
    "--bin",
    "import",
    "--bin",
    "crash",
    "--test",
    "model",
];

/// Cargo compiles this C code anew for some choices of features (then other features of what compiles it are on): a lint does not run it.
const UNOPTIMISED_C: [&str; 4] = [
    "--config",
    "profile.dev.package.libsqlite3-sys.opt-level=0",
    "--config",
    "profile.dev.package.zstd-sys.opt-level=0",
];

/// What only `--full` runs, so that a change lands in time: the conformance cases of millions of jobs on more than one server, for what an
/// operation does is the same on each that runs the scripts; all cases on a single Valkey, for a cluster of such servers runs them; and the
/// model's games on a second kind of server.
const ONLY_IN_FULL: &[&str] =
    &["redis_6_2::bounds", "valkey_9", "a_cluster::bounds", "valkey_shows_what_the_model_says"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => test(10_000),
        ["test", "--seeds", seeds] => crash::number(seeds).and_then(test),
        ["test", "--full", ref flags @ ..] => test_fully(flags),
        ["crash", ref flags @ ..] => crash::Options::parse(flags).and_then(|options| crash::command(&options)),
        ["servers"] => servers::install(),
        ["planted", ref words @ ..] => planted::planted(&words.join(" ")),
        // As cargo calls it for `planted`.
        [rustc, ref arguments @ ..] if Path::new(rustc).file_stem().is_some_and(|name| name == "rustc") => {
            planted::compile(rustc, arguments)
        }
        ["check", ref flags @ ..] if !flags.is_empty() => check::command(flags),
        ["bench", ref flags @ ..] => return bench(flags),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What must hold before a change lands; some of what takes long is left to `--full`.
fn test(seeds: u64) -> Result<()> {
    let started = Instant::now();
    check_everything(ONLY_IN_FULL)?;
    model(0, seeds)?;
    short_crash_runs()?;
    println!("all passed after {} s", started.elapsed().as_secs());
    Ok(())
}

/// Valkey runs what Redis runs; its crash runs are those of `--full`. While one waits for leases to end, another has the core.
fn short_crash_runs() -> Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    let of = |flags: &[&str]| {
        let mut crash = Command::new(&program);
        crash.arg("crash").args(flags);
        (format!("crash {}", flags.join(" ")), crash)
    };
    let by_broker = of(&["--store", "redis", "--broker", "rabbitmq"]);
    let stores = ["sqlite", "redis", "cluster"].map(|store| of(&["--store", store]));
    programs::run([by_broker].into_iter().chain(stores).collect())
}

/// All of it, at the sizes by which the engine is accepted.
fn test_fully(flags: &[&str]) -> Result<()> {
    let started = Instant::now();
    full::full(&full::Sizes::parse(flags)?)?;
    println!("all passed after {} s", started.elapsed().as_secs());
    Ok(())
}

/// What takes no size, but for the tests whose names begin so.
fn check_everything(skipped: &[&str]) -> Result<()> {
    servers::install()?;
    run_cargo(&["fmt", "--all", "--check"])?;
    lint(&["--workspace", "--all-targets", "--all-features"])?;
    for features in ["", "sqlite", "redis", "cli", "rabbitmq", "sqs", "testing"] {
        let one = ["--package", "gusher", "--lib", "--no-default-features", "--features", features];
        lint(&[&UNOPTIMISED_C, &one[..]].concat())?;
    }
    default_build_has_no_brokers_client()?;
    test_everything(skipped)?;
    documentation()?;
    example()
}

/// The tests, those on an imitation of SQS, too: AWS's client takes minutes to build, so a plain `cargo test` goes without. Those whose names
/// begin so are left out.
fn test_everything(skipped: &[&str]) -> Result<()> {
    let cargo_test = || {
        let mut test = cargo();
        test.args(["test", "--workspace", "--features", "brokers/sqs,import/sqs"]);
        test
    };
    let mut programs = programs::build(cargo_test())?;
    // What takes longest begins first.
    programs.sort_by_key(|program| !program.name.starts_with("conformance"));
    let mut commands: Vec<_> = programs.iter().map(|program| (program.name.clone(), program.command())).collect();
    let mut of_docs = cargo_test();
    of_docs.args(["--doc", "--"]);
    commands.push(("the examples of the documentation".to_owned(), of_docs));
    for (_, command) in &mut commands {
        skipped.iter().for_each(|name| {
            command.args(["--skip", name]);
        });
        if skipped.is_empty() {
            // A busy worker is killed once a thousand jobs; without, it is a small batch.
            command.env("GUSHER_BATCH_JOBS", "100000").env("GUSHER_BATCH_KILLS", "100");
        }
        with_any_credentials(command);
    }
    programs::run(commands)
}

/// AWS's client looks for credentials; the imitation takes any.
pub fn with_any_credentials(command: &mut Command) {
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
}

/// Nobody who has not asked for a broker builds its client.
fn default_build_has_no_brokers_client() -> Result<()> {
    let mut tree = cargo();
    tree.args(["tree", "--package", "gusher", "--edges", "normal", "--prefix", "none"]);
    let output = tree.output().context("starting cargo")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let client = text.lines().find(|line| line.starts_with("lapin ") || line.starts_with("aws-"));
    ensure!(client.is_none(), "the default build pulls in a broker's client: {}", client.unwrap_or_default());
    Ok(())
}

/// The benchmark's own exit code says what came of it: 0 good, 1 bad, 2 wrong flags.
fn bench(flags: &[&str]) -> ExitCode {
    let mut bench = cargo();
    bench.args(["run", "--release", "--quiet", "--package", "bench", "--"]).args(flags);
    match bench.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: starting cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Games of the model tests: the same as `cargo test` plays, but so many that only a release build is quick enough.
fn model(first: u64, seeds: u64) -> Result<()> {
    let mut test = cargo();
    test.args(["test", "--release", "--workspace", "--exclude", "conformance", "--test", "model", "--", "--nocapture"]);
    test.env("GUSHER_FIRST_SEED", first.to_string()).env("GUSHER_SEEDS", seeds.to_string()).envs(QUICK_MEMORY);
    run(test)
}

fn lint(selection: &[&str]) -> Result<()> {
    run_cargo(&[&["clippy"], selection, &["--", "--deny", "warnings"]].concat())
}

fn documentation() -> Result<()> {
    let mut doc = cargo();
    doc.args(["doc", "--package", "gusher", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
    run(doc)
}

/// The README's first command, as a newcomer runs it, in a folder of its own; its summary says what a correct import shows.
fn example() -> Result<()> {
    run_cargo(RELEASE_BUILD)?;
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let program = std::env::current_dir()?.join(target_folder()).join("release/import");
    let output = Command::new(&program).arg("--json").current_dir(folder.path()).output();
    let output = output.with_context(|| format!("running {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.lines().last().unwrap_or_default();
    println!("import --json: {summary}");
    ensure!(output.status.success(), "the example failed: {}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_str(summary).context("the example's last line is no JSON")?;
    let figures = ["rows", "failed", "territories"].map(|name| summary[name].as_u64());
    ensure!(
        figures == [Some(28_298), Some(0), Some(257)],
        "the example imported {figures:?}, not 28,298 rows and 257 territories"
    );
    Ok(())
}

fn target_folder() -> String {
    std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned())
}

/// Cargo as a person would start it. It tells this program, which it runs, of its package; cargo called with those variables would run the
/// build scripts anew that look at them (`ring`'s does), and compile all that is built on those, each time after a call without.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    let told = std::env::vars_os().map(|(name, _)| name);
    told.filter(|name| of_package(&name.to_string_lossy())).for_each(|name| {
        cargo.env_remove(name);
    });
    cargo
}

fn of_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|told| variable.starts_with(told))
}

fn run_cargo(arguments: &[&str]) -> Result<()> {
    let mut cargo = cargo();
    cargo.args(arguments);
    run(cargo)
}

fn run(mut command: Command) -> Result<()> {
    let shown = shown(&command);
    println!("$ {shown}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("starting {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    println!("  ({} s)", started.elapsed().as_secs());
    Ok(())
}

/// As a person would type it, but for what it is not to know of this program.
fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let variables = variables.map(|(name, value)| format!("{}={} ", name.display(), value.display()));
    let words = command.get_args().map(|word| format!(" {}", word.display()));
    let program = Path::new(command.get_program()).display();
    format!("{}{program}{}", variables.collect::<String>(), words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_not_told_of_this_package() {
        // Whoever runs a test sets it.
        let (told, cargo) = ("CARGO_MANIFEST_DIR", cargo());
        assert!(std::env::var_os(told).is_some());
        assert!(cargo.get_envs().any(|(name, value)| name == told && value.is_none()), "{cargo:?}");
        assert!(!of_package("CARGO_HOME") && !of_package("CARGO_TARGET_DIR"));
    }
}
