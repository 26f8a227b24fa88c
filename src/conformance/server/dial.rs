//! From an address to TLS: as the protocol wants it, or otherwise.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use postrider_protocol::limits;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::conformance::ConformanceError;

/// Makes connections to one server.
pub struct Dialer {
    address: SocketAddr,
    name: ServerName<'static>,
    config: ClientConfig,
}

impl Dialer {
    /// To `server` (host:port), trusting the CA in the file `ca`.
    ///
    /// # Errors
    /// When the CA cannot be read or the address does not resolve.
    pub async fn new(server: &str, ca: &Path) -> Result<Self, ConformanceError> {
        let wrong = |why: String| ConformanceError::Address { server: server.to_owned(), why };
        let mut addresses = tokio::net::lookup_host(server).await.map_err(|error| wrong(error.to_string()))?;
        let address = addresses.next().ok_or_else(|| wrong("the name has no address".into()))?;
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| wrong("no certificate can have this name".into()))?;
        Ok(Self { address, name, config: config(ca)? })
    }

    /// Where the server is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A bare socket.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// TLS, offering this protocol name.
    ///
    /// # Errors
    /// The operating system's or TLS's.
    pub async fn tls(&self, alpn: Option<&[u8]>) -> io::Result<TlsStream<TcpStream>> {
        let mut config = self.config.clone();
        config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
        TlsConnector::from(Arc::new(config)).connect(self.name.clone(), self.tcp().await?).await
    }

    /// A maker of connections that remembers tickets and would use early data where it is offered.
    pub fn early(&self) -> EarlyDialer<'_> {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![limits::ALPN.to_vec()];
        config.enable_early_data = true;
        EarlyDialer { dialer: self, connector: TlsConnector::from(Arc::new(config)) }
    }
}

/// See [`Dialer::early`].
pub struct EarlyDialer<'a> {
    dialer: &'a Dialer,
    connector: TlsConnector,
}

impl EarlyDialer<'_> {
    /// A connection, and whether the server's ticket would have let us send early data on it.
    ///
    /// # Errors
    /// The operating system's or TLS's.
    pub async fn tls(&self) -> io::Result<(TlsStream<TcpStream>, bool)> {
        let tcp = self.dialer.tcp().await?;
        let mut offered = false;
        let look = |tls: &mut rustls::ClientConnection| offered = tls.early_data().is_some();
        let stream = self.connector.connect_with(self.dialer.name.clone(), tcp, look).await?;
        Ok((stream, offered))
    }
}

fn config(ca: &Path) -> Result<ClientConfig, ConformanceError> {
    let unusable = |why: String| ConformanceError::Ca { path: ca.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("no PEM certificate in it".into()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
