//! The pods: restricted Pod Security, a read-only root, spread over zones and nodes.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    ObjectFieldSelector, PodReadinessGate, PodSecurityContext, PodSpec, Probe, ProjectedVolumeSource,
    SeccompProfile, SecretProjection, SecretVolumeSource, SecurityContext, Toleration,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Owner;
use crate::api::AddressSource;
use crate::config::{CONFIG_FOLDER, PROVIDER_FOLDER, RADIUS_FOLDER, SEEDS_BY_LABEL_FOLDER, SEEDS_FOLDER};
use crate::names::{ADMIN_PORT, CONFIG_KEY, CONTAINER, HEALTH_PORT, READINESS_GATE, SEED_SHARDS, peer_port};
use crate::observed::Settings;

/// User and group of the image.
const USER: i64 = 65_532;
/// How long a pod stays bound to a node that is gone: longer than a kubelet's restart, shorter than Kubernetes' own five
/// minutes.
const LOST_NODE_SECONDS: i64 = 60;
/// The longest login that a client can have (50 s, 11 tries), and time to end. The same for every spec, since another number
/// would be another pod: how long a proxy really drains is in its configuration, and it ends when nobody waits any more.
const GRACE_SECONDS: i64 = 630;

/// The template's pod without an image. Nothing in it depends on clients, secrets, the provider or limits: those change without a new
/// pod, and so without a new address.
pub(super) fn spec(owner: &Owner<'_>, settings: &Settings) -> PodSpec {
    let spec = &owner.proxy.spec;
    let scheduling = &spec.scheduling;
    let pull_secrets = &spec.image_pull_secrets;
    let id = settings.fixed_ids.then_some(USER);
    let mut node_selector = settings.node_selector.clone();
    node_selector.extend(scheduling.node_selector.clone());
    PodSpec {
        service_account_name: Some(owner.names.workload().to_owned()),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        dns_policy: Some(settings.pod_dns_policy.clone()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        readiness_gates: owner.registers_pods().then(|| {
            vec![PodReadinessGate {
                condition_type: READINESS_GATE.to_owned(),
            }]
        }),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: id,
            run_as_group: id,
            fs_group: id,
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(owner, settings)],
        volumes: Some(volumes(owner)),
        image_pull_secrets: (!pull_secrets.is_empty()).then(|| pull_secrets.clone()),
        topology_spread_constraints: Some(
            ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
                .map(|key| spread(owner, key))
                .to_vec(),
        ),
        node_selector: (!node_selector.is_empty()).then_some(node_selector),
        priority_class_name: scheduling.priority_class_name.clone(),
        tolerations: Some(tolerations(&scheduling.tolerations)),
        ..PodSpec::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    }
}

/// Spread where it can be; a zone that is lost must not keep its pods from starting elsewhere.
fn spread(owner: &Owner<'_>, key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(owner.label_selector()),
        ..TopologySpreadConstraint::default()
    }
}

fn tolerations(own: &[Toleration]) -> Vec<Toleration> {
    let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(LOST_NODE_SECONDS),
        ..Toleration::default()
    });
    let is_own = |toleration: &Toleration| own.iter().any(|own| own.key == toleration.key);
    own.iter()
        .cloned()
        .chain(lost.into_iter().filter(|t| !is_own(t)))
        .collect()
}

fn container(owner: &Owner<'_>, settings: &Settings) -> Container {
    let spec = &owner.proxy.spec;
    let radius_port = i32::try_from(spec.port).unwrap_or(i32::MAX);
    let port = |name: &str, number, protocol: &str| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    };
    let on_host = spec.directory.is_some() && spec.addresses.source == AddressSource::HostIp;
    Container {
        name: CONTAINER.to_owned(),
        image_pull_policy: settings.image_pull_policy.clone(),
        args: Some(
            ["serve", "--config", &format!("{CONFIG_FOLDER}/{CONFIG_KEY}")]
                .map(str::to_owned)
                .to_vec(),
        ),
        env: Some(environment()),
        ports: Some(vec![
            ContainerPort {
                host_port: on_host.then_some(radius_port),
                ..port("radius", radius_port, "UDP")
            },
            port("admin", i32::from(ADMIN_PORT), "TCP"),
            port("health", i32::from(HEALTH_PORT), "TCP"),
            port("peers", i32::from(peer_port(spec.port)), "UDP"),
        ]),
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(60),
            ..probe("/healthz")
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            failure_threshold: Some(3),
            timeout_seconds: Some(5),
            ..probe("/healthz")
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            failure_threshold: Some(2),
            timeout_seconds: Some(2),
            ..probe("/readyz")
        }),
        resources: Some(
            spec.resources
                .clone()
                .unwrap_or_else(|| settings.default_resources.clone()),
        ),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            seccomp_profile: Some(runtime_default()),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(
            FOLDERS
                .map(|(name, path)| VolumeMount {
                    name: name.to_owned(),
                    mount_path: path.to_owned(),
                    read_only: Some(true),
                    ..VolumeMount::default()
                })
                .to_vec(),
        ),
        ..Container::default()
    }
}

fn environment() -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let value = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    };
    vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        value("REPORT_LEASE", "$(POD_NAME)"),
        value("LOG_FORMAT", "json"),
    ]
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("health".to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

/// The volumes and where they are mounted: whole, never by subPath, which would not follow changes.
const FOLDERS: [(&str, &str); 5] = [
    ("config", CONFIG_FOLDER),
    ("radius", RADIUS_FOLDER),
    ("provider", PROVIDER_FOLDER),
    ("seeds", SEEDS_FOLDER),
    ("seeds-by-label", SEEDS_BY_LABEL_FOLDER),
];

/// All five in every template, so that another provider needs no other pod. Readable by the group only (0440 with
/// fsGroup). What the provider does not use is an empty folder.
fn volumes(owner: &Owner<'_>) -> Vec<Volume> {
    let secret = |name: &str, secret_name: String| Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret_name),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    vec![
        configuration(owner),
        secret("radius", owner.names.radius_secret()),
        secret("provider", owner.names.provider_secret()),
        secret("seeds", owner.names.seeds_secret()),
        seeds_by_label(owner),
    ]
}

/// The configuration file, and the pods' addresses when there are some.
fn configuration(owner: &Owner<'_>) -> Volume {
    let map = |name: String, optional: Option<bool>| VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name,
            optional,
            ..ConfigMapProjection::default()
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name: "config".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o444),
            sources: Some(vec![
                map(owner.names.config_map(), None),
                map(owner.names.peers(), Some(true)),
            ]),
        }),
        ..Volume::default()
    }
}

/// All shards that there can be, so that it takes no other pod when there are more of them.
fn seeds_by_label(owner: &Owner<'_>) -> Volume {
    let shard = |shard| VolumeProjection {
        secret: Some(SecretProjection {
            name: owner.names.seed_shard(shard),
            optional: Some(true),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name: "seeds-by-label".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some((0..SEED_SHARDS).map(shard).collect()),
        }),
        ..Volume::default()
    }
}
