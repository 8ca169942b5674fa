//! A push over several proxies, case by case.

use super::group::Group;
use crate::factor::{RefusalReason, Verdict};
use crate::peers::Body;
use crate::testing::refusal;

mod histories;

const DC: &str = "192.0.2.1";

/// A push that was started at node 0 and is known to all others.
fn started(size: usize) -> Group {
    started_with(size, "pw")
}

fn started_with(size: usize, text: &str) -> Group {
    let client = if text == "pw" { "" } else { "directory = true" };
    let mut group = Group::of(size, client);
    group.packet(0, "jane", text, DC);
    group.wait(1000, |group| group.settle(&[]));
    assert_eq!(std::mem::take(&mut group.outcomes), ["0 pushes"]);
    group
}

fn until(group: &mut Group, milliseconds: u64, cut: &[usize]) {
    let left = milliseconds - group.now;
    group.wait(left, |group| group.settle(cut));
}

fn outcomes(group: &mut Group) -> Vec<String> {
    group.settle(&[]);
    std::mem::take(&mut group.outcomes)
}

#[test]
fn a_push_survives_the_death_of_its_proxy() {
    for size in [2, 3, 4] {
        let mut group = started(size);
        group.crash(0);
        until(&mut group, 20_000, &[0]);
        group.packet(1, "jane", "pw", DC);
        until(&mut group, 24_000, &[0]);
        group.approve_at(1);
        group.settle(&[0]);
        assert_eq!(
            outcomes(&mut group),
            ["1 follows", "1 accepts followed"],
            "{size}"
        );
        assert_eq!(group.pushes, 1);
    }
}

#[test]
fn a_push_can_be_followed_as_soon_as_everybody_who_is_there_has_seen_it() {
    for size in [2, 3] {
        let mut group = Group::new(size);
        group.hear(&(0..size).collect::<Vec<_>>());
        group.packet(0, "jane", "pw", DC);
        // No time passes: the proxy dies as soon as its announcement is answered.
        group.settle(&[]);
        group.crash(0);
        until(&mut group, 20_000, &[0]);
        group.packet(1, "jane", "pw", DC);
        group.approve_at(1);
        group.settle(&[0]);
        assert_eq!(
            outcomes(&mut group),
            ["0 pushes", "1 follows", "1 accepts followed"],
            "{size}"
        );
    }
}

#[test]
fn who_is_there_and_silent_is_waited_for_and_then_left_out() {
    let mut group = Group::new(3);
    group.hear(&[0, 1, 2]);
    group.packet(0, "jane", "pw", DC);
    group.settle(&[2]);
    group.crash(0);
    until(&mut group, 20_000, &[0]);
    group.packet(1, "jane", "pw", DC);
    assert_eq!(outcomes(&mut group), ["0 pushes"]);
    until(&mut group, 59_500, &[0]);
    assert_eq!(outcomes(&mut group), ["1 push_pending"]);
    let mut group = Group::new(3);
    group.hear(&[0, 1, 2]);
    group.packet(0, "jane", "pw", DC);
    until(&mut group, 1000, &[2]);
    group.approve_at(0);
    assert_eq!(outcomes(&mut group), ["0 pushes", "0 accepts"]);
}

#[test]
fn the_accept_goes_to_where_the_client_is_and_the_first_proxy_falls_silent() {
    for size in [2, 3] {
        let mut group = started(size);
        until(&mut group, 20_000, &[]);
        group.packet(1, "jane", "pw", DC);
        assert_eq!(outcomes(&mut group), ["1 follows", "0 handed_over"]);
        assert_eq!((group.released, group.followers.len()), (1, 1));
        group.approve_at(1);
        assert_eq!(outcomes(&mut group), ["1 accepts followed"]);
    }
}

#[test]
fn the_first_proxy_accepts_when_the_others_agree() {
    for size in [2, 3, 4] {
        let mut group = started(size);
        group.approve_at(0);
        assert!(group.outcomes.is_empty(), "not before the others were asked");
        assert_eq!(outcomes(&mut group), ["0 accepts"]);
        group.packet(1, "jane", "pw", DC);
        assert_eq!(outcomes(&mut group), ["1 pushes"], "the next login is a new one");
    }
}

#[test]
fn an_approval_before_anybody_else_could_follow_needs_nobodys_word() {
    let mut group = Group::new(2);
    group.packet(0, "jane", "pw", DC);
    group.settle(&[]);
    group.approve_at(0);
    assert_eq!(outcomes(&mut group), ["0 pushes", "0 accepts"]);
}

