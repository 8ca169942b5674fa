//! An address where somebody listens and says nothing.

use tokio::io::AsyncReadExt as _;

use super::*;

/// Directories that are asked about at an address where somebody listens and says nothing.
async fn silence() -> (Directories, tokio::net::TcpListener, Harness) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let harness = harness(well).await;
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut sessions = Sessions::new(50);
    sessions.endpoint = Some((url, Credentials::new("id", "key", None, None, "test")));
    let directories = Directories::with(sessions, harness.directories.deps.clone());
    (directories, listener, harness)
}

#[tokio::test]
async fn a_write_without_an_answer_ends_at_its_deadline_and_counts_as_failed() {
    let (directories, _listener, harness) = silence().await;
    let call = DirectoryCall::Disable;
    let deadline = Duration::from_millis(200);
    let failure = write(&directories, &call, deadline).await.unwrap_err();
    assert_eq!(failure.class, AwsErrorClass::Unreachable);
    let shown = harness.directories.deps.metrics.encode();
    let line = "aws_calls_total{operation=\"DisableRadius\",result=\"unreachable\"} 1\n";
    assert!(shown.contains(line), "{shown}");
}

#[tokio::test]
async fn two_reads_without_an_answer_count_as_failed_and_close_their_connections() {
    let (directories, listener, harness) = silence().await;
    let session = directories
        .sessions
        .of(&Account::of(&access("d-0000000001")))
        .await;
    let metrics = &harness.directories.deps.metrics;
    let calls = Calls {
        session: &session,
        metrics,
    };
    let operation = AwsOperation::DescribeDirectories;
    let asked = calls.read(operation, Duration::ZERO, || {
        session.client.describe_directories().send()
    });
    // Given up when both have been sent.
    let both = async {
        let (mut taken, mut first) = (Vec::new(), [0; 1]);
        for _ in 0..2 {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.read_exact(&mut first).await.unwrap();
            taken.push(connection);
        }
        taken
    };
    let taken = tokio::select! {
        answer = asked => panic!("{answer:?}"),
        taken = both => taken,
    };
    let shown = metrics.encode();
    for line in [
        "aws_calls_total{operation=\"DescribeDirectories\",result=\"unreachable\"} 2\n",
        "aws_call_duration_seconds_count{operation=\"DescribeDirectories\"} 2\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    for mut connection in taken {
        // To its end.
        connection.read_to_end(&mut Vec::new()).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_waits_for_a_region_that_is_silent() {
    let (directories, _listener, _scene) = silence().await;
    let access = access("d-0000000001");
    let first = directories.observe(&key("a"), &holder(), &access, LONG);
    assert!(first.awaited.is_some(), "{first:?}");
    assert_eq!(first.observation, DirectoryObservation::Unasked);
    // Its answer is due when the others' is, as it's the same one.
    let second = directories.observe(&key("b"), &holder(), &access, LONG);
    assert!(second.awaited < first.awaited, "{second:?}");
}
