//! Certificates of the simulators' own making, and the wrong ones.

use std::{path::PathBuf, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Where the certificate of a listener comes from.
#[derive(Clone, Debug)]
pub enum TlsSource {
    /// No TLS.
    Plain,
    /// A CA and a certificate for these names (DNS names or addresses).
    Own(Vec<String>),
    /// PEM files.
    Given {
        /// The certificate chain.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// What a new connection meets.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TlsFace {
    /// The right certificate.
    #[default]
    Ok,
    /// One of an unknown CA.
    Untrusted,
    /// One of the right CA, for another name.
    WrongName,
    /// One that ran out in 2021.
    Expired,
    /// No TLS at all, but noise.
    Garbage,
    /// The connection ends at once.
    Close,
}

/// The server configurations of a listener, one for each face that has a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Faces {
    ok: Arc<ServerConfig>,
    untrusted: Arc<ServerConfig>,
    wrong_name: Arc<ServerConfig>,
    expired: Arc<ServerConfig>,
}

impl Faces {
    pub(crate) fn config(&self, face: TlsFace) -> Option<&Arc<ServerConfig>> {
        match face {
            TlsFace::Ok => Some(&self.ok),
            TlsFace::Untrusted => Some(&self.untrusted),
            TlsFace::WrongName => Some(&self.wrong_name),
            TlsFace::Expired => Some(&self.expired),
            TlsFace::Garbage | TlsFace::Close => None,
        }
    }
}

/// What a listener needs of TLS, and the CA that its clients need.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) faces: Faces,
    pub(crate) ca_pem: String,
}

/// Makes or reads the certificate; `None` for plain HTTP.
pub(crate) fn prepare(source: &TlsSource) -> Result<Option<Tls>, Error> {
    let names = match source {
        TlsSource::Plain => return Ok(None),
        TlsSource::Own(names) => names.clone(),
        TlsSource::Given { .. } => vec!["localhost".to_owned()],
    };
    let authority = authority("Simulator CA")?;
    let (ok, ca_pem) = match source {
        TlsSource::Given { certificate, key } => given(certificate, key)?,
        _ => (issue(&authority, &names, false)?, authority.pem()),
    };
    let faces = Faces {
        ok,
        untrusted: issue(&self::authority("Somebody else's CA")?, &names, false)?,
        wrong_name: issue(&authority, &["wrong.invalid".to_owned()], false)?,
        expired: issue(&authority, &names, true)?,
    };
    Ok(Some(Tls { faces, ca_pem }))
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn issue(
    authority: &CertifiedIssuer<'static, KeyPair>,
    names: &[String],
    expired: bool,
) -> Result<Arc<ServerConfig>, Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = common_name(names.first().map_or("simulator", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    if expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    server_config(vec![certificate.der().clone()], key)
}

fn given(certificate: &PathBuf, key: &PathBuf) -> Result<(Arc<ServerConfig>, String), Error> {
    let pem = std::fs::read_to_string(certificate).map_err(|source| Error::Read {
        path: certificate.clone(),
        source,
    })?;
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::ReadPem {
            path: certificate.clone(),
            source,
        })?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| Error::ReadPem {
        path: key.clone(),
        source,
    })?;
    Ok((server_config(chain, key)?, pem))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
