//! Ports for servers of tests.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the system gives to whoever connects or listens without a wish: one of these may go to a connection between now
/// and the start of the server that is to have it, or while that server is started again.
const FIRST: u16 = 12_000;
const COUNT: u16 = 10_000;

/// How much higher the port is on which the nodes of a cluster talk to each other.
const OF_A_CLUSTER: u16 = 10_000;

/// A port of the loopback that nobody has, nor the one that is higher by 10,000. Each crate of each process has a series of its own.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Processes that start together have neighbouring numbers; their series should not meet, nor those of two crates that include this.
    let of_this_crate = module_path!().bytes().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let first = std::process::id().wrapping_mul(7_919).wrapping_add(of_this_crate) % u32::from(COUNT);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    loop {
        let step = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + ((first + step) % u32::from(COUNT)) as u16;
        if is_free(port) && is_free(port + OF_A_CLUSTER) {
            return port;
        }
    }
}
