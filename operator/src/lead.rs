//! What runs while this replica leads: the controllers. They are built when the lease is won and dropped when it is lost, so
//! that a deposed leader stops at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::leader::Leadership;

/// How often the loop shows that it is alive, and how long it may stand still.
const TICK: Duration = Duration::from_secs(2);
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// Runs `controllers` whenever this replica leads, with a token that is cancelled when the term is over; `deposed` is called
/// when the lease is lost. After `stop` no term begins, and the end of the last one is waited for.
pub(crate) async fn run<T: Future<Output = ()>>(
    mut leadership: Leadership,
    health: Health,
    stop: CancellationToken,
    controllers: impl Fn(CancellationToken) -> T,
    deposed: impl Fn(),
) {
    let heartbeat = health.expect_heartbeat("the controllers", MAX_SILENCE);
    loop {
        heartbeat.beat();
        if stop.is_cancelled() {
            return;
        }
        if !leadership.leads() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = leadership.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            continue;
        }
        let over = CancellationToken::new();
        let _guard = over.clone().drop_guard();
        let mut term = Box::pin(controllers(over));
        loop {
            heartbeat.beat();
            tokio::select! {
                biased;
                () = leadership.lost() => break,
                () = &mut term => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
        drop(term);
        deposed();
    }
}
