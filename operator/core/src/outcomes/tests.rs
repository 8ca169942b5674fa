use super::refusal::Refuser;
use super::*;

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn refused(message: &str) -> Failure {
    Failure::Refused {
        code: 403,
        message: message.to_owned(),
    }
}

fn failing(steps: &[Step]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for step in steps {
        outcomes.record(step.clone(), refused("no"), now());
    }
    outcomes
}

fn apply(kind: &'static str, name: &str) -> Step {
    Step::Apply(kind, name.to_owned())
}

#[test]
fn a_failed_step_stops_only_what_depends_on_it() {
    let after = |step: Step| {
        [
            ("ConfigMap", "mfa-radius-config"),
            ("ConfigMap", "mfa-radius-peers"),
            ("Service", "mfa"),
            ("StatefulSet", "mfa"),
        ]
        .map(|(kind, name)| {
            failing(std::slice::from_ref(&step)).allow(&Outcomes::default(), &apply(kind, name))
        })
    };
    let secret = apply("Secret", "mfa-radius-secrets");
    assert_eq!(after(secret), [false, true, true, false]);
    assert_eq!(
        after(apply("ConfigMap", "mfa-radius-config")),
        [true, true, true, false]
    );
    assert_eq!(
        after(apply("ConfigMap", "mfa-radius-peers")),
        [true, true, true, false]
    );
    assert_eq!(after(apply("ConfigMap", "mfa-radius-used-3")), [true; 4]);
    assert_eq!(after(apply("Role", "mfa")), [true; 4]);
    assert_eq!(
        after(Step::Adopt("Service", "mfa".to_owned())),
        [true, true, false, true]
    );
}

#[test]
fn no_secret_is_applied_that_the_registration_does_not_know() {
    let registration = failing(&[apply("DirectoryRegistration", "d-1234567890.eu-central-1")]);
    let allows = |kind, name| {
        registration
            .clone()
            .allow(&Outcomes::default(), &apply(kind, name))
    };
    assert!(!allows("Secret", "mfa-radius-secrets") && !allows("ConfigMap", "mfa-radius-config"));
    assert!(allows("Secret", "mfa-radius-provider") && allows("StatefulSet", "mfa"));
    // The next plan keeps the shared secret.
    assert!(
        registration
            .clone()
            .allow(&registration, &apply("Secret", "mfa-radius-secrets"))
    );
}

#[test]
fn a_step_that_is_left_out_stops_what_depends_on_it_and_its_failure_is_kept() {
    let configuration = apply("ConfigMap", "mfa-radius-config");
    let before = failing(std::slice::from_ref(&configuration));
    let mut now = failing(&[apply("DirectoryRegistration", "d-1234567890.eu-central-1")]);
    assert!(!now.allow(&before, &configuration));
    assert!(!now.allow(&before, &apply("StatefulSet", "mfa")));
    assert!(now.keeping(&before, false).failed(&configuration));
}

#[test]
fn what_the_plan_leaves_out_since_it_failed_is_remembered() {
    let image = Step::PodImage("mfa-1".to_owned());
    let before = failing(&[image.clone(), apply("Role", "mfa")]);
    let after = Outcomes::default().keeping(&before, false);
    assert!(after.failed(&image) && !after.failed(&apply("Role", "mfa")));
    assert!(after.is_good());
    assert!(!Outcomes::default().keeping(&before, true).failed(&image));
}

#[test]
fn each_class_of_refusal_is_told_in_its_own_words_with_a_next_step() {
    for (code, message, refuser) in [
        (
            403,
            "pods \"p-0\" is forbidden: exceeded quota: q, requested: pods=1",
            Refuser::Quota,
        ),
        (
            403,
            "pods \"p-0\" is forbidden: failed quota: q: must specify limits.cpu for: proxy",
            Refuser::Quota,
        ),
        (
            403,
            "pods \"p-0\" is forbidden: maximum memory usage per Container is 100Mi",
            Refuser::Quota,
        ),
        (
            403,
            "pods \"p-0\" is forbidden: violates PodSecurity \"restricted:latest\": hostPort",
            Refuser::PodSecurity,
        ),
        (
            400,
            "admission webhook \"validate.kyverno.svc\" denied the request: no",
            Refuser::Policy,
        ),
        (
            422,
            "pods \"p-0\" is forbidden: ValidatingAdmissionPolicy 'x' with binding 'y' denied request: annotations of pods are immutable here",
            Refuser::Policy,
        ),
        (
            403,
            "roles.rbac.authorization.k8s.io \"p\" is forbidden: User \"system:serviceaccount:a:b\" cannot patch resource",
            Refuser::Permission,
        ),
        (
            422,
            "ConfigMap \"p\" is invalid: data: Forbidden: field is immutable when `immutable` is set",
            Refuser::Immutable,
        ),
        (
            403,
            "unable to create new content in namespace t4 because it is being terminated",
            Refuser::Terminating,
        ),
        (
            403,
            "no PriorityClass with name high-priorty was found",
            Refuser::Schema,
        ),
    ] {
        assert_eq!(Refuser::of(code, message), refuser, "{message}");
        let mut outcomes = Outcomes::default();
        let message = message.to_owned();
        outcomes.record(
            Step::CreatePods,
            Failure::Refused {
                code,
                message: message.clone(),
            },
            now(),
        );
        let (reason, told) = outcomes.shown(now()).unwrap();
        assert_eq!(reason, Reason::PodsRefused);
        assert!(told.contains(&message), "{told}");
    }
}

#[test]
fn what_to_do_about_a_field_that_cannot_change_depends_on_the_kind() {
    let told = |step: Step, message: &str| {
        let mut outcomes = Outcomes::default();
        let message = message.to_owned();
        outcomes.record(step, Failure::Refused { code: 422, message }, now());
        outcomes.shown(now()).unwrap().1
    };
    let set = told(
        apply("StatefulSet", "mfa"),
        "updates to statefulset spec for fields other than 'replicas' are forbidden",
    );
    assert!(
        set.contains("kubectl delete statefulset mfa --cascade=orphan"),
        "{set}"
    );
    let secret = told(
        apply("Secret", "mfa-radius-secrets"),
        "type: Invalid value: field is immutable",
    );
    assert!(secret.contains("Back up"), "{secret}");
    let schema = told(apply("StatefulSet", "mfa"), "spec.x: Invalid value: 1: no");
    assert!(!schema.contains("quota"), "{schema}");
    assert!(is_immutable(
        422,
        "RoleBinding \"mfa\" is invalid: roleRef: Invalid value: {}: cannot change roleRef"
    ));
}

#[test]
fn many_refusals_are_named_and_three_are_quoted() {
    let steps: Vec<Step> = (0..9)
        .map(|at| apply("ConfigMap", &format!("mfa-radius-used-{at}")))
        .collect();
    let (_, told) = failing(&steps).shown(now()).unwrap();
    assert_eq!(told.matches("refuses").count(), 3, "{told}");
    assert!(told.contains("mfa-radius-used-8"), "{told}");
}

#[test]
fn what_was_lifted_is_noticed_within_a_minute() {
    let delays: Vec<Duration> = (1..12).map(retry_after).collect();
    assert_eq!(delays.first(), Some(&FIRST_RETRY));
    assert!(delays.is_sorted() && delays.iter().all(|delay| delay.as_secs() <= 60));
}
