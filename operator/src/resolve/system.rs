//! DNS as the host has it. The program is static and its image holds nothing else, so nothing of the C library is asked.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use operator_core::dns::{Answer, NoAddress};

use super::Lookup;

/// A name server is asked this often, and waited for so long each time.
const TRIES: usize = 2;
const TRY: Duration = Duration::from_secs(2);

/// `/etc/hosts` and the name servers of `/etc/resolv.conf`.
#[derive(Clone)]
pub(crate) struct SystemNames(Option<TokioResolver>);

impl std::fmt::Debug for SystemNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemNames")
    }
}

impl SystemNames {
    /// Reads both files. Without name servers every look ends without an answer.
    pub(crate) fn new() -> Self {
        let made = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            // When to look again is decided elsewhere, and sooner than a record's time to live when something is new.
            options.cache_size = 0;
            options.attempts = TRIES;
            options.timeout = TRY;
            builder.build()
        });
        if let Err(error) = &made {
            tracing::warn!(%error, "there are no name servers; host names of load balancers will not be resolved");
        }
        Self(made.ok())
    }

    async fn addresses(&self, name: &str, kind: RecordType) -> Result<BTreeSet<IpAddr>, NoAddress> {
        let resolver = self.0.as_ref().ok_or(NoAddress::NoAnswer)?;
        let mut name = Name::from_utf8(name).map_err(|_| NoAddress::NoSuchName)?;
        // A load balancer's name is whole: it is looked for under none of the search domains.
        name.set_fqdn(true);
        match resolver.lookup(name, kind).await {
            Ok(found) => Ok(found
                .answers()
                .iter()
                .filter_map(|record| record.data.ip_addr())
                .collect()),
            Err(error) => why(&error).map_or_else(|| Ok(BTreeSet::new()), Err),
        }
    }
}

impl Lookup for SystemNames {
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer> {
        async move {
            let (v4, v6) = tokio::join!(
                self.addresses(name, RecordType::A),
                self.addresses(name, RecordType::AAAA)
            );
            Answer { v4, v6 }
        }
        .boxed()
    }
}

/// Why there is no answer; `None` when the answer is that there is no address of this family.
fn why(error: &NetError) -> Option<NoAddress> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError => None,
            ResponseCode::NXDomain => Some(NoAddress::NoSuchName),
            _ => Some(NoAddress::ServerError),
        },
        NetError::Dns(_) => Some(NoAddress::ServerError),
        _ => Some(NoAddress::NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::net::NoRecords;
    use hickory_resolver::proto::op::Query;

    use super::*;

    #[test]
    fn a_name_without_this_family_is_no_failure_and_each_failure_has_its_own_reason() {
        let none = |code| {
            let query = Query::query(Name::root(), RecordType::AAAA);
            why(&NetError::Dns(DnsError::NoRecordsFound(NoRecords::new(
                query, code,
            ))))
        };
        assert_eq!(none(ResponseCode::NoError), None);
        assert_eq!(none(ResponseCode::NXDomain), Some(NoAddress::NoSuchName));
        assert_eq!(none(ResponseCode::ServFail), Some(NoAddress::ServerError));
        let refused = NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused));
        assert_eq!(why(&refused), Some(NoAddress::ServerError));
        assert_eq!(why(&NetError::Timeout), Some(NoAddress::NoAnswer));
        assert_eq!(why(&NetError::NoConnections), Some(NoAddress::NoAnswer));
    }
}
