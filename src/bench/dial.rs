//! From an address to a connection that is logged in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::error::CodedError;
use postrider_protocol::session::client::{Device, Login, LoginMethod, LoginRequest, LoginStep, Session};
use postrider_protocol::{frame, limits};
use rustls::client::Resumption;
use rustls::{CipherSuite, ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::Connection;
use super::{BenchError, Target};
use crate::clock::Clock;

/// From the first packet to `Welcome`.
const PATIENCE: Duration = Duration::from_secs(30);

/// The device every user of a run has.
const DEVICE: &str = "bench";

/// Tickets kept at once, where sessions are to be resumed.
const KEPT_TICKETS: usize = 4096;

/// Makes connections to one server. The connections are dealt out to the source addresses in turn.
pub struct Dialer {
    address: SocketAddr,
    name: ServerName<'static>,
    app: String,
    connector: TlsConnector,
    sources: Vec<IpAddr>,
    clock: Clock,
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP, TLS, or the end of it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server or the protocol said no.
    #[error("the login failed: {0}")]
    Login(String),
    /// Took longer than it may.
    #[error("no Welcome within {} s", PATIENCE.as_secs())]
    Timeout,
}

impl From<CodedError> for DialError {
    fn from(error: CodedError) -> Self {
        Self::Login(error.to_string())
    }
}

impl Dialer {
    /// Towards `target`, from `sources` addresses of 127.0.0.0/8 if the server is there, too. Every TLS handshake is a
    /// full one unless `resume`.
    ///
    /// # Errors
    /// When the CA cannot be read or the address does not resolve.
    pub async fn new(target: &Target, resume: bool, clock: Clock) -> Result<Self, BenchError> {
        let unknown = |why: String| BenchError::Server { server: target.server.clone(), why };
        let mut addresses =
            tokio::net::lookup_host(&target.server).await.map_err(|error| unknown(error.to_string()))?;
        let address = addresses.next().ok_or_else(|| unknown("the name has no address".into()))?;
        let host = target.server.rsplit_once(':').map_or(target.server.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| unknown("no certificate can have this name".into()))?;
        let connector = TlsConnector::from(Arc::new(tls(&target.ca, resume)?));
        Ok(Self { address, name, app: target.app.clone(), connector, sources: Vec::new(), clock })
    }

    /// Connects from so many addresses of 127.0.0.0/8 in turn.
    #[must_use]
    pub fn with_sources(mut self, sources: u16) -> Self {
        let address = |n: u16| IpAddr::V4(Ipv4Addr::new(127, 0, (n >> 8) as u8, (n & 0xff) as u8));
        self.sources = (1..=sources).map(address).collect();
        self
    }

    /// Where the server is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The generator's time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The `index`th connection: TCP, TLS, login as `user`.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&self, index: usize, user: String) -> Result<Connection, DialError> {
        let dialing = async {
            let tcp = self.connect(index).await?;
            tcp.set_nodelay(true)?;
            let stream = self.connector.connect(self.name.clone(), tcp).await?;
            self.login(stream, user).await
        };
        tokio::time::timeout(PATIENCE, dialing).await.unwrap_or(Err(DialError::Timeout))
    }

    async fn connect(&self, index: usize) -> io::Result<TcpStream> {
        if self.sources.is_empty() {
            return TcpStream::connect(self.address).await;
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.sources[index % self.sources.len()], 0))?;
        socket.connect(self.address).await
    }

    async fn login(&self, mut stream: TlsStream<TcpStream>, user: String) -> Result<Connection, DialError> {
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let mut device = Device::default();
        let request = LoginRequest {
            app: self.app.clone(),
            user,
            device: DEVICE.into(),
            device_id: 0,
            window: 0,
            agent: concat!("postrider-bench/", env!("CARGO_PKG_VERSION")).into(),
            method: LoginMethod::Open,
        };
        let mut login = Login::new(request, &device);
        let mut out = BytesMut::new();
        login.poll_transmit(&mut out);
        stream.write_all(&out).await?;
        stream.flush().await?;
        let mut inbound = BytesMut::new();
        loop {
            while let Some(body) = frame::take(&mut inbound, limits::MAX_FRAME_BYTES)? {
                let frame = frame::decode_server(body)?;
                if let Some(session) = self.step(&mut login, frame, &mut device)? {
                    return Ok(Connection::new(stream, inbound, session, device, resumed));
                }
            }
            if stream.read_buf(&mut inbound).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn step(
        &self,
        login: &mut Login,
        frame: postrider_protocol::wire::ServerFrame,
        device: &mut Device,
    ) -> Result<Option<Session>, DialError> {
        match login.handle_frame(frame, device, self.clock.elapsed())? {
            LoginStep::LoggedIn(session, _) => Ok(Some(*session)),
            LoginStep::Waiting => Ok(None),
            LoginStep::Sign { .. } => Err(DialError::Login("the server asks for a key".into())),
            LoginStep::Failed(error) => Err(DialError::Login(format!("{}: {}", error.name, error.detail))),
        }
    }
}

fn tls(ca: &Path, resume: bool) -> Result<ClientConfig, BenchError> {
    let unusable = |why: String| BenchError::Ca { path: PathBuf::from(ca), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("no PEM certificate in it".into()));
    }
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // As our clients do, so that the server's part of a handshake is the one that they cause.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![limits::ALPN.to_vec()];
    config.resumption = if resume { Resumption::in_memory_sessions(KEPT_TICKETS) } else { Resumption::disabled() };
    Ok(config)
}
