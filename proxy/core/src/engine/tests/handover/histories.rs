//! A push over several proxies: random histories with losses and crashes.

use bolero::TypeGenerator;

use super::super::group::Group;
use super::{DC, started_with};
use crate::factor::{RefusalReason, Verdict};
use crate::testing::refusal;

#[derive(Debug, TypeGenerator)]
struct History {
    size: u8,
    steps: Vec<Step>,
}

#[derive(Debug, TypeGenerator)]
enum Step {
    Packet {
        node: u8,
        user: u8,
        from: u8,
    },
    Approve(u8),
    Deny(u8),
    Deliver(u8),
    DeliverAll,
    Lose(u8),
    LoseAll,
    Wait(u16),
    /// The client tries the next proxy; its messages on the way and before are delivered or not.
    NextTry {
        node: u8,
        before: bool,
        after: bool,
    },
    Crash {
        node: u8,
        told: bool,
    },
    Drain(u8),
    /// Those whose bit is set were heard lately.
    Hear(u8),
}

fn step(group: &mut Group, step: &Step) {
    let pick = |n: u8, of: usize| (of > 0).then(|| usize::from(n) % of.max(1));
    match step {
        Step::Packet { node, user, from } => {
            let node = usize::from(*node) % group.len();
            let user = ["jane", "joe"][usize::from(user / 128)];
            let text = ["pw", "push", ""][usize::from(from % 3)];
            let from = ["192.0.2.1", "192.0.2.2"][usize::from(from / 128)];
            group.packet(node, user, text, from);
        }
        Step::Approve(n) => {
            if let Some(at) = pick(*n, group.followers.len()) {
                let follower = *group.followers.keys().nth(at).unwrap();
                group.approve(follower);
            }
        }
        Step::Deny(n) => {
            if let Some(at) = pick(*n, group.followers.len()).filter(|_| n % 4 == 0) {
                let follower = *group.followers.keys().nth(at).unwrap();
                group.verdict(follower, Verdict::Refused(refusal(RefusalReason::TimedOut)));
            }
        }
        Step::Deliver(n) => {
            if let Some(at) = pick(*n, group.flying.len()) {
                group.deliver(at);
            }
        }
        Step::DeliverAll => group.settle(&[]),
        Step::Lose(n) => {
            if let Some(at) = pick(*n, group.flying.len()) {
                group.flying.swap_remove(at);
            }
        }
        Step::LoseAll => group.flying.clear(),
        Step::Wait(milliseconds) => group.wait(u64::from(*milliseconds), |_| {}),
        Step::NextTry { node, before, after } => {
            if *before {
                group.settle(&[]);
            }
            group.wait(19_500, |_| {});
            if *before {
                group.settle(&[]);
            }
            let text = ["pw", "push"][usize::from(node / 128)];
            group.packet(usize::from(*node) % group.len(), "jane", text, DC);
            if *after {
                group.settle(&[]);
            }
        }
        Step::Crash { node, told } => {
            let node = usize::from(*node) % group.len();
            let old = group.crash(node);
            for other in (0..group.len()).filter(|other| *told && *other != node) {
                group.gone(other, old);
            }
        }
        Step::Drain(node) => {
            if node % 8 == 0 {
                group.drain(usize::from(node / 8) % group.len());
            }
        }
        Step::Hear(heard) => {
            let heard: Vec<_> = (0..group.len()).filter(|node| heard >> node & 1 == 1).collect();
            group.hear(&heard);
        }
    }
    group.check();
}

#[test]
fn no_history_gives_one_approval_two_accepts() {
    bolero::check!().with_type::<History>().for_each(|history| {
        let text = ["pw", "push"][usize::from(history.size / 128)];
        let mut group = started_with(usize::from(history.size) % 4 + 2, text);
        for action in &history.steps {
            step(&mut group, action);
            if !group.accepts.is_empty() && group.users == ["jane"] {
                next_login_starts_everywhere(&mut group);
                break;
            }
        }
        group.wait(300_000, |group| group.settle(&[]));
        group.check();
        assert!(group.is_idle(), "nothing is left when time has passed");
    });
}

/// An approval was used, and everybody has heard of it. The text is another one: a rival's next try would stay with the
/// rival, if one waits.
fn next_login_starts_everywhere(group: &mut Group) {
    group.settle(&[]);
    for node in group.serving() {
        group.outcomes.clear();
        group.packet(node, "jane", "next", DC);
        assert_eq!(group.outcomes, [format!("{node} pushes")]);
        let latest = group.pushes - 1;
        let (follower, _) = group.followers.iter().find(|(_, push)| **push == latest).unwrap();
        group.verdict(*follower, Verdict::Refused(refusal(RefusalReason::TimedOut)));
        group.settle(&[]);
    }
}
