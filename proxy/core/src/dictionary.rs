//! Attributes by name, as FreeRADIUS and the RFCs name them, or by number: those that a configuration can add to an
//! Access-Accept, take the user's address from, or pass to and from an upstream server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use radius::core::avp::AVP;
use radius::core::rfc2865;

use self::attributes::ATTRIBUTES;
use crate::packet::Avp;

mod attributes;
mod number;

/// An attribute that a configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// Its name; empty when it is in no dictionary.
    pub name: &'static str,
    /// Its type; 26 for one of a vendor.
    pub code: u8,
    /// The vendor and the vendor's own type, of one in Vendor-Specific.
    pub vendor: Option<(u32, u8)>,
    kind: Kind,
    /// It was given by number: a value can say its own type.
    by_number: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In no dictionary: text, unless the value says otherwise.
    Unknown,
    Text,
    Octets,
    /// Octets, written in hexadecimal.
    Hex,
    /// 32 bits, some of them with names.
    Integer(&'static [(&'static str, u32)]),
    /// A tag of zero and 24 bits (RFC 2868 section 3), some with names.
    Tagged(&'static [(&'static str, u32)]),
    Ipv4,
    Ipv6,
}

/// Why a text cannot be an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Longer than an attribute can be.
    #[error("is {0} bytes long; an attribute holds {1} at most")]
    TooLong(usize, usize),
    /// Empty: RFC 2865 section 5 has no attribute without a value.
    #[error("is empty; leave the attribute out instead")]
    Empty,
    /// Neither a number nor a known name of one.
    #[error("must be a number of 0 to {0}, or a name that the dictionary has for one")]
    NotANumber(u32),
    /// No IPv4 address.
    #[error("must be an IPv4 address")]
    NotIpv4,
    /// No IPv6 address.
    #[error("must be an IPv6 address")]
    NotIpv6,
    /// Octets that are none.
    #[error("must have an even number of hexadecimal digits after 0x")]
    NotHex,
}

/// Why a text names no attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A name that the dictionary does not have.
    #[error(
        "is not in the dictionary; write a name such as Filter-Id or Class, or a number such as 25 or 26.2636.1 (26, the vendor, the vendor's type)"
    )]
    Unknown,
    /// A number that no attribute has.
    #[error(
        "is no attribute's number; write a type of 1 to 255 such as 25, or 26.2636.1: 26, a vendor of 1 to 16777215, and the vendor's type of 1 to 255"
    )]
    NotANumber,
    /// What holds a password or a key, or what the proxy makes itself.
    #[error(
        "holds a password or a key, or is made by the proxy itself; no configuration can send it or pass it on"
    )]
    Withheld,
    /// RFC 6929.
    #[error("is an extended attribute (RFC 6929), which the proxy cannot write or read")]
    Extended,
    /// A vendor that writes its attributes in a format of its own.
    #[error(
        "is of a vendor whose attributes have a type of more than one octet, which the proxy cannot write or read"
    )]
    VendorFormat,
}

/// Looks up a name (case does not matter), or a number in one of the forms `25`, `26.2636.1`, `Attr-25`,
/// `Attr-26.2636.1`, `Vendor-2636-Attr-1`.
///
/// # Errors
/// No attribute, or none that a configuration can name.
pub fn lookup(name: &str) -> Result<Attribute, NameError> {
    let named = |attribute: &&Attribute| attribute.name.eq_ignore_ascii_case(name);
    if let Some(attribute) = ATTRIBUTES.iter().find(named) {
        return Ok(*attribute);
    }
    let (code, vendor) = number::read(name).ok_or(NameError::Unknown)??;
    let known = ATTRIBUTES
        .iter()
        .find(|attribute| attribute.code == code && attribute.vendor == vendor);
    let unknown = Attribute {
        name: "",
        code,
        vendor,
        kind: Kind::Unknown,
        by_number: true,
    };
    Ok(known.map_or(unknown, |known| Attribute {
        by_number: true,
        ..*known
    }))
}

