//! Ports for what must know its own before it starts, or have the same one when it starts again.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is free for UDP and TCP, from below those that the system gives out by itself: nobody takes it meanwhile by
/// chance, and no two calls of a process get the same one.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // So that the processes of a test run begin far from each other.
    let first = u16::try_from(std::process::id() % 200).unwrap() * 100;
    for _ in 0..1000 {
        let step = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 10_000 + step;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("a thousand ports in a row are taken");
}
