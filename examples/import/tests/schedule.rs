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
