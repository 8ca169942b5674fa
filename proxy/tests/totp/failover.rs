//! A store that fails over while the connection to it is kept.
//!
//! What stands in front of the servers is a relay, as a Kubernetes Service or a name is: where it leads changes, and
//! what is connected stays connected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proxy_core::factor::{Basis, RefusalReason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::pod::{Pod, START, code_at, config, told};
use crate::redis::Server;

fn pod_at(port: u16) -> Pod {
    Pod::new(&config(&format!(
        "[provider.totp.used_codes]\nwhen_unavailable = \"deny\"\n[provider.totp.used_codes.redis]\n\
         address = \"localhost:{port}\"\npassword_file = \"password\"\ntls = false"
    )))
}

async fn login(pod: &Pod, user: usize, at: u64) -> Result<Basis, RefusalReason> {
    told(&pod.login(user, code_at(at), at).await)
}

/// Passes connections on to where it leads at the moment they are made.
struct Relay {
    port: u16,
    to: watch::Sender<u16>,
    loses_answer: Arc<AtomicBool>,
}

impl Relay {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (to, target) = watch::channel(to);
        let loses_answer = Arc::new(AtomicBool::new(false));
        let loses = Arc::clone(&loses_answer);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server: SocketAddr = ([127, 0, 0, 1], *target.borrow()).into();
                let server = TcpStream::connect(server).await.unwrap();
                tokio::spawn(relay(client, server, Arc::clone(&loses)));
            }
        });
        Self {
            port,
            to,
            loses_answer,
        }
    }

    /// New connections lead there from now on.
    fn leads_to(&self, port: u16) {
        self.to.send_replace(port);
    }

    /// The next write is applied, and the connection is gone before its answer is.
    fn loses_next_answer(&self) {
        self.loses_answer.store(true, Ordering::SeqCst);
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, loses: Arc<AtomicBool>) -> Option<()> {
    let (mut asked, mut answered) = ([0; 8192], [0; 8192]);
    let mut lost = false;
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let asked = asked.get(..length.ok().filter(|length| *length > 0)?)?;
                let is_write = asked.windows(3).any(|part| part == b"SET");
                lost = is_write && loses.swap(false, Ordering::SeqCst);
                server.write_all(asked).await.ok()?;
            }
            length = server.read(&mut answered) => {
                let answered = answered.get(..length.ok().filter(|length| *length > 0)?)?;
                if lost {
                    return None;
                }
                client.write_all(answered).await.ok()?;
            }
        }
    }
}