#[test]
fn a_proxy_that_was_never_there_is_not_waited_for() {
    let mut group = Group::new(2);
    group.packet(0, "jane", "pw", DC);
    until(&mut group, 5_000, &[1]);
    group.approve_at(0);
    assert_eq!(group.outcomes, ["0 pushes", "0 accepts"]);
}

#[test]
fn of_two_proxies_the_one_that_loses_the_other_accepts_nothing_that_the_other_may_have_used() {
    let mut group = started(2);
    group.approve_at(0);
    until(&mut group, 8_000, &[1]);
    assert!(group.outcomes.is_empty());
    // Well before the client's budget ends; and who logs in again is asked again.
    until(&mut group, 9_100, &[1]);
    assert_eq!(std::mem::take(&mut group.outcomes), ["0 peers_silent"]);
    group.packet(0, "jane", "pw", DC);
    assert_eq!(std::mem::take(&mut group.outcomes), ["0 pushes"]);
}

#[test]
fn a_late_approval_that_the_other_may_have_used_keeps_the_next_try_waiting_no_longer() {
    let mut group = started(2);
    // The budget of the client is over: it was refused, and the push lives on.
    until(&mut group, 40_500, &[1]);
    assert_eq!(std::mem::take(&mut group.outcomes), ["0 timed_out"]);
    group.approve_at(0);
    group.packet(0, "jane", "pw", DC);
    until(&mut group, 48_000, &[1]);
    assert!(group.outcomes.is_empty());
    until(&mut group, 49_000, &[1]);
    assert_eq!(group.outcomes, ["0 peers_silent"]);
}

#[test]
fn of_three_proxies_one_can_be_lost() {
    let mut group = started(3);
    group.approve_at(0);
    until(&mut group, 2_000, &[1]);
    assert_eq!(outcomes(&mut group), ["0 accepts"]);
}

#[test]
fn a_proxy_that_has_started_anew_is_not_waited_for_if_it_cannot_have_followed() {
    let mut group = started(2);
    let dead = group.crash(1);
    group.approve_at(0);
    until(&mut group, 3_000, &[]);
    assert!(group.outcomes.is_empty());
    group.gone(0, dead);
    assert_eq!(outcomes(&mut group), ["0 accepts"]);

    let mut group = started(2);
    until(&mut group, 19_500, &[]);
    let dead = group.crash(1);
    group.approve_at(0);
    group.gone(0, dead);
    until(&mut group, 41_000, &[]);
    assert_eq!(outcomes(&mut group), ["0 peers_silent"]);
}

#[test]
fn only_the_clients_own_next_try_goes_on_with_the_push() {
    for (at, text, from) in [
        (10_000, "pw", DC),
        (20_000, "guess", DC),
        (20_000, "pw", "192.0.2.2"),
        (50_000, "pw", DC),
    ] {
        let mut group = started(2);
        until(&mut group, at, &[0]);
        group.packet(1, "jane", text, from);
        group.packet(1, "joe", text, from);
        until(&mut group, at + 39_500, &[0]);
        assert_eq!(
            group
                .outcomes
                .iter()
                .filter(|o| o.starts_with('1'))
                .collect::<Vec<_>>(),
            ["1 pushes", "1 push_pending", "1 timed_out"],
            "{at} {text} {from}"
        );
    }
}

#[test]
fn a_client_that_comes_back_gets_its_push_back() {
    let mut group = started(2);
    until(&mut group, 20_000, &[]);
    group.packet(1, "jane", "pw", DC);
    until(&mut group, 40_000, &[]);
    group.packet(0, "jane", "pw", DC);
    assert_eq!(
        outcomes(&mut group),
        [
            "1 follows",
            "0 handed_over",
            "0 follows",
            "1 handed_over followed"
        ]
    );
    group.approve_at(0);
    assert_eq!(outcomes(&mut group), ["0 accepts followed"]);
}

#[test]
fn the_third_proxy_gets_the_push_from_the_second_when_the_first_is_dead() {
    let mut group = started(3);
    group.crash(0);
    until(&mut group, 20_000, &[0]);
    group.packet(1, "jane", "pw", DC);
    until(&mut group, 40_000, &[0]);
    group.packet(2, "jane", "pw", DC);
    group.settle(&[0]);
    group.approve_at(2);
    assert_eq!(
        outcomes(&mut group),
        [
            "1 follows",
            "2 follows",
            "1 handed_over followed",
            "2 accepts followed"
        ]
    );
}

