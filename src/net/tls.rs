//! TLS: version 1.3 only, hybrid post-quantum key exchange first, ALPN `postrider/1` (TLS-1 … TLS-3).
//!
//! # Layout
//! - here: the configuration, and the certificate that is shown
//! - [`stream`]: TLS over one socket, with no buffer at rest
//! - [`exporter`]: what binds a login proof to its connection

pub mod exporter;
pub mod stream;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use postrider_protocol::limits;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::private::{self, Secrecy};

/// A certificate chain and its key, as files.
#[derive(Clone, Debug)]
pub struct Files {
    /// PEM: the server's certificate, then those that signed it.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// What is wrong with the certificate or the key, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error("cannot use {path}: {why}; [tls] certificate and key name PEM files")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Others than its owner could read the key, or replace the certificate.
    #[error("{path} has mode {mode:04o}, too loose for what it is; run: chmod {wanted:o} {path}")]
    Loose {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The permissions it may have.
        wanted: u32,
    },
    /// Whoever owns it could change it at any time.
    #[error("{path} belongs to user {owner}, who is neither root nor this server's; run: chown {ours} {path}")]
    Foreign {
        /// Which.
        path: PathBuf,
        /// The owner's number.
        owner: u32,
        /// The number of the user that runs this server.
        ours: u32,
    },
    /// Its time is over.
    #[error("the certificate {path} expired on {until}; replace it and start again")]
    Expired {
        /// Which.
        path: PathBuf,
        /// When.
        until: String,
    },
    /// Certificate and key do not belong together, or are of a kind rustls does not take.
    #[error("the certificate {certificate} and the key {key} do not go together: {why}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        why: rustls::Error,
    },
    /// The library refuses what this server asks of it.
    #[error("cannot set up TLS: {0}")]
    Configuration(rustls::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Making(String),
}

/// The certificate that clients are shown. Another one may take its place while the server runs.
#[derive(Debug)]
pub struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    /// The certificate and its key in these files.
    ///
    /// # Errors
    /// [`TlsError`]; a certificate that has expired is refused now rather than by every client later.
    pub fn load(files: &Files, now_s: i64) -> Result<Shown, TlsError> {
        Ok(Shown(RwLock::new(Arc::new(load(files, now_s)?))))
    }

    /// Shows what is in these files from now on; whether that is another certificate than before.
    ///
    /// # Errors
    /// As [`load`](Self::load); then nothing changes.
    pub fn replace(&self, files: &Files, now_s: i64) -> Result<bool, TlsError> {
        let found = load(files, now_s)?;
        let is_new = found.cert != self.current().cert;
        if is_new {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
        }
        Ok(is_new)
    }

    /// What is shown now.
    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn load(files: &Files, now_s: i64) -> Result<CertifiedKey, TlsError> {
    let unusable = |path: &Path, why: String| TlsError::Unusable { path: path.to_owned(), why };
    let certificates = private::read(&files.certificate, Secrecy::Certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
    let chain = chain.map_err(|error| unusable(&files.certificate, plain(&error)))?;
    let Some(first) = chain.first() else { return Err(unusable(&files.certificate, "no certificate in it".into())) };
    check_expiry(&files.certificate, first, now_s)?;
    let key = private::read(&files.key, Secrecy::Key)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| unusable(&files.key, plain(&error)))?;

    let mismatch = |why| TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone(), why };
    CertifiedKey::from_der(chain, key, &provider()).map_err(mismatch)
}

/// The server's TLS configuration around the certificate that it shows.
///
/// # Errors
/// [`TlsError::Configuration`].
pub fn server_config(shown: Arc<Shown>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Configuration)?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![limits::ALPN.to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Configuration)?;
    // One ticket is enough for one next connection, and costs less than two.
    config.send_tls13_tickets = 1;
    config.key_log = Arc::new(exporter::Tap);
    Ok(Arc::new(config))
}

/// AES-128 first: it saves a tenth of the CPU of a login, and is as good as the key exchange behind it.
fn provider() -> CryptoProvider {
    use aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        ..aws_lc_rs::default_provider()
    }
}

fn check_expiry(path: &Path, certificate: &CertificateDer<'_>, now_s: i64) -> Result<(), TlsError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| TlsError::Unusable { path: path.to_owned(), why: error.to_string() })?;
    let until = parsed.validity().not_after;
    if until.timestamp() < now_s {
        return Err(TlsError::Expired { path: path.to_owned(), until: until.to_string() });
    }
    Ok(())
}

fn plain(error: &rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "nothing of the kind in it".into(),
        error => error.to_string(),
    }
}
