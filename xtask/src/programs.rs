//! The programs of tests: building them, and running several at a time. Many of them wait for a lease to end, or for a server: one alone
//! leaves a core idle.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A program of tests.
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    /// The folder of its package, in which it runs.
    folder: PathBuf,
}

impl Program {
    /// As cargo would run it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// Builds what a `cargo test` names; returns its programs, in cargo's order.
pub fn build(mut cargo: Command) -> Result<Vec<Program>> {
    cargo.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    println!("$ {}", crate::shown(&cargo));
    let started = Instant::now();
    let output = cargo.stderr(Stdio::inherit()).output().context("starting cargo")?;
    ensure!(output.status.success(), "the tests do not compile");
    println!("  ({} s)", started.elapsed().as_secs());
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|message| program(&message))
        .collect())
}

/// The program that a message of cargo tells of, if it is one of tests.
fn program(message: &Value) -> Option<Program> {
    let path = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    Some(Program { name: message["target"]["name"].as_str()?.to_owned(), path: path.into(), folder: folder.to_owned() })
}

/// Runs commands, as many at a time as there are cores. What each says is printed once it has ended; all of them run, whatever one shows.
pub fn run(commands: Vec<(String, Command)>) -> Result<()> {
    let started = Instant::now();
    let cores = thread::available_parallelism()?.get();
    let (waiting, failed) = (Mutex::new(commands.into_iter()), Mutex::new(Vec::new()));
    let next = || waiting.lock().expect("no lane panics").next();
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((name, command)) = next() {
                    if let Err(error) = run_one(&name, command) {
                        println!("{name}: {error:#}");
                        failed.lock().expect("no lane panics").push(name);
                    }
                }
            });
        }
    });
    println!("  (all of them: {} s)", started.elapsed().as_secs());
    let failed = failed.into_inner().expect("no lane panics");
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn run_one(name: &str, mut command: Command) -> Result<()> {
    println!("{name} begins");
    let started = Instant::now();
    let mut said = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
    let status = command.status().with_context(|| format!("starting {}", crate::shown(&command)))?;
    let mut text = format!("$ {}\n", crate::shown(&command)).into_bytes();
    said.rewind()?;
    said.read_to_end(&mut text)?;
    writeln!(text, "  ({name}: {} s)", started.elapsed().as_secs())?;
    // In one piece: what others say does not come between.
    std::io::stdout().lock().write_all(&text)?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_of_tests_are_found_among_what_cargo_says() {
        let message = |executable: Option<&str>, test: bool| {
            json!({ "reason": "compiler-artifact", "executable": executable, "profile": { "test": test },
                    "manifest_path": "/house/tests/crew/Cargo.toml", "target": { "name": "limits" } })
        };
        let found = program(&message(Some("/target/limits-1"), true)).unwrap();
        assert_eq!((found.name.as_str(), found.folder), ("limits", PathBuf::from("/house/tests/crew")));
        assert!(program(&message(Some("/target/crew"), false)).is_none(), "a program that tests start");
        assert!(program(&message(None, true)).is_none(), "a library");
        assert!(program(&json!({ "reason": "build-finished", "success": true })).is_none());
    }

    #[test]
    fn all_commands_run_and_who_failed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(folder.path());
            command
        };
        let commands =
            [("first", "exit 3"), ("second", "echo it runs > second"), ("third", "exit 0"), ("fourth", "kill -9 $$")];
        let ran = run(commands.map(|(name, script)| (name.to_owned(), shell(script))).into());
        let failed = ran.unwrap_err().to_string();
        assert!(failed.contains("first") && failed.contains("fourth") && !failed.contains("third"), "{failed}");
        assert_eq!(std::fs::read_to_string(folder.path().join("second")).unwrap(), "it runs\n");
    }
}
