//! The page that shows what came of every value.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::person::Method;
use super::site::Factor;
use super::unknowns::{self, Choice, UNKNOWNS};
use super::{FACTORS, Seen};

/// What came of every kind of login with one choice of values.
pub(super) type Result = (Vec<(Factor, Method, Option<Seen>)>, Choice);

/// Set, the page is written; otherwise it is compared.
const UPDATE: &str = "UPDATE_AWS_UNKNOWNS";

const HEAD: &str = "\
# What AWS documents nowhere

<!-- Written by a test; don't edit. `UPDATE_AWS_UNKNOWNS=1 cargo test -p proxy-core reality` writes it again. -->

AWS documents little of how Directory Service asks RADIUS servers. Each unknown has several possible values, and the proxies
must let people in with every one of them. This page shows what a person sees with each value. It is the result of a test that logs in against two
proxies in virtual time, with RadiusTimeout 20 s, 4 retries, PAP and MS-CHAPv2. A person who isn't let in types the same again
3 s later, up to three times in all; a person with an authenticator app types the next code.
Where only one unknown varies, the others have the first value of their tables.

What AWS really does at your directory shows in `status.directory.observed`.
";

const TAIL: &str = "\
## What the rows mean

- **Two pushes** come when all servers are asked at once: each proxy starts its push before it can know of the other's. Either can be approved.
- **A domain controller that continues a login between two tries** can't be told from a stranger who knows the user name and the
  text. It gets no answer while the push is pending, and the approval goes to the first domain controller. Whoever approves before that moment is let in.
- **A patience of 15 s**: who approves later isn't let in. A push that is approved in time is.
- **Message-Authenticator never, or only in the probe**: a push by MS-CHAPv2 then needs `spec.directory.unauthenticatedPush: true`, and these rows have it.
- **A Reject that counts as dead** is the one value with which no login works: the directory ends in `Failed`, and the condition `Registered` says so.
- **Codes with all servers at once**: both proxies check the code, and the one that finds it used answers with a Reject. It waits a second
  with it, so that the other's Accept arrives first.

## Values that concern the operator

Two unknowns are about the AWS API and not about RADIUS. They are tried on a cluster (`cargo xtask e2e reality::`):

| Unknown | Value | What happens |
|---|---|---|
| A write while the directory is Impaired | accepted | the servers are registered |
| | refused | the operator tries again; registered servers keep answering |
| A description after a write | up to date | one write |
| | one write old for a while | one write; the old description is not taken for a change by somebody else |
";

fn words(factor: Factor, seen: Option<Seen>) -> String {
    let Some(seen) = seen else {
        return "nobody logs in: the directory is Failed".to_owned();
    };
    let by = match factor {
        Factor::Push(_) => " after approval",
        Factor::Totp | Factor::PushersCode => "",
    };
    let mut words = match (seen.accepted, seen.typed) {
        (true, 1) => format!("logged in{by}"),
        (true, 2) => format!("logged in{by}, typed twice"),
        (true, times) => format!("logged in{by}, typed {times} times"),
        (false, _) => "not logged in".to_owned(),
    };
    match seen.pushes {
        0 | 1 => {}
        2 => words.push_str(", two pushes"),
        pushes => _ = write!(words, ", {pushes} pushes"),
    }
    words
}

fn title(factor: Factor) -> String {
    match factor {
        Factor::Push(seconds) => format!("Push approved after {seconds} s"),
        Factor::Totp => "Code, TOTP".to_owned(),
        Factor::PushersCode => "Code, Duo or Okta".to_owned(),
    }
}

/// What both methods see, or each of them.
fn cell(logins: &[(Factor, Method, Option<Seen>)], factor: Factor) -> String {
    let mut by_words: BTreeMap<String, Vec<Method>> = BTreeMap::new();
    for (_, method, seen) in logins.iter().filter(|(this, ..)| *this == factor) {
        by_words.entry(words(factor, *seen)).or_default().push(*method);
    }
    if by_words.len() == 1 {
        return by_words.into_keys().next().unwrap_or_default();
    }
    let each = by_words
        .into_iter()
        .map(|(words, methods)| format!("{words} ({methods:?})"));
    each.collect::<Vec<_>>().join("; ")
}

/// The page.
pub(super) fn page(single: &[Result], pairs: &[Result], (let_in, all): (usize, usize)) -> String {
    let mut page = HEAD.to_owned();
    for (number, unknown) in UNKNOWNS.iter().enumerate() {
        _ = write!(page, "\n## {}\n\n| Value |", unknown.name);
        for factor in FACTORS {
            _ = write!(page, " {} |", title(factor));
        }
        _ = writeln!(page, "\n|---|{}", "---|".repeat(FACTORS.len()));
        for (logins, choice) in single.iter().filter(|(_, choice)| choice[0].0 == number) {
            _ = write!(page, "| {} |", unknown.values[choice[0].1].name);
            for factor in FACTORS {
                _ = write!(page, " {} |", cell(logins, factor));
            }
            page.push('\n');
        }
    }
    page.push_str(&of_pairs(single, pairs));
    _ = write!(
        page,
        "\n## Beside a stranger\n\nSomebody else who knows the user name logs in 0.1, 2 or about 20 s after the owner, with `push`, with nothing or \
         with another text,\nfrom the same or the other domain controller, with every value of what a retry keeps. In {all} logins nobody gets \
         the Accept of\nanother person's push. The owner is let in by the first login in {let_in} of them, and by a later one in the others.\n\n"
    );
    page.push_str(TAIL);
    page
}

/// Pairs with which something is worse than with either value alone.
fn of_pairs(single: &[Result], pairs: &[Result]) -> String {
    let alone = |value: (usize, usize)| single.iter().find(|(_, choice)| choice[0] == value);
    let mut rows = String::new();
    for (logins, choice) in pairs {
        let [one, other] = choice[..] else { continue };
        let (Some((one, _)), Some((other, _))) = (alone(one), alone(other)) else {
            continue;
        };
        for factor in FACTORS {
            let (this, first, second) = (cell(logins, factor), cell(one, factor), cell(other, factor));
            if this != first && this != second {
                _ = writeln!(
                    rows,
                    "| {} | {} | {this} |",
                    unknowns::name(choice),
                    title(factor)
                );
            }
        }
    }
    let mut text = format!(
        "\n## Pairs of values\n\nAll {} pairs of values of two unknowns are tried too. ",
        pairs.len()
    );
    if rows.is_empty() {
        text.push_str("Each goes as one of its two values alone.\n");
    } else {
        text.push_str("These go otherwise than either of their values alone:\n\n| Values | Login | What the person sees |\n|---|---|---|\n");
        text.push_str(&rows);
    }
    text
}

/// The page in the tree is this one.
pub(super) fn is_current(page: &str) {
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/aws-unknowns.md"),
            page,
        )
        .unwrap();
        return;
    }
    let there = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/aws-unknowns.md"));
    assert!(
        there == page,
        "docs/aws-unknowns.md is out of date: {UPDATE}=1 cargo test -p proxy-core reality"
    );
}