impl Attribute {
    /// The attribute with a value given as text. A value of one that was given by number can say its type: `0x0a01`,
    /// `integer:15`, `ipaddr:192.0.2.1`, `ipv6addr:2001:db8::1`, `string:0x0a01`.
    ///
    /// # Errors
    /// The text is not a value of the attribute's type.
    pub(crate) fn encode(&self, text: &str) -> Result<Avp, ValueError> {
        let (kind, text) = if self.by_number {
            explicit(text).unwrap_or((self.kind, text))
        } else {
            (self.kind, text)
        };
        let plain = match kind {
            Kind::Text | Kind::Unknown => AVP::from_string(self.code, text),
            Kind::Octets => AVP::from_bytes(self.code, text.as_bytes()),
            Kind::Hex => AVP::from_bytes(self.code, &hex::decode(text).map_err(|_| ValueError::NotHex)?),
            Kind::Integer(names) => AVP::from_u32(self.code, number(text, names, u32::MAX)?),
            // The crate's own tagged integer is a byte too long; a tag of zero is a number below 2^24.
            Kind::Tagged(names) => AVP::from_u32(self.code, number(text, names, 0x00ff_ffff)?),
            Kind::Ipv4 => AVP::from_ipv4(
                self.code,
                &text.parse::<Ipv4Addr>().map_err(|_| ValueError::NotIpv4)?,
            ),
            Kind::Ipv6 => AVP::from_ipv6(
                self.code,
                &text.parse::<Ipv6Addr>().map_err(|_| ValueError::NotIpv6)?,
            ),
        };
        let value = plain.encode_bytes();
        let longest = if self.vendor.is_some() { 247 } else { 253 };
        if value.is_empty() {
            return Err(ValueError::Empty);
        }
        if value.len() > longest {
            return Err(ValueError::TooLong(value.len(), longest));
        }
        Ok(match self.vendor {
            Some((id, typ)) => vendor_specific(id, typ, &value),
            None => Avp {
                typ: self.code,
                value,
            },
        })
    }

    /// Whether an attribute of this type with this value is the one named, of a vendor's its first part.
    #[must_use]
    pub fn is(&self, typ: u8, value: &[u8]) -> bool {
        let Some((vendor, vendor_typ)) = self.vendor else {
            return self.code == typ;
        };
        let rest = value.strip_prefix(&vendor.to_be_bytes());
        self.code == typ && rest.and_then(<[u8]>::first) == Some(&vendor_typ)
    }

    /// The address in a value of this attribute: as text, or as the four or sixteen bytes of its type.
    pub(crate) fn address(&self, value: &[u8]) -> Option<IpAddr> {
        let value = match self.vendor {
            // A vendor's value begins after the vendor's number, type and length, which counts the last two.
            Some(_) => value.get(6..4 + usize::from(*value.get(5)?))?,
            None => value,
        };
        let v4 = || <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
        let v6 = || <[u8; 16]>::try_from(value).ok().map(IpAddr::from);
        let text = || std::str::from_utf8(value).ok()?.trim().parse().ok();
        let address = match self.kind {
            Kind::Ipv4 => v4(),
            Kind::Ipv6 => v6(),
            Kind::Unknown => text().or_else(v4).or_else(v6),
            _ => text(),
        };
        Some(address?.to_canonical())
    }
}

/// A value that says its type, by FreeRADIUS' names of types.
fn explicit(text: &str) -> Option<(Kind, &str)> {
    let kinds = [
        ("0x", Kind::Hex),
        ("integer:", Kind::Integer(&[])),
        ("ipaddr:", Kind::Ipv4),
        ("ipv6addr:", Kind::Ipv6),
        ("string:", Kind::Text),
    ];
    kinds
        .into_iter()
        .find_map(|(prefix, kind)| Some((kind, text.strip_prefix(prefix)?)))
}

/// Vendor-Specific (RFC 2865 section 5.26). The value must be of 247 bytes at most.
pub(crate) fn vendor_specific(vendor: u32, typ: u8, value: &[u8]) -> Avp {
    let length = u8::try_from(value.len() + 2).unwrap_or(u8::MAX);
    let mut bytes = Vec::with_capacity(6 + value.len());
    bytes.extend_from_slice(&vendor.to_be_bytes());
    bytes.extend_from_slice(&[typ, length]);
    bytes.extend_from_slice(value);
    Avp {
        typ: rfc2865::VENDOR_SPECIFIC_TYPE,
        value: bytes,
    }
}