#[test]
fn a_denied_push_is_over_everywhere() {
    let mut group = started(2);
    let follower = *group.followers.keys().next().unwrap();
    group.verdict(follower, Verdict::Refused(refusal(RefusalReason::Denied)));
    group.settle(&[]);
    group.packet(1, "jane", "pw", DC);
    assert_eq!(outcomes(&mut group), ["0 denied", "1 pushes"]);
}

#[test]
fn a_proxy_that_gives_up_what_it_lost_disturbs_nobody() {
    let mut group = started(2);
    until(&mut group, 20_000, &[0]);
    group.packet(1, "jane", "pw", DC);
    group.flying.clear();
    let first = *group.followers.keys().next().unwrap();
    group.verdict(first, Verdict::Refused(refusal(RefusalReason::TimedOut)));
    group.settle(&[]);
    group.approve_at(1);
    assert_eq!(
        outcomes(&mut group),
        ["1 follows", "0 timed_out", "1 accepts followed"]
    );
}

#[test]
fn a_proxy_that_is_ending_leaves_the_others_their_approvals() {
    let mut group = started(2);
    group.drain(1);
    group.settle(&[]);
    group.crash(1);
    group.approve_at(0);
    assert_eq!(group.outcomes, ["0 accepts"]);
}

#[test]
fn a_proxy_that_is_ending_hands_its_own_pushes_over() {
    let mut group = started(2);
    group.drain(0);
    until(&mut group, 20_000, &[]);
    group.packet(1, "jane", "pw", DC);
    assert_eq!(outcomes(&mut group), ["1 follows", "0 handed_over"]);
    group.crash(0);
    group.approve_at(1);
    assert_eq!(outcomes(&mut group), ["1 accepts followed"]);
}

#[test]
fn a_push_whose_approval_another_proxy_has_used_refuses_no_next_login() {
    let used = || {
        let mut group = started(2);
        until(&mut group, 20_000, &[0]);
        group.packet(1, "jane", "pw", DC);
        group.settle(&[0]);
        group.approve_at(1);
        group
    };
    // The end comes while the first proxy still follows.
    let mut group = used();
    assert_eq!(
        outcomes(&mut group),
        ["1 follows", "1 accepts followed", "0 approval_used"]
    );
    group.packet(0, "jane", "pw", DC);
    assert_eq!(outcomes(&mut group), ["0 pushes"]);
    // Every copy of the end was lost, and the first proxy hears of the approval later.
    let mut group = used();
    until(&mut group, 30_000, &[0]);
    group.approve_at(0);
    assert_eq!(
        outcomes(&mut group),
        ["1 follows", "1 accepts followed", "0 approval_used"]
    );
    group.packet(0, "jane", "pw", DC);
    assert_eq!(outcomes(&mut group), ["0 pushes"]);
}

#[test]
fn a_push_that_went_on_for_who_knows_whom_accepts_nobody_and_holds_back_nobody() {
    let mut group = started_with(2, "push");
    until(&mut group, 20_000, &[]);
    group.packet(1, "jane", "push", DC);
    group.settle(&[]);
    group.approve_at(1);
    group.settle(&[]);
    assert_eq!(outcomes(&mut group), ["1 follows", "0 handed_over"]);
    // Either packet can be the client's next try.
    group.packet(0, "jane", "push", DC);
    group.settle(&[]);
    assert!(group.outcomes.is_empty() && group.accepts.is_empty());
    for node in [0, 1] {
        group.packet(node, "jane", "next", DC);
        assert_eq!(std::mem::take(&mut group.outcomes), [format!("{node} pushes")]);
        group.approve_at(node);
        group.settle(&[]);
        assert_eq!(outcomes(&mut group), [format!("{node} accepts")]);
    }
}

