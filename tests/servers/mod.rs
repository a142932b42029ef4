//! Real servers for tests: started on a free loopback port with their data in a temporary folder, stopped with the test process.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// A Redis that keeps nothing on disk.
    pub fn redis() -> Self {
        Self::redis_with(&[])
    }

    /// The same with settings of its own.
    pub fn redis_with(settings: &[&str]) -> Self {
        Self::start("redis-server", &[&["--save", "", "--appendonly", "no"], settings].concat())
    }

    fn start(program: &str, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Free now; that another process takes it before the server does is unlikely, and then the server says so.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        // The shell stops the server as soon as its own standard input ends, which it does when this process does, however it ends.
        let mut command = Command::new("sh");
        command
            .args(["-c", "\"$@\" </dev/null & cat >/dev/null; kill $! 2>/dev/null; wait", "sh", program])
            .stdin(Stdio::piped());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(folder.path()).args(settings);
        let process = command.stdout(Stdio::piped()).spawn().expect("a shell starts");
        let mut server = Self { process, port, _folder: folder };
        let mut log = Vec::new();
        for line in BufReader::new(server.process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let ready = line.contains("Ready to accept connections");
            log.push(line);
            if ready {
                return server;
            }
        }
        panic!("{program} has not started; `cargo xtask servers` installs what the tests need: {}", log.join("\n"));
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
