//! Any sequence of events, with crashes between any two steps, ends in the same state, and no write is one too many.

use std::time::Duration;

use proptest::prelude::*;

use super::ownership::rival;
use super::upgrade::is_over;
use super::world::{Answer, Pod, World, data};
use crate::api::{AdoptionPolicy, DeletionPolicy, RadiusProxyStatus};
use crate::aws::AwsErrorClass;
use crate::outcomes::Step;

#[derive(Debug, Clone)]
enum Disturbance {
    Wait(u64),
    KillPod(usize),
    RestartContainer(usize),
    Scale(u32),
    Secret(usize),
    SecretLost,
    SecretBack,
    Label(usize),
    Image(usize),
    Memory(usize),
    RefusesPatches(bool),
    RevertsImages(bool),
    RefusesMemory(Option<usize>),
    MayBegin(bool),
    Restart,
    Drain(u64),
    Refuses(usize),
    RefusesNothing,
    Answer(Answer),
    Crash(usize),
    CrashAfterWrite(u64),
    DomainController(u8),
    Blind(bool),
    Slow(u64),
    Lag(u64),
    SecretAtAws,
    Logins(u64),
    Alternates(u64),
    StaleReads(usize),
    Clock(i64),
    Away(u64),
    OwnSecretLost,
    Adopt(bool),
    Rival(bool),
    Tags(Option<AwsErrorClass>),
    HidesTags(bool),
    Suspend(bool),
}

const SECRETS: [&str; 4] = [
    "the first secret",
    "the second secret",
    "the third secret!",
    "the fourth secret",
];

/// A step that the API server may refuse.
fn step(index: usize) -> Step {
    let (kind, name) = match index {
        0 => ("Secret", "mfa-radius-secrets"),
        1 => ("ConfigMap", "mfa-radius-config"),
        2 => ("StatefulSet", "mfa"),
        3 => ("NetworkPolicy", "mfa"),
        4 => ("Service", "mfa"),
        5 => return Step::PodMetadata("mfa-0".to_owned()),
        7 => ("DirectoryRegistration", "d-1234567890.eu-central-1"),
        _ => return Step::PodGate("mfa-1".to_owned()),
    };
    Step::Apply(kind, name.to_owned())
}

/// The last one never starts.
const IMAGES: [&str; 3] = ["proxy:1", "proxy:2", "proxy:bad"];

fn disturbance() -> impl Strategy<Value = Disturbance> {
    use Disturbance as H;
    prop_oneof![
        6 => (1_u64..90).prop_map(H::Wait),
        1 => (600_u64..2000).prop_map(H::Wait),
        3 => (0_usize..4).prop_map(H::KillPod),
        2 => (0_usize..4).prop_map(H::RestartContainer),
        1 => (1_u32..4).prop_map(H::Scale),
        4 => (0_usize..4).prop_map(H::Secret),
        1 => Just(H::SecretLost),
        1 => Just(H::SecretBack),
        1 => (0_usize..3).prop_map(H::Label),
        2 => (0_usize..3).prop_map(H::Image),
        2 => (0_usize..3).prop_map(H::Memory),
        1 => any::<bool>().prop_map(H::RefusesPatches),
        1 => any::<bool>().prop_map(H::RevertsImages),
        1 => prop::option::of(0_usize..3).prop_map(H::RefusesMemory),
        1 => any::<bool>().prop_map(H::MayBegin),
        1 => Just(H::Restart),
        1 => (1_u64..40).prop_map(H::Drain),
        2 => (0_usize..8).prop_map(H::Refuses),
        2 => Just(H::RefusesNothing),
        2 => prop_oneof![
            Just(Answer::Error(AwsErrorClass::Throttled)),
            Just(Answer::Error(AwsErrorClass::Service)),
            Just(Answer::Error(AwsErrorClass::AlreadyExists)),
            Just(Answer::Lost),
            Just(Answer::Fails),
        ].prop_map(H::Answer),
        5 => (0_usize..60).prop_map(H::Crash),
        2 => prop_oneof![Just(5_u64), Just(300_u64)].prop_map(H::CrashAfterWrite),
        1 => (11_u8..14).prop_map(H::DomainController),
        1 => any::<bool>().prop_map(H::Blind),
        1 => prop_oneof![Just(0_u64), Just(12_u64), Just(20_u64)].prop_map(H::Slow),
        1 => prop_oneof![Just(0_u64), Just(8_u64)].prop_map(H::Lag),
        1 => Just(H::SecretAtAws),
        3 => (10_u64..200).prop_map(H::Logins),
        1 => prop_oneof![Just(0_u64), Just(120_u64), Just(900_u64)].prop_map(H::Alternates),
        2 => (1_usize..4).prop_map(H::StaleReads),
        1 => (-50_i64..50).prop_map(H::Clock),
        2 => (5_u64..900).prop_map(H::Away),
        1 => Just(H::OwnSecretLost),
        1 => any::<bool>().prop_map(H::Adopt),
        1 => any::<bool>().prop_map(H::Rival),
        1 => prop_oneof![
            Just(None),
            Just(Some(AwsErrorClass::Throttled)),
            Just(Some(AwsErrorClass::AccessDenied)),
        ].prop_map(H::Tags),
        1 => any::<bool>().prop_map(H::HidesTags),
        1 => any::<bool>().prop_map(H::Suspend),
    ]
}

