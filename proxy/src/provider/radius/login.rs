//! One login at several servers: who is asked, when again, and who next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_core::factor::UserName;
use tokio::sync::mpsc;

use super::answer::{Answer, Flaw};
use super::health::Standing;
use super::lane::{Heard, Kind, Seat};
use super::packet::Question;
use super::retransmit::Schedule;
use super::server::{Server, flawed, random_byte, silence};
use crate::provider::fault::{Fault, FaultClass, Step};

/// Answers that a login has not looked at yet; a server sends one, and some send it again.
const UNREAD: usize = 16;

/// How a server is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long one try waits.
    pub(super) timeout: Duration,
    /// Tries at one server.
    pub(super) tries: u32,
}

/// When a login ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Its client has its answer: every server must have had its turn by then.
    pub(super) answer: Instant,
    /// An approval is of no use any more.
    pub(super) of_use: Instant,
}

/// A server that was asked. While this lives, its answer is listened to.
struct Asked {
    server: Arc<Server>,
    seat: Seat,
    packet: Vec<u8>,
    begun: Instant,
    flaw: Option<Flaw>,
}

/// How asking one server ended.
enum End {
    /// An answer came: from it, or from one asked before.
    Answered(usize, Answer),
    /// It is the next one's turn.
    Next(Fault),
}

/// Asks the servers in order, for the user `asker`, until one has answered. A late answer of a server that was given up
/// still counts.
///
/// # Errors
/// No valid answer while one is of use: the most telling of what went wrong.
pub(super) async fn ask(
    servers: &[Arc<Server>],
    asker: &UserName,
    question: &Question,
    patience: Patience,
    ends: Ends,
) -> Result<(Arc<Server>, Answer), Fault> {
    let (to, mut heard) = mpsc::channel(UNREAD);
    let order = order(servers);
    let mut asked: Vec<Asked> = Vec::new();
    let mut worst: Option<Fault> = None;
    let count = u32::try_from(order.len()).unwrap_or(u32::MAX);
    for (done, (server, tries)) in (0..).zip(order) {
        let left = ends.answer.saturating_duration_since(Instant::now());
        // Each server that is still to come gets as much of the client's patience as this one.
        let until = Instant::now() + left / count.saturating_sub(done).max(1);
        let begun = Instant::now();
        let schedule = Schedule::new(patience.timeout, tries.unwrap_or(patience.tries));
        let end = match begin(server, question, asked.len(), &to).await {
            Ok(one) => {
                asked.push(one);
                wait(&mut asked, &mut heard, asker, schedule, until).await
            }
            Err(fault) => End::Next(fault),
        };
        match end {
            End::Answered(tag, answer) => return answered(&mut asked, tag, answer),
            End::Next(fault) => {
                failed(server, &fault, begun);
                worst = Some(more_telling(worst, fault));
            }
        }
    }
    // All were asked. A server that isn't known to be dead may be waiting for a user to pick up a phone.
    while asked
        .iter()
        .any(|one| !one.server.peer.is_lost(one.begun) && one.flaw.is_none())
    {
        match tokio::time::timeout_at(ends.of_use.into(), heard.recv()).await {
            Ok(Some(Heard {
                tag,
                what: Ok(answer),
            })) => return answered(&mut asked, tag, answer),
            Ok(Some(Heard { tag, what: Err(flaw) })) => note(&mut asked, tag, flaw),
            Ok(None) | Err(_) => break,
        }
    }
    Err(worst.unwrap_or_else(|| Fault::before_sending(FaultClass::Connect, "there is no server")))
}

/// The servers that are up, in the order of the configuration, then those that are down. A server that is due for a trial
/// keeps its place; it gets one try if another server is up. A server that Status-Server has shown to be down gets one try,
/// too. Any other gets all tries: its users may only have ignored their phones, and people need 5 to 15 seconds for a push.
fn order(servers: &[Arc<Server>]) -> Vec<(&Arc<Server>, Option<u32>)> {
    let now = Instant::now();
    let is_one_up = servers.iter().any(|server| server.peer.is_up());
    let mut order: Vec<_> = servers
        .iter()
        .map(|server| {
            let known_down = server.peer.knows_status();
            match server.peer.standing(now) {
                Standing::Up => (0, server, None),
                Standing::Trial => (0, server, (is_one_up || known_down).then_some(1)),
                Standing::Down => (1, server, known_down.then_some(1)),
            }
        })
        .collect();
    order.sort_by_key(|(rank, ..)| *rank);
    order
        .into_iter()
        .map(|(_, server, tries)| (server, tries))
        .collect()
}

async fn begin(
    server: &Arc<Server>,
    question: &Question,
    tag: usize,
    to: &mpsc::Sender<Heard>,
) -> Result<Asked, Fault> {
    let seat = server.seat(Kind::Access, tag, to).await?;
    let packet = server
        .peer
        .key()
        .access_request(seat.header, question)
        .ok_or_else(|| {
            Fault::before_sending(
                FaultClass::ClientError,
                "the attributes do not fit into one packet",
            )
        })?;
    Ok(Asked {
        server: Arc::clone(server),
        seat,
        packet,
        begun: Instant::now(),
        flaw: None,
    })
}

