//! From an address to a connection that is logged in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::error::CodedError;
use postrider_protocol::session::client::{Login, LoginMethod, LoginRequest, LoginStep, Session};
use postrider_protocol::{frame, limits, wire};
use rustls::client::{ClientSessionStore, Resumption};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::Connection;
use super::member::Member;
use super::{BenchError, Target};
use crate::clock::Clock;

/// From the first packet to `Welcome`.
const PATIENCE: Duration = Duration::from_secs(30);

/// The device every user of a run has.
const DEVICE: &str = "bench";

/// Makes connections to one server. The connections are dealt out to the source addresses in turn.
pub struct Dialer {
    address: SocketAddr,
    name: ServerName<'static>,
    app: String,
    tls: Arc<ClientConfig>,
    sources: Vec<Ipv4Addr>,
    clock: Clock,
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP, TLS, or the end of it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server said no.
    #[error("the login failed: {}: {}", .0.name, .0.detail)]
    Refused(wire::Error),
    /// The server did not keep to the protocol.
    #[error("the login failed: {0}")]
    Protocol(String),
    /// Took longer than it may.
    #[error("no Welcome within {} s", PATIENCE.as_secs())]
    Timeout,
}

impl From<CodedError> for DialError {
    fn from(error: CodedError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl DialError {
    /// Whether trying again may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Io(_) | Self::Timeout => true,
            Self::Refused(error) => error.retry,
            Self::Protocol(_) => false,
        }
    }
}

impl Dialer {
    /// Towards `target`, from these addresses in turn; from whichever the system chooses if there are none.
    ///
    /// # Errors
    /// When the CA cannot be read or the address does not resolve.
    pub async fn new(target: &Target, sources: Vec<Ipv4Addr>, clock: Clock) -> Result<Self, BenchError> {
        let unknown = |why: String| BenchError::Server { server: target.server.clone(), why };
        let address = target.resolve().await?;
        let host = target.server.rsplit_once(':').map_or(target.server.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| unknown("no certificate can have this name".into()))?;
        let tls = Arc::new(tls(&target.ca)?);
        Ok(Self { address, name, app: target.app.clone(), tls, sources, clock })
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

    /// The `index`th connection of the run, for this member: TCP, TLS, login.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&self, index: usize, member: &mut Member) -> Result<Connection, DialError> {
        let dialing = async {
            let tcp = self.connect(index).await?;
            tcp.set_nodelay(true)?;
            let stream = self.connector(member).connect(self.name.clone(), tcp).await?;
            self.login(stream, member).await
        };
        tokio::time::timeout(PATIENCE, dialing).await.unwrap_or(Err(DialError::Timeout))
    }

    async fn connect(&self, index: usize) -> io::Result<TcpStream> {
        if self.sources.is_empty() {
            return TcpStream::connect(self.address).await;
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(self.sources[index % self.sources.len()]), 0))?;
        socket.connect(self.address).await
    }

    /// Without a ticket every handshake is a full one.
    fn connector(&self, member: &Member) -> TlsConnector {
        let Some(ticket) = &member.ticket else { return TlsConnector::from(Arc::clone(&self.tls)) };
        let mut tls = ClientConfig::clone(&self.tls);
        tls.resumption = Resumption::store(Arc::clone(ticket) as Arc<dyn ClientSessionStore>);
        TlsConnector::from(Arc::new(tls))
    }

    async fn login(&self, mut stream: TlsStream<TcpStream>, member: &mut Member) -> Result<Connection, DialError> {
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let request = LoginRequest {
            app: self.app.clone(),
            user: member.user.clone(),
            device: DEVICE.into(),
            device_id: member.device_id,
            window: 0,
            agent: concat!("postrider-bench/", env!("CARGO_PKG_VERSION")).into(),
            method: LoginMethod::Open,
        };
        let mut login = Login::new(request, &member.device);
        let mut out = BytesMut::new();
        login.poll_transmit(&mut out);
        stream.write_all(&out).await?;
        stream.flush().await?;
        let mut inbound = BytesMut::new();
        loop {
            while let Some(body) = frame::take(&mut inbound, limits::MAX_FRAME_BYTES)? {
                let frame = frame::decode_server(body)?;
                if let Some(session) = self.step(&mut login, frame, member)? {
                    return Ok(Connection::new(stream, inbound, session, resumed));
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
        frame: wire::ServerFrame,
        member: &mut Member,
    ) -> Result<Option<Session>, DialError> {
        match login.handle_frame(frame, &mut member.device, self.clock.elapsed())? {
            LoginStep::LoggedIn(session, welcome) => {
                member.device_id = welcome.device_id;
                Ok(Some(*session))
            }
            LoginStep::Waiting => Ok(None),
            LoginStep::Sign { .. } => Err(DialError::Protocol("the server asks for a key".into())),
            LoginStep::Failed(error) => Err(DialError::Refused(error)),
        }
    }
}

impl Target {
    /// Where it is.
    ///
    /// # Errors
    /// When its name has no address.
    pub async fn resolve(&self) -> Result<SocketAddr, BenchError> {
        let unknown = |why: String| BenchError::Server { server: self.server.clone(), why };
        let mut addresses = tokio::net::lookup_host(&self.server).await.map_err(|error| unknown(error.to_string()))?;
        addresses.next().ok_or_else(|| unknown("the name has no address".into()))
    }
}

fn tls(ca: &Path) -> Result<ClientConfig, BenchError> {
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
    config.resumption = Resumption::disabled();
    Ok(config)
}
