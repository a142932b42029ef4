//! A disk that is really full: a small file system of the test's own, in a mount namespace (Linux: `unshare`, `mount`).

use std::process::Command;

/// Runs a shell script as the root of a namespace of its own, in an empty folder with 32 MiB of space in `small`.
fn on_a_small_disk(script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let whole = format!("set -eu; mkdir small; mount -t tmpfs -o size=32m tmpfs small; {script}");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &whole])
        .current_dir(folder.path())
        .env("IMPORT", env!("CARGO_BIN_EXE_import"))
        .env("GUSHER_STORE", "sqlite:small/gusher.db")
        .output()
        .expect("`unshare` is part of util-linux");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}\n{err}", output.status);
    out.into_owned()
}

#[test]
fn an_import_that_fills_the_disk_waits_until_there_is_space_and_then_ends_well() {
    let out = on_a_small_disk(
        r#"
        head -c 22M /dev/zero > small/ballast
        "$IMPORT" --repeat 4 --json > out 2> err & import=$!
        until grep -q 'reserve has been freed' err; do kill -0 $import || { cat err; exit 9; }; sleep 0.1; done
        "$IMPORT" list
        rm small/ballast
        wait $import
        tail -n 1 out
        "$IMPORT" doctor
        "#,
    );
    assert!(out.contains("running"), "{out}");
    assert!(out.contains(r#""rows":113192,"failed":0"#), "{out}");
}

#[test]
fn a_full_disk_takes_no_new_work_but_what_is_there_can_be_deleted() {
    let out = on_a_small_disk(
        r#"
        "$IMPORT" --json > /dev/null 2> err
        head -c 40M /dev/zero > small/ballast 2> /dev/null || true
        "$IMPORT" start ImportWorkflow 2> refused && exit 8
        cat refused
        "$IMPORT" delete latest 2> err || { cat err; exit 7; }
        "$IMPORT" list
        rm small/ballast
        "$IMPORT" doctor
        "#,
    );
    assert!(out.contains("new work is refused until there is space"), "{out}");
    assert!(out.contains("no workflows"), "{out}");
}
