//! From the SDK's types to the plain ones, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use aws_sdk_directory::types::{
    DirectoryDescription, DirectoryType, DomainController, DomainControllerStatus,
    NetworkType as AwsNetworkType, RadiusAuthenticationProtocol, RadiusSettings as AwsRadiusSettings,
    RadiusStatus as AwsRadiusStatus,
};
use jiff::Timestamp;
use operator_core::api::RegisteredSettings;
use operator_core::observed::{Directory, DirectoryKind, NetworkType, RadiusStatus};
use operator_core::registration::RadiusSettings;

/// What is read in addition to the description, and less often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Details {
    /// Addresses of domain controllers.
    pub(super) controllers: BTreeSet<IpAddr>,
    /// Whether some of them are coming, going or missing.
    pub(super) changing: bool,
    /// Tags; `None` when they could not be read.
    pub(super) tags: Option<BTreeMap<String, String>>,
    /// When the tags were asked for.
    pub(super) tags_as_of: Option<Timestamp>,
}

/// What AWS said of a directory.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) description: DirectoryDescription,
    /// When the call was sent and when it was answered, by this machine's clock: comparable with this process's own times
    /// only, and never with a time that another replica wrote.
    pub(super) sent_at: Timestamp,
    pub(super) answered: Timestamp,
    pub(super) ended: Instant,
}

/// Whether domain controllers and tags can be read: only those of the account's own directories that can have RADIUS.
pub(super) fn has_details(description: &DirectoryDescription) -> bool {
    matches!(
        description.r#type(),
        Some(DirectoryType::MicrosoftAd | DirectoryType::AdConnector)
    )
}

/// Whether domain controllers can be read. The addresses of a connector are part of its description.
pub(super) fn has_controllers(description: &DirectoryDescription) -> bool {
    description.r#type() == Some(&DirectoryType::MicrosoftAd)
}

/// What of a description changes when the domain controllers may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Print {
    addresses: BTreeSet<IpAddr>,
    desired: Option<i32>,
    stage: Option<String>,
    /// In seconds since 1970.
    stage_since: Option<i64>,
}

/// The print of a description.
pub(super) fn print(description: &DirectoryDescription) -> Print {
    Print {
        addresses: addresses_of(description),
        desired: description.desired_number_of_domain_controllers(),
        stage: description.stage().map(|stage| stage.as_str().to_owned()),
        stage_since: description
            .stage_last_updated_date_time()
            .map(aws_sdk_directory::primitives::DateTime::secs),
    }
}

