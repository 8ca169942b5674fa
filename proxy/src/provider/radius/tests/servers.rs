//! Which server is asked, how often and until when; what a reload keeps of it.

use super::*;

#[tokio::test]
async fn a_lost_packet_is_sent_again_as_it_was() {
    let stub = Stub::start(|_, before| if before == 0 { Reply::Silence } else { accept() }).await;
    approved(login(&Setting::new(&[&stub]).build(), "x").await);
    let seen = stub.seen();
    // RFC 5080 section 2.2.1: the same identifier, authenticator and port.
    assert_eq!((&seen[0].packet, seen[0].from), (&seen[1].packet, seen[1].from));
}

#[tokio::test]
async fn where_nothing_listens_the_next_server_is_asked_at_once() {
    let (gone, stub) = (Stub::start(never).await, Stub::start(always).await);
    let mut setting = Setting::new(&[&gone, &stub]);
    // The test would not end before the first server's share of the budget is over, if silence were waited for.
    setting.config.timeout = Duration::from_secs(60);
    setting.config.servers[0].port = 1;
    let provider = setting.build();
    let mut long = request(pap("x"));
    (long.answer_within, long.of_use) = (Duration::from_secs(3600), Duration::from_secs(3600));
    approved(ask(&provider, long).await);
    assert!(!provider.servers[0].peer.is_up());
}

#[tokio::test]
async fn a_server_is_left_after_its_tries_and_passed_over_when_it_was_silent_on_several_users() {
    let (silent, stub) = (Stub::start(never).await, Stub::start(always).await);
    let provider = Setting::new(&[&silent, &stub]).build();
    for (before, user) in ["jane", "joe", "ann"].into_iter().enumerate() {
        assert!(provider.servers[0].peer.is_up());
        assert_eq!(silent.seen().len(), 2 * before);
        let mut request = request(pap("x"));
        request.user = named(user);
        approved(ask(&provider, request).await);
    }
    assert!(!provider.servers[0].peer.is_up());
    approved(login(&provider, "x").await);
    assert_eq!((silent.seen().len(), stub.seen().len()), (6, 4));
}

#[tokio::test]
async fn when_nothing_listens_at_the_only_server_the_login_ends_before_its_budget_and_the_next_asks_again() {
    let gone = Stub::start(never).await;
    let provider = Setting::new(&[&gone]).build();
    let address = gone.address;
    gone.stop().await;
    let mut long = request(pap("x"));
    (long.answer_within, long.of_use) = (Duration::from_secs(3600), Duration::from_secs(3600));
    assert_eq!(
        reason(ask(&provider, long).await),
        RefusalReason::ProviderUnreachable
    );
    assert!(!provider.servers[0].peer.is_up());
    // A server that is down is asked when there is no better one.
    let _back = Stub::start_at(address, always).await;
    approved(login(&provider, "x").await);
    assert!(provider.servers[0].peer.is_up());
}

