//! The StatefulSet's controller and the kubelets.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proxy_config::Secret;

use super::{BOOT, Mounted, Pod, World, decode, digest_of};
use crate::input::PodState;

impl World {
    pub(super) fn replicas(&self) -> Option<usize> {
        let set = self.objects.get(&("StatefulSet".to_owned(), "mfa".to_owned()))?;
        usize::try_from(set["spec"]["replicas"].as_u64()?).ok()
    }

    pub(super) fn statefulset(&mut self) -> bool {
        let Some(replicas) = self.replicas() else {
            return false;
        };
        let mut changed = false;
        for ordinal in 0..replicas {
            let name = format!("mfa-{ordinal}");
            if self.pods.iter().any(|pod| pod.state.name == name) {
                continue;
            }
            let address = Ipv4Addr::from(0x0a58_0000 + self.next_ip);
            let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0xab, u16::try_from(self.next_ip).unwrap());
            let boot = BOOT + Duration::from_secs(2 * ordinal as u64);
            let uid = format!("pod-{}", self.next_uid);
            self.next_ip += 1;
            self.next_uid += 1;
            self.pods.push(Pod {
                state: PodState {
                    name,
                    uid,
                    ips: vec![address.into(), v6.into()],
                    node: Some(format!("node-{ordinal}")),
                    node_ready: true,
                    image: "proxy:1".to_owned(),
                    ..PodState::default()
                },
                digest: digest_of(&self.mountable()),
                mounted: self.mountable(),
                // One after the other, as images are pulled and nodes are busy.
                ready_at: Some(self.now.saturating_add(boot).unwrap()),
                sync_at: None,
                gone_at: None,
                sound: true,
            });
            changed = true;
        }
        for index in 0..self.pods.len() {
            let pod = &self.pods[index];
            let ordinal: usize = pod.state.name.trim_start_matches("mfa-").parse().unwrap();
            if ordinal >= replicas && pod.state.deleted.is_none() {
                self.kill_pod(index);
                changed = true;
            }
        }
        changed
    }

    /// What a kubelet would mount now.
    pub(in crate::plan::scenarios) fn mountable(&self) -> Mounted {
        let mut mounted = Mounted::new();
        for ((kind, name), object) in &self.objects {
            let folder = match name.as_str() {
                "mfa-radius-config" => "config",
                "mfa-radius-secrets" => "radius",
                "mfa-radius-provider" => "provider",
                "mfa-radius-seeds" => "seeds",
                shard if shard.starts_with("mfa-radius-seeds-") => "seeds-by-label",
                _ => continue,
            };
            for (key, value) in object["data"].as_object().into_iter().flatten() {
                let content = match kind.as_str() {
                    "Secret" => decode(value),
                    _ => value.as_str().unwrap().as_bytes().to_vec(),
                };
                mounted.insert(format!("/etc/radius-proxy/{folder}/{key}"), Secret::new(content));
            }
        }
        mounted
    }
}
