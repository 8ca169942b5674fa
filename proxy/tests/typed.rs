//! What people type, given to the shipped binary with TOTP on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a test ends where it finds something wrong"
)]

mod support;

use support::{Answer, Lab, Proxy, SEED_TEXT, code, eventually, holds};

/// Waits for the first half of a time step, so that a few logins are of one.
fn begin_of_step() {
    eventually("the first half of a step", || {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        (now.as_secs() % 30 < 15).then_some(())
    });
}

#[test]
fn a_clock_four_steps_ahead_is_followed_and_right_when_it_is_put_right() {
    let lab = Lab::totp();
    let proxy = Proxy::start(&lab);
    begin_of_step();
    for ahead in 1..=4 {
        assert_eq!(proxy.login("jane", &code(ahead)), Answer::Accept, "{ahead} ahead");
    }
    let right = code(0);
    assert_eq!(proxy.login("jane", &right), Answer::Accept, "put right");
    let again = proxy.login("jane", &right);
    assert!(
        matches!(&again, Answer::Reject(text) if text.contains("used before")),
        "{again:?}"
    );
}

#[test]
fn codes_in_groups_are_codes_and_other_products_words_are_answered() {
    let lab = Lab::totp();
    let users: String = (0..6)
        .map(|n| format!("\"otpauth://totp/Example+Corp:user{n}?secret={SEED_TEXT}\"\r\n"))
        .collect();
    lab.write("seeds/users", &format!("\u{feff}{users}"));
    let proxy = Proxy::start(&lab);
    let code = code(0);
    let (head, tail) = code.split_at(3);
    for (n, gap) in [" ", "-", "\u{a0}", "\u{2009}", "\u{2013}", "."]
        .iter()
        .enumerate()
    {
        let typed = format!(" {head}{gap}{tail}\t");
        assert_eq!(
            proxy.login(&format!("user{n}"), &typed),
            Answer::Accept,
            "{typed:?}"
        );
    }
    let told = proxy.login("jane", "EMAIL");
    assert!(
        matches!(&told, Answer::Reject(text) if text.contains("Type the code")),
        "{told:?}"
    );
    eventually("the record", || {
        holds(&lab.path("records.jsonl"), "\"reason\":\"unknown_factor\"").then_some(())
    });
}

#[test]
fn check_tells_each_line_that_is_not_understood() {
    let lab = Lab::totp();
    lab.write(
        "seeds/moved",
        "GEZDGNBVGY3TQOJQGEZDGNBVGY\n\" TOTP_AUTH\n12345678\notpauth-migration://offline?data=x\n",
    );
    let checked = lab.run(&["check"]);
    let told = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
    for (line, cause) in [
        (1, "does not begin with otpauth://totp/"),
        (2, "is of a .google_authenticator file"),
        (3, "does not begin with otpauth://totp/"),
        (4, "is an export of Google Authenticator"),
    ] {
        assert!(told.contains(&format!("line {line} {cause}")), "{told}");
    }
    assert!(!told.contains("GEZDG"), "{told}");
}