fn disturb(world: &mut World, secret: &mut usize, disturbance: &Disturbance) {
    match disturbance.clone() {
        Disturbance::Wait(seconds) => world.run_for(Duration::from_secs(seconds)),
        Disturbance::KillPod(index) => world.kill_pod(index),
        Disturbance::RestartContainer(index) => world.restart_container(index),
        Disturbance::Scale(replicas) => world.edit(|proxy| proxy.spec.replicas = replicas),
        Disturbance::Secret(index) => {
            *secret = index;
            world.set_secret(SECRETS[index]);
        }
        Disturbance::SecretLost => {
            world.secrets.remove(super::world::SECRET);
            world.wake();
        }
        Disturbance::SecretBack => world.set_secret(SECRETS[*secret]),
        Disturbance::Label(index) => world.edit(|proxy| {
            let directory = proxy.spec.directory.as_mut().unwrap();
            directory.display_label = format!("label {index}");
        }),
        Disturbance::Image(index) => world.edit(|proxy| proxy.spec.image = Some(IMAGES[index].to_owned())),
        Disturbance::Memory(index) => world.edit(|proxy| {
            let resources = serde_json::json!({"limits": {"memory": format!("{}Mi", 200 + index)}});
            proxy.spec.resources = Some(serde_json::from_value(resources).unwrap());
        }),
        Disturbance::RefusesPatches(refuses) => world.refuses_patches = refuses,
        Disturbance::RevertsImages(reverts) => world.reverts_images = reverts,
        Disturbance::RefusesMemory(index) => {
            world.refused_memory = index
                .map(|index| format!("{}Mi", 200 + index))
                .into_iter()
                .collect();
        }
        Disturbance::MayBegin(may) => world.may_begin = may,
        Disturbance::Restart => world.rollout_restart(),
        Disturbance::Drain(seconds) => world.drain = Duration::from_secs(seconds),
        Disturbance::Refuses(index) => world.refuse(step(index), 403, "no"),
        Disturbance::RefusesNothing => world.refuse_nothing(),
        Disturbance::Answer(answer) => world.aws.answers.push_back(answer),
        Disturbance::Crash(steps) => {
            world.crash_after = Some(steps);
            world.wake();
        }
        Disturbance::CrashAfterWrite(seconds) => {
            world.crash_after_write = true;
            world.takeover = Duration::from_secs(seconds);
        }
        Disturbance::DomainController(last) => {
            world
                .aws
                .clients
                .insert(std::net::Ipv4Addr::new(10, 0, 0, last).into());
        }
        Disturbance::Alternates(seconds) => world.aws.alternates = Duration::from_secs(seconds),
        Disturbance::StaleReads(reads) => {
            world.stale_reads = reads;
            world.wake();
        }
        // Another leader's clock, as far as reports of pods may differ from it.
        Disturbance::Clock(ahead) => {
            world.crash_after = Some(0);
            world.wake();
            world.run_for(Duration::from_secs(1));
            world.clock_ahead = ahead;
        }
        Disturbance::Away(seconds) => world.away(Duration::from_secs(seconds)),
        // Without an operator that remembers it, it is lost.
        Disturbance::OwnSecretLost if world.crash_after.is_some() || !world.remembers_its_secret() => {}
        Disturbance::OwnSecretLost => {
            let key = ("Secret".to_owned(), "mfa-radius-secrets".to_owned());
            world.objects.remove(&key);
            world.wake();
            world.run_for(Duration::from_secs(10));
        }
        Disturbance::Adopt(adopts) => world.edit(|proxy| {
            let directory = proxy.spec.directory.as_mut().unwrap();
            directory.adoption_policy = if adopts {
                AdoptionPolicy::Adopt
            } else {
                AdoptionPolicy::Refuse
            };
        }),
        Disturbance::Rival(waits) => {
            world.rivals = waits.then(rival).into_iter().collect();
            world.wake_registration();
        }
        Disturbance::Tags(refused) => world.refused_tags = refused,
        Disturbance::HidesTags(hides) => world.aws.hides_tags = hides,
        Disturbance::Suspend(suspends) => world.edit(|proxy| proxy.spec.suspend = suspends),
        Disturbance::Slow(seconds) => world.aws.slow = Duration::from_secs(seconds),
        Disturbance::Lag(seconds) => world.aws.lag = Duration::from_secs(seconds),
        Disturbance::SecretAtAws => world.change_secret_at_aws(),
        Disturbance::Logins(seconds) => world.logins_for(Duration::from_secs(seconds)),
        Disturbance::Blind(blind) => world.aws.blind = blind.then_some(AwsErrorClass::Unreachable),
    }
}

