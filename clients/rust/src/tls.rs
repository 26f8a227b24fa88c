//! TLS as the protocol wants it: 1.3 only, one ALPN name, and the certificates that the application trusts (TLS-1 to TLS-3).

use std::io;
use std::sync::Arc;

use postrider_protocol::limits::{self, EXPORTER_BYTES};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, CipherSuite, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Error, Options, Trust};

/// Makes TLS connections to one server. Keeps the session tickets, so that a reconnect resumes.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    server: String,
}

impl Tls {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // Servers follow this order; the shorter key is as safe here, and cheaper for both.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::Options(format!("TLS 1.3 is not available: {error}")))?
            .with_root_certificates(roots(options.trust.as_ref())?)
            .with_no_client_auth();
        config.alpn_protocols = vec![limits::ALPN.to_vec()];
        let name = options.server_name.as_deref().map_or_else(|| options.host(), Ok)?;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Error::Options(format!("\"{name}\" is no name that a certificate can have")))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name, server: options.server.clone() })
    }

    pub(crate) async fn handshake(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let connecting = self.connector.connect(self.name.clone(), tcp).await;
        let stream = connecting.map_err(|error| self.handshake_error(&error))?;
        if stream.get_ref().1.alpn_protocol() != Some(limits::ALPN) {
            return Err(self.not_postrider("it speaks TLS, but did not agree to the protocol postrider/1".into()));
        }
        Ok(stream)
    }

    fn handshake_error(&self, error: &io::Error) -> Error {
        let server = self.server.clone();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                let detail = match reason {
                    CertificateError::UnknownIssuer => "it was signed by an unknown CA".into(),
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        format!("it is not for the name {}", self.name.to_str())
                    }
                    other => other.to_string(),
                };
                Error::Untrusted { server, detail }
            }
            Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                self.not_postrider("it speaks TLS, but not the protocol postrider/1".into())
            }
            Some(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)) => {
                self.not_postrider("it does not speak TLS 1.3".into())
            }
            Some(rustls::Error::InvalidMessage(_)) => self.not_postrider("what it answers is not TLS".into()),
            Some(other) => self.not_postrider(other.to_string()),
            None => Error::Lost { server, detail: format!("during the TLS handshake: {error}") },
        }
    }

    fn not_postrider(&self, detail: String) -> Error {
        Error::NotPostrider { server: self.server.clone(), detail }
    }
}

/// The bytes that tie a login's signature to this connection (LOGIN-6).
pub(crate) fn exporter(stream: &TlsStream<TcpStream>) -> Result<[u8; EXPORTER_BYTES], rustls::Error> {
    stream.get_ref().1.export_keying_material([0; EXPORTER_BYTES], limits::EXPORTER_LABEL, None)
}

fn roots(trust: Option<&Trust>) -> Result<RootCertStore, Error> {
    let (pem, source) = match trust {
        Some(Trust::CaPem(pem)) => (pem.clone(), "the CA certificate given".to_owned()),
        Some(Trust::CaFile(path)) => {
            let source = path.display().to_string();
            (std::fs::read(path).map_err(|error| Error::Options(format!("cannot read {source}: {error}")))?, source)
        }
        None => return Err(Error::Options("no CA certificate to trust is given; set Options::trust".into())),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let unusable = |error: &dyn std::fmt::Display| Error::Options(format!("{source} is not usable: {error}"));
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() { Err(Error::Options(format!("{source} has no PEM certificate"))) } else { Ok(roots) }
}