#[tokio::test]
async fn two_silent_servers_share_what_the_client_waits_and_not_what_a_late_approval_is_of_use() {
    let (silent, stub) = (Stub::start(never).await, Stub::start(always).await);
    let mut setting = Setting::new(&[&silent, &stub]);
    setting.config.timeout = Duration::from_secs(3600);
    let provider = setting.build();
    let mut request = request(pap("x"));
    (request.answer_within, request.of_use) = (Duration::from_millis(400), Duration::from_secs(7200));
    // By the longer one the second server would have its turn after an hour.
    approved(ask(&provider, request).await);
    assert_eq!((silent.seen().len(), stub.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_server_that_stops_to_answer_status_server_is_left_at_once_and_used_again_when_it_is_back() {
    let (first, second) = (Stub::start(always).await, Stub::start(always).await);
    let mut setting = Setting::new(&[&first, &second]);
    setting.config.status_server = true;
    setting.config.timeout = Duration::from_secs(600);
    first.answers_status(always);
    let provider = setting.build();
    approved(login(&provider, "x").await);
    assert!(provider.servers[0].status().await.is_ok());
    first.answers(never);
    first.answers_status(never);
    let mut long = request(pap("x"));
    (long.answer_within, long.of_use) = (Duration::from_secs(3600), Duration::from_secs(3600));
    // Not after 600 s, the time of one try.
    approved(ask(&provider, long).await);
    assert!(!provider.servers[0].peer.is_up());
    assert_eq!((first.seen().len(), second.seen().len()), (2, 1));

    first.answers(always);
    first.answers_status(always);
    becomes(&provider, 0, State::Alive).await;
    approved(login(&provider, "x").await);
    assert_eq!((first.seen().len(), second.seen().len()), (3, 1));
}

#[tokio::test]
async fn a_server_that_is_alive_is_waited_for_until_the_budget_ends() {
    let (alive, dead) = (Stub::start(|_, _| Reply::Hold).await, Stub::start(never).await);
    let mut setting = Setting::new(&[&alive, &dead]);
    setting.config.status_server = true;
    setting.pace.status_timeout = Duration::from_secs(60);
    alive.answers_status(always);
    let provider = setting.build();
    assert!(provider.servers[0].status().await.is_ok());
    let waiting = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { login(&provider, "x").await }
    });
    // Every try at both is used up, and then the user picks up the phone.
    becomes(&provider, 1, State::Zombie).await;
    alive.release(&alive.seen()[0]).await;
    approved(waiting.await.unwrap());
    assert_eq!((alive.seen().len(), dead.seen().len()), (2, 2));
}

#[tokio::test]
async fn a_late_answer_of_a_server_that_was_given_up_is_as_good_as_any() {
    let (slow, silent) = (Stub::start(|_, _| Reply::Hold).await, Stub::start(never).await);
    let provider = Setting::new(&[&slow, &silent]).build();
    let waiting = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { login(&provider, "x").await }
    });
    silent.has_seen(1).await;
    slow.release(&slow.seen()[0]).await;
    approved(waiting.await.unwrap());
    // And it shows that the server lives.
    assert!(provider.servers[0].peer.is_up());
}

#[tokio::test]
async fn more_than_256_requests_wait_on_several_source_ports() {
    const LOGINS: usize = 700;
    let stub = Stub::start(|_, _| Reply::Hold).await;
    let mut setting = Setting::new(&[&stub]);
    // The socket's buffer does not hold so many: what is lost is sent again.
    setting.config.timeout = Duration::from_millis(500);
    setting.config.tries = 10;
    let provider = setting.build();
    let waiting: Vec<_> = (0..LOGINS)
        .map(|n| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { login(&provider, &n.to_string()).await })
        })
        .collect();
    let places =
        |seen: &[Seen]| -> BTreeSet<_> { seen.iter().map(|one| (one.from, one.packet[1])).collect() };
    let seen = stub.until(|seen| places(seen).len() == LOGINS).await;
    let ports: BTreeSet<_> = seen.iter().map(|one| one.from).collect();
    assert_eq!(ports.len(), 3);
    let texts: BTreeSet<_> = seen.iter().map(Seen::password).collect();
    assert_eq!(texts.len(), LOGINS);
    stub.answers(always);
    for login in waiting {
        approved(login.await.unwrap());
    }
}

#[tokio::test]
async fn a_reload_keeps_servers_that_stay_what_they_are() {
    let stub = Stub::start(always).await;
    let mut setting = Setting::new(&[&stub]);
    let before = setting.build();
    assert!(Arc::ptr_eq(&before.servers[0], &setting.build().servers[0]));
    setting.config.servers[0].secret = SharedSecret::parse(b"another one").unwrap();
    assert!(!Arc::ptr_eq(&before.servers[0], &setting.build().servers[0]));
}

#[tokio::test]
async fn a_server_that_a_reload_keeps_speaks_for_the_new_configuration() {
    let stub = Stub::start(always).await;
    let mut setting = Setting::new(&[&stub]);
    setting.config.status_server = true;
    stub.answers_status(|_, _| Reply::Lie);
    let refused = setting.shared.metrics.watch_refused();
    let old = setting.build();
    setting.shared.metrics = setting.shared.metrics.successor();
    let new = setting.build();
    setting.shared.metrics.put_in_force();
    assert!(Arc::ptr_eq(&old.servers[0], &new.servers[0]) && !*refused.borrow());
    new.rehearse().await;
    assert!(*refused.borrow());
}