/// Sends to the server asked last, again and again, until an answer has come or it is given up: it is proved dead, it
/// answers with what must be discarded, all tries are used up, or its share of the budget is.
async fn wait(
    asked: &mut [Asked],
    heard: &mut mpsc::Receiver<Heard>,
    asker: &UserName,
    mut schedule: Schedule,
    until: Instant,
) -> End {
    let Some(current) = asked.last() else {
        return End::Next(silence(Duration::ZERO));
    };
    let (server, begun) = (Arc::clone(&current.server), current.begun);
    // One that is down already is asked all the same: there is no better one, or it is its trial.
    let mut proved = server.peer.lost();
    let suspicion = tokio::time::sleep(server.pace.suspicion);
    tokio::pin!(suspicion);
    let mut suspected = false;
    let mut again = Instant::now();
    loop {
        let now = Instant::now();
        if now >= again || now >= until {
            let timeout = if now >= until {
                None
            } else {
                schedule.next(random_byte())
            };
            match next(asked, asker, timeout).await {
                Ok(timeout) => again = Instant::now() + timeout,
                Err(fault) => return End::Next(fault),
            }
        }
        tokio::select! {
            biased;
            Some(Heard { tag, what }) = heard.recv() => match what {
                Ok(answer) => return End::Answered(tag, answer),
                Err(flaw) => {
                    note(asked, tag, flaw);
                    if flaw.is_the_servers() && tag + 1 == asked.len() {
                        return End::Next(flawed(flaw));
                    }
                }
            },
            Ok(()) = proved.changed() => {
                if server.peer.is_lost(begun) {
                    return End::Next(lost(begun));
                }
            }
            () = &mut suspicion, if !suspected => {
                suspected = true;
                server.suspect();
            }
            () = tokio::time::sleep_until(again.min(until).into()) => {}
        }
    }
}

/// The next sending, after which an answer is waited for so long; the error ends the asking of this server.
async fn next(asked: &[Asked], asker: &UserName, timeout: Option<Duration>) -> Result<Duration, Fault> {
    let Some(current) = asked.last() else {
        return Err(silence(Duration::ZERO));
    };
    // It would answer the same packet in the same way.
    if let Some(flaw) = current.flaw {
        return Err(flawed(flaw));
    }
    let Some(timeout) = timeout else {
        current.server.peer.silent(asker, current.begun);
        return Err(silence(current.begun.elapsed()));
    };
    match current.seat.send(&current.packet).await {
        Ok(()) => Ok(timeout),
        Err(error) => Err(Fault::before_sending(FaultClass::Connect, error.to_string())),
    }
}

fn note(asked: &mut [Asked], tag: usize, flaw: Flaw) {
    if let Some(one) = asked.get_mut(tag) {
        one.flaw = Some(flaw);
    }
}

fn answered(asked: &mut [Asked], tag: usize, answer: Answer) -> Result<(Arc<Server>, Answer), Fault> {
    let one = asked
        .get(tag)
        .ok_or_else(|| Fault::before_sending(FaultClass::Malformed, "an answer is of no request"))?;
    let took = one.begun.elapsed();
    one.server.called(Step::Auth, None, took);
    Ok((Arc::clone(&one.server), answer))
}

fn failed(server: &Server, fault: &Fault, begun: Instant) {
    server.called(Step::Auth, Some(fault.class), begun.elapsed());
    tracing::debug!(server = server.peer.name(), %fault, "an upstream server was given up for a login");
}

fn lost(begun: Instant) -> Fault {
    Fault::after_sending(
        FaultClass::Connect,
        format!(
            "the server was found dead after {:.1} s",
            begun.elapsed().as_secs_f32()
        ),
    )
}

/// A wrong secret is told before a wrong packet, that before a shortage here, and silence last.
fn more_telling(one: Option<Fault>, other: Fault) -> Fault {
    let rank = |fault: &Fault| match fault.class {
        FaultClass::Credentials => 0,
        FaultClass::Malformed => 1,
        FaultClass::ClientError => 2,
        FaultClass::Throttled => 3,
        FaultClass::Dns => 4,
        _ => 5,
    };
    match one {
        Some(one) if rank(&one) <= rank(&other) => one,
        _ => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_failure_is_told() {
        let fault = |class| Fault::after_sending(class, "");
        let mut worst = None;
        for (class, told) in [
            (FaultClass::Timeout, FaultClass::Timeout),
            (FaultClass::Dns, FaultClass::Dns),
            (FaultClass::Connect, FaultClass::Dns),
            (FaultClass::Malformed, FaultClass::Malformed),
            (FaultClass::Credentials, FaultClass::Credentials),
            (FaultClass::Timeout, FaultClass::Credentials),
        ] {
            worst = Some(more_telling(worst, fault(class)));
            assert_eq!(worst.as_ref().map(|fault| fault.class), Some(told));
        }
    }
}
