//! One connection of the generator: bytes ↔ wire ↔ part, on one task, with at most one read and one write a wake-up. The
//! same for every server, and as `postrider bench` does it.

use std::cell::RefCell;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postrider::bench::control::{Stage, Steered};
use postrider::clock::Clock;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::part::Part;
use crate::wire::{Heard, Wire, WireError};

/// Bytes of one read.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The longest line before TLS.
const MAX_GREETING_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Why a connection was not made, or ended before its work did.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The socket, or TLS.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The protocol.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// A bug of the generator's.
    #[error("its task panicked")]
    Panicked,
}

/// Makes connections to one server.
pub struct Dialer {
    address: SocketAddr,
    greets: bool,
    connector: TlsConnector,
    clock: Clock,
}

impl Dialer {
    /// To `port` of this machine, whose certificate this CA vouches for. A server that `greets` sends a line before TLS.
    ///
    /// # Errors
    /// When the CA cannot be used.
    pub fn new(port: u16, ca: &Path, alpn: Option<&[u8]>, greets: bool, clock: Clock) -> io::Result<Self> {
        let mut tls = tls(ca).map_err(io::Error::other)?;
        tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { address, greets, connector: TlsConnector::from(Arc::new(tls)), clock })
    }

    /// The generator's time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// TCP and TLS.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn dial(&self, mut wire: Box<dyn Wire>) -> Result<Link, Broken> {
        let mut tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        if self.greets {
            read_greeting(&mut tcp).await?;
        }
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = self.connector.connect(name, tcp).await?;
        let mut outbound = BytesMut::new();
        wire.open(&mut outbound);
        Ok(Link { stream, wire, inbound: BytesMut::new(), outbound, ready: false })
    }
}

/// As our own clients have it: version 1.3, hybrid key exchange first, the shorter cipher first. Every handshake is a
/// full one.
fn tls(ca: &Path) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The server says nothing more before it has seen TLS: the line ends what can be read.
async fn read_greeting(tcp: &mut TcpStream) -> io::Result<()> {
    let mut line = BytesMut::new();
    while !line.ends_with(b"\n") {
        if line.len() > MAX_GREETING_BYTES || tcp.read_buf(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// A connection.
pub struct Link {
    stream: TlsStream<TcpStream>,
    wire: Box<dyn Wire>,
    inbound: BytesMut,
    outbound: BytesMut,
    ready: bool,
}

impl Link {
    /// Logs in, says so, and plays the part until its work is done or the run halts.
    ///
    /// # Errors
    /// [`Broken`], when the connection ends before.
    pub async fn play(
        mut self,
        part: &mut Part,
        steered: &Steered,
        clock: &Clock,
        is_ready: impl FnOnce() + Send,
    ) -> Result<(), Broken> {
        let mut is_ready = Some(is_ready);
        loop {
            let now = clock.elapsed();
            let Self { wire, inbound, outbound, ready, .. } = &mut self;
            wire.take(inbound, outbound, now, &mut |heard| match heard {
                Heard::Ready => *ready = true,
                heard => part.hear(heard),
            })?;
            if inbound.is_empty() {
                *inbound = BytesMut::new();
            }
            if *ready && let Some(is_ready) = is_ready.take() {
                is_ready();
            }
            let stage = steered.stage();
            if *ready && part.act(wire.as_mut(), outbound, stage, now).is_break() || stage == Stage::Halt {
                return Ok(());
            }
            poll_fn(|cx| self.poll_wake(cx, steered, now)).await?;
        }
    }

    /// Writes what there is; then waits for bytes or the bell.
    fn poll_wake(&mut self, cx: &mut Context<'_>, steered: &Steered, now: Duration) -> Poll<io::Result<()>> {
        let _ = self.poll_write_out(cx, now)?;
        if self.poll_read_in(cx)?.is_ready() || steered.was_rung(cx.waker()) {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<io::Result<()>> {
        loop {
            self.wire.flush(&mut self.outbound, now);
            if self.outbound.is_empty() {
                break;
            }
            while !self.outbound.is_empty() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outbound))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.outbound.advance(written);
            }
            self.outbound = BytesMut::new();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            while buffer.remaining() > 0 {
                let before = buffer.filled().len();
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
                    _ => break,
                }
            }
            if buffer.filled().is_empty() {
                return Poll::Pending;
            }
            self.inbound.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(()))
        })
    }
}
