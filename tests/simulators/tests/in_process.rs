//! The simulators as a library: started, asked and stopped within a test's own process.
#![allow(clippy::unwrap_used, reason = "also in the helpers of tests")]

use simulators::{TlsSource, controller, directory, duo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn call(admin: std::net::SocketAddr, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const LOOPBACK: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[tokio::test]
async fn a_directory_and_its_controller_find_each_other_and_end() {
    let id = "d-0123456789";
    let config = directory::Config {
        directories: vec![directory::DirectorySpec::new(
            id,
            directory::DirectoryType::MicrosoftAD,
        )],
        ..directory::Config::default()
    };
    let aws = directory::start(directory::Options {
        listen: LOOPBACK,
        admin: LOOPBACK,
        config,
        state: None,
        tls: TlsSource::Plain,
    })
    .await
    .unwrap();
    let dc = controller::start(controller::Options {
        directory_url: aws.admin_url(),
        directory_id: id.to_owned(),
        name: "dc-1".to_owned(),
        region: String::new(),
        advertise: vec![[127, 0, 0, 61].into()],
        sources: Vec::new(),
        admin: LOOPBACK,
    })
    .await
    .unwrap();
    while !call(dc.admin, "GET", "/healthz", "")
        .await
        .starts_with("HTTP/1.1 200")
    {
        tokio::task::yield_now().await;
    }
    assert!(
        call(aws.admin, "GET", &format!("/directories/{id}"), "")
            .await
            .contains("127.0.0.61")
    );
    let login = call(
        dc.admin,
        "POST",
        "/login",
        r#"{"username":"alice","password":"push"}"#,
    )
    .await;
    assert!(login.contains("\"outcome\":\"not-configured\""), "{login}");
    dc.stop().await;
    aws.stop().await;
}

#[tokio::test]
async fn a_duo_serves_its_own_ca_and_hides_its_key() {
    let duo = duo::start(duo::Options {
        listen: LOOPBACK,
        admin: LOOPBACK,
        config: duo::Config::default(),
        tls: TlsSource::Own(vec!["localhost".to_owned()]),
    })
    .await
    .unwrap();
    assert!(duo.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(
        call(duo.admin, "GET", "/ca.pem", "")
            .await
            .contains("BEGIN CERTIFICATE")
    );
    let settings = call(duo.admin, "GET", "/settings", "").await;
    assert!(
        settings.contains("(hidden)") && !settings.contains("simulatorsimulator"),
        "{settings}"
    );
    // What was read can be sent back without losing the key.
    let same = call(
        duo.admin,
        "PUT",
        "/settings",
        r#"{"skey":"(hidden)","retry_after":3,"applications":[{"ikey":"DI2","skey":"another-key"}]}"#,
    )
    .await;
    assert!(same.starts_with("HTTP/1.1 200"), "{same}");
    assert!(!same.contains("another-key"), "{same}");
    duo.stop().await;
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name() {
    let duo = duo::start(duo::Options {
        listen: LOOPBACK,
        admin: LOOPBACK,
        config: duo::Config::default(),
        tls: TlsSource::Plain,
    })
    .await
    .unwrap();
    let refused = call(duo.admin, "PUT", "/users/alice", r#"{"anwser":"deny"}"#).await;
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains("anwser"),
        "{refused}"
    );
    duo.stop().await;
}
