//! The command as a developer calls it.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().expect("the command can be started")
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_tiny_benchmark_ends_with_its_figures() {
    for row in ["E", "A"] {
        let output =
            bench(&["--store", "sqlite", "--rows", "2000", "--runs", "1", "--row", row, "--slots", "4", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let figures: serde_json::Value = serde_json::from_str(&last_line(&output)).expect("the last line is JSON");
        assert_eq!((figures["rows"].as_u64(), figures["row"].as_str()), (Some(2_000), Some(row)));
        let keys = [
            "create_s",
            "run_s",
            "total_s",
            "jobs_per_s",
            "store_bytes_per_job_created",
            "store_bytes_per_job_done",
            "commands_per_job_sent",
            "commands_per_job_inner",
            "commits",
            "cost_vs_100k",
            "vs_floor",
        ];
        for key in keys {
            assert!(figures[key].as_f64().is_some_and(|figure| figure > 0.0), "{key} of {figures}");
        }
    }
}

#[test]
fn bad_flags_end_with_two_and_say_why() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let there = format!("sqlite:{}", file.path().display());
    let cases: [(&[&str], &str); 7] = [
        (&["--store", "sqlite", "--runs", "2"], "give an odd number"),
        (&["--store", "redis", "--folder", "."], "--folder goes with --store sqlite"),
        (&["--store", "redis-cluster://127.0.0.1:6379/"], "is no store that this program knows"),
        (&["--store", &there], "the benchmark needs a fresh store"),
        (&["--store", "sqlite::memory:"], "has no file to measure"),
        (&["--store", "postgres:x"], "no store that this program knows"),
        (&["--store", "sqlite", "--folder", "/there/is/no/such/folder"], "no folder can be made"),
    ];
    for (arguments, says) in cases {
        let output = bench(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
}
