//! Real brokers for tests: started on free loopback ports with their data in a temporary folder, stopped with the test process.
//! `cargo xtask servers` installs them.

#[path = "../../servers/ports.rs"]
mod ports;
mod proxy;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use ports::free_port;
pub use proxy::Proxy;

/// Debian's own script, without the wrapper that becomes another user.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const RABBITMQCTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// A RabbitMQ server.
#[derive(Debug)]
pub struct RabbitMq {
    process: Option<Running>,
    folder: tempfile::TempDir,
    port: u16,
    /// For the distribution and its name server, which nobody else must use.
    others: [u16; 2],
}

impl RabbitMq {
    /// Starts one, and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// One with these lines of configuration.
    pub fn start_with(settings: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("rabbitmq.conf"), settings.join("\n")).expect("its settings are written");
        let mut server = Self { process: None, folder, port: free_port(), others: [free_port(), free_port()] };
        server.launch();
        server
    }

    /// Has its own tool do something.
    pub fn control(&self, arguments: &[&str]) {
        self.says(arguments);
    }

    /// What its own tool says.
    pub fn says(&self, arguments: &[&str]) -> String {
        let mut tool = Command::new(RABBITMQCTL);
        tool.args(arguments);
        let told = self.about(&mut tool).output().expect("rabbitmqctl starts");
        assert!(told.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A port of this machine for a listener of its own.
    pub fn another_port() -> u16 {
        free_port()
    }

    /// Kills it, as a machine that fails does, and starts it anew in its folder, on its port.
    pub fn kill_and_restart(&mut self) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).expect("it says its number");
        let killed = Command::new("kill").args(["-9", pid.trim()]).status().expect("kill starts");
        assert!(killed.success(), "the server was there");
        self.stop();
        self.launch();
    }

    fn launch(&mut self) {
        // The shell stops the server as soon as its own standard input ends, which it does when this process does, however it ends; then
        // the name server, which the server has started for itself and leaves behind.
        let script = "\"$@\" </dev/null & exec >/dev/null; cat; kill $! 2>/dev/null; wait; epmd -port \"$ERL_EPMD_PORT\" -kill >/dev/null 2>&1";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", RABBITMQ]);
        self.process = Some(until_ready(self.about(&mut command), "rabbitmq-server", "Server startup complete"));
    }

    /// Tells a command which server it is about, and where that has its things.
    fn about<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let place = |name: &str| self.folder.path().join(name);
        let [distribution, names] = self.others.map(|port| port.to_string());
        command
            .env("RABBITMQ_NODENAME", format!("gusher-{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", distribution)
            .env("ERL_EPMD_PORT", names)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", place("mnesia"))
            .env("RABBITMQ_LOG_BASE", place("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_CONFIG_FILE", place("rabbitmq"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", place("plugins"))
            .env("RABBITMQ_PID_FILE", place("pid"))
            .env("HOME", self.folder.path())
    }

    fn stop(&mut self) {
        self.process.take().into_iter().for_each(Running::end);
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What moto runs by. With each message that it sends or receives it looks at an attribute of the queue, and for that counts all messages of
/// the queue, three times over: a thousand of them make it answer once a second. Here a queue has no counts, and nobody asks for one.
const MOTO: &str = "
import sys
from moto.sqs.models import Queue
Queue.BASE_ATTRIBUTES = [name for name in Queue.BASE_ATTRIBUTES if not name.startswith('ApproximateNumber')]
from moto.server import main
sys.exit(main())
";

/// moto's SQS.
#[derive(Debug)]
pub struct Moto {
    process: Option<Running>,
    port: u16,
}

impl Moto {
    /// Starts one, and waits until it is ready.
    pub fn start() -> Self {
        assert!(
            std::env::var_os("AWS_ACCESS_KEY_ID").is_some(),
            "AWS's client needs credentials, though moto takes any: AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test, as `cargo xtask test` sets"
        );
        let mut server = Self { process: None, port: free_port() };
        server.launch();
        server
    }

    /// Where it is: messages that were received and not deleted come again soon.
    pub fn url(&self) -> String {
        format!("sqs://eu-central-1?endpoint=http://127.0.0.1:{}&hidden=2s", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it, and starts it anew: it has forgotten everything, its queues, too.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    fn launch(&mut self) {
        let script = "\"$@\" </dev/null 2>&1 & exec >/dev/null; cat; kill $! 2>/dev/null; wait";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(installed("moto/bin/python")).args(["-c", MOTO]);
        command.args(["-H", "127.0.0.1", "-p", &self.port.to_string()]);
        self.process = Some(until_ready(&mut command, "moto", "Running on"));
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {}
    }

    fn stop(&mut self) {
        self.process.take().into_iter().for_each(Running::end);
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.stop();
    }
}

fn until_ready(command: &mut Command, name: &str, word: &str) -> Running {
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
    let mut log = BufReader::new(process.stdout.take().expect("its output"));
    let mut said = String::new();
    loop {
        let before = said.len();
        if log.read_line(&mut said).unwrap_or(0) == 0 {
            let _ = process.wait();
            panic!("{name} has not started; `cargo xtask servers` installs what the tests need: {said}");
        }
        if said[before..].contains(word) {
            break;
        }
    }
    // What it says from here on is of no interest, but its pipe must not fill up.
    let rest = std::thread::spawn(move || drop(std::io::copy(&mut log, &mut std::io::sink())));
    Running { process, rest }
}

/// A server at work.
#[derive(Debug)]
struct Running {
    process: Child,
    rest: JoinHandle<()>,
}

impl Running {
    fn end(mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        let _ = self.rest.join();
    }
}

/// What `cargo xtask servers` has put into the folder of what is built, in which this program is too.
fn installed(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let mut places = this.ancestors().map(|folder| folder.join("servers").join(name));
    places
        .find(|place| place.is_file())
        .unwrap_or_else(|| panic!("there is no {name}; `cargo xtask servers` installs it"))
}
