//! AWS Signature Version 4, verified as AWS does: by the list of signed headers, the payload's hash, the credential scope and
//! the clock ("Signing AWS API requests", IAM User Guide).

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// RFC 3986 unreserved characters stay.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A request as far as its signature covers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Why a signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No Authorization header.
    Missing,
    /// The header lacks a part, or names what is not there.
    Incomplete(String),
    /// Nobody has this access key, or the session token is not its own.
    UnknownKey,
    /// Another service or a malformed scope.
    WrongScope(String),
    /// The clock is too far off.
    Skewed { signed: String, now: String, late: bool },
    /// The signature is another one.
    Different,
}

/// The `Authorization` header, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorization {
    pub(crate) access_key_id: String,
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
    pub(crate) signed_headers: Vec<String>,
    signature: Vec<u8>,
}

impl Authorization {
    /// Reads the header; does not check anything against the request.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refused> {
        let header = headers.get("authorization").ok_or(Refused::Missing)?;
        let incomplete = |what: &str| Refused::Incomplete(what.to_owned());
        let text = header
            .to_str()
            .map_err(|_| incomplete("Authorization header is not ASCII."))?;
        let rest = text
            .strip_prefix("AWS4-HMAC-SHA256")
            .ok_or_else(|| incomplete("Authorization header requires the algorithm AWS4-HMAC-SHA256."))?;
        let part = |name: &str| {
            rest.split(',')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| incomplete(&format!("Authorization header requires '{name}' parameter.")))
        };
        let scope: Vec<&str> = part("Credential")?.split('/').collect();
        let [access_key_id, date, region, service, "aws4_request"] = scope.as_slice() else {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements.",
            ));
        };
        let signature =
            hex::decode(part("Signature")?).map_err(|_| incomplete("Signature is not hexadecimal."))?;
        Ok(Self {
            access_key_id: (*access_key_id).to_owned(),
            date: (*date).to_owned(),
            region: (*region).to_owned(),
            service: (*service).to_owned(),
            signed_headers: part("SignedHeaders")?.split(';').map(str::to_owned).collect(),
            signature,
        })
    }

    /// Checks scope, clock, signed headers and the signature itself.
    pub(crate) fn verify(
        &self,
        request: Signed<'_>,
        service: &str,
        secret_key: &str,
        now: Timestamp,
        skew_seconds: i64,
    ) -> Result<(), Refused> {
        if self.service != service {
            return Err(Refused::WrongScope(format!(
                "Credential should be scoped to correct service: '{service}'."
            )));
        }
        let stamp = header(request.headers, "x-amz-date")
            .ok_or_else(|| Refused::Incomplete("Request must contain an X-Amz-Date header.".to_owned()))?;
        let signed_at = parse_stamp(&stamp)
            .ok_or_else(|| Refused::Incomplete("Date must be in ISO-8601 'basic format'.".to_owned()))?;
        if !stamp.starts_with(&self.date) {
            let what =
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.";
            return Err(Refused::WrongScope(what.to_owned()));
        }
        let off = now.as_second() - signed_at.as_second();
        if off.abs() > skew_seconds {
            let now = now.strftime("%Y%m%dT%H%M%SZ").to_string();
            return Err(Refused::Skewed {
                signed: stamp,
                now,
                late: off > 0,
            });
        }
        self.covers_what_it_must(request.headers)?;
        let canonical = self.canonical_request(request)?;
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{stamp}\n{}/{}/{}/aws4_request\n{}",
            self.date,
            self.region,
            self.service,
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let key = signing_key(secret_key, &self.date, &self.region, &self.service);
        let expected = hmac(&key, to_sign.as_bytes());
        match bool::from(expected.ct_eq(&self.signature)) {
            true => Ok(()),
            false => Err(Refused::Different),
        }
    }

    /// `host` and every `x-amz-*` header must be signed.
    fn covers_what_it_must(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let unsigned = headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(|name| *name == "host" || name.starts_with("x-amz-"))
            .chain(["host"])
            .find(|name| !self.signed_headers.iter().any(|signed| signed == name));
        match unsigned {
            None => Ok(()),
            Some(name) => Err(Refused::Incomplete(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            ))),
        }
    }

    fn canonical_request(&self, request: Signed<'_>) -> Result<String, Refused> {
        let mut headers = String::new();
        for name in &self.signed_headers {
            let value = header(request.headers, name).ok_or_else(|| {
                Refused::Incomplete(format!(
                    "SignedHeaders names '{name}', which the request does not have."
                ))
            })?;
            headers.push_str(&format!("{name}:{value}\n"));
        }
        Ok(format!(
            "{}\n{}\n{}\n{headers}\n{}\n{}",
            request.method,
            canonical_path(request.path),
            canonical_query(request.query),
            self.signed_headers.join(";"),
            hex::encode(Sha256::digest(request.body))
        ))
    }
}

