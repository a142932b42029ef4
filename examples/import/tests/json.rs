//! What `--json` prints, pinned: programs read it. `INSTA_UPDATE=always cargo test -p import --test json` writes the snapshots
//! anew, and a reviewer reads them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Times, ids, paths and whatever else differs from run to run, by what it is.
fn steady(value: &mut Value, folder: &Path) {
    let data = import::jobs::shipped("");
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| steady(item, folder)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match name.as_str() {
                    "worker" | "host" | "session" if field.is_string() => *field = "[worker]".into(),
                    "seconds" => *field = "[seconds]".into(),
                    name if name.ends_with("bytes") => *field = "[bytes]".into(),
                    _ => steady(field, folder),
                }
            }
        }
        Value::Number(number) if number.as_u64().is_some_and(|number| number > 1_000_000_000_000) => {
            *value = "[time]".into()
        }
        Value::String(text) if text.len() == 36 && text.matches('-').count() == 4 => *value = "[id]".into(),
        Value::String(text) => {
            for (path, shown) in [(folder, "[folder]"), (&data, "[data]/")] {
                *text = text.replace(&path.display().to_string(), shown);
            }
        }
        _ => {}
    }
}

#[test]
fn json_is_as_it_was_when_it_was_last_read_by_a_person() {
    let folder = tempfile::tempdir().unwrap();
    // macOS and others hand out a link.
    let place = fs::canonicalize(folder.path()).unwrap();
    let csv = "icao,iata,name,city,subd,country,elevation,lat,lon,tz,lid\n\
               00AA,,Good Field,Town,,US,100,38.7,-101.5,America/Chicago,00AA\n\
               00AB,,Bad Field,Town,,US,100,97.5,-101.5,America/Chicago,00AB\n";
    fs::write(place.join("airports.csv"), csv).unwrap();
    let run = |arguments: &str| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_import"));
        command.args(arguments.split(' ')).current_dir(&place).env_remove("GUSHER_STORE").env_remove("IMPORT_DB");
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let last = text.lines().last().unwrap_or_default();
        let mut json = serde_json::from_str(&text)
            .or_else(|_| serde_json::from_str(last))
            .unwrap_or_else(|e| panic!("{arguments}: {e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        steady(&mut json, &place);
        json
    };
    let commands = [
        ("import", "--csv airports.csv --json"),
        ("list", "list --json"),
        ("show", "show latest --json"),
        ("show_job", "show latest ImportCsvRow#1 --json"),
        ("graph", "graph latest --json"),
        ("why", "why latest --json"),
        ("why_step", "why latest/GenReport --json"),
        ("why_job", "why latest/ImportCsvRow#1 --json"),
        ("failures", "failures latest ImportCsvRow --json"),
        ("doctor", "doctor --json"),
        ("workers", "workers --json"),
        ("du", "du --json"),
        ("start", "start ImportWorkflow --json"),
        ("pause", "pause latest --json"),
        ("resume", "resume latest --json"),
        ("cancel", "cancel latest --json"),
        ("watch", "watch latest --json"),
        ("delete", "delete latest --json"),
        ("retry", "retry latest --json"),
    ];
    for (name, arguments) in commands {
        insta::assert_json_snapshot!(name, run(arguments));
    }
}