/// A directory as decisions see it.
pub(super) fn directory(described: &Described, details: &Details) -> Directory {
    let description = &described.description;
    let mut client_addresses = addresses_of(description);
    client_addresses.extend(&details.controllers);
    Directory {
        kind: DirectoryKind::from_aws(description.r#type().map_or("", DirectoryType::as_str)),
        stage: description.stage().map_or("", |stage| stage.as_str()).to_owned(),
        stage_reason: description
            .stage_reason()
            .filter(|reason| !reason.is_empty())
            .map(str::to_owned),
        network: match description.network_type() {
            Some(AwsNetworkType::DualStack) => NetworkType::DualStack,
            Some(AwsNetworkType::Ipv6Only) => NetworkType::Ipv6,
            _ => NetworkType::Ipv4,
        },
        radius_status: radius_status(description.radius_status()),
        radius_settings: description.radius_settings().map(registered),
        client_addresses,
        owner_account: description
            .owner_directory_description()
            .and_then(|owner| owner.account_id())
            .map(str::to_owned),
        tags: details.tags.clone(),
        tags_as_of: details.tags_as_of.unwrap_or(Timestamp::MIN),
        as_of: described.sent_at,
        answered: described.answered,
    }
}

/// Where requests come from by the description alone: the first two domain controllers of a Managed Microsoft AD, the
/// own addresses of a connector (its DNS addresses are the customer's servers).
fn addresses_of(description: &DirectoryDescription) -> BTreeSet<IpAddr> {
    let texts: Vec<&String> = match description.r#type() {
        Some(DirectoryType::AdConnector) => description
            .connect_settings()
            .map(|settings| {
                settings
                    .connect_ips()
                    .iter()
                    .chain(settings.connect_ips_v6())
                    .collect()
            })
            .unwrap_or_default(),
        _ => description
            .dns_ip_addrs()
            .iter()
            .chain(description.dns_ipv6_addrs())
            .collect(),
    };
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

/// A status that this version does not know counts as changing: nothing is written while it lasts.
fn radius_status(status: Option<&AwsRadiusStatus>) -> Option<RadiusStatus> {
    status.map(|status| match status {
        AwsRadiusStatus::Completed => RadiusStatus::Completed,
        AwsRadiusStatus::Failed => RadiusStatus::Failed,
        _ => RadiusStatus::Creating,
    })
}

/// The addresses of domain controllers that ask, will soon or still do, and whether there are fewer or more to come.
pub(super) fn controllers(found: &[DomainController], desired: Option<i32>) -> (BTreeSet<IpAddr>, bool) {
    let gone = |controller: &&DomainController| {
        matches!(
            controller.status(),
            Some(DomainControllerStatus::Deleted | DomainControllerStatus::Failed)
        )
    };
    let addresses = found
        .iter()
        .filter(|controller| !gone(controller))
        .flat_map(|controller| {
            controller
                .dns_ip_addr()
                .into_iter()
                .chain(controller.dns_ipv6_addr())
        })
        .filter_map(|text| text.parse().ok())
        .collect();
    let active = found
        .iter()
        .filter(|controller| controller.status() == Some(&DomainControllerStatus::Active))
        .count();
    let all_active = active == found.len();
    let enough = desired
        .and_then(|count| usize::try_from(count).ok())
        .is_none_or(|count| active >= count);
    (addresses, !(all_active && enough))
}

fn registered(settings: &AwsRadiusSettings) -> RegisteredSettings {
    let number = |value: Option<i32>| {
        value
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or_default()
    };
    RegisteredSettings {
        servers: settings.radius_servers().to_vec(),
        servers_ipv6: settings.radius_servers_ipv6().to_vec(),
        port: number(settings.radius_port()),
        timeout_seconds: number(settings.radius_timeout()),
        retries: number(Some(settings.radius_retries())),
        protocol: settings
            .authentication_protocol()
            .map_or("", RadiusAuthenticationProtocol::as_str)
            .to_owned(),
        display_label: settings.display_label().unwrap_or_default().to_owned(),
        use_same_username: settings.use_same_username(),
    }
}

/// What is sent: every member, since an update replaces all of them. Of the two lists an empty one is left out.
pub(super) fn settings(wanted: &RadiusSettings) -> AwsRadiusSettings {
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let shown = &wanted.shown;
    let list = |servers: &Vec<String>| Some(servers.clone()).filter(|servers| !servers.is_empty());
    AwsRadiusSettings::builder()
        .set_radius_servers(list(&shown.servers))
        .set_radius_servers_ipv6(list(&shown.servers_ipv6))
        .radius_port(number(shown.port))
        .radius_timeout(number(shown.timeout_seconds))
        .radius_retries(number(shown.retries))
        .shared_secret(wanted.secret.expose_str())
        .authentication_protocol(RadiusAuthenticationProtocol::from(shown.protocol.as_str()))
        .display_label(&shown.display_label)
        .use_same_username(shown.use_same_username)
        .build()
}

#[cfg(test)]
mod tests {
    use aws_sdk_directory::types::DirectoryConnectSettingsDescription;
    use proxy_config::SharedSecret;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_connector_asks_from_its_own_addresses_and_not_from_the_customers_dns() {
        let description = DirectoryDescription::builder()
            .r#type(DirectoryType::AdConnector)
            .dns_ip_addrs("192.0.2.1")
            .connect_settings(
                DirectoryConnectSettingsDescription::builder()
                    .connect_ips("10.0.0.5")
                    .connect_ips_v6("fd00::5")
                    .build(),
            )
            .build();
        let described = Described {
            description,
            sent_at: Timestamp::UNIX_EPOCH,
            answered: Timestamp::UNIX_EPOCH,
            ended: Instant::now(),
        };
        let seen = directory(&described, &Details::default());
        assert_eq!(
            seen.client_addresses,
            BTreeSet::from([ip("10.0.0.5"), ip("fd00::5")])
        );
        assert_eq!(seen.kind, DirectoryKind::AdConnector);
        assert_eq!(seen.radius_status, None);
    }

    #[test]
    fn every_domain_controller_asks_and_one_that_goes_does_not() {
        let controller = |address: &str, status| {
            DomainController::builder()
                .dns_ip_addr(address)
                .status(status)
                .build()
        };
        let found = [
            controller("10.0.0.1", DomainControllerStatus::Active),
            controller("10.0.0.2", DomainControllerStatus::Impaired),
            controller("10.0.0.3", DomainControllerStatus::Deleted),
        ];
        assert_eq!(
            controllers(&found, Some(2)),
            (BTreeSet::from([ip("10.0.0.1"), ip("10.0.0.2")]), true)
        );
        assert!(!controllers(&found[..1], Some(1)).1);
        assert!(controllers(&found[..1], Some(2)).1);
    }

    #[test]
    fn every_member_is_sent_and_an_empty_list_is_not() {
        let sent = settings(&RadiusSettings {
            shown: RegisteredSettings {
                servers: vec!["10.0.0.9".to_owned()],
                port: 1812,
                timeout_seconds: 20,
                protocol: "MS-CHAPv2".to_owned(),
                display_label: "MFA".to_owned(),
                ..RegisteredSettings::default()
            },
            secret: SharedSecret::parse(b"correct horse").unwrap(),
        });
        assert_eq!(sent.radius_servers(), ["10.0.0.9"]);
        assert!(sent.radius_servers_ipv6.is_none());
        assert_eq!(sent.shared_secret(), Some("correct horse"));
        assert_eq!(
            sent.authentication_protocol(),
            Some(&RadiusAuthenticationProtocol::Mschapv2)
        );
        assert!(!format!("{sent:?}").contains("horse"));
        let back = registered(&sent);
        assert_eq!(
            (
                back.port,
                back.timeout_seconds,
                back.retries,
                back.use_same_username
            ),
            (1812, 20, 0, false)
        );
    }

    #[test]
    fn a_status_of_the_future_counts_as_changing() {
        assert_eq!(
            radius_status(Some(&AwsRadiusStatus::from("Pending"))),
            Some(RadiusStatus::Creating)
        );
        assert_eq!(radius_status(None), None);
    }
}
