//! Login records: one JSON line each, written by a thread of its own, so that a slow disk or a stalled pipe stops no
//! login.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proxy_config::RecordSink;
use proxy_core::record::LoginRecord;

use crate::error::Error;
use crate::metrics::Metrics;

/// Records are handed over when there is so much of them,
const HAND_OVER_BYTES: usize = 64 << 10;
/// or when the oldest has waited so long.
pub(super) const HAND_OVER_AFTER: Duration = Duration::from_millis(100);
/// Chunks on their way to the writer: with full ones, 4 MiB.
const CHUNKS: usize = 64;
/// What is kept while the writer is stuck and every chunk is on its way; after that records are lost, and counted.
const MAX_WAITING: usize = 4 << 20;

/// A writer that is stuck holds up the end of the program no longer.
const LAST_WAIT: Duration = Duration::from_secs(2);

enum Order {
    Write(Vec<u8>),
    /// Go on with this sink, opened anew: its file may have been rotated away.
    Open(RecordSink),
}

/// The end where records come in.
pub(super) struct Records {
    buffer: Vec<u8>,
    since: Option<Instant>,
    orders: SyncSender<Order>,
    metrics: Arc<Metrics>,
}

/// The end that writes.
pub(super) struct RecordWriter {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
}

/// Opens a sink and starts its writer.
pub(super) fn start(sink: &RecordSink, metrics: &Arc<Metrics>) -> Result<(Records, RecordWriter), Error> {
    let output = Output::open(sink)?;
    let (orders, receiver) = sync_channel(CHUNKS);
    let counted = Arc::clone(metrics);
    let thread = std::thread::Builder::new()
        .name("records".to_owned())
        .stack_size(128 << 10)
        .spawn(move || write_all(output, &receiver, &counted))
        .map_err(|source| Error::Start {
            what: "the thread that writes login records",
            source,
        })?;
    let records = Records {
        buffer: Vec::new(),
        since: None,
        orders: orders.clone(),
        metrics: Arc::clone(metrics),
    };
    Ok((records, RecordWriter { orders, thread }))
}

impl Records {
    pub(super) fn add(&mut self, record: &LoginRecord, now: Instant) {
        if self.buffer.len() >= MAX_WAITING {
            self.metrics.lost_records.inc();
            return;
        }
        let before = self.buffer.len();
        if serde_json::to_writer(&mut self.buffer, record).is_err() {
            self.buffer.truncate(before);
            self.metrics.lost_records.inc();
            return;
        }
        self.buffer.push(b'\n');
        self.since.get_or_insert(now);
    }

    /// Hands over what is due, without waiting.
    pub(super) fn hand_over_if_due(&mut self, now: Instant) {
        let waited = self.since.map(|since| now.saturating_duration_since(since));
        if waited.is_some_and(|waited| waited >= HAND_OVER_AFTER) || self.buffer.len() >= HAND_OVER_BYTES {
            self.hand_over();
        }
    }

    pub(super) fn hand_over(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        match self
            .orders
            .try_send(Order::Write(std::mem::take(&mut self.buffer)))
        {
            Ok(()) => self.since = None,
            Err(TrySendError::Full(Order::Write(buffer))) => self.buffer = buffer,
            Err(_) => {}
        }
    }

    /// Hands over what is left, and waits for room a little: the program is ending.
    pub(super) fn finish(mut self) {
        let until = Instant::now() + LAST_WAIT;
        self.hand_over();
        while !self.buffer.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
            self.hand_over();
        }
    }

    /// Whether something waits to be handed over.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }
}

impl RecordWriter {
    /// Opens a sink, and makes the writer go on with it.
    pub(super) fn reopen(&self, sink: &RecordSink) {
        // A writer that is stuck gets the next SIGHUP.
        let _ = self.orders.try_send(Order::Open(sink.clone()));
    }

    /// Waits until everything handed over is written, but not for a disk or a pipe that is stuck. Call it when
    /// [`Records`] is gone.
    pub(super) fn finish(self) {
        drop(self.orders);
        let until = Instant::now() + LAST_WAIT;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
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

fn write_all(mut output: Output, orders: &Receiver<Order>, metrics: &Metrics) {
    let mut failing = false;
    while let Ok(order) = orders.recv() {
        match order {
            Order::Write(bytes) => {
                let result = output.write(&bytes);
                if let Err(error) = &result {
                    metrics.record_write_failures.inc();
                    if !failing {
                        tracing::error!(%error, "login records cannot be written; logins go on");
                    }
                }
                failing = result.is_err();
            }
            Order::Open(sink) => match Output::open(&sink) {
                Ok(opened) => output = opened,
                Err(error) => tracing::error!(%error, "login records go on to the file that is open"),
            },
        }
    }
}
