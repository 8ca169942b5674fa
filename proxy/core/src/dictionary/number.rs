//! Attributes by number, as people write those that their dictionary lacks.

use radius::core::avp::AVPType;
use radius::core::rfc2865;

use super::NameError;

/// A type; of a vendor's attribute 26, the vendor and its own type.
type Number = (AVPType, Option<(u32, u8)>);

/// The numbers in `name`; `None` when it is none of their forms.
pub(super) fn read(name: &str) -> Option<Result<Number, NameError>> {
    let lower = name.to_ascii_lowercase();
    let of_vendor = lower
        .strip_prefix("vendor-")
        .and_then(|rest| rest.split_once("-attr-"))
        .map(|(vendor, typ)| format!("26.{vendor}.{typ}"));
    let text = of_vendor
        .as_deref()
        .unwrap_or_else(|| lower.strip_prefix("attr-").unwrap_or(&lower));
    let is_number = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    is_number.then(|| number_of(text))
}

fn number_of(text: &str) -> Result<Number, NameError> {
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    let octet = |number: u32| u8::try_from(number).ok().filter(|octet| *octet > 0);
    let (code, rest) = match parts.as_deref().and_then(<[u32]>::split_first) {
        Some((code, rest)) => (octet(*code).ok_or(NameError::NotANumber)?, rest),
        None => return Err(NameError::NotANumber),
    };
    match (code, rest) {
        (rfc2865::VENDOR_SPECIFIC_TYPE, [vendor @ 1..=0x00ff_ffff, typ]) => {
            let typ = octet(*typ).ok_or(NameError::NotANumber)?;
            match (*vendor, typ) {
                (MICROSOFT, typ) if MICROSOFT_WITHHELD.contains(&typ) => Err(NameError::Withheld),
                (vendor, _) if OTHER_FORMATS.contains(&vendor) => Err(NameError::VendorFormat),
                _ => Ok((code, Some((*vendor, typ)))),
            }
        }
        (241..=246, _) => Err(NameError::Extended),
        (rfc2865::VENDOR_SPECIFIC_TYPE, _) | (_, [_, ..]) => Err(NameError::NotANumber),
        (code, []) if WITHHELD.contains(&code) => Err(NameError::Withheld),
        (code, []) => Ok((code, None)),
    }
}

/// Passwords, challenges and responses (ARAP and Digest among them), State, Proxy-State, Tunnel-Password, EAP-Message,
/// Message-Authenticator.
const WITHHELD: &[u8] = &[
    2, 3, 24, 33, 60, 69, 70, 73, 74, 79, 80, 84, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114,
    115, 116, 117, 118, 119, 120, 121, 122,
];
const MICROSOFT: u32 = 311;
/// MS-CHAP's and MPPE's (RFC 2548).
const MICROSOFT_WITHHELD: &[u8] = &[1, 2, 3, 4, 5, 6, 11, 12, 16, 17, 25, 26, 27];
/// Vendors whose attributes have no type and length of one octet each, in FreeRADIUS' dictionaries: US Robotics, Lucent,
/// Starent, WiMAX.
const OTHER_FORMATS: &[u32] = &[429, 4_846, 8_164, 24_757];

#[cfg(test)]
mod tests {
    use super::super::lookup;
    use super::*;

    #[test]
    fn numbers_are_attributes_too_in_every_form_that_freeradius_writes() {
        let juniper = (26, Some((2636, 1)));
        for (name, number) in [
            ("26.2636.1", juniper),
            ("Attr-26.2636.1", juniper),
            ("attr-26.2636.1", juniper),
            ("Vendor-2636-Attr-1", juniper),
            ("26.16777215.255", (26, Some((16_777_215, 255)))),
            ("26.311.28", (26, Some((311, 28)))),
            ("25", (25, None)),
            ("Attr-240", (240, None)),
        ] {
            let found = lookup(name).unwrap();
            assert_eq!((found.code, found.vendor), number, "{name}");
        }
        assert_eq!(lookup("11").unwrap().name, "Filter-Id");
        assert_eq!(lookup("26.9.1").unwrap().name, "Cisco-AVPair");
    }

    #[test]
    fn numbers_that_are_none_are_refused_and_so_is_what_is_dangerous_by_name() {
        for name in [
            "0",
            "256",
            "99999999999",
            "26",
            "26.2636",
            "26.2636.",
            "26..1",
            "26.0.1",
            "26.16777216.1",
            "26.2636.0",
            "26.2636.256",
            "26.2636.1.2",
            "25.1",
            "Attr-26",
            "Vendor-0-Attr-1",
        ] {
            assert_eq!(lookup(name), Err(NameError::NotANumber), "{name}");
        }
        for name in [
            "2",
            "3",
            "24",
            "33",
            "60",
            "79",
            "80",
            "Attr-80",
            "69",
            "26.311.1",
            "26.311.16",
            "Vendor-311-Attr-25",
        ] {
            assert_eq!(lookup(name), Err(NameError::Withheld), "{name}");
        }
        for name in ["241", "241.1", "245.26.2636.1"] {
            assert_eq!(lookup(name), Err(NameError::Extended), "{name}");
        }
        for name in ["26.429.1", "26.24757.1"] {
            assert_eq!(lookup(name), Err(NameError::VendorFormat), "{name}");
        }
    }
}
