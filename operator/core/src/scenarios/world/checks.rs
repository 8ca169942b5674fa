//! What holds at any moment, whatever the scene.

use jiff::SignedDuration;

use super::{Pod, THEIR_SECRET, World};

impl World {
    /// No more registered servers are down than the scene allows; those of the list before count until every domain
    /// controller has the present one.
    pub(super) fn check_that_servers_answer(&self) {
        let (Some(most), Some(settings)) = (self.most_down, &self.aws.settings) else {
            return;
        };
        let old = self.aws.old_until.is_none_or(|until| self.now < until);
        let lists = [
            Some(&settings.servers),
            self.aws.old_servers.as_ref().filter(|_| old),
        ];
        for list in lists.into_iter().flatten() {
            let answers = |address: &&String| {
                self.pods.iter().any(|pod| {
                    pod.state.containers_ready
                        && pod.state.deleted.is_none()
                        && pod.state.ips[0].to_string() == **address
                })
            };
            let down = list.iter().filter(|address| !answers(address)).count();
            assert!(down <= most, "{down} of {list:?} are down: {:#?}", self.status());
        }
    }

    /// A pod that carries the label of the wanted revision runs that revision's image, and no other.
    pub(super) fn check_that_revisions_tell_the_image(&self) {
        for pod in &self.pods {
            let labelled = pod.state.revision.as_ref() == Some(&self.revisions.update);
            if labelled && pod.state.in_place.is_none() {
                let wanted = self.revisions.image(&self.revisions.update);
                assert_eq!(wanted, Some(pod.running.as_str()), "{}", pod.state.name);
            }
        }
    }

    /// What is written is decided by what AWS said a moment ago, or a moment after it was asked where it takes long.
    pub(super) fn check_that_aws_was_looked_at(&self) {
        let described = self.described.as_ref().unwrap();
        let age = self.clock().duration_since(described.as_of);
        let took = described.answered.duration_since(described.as_of);
        let most = (took + SignedDuration::from_secs(5)).max(SignedDuration::from_secs(10));
        assert!(age <= most, "decided by what AWS said {age:#} ago");
    }

    /// Whether the API server evicts a pod: by its PodDisruptionBudget.
    pub(in crate::scenarios) fn may_be_evicted(&self, index: usize) -> bool {
        let budget = &self.objects[&("PodDisruptionBudget".to_owned(), "mfa".to_owned())]["spec"];
        if !self.pods[index].is_ready() {
            return budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        }
        let most = usize::try_from(budget["maxUnavailable"].as_u64().unwrap()).unwrap();
        self.pods.iter().filter(|pod| pod.is_ready()).count() + most > self.replicas().unwrap()
    }

    /// Where the scene counts servers that are down, the PodDisruptionBudget lets one of the pods go that log people in: its
    /// number follows what the operator does. It can't follow a container that restarts by itself.
    pub(super) fn check_that_one_may_be_evicted(&self) {
        let (Some(_), Some(replicas), Some(budget)) = (
            self.most_down,
            self.replicas(),
            self.objects
                .get(&("PodDisruptionBudget".to_owned(), "mfa".to_owned())),
        ) else {
            return;
        };
        let most = usize::try_from(budget["spec"]["maxUnavailable"].as_u64().unwrap()).unwrap();
        let healthy = |pod: &&Pod| {
            pod.state.containers_ready && pod.state.gate == Some(true) && pod.state.deleted.is_none()
        };
        let healthy = self.pods.iter().filter(healthy).count();
        assert!(
            healthy + most <= replicas + 1,
            "{most} of {replicas} may be away, {healthy} are ready"
        );
    }

    /// Whichever secret a domain controller may hold, each registered proxy that answers accepts it.
    pub(super) fn check_that_logins_work(&self) {
        if self.aws.writes.is_empty() {
            return;
        }
        let Some(settings) = &self.aws.settings else {
            return;
        };
        for pod in self.pods.iter().filter(|pod| pod.state.containers_ready) {
            let address = pod.state.ips[0].to_string();
            if !settings.servers.contains(&address) {
                continue;
            }
            let held = std::iter::once(&self.aws.secret).chain(&self.aws.old_secret);
            for secret in held.filter(|secret| *secret != THEIR_SECRET) {
                assert!(pod.accepts(secret), "{} refuses what AWS holds", pod.state.name);
            }
        }
    }
}
