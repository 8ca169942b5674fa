//! A push or call that is under way, here or from another proxy: followed to its end.

use std::time::{Duration, Instant};

use proxy_core::factor::{Factor, RefusalReason, Verdict};

use super::{Deadline, Duo, Started};
use crate::provider::fault::{FaultClass, Step};
use crate::provider::{refused, strange_handle};

/// Between two questions after a failed one, while a push is on somebody's phone.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// An answer that a transaction still waits takes this long: Duo holds it back until something changes.
const WAITING_AT_LEAST: Duration = Duration::from_secs(1);
/// Refusals in a row that end the following of a push.
const STATUS_REFUSALS: u32 = 3;

impl Duo {
    /// Follows a transaction to its end. A call that fails is made again while there is time: the push is on a phone,
    /// and its owner is about to answer it.
    pub(super) async fn follow(&self, factor: Factor, txid: &str, deadline: Instant) -> Verdict {
        let (mut refusals, mut told) = (0, false);
        loop {
            let asked = Instant::now();
            let fault = match self.api.status(txid, Deadline::at(deadline)).await {
                Ok(outcome) if outcome.result == "waiting" => {
                    refusals = 0;
                    // The first answer comes at once and tells of the push; the next one waits for its end. Whatever
                    // goes on answering at once must not make this a loop without a pause.
                    if told && asked.elapsed() < WAITING_AT_LEAST {
                        tokio::time::sleep(WAITING_AT_LEAST).await;
                    }
                    told = true;
                    continue;
                }
                Ok(outcome) => return self.end(factor, &outcome),
                Err(fault) => fault,
            };
            // 40002 also says that the long poll ran out.
            refusals += u32::from(matches!(
                fault.class,
                FaultClass::ClientError | FaultClass::Credentials
            ));
            let left = deadline.saturating_duration_since(Instant::now());
            if left <= STATUS_PAUSE || refusals >= STATUS_REFUSALS {
                if matches!(
                    fault.class,
                    FaultClass::Timeout | FaultClass::Busy | FaultClass::ClientError
                ) {
                    return refused(Some(factor), RefusalReason::TimedOut, "Nobody answered in time.");
                }
                return self.failed(Step::Status, &fault);
            }
            tokio::time::sleep(STATUS_PAUSE).await;
        }
    }
}

/// How other proxies follow a transaction.
pub(super) fn handle(factor: Factor, txid: &str) -> String {
    format!("{} {txid}", factor.name())
}

/// A push of another proxy.
pub(super) fn followed(handle: &str) -> Started {
    match parse_handle(handle) {
        Some((factor, txid)) => Started::Waiting {
            factor,
            txid: txid.to_owned(),
        },
        None => Started::Ended(strange_handle()),
    }
}

fn parse_handle(handle: &str) -> Option<(Factor, &str)> {
    let (factor, txid) = handle.split_once(' ')?;
    let factors = [Factor::Auto, Factor::Push, Factor::Phone];
    let factor = factors.into_iter().find(|known| known.name() == factor)?;
    (!txid.is_empty()).then_some((factor, txid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_what_is_followed_and_nothing_else_is() {
        assert_eq!(
            parse_handle(&handle(Factor::Phone, "45f7")),
            Some((Factor::Phone, "45f7"))
        );
        for text in [
            "",
            "push",
            "push ",
            "passcode 45f7",
            "https://elsewhere.example/ x",
        ] {
            assert_eq!(parse_handle(text), None, "{text}");
        }
    }
}
