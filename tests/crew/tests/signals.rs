//! `signal` as people use it: commands go in, text, JSON and exit codes come out.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

/// A folder in which the program is used.
struct House(tempfile::TempDir);

impl House {
    /// With a workflow that waits, without a worker.
    fn new() -> Self {
        let house = Self(tempfile::tempdir().unwrap());
        house.told(&["start", "Ask", "--args", "null"]);
        house
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_approval"));
        program.args(arguments).current_dir(self.0.path()).env_remove("GUSHER_STORE");
        program
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and standard error of a command that must not succeed.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn a_signal_is_given_on_the_command_line() {
    let house = House::new();
    let why = house.told(&["why", "latest"]);
    assert!(why.contains("waits for the signal `manager` (send it with: approval signal "), "{why}");
    assert!(why.contains(" manager '{..}'); it fails in "), "{why}");
    let given = house.told(&["signal", "latest", "manager", r#"{"by":"Ada"}"#]);
    assert_eq!(given, "the signal `manager` has been given\n");
    let job = house.told(&["show", "latest", "manager#0", "--json"]);
    assert!(job.contains(r#""output":{"by":"Ada","remark":""}"#), "with what it does not say filled in: {job}");
    let (code, error) = house.refused(&["signal", "latest", "manager", r#"{"by":"Bob"}"#]);
    assert!(code == 1 && error.contains("has been given already, at 2"), "{code}: {error}");
}

#[test]
fn what_a_signal_tells_as_json_is_for_programs() {
    let house = House::new();
    let given = house.told(&["signal", "latest", "manager", r#"{"by":"Ada","remark":"well done"}"#, "--json"]);
    assert!(given.contains(r#""signal":"manager","kept":false}"#), "{given}");
    let shown = house.told(&["show", "latest", "--json"]);
    assert!(shown.contains(r#""waits":{"signal":{"type":"Approval","timeout":259200000,"then":"fail"}}"#), "{shown}");
}

#[test]
fn whoever_watches_is_told_how_the_signal_is_given() {
    let house = House::new();
    let mut watch = house.program(&["watch", "latest"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.find(|line| line.contains("waits for the signal `manager`"));
    watch.kill().unwrap();
    watch.wait().unwrap();
    let told = told.expect("it says so before it ends");
    assert!(told.contains("send it with: approval signal ") && told.contains("; it fails in "), "{told}");
}

#[test]
fn a_graph_and_a_table_show_what_a_step_waits_for() {
    let house = House::new();
    let graph = house.told(&["graph", "latest"]);
    assert!(graph.contains("manager: signal Approval") && graph.contains("sleep: 1 ms"), "{graph}");
    let table = house.told(&["show", "latest"]);
    assert!(table.contains("signal Approval"), "{table}");
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/waiting.md")).unwrap();
    let release = house.told(&["graph", "Release", "--args", "null"]);
    assert!(guide.contains(&format!("```text\n{release}```")), "the guide shows another picture than\n{release}");
}

#[test]
fn a_signal_that_comes_early_is_told_to_be_kept() {
    let house = House::new();
    house.told(&["start", "Release", "--args", "null"]);
    let kept = house.told(&["signal", "latest:Release", "manager", r#"{"by":"Ada"}"#]);
    assert_eq!(kept, "the signal `manager` is kept until its step is released\n");
    let (_, twice) = house.refused(&["signal", "latest:Release", "manager", r#"{"by":"Ada"}"#]);
    assert!(twice.contains("already"), "{twice}");
}

#[test]
fn what_is_wrong_with_a_signal_is_said_with_what_would_be_right() {
    let house = House::new();
    for (arguments, right) in [
        (["signal", "latest", "managr", "{}"], "did you mean `manager`?"),
        (["signal", "latest", "manager", "{}"], "does not fit the signal's type `Approval`: missing field `by`"),
        (["signal", "latest", "manager", "by Ada"], "is not JSON; for example"),
        (["signal", "latest", "sleep", "{}"], "waits for a time and no signal (there are: `manager`)"),
    ] {
        let (code, error) = house.refused(&arguments);
        assert!(code == 2 && error.contains(right), "{arguments:?}: {code}: {error}");
    }
    house.told(&["cancel", "latest"]);
    let (code, error) = house.refused(&["signal", "latest", "manager", r#"{"by":"Ada"}"#]);
    assert!(code == 1 && error.contains("was cancelled and takes no signals any more"), "{code}: {error}");
}
