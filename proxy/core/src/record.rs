//! The record of a login: one for each, whatever became of it, and never what was typed.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::factor::{Basis, Factor, RefusalReason};

/// One login, finished. Serialises to one flat JSON object with snake_case names; absent values are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoginRecord {
    /// When it ended: RFC 3339 in UTC with milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub time: Duration,
    /// The normalised user name; of a name that is refused as such, what can be shown of it. Control, bidi and
    /// invisible characters are written as `\u{…}`.
    #[serde(serialize_with = "escaped")]
    pub user: String,
    /// The client's name.
    #[serde(serialize_with = "text")]
    pub client: Arc<str>,
    /// The address and port that the last packet came from.
    pub source: SocketAddr,
    /// The user's own address, where the client tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_address: Option<IpAddr>,
    /// How the password was carried.
    pub method: Method,
    /// What the typed text was taken for.
    pub credential: CredentialKind,
    /// The factor that decided.
    #[serde(serialize_with = "factor")]
    pub factor: Factor,
    /// The provider: `duo`, `okta`, `totp`, `radius`.
    pub provider: &'static str,
    /// What was answered.
    pub result: LoginResult,
    /// Why, unless it is an accept by the factor itself.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reason")]
    pub reason: Option<Reason>,
    /// What an accept rests on.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "basis")]
    pub basis: Option<Basis>,
    /// From the first packet to the end, in milliseconds.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// Whether the request had a (valid) Message-Authenticator.
    pub message_authenticator: bool,
    /// Packets of this login: 1, and one for each that joined it. Retransmissions count.
    pub packets: u32,
    /// Whether its push was started by another proxy, and followed here. Left out when not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub followed: bool,
}

/// How a password was carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// User-Password.
    Pap,
    /// CHAP-Password.
    Chap,
    /// MS-CHAP-Response.
    MsChapV1,
    /// MS-CHAP2-Response.
    MsChapV2,
    /// None of them.
    None,
}

impl Method {
    /// The name in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pap => "pap",
            Self::Chap => "chap",
            Self::MsChapV1 => "mschapv1",
            Self::MsChapV2 => "mschapv2",
            Self::None => "none",
        }
    }
}

/// What a typed text was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialKind {
    /// Nothing was looked at: the login ended before.
    None,
    /// Empty, or something that may be a password: the default factor.
    Default,
    /// A factor keyword.
    Keyword,
    /// A passcode.
    Passcode,
    /// Unreadable (CHAP, MS-CHAP) and none of the keywords.
    Response,
    /// Passed on to an upstream server.
    Forward,
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginResult {
    /// Access-Accept.
    Accept,
    /// Access-Reject.
    Reject,
    /// Access-Challenge: the user goes on in a login of its own.
    Challenge,
    /// Nothing.
    Silent,
}

impl LoginResult {
    /// The name in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Challenge => "challenge",
            Self::Silent => "silent",
        }
    }
}

/// Why a login ended as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Refused.
    Refused(RefusalReason),
    /// Accepted by an approval that came after the answer to an earlier try.
    LateApproval,
    /// The client used the packet's port and identifier for something new (RFC 5080 section 2.2.2).
    Superseded,
    /// The client went on with another proxy, which follows the login's push.
    HandedOver,
    /// The provider has no code for a login without one, and the client can ask for it.
    CodeAsked,
    /// The directory's probe: rejected at once, and no login.
    Probe,
}

impl Reason {
    /// The name in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused(reason) => reason.name(),
            Self::LateApproval => "late_approval",
            Self::Superseded => "superseded",
            Self::HandedOver => "handed_over",
            Self::CodeAsked => "code_asked",
            Self::Probe => "probe",
        }
    }
}

fn text<S: Serializer>(value: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value)
}

fn factor<S: Serializer>(value: &Factor, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

#[allow(clippy::ref_option, reason = "the signature is serde's")]
fn reason<S: Serializer>(value: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.map_or("", Reason::name))
}

#[allow(clippy::ref_option, reason = "the signature is serde's")]
fn basis<S: Serializer>(value: &Option<Basis>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.map_or("", Basis::name))
}

