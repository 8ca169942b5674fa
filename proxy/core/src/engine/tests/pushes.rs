//! One login, one push; one approval, at most one accepted login: the table of cases.
//!
//! The client's timeout is 20 s with one retry, so a login is answered at 39.5 s at the latest; a push that is approved
//! after that serves one further try, and is followed until 60 s, a login's longest time. Each line is a time in
//! seconds, what happens, and what comes of it:
//!
//! - `packet NAME USER TEXT [from ADDRESS] [as NAME] [by METHOD] [unsigned]`: a new packet; `as` gives it the port and
//!   identifier of another; without `by` it is PAP
//! - `again NAME`: its retransmission
//! - `approve N`, `deny N`, `pushed N`: what the provider says of its Nth question, counted from 0
//! - `tick`: time passes
//!
//! and `ask N`, `accept NAME`, `reject NAME REASON`, `resend NAME`, `silent REASON` (a record without an answer),
//! `cancel N`, or `-` for nothing.

use self::table::play;
use super::world::World;
use crate::counters::Event;
use crate::factor::{Factor, Verdict};
use crate::testing::client::Build;
use crate::testing::{SECRET, UPSTREAM, approval, config, config_with};

mod codes;
mod strangers;
mod table;

const CASES: &[(&str, &str)] = &[
    (
        "a retransmission waits in silence and gets the bytes of the one answer",
        "0 packet a jane pw -> ask 0
         20 again a -> -
         30 approve 0 -> accept a
         31 again a -> resend a
         59 again a -> resend a",
    ),
    (
        "an answer is forgotten after 30 s",
        "0 packet a jane pw -> ask 0
         5 deny 0 -> reject a denied
         36 again a -> ask 1",
    ),
    (
        "the client's next try joins, and only it gets the accept",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         25 approve 0 -> accept b
         26 again a -> -
         26 again b -> resend b",
    ),
    (
        "a retransmission of a replaced packet stays silent while the push waits",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         21 again a -> -
         25 deny 0 -> reject b denied",
    ),
    (
        "a client that has used up its tries sends no further one of the same login",
        "0 packet a jane push -> ask 0
         19 packet b jane push -> -
         38 packet c jane push -> -
         39 approve 0 -> accept b",
    ),
    (
        "another spelling of the user is the same user",
        "0 packet a jane pw -> ask 0
         5 packet b CORP\\Jane pw from 192.0.2.2 -> -
         25 packet c jane@corp.example pw from 192.0.2.2 -> -
         30 approve 0 -> accept a
         44.5 tick -> reject c push_pending",
    ),
    (
        "another factor is not the same try",
        "0 packet a jane push -> ask 0
         20 packet b jane phone -> -
         25 approve 0 -> accept a",
    ),
    (
        "other users do not wait for each other",
        "0 packet a jane pw -> ask 0
         1 packet b joe pw -> ask 1
         2 approve 1 -> accept b
         3 approve 0 -> accept a",
    ),
    (
        "nobody approves: the newest packet is answered at the deadline of the first",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         39.5 tick -> reject b timed_out
         60 tick -> cancel 0",
    ),
    (
        "a late approval serves one further try, once",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         45 approve 0 -> -
         50 packet b jane pw -> accept b
         51 again b -> resend b
         52 packet c jane pw -> ask 1",
    ),
    (
        "a late approval serves nobody else and not for long",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         45 approve 0 -> -
         50 packet b jane pw from 192.0.2.2 -> ask 1
         51 deny 1 -> reject b denied
         52 packet c jane guess -> ask 2
         53 deny 2 -> reject c denied
         75 packet d jane pw -> ask 3",
    ),
    (
        "a try after the deadline joins the push that still waits: no second push",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         42 packet b jane pw -> -
         50 approve 0 -> accept b
         51 packet c jane pw -> ask 1",
    ),
    (
        "a try after the deadline from elsewhere gets silence while the push still waits",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         42 packet b jane pw from 192.0.2.2 -> -
         50 approve 0 -> -
         51 packet c jane pw -> accept c",
    ),
    (
        "an approval that comes twice accepts once",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         6 approve 0 -> -
         7 packet b jane pw -> ask 1",
    ),
    (
        "a denial after the deadline answers nobody and cools down",
        "0 packet a jane pw -> ask 0
         1 pushed 0 -> -
         39.5 tick -> reject a timed_out
         45 deny 0 -> -
         46 packet b jane pw -> reject b throttled
         56 packet c jane pw -> ask 1",
    ),
    (
        "the port and identifier used again by the next try: it joins",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw as a -> -
         25 approve 0 -> accept b",
    ),
    (
        "the port and identifier used again too early: a rival, and the approval is kept for a further try",
        "0 packet a jane pw -> ask 0
         5 packet b jane pw as a -> silent superseded
         6 again b -> -
         10 approve 0 -> -
         12 packet c jane pw -> accept c
         44.5 tick -> reject b push_pending",
    ),
    (
        "the port and identifier used again after half the timeout: its client has given up the packet for the new one",
        "0 packet a jane push -> ask 0
         2 packet b jane push -> -
         10 packet c jane push as a -> -
         15 approve 0 -> accept c",
    ),
    (
        "the port and identifier used again with another text: a rival, and the first has lost its client",
        "0 packet a jane pw -> ask 0
         5 packet b jane guess as a -> silent superseded
         6 again b -> -
         10 approve 0 -> -
         12 packet c jane pw -> accept c
         44.5 tick -> reject b push_pending",
    ),
    (
        "the port and identifier used again for another user: the first has lost its client",
        "0 packet a jane pw -> ask 0
         5 packet b joe pw as a -> ask 1, silent superseded
         6 approve 0 -> -
         7 approve 1 -> accept b",
    ),
    (
        "the port and identifier of a replaced packet used again: its answer is resent, also when the login is over",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         21 packet c jane guess as a -> -
         22 again c -> -
         25 approve 0 -> accept b
         26 again c -> -
         60.5 tick -> reject c push_pending
         61 again c -> resend c",
    ),
    (
        "three tries in a row are one push",
        "0 packet a jane pw -> ask 0
         20 packet b jane pw -> -
         39.4 packet c jane pw -> -
         39.5 tick -> reject c timed_out
         58.5 packet d jane pw -> -
         59 approve 0 -> accept d
         60 again c -> resend c",
    ),
    (
        "a login is over after its longest time, whoever has joined it",
        "0 packet a jane pw -> ask 0
         39.5 tick -> reject a timed_out
         42 packet b jane pw -> -
         59.5 tick -> reject b timed_out
         60 tick -> cancel 0
         60.1 packet c jane pw -> ask 1",
    ),
];

