//! A web server for one file, which can be told to misbehave.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use import::Location;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What the server does with the next requests.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub status: u16,
    pub body: Vec<u8>,
    /// Sent as `Last-Modified`.
    pub changed: Option<&'static str>,
    pub e_tag: Option<&'static str>,
    /// Whether a `Range` is honoured; if not, it answers with the whole.
    pub ranges: bool,
    /// Closes the connection after so many bytes of a body.
    pub cut_after: Option<usize>,
}

impl Behaviour {
    /// A well-behaved server. A time of change and no ETag, since the client goes on by itself, unseen by the test,
    /// when there is an ETag.
    pub fn serving(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            changed: Some("Tue, 24 Nov 2026 03:46:00 GMT"),
            e_tag: None,
            ranges: true,
            cut_after: None,
        }
    }
}

pub struct WebServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    behaviour: Behaviour,
    /// The `Range` of each request, in their order.
    requests: Vec<Option<String>>,
}

impl WebServer {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared { behaviour, requests: Vec::new() }));
        tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((connection, _)) = listener.accept().await {
                    // A client that hangs up in the middle is none of the server's troubles.
                    tokio::spawn(answer(connection, Arc::clone(&shared)));
                }
            }
        });
        Self { address, shared }
    }

    pub fn file(&self) -> Location {
        format!("http://{}/data/airports.csv?version=7", self.address).parse().unwrap()
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.lock().unwrap().behaviour);
    }

    /// The ranges asked for since the last call.
    pub fn requests(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.shared.lock().unwrap().requests)
    }
}

async fn answer(mut connection: TcpStream, shared: Arc<Mutex<Shared>>) -> std::io::Result<()> {
    let (read, mut write) = connection.split();
    let mut lines = BufReader::new(read).lines();
    let mut range = None;
    while let Some(line) = lines.next_line().await? {
        if line.is_empty() {
            break;
        }
        if let Some(("range", value)) = line.to_ascii_lowercase().split_once(": ") {
            range = Some(value.to_owned());
        }
    }
    let behaviour = {
        let mut shared = shared.lock().unwrap();
        shared.requests.push(range.clone());
        shared.behaviour.clone()
    };

    let from: usize = range
        .filter(|_| behaviour.ranges && behaviour.status == 200)
        .and_then(|range| range.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok())
        .unwrap_or(0);
    let size = behaviour.body.len();
    let status = if from > 0 { 206 } else { behaviour.status };
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\nContent-Length: {}\r\n", size - from);
    if from > 0 {
        head += &format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
    }
    if let Some(changed) = behaviour.changed {
        head += &format!("Last-Modified: {changed}\r\n");
    }
    if let Some(e_tag) = behaviour.e_tag {
        head += &format!("ETag: {e_tag}\r\n");
    }
    write.write_all(format!("{head}\r\n").as_bytes()).await?;
    let end = behaviour.cut_after.map_or(size, |bytes| (from + bytes).min(size));
    write.write_all(&behaviour.body[from..end]).await?;
    write.shutdown().await
}
