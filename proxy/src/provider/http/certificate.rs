//! Explains what is wrong with a server's certificate and how to correct it.

use rustls::CertificateError;

/// How to create a self-signed certificate that can be trusted by itself.
const MAKE_ANOTHER: &str = "create another one with `openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=HOST -addext \
                            basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST -keyout key.pem -out \
                            cert.pem` (IP:ADDRESS instead of DNS:HOST for an address), or have it signed by a CA and trust \
                            that CA's certificate";

/// Explains a TLS error in a sentence. Falls back to the error's own text.
pub(crate) fn describe(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(cause) = error else {
        return error.to_string();
    };
    advice(cause).unwrap_or_else(|| error.to_string())
}

fn advice(cause: &CertificateError) -> Option<String> {
    Some(match cause {
        CertificateError::Other(other) if is_ca(other) => format!(
            "the server's certificate is one of a CA (CA:TRUE, as `openssl req -x509` creates it), which is not accepted \
             as a server's: {MAKE_ANOTHER}"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the server's certificate is not for this name: the name that is connected to must be among its subject \
             alternative names (the common name does not count); {MAKE_ANOTHER}"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: renew it, and check this host's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: check this host's clock".to_owned()
        }
        // A CA that was created again under its old name has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is signed by a CA that is not trusted: put that CA's certificate (or the server's own, \
             if it is self-signed) into the CA bundle, and have the server send its intermediate certificates"
                .to_owned()
        }
        _ => return None,
    })
}

fn is_ca(error: &rustls::OtherError) -> bool {
    matches!(
        error.0.downcast_ref::<webpki::Error>(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}

/// An error of a TLS handshake, which is a [`rustls::Error`] in an [`std::io::Error`].
pub(crate) fn describe_io(error: &std::io::Error) -> String {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.map_or_else(|| error.to_string(), describe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair};
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};

    fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    /// What is said where `server` is shown by a server that is connected to as `localhost`.
    fn said(server: &Certificate, trusted: &Certificate) -> String {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        match verifier.verify_server_cert(server.der(), &[], &name, &[], UnixTime::now()) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => describe(&error),
        }
    }

    #[test]
    fn each_usual_mistake_is_told_with_what_to_do() {
        let right = self_signed("localhost", |params| params.is_ca = IsCa::ExplicitNoCa);
        assert_eq!(said(&right, &right), "accepted");
        let ca = self_signed("localhost", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        let text = said(&ca, &ca);
        assert!(
            text.contains("-addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:"),
            "{text}"
        );
        let other = self_signed("elsewhere.example", |params| params.is_ca = IsCa::ExplicitNoCa);
        let text = said(&other, &other);
        assert!(
            text.contains("not for this name") && text.contains("subjectAltName"),
            "{text}"
        );
        let old = self_signed("localhost", |params| {
            params.is_ca = IsCa::ExplicitNoCa;
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        assert!(said(&old, &old).contains("has expired"), "{}", said(&old, &old));
        assert!(
            said(&right, &other).contains("CA bundle"),
            "{}",
            said(&right, &other)
        );
    }
}
