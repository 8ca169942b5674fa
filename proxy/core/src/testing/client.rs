//! A RADIUS client for tests: it builds requests and checks answers by its own code, not by the server's.

use des::Des;
use des::cipher::{Block, BlockCipherEncrypt as _, KeyInit as _};
use hmac::{Hmac, Mac as _};
use md4::Md4;
use md5::{Digest as _, Md5};
use sha1::Sha1;

/// A request being put together.
#[derive(Clone)]
pub(crate) struct Build {
    code: u8,
    identifier: u8,
    authenticator: [u8; 16],
    secret: Vec<u8>,
    attributes: Vec<(u8, Vec<u8>)>,
    signed: bool,
}

impl Build {
    pub(crate) fn access(identifier: u8, authenticator: u8, secret: &str) -> Self {
        Self {
            code: 1,
            identifier,
            authenticator: [authenticator; 16],
            secret: secret.as_bytes().to_vec(),
            attributes: Vec::new(),
            signed: true,
        }
    }

    pub(crate) fn status(identifier: u8, secret: &str) -> Self {
        Self {
            code: 12,
            ..Self::access(identifier, 0x5a, secret)
        }
    }

    pub(crate) fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    pub(crate) fn with(mut self, typ: u8, value: &[u8]) -> Self {
        self.attributes.push((typ, value.to_vec()));
        self
    }

    pub(crate) fn user(self, name: &str) -> Self {
        self.with(1, name.as_bytes())
    }

    pub(crate) fn pap(self, text: &str) -> Self {
        self.pap_octets(text.as_bytes())
    }

    pub(crate) fn pap_octets(self, text: &[u8]) -> Self {
        let mut padded = text.to_vec();
        padded.resize(padded.len().next_multiple_of(16).max(16), 0);
        let (mut value, mut previous) = (Vec::new(), self.authenticator.to_vec());
        for block in padded.chunks(16) {
            let key = Md5::digest([self.secret.as_slice(), &previous].concat());
            previous = block.iter().zip(key).map(|(a, b)| a ^ b).collect();
            value.extend(&previous);
        }
        self.with(2, &value)
    }

    pub(crate) fn chap(self, text: &str) -> Self {
        let challenge = b"chap challenge";
        let mut value = vec![9];
        value.extend(Md5::digest([&[9], text.as_bytes(), challenge].concat()));
        self.with(3, &value).with(60, challenge)
    }

    pub(crate) fn mschapv1(self, text: &str) -> Self {
        let mut response = vec![4, 1];
        response.extend([0; 24]);
        response.extend(des_response(*b"8 bytes!", text));
        self.microsoft(11, b"8 bytes!").microsoft(1, &response)
    }

    pub(crate) fn mschapv2(self, user: &str, text: &str) -> Self {
        self.mschapv2_to(b"server challeng1", user, text)
    }

    /// The response to a challenge: a retry that is no retransmission has another one.
    pub(crate) fn mschapv2_to(self, challenge: &[u8; 16], user: &str, text: &str) -> Self {
        let hash = Sha1::digest(
            [
                b"peer challenge 1".as_slice(),
                challenge.as_slice(),
                user.as_bytes(),
            ]
            .concat(),
        );
        let mut response = vec![5, 0];
        response.extend(b"peer challenge 1");
        response.extend([0; 8]);
        response.extend(des_response(hash[..8].try_into().unwrap(), text));
        self.microsoft(11, challenge).microsoft(25, &response)
    }

    fn microsoft(self, typ: u8, value: &[u8]) -> Self {
        let mut bytes = vec![0, 0, 1, 55, typ, u8::try_from(value.len() + 2).unwrap()];
        bytes.extend(value);
        self.with(26, &bytes)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.code, self.identifier, 0, 0];
        bytes.extend(self.authenticator);
        if self.signed {
            bytes.extend([80, 18]);
            bytes.extend([0; 16]);
        }
        for (typ, value) in &self.attributes {
            bytes.extend([*typ, u8::try_from(value.len() + 2).unwrap()]);
            bytes.extend(value);
        }
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes[2..4].copy_from_slice(&length);
        if self.signed {
            let mac = hmac_md5(&self.secret, &bytes);
            bytes[22..38].copy_from_slice(&mac);
        }
        bytes
    }
}

/// An answer whose signatures are right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u8,
    pub(crate) attributes: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    /// Checks everything that a careful client checks, and that Message-Authenticator is first.
    pub(crate) fn read(bytes: &[u8], request: &[u8], secret: &str) -> Self {
        assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len());
        assert!(bytes.len() <= 4096);
        assert_eq!(bytes[1], request[1], "identifier");
        let signed = [&bytes[..4], &request[4..20], &bytes[20..]].concat();
        let response = Md5::digest([signed.as_slice(), secret.as_bytes()].concat());
        assert_eq!(bytes[4..20], response[..], "Response Authenticator");
        assert_eq!(bytes[20..22], [80, 18], "Message-Authenticator is first");
        let mut zeroed = signed;
        zeroed[22..38].fill(0);
        assert_eq!(
            bytes[22..38],
            hmac_md5(secret.as_bytes(), &zeroed)[..],
            "Message-Authenticator"
        );
        let (mut attributes, mut rest) = (Vec::new(), &bytes[38..]);
        while let [typ, length, ..] = rest {
            assert_ne!(*typ, 80, "one Message-Authenticator");
            attributes.push((*typ, rest[2..usize::from(*length)].to_vec()));
            rest = &rest[usize::from(*length)..];
        }
        assert!(rest.is_empty());
        Self {
            code: bytes[0],
            attributes,
        }
    }

    pub(crate) fn all(&self, typ: u8) -> Vec<&[u8]> {
        let found = self.attributes.iter().filter(|(t, _)| *t == typ);
        found.map(|(_, value)| value.as_slice()).collect()
    }

    pub(crate) fn message(&self) -> String {
        self.all(18)
            .iter()
            .map(|part| String::from_utf8_lossy(part))
            .collect()
    }

    /// The text of a Microsoft attribute after its identifier, and the identifier.
    pub(crate) fn microsoft(&self, typ: u8) -> Option<(u8, String)> {
        let value = self
            .all(26)
            .into_iter()
            .find_map(|value| value.strip_prefix(&[0, 0, 1, 55, typ]))?;
        assert_eq!(usize::from(value[0]), value.len() + 1);
        Some((value[1], String::from_utf8(value[2..].to_vec()).unwrap()))
    }
}

fn hmac_md5(secret: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Md5>::new_from_slice(secret).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

fn des_response(challenge: [u8; 8], text: &str) -> Vec<u8> {
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut hash = Md4::digest(utf16).to_vec();
    hash.resize(21, 0);
    let mut response = Vec::new();
    for key in hash.chunks(7) {
        let bits: String = key.iter().map(|byte| format!("{byte:08b}")).collect();
        let spread: Vec<u8> = (0..8)
            .map(|i| u8::from_str_radix(&bits[i * 7..i * 7 + 7], 2).unwrap() << 1)
            .collect();
        let mut block = Block::<Des>::from(challenge);
        Des::new_from_slice(&spread).unwrap().encrypt_block(&mut block);
        response.extend(block);
    }
    response
}
