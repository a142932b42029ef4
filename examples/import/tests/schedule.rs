//! What `schedule` and the commands for what is kept print.

use std::path::Path;
use std::process::{Command, Output};

fn import(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_import"));
    command.args(arguments).current_dir(folder).env_remove("GUSHER_STORE").env_remove("IMPORT_DB").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_preview_shows_the_next_runs_around_changes_of_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let preview = |from: &str, count: &str| {
        let rule = ["schedule", "preview", "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--from", from];
        text(&import(folder.path(), &[&rule[..], &["--count", count]].concat()))
    };
    assert_eq!(
        preview("2027-03-27T12:00:00Z", "3"),
        "2027-03-28T03:00:00+02:00\n2027-03-29T02:30:00+02:00\n2027-03-30T02:30:00+02:00\n"
    );
    assert_eq!(
        preview("2027-10-30T12:00:00Z", "3"),
        "2027-10-31T02:30:00+02:00\n2027-11-01T02:30:00+01:00\n2027-11-02T02:30:00+01:00\n"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a preview makes no store");
}

#[test]
fn the_nightly_import_is_kept_by_a_worker_fired_by_hand_paused_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = import(folder.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        text(&output)
    };
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&run(&[arguments, &["--json"]].concat())).unwrap()
    };
    let added = ["schedule", "add", "small import", "--every", "1d", "--overlap", "skip", "--start", "ImportWorkflow"];
    run(&[&added[..], &["--args", r#"{"rows":100,"report":"small-{at:%Y}.html"}"#]].concat());
    let fired = json(&["schedule", "run", "small import"]);
    let mut worker = Command::new(env!("CARGO_BIN_EXE_import"));
    let mut worker = worker.arg("worker").current_dir(folder.path()).spawn().unwrap();
    let shown = loop {
        let shown = json(&["schedule", "show", "small import"]);
        match shown["history"][0]["workflow_state"].as_str() {
            Some("succeeded") => break shown,
            Some("failed") => panic!("{shown}"),
            _ => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    };
    assert_eq!((&shown["history"][0]["at"], &shown["history"][0]["state"]), (&fired["at"], &"started".into()));
    let year = &run(&["schedule", "preview", "--every", "1ms", "--count", "1"])[..4];
    assert!(folder.path().join(format!("small-{year}.html")).exists());
    // The worker has kept what the program declares.
    let listed = run(&["schedule", "list"]);
    let nightly = listed.lines().find(|line| line.starts_with("nightly import")).unwrap();
    assert!(nightly.contains("0 2 * * * (Europe/Berlin)  start ImportWorkflow  skip"), "{nightly}");
    assert!(run(&["schedule", "pause", "nightly import"]).contains("paused"));
    assert!(!run(&["schedule", "resume", "nightly import"]).contains("paused"));
    let told = run(&["schedule", "show", "small import"]);
    assert!(told.contains("started") && told.contains("succeeded"), "{told}");
    assert_eq!(run(&["schedule", "remove", "small import"]), "removed\n");
    assert!(!run(&["schedule", "list"]).contains("small import"));
    assert_eq!(run(&["schedule", "preview", "nightly import", "--count", "1"]).lines().count(), 1);
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn a_rule_or_a_zone_that_cannot_be_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (rule, zone, told) in [
        ("30 25 * * *", "UTC", "the cron rule `30 25 * * *` is wrong at character 4: `25` is no hour"),
        ("0 2 30 2 *", "UTC", "the cron rule `0 2 30 2 *` never fires"),
        ("0 2 * * *", "Europe/Berln", "there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`"),
    ] {
        let output = import(folder.path(), &["schedule", "preview", "--cron", rule, "--zone", zone]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(told), "{error}");
    }
}
