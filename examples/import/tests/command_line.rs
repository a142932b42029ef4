//! The program as people use it: commands go in, text, JSON and exit codes come out.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const HEADER: &str = "icao,iata,name,city,subd,country,elevation,lat,lon,tz,lid\n";

fn row(icao: &str, latitude: &str) -> String {
    format!("{icao},,Field {icao},Town,,US,100,{latitude},-101.5,America/Chicago,{icao}\n")
}

/// A folder in which the program is used.
struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_import"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("GUSHER_STORE").env_remove("IMPORT_DB");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.told(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {text}"))
    }

    /// Exit code and standard error of a command that must not succeed.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn worker(&self) -> Worker {
        Worker(self.command(&["worker"]).stderr(Stdio::null()).spawn().unwrap())
    }

    fn csv(&self, name: &str, rows: &[String]) -> String {
        fs::write(self.path(name), HEADER.to_owned() + &rows.concat()).unwrap();
        name.to_owned()
    }
}

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn without_arguments_it_imports_the_shipped_files_and_names_the_report() {
    let house = House::new();
    let summary = house.json(&["--rows", "500"]);
    assert_eq!(keys(&summary), ["failed", "report", "rows", "seconds", "territories", "workflow"]);
    assert_eq!((&summary["rows"], &summary["failed"], &summary["territories"]), (&500.into(), &0.into(), &257.into()));
    assert!(fs::read_to_string(summary["report"].as_str().unwrap()).unwrap().contains("Airports"));

    let id = summary["workflow"].as_str().unwrap();
    assert!(house.told(&["list"]).contains(id));
    let shown = house.told(&["show", id]);
    assert!(shown.contains("ImportCsvRow") && shown.contains("succeeded"), "{shown}");
    assert!(house.told(&["graph", id]).contains("GenReport"));
    assert!(house.told(&["graph", "ImportWorkflow", "--format", "mermaid"]).contains("DownloadCsv"));
    assert!(house.told(&["graph", "ImportWorkflow", "--format", "dot"]).starts_with("digraph"));
    assert!(house.told(&["doctor"]).contains("503"), "500 rows, their source, the XML file and the report");
}

