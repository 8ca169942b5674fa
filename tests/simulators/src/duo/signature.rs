//! Duo's request signatures, versions 2, 4 and 5 (Auth API, "Authentication"; version 5 as Duo's own client makes it).

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method};
use jiff::{Timestamp, fmt::rfc2822};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use super::{failure::Failure, settings::Settings};

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A request as far as its signature covers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a Method,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    /// Parameters of the query.
    pub(super) query: &'a [(String, String)],
    /// Parameters of a form body.
    pub(super) form: &'a [(String, String)],
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    pub(super) is_json: bool,
}

/// What a signature proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    /// The application that signed.
    pub(super) ikey: String,
    /// The kind of signature, such as `5-sha512`.
    pub(super) signature: &'static str,
}

/// Checks key, date and signature.
pub(super) fn verify(request: Signed<'_>, settings: &Settings, now: Timestamp) -> Result<Proven, Failure> {
    let (ikey, given) = credentials(request.headers)?;
    let skey = settings.secret_key(&ikey).ok_or(Failure::new(40102))?;
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let date = header("x-duo-date")
        .or_else(|| header("date"))
        .ok_or(Failure::new(40104))?;
    let signed_at = rfc2822::parse(date).map_err(|_| Failure::new(40105))?.timestamp();
    if (now.as_second() - signed_at.as_second()).abs() > settings.clock_skew_seconds {
        return Err(Failure::new(40105));
    }
    let accepted = |version: &str| settings.signatures.iter().any(|known| known == version);
    let skey = skey.expose();
    let proven = |signature| Proven {
        ikey: ikey.clone(),
        signature,
    };
    let fits = |expected: Vec<u8>| bool::from(expected.ct_eq(&given));
    if given.len() == 20 {
        let fits = accepted("2") && fits(sha1_hmac(skey, &canonical(request, date, "2", false)));
        return fits.then(|| proven("2-sha1")).ok_or(Failure::new(40103));
    }
    // A JSON body is signed with 4 or 5 only, a form with 2 only; a GET can be any of them.
    let candidates: &[(&str, bool, &'static str)] = match (request.is_json, request.method) {
        (true, _) => &[
            ("5", false, "5-sha512"),
            ("4", false, "4-sha512"),
            ("5", true, "5-sha512"),
        ],
        (false, &Method::POST) => &[("2", false, "2-sha512")],
        (false, _) => &[
            ("5", false, "5-sha512"),
            ("2", false, "2-sha512"),
            ("4", false, "4-sha512"),
            ("5", true, "5-sha512"),
        ],
    };
    candidates
        .iter()
        .filter(|(version, ..)| accepted(version))
        .find(|(version, dated, _)| fits(sha512_hmac(skey, &canonical(request, date, version, *dated))))
        .map(|(.., name)| proven(name))
        .ok_or(Failure::new(40103))
}

/// `Basic base64(ikey:hex)`
fn credentials(headers: &HeaderMap) -> Result<(String, Vec<u8>), Failure> {
    let missing = || Failure::new(40101);
    let header = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .ok_or_else(missing)?;
    let encoded = header.strip_prefix("Basic ").ok_or_else(missing)?;
    let decoded = STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(missing)?;
    let (ikey, signature) = decoded.split_once(':').ok_or_else(missing)?;
    let signature = hex::decode(signature).map_err(|_| Failure::new(40103))?;
    Ok((ikey.to_owned(), signature))
}

/// `dated`: whether X-Duo-Date counts among the X-Duo headers of version 5.
fn canonical(request: Signed<'_>, date: &str, version: &str, dated: bool) -> String {
    let host = request.host.to_ascii_lowercase();
    let mut lines = vec![
        date.to_owned(),
        request.method.as_str().to_owned(),
        host,
        request.path.to_owned(),
    ];
    match version {
        "2" => {
            let all: Vec<_> = request.query.iter().chain(request.form).cloned().collect();
            lines.push(parameters(&all));
        }
        _ => {
            lines.push(parameters(request.query));
            lines.push(hex::encode(Sha512::digest(request.body)));
        }
    }
    if version == "5" {
        lines.push(hex::encode(Sha512::digest(duo_headers(request.headers, dated))));
    }
    lines.join("\n")
}

fn parameters(pairs: &[(String, String)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let mut encoded: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    encoded.sort();
    encoded
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

fn duo_headers(headers: &HeaderMap, dated: bool) -> String {
    let mut named: Vec<(&str, &str)> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-duo-") && (dated || *name != "x-duo-date"))
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    named.sort_unstable();
    named
        .into_iter()
        .flat_map(|(name, value)| [name, value])
        .collect::<Vec<_>>()
        .join("\0")
}

fn sha512_hmac(key: &str, text: &str) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha512>::new_from_slice(key.as_bytes()) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn sha1_hmac(key: &str, text: &str) -> Vec<u8> {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key.as_bytes()) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duo::settings::Application;
    use crate::secret::Secret;
    use http::HeaderValue;

    const DATE: &str = "Tue, 21 Aug 2012 17:29:18 -0000";
    const IKEY: &str = "DIWJ8X6AEYOR5OMC6TQ1";

    fn settings() -> Settings {
        Settings {
            ikey: IKEY.into(),
            skey: Secret::new("Zh5eGmUq9zpfQnyUIu5OL9iWoMMv5ZNmk3zLJ4Ep"),
            ..Settings::default()
        }
    }

    fn check(
        path: &str,
        form: &[(&str, &str)],
        body: &str,
        signature: &str,
    ) -> Result<&'static str, Failure> {
        check_with(&settings(), path, form, body, signature).map(|proven| proven.signature)
    }

    fn check_with(
        settings: &Settings,
        path: &str,
        form: &[(&str, &str)],
        body: &str,
        signature: &str,
    ) -> Result<Proven, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static(DATE));
        let basic = format!("Basic {}", STANDARD.encode(format!("{IKEY}:{signature}")));
        headers.insert("authorization", HeaderValue::from_str(&basic).unwrap());
        let form: Vec<_> = form
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let request = Signed {
            method: &Method::POST,
            host: "API-xxxxxxxx.duosecurity.com",
            path,
            query: &[],
            form: &form,
            headers: &headers,
            body: body.as_bytes(),
            is_json: form.is_empty(),
        };
        verify(request, settings, rfc2822::parse(DATE).unwrap().timestamp())
    }

    const FORM: [(&str, &str); 2] = [("username", "root"), ("realname", "First Last")];

    #[test]
    fn the_published_version_2_signature_holds_with_sha1() {
        let signature = "2d97d6166319781b5a3a07af39d366f491234edc";
        assert_eq!(
            check("/accounts/v1/account/list", &FORM, "", signature),
            Ok("2-sha1")
        );
    }

    #[test]
    fn the_version_2_signature_holds_with_sha512() {
        let signature = "1bffb8924348f7db7da9e7d7d749ded93aafd02d8e904960da7b96c57510220185a64a2827ee8f24ac5d30802a9ee97e\
                         59de44b304b18242f0d596d15a8122af";
        assert_eq!(
            check("/accounts/v1/account/list", &FORM, "", signature),
            Ok("2-sha512")
        );
    }

    #[test]
    fn the_version_5_signature_holds() {
        let body = r#"{"async":"1","device":"auto","factor":"push","username":"jane"}"#;
        let signature = "7ba62abc0628f869f3c6ccbcf722c5d78106da3b90d83b94e0bfaaf8c7252ae3ab20add087c6a520897f2046a5f5ceff\
                         0f415e2da1b5bc791a950c910bc888ac";
        assert_eq!(check("/auth/v2/auth", &[], body, signature), Ok("5-sha512"));
        assert_eq!(
            check("/auth/v2/auth", &[], &body.replace("jane", "john"), signature),
            Err(Failure::new(40103))
        );
    }

    #[test]
    fn each_application_of_an_account_has_its_own_key() {
        let body = r#"{"async":"1","device":"auto","factor":"push","username":"jane"}"#;
        let signature = "7ba62abc0628f869f3c6ccbcf722c5d78106da3b90d83b94e0bfaaf8c7252ae3ab20add087c6a520897f2046a5f5ceff\
                         0f415e2da1b5bc791a950c910bc888ac";
        let known = settings();
        let check = |settings: &Settings| check_with(settings, "/auth/v2/auth", &[], body, signature);
        let others = |skey: Secret| Settings {
            ikey: "DIOTHERAPPLICATION00".into(),
            skey: Secret::new("x"),
            applications: vec![Application {
                ikey: IKEY.into(),
                skey,
            }],
            ..Settings::default()
        };
        assert_eq!(check(&others(known.skey)).unwrap().ikey, IKEY);
        assert_eq!(check(&others(Secret::new("x"))), Err(Failure::new(40103)));
        let mut gone = others(Secret::new("x"));
        gone.applications.clear();
        assert_eq!(check(&gone), Err(Failure::new(40102)));
    }
}
