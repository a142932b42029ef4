//! Workers of two "hosts" (processes with folders of their own) that meet on a Redis server: what one of them fetched into the shared
//! folder the other uses. The work comes from the store itself, or by a broker.

#[path = "../../../tests/servers/mod.rs"]
mod servers;

use std::collections::BTreeSet;
use std::process::{Child, Command, Output, Stdio};

use servers::Server;

struct Hosts {
    server: Server,
    /// Where the broker is that brings the work to workers, if that is not the store itself.
    broker: Option<String>,
    folder: tempfile::TempDir,
}

impl Hosts {
    fn import(&self, host: &str, arguments: &[&str]) -> Command {
        let folder = self.folder.path().join(host);
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_import"));
        command
            .args(arguments)
            .current_dir(folder)
            .env("IMPORT_DB", self.folder.path().join("shared/import.db"))
            .env("GUSHER_STORE", format!("{}?lease=1s", self.server.url()));
        command
    }

    fn worker(&self, host: &str) -> Child {
        let mut worker = self.import(host, &["worker", "--slots", "4"]);
        if let Some(broker) = &self.broker {
            worker.args(["--broker", broker]);
        }
        worker.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn told(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.import("person", &[arguments, &["--json"]].concat()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", text(&output)))
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[test]
fn workers_of_two_hosts_import_together_what_one_of_them_fetched() {
    imports_by(None);
}

#[test]
fn workers_of_two_hosts_import_what_rabbitmq_brings_them() {
    let broker = brokers::RabbitMq::start();
    imports_by(Some(broker.url()));
}

#[cfg(feature = "sqs")]
#[test]
fn workers_of_two_hosts_import_what_sqs_brings_them() {
    let broker = brokers::Moto::start();
    // What arrives for a worker that has gone is not waited for longer than a second.
    imports_by(Some(format!("{}&poll=1s", broker.url())));
}

fn imports_by(broker: Option<String>) {
    let hosts = Hosts { server: Server::redis(), broker, folder: tempfile::tempdir().unwrap() };
    let shared = hosts.folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let mut workers = [hosts.worker("one"), hosts.worker("other")];
    let report = shared.join("report.html");
    let arguments = serde_json::json!({ "shared": shared, "report": report }).to_string();
    let start = hosts.import("person", &["start", "ImportWorkflow", "--wait", "--args", &arguments]).output().unwrap();
    assert!(start.status.success(), "{}", text(&start));

    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("28,298") && page.contains("257"), "the report counts what was imported");
    let rows = rusqlite::Connection::open(shared.join("import.db")).unwrap();
    let rows: i64 = rows.query_row("SELECT count(*) FROM airport", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 28_298);
    let workflows = hosts.told(&["list"]);
    assert_eq!(workflows[0]["state"], "succeeded", "{workflows}");
    assert_eq!(hosts.told(&["doctor"])["findings"], serde_json::json!([]));

    let there = hosts.told(&["workers"]);
    let pids: BTreeSet<u64> = there.as_array().unwrap().iter().map(|one| one["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids, workers.iter().map(|worker| u64::from(worker.id())).collect());
    assert_eq!(there[0]["slices"], serde_json::json!([]), "all is done");
    for worker in &mut workers {
        let pid = worker.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(worker.wait().unwrap().success());
    }
    assert_eq!(hosts.told(&["workers"]), serde_json::json!([]));
}