#[test]
fn the_records_have_the_fields_that_the_docs_name() {
    let house = House::new();
    house.told(&["--rows", "3"]);
    let workflow = house.json(&["show", "latest"]);
    for field in [
        "id",
        "name",
        "type",
        "arguments",
        "state",
        "total",
        "succeeded",
        "failed",
        "created_at",
        "started_at",
        "finished_at",
        "steps",
    ] {
        assert!(!workflow[field].is_null(), "{field}: {workflow}");
    }
    let job = house.json(&["show", "latest", "ImportCsvRow#2"]);
    let expected = [
        "workflow_id",
        "step",
        "index",
        "name",
        "type",
        "queue",
        "state",
        "attempts",
        "recoveries",
        "enqueued_at",
        "started_at",
        "finished_at",
        "failed_at",
        "worker",
        "after",
        "before",
        "params",
        "output",
        "errors",
    ];
    assert_eq!(expected.iter().filter(|field| job.get(**field).is_none()).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert_eq!((&job["state"], &job["queue"], &job["output"]), (&"succeeded".into(), &"imports".into(), &true.into()));
    assert_eq!(
        (&job["after"], &job["before"]),
        (&serde_json::json!(["DownloadCsv"]), &serde_json::json!(["GenReport"]))
    );
    assert_eq!(house.json(&["list"]).as_array().unwrap().len(), 1);
}

#[test]
fn bad_rows_are_mended_in_a_table_and_fed_again_and_then_the_report_runs() {
    let house = House::new();
    let csv =
        house.csv("airports.csv", &[row("00AA", "38.7"), row("00AB", "97.5"), row("00AC", "39.1"), row("00AD", "x")]);
    let (code, error) = house.refused(&["--csv", &csv]);
    assert_eq!(code, 1);
    assert!(error.contains("2 of 4 jobs failed"), "{error}");
    assert!(!house.path("import-report.html").exists(), "no report on incomplete data");
    let why = house.told(&["why", "latest/GenReport"]);
    assert!(why.contains("ImportCsvRow") && why.contains("2 of 4 jobs failed") && why.contains("tolerates 0"), "{why}");
    let shown = house.told(&["show", "latest"]);
    assert!(shown.contains("2 failed jobs") && shown.contains("field `lat`: "), "{shown}");

    let table = house.told(&["failures", "latest", "ImportCsvRow", "--csv"]);
    assert_eq!(table.lines().count(), 3);
    fs::write(house.path("bad.csv"), table.replace("97.5", "37.5").replace(",x,", ",36.5,")).unwrap();
    let out_of_range = ["retry", "latest", "--error", "\"97.5\" is NOT a number"];
    assert_eq!(house.json(&[&out_of_range[..], &["--dry-run"]].concat())["jobs"], 1);
    let _worker = house.worker();
    let retried = house.told(&out_of_range);
    assert!(retried.contains("1 failed job"), "{retried}");
    let (code, _) = house.refused(&["watch", "latest"]);
    assert_eq!((code, house.json(&["show", "latest", "ImportCsvRow#1"])["attempts"].clone()), (1, 1.into()));
    assert_eq!(house.json(&["retry", "latest", "ImportCsvRow", "--params", "bad.csv", "--dry-run"])["jobs"], 2);
    house.told(&["retry", "latest", "ImportCsvRow", "--params", "bad.csv"]);
    house.told(&["watch", "latest"]);
    assert!(house.path("import-report.html").exists());
    let job = house.json(&["show", "latest", "ImportCsvRow#1"]);
    assert_eq!((&job["state"], &job["params"]["lat"]), (&"succeeded".into(), &"37.5".into()));
    house.told(&["doctor"]);
}

#[test]
fn bad_rows_that_nobody_can_mend_are_given_up_and_then_the_report_runs() {
    let house = House::new();
    let csv = house.csv("airports.csv", &[row("00AA", "38.7"), row("00AB", "97.5")]);
    house.refused(&["--csv", &csv]);
    assert!(!house.path("import-report.html").exists());
    let told = house.told(&["discard", "latest", "ImportCsvRow"]);
    assert!(told.contains("1 failed job of `ImportCsvRow` counts as skipped now"), "{told}");
    let _worker = house.worker();
    house.told(&["watch", "latest"]);
    assert!(house.path("import-report.html").exists());
    assert_eq!(house.json(&["show", "latest", "ImportCsvRow#1"])["state"], "skipped");
    let again = house.told(&["discard", "latest", "ImportCsvRow"]);
    assert!(again.contains("no job of `ImportCsvRow` has failed"), "{again}");
    let workers = house.json(&["workers"]);
    assert_eq!((workers.as_array().unwrap().len(), &workers[0]["slices"]), (1, &serde_json::json!([])));
    let (_, error) = house.refused(&["jobs", "discard", "--type", "ImportCsvRow"]);
    assert!(error.contains("no lone job of type `ImportCsvRow` has been enqueued"), "{error}");
}

#[test]
fn a_finished_import_runs_again_from_a_step_that_is_named() {
    let house = House::new();
    let csv = house.csv("airports.csv", &[row("00AA", "38.7"), row("00AB", "37.5")]);
    house.told(&["--csv", &csv]);
    let would_run = house.told(&["run-again", "latest", "DownloadCsv", "--again", "--dry-run"]);
    assert!(
        would_run.contains("4 jobs of 3 steps would run") && would_run.contains("ImportCsvRow: 2 jobs"),
        "{would_run}"
    );
    assert_eq!(house.json(&["run-again", "latest", "ImportCsvRow", "--dry-run"])["jobs"], 2);
    assert!(house.told(&["retry", "latest", "--dry-run"]).contains("nothing would run"));
    assert_eq!(house.json(&["show", "latest"])["state"], "succeeded", "a dry run changes nothing");

    house.csv("airports.csv", &[row("00AA", "38.7"), row("00AB", "37.5"), row("00AC", "39.1")]);
    house.told(&["run-again", "latest", "DownloadCsv", "--run"]);
    let shown = house.told(&["show", "latest"]);
    assert!(shown.contains("`GenReport` is older than its input"), "{shown}");
    let steps = house.json(&["show", "latest"])["steps"].clone();
    let step = |name: &str| steps.as_array().unwrap().iter().find(|step| step["name"] == name).unwrap().clone();
    assert_eq!((&step("ImportCsvRow")["succeeded"], &step("GenReport")["outdated"]), (&3.into(), &true.into()));
    let told = house.told(&["run-again", "latest", "GenReport", "--run"]);
    assert!(told.contains("`GenReport` runs again: 1 job"), "{told}");
    assert!(!house.told(&["show", "latest"]).contains("older than its input"));
}

#[test]
fn a_bad_row_is_skipped_and_an_output_is_given_by_hand() {
    let house = House::new();
    let csv = house.csv("airports.csv", &[row("00AA", "38.7"), row("00AB", "97.5"), row("00AC", "x")]);
    house.refused(&["--csv", &csv]);
    assert!(house.told(&["skip", "latest", "ImportCsvRow", "1"]).contains("#1 of `ImportCsvRow` is skipped"));
    assert!(house.told(&["skip", "latest", "ImportCsvRow", "0"]).contains("has succeeded, or been skipped, before"));
    let (_, error) = house.refused(&["replace", "latest", "ImportCsvRow", "1", "true"]);
    assert!(error.contains("job #1 is skipped; only one that has failed or succeeded"), "{error}");
    assert!(
        house.told(&["replace", "latest", "ImportCsvRow", "2", "true"]).contains("#2 of `ImportCsvRow` has succeeded")
    );
    let _worker = house.worker();
    house.told(&["watch", "latest"]);
    assert!(house.path("import-report.html").exists());
    assert_eq!(house.json(&["show", "latest", "ImportCsvRow#2"])["output"], true);
    assert!(house.told(&["skip", "latest", "GenReport"]).contains("`GenReport` has nothing that could be skipped"));
    house.told(&["doctor"]);
}

#[test]
fn with_a_tolerance_the_report_runs_and_lists_the_missing_rows() {
    let house = House::new();
    let csv = house.csv("airports.csv", &[row("00AA", "38.7"), row("00AB", "97.5")]);
    let summary = house.json(&["--csv", &csv, "--tolerate", "50%"]);
    assert_eq!((&summary["rows"], &summary["failed"]), (&1.into(), &1.into()));
    let report = fs::read_to_string(house.path("import-report.html")).unwrap();
    assert!(report.contains("97.5") && report.contains("lat"));
}

#[test]
fn an_import_that_failed_sums_up_what_it_did_and_names_no_report() {
    let house = House::new();
    let csv = house.csv("airports.csv", &[row("00AA", "38.7"), row("00AB", "97.5"), row("00AC", "39.1")]);
    let output = house.run(&["--csv", &csv, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["rows"], &summary["failed"], &summary["territories"], &summary["report"]),
        (&2.into(), &1.into(), &257.into(), &Value::Null)
    );
}

#[test]
fn relative_paths_are_meant_from_where_the_import_is_asked_for() {
    let house = House::new();
    house.csv("airports.csv", &[row("00AA", "38.7")]);
    let arguments = r#"{"csv":"airports.csv","report":"out/report.html"}"#;
    house.told(&["start", "ImportWorkflow", "--args", arguments]);
    let elsewhere = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", house.path("gusher.db").display());
    let worker = house.command(&["worker", "--store", &store]).current_dir(elsewhere.path()).spawn().unwrap();
    let _worker = Worker(worker);
    house.told(&["watch", "latest"]);
    assert!(house.path("out/report.html").exists());
}

#[test]
fn after_a_download_that_failed_for_good_the_report_waits_until_a_retry_repairs_it() {
    let house = House::new();
    let (code, error) = house.refused(&["--csv", "late.csv"]);
    assert_eq!(code, 1);
    assert!(error.contains("late.csv does not exist"), "{error}");
    assert!(!house.path("import-report.html").exists());
    let why = house.told(&["why", "latest/GenReport"]);
    assert!(why.contains("DownloadCsv") && why.contains("failed") && why.contains("late.csv does not exist"), "{why}");

    house.csv("late.csv", &[row("00AA", "38.7")]);
    let _worker = house.worker();
    house.told(&["retry", "latest"]);
    house.told(&["watch", "latest"]);
    assert!(house.path("import-report.html").exists());
}

#[test]
fn a_feed_that_was_broken_at_night_is_repaired_in_the_morning_and_the_approved_report_is_published() {
    let house = House::new();
    let args = r#"{"csv": "late.csv", "publish": "site.html"}"#;
    let _worker = house.worker();
    house.refused(&["start", "ImportWorkflow", "--args", args, "--wait"]);
    let why = house.told(&["why", "latest/Publish"]);
    assert!(why.contains("late.csv does not exist"), "{why}");
    let steps = house.json(&["show", "latest"])["steps"].clone();
    let territories = steps.as_array().unwrap().iter().find(|step| step["name"] == "ImportXml").unwrap();
    assert_eq!(territories["state"], "succeeded", "the other feed has gone on");

    let would_run = house.told(&["retry", "latest", "--dry-run"]);
    assert_eq!(would_run.trim_end(), "1 job of 1 step would run\n  DownloadCsv: 1 job");
    house.csv("late.csv", &[row("00AA", "38.7")]);
    house.told(&["retry", "latest"]);
    // Said before the report is there, it is kept for it.
    let (_, error) = house.refused(&["signal", "latest", "approval", r#"{"from": "Ada"}"#]);
    assert!(error.contains("unknown field `from`"), "{error}");
    house.told(&["signal", "latest", "approval", r#"{"by": "Ada"}"#]);
    house.told(&["watch", "latest"]);
    assert!(house.path("site.html").exists());
    assert_eq!(house.json(&["show", "latest", "Publish#0"])["output"], "Ada");
}

#[test]
fn a_workflow_is_paused_resumed_cancelled_started_again_and_deleted_by_its_id() {
    let house = House::new();
    let started = house.json(&["start", "ImportWorkflow", "--args", r#"{"rows":20}"#]);
    let id = started["id"].as_str().unwrap().to_owned();
    let why = house.told(&["why", &id]);
    assert!(why.contains("no live worker"), "{why}");
    assert_eq!(house.json(&["pause", &id])["state"], "paused");
    assert_eq!(house.json(&["resume", &id])["state"], "pending");
    assert!(house.told(&["resume", &id, "ImportCsvRow"]).contains("`ImportCsvRow` was not paused"));
    assert!(house.refused(&["delete", &id]).1.contains("cancel it before deleting it"));
    house.told(&["cancel", &id]);
    assert_eq!(house.json(&["show", &id])["state"], "cancelled");
    let _worker = house.worker();
    house.told(&["start-again", &id, "--wait"]);
    let again = house.json(&["show", &id]);
    assert_eq!((&again["state"], &again["generation"], &again["total"]), (&"succeeded".into(), &1.into(), &23.into()));
    house.told(&["delete", &id]);
    assert_eq!(house.refused(&["show", &id]).0, 2);
}

#[test]
fn what_has_finished_is_pruned_and_what_is_pinned_stays() {
    let house = House::new();
    let csv = house.csv("airports.csv", &[row("00AA", "38.7")]);
    house.told(&["--csv", &csv]);
    let pinned = house.json(&["show", "latest"])["id"].as_str().unwrap().to_owned();
    house.told(&["--csv", &csv]);
    assert!(house.told(&["pin", &pinned]).contains("is pinned"));
    assert!(house.told(&["expire", "latest", "--in", "1h"]).contains("is kept until"));

    let prune = ["prune", "--older-than", "0s", "--type", "ImportWorkflow", "--state", "succeeded"];
    assert!(house.told(&[&prune[..], &["--dry-run"]].concat()).contains("1 would be deleted"));
    assert!(house.told(&["prune", "--older-than", "1h"]).contains("there is nothing to prune"));
    let pruned = house.json(&prune);
    assert_eq!((&pruned["found"], &pruned["pruned"]), (&1.into(), &1.into()));
    let left = house.json(&["list"]);
    let ids: Vec<&str> = left.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [pinned.as_str()]);

    house.told(&["unpin", &pinned]);
    assert_eq!(house.json(&prune)["pruned"], 1);
    assert!(house.refused(&["show", &pinned]).1.contains("has been deleted"));
}

#[test]
fn an_empty_file_still_makes_a_report_that_says_so() {
    let house = House::new();
    let csv = house.csv("empty.csv", &[]);
    assert_eq!(house.json(&["--csv", &csv])["rows"], 0);
    assert!(fs::read_to_string(house.path("import-report.html")).unwrap().contains("No airports were imported"));
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line() {
    let house = House::new();
    let cases: [(&str, &str, &[u8]); 6] = [
        ("--csv", "the header is wrong", b"icao,name\nA,B\n"),
        (
            "--csv",
            "line 3: the row has 2 fields",
            &[HEADER.as_bytes(), row("00AA", "1").as_bytes(), b"00AB,x\n"].concat(),
        ),
        ("--csv", "is not UTF-8", &[HEADER.as_bytes(), b"00AA,,\xff\xfe,,,US,1,1,1,America/Chicago,\n"].concat()),
        ("--csv", "longer than", &[HEADER.as_bytes(), &[b'a'; 300_000], b"\n"].concat()),
        ("--xml", "line", b"<supplementalData><territoryInfo>"),
        ("--xml", "ENTITY", b"<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>"),
    ];
    for (flag, says, content) in cases {
        fs::write(house.path("bad"), content).unwrap();
        let _ = fs::remove_file(house.path("gusher.db"));
        let (code, error) = house.refused(&[flag, "bad"]);
        assert!(code == 1 && error.to_lowercase().contains(&says.to_lowercase()), "{says}: {error}");
    }
}

#[test]
fn what_is_wrong_on_the_command_line_is_said_with_what_would_be_right() {
    let house = House::new();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["list"], 2, "there is no store at"),
        (&["start", "ImportWorkflw"], 2, "ImportWorkflow"),
        (&["start", "ImportWorkflow", "--args", "{\"rosw\":1}"], 2, "unknown field `rosw`"),
        (&["start", "ImportWorkflow", "--args", "{"], 2, "JSON"),
        (&["lsit"], 2, "list"),
        (&["--rows", "many"], 2, "many"),
        (&["--tolerate", "120%"], 2, "share of all"),
        (&["list", "--store", "postgres://localhost"], 2, "redis://127.0.0.1:6379"),
        (&["--store", "postgres://localhost", "list"], 2, "redis://127.0.0.1:6379"),
        (&["--store", "postgres://localhost"], 2, "redis://127.0.0.1:6379"),
        (&["list", "--store", "redis://127.0.0.1:1"], 1, "the Redis server is away"),
        (&["prune", "--older-than", "a week"], 2, "one looks like 30m, 12h or 7d"),
        (&["prune", "--older-than", "7d", "--state", "running"], 2, "is not finished, and is never pruned"),
        (&["expire", "latest", "--in", "soon"], 2, "one looks like 30m, 12h or 7d"),
        (&["--db", "."], 1, "it is a folder"),
        (&["start", "ImportWorkflow", "--store", "sqlite:no/such/folder/x.db"], 2, "there is no folder"),
    ];
    for (arguments, code, says) in cases {
        let (got, error) = house.refused(arguments);
        assert!(got == *code && error.contains(says), "{arguments:?}: {got}, {error}");
    }
    house.told(&["--rows", "1"]);
    assert_eq!(house.refused(&["show", "nightly"]).0, 2);
    let (code, error) = house.refused(&["show", "latest", "ImportCsvRw#1"]);
    assert!(code == 2 && error.contains("did you mean `ImportCsvRow`"), "{error}");
    assert_eq!(house.refused(&["show", "latest", "ImportCsvRow#9"]).0, 2);
    fs::write(house.path("text.db"), "this is no database, whatever its name says").unwrap();
    assert!(house.refused(&["list", "--store", "sqlite:text.db"]).1.contains("not a SQLite database"));
    let other = rusqlite::Connection::open(house.path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(house.refused(&["list", "--store", "sqlite:other.db"]).1.contains("another program"));
    assert_eq!(fs::read_to_string(house.path("text.db")).unwrap().len(), 43, "it is left as it is");
}
