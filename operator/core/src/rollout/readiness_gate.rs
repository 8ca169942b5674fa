//! The readiness gate of pods whose own addresses are registered: such a pod is Ready once AWS has its address. The templates
//! of other pods have no gate, so that they are Ready without an operator.

use super::GateChange;
use super::known_directory::KnownDirectory;
use super::proxy_pods::ProxyPod;
use crate::observed::RadiusStatus;

/// The change of a pod's gate, if it isn't as it should be.
pub(crate) fn change(
    proxy: &ProxyPod<'_>,
    directory: Option<&KnownDirectory>,
    ours: bool,
) -> Option<GateChange> {
    let pod = proxy.pod;
    if pod.deleted.is_some() {
        return None;
    }
    let change = |open, reason, message: &str| {
        (pod.gate != Some(open)).then(|| GateChange {
            open,
            reason,
            message: message.to_owned(),
        })
    };
    // Whatever AWS does later must not make a pod unready that answers.
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