/// Makes `replica` one of `primary`, and waits until it has its data.
fn replicate(primary: &Server, replica: &Server) {
    replica.ask(&[&format!("REPLICAOF 127.0.0.1 {}", primary.port)]);
    let begun = Instant::now();
    while !replica
        .ask(&["INFO replication"])
        .contains("master_link_status:up")
    {
        assert!(begun.elapsed() < Duration::from_secs(30), "no replication");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_finds_the_new_primary_when_the_old_one_became_its_replica() {
    let (old, new) = (Server::start_with(false, &[]), Server::start_with(false, &[]));
    replicate(&old, &new);
    let relay = Relay::start(old.port).await;
    let pod = pod_at(relay.port);
    assert_eq!(login(&pod, 1, START).await, Ok(Basis::Factor));

    new.ask(&["REPLICAOF NO ONE"]);
    replicate(&new, &old);
    relay.leads_to(new.port);
    // The connection leads to the old one still, which says READONLY.
    assert_eq!(login(&pod, 1, START + 60).await, Ok(Basis::Factor));
    assert_eq!(
        login(&pod_at(relay.port), 1, START + 60).await,
        Err(RefusalReason::PasscodeReplayed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_finds_the_new_primary_when_the_old_one_answers_no_more() {
    let (old, new) = (Server::start_with(false, &[]), Server::start_with(false, &[]));
    let relay = Relay::start(old.port).await;
    let pod = pod_at(relay.port);
    assert_eq!(login(&pod, 1, START).await, Ok(Basis::Factor));
    old.signal("STOP");
    relay.leads_to(new.port);
    assert_eq!(login(&pod, 1, START + 60).await, Ok(Basis::Factor));
    old.signal("CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_no_more_is_left_when_the_time_was_too_short_for_a_second_try() {
    let (old, new) = (Server::start_with(false, &[]), Server::start_with(false, &[]));
    let relay = Relay::start(old.port).await;
    let pod = pod_at(relay.port);
    assert_eq!(login(&pod, 1, START).await, Ok(Basis::Factor));
    old.signal("STOP");
    relay.leads_to(new.port);
    let short = pod.login_within(1, code_at(START + 60), START + 60, Duration::from_millis(400));
    assert_eq!(told(&short.await), Err(RefusalReason::StoreUnavailable));
    let begun = Instant::now();
    assert_eq!(login(&pod, 1, START + 120).await, Ok(Basis::Factor));
    assert!(
        begun.elapsed() < Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );
    old.signal("CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_is_the_same_claim_when_it_is_made_again_and_another_is_not() {
    let server = Server::start_with(false, &[]);
    let relay = Relay::start(server.port).await;
    let pod = pod_at(relay.port);
    assert_eq!(login(&pod, 1, START).await, Ok(Basis::Factor));
    relay.loses_next_answer();
    assert_eq!(login(&pod, 1, START + 60).await, Ok(Basis::Factor));
    assert!(
        !relay.loses_answer.load(Ordering::SeqCst),
        "nothing was lost: this test shows nothing"
    );
    assert_eq!(
        login(&server.pod("deny"), 1, START + 60).await,
        Err(RefusalReason::PasscodeReplayed)
    );
}

/// A server that answers every write on so many first connections with an error, and does what it is told on the others.
async fn refusing(error: &'static str, on: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            connections += 1;
            let (refuses, count) = (connections <= on, Arc::clone(&count));
            tokio::spawn(async move {
                let mut buffer = [0; 8192];
                while let Ok(length) = stream.read(&mut buffer).await {
                    if length == 0 {
                        return;
                    }
                    let asked = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let commands = asked.lines().filter(|line| line.starts_with('*')).count();
                    let answer = if !asked.contains("SET\r\n") && !asked.contains("EVAL") {
                        "+OK\r\n".repeat(commands)
                    } else if refuses {
                        count.fetch_add(1, Ordering::SeqCst);
                        format!("-{error}\r\n")
                    } else {
                        "+OK\r\n".to_owned()
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (port, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_server_says_that_is_no_primary_any_more_the_claim_is_made_again_on_a_new_connection() {
    for error in [
        "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "MOVED 3999 127.0.0.1:6381",
        "ASK 3999 127.0.0.1:6381",
        "CLUSTERDOWN Hash slot not served",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "ERR Error running script (call to f_1): @user_script:3: -READONLY You can't write against a read only replica.",
        "FAILOVER something that no list has",
    ] {
        let (port, refused) = refusing(error, 1).await;
        assert_eq!(login(&pod_at(port), 1, START).await, Ok(Basis::Factor), "{error}");
        assert_eq!(refused.load(Ordering::SeqCst), 1, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_say_what_it_is_is_named_by_its_errors() {
    for error in ["MOVED 3999 127.0.0.1:6381", "CLUSTERDOWN The cluster is down"] {
        let (port, _) = refusing(error, usize::MAX).await;
        let said = pod_at(port).check().await;
        assert!(
            matches!(said.as_slice(), [_, Err(text)] if text.contains("cluster mode")),
            "{said:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_a_server_in_cluster_mode_and_a_replica() {
    let cluster = Server::start_with(false, &["--cluster-enabled", "yes"]);
    let said = cluster.pod("deny").check().await;
    assert!(
        said.iter()
            .any(|line| matches!(line, Err(text) if text.contains("cluster mode"))),
        "{said:?}"
    );
    let (primary, replica) = (Server::start_with(false, &[]), Server::start_with(false, &[]));
    replicate(&primary, &replica);
    let said = replica.pod("deny").check().await;
    assert!(
        said.iter()
            .any(|line| matches!(line, Err(text) if text.contains("is a replica"))),
        "{said:?}"
    );
    let said = primary.pod("deny").check().await;
    assert!(said.iter().all(Result::is_ok), "{said:?}");
}
