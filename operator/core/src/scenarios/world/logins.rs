//! Logins as the proxies see them: whether the directory's requests verify under a secret that they have.

use std::net::IpAddr;
use std::time::Duration;

use proxy_config::Secret;
use proxy_config::observed::ObservedAddress;

use super::{Pod, THEIR_SECRET, World};

impl Pod {
    /// Whether one of the secrets that it has mounted is this one.
    pub(super) fn accepts(&self, secret: &[u8]) -> bool {
        ["directory", "directory-previous"]
            .iter()
            .filter_map(|key| self.mounted.get(&format!("/etc/radius-proxy/radius/{key}")))
            .any(|accepted| Secret::expose(accepted) == secret)
    }

    /// Whether its configuration has this client.
    pub(in crate::scenarios) fn accepts_client(&self, address: &str) -> bool {
        let file = self.mounted.get("/etc/radius-proxy/config/radius-proxy.toml");
        file.is_some_and(|file| file.expose_str().unwrap().contains(address))
    }

    /// A request of `client` at `now`, in seconds since 1970.
    fn take(&mut self, client: IpAddr, verifies: bool, now: i64) {
        let now = u64::try_from(now + self.ahead).unwrap();
        let seen = self.observed.addresses.entry(client).or_default();
        seen.last_request = now;
        if verifies {
            seen.signed += 1;
            seen.last_authenticated = Some(now);
            seen.failing_since = None;
            seen.failed = 0;
        } else {
            seen.failing_since.get_or_insert(now);
            seen.last_failed = Some(now);
            seen.failed += 1;
        }
    }
}

impl World {
    /// Somebody changes nothing but the secret at AWS.
    pub(in crate::scenarios) fn change_secret_at_aws(&mut self) {
        if self.aws.settings.is_some() {
            self.aws.secret = THEIR_SECRET.to_vec();
        }
    }

    /// A login through `client`: its request, with the secret that AWS holds, goes to each registered pod that answers.
    pub(in crate::scenarios) fn log_in(&mut self, client: IpAddr) {
        let registered = self.aws.settings.clone().unwrap_or_default().servers;
        let now = self.now.as_second();
        for pod in &mut self.pods {
            let answers = pod.state.containers_ready && registered.contains(&pod.state.ips[0].to_string());
            if answers {
                let verifies = pod.accepts(&self.aws.secret);
                pod.take(client, verifies, now);
            }
        }
        self.wake();
    }

    /// Somebody sends a packet under no secret at all, with `client` as its source, to one pod.
    pub(in crate::scenarios) fn spoof(&mut self, client: IpAddr, pod: usize) {
        let now = self.now.as_second();
        if let Some(pod) = self.pods.get_mut(pod) {
            pod.take(client, false, now);
        }
        self.wake();
    }

    /// What one pod has observed of one address.
    pub(in crate::scenarios) fn seen(&mut self, pod: usize, client: IpAddr) -> &mut ObservedAddress {
        self.pods[pod].observed.addresses.entry(client).or_default()
    }

    pub(super) fn traffic(&mut self) -> bool {
        let Some(every) = self.traffic.filter(|_| self.now >= self.next_login) else {
            return false;
        };
        self.next_login = self.now.saturating_add(every).unwrap();
        for client in self.aws.clients.clone() {
            self.log_in(client);
        }
        true
    }

    /// Logs in through every client address every few seconds, for a while.
    pub(in crate::scenarios) fn logins_for(&mut self, duration: Duration) {
        self.traffic = Some(Duration::from_secs(15));
        self.next_login = self.now;
        self.run_for(duration);
        self.traffic = None;
    }
}
