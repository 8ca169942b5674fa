//! Used codes in ConfigMaps that the operator makes: each write names the version that it was decided on, so that the
//! API server refuses it when another proxy has written meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::ledger::Ledger;
use super::{Claim, LIMIT, Outcome, Store};
use crate::kubernetes::ApiServer;
use crate::locks::lock;
use crate::provider::BoxFuture;
use crate::provider::fault::{Fault, FaultClass};
use crate::provider::http::Answer;

/// The key of each ConfigMap.
const KEY: &str = "used";
const CORE: [&str; 2] = ["api", "v1"];
/// Claims that wait for one ConfigMap.
const MAX_WAITING: usize = 4096;
/// Claims of one write.
const MAX_GROUP: usize = 1024;
/// One call, within [`LIMIT`]: a second one should be possible.
const CALL: Duration = Duration::from_millis(1500);

/// ConfigMaps over which users are spread.
pub struct ConfigMaps {
    api: Arc<ApiServer>,
    shards: Vec<Shard>,
}

/// One ConfigMap, written by one task, so that all claims that come during a write make the next one together.
struct Shard {
    name: Arc<str>,
    queue: Mutex<Option<mpsc::Sender<Order>>>,
}

/// A claim, and who waits for its outcome.
struct Order {
    claim: Claim,
    now: u64,
    reply: oneshot::Sender<Result<Outcome, Fault>>,
}

/// A ConfigMap as it was last read or written.
struct Known {
    version: String,
    ledger: Ledger,
}

#[derive(Deserialize)]
struct Read {
    metadata: Metadata,
    #[serde(default)]
    data: Data,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "resourceVersion")]
    version: String,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    used: String,
}

impl ConfigMaps {
    /// The ConfigMaps of these names, in the pod's namespace.
    #[must_use]
    pub fn new(api: ApiServer, names: &[String]) -> Self {
        Self {
            api: Arc::new(api),
            shards: names
                .iter()
                .map(|name| Shard {
                    name: name.as_str().into(),
                    queue: Mutex::new(None),
                })
                .collect(),
        }
    }

    fn put(&self, claim: Claim, now: u64) -> Result<oneshot::Receiver<Result<Outcome, Fault>>, Fault> {
        let shard = self
            .shards
            .get(claim.owner.shard(self.shards.len()))
            .ok_or_else(|| nothing_sent("there is no ConfigMap"))?;
        let (reply, outcome) = oneshot::channel();
        let mut queue = lock(&shard.queue);
        let sender = match queue.as_ref().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            // Here, since there is a runtime where claims are made, and none where a configuration is loaded.
            None => {
                let (sender, orders) = mpsc::channel(MAX_WAITING);
                tokio::spawn(write_all(Arc::clone(&self.api), Arc::clone(&shard.name), orders));
                queue.insert(sender)
            }
        };
        match sender.try_send(Order { claim, now, reply }) {
            Ok(()) => Ok(outcome),
            Err(TrySendError::Full(_)) => Err(nothing_sent("too many claims are waiting")),
            Err(TrySendError::Closed(_)) => Err(nothing_sent("the proxy is ending")),
        }
    }
}

impl Store for ConfigMaps {
    fn take(self: Arc<Self>, claim: Claim, now: u64) -> BoxFuture<Result<Outcome, Fault>> {
        Box::pin(async move {
            let outcome = self.put(claim, now)?;
            outcome
                .await
                .unwrap_or_else(|_| Err(nothing_sent("the proxy is ending")))
        })
    }

    fn reach(self: Arc<Self>) -> BoxFuture<Result<(), Fault>> {
        Box::pin(async move {
            for shard in &self.shards {
                read(&self.api, &shard.name).await?;
            }
            Ok(())
        })
    }

    fn name(&self) -> &'static str {
        "kubernetes"
    }
}

fn nothing_sent(detail: &str) -> Fault {
    Fault::before_sending(FaultClass::Connect, detail)
}

/// Writes what comes in, a group at a time, until the store is gone.
async fn write_all(api: Arc<ApiServer>, name: Arc<str>, mut orders: mpsc::Receiver<Order>) {
    let mut known = None;
    let mut group = Vec::new();
    while orders.recv_many(&mut group, MAX_GROUP).await > 0 {
        settle(&api, &name, &mut known, std::mem::take(&mut group)).await;
    }
}

/// Answers every order of a group. Each round has one writer that gets through, so that it ends; and whoever has
/// waited for [`LIMIT`] is gone by then.
async fn settle(api: &ApiServer, name: &str, known: &mut Option<Known>, mut group: Vec<Order>) {
    loop {
        // A login that is over must not use a code up.
        group.retain(|order| !order.reply.is_closed());
        let Some(now) = group.iter().map(|order| order.now).max() else {
            return;
        };
        let before = match known.take() {
            Some(before) => before,
            None => match read(api, name).await {
                Ok(read) => read,
                Err(fault) => return answer_all(group, &fault),
            },
        };
        let mut ledger = before.ledger.clone();
        let outcomes = ledger.settle(group.iter().map(|order| order.claim), now);
        let mut taken = Vec::new();
        for (order, outcome) in group.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Taken => taken.push(order),
                // What was used stays used, whatever others have written meanwhile.
                other => answer(order, Ok(other)),
            }
        }
        if taken.is_empty() {
            *known = Some(before);
            return;
        }
        match write(api, name, &before.version, &ledger).await {
            Ok(Some(version)) => {
                *known = Some(Known { version, ledger });
                for order in taken {
                    answer(order, Ok(Outcome::Taken));
                }
                return;
            }
            // Another proxy was faster: look at what it wrote.
            Ok(None) => group = taken,
            // It may have been written all the same; the next group reads it anew.
            Err(fault) => return answer_all(taken, &fault),
        }
    }
}

fn answer(order: Order, outcome: Result<Outcome, Fault>) {
    // Who waits no longer has had his answer.
    let _ = order.reply.send(outcome);
}

fn answer_all(group: Vec<Order>, fault: &Fault) {
    for order in group {
        answer(order, Err(fault.clone()));
    }
}

async fn read(api: &ApiServer, name: &str) -> Result<Known, Fault> {
    let read: Read = parse(&api.read(&CORE, "configmaps", name, CALL.min(LIMIT)).await?)?;
    let (ledger, left_out) = Ledger::parse(&read.data.used);
    if left_out > 0 {
        tracing::warn!(
            config_map = name,
            left_out,
            "lines of used codes cannot be read; they are left out"
        );
    }
    Ok(Known {
        version: read.metadata.version,
        ledger,
    })
}

/// The new version; `None` when the object is no longer at `version`.
async fn write(api: &ApiServer, name: &str, version: &str, ledger: &Ledger) -> Result<Option<String>, Fault> {
    let patch = json!({"metadata": {"resourceVersion": version}, "data": {KEY: ledger.to_text()}});
    let written = api
        .patch(&CORE, "configmaps", name, patch.to_string(), CALL.min(LIMIT))
        .await?;
    match written {
        Some(answer) => parse::<Read>(&answer).map(|read| Some(read.metadata.version)),
        None => Ok(None),
    }
}

fn parse<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Fault> {
    serde_json::from_slice(&answer.body)
        .map_err(|_| Fault::after_sending(FaultClass::Malformed, "the API server's answer is no ConfigMap"))
}
