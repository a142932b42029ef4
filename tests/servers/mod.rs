//! Real servers for tests: started on free loopback ports with their data in a temporary folder, stopped with the test process.

// Each test uses some of these.
#![allow(dead_code)]

mod ports;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ports::free_port;

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
    program: PathBuf,
    settings: Vec<String>,
}

impl Server {
    /// A Redis that keeps nothing on disk.
    pub fn redis() -> Self {
        Self::redis_with(&[])
    }

    /// The same with settings of its own.
    pub fn redis_with(settings: &[&str]) -> Self {
        Self::start("redis-server".as_ref(), free_port(), settings)
    }

    /// The same with a second port that speaks TLS.
    pub fn redis_with_tls(settings: &[&str]) -> (Self, u16) {
        let port = free_port();
        let tls = port.to_string();
        (Self::redis_with(&[&["--tls-port", &tls], settings].concat()), port)
    }

    /// The oldest Redis that the store accepts.
    pub fn redis_6_2() -> Self {
        Self::start(&installed("redis-6.2"), free_port(), &[])
    }

    /// A Valkey that keeps nothing on disk.
    pub fn valkey() -> Self {
        Self::valkey_with(&[])
    }

    /// The same with settings of its own.
    pub fn valkey_with(settings: &[&str]) -> Self {
        Self::start(&installed("valkey"), free_port(), settings)
    }

    fn start(program: &Path, port: u16, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self::start_in(tempfile::tempdir().unwrap(), program.to_owned(), port, settings)
    }

    fn start_in(folder: tempfile::TempDir, program: PathBuf, port: u16, settings: Vec<String>) -> Self {
        Self { process: launch(&program, port, folder.path(), &settings), port, folder, program, settings }
    }

    /// A Sentinel that watches a master, and alone decides that it has failed.
    pub fn sentinel(service: &str, master: &Self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let lines = [
            format!("sentinel monitor {service} 127.0.0.1 {} 1", master.port),
            format!("sentinel down-after-milliseconds {service} 300"),
            format!("sentinel failover-timeout {service} 1000"),
        ];
        std::fs::write(&file, lines.join("\n")).unwrap();
        let settings = vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
        Self::start_in(folder, "redis-server".into(), free_port(), settings)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Lets a user do what the guide says is needed; returns the URL with which that user comes.
    pub fn url_of_the_guides_user(&self) -> String {
        let guide = include_str!("../../docs/redis.md");
        let line = guide.lines().find(|line| line.starts_with("ACL SETUSER gusher ")).expect("the guide has the line");
        assert_eq!(self.says(&line.split_whitespace().collect::<Vec<_>>()).trim(), "OK");
        format!("redis://gusher:a-long-password@127.0.0.1:{}/0", self.port)
    }

    /// What it answers to a command, as `redis-cli` prints it.
    pub fn says(&self, command: &[&str]) -> String {
        let mut ask = Command::new("redis-cli");
        let told = ask.args(["-p", &self.port.to_string()]).args(command).output().expect("redis-cli starts");
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    /// From now on it forgets its scripts again and again, as one does that is restarted.
    pub fn forgetting_scripts(self) -> Self {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it listens");
        let mut answers = BufReader::new(connection.try_clone().expect("a connection can be read")).lines();
        // Ends with the server. Waiting for what never comes leaves it some time in between.
        std::thread::spawn(move || {
            while connection.write_all(b"BLPOP nothing 1\r\nSCRIPT FLUSH\r\n").is_ok() {
                let told: Vec<String> = answers.by_ref().take(2).map_while(Result::ok).collect();
                if told.len() < 2 {
                    return;
                }
                assert_eq!(told, ["*-1", "+OK"]);
            }
        });
        self
    }

    /// Kills it, as a machine that fails does; what it was is started again by `again`.
    pub fn kill(&self) {
        let info = self.says(&["info", "server"]);
        let pid = info.lines().find_map(|line| line.trim().strip_prefix("process_id:")).expect("it says its number");
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
    }

    /// Starts it anew in its folder, on its port, with the same settings.
    pub fn start_again(&mut self) {
        self.stop();
        self.process = launch(&self.program, self.port, self.folder.path(), &self.settings);
    }

    fn stop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a server and waits until it is ready.
fn launch(program: &Path, port: u16, folder: &Path, settings: &[String]) -> Child {
    // The shell stops the server as soon as its own standard input ends, which it does when this process does, however it ends. It lets go
    // of its output: the end of that is the server's.
    let mut command = Command::new("sh");
    command
        .args(["-c", "\"$@\" </dev/null & exec >/dev/null; cat; kill $! 2>/dev/null; wait", "sh"])
        .arg(program)
        .stdin(Stdio::piped());
    // A file of settings may come first.
    let (file, settings) =
        settings.split_at(usize::from(settings.first().is_some_and(|first| !first.starts_with("--"))));
    command.args(file).args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(folder);
    if file.is_empty() {
        command.args(["--save", "", "--appendonly", "no"]);
        // On a busy machine a script of a test that writes a million jobs at once takes so long that others would be refused meanwhile.
        command.args(["--lua-time-limit", "60000"]);
    }
    let mut process = command.args(settings).stdout(Stdio::piped()).spawn().expect("a shell starts");
    let mut log = Vec::new();
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let ready = line.contains("Ready to accept connections") || line.contains("Sentinel ID is");
        log.push(line);
        if ready {
            return process;
        }
    }
    let _ = process.wait();
    let program = program.display();
    panic!("{program} has not started; `cargo xtask servers` installs what the tests need: {}", log.join("\n"));
}

/// Which program the nodes of a cluster run.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    Redis,
    Valkey,
}

/// Three masters, with or without a replica each.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Three masters with a replica each.
    pub fn start(program: Program) -> Self {
        Self::with_replicas(program, 1, &[])
    }

    /// Three masters alone, with settings of their own.
    pub fn of_masters(program: Program, settings: &[&str]) -> Self {
        Self::with_replicas(program, 0, settings)
    }

    fn with_replicas(program: Program, replicas: usize, settings: &[&str]) -> Self {
        let path = match program {
            Program::Redis => PathBuf::from("redis-server"),
            Program::Valkey => installed("valkey"),
        };
        let node = |_| {
            let of_a_node =
                ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"];
            Server::start(&path, free_port(), &[&of_a_node, settings].concat())
        };
        let nodes: Vec<Server> = (0..3 * (1 + replicas)).map(node).collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(addresses).args([
            "--cluster-replicas",
            &replicas.to_string(),
            "--cluster-yes",
        ]);
        let made = create.output().expect("redis-cli starts; it comes with redis-server");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        // Each node has to hear of it.
        while !nodes.iter().all(|node| node.says(&["cluster", "info"]).contains("cluster_state:ok")) {}
        Self { nodes }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }
}

/// A server that `cargo xtask servers` has put into the folder of what is built, in which this program is too.
fn installed(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let mut places = this.ancestors().map(|folder| folder.join("servers").join(name));
    places
        .find(|place| place.is_file())
        .unwrap_or_else(|| panic!("there is no {name}; `cargo xtask servers` installs it"))
}
