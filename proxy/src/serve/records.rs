//! Login records: one JSON line each, written by a thread of its own, so that a slow disk or a stalled pipe stops no
//! login.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proxy_config::RecordSink;
use proxy_core::record::LoginRecord;

use crate::error::Error;
use crate::locks::{held, lock};
use crate::metrics::Metrics;

/// Records are written when there is so much of them,
const WRITE_BYTES: usize = 64 << 10;
/// or when the oldest has waited so long.
const WRITE_AFTER: Duration = Duration::from_millis(100);
/// What is kept while the writer is stuck: some twenty thousand, twice as many as wait for a provider by default and may end
/// at once. After that records are lost, and counted.
const MAX_WAITING: usize = 8 << 20;
/// A writer that is stuck holds up the end of the program no longer.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The end where records come in.
pub(super) struct Records {
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
}

/// The end that writes.
pub(super) struct RecordWriter {
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

/// Between the two.
#[derive(Default)]
struct Desk {
    waiting: Mutex<Waiting>,
    /// Something waits where nothing did, or it cannot wait any longer.
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Go on with this sink, opened anew: its file may have been rotated away.
    open: Option<RecordSink>,
    ends: bool,
}

/// Opens a sink and starts its writer.
pub(super) fn start(sink: &RecordSink, metrics: &Arc<Metrics>) -> Result<(Records, RecordWriter), Error> {
    let output = Output::open(sink)?;
    let desk = Arc::new(Desk::default());
    let (theirs, counted) = (Arc::clone(&desk), Arc::clone(metrics));
    let thread = std::thread::Builder::new()
        .name("records".to_owned())
        .stack_size(128 << 10)
        .spawn(move || write_all(output, &theirs, &counted))
        .map_err(|source| Error::Start {
            what: "the thread that writes login records",
            source,
        })?;
    let records = Records {
        desk: Arc::clone(&desk),
        metrics: Arc::clone(metrics),
    };
    Ok((records, RecordWriter { desk, thread }))
}

impl Records {
    /// Leaves them to the writer, in pieces. `lines` is the caller's memory, used again and again.
    pub(super) fn add(&self, records: &[LoginRecord], lines: &mut Vec<u8>) {
        let (mut count, mut lost) = (0, 0);
        for record in records {
            let before = lines.len();
            if serde_json::to_writer(&mut *lines, record).is_err() {
                lines.truncate(before);
                lost += 1;
                continue;
            }
            lines.push(b'\n');
            count += 1;
            if lines.len() >= WRITE_BYTES {
                lost += self.leave(lines, std::mem::take(&mut count));
            }
        }
        lost += self.leave(lines, count);
        if lost > 0 {
            self.metrics.lost_records.inc_by(lost);
        }
    }

    /// Leaves `count` lines, and empties them. Returns how many are lost.
    fn leave(&self, lines: &mut Vec<u8>, count: u64) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let mut waiting = self.desk.lock();
        let before = waiting.lines.len();
        let is_lost = before + lines.len() > MAX_WAITING;
        if !is_lost {
            waiting.lines.extend_from_slice(lines);
        }
        let after = waiting.lines.len();
        drop(waiting);
        lines.clear();
        if (before == 0 && after > 0) || (before < WRITE_BYTES && after >= WRITE_BYTES) {
            self.desk.changed.notify_one();
        }
        if is_lost { count } else { 0 }
    }
}

impl RecordWriter {
    /// Opens a sink, and makes the writer go on with it.
    pub(super) fn reopen(&self, sink: &RecordSink) {
        self.desk.lock().open = Some(sink.clone());
        self.desk.changed.notify_one();
    }

    /// Waits until everything that was left is written, but not for a disk or a pipe that is stuck. Call it when nobody
    /// adds any more.
    pub(super) fn finish(self) {
        self.desk.lock().ends = true;
        self.desk.changed.notify_one();
        let until = Instant::now() + LAST_WAIT;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }

    /// Waits for something to do, and a little longer for more of it.
    fn take(&self, lines: &mut Vec<u8>) -> (Option<RecordSink>, bool) {
        let nothing = |waiting: &mut Waiting| waiting.lines.is_empty() && waiting.is_quiet();
        let few = |waiting: &mut Waiting| waiting.lines.len() < WRITE_BYTES && waiting.is_quiet();
        let waiting = held(self.changed.wait_while(self.lock(), nothing));
        let (mut waiting, _) = held(self.changed.wait_timeout_while(waiting, WRITE_AFTER, few));
        lines.clear();
        // What a stuck writer has made grow is given back.
        lines.shrink_to(2 * WRITE_BYTES);
        std::mem::swap(&mut waiting.lines, lines);
        (waiting.open.take(), waiting.ends)
    }
}

