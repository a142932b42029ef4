//! The first program does what its guide says.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn mail(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mail"));
    command.args(arguments).current_dir(folder).env_remove("GUSHER_STORE");
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    program.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_line_is_a_mail_and_what_is_no_address_can_be_looked_at_and_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let served = mail(folder.path(), &["serve"], "ada@example.org\nbob\n");
    assert!(served.status.success(), "{served:?}");
    assert_eq!(text(&served.stdout).matches(" is in the store\n").count(), 2);
    assert!(text(&served.stdout).contains("to ada@example.org: Welcome!\n"), "{served:?}");
    assert!(text(&served.stderr).contains("`bob` is no address"), "{served:?}");

    let lanes = mail(folder.path(), &["lanes", "--json"], "");
    let lanes: serde_json::Value = serde_json::from_slice(&lanes.stdout).unwrap();
    let lane = &lanes[0];
    assert_eq!((&lane["queue"], &lane["type"], &lane["failed"]), (&"mail".into(), &"Welcome".into(), &1.into()));
    let failed = mail(folder.path(), &["jobs", "failed", "--type", "Welcome"], "");
    let wanted = "Welcome: 1 failed job\n       1  … is no address\n          such as: `bob` is no address\n";
    assert_eq!(text(&failed.stdout), wanted);
    let failed = mail(folder.path(), &["jobs", "failed", "--type", "Welcome", "--json"], "");
    let groups: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!((groups.as_array().unwrap().len(), &groups[0]["jobs"]), (1, &1.into()));
    let given_up = mail(folder.path(), &["jobs", "discard", "--type", "Welcome"], "");
    assert!(given_up.status.success(), "{given_up:?}");
    let doctor = mail(folder.path(), &["doctor"], "");
    assert!(doctor.status.success(), "{doctor:?}");
}

#[test]
fn the_guide_shows_the_program_word_for_word() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    let program = read("src/main.rs");
    let code = program.split_once("\n\n").unwrap().1;
    assert!(read("../../docs/first-program.md").contains(&format!("```rust\n{code}```\n")));
}