/// All values of a header, each trimmed and with inner blanks made one, joined by commas.
fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(|value| value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn canonical_path(path: &str) -> String {
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| utf8_percent_encode(segment, ENCODED).to_string())
        .collect();
    match segments.join("/") {
        empty if empty.is_empty() => "/".to_owned(),
        path => path,
    }
}

fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let plain = percent_decode_str(text).collect::<Vec<u8>>();
        percent_encoding::percent_encode(&plain, ENCODED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

fn parse_stamp(stamp: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Vec<u8> {
    let seed = zeroize::Zeroizing::new(format!("AWS4{secret}"));
    [date, region, service, "aws4_request"]
        .iter()
        .fold(seed.as_bytes().to_vec(), |key, part| hmac(&key, part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn at(stamp: &str) -> Timestamp {
        parse_stamp(stamp).unwrap()
    }

    fn list_users(signature: &str) -> HeaderMap {
        headers(&[
            ("host", "iam.amazonaws.com"),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("x-amz-date", "20150830T123600Z"),
            (
                "authorization",
                &format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                     SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
                ),
            ),
        ])
    }

    fn verify(headers: &HeaderMap, query: &str, service: &str, now: &str) -> Result<(), Refused> {
        let request = Signed {
            method: "GET",
            path: "/",
            query,
            headers,
            body: b"",
        };
        Authorization::of(headers)?.verify(request, service, SECRET, at(now), 300)
    }

    const LIST_USERS: &str = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

    #[test]
    fn the_published_signing_key_is_derived() {
        let key = signing_key(
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "20150830",
            "us-east-1",
            "iam",
        );
        assert_eq!(
            hex::encode(key),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }

    #[test]
    fn the_published_list_users_request_is_accepted() {
        let headers = list_users(LIST_USERS);
        // Parameters in another order than the canonical one.
        let query = "Version=2010-05-08&Action=ListUsers";
        assert_eq!(verify(&headers, query, "iam", "20150830T123600Z"), Ok(()));
    }

    #[test]
    fn the_published_get_vanilla_request_is_accepted() {
        let headers = headers(&[
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
        ]);
        assert_eq!(verify(&headers, "", "service", "20150830T123600Z"), Ok(()));
    }

    #[test]
    fn a_changed_request_is_refused() {
        let headers = list_users(LIST_USERS);
        assert_eq!(
            verify(&headers, "Action=ListRoles", "iam", "20150830T123600Z"),
            Err(Refused::Different)
        );
    }

    #[test]
    fn five_minutes_of_skew_are_borne_and_no_more() {
        let headers = list_users(LIST_USERS);
        let query = "Action=ListUsers&Version=2010-05-08";
        assert_eq!(verify(&headers, query, "iam", "20150830T124100Z"), Ok(()));
        assert_eq!(verify(&headers, query, "iam", "20150830T123100Z"), Ok(()));
        assert!(matches!(
            verify(&headers, query, "iam", "20150830T124101Z"),
            Err(Refused::Skewed { late: true, .. })
        ));
        assert!(matches!(
            verify(&headers, query, "iam", "20150830T123059Z"),
            Err(Refused::Skewed { late: false, .. })
        ));
    }

    #[test]
    fn an_unsigned_amz_header_is_refused() {
        let mut headers = list_users(LIST_USERS);
        headers.insert("x-amz-target", HeaderValue::from_static("X"));
        let query = "Action=ListUsers&Version=2010-05-08";
        assert!(matches!(
            verify(&headers, query, "iam", "20150830T123600Z"),
            Err(Refused::Incomplete(_))
        ));
    }

    #[test]
    fn another_service_is_a_wrong_scope() {
        let headers = list_users(LIST_USERS);
        assert!(matches!(
            verify(&headers, "", "ds", "20150830T123600Z"),
            Err(Refused::WrongScope(_))
        ));
    }
}
