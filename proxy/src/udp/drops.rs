//! Datagrams that the kernel dropped before the proxy could take them: the receive buffer was full.

use std::fmt;
use std::fs::read_to_string;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;

use super::Sockets;

/// Reads `/proc/self/net/udp` and `udp6` at each scrape (proc(5)); the sockets are found there by their inodes.
#[derive(Debug)]
pub struct ReceiveBufferDrops {
    inodes: Vec<u64>,
}

impl ReceiveBufferDrops {
    /// Of these sockets. One that the system doesn't describe is left out.
    #[must_use]
    pub fn of(sockets: &Sockets) -> Self {
        let stats = sockets.fds().filter_map(|fd| rustix::fs::fstat(fd).ok());
        Self {
            inodes: stats.map(|stat| stat.st_ino).collect(),
        }
    }
}

impl Collector for ReceiveBufferDrops {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"]
            .map(|path| read_to_string(path).unwrap_or_default());
        let counter = ConstCounter::new(tables.iter().map(|table| drops(table, &self.inodes)).sum::<u64>());
        let encoder = encoder.encode_descriptor(
            "radius_proxy_receive_buffer_drops",
            "Datagrams that the kernel dropped, since the receive buffer was full (net.core.rmem_max)",
            None,
            counter.metric_type(),
        )?;
        counter.encode(encoder)
    }
}

/// The column `drops`, the last one, of the sockets with these inodes (the tenth column).
fn drops(table: &str, inodes: &[u64]) -> u64 {
    let ours = |line: &str| {
        let mut columns = line.split_ascii_whitespace().skip(9);
        let inode: u64 = columns.next()?.parse().ok()?;
        let drops = columns.last()?.parse().ok()?;
        inodes.contains(&inode).then_some(drops)
    };
    table.lines().filter_map(ours).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn what_a_full_receive_buffer_loses_is_counted() {
        let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ReceiveBufferDrops::of(&sockets)));
        let count = || -> u64 {
            let mut out = String::new();
            text::encode(&mut out, &registry).unwrap();
            let value = out
                .lines()
                .find_map(|line| line.strip_prefix("radius_proxy_receive_buffer_drops_total "));
            value.unwrap_or_else(|| panic!("{out}")).parse().unwrap()
        };
        assert_eq!(count(), 0);
        let (client, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), sockets.addresses()[0]);
        // Nobody takes them: 8 MiB, the most that the socket asks for, are full before that.
        for _ in 0..1_000 {
            client.send_to(&[0; 16_384], to).unwrap();
        }
        assert!(count() > 0);
    }

    #[test]
    fn other_sockets_and_broken_lines_count_nothing() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     77: 00000000:0714 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 12\n\
                     78: 00000000:0715 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 30\n\
                     79: 00000000:0715 00000000:0000 07\n";
        assert_eq!(drops(table, &[4711]), 12);
        assert_eq!(drops(table, &[4711, 4712]), 42);
        assert_eq!(drops(table, &[]), 0);
    }
}
