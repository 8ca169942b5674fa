//! The attributes that have a name.

use radius::core::avp::AVPType;
use radius::core::{
    rfc2865, rfc2868, rfc2869, rfc3162, rfc4372, rfc4675, rfc4849, rfc5607, rfc6911, rfc7155,
};

use super::{Attribute, Kind};

const SERVICE_TYPE: &[(&str, u32)] = &[
    ("Login-User", rfc2865::SERVICE_TYPE_LOGIN_USER),
    ("Framed-User", rfc2865::SERVICE_TYPE_FRAMED_USER),
    ("Callback-Login-User", rfc2865::SERVICE_TYPE_CALLBACK_LOGIN_USER),
    ("Callback-Framed-User", rfc2865::SERVICE_TYPE_CALLBACK_FRAMED_USER),
    ("Outbound-User", rfc2865::SERVICE_TYPE_OUTBOUND_USER),
    ("Administrative-User", rfc2865::SERVICE_TYPE_ADMINISTRATIVE_USER),
    ("NAS-Prompt-User", rfc2865::SERVICE_TYPE_NAS_PROMPT_USER),
    ("Authenticate-Only", rfc2865::SERVICE_TYPE_AUTHENTICATE_ONLY),
];

const fn standard(name: &'static str, code: AVPType, kind: Kind) -> Attribute {
    Attribute {
        name,
        code,
        vendor: None,
        kind,
        by_number: false,
    }
}

const fn vendor(name: &'static str, id: u32, typ: u8, kind: Kind) -> Attribute {
    Attribute {
        name,
        code: rfc2865::VENDOR_SPECIFIC_TYPE,
        vendor: Some((id, typ)),
        kind,
        by_number: false,
    }
}

/// Everything that has a name. What the server makes itself (Message-Authenticator, Proxy-State, State) and what holds
/// a password or EAP has none here, so that no configuration can send or pass it on.
pub(super) const ATTRIBUTES: &[Attribute] = &[
    standard("User-Name", rfc2865::USER_NAME_TYPE, Kind::Text),
    standard("NAS-IP-Address", rfc2865::NAS_IP_ADDRESS_TYPE, Kind::Ipv4),
    standard("NAS-Port", rfc2865::NAS_PORT_TYPE, Kind::Integer(&[])),
    standard(
        "Service-Type",
        rfc2865::SERVICE_TYPE_TYPE,
        Kind::Integer(SERVICE_TYPE),
    ),
    standard(
        "Framed-Protocol",
        rfc2865::FRAMED_PROTOCOL_TYPE,
        Kind::Integer(&[("PPP", 1)]),
    ),
    standard("Framed-IP-Address", rfc2865::FRAMED_IP_ADDRESS_TYPE, Kind::Ipv4),
    standard("Framed-IP-Netmask", rfc2865::FRAMED_IP_NETMASK_TYPE, Kind::Ipv4),
    standard("Filter-Id", rfc2865::FILTER_ID_TYPE, Kind::Text),
    standard("Framed-MTU", rfc2865::FRAMED_MTU_TYPE, Kind::Integer(&[])),
    standard("Reply-Message", rfc2865::REPLY_MESSAGE_TYPE, Kind::Text),
    standard("Framed-Route", rfc2865::FRAMED_ROUTE_TYPE, Kind::Text),
    standard("Class", rfc2865::CLASS_TYPE, Kind::Octets),
    standard(
        "Session-Timeout",
        rfc2865::SESSION_TIMEOUT_TYPE,
        Kind::Integer(&[]),
    ),
    standard("Idle-Timeout", rfc2865::IDLE_TIMEOUT_TYPE, Kind::Integer(&[])),
    standard(
        "Termination-Action",
        rfc2865::TERMINATION_ACTION_TYPE,
        Kind::Integer(&[("Default", 0), ("RADIUS-Request", 1)]),
    ),
    standard("Called-Station-Id", rfc2865::CALLED_STATION_ID_TYPE, Kind::Text),
    standard("Calling-Station-Id", rfc2865::CALLING_STATION_ID_TYPE, Kind::Text),
    standard("NAS-Identifier", rfc2865::NAS_IDENTIFIER_TYPE, Kind::Text),
    standard("NAS-Port-Type", rfc2865::NAS_PORT_TYPE_TYPE, Kind::Integer(&[])),
    standard("Port-Limit", rfc2865::PORT_LIMIT_TYPE, Kind::Integer(&[])),
    standard(
        "Tunnel-Type",
        rfc2868::TUNNEL_TYPE_TYPE,
        Kind::Tagged(&[("VLAN", 13)]),
    ),
    standard(
        "Tunnel-Medium-Type",
        rfc2868::TUNNEL_MEDIUM_TYPE_TYPE,
        Kind::Tagged(&[("IPv4", 1), ("IPv6", 2), ("IEEE-802", 6)]),
    ),
    standard(
        "Tunnel-Client-Endpoint",
        rfc2868::TUNNEL_CLIENT_ENDPOINT_TYPE,
        Kind::Text,
    ),
    standard(
        "Tunnel-Private-Group-Id",
        rfc2868::TUNNEL_PRIVATE_GROUP_ID_TYPE,
        Kind::Text,
    ),
    standard("Connect-Info", rfc2869::CONNECT_INFO_TYPE, Kind::Text),
    standard(
        "Acct-Interim-Interval",
        rfc2869::ACCT_INTERIM_INTERVAL_TYPE,
        Kind::Integer(&[]),
    ),
    standard("NAS-Port-Id", rfc2869::NAS_PORT_ID_TYPE, Kind::Text),
    standard("Framed-Pool", rfc2869::FRAMED_POOL_TYPE, Kind::Text),
    standard("NAS-IPv6-Address", rfc3162::NAS_IPV6_ADDRESS_TYPE, Kind::Ipv6),
    standard("Framed-IPv6-Pool", rfc3162::FRAMED_IPV6_POOL_TYPE, Kind::Text),
    standard(
        "Chargeable-User-Identity",
        rfc4372::CHARGEABLE_USER_IDENTITY_TYPE,
        Kind::Octets,
    ),
    standard("Egress-VLAN-Name", rfc4675::EGRESS_VLAN_NAME_TYPE, Kind::Text),
    standard("NAS-Filter-Rule", rfc4849::NAS_FILTER_RULE_TYPE, Kind::Text),
    standard(
        "Management-Policy-Id",
        rfc5607::MANAGEMENT_POLICY_ID_TYPE,
        Kind::Text,
    ),
    standard(
        "Management-Privilege-Level",
        rfc5607::MANAGEMENT_PRIVILEGE_LEVEL_TYPE,
        Kind::Integer(&[]),
    ),
    standard(
        "Framed-IPv6-Address",
        rfc6911::FRAMED_IPV6_ADDRESS_TYPE,
        Kind::Ipv6,
    ),
    standard(
        "Originating-Line-Info",
        rfc7155::ORIGINATING_LINE_INFO_TYPE,
        Kind::Octets,
    ),
    vendor("Cisco-AVPair", 9, 1, Kind::Text),
    vendor("ASA-Group-Policy", 3076, 25, Kind::Text),
    vendor("Citrix-User-Groups", 66, 16, Kind::Text),
    vendor("Fortinet-Group-Name", 12356, 1, Kind::Text),
    vendor("PaloAlto-Admin-Role", 25461, 1, Kind::Text),
    vendor("PaloAlto-User-Group", 25461, 5, Kind::Text),
];
