//! Wake-ups between the processes of one machine: a datagram to the loopback port of an idle worker. It carries nothing and may
//! be lost; a worker that misses one finds the work at its next look, within a second.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::OnceLock;

use crate::store::Woken;

/// What a worker is sent that has to renew at once, since something of what it runs has been cancelled.
pub(crate) const RENEW: &[u8] = b"r";

/// Wakes the workers that an operation picked.
pub(crate) fn wake(woken: &Woken) {
    send(woken, b"!");
}

/// Lets workers renew at once.
pub(crate) fn hurry(told: &Woken) {
    send(told, RENEW);
}

fn send(woken: &Woken, word: &[u8]) {
    static SOCKET: OnceLock<Option<UdpSocket>> = OnceLock::new();
    if woken.0.is_empty() {
        return;
    }
    let socket = SOCKET.get_or_init(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok());
    for port in &woken.0 {
        if let Some(socket) = socket {
            let _ = socket.send_to(word, (Ipv4Addr::LOCALHOST, *port));
        }
    }
}
