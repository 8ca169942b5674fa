//! When answers leave, and what remains of a login afterwards.

use super::world::{HERE, World, pap};
use crate::counters::Event;
use crate::factor::{Factor, RefusalReason, Verdict};
use crate::testing::client::Answer;
use crate::testing::{self, SECRET, TOTP, approval, config, refusal};

#[test]
fn a_login_is_answered_before_its_client_gives_up() {
    let mut world = World::new(config(TOTP));
    let request = pap(1, "jane", "123456");
    let ask = world.asked(&request);
    // timeout × (retries + 1), half a second less.
    assert_eq!(ask.answer_within.as_millis(), 39_500);
    assert_eq!(ask.of_use, ask.answer_within);
    let deadline = world.engine.next_deadline().unwrap();
    assert_eq!(deadline, testing::at(39_500).monotonic);
    world.out.clear();
    world.now = 39_499;
    world.engine.tick(world.now(), &mut world.out);
    assert!(world.sent().is_empty());
    world.now = 39_500;
    world.engine.tick(world.now(), &mut world.out);
    assert_eq!(Answer::read(&world.sent()[0], &request.bytes(), SECRET).code, 3);
    assert_eq!(world.reason(), "timed_out");
    assert_eq!(world.out.cancels, [ask.login]);
    world.out.clear();
    let late = Verdict::Approved(approval(Factor::Passcode));
    world.engine.verdict(world.now(), ask.login, late, &mut world.out);
    assert!(world.sent().is_empty());
    assert_eq!(world.count(Event::StaleVerdict), 1);
}

#[test]
fn a_push_is_followed_a_while_longer_and_then_cancelled() {
    let mut world = World::new(config(""));
    let ask = world.asked(&pap(1, "jane", "push"));
    assert_eq!(
        (ask.answer_within.as_millis(), ask.of_use.as_millis()),
        (39_500, 60_000)
    );
    for (now, cancels) in [(39_500, 0), (59_999, 0), (60_000, 1)] {
        world.out.clear();
        world.now = now;
        world.engine.tick(world.now(), &mut world.out);
        assert_eq!(world.out.cancels.len(), cancels);
        assert_eq!(world.engine.pending(), 0);
    }
    // What is left is the answer, to be sent again until 69.5 s.
    world.now += 15_000;
    world.engine.tick(world.now(), &mut world.out);
    assert_eq!(world.engine.next_deadline(), None);
    assert_eq!(world.engine.duplicates.held(), (0, 0));
}

#[test]
fn a_login_costs_little_memory_while_it_waits() {
    let size = size_of::<crate::logins::Login>() + size_of::<crate::duplicates::Key>();
    assert!(size <= 1024, "{size} bytes");
}

#[test]
fn every_login_has_one_record_and_holds_nothing_when_it_is_over() {
    let mut world = World::new(config(TOTP));
    let mut records = 0;
    for round in 0..200u8 {
        let request = pap(round, "jane", "123456");
        world.now += 2_000;
        let ask = world.asked(&request);
        let verdict = match round % 2 {
            0 => Verdict::Approved(approval(Factor::Passcode)),
            _ => Verdict::Refused(refusal(RefusalReason::WrongPasscode)),
        };
        world.verdict(ask.login, verdict, &request);
        records += world.out.records.len();
    }
    assert_eq!(records, 200);
    assert_eq!((world.engine.pending(), world.engine.logins.len()), (0, 0));
    assert!(world.engine.duplicates.held().1 <= 16, "answers of 30 s");
}

/// A directory may be configured to wait for 100 s; its user's program gives up much sooner.
#[test]
fn a_user_who_gives_up_and_starts_again_meets_the_first_try_for_the_longest_time_of_a_login_at_most() {
    let start = || {
        let mut config = config("");
        config.clients[0].retries = 4;
        config.clients[0].directory = true;
        let mut world = World::new(config);
        let ask = world.asked(&pap(1, "jane", "push"));
        assert_eq!(ask.answer_within.as_millis(), 59_500);
        assert_eq!(ask.of_use.as_millis(), 60_000);
        world.now = 20_000;
        assert!(world.receive(HERE, &pap(2, "jane", "push").bytes()).is_empty());
        // The user's program has given up, and the user types something else.
        world.now = 26_000;
        assert!(world.receive(HERE, &pap(3, "jane", "phone").bytes()).is_empty());
        assert!(world.out.asks.is_empty() && world.out.records.is_empty());
        (world, ask.login)
    };
    // Nobody approves: the first try is over at 60 s, and the next one starts as usual.
    let (mut world, _) = start();
    world.now = 59_500;
    world.engine.tick(world.now(), &mut world.out);
    assert_eq!(
        Answer::read(&world.sent()[0], &pap(2, "jane", "push").bytes(), SECRET).code,
        3
    );
    world.now = 60_000;
    world.out.clear();
    world.engine.tick(world.now(), &mut world.out);
    assert_eq!(world.out.cancels.len(), 1);
    world.asked(&pap(4, "jane", "own text"));
    world.now = 85_500;
    world.out.clear();
    world.engine.tick(world.now(), &mut world.out);
    assert_eq!(
        Answer::read(&world.sent()[0], &pap(3, "jane", "phone").bytes(), SECRET).code,
        3
    );
    assert_eq!(world.reason(), "push_pending");
    // The user approves or denies the push that is on the phone: it is over at once.
    for verdict in [
        Verdict::Approved(approval(Factor::Push)),
        Verdict::Refused(refusal(RefusalReason::Denied)),
    ] {
        let (mut world, login) = start();
        world.now = 30_000;
        world.verdict(login, verdict, &pap(2, "jane", "push"));
        world.asked(&pap(4, "jane", "own text"));
    }
    // A code is judged by itself at any time.
    let (mut world, _) = start();
    world.asked(&pap(4, "jane", "123456"));
}
