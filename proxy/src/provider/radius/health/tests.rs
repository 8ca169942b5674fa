use super::*;
use crate::provider::testing::user;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A server that was silent on so many users, each a second after the other.
fn silent_on(health: &mut Health, users: &[&str], start: Instant) -> Vec<Change> {
    (0..)
        .zip(users)
        .map(|(n, name)| health.silent(&user(name), start, start + seconds(n)))
        .collect()
}

#[test]
fn silence_says_nothing_when_something_was_heard_since_the_question() {
    let start = Instant::now();
    let mut health = Health::default();
    assert_eq!(health.answered(start + seconds(5)), Change::None);
    let silent = silent_on(&mut health, &["jane", "joe", "ann", "bob"], start + seconds(4));
    assert_eq!(silent, [Change::None; 4]);
    assert_eq!(health.state(), State::Alive);
}

#[test]
fn the_silence_of_one_user_makes_a_zombie_and_that_of_several_a_dead_server() {
    let start = Instant::now();
    let mut health = Health::new(Intervals::default());
    let again = silent_on(&mut health, &["jane", "JANE", "LAB\\jane"], start);
    assert_eq!(again, [Change::Suspected, Change::None, Change::None]);
    assert_eq!(
        (health.state(), health.standing(start)),
        (State::Zombie, Standing::Up)
    );
    // An answer to anybody clears it.
    assert_eq!(health.answered(start + seconds(1)), Change::None);
    assert_eq!(health.state(), State::Alive);
    let several = silent_on(&mut health, &["jane", "joe", "ann"], start + seconds(2));
    assert_eq!(several, [Change::Suspected, Change::None, Change::Died]);
    assert!(!health.is_lost(start), "nobody has proved it");
    assert_eq!(health.answered(start + seconds(9)), Change::Revived);
    assert_eq!(health.state(), State::Alive);
}

#[test]
fn a_login_without_an_answer_after_the_zombie_period_makes_a_dead_server() {
    let start = Instant::now();
    let mut health = Health::new(Intervals::default());
    assert_eq!(health.silent(&user("jane"), start, start), Change::Suspected);
    assert_eq!(
        health.silent(&user("jane"), start, start + seconds(39)),
        Change::None
    );
    assert_eq!(
        health.silent(&user("jane"), start, start + seconds(40)),
        Change::Died
    );
}

#[test]
fn only_the_host_and_status_server_prove_that_a_login_is_lost() {
    let start = Instant::now();
    let mut health = Health::default();
    health.refused(start + seconds(2));
    assert!(health.is_lost(start + seconds(1)));
    assert!(!health.is_lost(start + seconds(3)), "it may listen by now");
    let mut health = Health::default();
    health.status_answered(start);
    assert!(!health.is_lost(start));
    health.status_silent(start + seconds(1), start + seconds(4));
    assert!(health.is_lost(start + seconds(9)));
}

#[test]
fn a_late_answer_to_status_server_revives_only_what_never_answers_in_time() {
    let start = Instant::now();
    let mut health = Health::default();
    health.refused(start);
    assert_eq!(health.status_answered_late(start), Change::Revived);
    assert!(!health.knows_status());
    health.status_answered(start);
    health.status_silent(start + seconds(1), start + seconds(4));
    assert_eq!(health.status_answered_late(start + seconds(5)), Change::None);
    assert_eq!(health.state(), State::Dead);
}

#[test]
fn silence_on_status_server_means_nothing_before_one_was_answered() {
    let start = Instant::now();
    let mut health = Health::default();
    assert_eq!(health.status_silent(start, start + seconds(3)), Change::None);
    health.status_answered(start + seconds(4));
    assert_eq!(
        health.status_silent(start + seconds(5), start + seconds(8)),
        Change::Died
    );
}

#[test]
fn three_answers_in_a_row_revive() {
    let start = Instant::now();
    let mut health = Health::default();
    assert_eq!(health.refused(start), Change::Died);
    health.status_asked(start);
    assert_eq!(health.next_status(start + seconds(1)), seconds(4));
    assert_eq!(health.status_answered(start), Change::None);
    assert_eq!(health.next_status(start), seconds(1));
    assert_eq!(health.status_answered(start), Change::None);
    assert_eq!(
        health.status_silent(start + seconds(1), start + seconds(4)),
        Change::None
    );
    for expected in [Change::None, Change::None, Change::Revived] {
        assert_eq!(health.status_answered(start + seconds(9)), expected);
    }
    assert_eq!(health.state(), State::Alive);
}

#[test]
fn a_dead_server_gets_one_login_as_a_trial_each_half_minute() {
    let start = Instant::now();
    let mut health = Health::default();
    health.refused(start);
    assert_eq!(health.standing(start + seconds(29)), Standing::Down);
    assert_eq!(health.standing(start + seconds(30)), Standing::Trial);
    assert_eq!(health.standing(start + seconds(31)), Standing::Down);
    assert_eq!(health.answered(start + seconds(32)), Change::Revived);
    assert_eq!(health.standing(start + seconds(32)), Standing::Up);
}

#[test]
fn a_server_that_is_heard_is_not_asked_for_its_health() {
    let start = Instant::now();
    let mut health = Health::default();
    assert_eq!(health.next_status(start), Duration::ZERO);
    health.answered(start);
    assert_eq!(health.next_status(start + seconds(10)), seconds(20));
    assert_eq!(health.next_status(start + seconds(100)), Duration::ZERO);
    assert!(!health.is_doubtful(start));
    assert!(health.is_doubtful(start + seconds(1)));
    health.status_asked(start + seconds(1));
    assert!(!health.is_doubtful(start + seconds(1)));
}