fn milliseconds<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
}

fn escaped<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&escape(value))
}

/// `text` with everything that could change how a line of a log is read written as `\u{…}`: control characters, bidi
/// marks and embeddings, line separators, and what cannot be seen.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe_to_show(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character controls how text around it is shown, or cannot be seen itself.
#[must_use]
pub fn is_unsafe_to_show(c: char) -> bool {
    // What Unicode calls default ignorable (fillers, variation selectors and tags among it), interlinear annotations,
    // line separators, and the blank of braille.
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn rfc3339<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(Rfc3339::of(*value).as_str())
}

/// A time since 1970 as `2026-05-04T03:02:01.000Z`. Digits are set one by one: a record is written for every login,
/// and formatting the date costs more than the rest of it.
struct Rfc3339([u8; 24]);

impl Rfc3339 {
    fn of(time: Duration) -> Self {
        let seconds = time.as_secs();
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Days to a date of the Gregorian calendar, counted in eras of 400 years that begin on 1 March of year 0.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, second / 3600),
            (14..16, second / 60 % 60),
            (17..19, second % 60),
            (20..23, u64::from(time.subsec_millis())),
        ];
        for (place, number) in parts {
            let mut rest = number;
            for digit in text.get_mut(place).unwrap_or_default().iter_mut().rev() {
                *digit += u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
        }
        Self(text)
    }

    fn as_str(&self) -> &str {
        // ASCII all of it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LoginRecord {
        LoginRecord {
            time: Duration::from_millis(1_709_210_096_789),
            user: "ja\u{202e}ne\n".to_owned(),
            client: "directory".into(),
            source: "10.0.0.7:40000".parse().unwrap(),
            user_address: None,
            method: Method::MsChapV2,
            credential: CredentialKind::Response,
            factor: Factor::Passcode,
            provider: "totp",
            result: LoginResult::Reject,
            reason: Some(Reason::Refused(RefusalReason::WrongPasscode)),
            basis: None,
            duration: Duration::from_micros(1_234_567),
            message_authenticator: true,
            packets: 1,
            followed: false,
        }
    }

    #[test]
    fn a_record_is_one_line_of_json_that_cannot_be_bent() {
        let line = serde_json::to_string(&record()).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"time":"2024-02-29T12:34:56.789Z","user":"ja\\u{202e}ne\\u{a}","client":"directory","#,
                r#""source":"10.0.0.7:40000","method":"mschapv2","credential":"response","factor":"passcode","#,
                r#""provider":"totp","result":"reject","reason":"wrong_passcode","duration_ms":1234,"#,
                r#""message_authenticator":true,"packets":1}"#
            )
        );
    }

    #[test]
    fn what_cannot_be_seen_or_changes_what_is_seen_is_escaped() {
        for c in [
            '\u{0}',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{17b5}',
            '\u{180b}',
            '\u{180e}',
            '\u{180f}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{206f}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe00}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{1bca0}',
            '\u{1d173}',
            '\u{1d17a}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
            '\u{e0100}',
            '\u{e01ef}',
        ] {
            assert!(is_unsafe_to_show(c), "{:04x}", u32::from(c));
        }
        for c in [
            'a', ' ', 'ß', 'é', '名', '한', 'ي', '\u{301}', '\u{fffd}', '🙂', '\u{a0}',
        ] {
            assert!(!is_unsafe_to_show(c), "{c}");
        }
        assert_eq!(escape("ja\u{ad}ne\u{3164}"), "ja\\u{ad}ne\\u{3164}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339::of(Duration::from_secs(seconds)).as_str(), date);
        }
    }

    #[test]
    fn no_fuzz_bends_a_line() {
        bolero::check!().with_type::<String>().for_each(|text| {
            let escaped = escape(text);
            assert!(!escaped.chars().any(is_unsafe_to_show));
            assert_eq!(escape(&escaped), escaped);
            let mut record = record();
            record.user.clone_from(text);
            assert_eq!(serde_json::to_string(&record).unwrap().lines().count(), 1);
        });
    }
}
