//! The load balancer's names, looked up as the operator does it: a while after the last time, and sooner after news.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::World;
use crate::dns::{Answer, HostName, LoadBalancer, NoAddress};

const INTERVAL: Duration = Duration::from_secs(60);

impl World {
    /// From now on DNS answers so.
    pub(in crate::scenarios) fn answer(&mut self, name: &str, addresses: &[&str]) {
        let all = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
        let (v4, v6) = all.partition(IpAddr::is_ipv4);
        self.dns.insert(
            name.to_owned(),
            Answer {
                v4: Ok(v4),
                v6: Ok(v6),
            },
        );
    }

    /// From now on DNS answers with a failure.
    pub(in crate::scenarios) fn fail(&mut self, name: &str, why: NoAddress) {
        self.dns.insert(
            name.to_owned(),
            Answer {
                v4: Err(why),
                v6: Err(why),
            },
        );
    }

    /// What the Service has.
    pub(in crate::scenarios) fn balance(&mut self, ingress: &[&str]) {
        self.load_balancer = ingress.iter().map(|each| (*each).to_owned()).collect();
        self.wake();
    }

    /// When a name is looked up next.
    pub(in crate::scenarios) fn next_look(&self, name: &str) -> Option<Timestamp> {
        self.looks.get(name).map(|(_, at)| *at)
    }

    /// Another leader has looked nothing up.
    pub(super) fn forget_names(&mut self) {
        self.looks.clear();
    }

    /// What the operator knows of the load balancer. New names are looked up next.
    pub(super) fn balancer(&mut self) -> LoadBalancer {
        let mut balancer = LoadBalancer::default();
        let mut names = Vec::new();
        for each in &self.load_balancer {
            match each.parse() {
                Ok(address) => balancer.addresses.push(address),
                Err(_) => names.push(HostName::new(each)),
            }
        }
        self.looks
            .retain(|known, _| names.iter().any(|host| host.name == *known));
        for host in names {
            let name = host.name.clone();
            let look = self.looks.entry(name).or_insert((host, self.now));
            balancer.names.push(look.0.clone());
        }
        balancer
    }

    /// Looks up what is due. Says whether there is news.
    pub(super) fn look_up(&mut self) -> bool {
        let nowhere = Answer {
            v4: Err(NoAddress::NoSuchName),
            v6: Err(NoAddress::NoSuchName),
        };
        let mut news = false;
        for (name, (host, at)) in &mut self.looks {
            if *at <= self.now {
                news |= host.take(self.dns.get(name).unwrap_or(&nowhere), self.now);
                *at = self.now.saturating_add(host.look_again(INTERVAL)).unwrap();
            }
        }
        news
    }
}
