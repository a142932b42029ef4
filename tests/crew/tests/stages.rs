//! A chain of stages as people see it on the command line.

use std::process::{Command, Output};

fn run(folder: &tempfile::TempDir, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_stages"));
    program.args(arguments).current_dir(folder.path()).env_remove("GUSHER_STORE").output().unwrap()
}

fn told(folder: &tempfile::TempDir, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn show_lists_the_stages_and_a_row_that_failed_in_the_second_has_succeeded_in_the_first() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(&folder, &["start", "Stages", "--args", "null", "--run"]).status.code(), Some(1));
    let shown = told(&folder, &["show", "latest"]);
    let places = ["ImportRow", "Enrich", "Publish"].map(|stage| shown.find(&format!("\n{stage} ")).expect("its row"));
    assert!(places.is_sorted(), "{shown}");
    assert!(shown.contains("its country is unknown"), "{shown}");
    for (job, state) in [("ImportRow#1", "succeeded"), ("Enrich#1", "failed"), ("Enrich#2", "succeeded")] {
        let job = told(&folder, &["show", "latest", job]);
        assert!(job.contains(state), "{job}");
    }
    let why = told(&folder, &["why", "latest/Publish#1"]);
    assert!(why.contains("job #1 of `Publish` waits for its own predecessor (#1 of `Enrich`)"), "{why}");
}
