//! Calls through an HTTP proxy that asks for a user name and a password.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proxy_core::factor::{Basis, Credential, RefusalReason};
use radius_proxy::provider::Finding;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::duo::Duo;
use crate::harness::{Asked, basis, reason, well};

/// `radius:hunter2:%6fp%n`
const EXPECTED: &str = "proxy-authorization: basic cmFkaXVzOmh1bnRlcjI6JTZmcCVu";

/// Tunnels for whoever has the right name and password; counts the others.
async fn http_proxy() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let refused: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&refused);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tunnel(BufReader::new(stream), Arc::clone(&count)));
        }
    });
    (address, refused)
}

async fn tunnel(mut stream: BufReader<TcpStream>, refused: Arc<AtomicUsize>) {
    let (mut target, mut allowed) = (String::new(), false);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("CONNECT ") {
            rest.split(' ').next().unwrap().clone_into(&mut target);
        }
        allowed |= line.trim_end().eq_ignore_ascii_case(EXPECTED);
    }
    if !allowed {
        refused.fetch_add(1, Ordering::SeqCst);
        let answer =
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        return;
    }
    let mut server = TcpStream::connect(target.replace("localhost", "127.0.0.1"))
        .await
        .unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    // Either side may end it.
    let _ = copy_bidirectional(&mut stream, &mut server).await;
}

#[tokio::test]
async fn a_proxy_gets_the_name_and_password_of_the_files_and_their_absence_opens_nothing() {
    let duo = Duo::start(well).await;
    let (proxy, refused) = http_proxy().await;
    let without = format!("fail_mode = \"safe\"\nhttp_proxy = \"http://{proxy}\"");
    let with = format!(
        "{without}\nhttp_proxy_username_file = \"proxy-user\"\nhttp_proxy_password_file = \"proxy-password\""
    );
    let asked = Asked::new(&duo.config(&with));
    assert_eq!(basis(asked.login(Credential::Default).await), Basis::Factor);
    assert_eq!(refused.load(Ordering::SeqCst), 0);

    let asked = Asked::new(&duo.config(&without));
    assert_eq!(
        reason(asked.login(Credential::Default).await),
        RefusalReason::ProviderUnreachable
    );
    assert!(refused.load(Ordering::SeqCst) > 0);
    let findings = asked.provider.rehearse().await;
    let [Finding::Problem(text)] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert!(
        text.contains("407") && text.contains("http_proxy_password_file"),
        "{text}"
    );
}