/// The same where an upstream server decides about responses that nobody here can read.
const UPSTREAM_CASES: &[(&str, &str)] = &[
    (
        "another response joins no login, the same one does",
        "0 packet a jane pw by METHOD -> ask 0
         20 packet b jane guess by METHOD -> -
         21 packet c jane pw by METHOD -> -
         25 approve 0 -> accept c",
    ),
    (
        "a late approval serves the response that the server has seen, and no other",
        "0 packet a jane pw by METHOD -> ask 0
         39.5 tick -> reject a timed_out
         45 approve 0 -> -
         50 packet b jane guess by METHOD -> ask 1
         51 deny 1 -> reject b denied
         52 packet c jane pw by METHOD -> accept c",
    ),
    (
        "a response that is typed as text is not that response",
        "0 packet a jane pw by METHOD -> ask 0
         20 packet b jane pw -> -
         25 approve 0 -> accept a",
    ),
];

/// Requests without a proof, from a client for which they may start a push.
const UNPROVEN_CASES: &[(&str, &str)] = &[
    (
        "what proves nothing joins no login that was proved, also after its deadline, and takes no late approval of it",
        "0 packet a jane push by METHOD -> ask 0
         20 packet b jane push by METHOD unsigned -> -
         39.5 tick -> reject a timed_out
         43 packet c jane push by METHOD unsigned -> -
         45 approve 0 -> -
         50 packet d jane push by METHOD unsigned -> ask 1
         51 deny 1 -> reject d denied
         52 packet e jane push by METHOD -> accept e",
    ),
    (
        "a login that a proved packet has joined is a proved one",
        "0 packet a jane push by METHOD unsigned -> ask 0
         20 packet b jane push by METHOD -> -
         39.5 tick -> reject b timed_out
         42 packet c jane push by METHOD unsigned -> -
         45 approve 0 -> -
         46 packet d jane push by METHOD -> accept d",
    ),
];

#[test]
fn every_order_of_packets_verdicts_and_time_has_its_answer() {
    for cases in [CASES, strangers::CASES, codes::CASES] {
        play(cases, "", || config(""));
    }
}

#[test]
fn an_accept_goes_only_to_the_response_that_an_upstream_server_was_asked_about() {
    for method in ["chap", "mschapv1", "mschapv2"] {
        play(UPSTREAM_CASES, method, || config(UPSTREAM));
    }
}

#[test]
fn a_proof_that_a_login_had_is_kept_to_its_end() {
    for method in ["chap", "mschapv1", "mschapv2"] {
        play(UNPROVEN_CASES, method, || {
            config_with(
                "",
                "unauthenticated_push = true\nmessage_authenticator = \"never\"",
            )
        });
    }
}

#[test]
fn an_unsigned_packet_does_not_take_the_place_of_a_signed_one() {
    let mut world = World::new(config_with("", "unauthenticated_push = true"));
    let signed = Build::access(1, 1, SECRET).user("jane").chap("push");
    let ask = world.asked(&signed);
    world.now = 20_000;
    // From another address that has not signed, so that it is not dropped at once; and from the same one it would be.
    let forged = Build::access(1, 2, SECRET).user("jane").chap("push").unsigned();
    assert_eq!(
        world.dropped(&forged),
        crate::counters::DropReason::NoMessageAuthenticator
    );
    let answer = world.verdict(ask.login, Verdict::Approved(approval(Factor::Push)), &signed);
    assert_eq!((answer.code, world.count(Event::Accepted)), (2, 1));
}
