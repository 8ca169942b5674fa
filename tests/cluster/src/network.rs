//! Who has which address. Pure.
//!
//! Every cluster has a network namespace of its own on the machine, joined to it by one link: fixed ports, packet filter
//! tables and kernel settings of two clusters never meet, and all of it goes with the namespace. From a slot `k` come:
//!
//! | Addresses | Of |
//! |---|---|
//! | 10.(88+k).0.1 | the API server, and the gateway of the pods |
//! | 10.(88+k).0.11 … | the nodes |
//! | 10.(88+k).0.254 | the machine's end of the link |
//! | 10.(88+k).1.1 – 10.(88+k).254.254 | pods |
//! | 10.(96+k).0.0/16 | Services |

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// How many clusters can stand side by side.
pub(crate) const SLOTS: u8 = 8;
/// How many nodes a cluster can have.
pub const MAX_NODES: u8 = 9;
/// The API server's port.
pub(crate) const API_PORT: u16 = 6443;

/// The addresses of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    slot: u8,
}

impl Network {
    /// The first slot that no other cluster holds and no route of the machine covers or lies in.
    pub(crate) fn choose(taken: &[Self], routes: &[Block]) -> Option<Self> {
        (0..SLOTS).map(|slot| Self { slot }).find(|network| {
            let mine = [network.pods_block(), network.services_block()];
            !taken.contains(network)
                && !routes
                    .iter()
                    .any(|route| mine.iter().any(|block| block.overlaps(*route)))
        })
    }

    fn address(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 88 + self.slot, third, fourth)
    }

    fn pods_block(self) -> Block {
        Block {
            address: self.address(0, 0),
            length: 16,
        }
    }

    fn services_block(self) -> Block {
        Block {
            address: Ipv4Addr::new(10, 96 + self.slot, 0, 0),
            length: 16,
        }
    }

    /// The API server's address.
    pub(crate) fn api(self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// The machine's own address on the link.
    pub(crate) fn machine(self) -> Ipv4Addr {
        self.address(0, 254)
    }

    /// The address of the n-th node, counted from 1.
    pub(crate) fn node(self, n: u8) -> Ipv4Addr {
        self.address(0, 10 + n)
    }

    /// The first and last address of a pod.
    pub(crate) fn pods(self) -> (Ipv4Addr, Ipv4Addr) {
        (self.address(1, 1), self.address(254, 254))
    }

    /// The network of nodes and pods, as address and length.
    pub(crate) fn cluster_cidr(self) -> String {
        self.pods_block().to_string()
    }

    /// The network of Services.
    pub(crate) fn service_cidr(self) -> String {
        self.services_block().to_string()
    }

    /// The address of the Service `kubernetes`.
    pub(crate) fn api_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.slot, 0, 1)
    }

    /// Where the API server is reached.
    pub(crate) fn api_url(self) -> String {
        format!("https://{}:{API_PORT}", self.api())
    }

    /// The name of the machine's end of the link.
    pub(crate) fn machine_link(self) -> String {
        format!("radius-mfa-{}", self.slot)
    }
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    address: Ipv4Addr,
    length: u8,
}

impl Block {
    fn overlaps(self, other: Self) -> bool {
        let length = self.length.min(other.length);
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }

    /// Reads `address` or `address/length`.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        let length = length.parse().ok().filter(|length| *length <= 32)?;
        Some(Self {
            address: address.parse().ok()?,
            length,
        })
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The blocks that `ip -4 route` lists; the default route covers everything and is left out.
pub(crate) fn routes(listing: &str) -> Vec<Block> {
    listing
        .lines()
        .filter_map(|line| line.split(' ').find_map(Block::parse))
        .collect()
}

/// The name of the n-th node, counted from 1.
#[must_use]
pub(crate) fn node_name(n: u8) -> String {
    format!("node-{n}")
}

/// The zone of the n-th node: three in turn.
#[must_use]
pub(crate) fn zone(n: u8) -> &'static str {
    match n % 3 {
        1 => "zone-a",
        2 => "zone-b",
        _ => "zone-c",
    }
}

/// The region of all nodes.
pub(crate) const REGION: &str = "local";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_slot_is_taken() {
        let first = Network::choose(&[], &[]).unwrap();
        assert_eq!(first.api_url(), "https://10.88.0.1:6443");
        let second = Network::choose(&[first], &[]).unwrap();
        assert_eq!(second.service_cidr(), "10.97.0.0/16");
        let all: Vec<Network> = (0..SLOTS).map(|slot| Network { slot }).collect();
        assert_eq!(Network::choose(&all, &[]), None);
    }

    #[test]
    fn a_slot_that_a_route_of_the_machine_meets_is_left_alone() {
        let listing =
            "default via 192.0.2.1 dev eth0\n10.88.7.0/24 dev vpn0 scope link\nblackhole 10.97.0.1\n";
        let routes = routes(listing);
        assert_eq!(routes.len(), 3);
        let network = Network::choose(&[], &routes[1..]).unwrap();
        assert_eq!(network.slot, 2);
    }

    #[test]
    fn blocks_overlap_when_one_lies_in_the_other() {
        let block = |text| Block::parse(text).unwrap();
        assert!(block("10.0.0.0/8").overlaps(block("10.88.0.0/16")));
        assert!(block("0.0.0.0/0").overlaps(block("10.88.0.0/16")));
        assert!(!block("10.89.0.0/16").overlaps(block("10.88.0.0/16")));
    }

    #[test]
    fn nodes_take_the_zones_in_turn() {
        assert_eq!([1, 2, 3, 4].map(zone), ["zone-a", "zone-b", "zone-c", "zone-a"]);
    }
}
