//! What a server's answer makes of a login.

use super::*;

#[tokio::test]
async fn a_password_goes_on_under_the_servers_own_secret_and_the_answer_comes_back_by_rule() {
    let attributes = [&[25, 4, 7, 7][..], &[11, 4, b'f', b'i'], &[18, 4, b'h', b'i']].concat();
    let stub = Stub::start(move |_, _| Reply::Answer(2, attributes.clone())).await;
    let approval = approved(login(&Setting::new(&[&stub]).build(), "s3cret text").await);
    assert_eq!(
        (approval.factor, approval.basis),
        (Factor::Upstream, Basis::Factor)
    );
    // Filter-Id is not named, and Reply-Message goes back once, as the message.
    assert_eq!(approval.attributes, [(25, vec![7, 7])]);
    assert_eq!(approval.message.as_deref(), Some("hi"));
    let seen = stub.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].is_signed());
    assert_eq!(seen[0].password(), "s3cret text");
    assert_eq!(seen[0].value(1).unwrap(), b"LAB\\jane");
    assert_eq!(seen[0].value(31).unwrap(), b"203.0.113.9");
    assert_eq!(seen[0].value(32).unwrap(), b"lab");
}

#[tokio::test]
async fn a_reject_is_a_refusal_in_the_servers_own_words() {
    let stub = Stub::start(|_, _| Reply::Answer(3, vec![18, 4, b'n', b'o'])).await;
    let refusal = refusal_of(login(&Setting::new(&[&stub]).build(), "x").await);
    assert_eq!(
        (refusal.reason, refusal.factor),
        (RefusalReason::Denied, Some(Factor::Upstream))
    );
    assert_eq!(refusal.message.as_deref(), Some("no"));
}

#[tokio::test]
async fn a_wrong_secret_is_told_from_silence() {
    let liar = Stub::start(|_, _| Reply::Lie).await;
    let provider = Setting::new(&[&liar]).build();
    assert_eq!(
        reason(login(&provider, "x").await),
        RefusalReason::ProviderCredentials
    );
    // The same packet would be answered in the same way: it is not sent again.
    assert_eq!(liar.seen().len(), 1);
    let stub = Stub::start(always).await;
    let provider = Setting::new(&[&liar, &stub]).build();
    approved(login(&provider, "x").await);
}

#[tokio::test]
async fn an_answer_without_message_authenticator_counts_only_from_a_server_that_never_sent_one() {
    let stub = Stub::start(|_, _| Reply::Unsigned).await;
    let mut setting = Setting::new(&[&stub]);
    // It would say the same again: it is not asked again, and not waited for.
    setting.config.timeout = Duration::from_secs(600);
    let refusal = refusal_of(login(&setting.build(), "x").await);
    assert_eq!(refusal.reason, RefusalReason::ProviderMalformed);
    assert_eq!(stub.seen().len(), 1);
    setting.config.require_message_authenticator = false;
    let provider = setting.build();
    approved(login(&provider, "x").await);
    stub.answers(always);
    approved(login(&provider, "x").await);
    stub.answers(|_, _| Reply::Unsigned);
    assert_eq!(
        reason(login(&provider, "x").await),
        RefusalReason::ProviderMalformed
    );
}

#[tokio::test]
async fn a_challenge_is_answered_by_the_next_login_of_the_user_at_the_same_server() {
    let challenge = || {
        Reply::Answer(
            11,
            [&[24, 5, 1, 2, 3][..], &[18, 6, b'c', b'o', b'd', b'e']].concat(),
        )
    };
    let (first, second) = (Stub::start(always).await, Stub::start(always).await);
    let by_state = move |seen: &Seen, _| {
        if seen.value(24).is_some() {
            accept()
        } else {
            challenge()
        }
    };
    first.answers(by_state);
    let setting = Setting::new(&[&first, &second]);
    let provider = setting.build();
    let refusal = refusal_of(login(&provider, "password").await);
    assert_eq!(refusal.reason, RefusalReason::CodesSent);
    assert_eq!(refusal.message.as_deref(), Some("code"));
    // Somebody who types the user's name elsewhere does not answer it.
    let mut elsewhere = request(pap("123456"));
    elsewhere.source = IpAddr::from([192, 0, 2, 2]);
    assert_eq!(reason(ask(&provider, elsewhere).await), RefusalReason::CodesSent);
    // A reload in between changes nothing.
    approved(login(&setting.build(), "123456").await);
    assert_eq!(first.seen()[2].value(24).unwrap(), [1, 2, 3]);
    assert_eq!(second.seen().len(), 0);
    // It was used up.
    assert_eq!(reason(login(&provider, "123456").await), RefusalReason::CodesSent);
}

#[tokio::test]
async fn a_client_with_challenges_answers_one_only_by_its_state() {
    let stub = Stub::start(|seen, _| match seen.value(24) {
        Some(_) => accept(),
        None => Reply::Answer(11, vec![24, 5, 1, 2, 3]),
    })
    .await;
    let provider = Setting::new(&[&stub]).build();
    let by = |continues| {
        let mut request = request(pap("x"));
        request.continues = continues;
        ask(&provider, request)
    };
    assert_eq!(reason(by(Continues::Nothing).await), RefusalReason::CodesSent);
    assert_eq!(reason(by(Continues::Nothing).await), RefusalReason::CodesSent);
    approved(by(Continues::State).await);
}

#[tokio::test]
async fn a_challenge_is_refused_where_no_text_can_answer_it() {
    let stub = Stub::start(|_, _| Reply::Answer(11, vec![24, 3, 1])).await;
    let provider = Setting::new(&[&stub]).build();
    let chap = Credential::Forward(Forwarded::Chap {
        password: Secret::new(vec![0; 17]),
        challenge: vec![0; 16],
    });
    assert_eq!(
        reason(ask(&provider, request(chap)).await),
        RefusalReason::MethodCannotCarry
    );
}

#[tokio::test]
async fn an_ms_chap_success_comes_back_unasked() {
    let success = [26, 11, 0, 0, 1, 55, 26, 5, 1, b'S', b'='];
    let stub = Stub::start(move |_, _| Reply::Answer(2, success.to_vec())).await;
    let provider = Setting::new(&[&stub]).build();
    let parts = vec![(11, Secret::new(vec![1; 16])), (25, Secret::new(vec![2; 50]))];
    let approval = approved(ask(&provider, request(Credential::Forward(Forwarded::MsChap(parts)))).await);
    assert_eq!(approval.attributes, [(26, success[2..].to_vec())]);
    assert!(approved(login(&provider, "x").await).attributes.is_empty());
}
