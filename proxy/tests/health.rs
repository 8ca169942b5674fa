//! Health is answered whatever happens to the ports for it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

mod support;

use support::{Lab, Proxy};

/// Idle connections of one source.
fn flood(address: SocketAddr) -> Vec<TcpStream> {
    (0..300).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// As the kubelet asks, and no more patient.
fn probe(address: SocketAddr) -> String {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    text
}

#[test]
fn three_hundred_idle_connections_keep_no_probe_waiting() {
    let proxy = Proxy::start(&Lab::totp());
    let idle = [flood(proxy.admin), flood(proxy.health)];
    for address in [proxy.health, proxy.admin] {
        assert!(probe(address).starts_with("HTTP/1.1 200 "), "{address}");
    }
    // Metrics, too; and no connection was worth more than another.
    assert!(proxy.get("/metrics").1.contains("radius_proxy_pending_logins 0"));
    drop(idle);
}

#[test]
fn the_port_for_health_shows_nothing_else() {
    let proxy = Proxy::start(&Lab::totp());
    assert_eq!(support::get(proxy.health, "/healthz"), (200, "ok\n".to_owned()));
    for path in ["/metrics", "/config-digest", "/"] {
        assert_eq!(support::get(proxy.health, path).0, 404, "{path}");
    }
}
