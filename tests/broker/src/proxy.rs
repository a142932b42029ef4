//! A way to a server on which every connection can be cut.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

/// Passes on what comes to a port of its own.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    accepts: JoinHandle<()>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Proxy {
    /// A way to the server at a port of this machine.
    pub async fn to(server: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let connections: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let kept = connections.clone();
        let accepts = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let passes = tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.retain(|connection| !connection.is_finished());
                kept.push(passes.abort_handle());
            }
        });
        Ok(Self { port, accepts, connections })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection; returns how many there were.
    pub fn cut(&self) -> usize {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let open = connections.drain(..).filter(|connection| !connection.is_finished());
        open.inspect(AbortHandle::abort).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
        self.cut();
    }
}
