//! The Kubernetes API as the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_core::factor::{Basis, RefusalReason};
use radius_proxy::provider::totp::store::ConfigMaps;

use crate::api_server::{Fake, Mood};
use crate::pod::{Pod, SCRATCH, START, USERS, code_at, config, race, told};

/// The ConfigMaps of the store.
pub const NAMES: [&str; 3] = ["used-0", "used-1", "used-2"];

fn used_codes(outage: &str) -> String {
    format!(
        "[provider.totp.used_codes]\nwhen_unavailable = \"{outage}\"\n\
         [provider.totp.used_codes.kubernetes]\nconfig_maps = [\"used-0\", \"used-1\", \"used-2\"]"
    )
}

/// A pod with that store.
pub fn pod(fake: &Fake, outage: &str) -> Pod {
    let store = ConfigMaps::new(fake.client(), &NAMES.map(str::to_owned));
    Pod::with(&config(&used_codes(outage)), Arc::new(store))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pods_that_get_the_same_code_exactly_one_accepts_in_a_thousand_races() {
    let fake = Fake::start(&NAMES).await;
    let pods = [pod(&fake, "deny"), pod(&fake, "deny")];
    let accepts = race(&pods, 1000).await;
    assert_eq!(accepts, vec![1; 1000]);
    let (writes, conflicts) = fake.writes();
    assert!(writes <= 1000, "{writes}");
    println!("1000 races of 2 pods: {writes} writes, {conflicts} conflicts");
    // At the end all codes but those of the last minutes are forgotten, and no name is written.
    let text = fake.text();
    assert!(text.lines().count() < 3 * 32, "{text}");
    assert!(!text.contains("user"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_at_once_share_a_few_writes() {
    let fake = Fake::start(&NAMES).await;
    let pods: Vec<Pod> = (0..4).map(|_| pod(&fake, "deny")).collect();
    let logins: Vec<_> = (0..USERS)
        .flat_map(|user| {
            pods.iter().map(move |pod| {
                let pod = pod.clone();
                tokio::spawn(async move { told(&pod.login(user, code_at(START), START).await) })
            })
        })
        .collect();
    let mut accepted = 0;
    for login in logins {
        match login.await.unwrap() {
            Ok(Basis::Factor) => accepted += 1,
            other => assert_eq!(other, Err(RefusalReason::PasscodeReplayed)),
        }
    }
    assert_eq!(accepted, USERS);
    let (writes, conflicts) = fake.writes();
    println!("{USERS} codes at 4 pods at once: {writes} writes, {conflicts} conflicts");
    assert!(writes < USERS / 2, "{writes} writes of {USERS} codes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_comes_later_knows_what_was_used() {
    let fake = Fake::start(&NAMES).await;
    let code = code_at(START);
    let first = pod(&fake, "deny");
    assert_eq!(
        told(&first.login(3, code.clone(), START).await),
        Ok(Basis::Factor)
    );
    let second = pod(&fake, "deny");
    let again = second.login(3, code, START + 20).await;
    assert_eq!(told(&again), Err(RefusalReason::PasscodeReplayed));
    // The code of the step before was not used, and is older than the one that was.
    let older = pod(&fake, "deny").login(3, code_at(START - 30), START).await;
    assert_eq!(told(&older), Err(RefusalReason::PasscodeReplayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scratch_code_works_once_over_all_pods_and_for_good_and_never_without_the_store() {
    let fake = Fake::start(&NAMES).await;
    let pods = [
        pod(&fake, "accept-once-per-pod"),
        pod(&fake, "accept-once-per-pod"),
    ];
    let (one, other) = tokio::join!(
        pods[0].login(2, SCRATCH.to_vec(), START),
        pods[1].login(2, SCRATCH.to_vec(), START)
    );
    let outcomes = [told(&one), told(&other)];
    assert!(outcomes.contains(&Ok(Basis::ScratchCode)), "{outcomes:?}");
    assert!(
        outcomes.contains(&Err(RefusalReason::PasscodeReplayed)),
        "{outcomes:?}"
    );
    let years = START + 100_000_000;
    let later = pod(&fake, "deny").login(2, SCRATCH.to_vec(), years).await;
    assert_eq!(told(&later), Err(RefusalReason::PasscodeReplayed));
    fake.become_(Mood::Answers(500));
    let away = pods[0].login(9, SCRATCH.to_vec(), START).await;
    assert_eq!(told(&away), Err(RefusalReason::StoreUnavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_costs_what_the_setting_says_and_never_much_time() {
    let fake = Fake::start(&NAMES).await;
    for (n, mood) in (0_u64..).zip([
        Mood::Answers(500),
        Mood::Answers(403),
        Mood::Answers(404),
        Mood::Hangs,
        Mood::LosesAnswers,
    ]) {
        fake.become_(mood);
        let now = START + n * 3000;
        let begun = Instant::now();
        let accepting = pod(&fake, "accept-once-per-pod");
        let first = accepting.login(5, code_at(now), now).await;
        assert_eq!(told(&first), Ok(Basis::OncePerPod), "{mood:?}");
        let again = accepting.login(5, code_at(now), now).await;
        assert_eq!(told(&again), Err(RefusalReason::PasscodeReplayed), "{mood:?}");
        let later = now + 60;
        let denied = pod(&fake, "deny").login(5, code_at(later), later).await;
        assert_eq!(told(&denied), Err(RefusalReason::StoreUnavailable), "{mood:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{mood:?}: {:?}",
            begun.elapsed()
        );
    }
    fake.become_(Mood::Well);
    let now = START + 90_000;
    let back = pod(&fake, "deny").login(5, code_at(now), now).await;
    assert_eq!(told(&back), Ok(Basis::Factor));
}
