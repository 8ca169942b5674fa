//! Who may ask: clients by source address, longest prefix first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::packet::Avp;
use ipnet::IpNet;

use crate::dictionary::Attribute;
use crate::message_authenticator::SecretKey;

/// A client as the engine works with it.
pub(crate) struct Client {
    pub(crate) config: proxy_config::Client,
    pub(crate) name: Arc<str>,
    /// The secret of now and, while it rotates, the one before.
    pub(crate) secrets: Vec<Arc<SecretKey>>,
    pub(crate) accept_attributes: Vec<Avp>,
    pub(crate) user_address: Option<Attribute>,
}

/// Clients by network. No network stands twice (the configuration sees to it), so the longest prefix is one client.
#[derive(Default)]
pub(crate) struct Clients {
    v4: Vec<Prefixes>,
    v6: Vec<Prefixes>,
}

/// All networks of one prefix length.
struct Prefixes {
    length: u8,
    clients: HashMap<u128, Arc<Client>>,
}

impl Clients {
    pub(crate) fn new(clients: &[Arc<Client>]) -> Self {
        let mut table = Self::default();
        for client in clients {
            for network in &client.config.networks {
                table.add(network, client);
            }
        }
        for family in [&mut table.v4, &mut table.v6] {
            family.sort_by_key(|prefixes| std::cmp::Reverse(prefixes.length));
        }
        table
    }

    fn add(&mut self, network: &IpNet, client: &Arc<Client>) {
        let family = match network {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        };
        let length = network.prefix_len();
        let key = masked(network.addr(), length);
        match family.iter_mut().find(|prefixes| prefixes.length == length) {
            Some(prefixes) => {
                prefixes.clients.insert(key, Arc::clone(client));
            }
            None => family.push(Prefixes {
                length,
                clients: HashMap::from([(key, Arc::clone(client))]),
            }),
        }
    }

    /// The client of a canonical address (IPv4-mapped ones made IPv4 before).
    pub(crate) fn find(&self, address: IpAddr) -> Option<&Arc<Client>> {
        let family = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        family
            .iter()
            .find_map(|prefixes| prefixes.clients.get(&masked(address, prefixes.length)))
    }
}

/// The first `length` bits of an address.
fn masked(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    bits.checked_shr(u32::from(width - length.min(width)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn table(networks: &[&str]) -> Clients {
        let mut config = testing::config("");
        let template = config.clients.remove(0);
        let clients: Vec<_> = networks
            .iter()
            .map(|text| {
                let network: IpNet = text.parse().unwrap();
                Arc::new(Client {
                    config: proxy_config::Client {
                        networks: vec![network],
                        ..template.clone()
                    },
                    name: (*text).into(),
                    secrets: Vec::new(),
                    accept_attributes: Vec::new(),
                    user_address: None,
                })
            })
            .collect();
        Clients::new(&clients)
    }

    fn found(clients: &Clients, address: &str) -> Option<String> {
        clients
            .find(address.parse::<IpAddr>().unwrap().to_canonical())
            .map(|client| client.name.to_string())
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let mut networks = ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "10.1.0.0/16"];
        for _ in 0..networks.len() {
            networks.rotate_left(1);
            let clients = table(&networks);
            assert_eq!(found(&clients, "10.1.2.3").as_deref(), Some("10.1.2.3/32"));
            assert_eq!(found(&clients, "10.1.2.4").as_deref(), Some("10.1.0.0/16"));
            assert_eq!(found(&clients, "10.2.0.0").as_deref(), Some("10.0.0.0/8"));
            assert_eq!(found(&clients, "192.0.2.1").as_deref(), Some("0.0.0.0/0"));
        }
    }

    #[test]
    fn the_families_do_not_mix_and_mapped_addresses_are_ipv4() {
        let clients = table(&["::/0", "2001:db8::/32", "10.0.0.0/8"]);
        assert_eq!(found(&clients, "::ffff:10.9.9.9").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(found(&clients, "192.0.2.1"), None);
        assert_eq!(found(&clients, "2001:db8::1").as_deref(), Some("2001:db8::/32"));
        assert_eq!(found(&clients, "fe80::1").as_deref(), Some("::/0"));
    }

    #[test]
    fn no_fuzz_finds_another_client_than_a_search_through_all_does() {
        bolero::check!()
            .with_type::<(Vec<(u32, u8, bool)>, u32, bool)>()
            .for_each(|(networks, flipped, six)| {
                let address = |bits: u32, six: bool| -> IpAddr {
                    if six {
                        std::net::Ipv6Addr::from_bits(u128::from(bits) << 96 | 7).into()
                    } else {
                        std::net::Ipv4Addr::from_bits(bits).into()
                    }
                };
                let mut texts: Vec<String> = networks
                    .iter()
                    .take(12)
                    .filter_map(|(bits, length, six)| {
                        let length = length % if *six { 129 } else { 33 };
                        Some(IpNet::new(address(*bits, *six), length).ok()?.trunc().to_string())
                    })
                    .collect();
                texts.sort();
                texts.dedup();
                let clients = table(&texts.iter().map(String::as_str).collect::<Vec<_>>());
                // Near one of the networks more often than anywhere.
                let near = networks.first().map_or(0, |(bits, ..)| *bits);
                for asked in [address(near, *six), address(near ^ (1 << (flipped % 32)), *six)] {
                    let longest = texts
                        .iter()
                        .filter_map(|text| text.parse::<IpNet>().ok())
                        .filter(|network| network.contains(&asked))
                        .max_by_key(IpNet::prefix_len);
                    assert_eq!(
                        clients.find(asked).map(|client| client.name.to_string()),
                        longest.map(|network| network.to_string())
                    );
                }
            });
    }
}
