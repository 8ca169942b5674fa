//! Small calls to the programs' own ports on loopback.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

const LIMIT: Duration = Duration::from_secs(30);

/// An HTTP/1.1 PUT of JSON.
pub(crate) fn put(to: SocketAddr, path: &str, body: &str) -> Result<()> {
    call("PUT", to, path, body).map(drop)
}

/// An HTTP/1.1 GET: the body.
pub(crate) fn get(from: SocketAddr, path: &str) -> Result<String> {
    call("GET", from, path, "")
}

fn call(method: &str, to: SocketAddr, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: \
         close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without an end")?;
    ensure!(
        head.starts_with("HTTP/1.1 2"),
        "{method} {path}: {}",
        head.lines().next().unwrap_or_default()
    );
    ensure!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "{method} {path}: the answer comes in chunks"
    );
    Ok(body.to_owned())
}
