//! Answers: what is in them, in which order, signed.

use std::net::SocketAddr;
use std::sync::Arc;

use proxy_config::Secret;
use radius::core::code::Code;
use radius::core::{rfc2865, rfc2869};

use crate::clients::Client;
use crate::factor::Approval;
use crate::message_authenticator::SecretKey;
use crate::outputs::SocketId;
use crate::packet::{Avp, HEADER, LONGEST, Request};
use crate::password::{Carrier, is_success};
use crate::record;
use crate::verify::Verified;

/// What an answer needs of its request, and where it goes.
#[derive(Clone)]
pub(crate) struct ReplyTo {
    pub(crate) from: SocketAddr,
    pub(crate) socket: SocketId,
    pub(crate) identifier: u8,
    pub(crate) authenticator: [u8; 16],
    pub(crate) client: Arc<Client>,
    secret: Arc<SecretKey>,
    proxy_states: Vec<Avp>,
}

/// An Access-Accept to be. Only an approval makes one, and it is used up by it.
pub(crate) struct Accept {
    approval: Approval,
    success: Option<Avp>,
}

/// The approval cannot become an answer: MS-CHAPv2's success needs the typed text, and nobody knows it.
pub(crate) struct TextUnknown;

impl Accept {
    /// `found` is the text that the engine itself found by trying keywords.
    pub(crate) fn new(
        approval: Approval,
        carrier: &Carrier,
        found: Option<&str>,
    ) -> Result<Self, TextUnknown> {
        let mut success = None;
        // An upstream server that was given the response has made the success itself. It is this packet's: another one
        // joins a login, or takes its approval, only with the very same response.
        let upstream = |(typ, value): &(u8, Vec<u8>), identifier| {
            *typ == rfc2865::VENDOR_SPECIFIC_TYPE && is_success(value, identifier)
        };
        if let Carrier::MsChapV2(v2) = carrier
            && !approval
                .attributes
                .iter()
                .any(|attribute| upstream(attribute, v2.identifier))
        {
            let provider = approval.found_text.as_ref().map(Secret::expose);
            // The text must be what was typed into *this* packet, whichever the approval was made for.
            let made = [provider, found.map(str::as_bytes)]
                .into_iter()
                .flatten()
                .find_map(|text| v2.success_attribute(text));
            success = Some(made.ok_or(TextUnknown)?);
        }
        Ok(Self { approval, success })
    }
}

impl ReplyTo {
    pub(crate) fn new(
        request: &Verified<Request<'_>>,
        client: &Arc<Client>,
        from: SocketAddr,
        socket: SocketId,
    ) -> Self {
        let packet = request.packet();
        Self {
            from,
            socket,
            identifier: packet.identifier,
            authenticator: packet.authenticator,
            client: Arc::clone(client),
            secret: Arc::clone(request.secret()),
            proxy_states: packet.proxy_states(),
        }
    }

    /// The Access-Accept: message, MS-CHAP2-Success, the upstream server's attributes, the client's own.
    pub(crate) fn accept(&self, accept: Accept) -> Vec<u8> {
        let Accept { approval, success } = accept;
        let mut attributes = Vec::new();
        attributes.extend(success);
        attributes.extend(messages(approval.message.as_deref()));
        attributes.extend(self.client.accept_attributes.iter().cloned());
        attributes.extend(
            approval
                .attributes
                .iter()
                .filter(|(typ, value)| may_be_returned(*typ) && (1..=253).contains(&value.len()))
                .map(|(typ, value)| Avp::new(*typ, value)),
        );
        self.encode(Code::AccessAccept, &attributes)
    }

    /// The Access-Reject, with MS-CHAP-Error where the method has it.
    pub(crate) fn reject(&self, message: Option<&str>, error: Option<Avp>) -> Vec<u8> {
        let mut attributes = Vec::new();
        attributes.extend(error);
        attributes.extend(messages(message));
        self.encode(Code::AccessReject, &attributes)
    }

    /// The Access-Challenge, which asks for a text that goes on from `state`.
    pub(crate) fn challenge(&self, message: &str, state: &[u8; 16]) -> Vec<u8> {
        let mut attributes = vec![Avp::new(rfc2865::STATE_TYPE, state)];
        attributes.extend(messages(Some(message)));
        // Prompt = No-Echo (RFC 2869 section 5.10).
        attributes.push(Avp::new(rfc2869::PROMPT_TYPE, &0_u32.to_be_bytes()));
        self.encode(Code::AccessChallenge, &attributes)
    }

    /// The answer to Status-Server: an Access-Accept that nobody can take for a login's, since the Response
    /// Authenticator binds it to a request of another code (RFC 5997 section 3).
    pub(crate) fn status(&self) -> Vec<u8> {
        self.encode(Code::AccessAccept, &[])
    }

    /// Message-Authenticator first (draft-ietf-radext-deprecating-radius), then `attributes` as far as they fit, then
    /// Proxy-State as it came, which always fits: the request held it beside more than this adds.
    fn encode(&self, code: Code, attributes: &[Avp]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([code as u8, self.identifier, 0, 0]);
        // Where the Response Authenticator comes to stand, once everything else does.
        bytes.extend([0; HEADER - 4]);
        bytes.extend([rfc2869::MESSAGE_AUTHENTICATOR_TYPE, 18]);
        bytes.extend([0; 16]);
        let reserved: usize = self.proxy_states.iter().map(Avp::size).sum();
        let longest = LONGEST.saturating_sub(reserved);
        for attribute in attributes {
            append(&mut bytes, attribute, longest);
        }
        for state in &self.proxy_states {
            append(&mut bytes, state, LONGEST);
        }
        let length = u16::try_from(bytes.len()).unwrap_or_default();
        if let Some(place) = bytes.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.secret.sign(&mut bytes, &self.authenticator, HEADER + 2);
        bytes
    }
}

/// Appends an attribute, if it fits into `longest` bytes.
fn append(bytes: &mut Vec<u8>, avp: &Avp, longest: usize) {
    if let Ok(length) = u8::try_from(avp.size())
        && bytes.len() + avp.size() <= longest
    {
        bytes.extend([avp.typ, length]);
        bytes.extend(&avp.value);
    }
}

/// A message in Reply-Messages of 253 bytes, four at most: more than any screen shows. Breaks of lines and tabs become
/// spaces; what else could change how the text around it is read is written as `\u{…}`.
fn messages(text: Option<&str>) -> Vec<Avp> {
    let parts = text.unwrap_or_default().split(is_break);
    let line = parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let escaped = record::escape(&line);
    let mut rest: &str = &escaped;
    let mut messages = Vec::new();
    while !rest.is_empty() && messages.len() < 4 {
        let (head, tail) = rest.split_at(rest.floor_char_boundary(253));
        messages.push(Avp::new(rfc2865::REPLY_MESSAGE_TYPE, head.as_bytes()));
        rest = tail;
    }
    messages
}

const fn is_break(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What this server makes itself is not taken from another.
fn may_be_returned(typ: u8) -> bool {
    !matches!(
        typ,
        rfc2865::STATE_TYPE
            | rfc2865::PROXY_STATE_TYPE
            | rfc2869::MESSAGE_AUTHENTICATOR_TYPE
            | rfc2869::EAP_MESSAGE_TYPE
    )
}
