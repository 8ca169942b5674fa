//! The pods' readiness gate: ready means registered.

use super::GateChange;
use super::known::Known;
use super::pods::Proxy;
use crate::api::AddressSource;
use crate::input::{Input, RadiusStatus};

/// What the gate of a pod should be, when that is not what it is.
pub(crate) fn change(
    proxy: &Proxy<'_>,
    input: &Input,
    directory: Option<&Known>,
    ours: bool,
) -> Option<GateChange> {
    let pod = proxy.pod;
    if pod.deleted.is_some() {
        return None;
    }
    let spec = &input.proxy.spec;
    let own_address = spec.directory.is_some() && spec.addresses.source == AddressSource::PodIp;
    let change = |open, reason, message: &str| {
        (pod.gate != Some(open)).then(|| GateChange {
            open,
            reason,
            message: message.to_owned(),
        })
    };
    if !own_address {
        return if pod.containers_ready {
            change(
                true,
                "ContainersReady",
                "the pod's own address is not what is registered",
            )
        } else {
            change(false, "ContainersNotReady", "the containers are not ready")
        };
    }
    // Sticky: whatever AWS does later must not make a pod unready that answers.
    if pod.gate == Some(true) {
        return None;
    }
    let completed = directory.filter(|d| ours && d.radius_status == Some(RadiusStatus::Completed));
    let settings = completed.and_then(|d| d.radius_settings.as_ref());
    let registered = settings.is_some_and(|settings| {
        pod.ips.iter().any(|ip| {
            let address = ip.to_canonical().to_string();
            settings.servers.contains(&address) || settings.servers_ipv6.contains(&address)
        })
    });
    if registered {
        change(true, "Registered", "AWS has completed with this pod's address")
    } else {
        change(
            false,
            "NotRegistered",
            "AWS has not completed with this pod's address yet",
        )
    }
}