fn number(text: &str, names: &[(&str, u32)], largest: u32) -> Result<u32, ValueError> {
    let named = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    named
        .map(|(_, value)| *value)
        .or_else(|| text.parse().ok())
        .filter(|value| *value <= largest)
        .ok_or(ValueError::NotANumber(largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, text: &str) -> Result<Vec<u8>, ValueError> {
        lookup(name).unwrap().encode(text).map(|avp| avp.value)
    }

    #[test]
    fn names_are_found_whatever_their_case_and_dangerous_ones_not_at_all() {
        assert_eq!(lookup("filter-id").unwrap().code, 11);
        for name in [
            "State",
            "Proxy-State",
            "Message-Authenticator",
            "User-Password",
            "EAP-Message",
            "",
            "Attr-",
            "Attr-x",
            "-25",
            "+25",
            ".25",
            "Vendor-2636",
            "Vendor-x-Attr-1",
        ] {
            assert_eq!(lookup(name), Err(NameError::Unknown), "{name}");
        }
    }

    #[test]
    fn a_value_by_number_is_text_or_says_its_type() {
        let of = |value: &[u8]| {
            let mut bytes = vec![0, 0, 0x0a, 0x4c, 1, u8::try_from(value.len() + 2).unwrap()];
            bytes.extend(value);
            Ok(bytes)
        };
        for (text, octets) in [
            ("super-user", &b"super-user"[..]),
            ("15", b"15"),
            ("0x0A01ff", b"\x0a\x01\xff"),
            ("integer:15", b"\0\0\0\x0f"),
            ("ipaddr:192.0.2.1", b"\xc0\0\x02\x01"),
            ("ipv6addr:::1", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"),
            ("string:0x0a01", b"0x0a01"),
        ] {
            assert_eq!(value("26.2636.1", text), of(octets), "{text}");
        }
        for (text, error) in [
            ("0x", ValueError::Empty),
            ("0xabc", ValueError::NotHex),
            ("0xzz", ValueError::NotHex),
            ("string:", ValueError::Empty),
            ("ipaddr:::1", ValueError::NotIpv4),
            ("integer:x", ValueError::NotANumber(u32::MAX)),
        ] {
            assert_eq!(value("26.2636.1", text), Err(error), "{text}");
        }
        assert_eq!(
            value("26.2636.1", &"x".repeat(248)),
            Err(ValueError::TooLong(248, 247))
        );
        // One that the dictionary has keeps its type there.
        assert_eq!(value("27", "3600"), Ok(vec![0, 0, 14, 16]));
        assert_eq!(value("Attr-27", "0x00000e10"), Ok(vec![0, 0, 14, 16]));
        assert_eq!(
            value("Class", "0x0a01"),
            Ok(b"0x0a01".to_vec()),
            "by name as ever"
        );
    }

    #[test]
    fn values_have_the_type_of_their_attribute() {
        assert_eq!(value("Service-Type", "Administrative-User"), Ok(vec![0, 0, 0, 6]));
        assert_eq!(value("Session-Timeout", "3600"), Ok(vec![0, 0, 14, 16]));
        assert_eq!(value("Tunnel-Type", "VLAN"), Ok(vec![0, 0, 0, 13]));
        assert_eq!(
            value("Tunnel-Type", "16777216"),
            Err(ValueError::NotANumber(0x00ff_ffff))
        );
        assert_eq!(value("Framed-IP-Address", "10.0.0.9"), Ok(vec![10, 0, 0, 9]));
        assert_eq!(value("Framed-IP-Address", "::1"), Err(ValueError::NotIpv4));
        assert_eq!(value("Filter-Id", ""), Err(ValueError::Empty));
        assert_eq!(
            value("Class", &"x".repeat(254)),
            Err(ValueError::TooLong(254, 253))
        );
        assert_eq!(
            value("Fortinet-Group-Name", "vpn"),
            Ok(vec![0, 0, 0x30, 0x44, 1, 5, b'v', b'p', b'n'])
        );
    }

    #[test]
    fn an_address_is_read_as_text_or_bytes() {
        let text = lookup("Calling-Station-Id").unwrap();
        assert_eq!(text.address(b"192.0.2.7"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(
            text.address(b"::ffff:192.0.2.7"),
            Some("192.0.2.7".parse().unwrap())
        );
        assert_eq!(text.address(b"00-11-22-33-44-55"), None);
        let bytes = lookup("Framed-IP-Address").unwrap();
        assert_eq!(bytes.address(&[192, 0, 2, 7]), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(bytes.address(&[192, 0, 2]), None);
        let unknown = lookup("26.2636.1").unwrap();
        let of = |value: &[u8]| {
            let mut bytes = vec![0, 0, 0x0a, 0x4c, 1, u8::try_from(value.len() + 2).unwrap()];
            bytes.extend(value);
            bytes
        };
        let address = Some("192.0.2.7".parse().unwrap());
        assert_eq!(unknown.address(&of(b"192.0.2.7")), address);
        assert_eq!(unknown.address(&of(&[192, 0, 2, 7])), address);
        // Another part of the same Vendor-Specific follows.
        let mut two = of(b"192.0.2.7");
        two.extend([2, 3, b'x']);
        assert_eq!(unknown.address(&two), address);
        assert_eq!(unknown.address(&[0, 0, 0x0a, 0x4c, 1, 0]), None);
    }

    #[test]
    fn no_fuzz_makes_it_panic_and_what_it_encodes_fits_and_is_its_own() {
        bolero::check!()
            .with_type::<(u8, String, u8, Vec<u8>)>()
            .for_each(|(which, text, typ, value)| {
                let attribute = &ATTRIBUTES[usize::from(*which) % ATTRIBUTES.len()];
                if let Ok(avp) = attribute.encode(text) {
                    let encoded = avp.value;
                    assert!((1..=253).contains(&encoded.len()));
                    assert!(attribute.is(attribute.code, &encoded));
                }
                let _ = attribute.is(*typ, value);
                let _ = attribute.address(value);
            });
    }
}
