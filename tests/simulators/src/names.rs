//! Name resolution without the C library: a static binary cannot load its modules.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;

/// Looks names up in `/etc/hosts` and the servers of `/etc/resolv.conf`.
#[derive(Clone, Debug)]
pub(crate) struct Names(Option<TokioResolver>);

impl Names {
    /// Without a usable `/etc/resolv.conf` only addresses are understood.
    pub(crate) fn of_the_system() -> Self {
        Self(
            TokioResolver::builder_tokio()
                .and_then(|builder| builder.build())
                .ok(),
        )
    }

    /// The first address of a name; an address is its own.
    pub(crate) async fn address_of(&self, name: &str) -> Result<IpAddr, String> {
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            return Ok(address);
        }
        if name == "localhost" {
            return Ok(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let resolver = self
            .0
            .as_ref()
            .ok_or_else(|| format!("{name}: no resolver is configured"))?;
        let found = resolver
            .lookup_ip(name)
            .await
            .map_err(|error| format!("{name}: {error}"))?;
        found.iter().next().ok_or_else(|| format!("{name}: no address"))
    }
}