impl Waiting {
    /// Lines are all there is to do.
    fn is_quiet(&self) -> bool {
        self.open.is_none() && !self.ends
    }
}

enum Output {
    Stdout(io::Stdout),
    File(File),
}

impl Output {
    fn open(sink: &RecordSink) -> Result<Self, Error> {
        match sink {
            RecordSink::Stdout => Ok(Self::Stdout(io::stdout())),
            RecordSink::File(path) => OpenOptions::new()
                .create(true)
                .append(true)
                // Names of users are for the group that reads logs, and for nobody else.
                .mode(0o640)
                .open(path)
                .map(Self::File)
                .map_err(|source| Error::OpenRecords {
                    path: path.clone(),
                    source,
                }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => {
                let mut stdout = stdout.lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::File(file) => file.write_all(bytes),
        }
    }
}

fn write_all(mut output: Output, desk: &Desk, metrics: &Metrics) {
    let mut failing = false;
    let mut lines = Vec::new();
    loop {
        let (open, ends) = desk.take(&mut lines);
        if !lines.is_empty() {
            let result = output.write(&lines);
            if let Err(error) = &result {
                metrics.record_write_failures.inc();
                if !failing {
                    tracing::error!(%error, "login records cannot be written; logins go on");
                }
            }
            failing = result.is_err();
        }
        if let Some(sink) = open {
            match Output::open(&sink) {
                Ok(opened) => output = opened,
                Err(error) => tracing::error!(%error, "login records go on to the file that is open"),
            }
        }
        if ends {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::os::unix::fs::PermissionsExt as _;

    use proxy_core::factor::Factor;
    use proxy_core::record::{CredentialKind, LoginResult, Method};

    use super::*;

    fn record(user: &str) -> LoginRecord {
        LoginRecord {
            time: Duration::from_secs(1_700_000_000),
            user: user.to_owned(),
            client: "directory".into(),
            source: SocketAddr::from(([192, 0, 2, 1], 1645)),
            user_address: None,
            method: Method::Pap,
            credential: CredentialKind::Passcode,
            factor: Factor::Passcode,
            provider: "totp",
            result: LoginResult::Accept,
            reason: None,
            basis: None,
            duration: Duration::from_millis(3),
            message_authenticator: true,
            packets: 1,
            followed: false,
        }
    }

    /// With nobody who writes.
    fn stuck() -> Records {
        Records {
            desk: Arc::default(),
            metrics: Arc::default(),
        }
    }

    #[test]
    fn what_several_threads_leave_is_written_line_by_line_and_whole_before_the_end() {
        const EACH: usize = 5_000;
        let folder = tempfile::tempdir().unwrap();
        let sink = RecordSink::File(folder.path().join("records").display().to_string());
        let (records, writer) = start(&sink, &Arc::default()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let records = &records;
                scope.spawn(move || {
                    let mut lines = Vec::new();
                    for batch in 0..EACH / 50 {
                        let batch: Vec<_> = (0..50)
                            .map(|n| record(&format!("{thread}-{batch}-{n}")))
                            .collect();
                        records.add(&batch, &mut lines);
                    }
                    assert!(lines.capacity() <= 2 * WRITE_BYTES);
                });
            }
        });
        writer.finish();
        let text = std::fs::read_to_string(folder.path().join("records")).unwrap();
        let users: std::collections::BTreeSet<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["user"].to_string())
            .collect();
        assert_eq!((text.lines().count(), users.len()), (3 * EACH, 3 * EACH));
        assert_eq!(records.metrics.lost_records.get(), 0);
    }

    #[test]
    fn beyond_the_bound_records_are_lost_and_counted_one_by_one() {
        let records = stuck();
        let mut lines = Vec::new();
        let all: Vec<_> = (0..60_000).map(|n| record(&format!("user-{n:05}"))).collect();
        records.add(&all, &mut lines);
        let waiting = records.desk.lock();
        assert!(waiting.lines.len() <= MAX_WAITING);
        let kept = waiting.lines.iter().filter(|byte| **byte == b'\n').count();
        assert!(kept > 20_000, "{kept}");
        assert_eq!(records.metrics.lost_records.get(), 60_000 - kept as u64);
    }

    #[test]
    fn what_was_left_before_another_sink_is_named_goes_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let sink = |name: &str| RecordSink::File(folder.path().join(name).display().to_string());
        let (records, writer) = start(&sink("one"), &Arc::default()).unwrap();
        records.add(&[record("jane")], &mut Vec::new());
        writer.reopen(&sink("two"));
        writer.finish();
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text("one").contains("jane"));
        assert_eq!(text("two"), "");
        let mode = |name: &str| {
            std::fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(mode("one") & 0o007, 0, "names of users are not for everybody");
    }
}