/// A few with every run; as many as `PROPTEST_CASES` says for a search.
#[allow(clippy::disallowed_methods, reason = "a test's own setting")]
pub(super) fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, max_shrink_time: 60_000, ..ProptestConfig::default() })]

    #[test]
    fn anything_that_happens_ends_well(happenings in prop::collection::vec(disturbance(), 1..40)) {
        let mut world = World::new();
        let mut secret = 0;
        world.bad_images.push(IMAGES[2].to_owned());
        for disturbance in happenings {
            disturb(&mut world, &mut secret, &disturbance);
        }
        world.secrets.insert(super::world::SECRET.to_owned(), data(&[("secret", SECRETS[secret])]));
        world.refuse_nothing();
        world.edit(|proxy| proxy.spec.suspend = false);
        world.aws.blind = None;
        world.aws.hides_tags = false;
        world.refused_tags = None;
        world.aws.alternates = Duration::ZERO;
        world.aws.answers.clear();
        world.crash_after = None;
        world.refused_memory.clear();
        world.may_begin = true;
        world.crash_after_write = false;
        if world.proxy.spec.image.as_deref() == Some(IMAGES[2]) {
            disturb(&mut world, &mut secret, &Disturbance::Image(0));
        }
        // Whoever was away is back, and has looked: the status of before says nothing.
        world.run_for(Duration::from_secs(1500));
        world.wake();
        let held = |world: &World| world.aws.secret == SECRETS[secret].as_bytes();
        // A secret that somebody changed at AWS shows in logins only.
        world.traffic = Some(Duration::from_secs(30));
        world.run_until(|world| held(world) && is_over(world));
        world.traffic = None;
        let mut servers = world.aws.settings.clone().unwrap().servers;
        servers.sort();
        let mut addresses: Vec<String> = world.pods.iter().map(|pod| pod.state.ips[0].to_string()).collect();
        addresses.sort();
        prop_assert_eq!(&servers, &addresses);
        prop_assert!(world.pods.iter().all(Pod::is_ready));

        // At rest nothing is written, once the last wrong secret is an hour old.
        world.run_for(Duration::from_secs(4200));
        let status = |world: &World| RadiusProxyStatus { last_refresh_time: None, ..world.status() };
        let (writes, before) = (world.aws.writes.len(), status(&world));
        world.run_for(Duration::from_secs(3600));
        prop_assert_eq!(world.aws.writes.len(), writes);
        prop_assert_eq!(status(&world), before);
        for pod in &world.pods {
            let mut known: Vec<&str> = pod.peers().lines().map(|line| line.trim_end_matches(":1814")).collect();
            known.sort_unstable();
            prop_assert_eq!(&known, &addresses, "{}", pod.state.name);
        }
        // A crash after a write of nothing but a secret to a single server cannot be told from one before it.
        let one = |write: &super::world::Written| write.servers.len() == 1;
        prop_assert!(world.aws.writes.iter().all(|w| !w.needless || one(w)), "{:#?}", world.aws.writes);
    }
}

/// What may happen around a deletion.
fn around_a_deletion() -> impl Strategy<Value = Disturbance> {
    use Disturbance as H;
    prop_oneof![
        6 => (1_u64..90).prop_map(H::Wait),
        3 => (0_usize..40).prop_map(H::Crash),
        1 => prop_oneof![Just(5_u64), Just(300_u64)].prop_map(H::CrashAfterWrite),
        1 => prop_oneof![Just(Answer::Lost), Just(Answer::Error(AwsErrorClass::Service))].prop_map(H::Answer),
        1 => any::<bool>().prop_map(H::Blind),
        1 => prop_oneof![Just(0_u64), Just(8_u64), Just(20_u64)].prop_map(H::Lag),
        1 => prop_oneof![Just(0_u64), Just(120_u64), Just(900_u64)].prop_map(H::Alternates),
        1 => (-50_i64..50).prop_map(H::Clock),
        1 => (5_u64..900).prop_map(H::Away),
        1 => any::<bool>().prop_map(H::HidesTags),
        1 => Just(H::Tags(Some(AwsErrorClass::Throttled))),
        1 => (11_u8..14).prop_map(H::DomainController),
        1 => Just(H::SecretLost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, max_shrink_time: 60_000, ..ProptestConfig::default() })]

    #[test]
    fn a_deletion_leaves_radius_off_and_nothing_behind_whatever_happens_around_it(
        before in prop::collection::vec(around_a_deletion(), 0..8),
        after in prop::collection::vec(around_a_deletion(), 0..8),
    ) {
        let mut world = World::new();
        let mut secret = 0;
        world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().deletion_policy = DeletionPolicy::Disable);
        world.run_until(World::is_ready);
        for disturbance in &before {
            disturb(&mut world, &mut secret, disturbance);
        }
        world.delete();
        for disturbance in &after {
            disturb(&mut world, &mut secret, disturbance);
        }
        world.aws.blind = None;
        world.run_until(World::has_ended);
        prop_assert_eq!(world.aws.status, None);
        prop_assert!(!world.events.iter().any(|event| event == "ChangedFromOutside"), "{:?}", world.events);
    }
}