#[tokio::test]
async fn a_rehearsal_says_what_is_wrong() {
    let stub = Stub::start(always).await;
    let mut setting = Setting::new(&[&stub]);
    let finding = |setting: &Setting| {
        let provider = setting.build();
        async move { provider.rehearse().await.remove(0) }
    };
    assert!(matches!(finding(&setting).await, Finding::Good(text) if text.contains("status_server is off")));
    setting.config.status_server = true;
    assert!(matches!(finding(&setting).await, Finding::Problem(text) if text.contains("UDP to that port")));
    stub.answers_status(|_, _| Reply::Lie);
    assert!(
        matches!(finding(&setting).await, Finding::Problem(text) if text.contains("another shared secret"))
    );
    // RFC 5997 asks no Message-Authenticator of the answer.
    stub.answers_status(|_, _| Reply::Unsigned);
    setting.pace.status_timeout = Duration::from_secs(60);
    setting.shared = Shared::new(ProviderMetrics::default());
    assert!(
        matches!(finding(&setting).await, Finding::Good(text) if text.contains("the shared secret is right"))
    );
}

#[tokio::test]
async fn an_approval_that_comes_after_all_tries_is_still_waited_for() {
    let nps = Stub::start(|_, _| Reply::Hold).await;
    let provider = Setting::new(&[&nps]).build();
    let waiting = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { login(&provider, "x").await }
    });
    becomes(&provider, 0, State::Zombie).await;
    nps.release(&nps.seen()[0]).await;
    approved(waiting.await.unwrap());
    becomes(&provider, 0, State::Alive).await;
}

#[tokio::test]
async fn after_pushes_that_one_user_ignored_the_next_login_has_all_its_tries() {
    let nps = Stub::start(never).await;
    let provider = Setting::new(&[&nps]).build();
    for _ in 0..3 {
        assert_eq!(
            ignored(&provider, "jane").await,
            RefusalReason::ProviderUnreachable
        );
        assert!(provider.servers[0].peer.is_up());
    }
    answers_the_second_try(&nps);
    approved(login(&provider, "x").await);
}

/// From now on the next packet is kept silent about, and those after it are accepted.
fn answers_the_second_try(stub: &Stub) {
    let before = stub.seen().len();
    stub.answers(move |_, asked| if asked == before { Reply::Silence } else { accept() });
}

#[tokio::test]
async fn a_server_that_was_silent_on_several_users_still_gets_all_tries_and_all_the_time() {
    let nps = Stub::start(never).await;
    let provider = Setting::new(&[&nps]).build();
    for user in ["jane", "joe", "ann"] {
        ignored(&provider, user).await;
    }
    assert!(!provider.servers[0].peer.is_up());
    // A trial is an hour away.
    answers_the_second_try(&nps);
    approved(login(&provider, "x").await);
    assert!(provider.servers[0].peer.is_up());
}

#[tokio::test]
async fn the_silence_of_others_ends_no_login_that_waits() {
    let nps = Stub::start(|seen, _| {
        if seen.password() == "waits" {
            Reply::Hold
        } else {
            Reply::Silence
        }
    })
    .await;
    let provider = Setting::new(&[&nps]).build();
    let waiting = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { login(&provider, "waits").await }
    });
    nps.has_seen(1).await;
    for user in ["joe", "ann", "bob"] {
        ignored(&provider, user).await;
    }
    assert!(!provider.servers[0].peer.is_up());
    nps.release(&nps.seen()[0]).await;
    approved(waiting.await.unwrap());
    assert!(provider.servers[0].peer.is_up());
}

#[tokio::test]
async fn an_answer_that_comes_when_its_login_is_over_shows_that_the_server_lives() {
    let nps = Stub::start(never).await;
    let provider = Setting::new(&[&nps]).build();
    for user in ["jane", "joe", "ann"] {
        ignored(&provider, user).await;
    }
    assert!(!provider.servers[0].peer.is_up());
    // Not a wrong one: of the same identifier, signed with another secret.
    nps.send(&nps.seen()[0], Reply::Lie).await;
    nps.release(&nps.seen()[0]).await;
    becomes(&provider, 0, State::Alive).await;
}

#[tokio::test]
async fn a_trial_costs_one_try_where_another_server_is_up() {
    let (silent, stub) = (Stub::start(never).await, Stub::start(always).await);
    let mut setting = Setting::new(&[&silent, &stub]);
    setting.pace.intervals.trial = Duration::ZERO;
    let provider = setting.build();
    for user in ["jane", "joe", "ann"] {
        let mut request = request(pap("x"));
        request.user = named(user);
        approved(ask(&provider, request).await);
    }
    assert!(!provider.servers[0].peer.is_up());
    approved(login(&provider, "x").await);
    assert_eq!(silent.seen().len(), 2 + 2 + 2 + 1);
    // The late answer of a trial brings it back.
    silent.release(silent.seen().last().unwrap()).await;
    becomes(&provider, 0, State::Alive).await;
}
