//! What was given as second factor, as far as it can be read.

use super::Engine;
use crate::factor::{Continues, Credential, Forwarded, UserName};
use crate::packet::Request;
use crate::password::Password;
use crate::random::TextDigest;
use crate::record::CredentialKind;
use crate::settings::ProviderKind;
use crate::typed::{self, Typed};

/// A credential, and what the engine must know of it.
pub(super) struct Given {
    pub(super) credential: Credential,
    pub(super) kind: CredentialKind,
    /// Tells the same text from another, or the same response where no text was found.
    pub(super) text: Option<TextDigest>,
    /// The text is the user's own: not empty, no keyword and no passcode, which anybody could type. A response counts
    /// as the user's own, since only its client can send it again.
    pub(super) own_text: bool,
    /// The text, if it is one of the keywords that were tried.
    pub(super) found: Option<Box<str>>,
    /// It can start a push: one at a time for a user.
    pub(super) exclusive: bool,
    pub(super) continues: Continues,
    /// The text is the name of another product's factor. The user gets an explanation, and no provider is asked.
    pub(super) unknown_factor: bool,
    /// The State is unknown, used or too old. Only a retry of a known login is accepted with it.
    pub(super) stale: bool,
}

impl Engine {
    pub(super) fn classify(
        &self,
        request: &Request<'_>,
        password: &Password,
        user: &UserName,
        continues: Option<Continues>,
    ) -> Given {
        let stale = continues.is_none();
        let continues = continues.unwrap_or(Continues::Nothing);
        let mut given = match password {
            Password::Pap(text) => {
                let typed = typed::classify(text.expose(), &self.checked().config.policy.typed_text);
                let unknown_factor = matches!(typed, Typed::UnknownFactor);
                let (credential, kind) = match typed {
                    Typed::Keyword(keyword) => (Credential::Keyword(keyword), CredentialKind::Keyword),
                    Typed::Passcode(code) => (Credential::Passcode(code), CredentialKind::Passcode),
                    Typed::UnknownFactor => (Credential::Default, CredentialKind::Keyword),
                    Typed::Other => (Credential::Default, CredentialKind::Default),
                };
                let exclusive = self.exclusive(kind);
                Given {
                    text: Some(self.digest(user, text.expose())),
                    own_text: typed::is_own(text.expose()),
                    credential,
                    kind,
                    found: None,
                    exclusive,
                    continues,
                    unknown_factor,
                    stale,
                }
            }
            _ => Given {
                stale,
                ..self.guess(password, user, continues)
            },
        };
        if self.checked().provider == ProviderKind::Upstream
            && let Some(forwarded) = forwarded(request, password)
        {
            given.credential = Credential::Forward(forwarded);
            given.kind = CredentialKind::Forward;
            // The upstream server has keywords of its own.
            given.unknown_factor = false;
        }
        given
    }

    /// Tries what an unreadable text can be.
    fn guess(&self, password: &Password, user: &UserName, continues: Continues) -> Given {
        let upstream = self.checked().provider == ProviderKind::Upstream;
        // An upstream server's keywords are its own.
        let candidate = if upstream {
            None
        } else {
            self.candidates.find(password)
        };
        if let Some(candidate) = candidate {
            let (credential, kind) = match candidate.keyword {
                Some(keyword) => (Credential::Keyword(keyword), CredentialKind::Keyword),
                None => (Credential::Default, CredentialKind::Default),
            };
            return Given {
                credential,
                kind,
                text: Some(self.digest(user, candidate.text.as_bytes())),
                own_text: false,
                found: Some(candidate.text.as_str().into()),
                exclusive: self.exclusive(kind),
                continues,
                unknown_factor: false,
                stale: false,
            };
        }
        let parts = password.response_parts();
        Given {
            credential: password
                .response()
                .map_or(Credential::Default, Credential::Response),
            kind: CredentialKind::Response,
            text: parts.map(|parts| self.random.digest_response(user, parts)),
            own_text: true,
            found: None,
            exclusive: self.exclusive(CredentialKind::Response),
            continues,
            unknown_factor: false,
            stale: false,
        }
    }

    fn digest(&self, user: &UserName, text: &[u8]) -> TextDigest {
        let peers = self.checked().config.peers.as_ref();
        self.random.digest(peers.map(|peers| &peers.key), user, text)
    }

    fn exclusive(&self, kind: CredentialKind) -> bool {
        self.checked().provider != ProviderKind::Local && kind != CredentialKind::Passcode
    }
}

/// The password for an upstream server. A code in groups is sent as its digits alone.
fn forwarded(request: &Request<'_>, password: &Password) -> Option<Forwarded> {
    match password {
        Password::Pap(text) => typed::whole_code(text.expose()).map(Forwarded::Pap),
        _ => None,
    }
    .or_else(|| password.forwarded(request))
}