#[test]
fn the_text_that_a_user_was_let_in_with_last_passes_a_strangers_push_that_another_proxy_started() {
    let mut group = Group::new(2);
    group.packet(1, "jane", "pw", DC);
    group.approve_at(1);
    assert_eq!(outcomes(&mut group), ["1 pushes", "1 accepts"]);
    group.packet(0, "jane", "push", DC);
    until(&mut group, 20_000, &[]);
    group.packet(1, "jane", "push", DC);
    assert_eq!(outcomes(&mut group), ["0 pushes", "1 follows", "0 handed_over"]);
    group.packet(1, "jane", "pw", DC);
    until(&mut group, 21_000, &[]);
    group.approve_at(1);
    assert_eq!(outcomes(&mut group), ["1 pushes", "1 accepts"]);
    // Each login was accepted by its own push, and nobody follows the stranger's.
    assert!(group.accepts.keys().eq(["0000", "0002"]) && group.followers.is_empty());
    until(&mut group, 90_000, &[]);
    assert_eq!(outcomes(&mut group), ["1 push_pending followed"]);
}

#[test]
fn an_end_that_overtakes_the_announcement_ends_the_push() {
    let mut group = Group::new(2);
    group.packet(0, "jane", "pw", DC);
    group.approve_at(0);
    group.flying.reverse();
    assert_eq!(outcomes(&mut group), ["0 pushes", "0 accepts"]);
    group.packet(1, "jane", "pw", DC);
    assert_eq!(outcomes(&mut group), ["1 pushes"]);
}

#[test]
fn a_claim_that_overtakes_the_list_of_members_is_answered_by_it() {
    for size in [2, 3] {
        let mut group = Group::new(size);
        group.hear(&(0..size).collect::<Vec<_>>());
        group.packet(0, "jane", "pw", DC);
        group.settle_without(|body| matches!(body, Body::Arm(_)));
        group.approve_at(0);
        group.settle(&[]);
        assert_eq!(outcomes(&mut group), ["0 pushes", "0 accepts"], "{size}");
    }
}

#[test]
fn a_proxy_that_is_ending_before_the_list_comes_gives_its_vote_too() {
    let mut group = Group::new(2);
    group.hear(&[0, 1]);
    group.packet(0, "jane", "pw", DC);
    group.settle_without(|body| matches!(body, Body::Arm(_)));
    group.drain(1);
    // The list is repeated.
    until(&mut group, 1_000, &[]);
    group.crash(1);
    group.approve_at(0);
    assert_eq!(group.outcomes, ["0 pushes", "0 accepts"]);
}

/// Node 1 ends as soon as it may, whatever is on its way to it.
fn until_it_has_ended(group: &mut Group) {
    let deadline = group.now + 3_000;
    while !group.is_drained(1) {
        assert!(group.now < deadline, "it does not end");
        if group.flying.is_empty() {
            group.wait(10, |_| {});
        } else {
            group.deliver(0);
        }
    }
    group.crash(1);
}

#[test]
fn a_proxy_that_is_told_to_end_at_any_moment_costs_no_login() {
    for (size, lost) in [(2, false), (2, true), (3, false), (3, true)] {
        for delivered in 0.. {
            let mut group = Group::new(size);
            group.hear(&(0..size).collect::<Vec<_>>());
            group.packet(0, "jane", "pw", DC);
            for _ in 0..delivered {
                if !group.flying.is_empty() {
                    // In the order in which they were sent.
                    group.flying.rotate_left(1);
                    group.deliver(group.flying.len() - 1);
                }
            }
            let is_last = group.flying.is_empty();
            group.drain(1);
            if lost {
                group.flying.clear();
            }
            until_it_has_ended(&mut group);
            until(&mut group, 2_000, &[]);
            group.approve_at(0);
            assert_eq!(
                outcomes(&mut group),
                ["0 pushes", "0 accepts"],
                "{size} {lost} {delivered}"
            );
            if is_last {
                break;
            }
        }
    }
}

#[test]
fn a_proxy_that_is_ending_repeats_the_answer_to_a_claim() {
    let mut group = started(2);
    group.approve_at(0);
    group.settle_without(|body| matches!(body, Body::Vote { .. }));
    group.drain(1);
    until_it_has_ended(&mut group);
    assert_eq!(outcomes(&mut group), ["0 accepts"]);
}

#[test]
fn a_proxy_that_is_ending_does_not_wait_for_a_dead_one() {
    let mut group = started(2);
    group.crash(0);
    group.drain(1);
    until_it_has_ended(&mut group);
}

#[test]
fn a_push_of_a_dead_proxy_is_pending_no_longer_than_it_lives_at_its_provider() {
    let mut group = started(2);
    group.crash(0);
    until(&mut group, 66_000, &[0]);
    group.packet(1, "jane", "pw", DC);
    assert_eq!(outcomes(&mut group), ["1 pushes"]);
}
