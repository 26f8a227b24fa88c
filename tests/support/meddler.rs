//! A server, or a client, that is wrong on purpose: stands in the middle of TLS connections, and changes single frames.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postrider::net::tls::{Files, Shown, server_config};
use postrider_protocol::wire::{ClientFrame, ServerFrame};
use postrider_protocol::{frame, limits};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long the one direction may go on when the other has ended: the last frame is still under way.
const AFTER_THE_END: Duration = Duration::from_secs(2);

/// What is done to the frames of one connection; each frame becomes any number of frames.
pub trait Meddling: Send + 'static {
    fn to_server(&mut self, frame: ClientFrame) -> Vec<ClientFrame> {
        vec![frame]
    }

    fn to_client(&mut self, frame: ServerFrame) -> Vec<ServerFrame> {
        vec![frame]
    }
}

/// The proxy. Ends with the runtime.
pub struct Meddler {
    address: SocketAddr,
}

impl Meddler {
    /// In front of the server at `upstream`, with its certificate out of `tls`.
    pub async fn start<M: Meddling>(
        upstream: SocketAddr,
        tls: &Path,
        mut of_a_connection: impl FnMut() -> M + Send + 'static,
    ) -> Self {
        let files = Files { certificate: tls.join("server.pem"), key: tls.join("server.key") };
        let acceptor = TlsAcceptor::from(server_config(Shown::load(&files, 0).unwrap().into()).unwrap());
        let connector = TlsConnector::from(Arc::new(trusting_config()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (acceptor, connector, meddling) = (acceptor.clone(), connector.clone(), of_a_connection());
                tokio::spawn(async move {
                    let server = TcpStream::connect(upstream).await?;
                    client.set_nodelay(true)?;
                    server.set_nodelay(true)?;
                    let name = ServerName::try_from("localhost").unwrap();
                    let server = connector.connect(name, server).await?;
                    let client = acceptor.accept(client).await?;
                    meddle(client, server, meddling).await;
                    std::io::Result::Ok(())
                });
            }
        });
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn meddle<M: Meddling>(
    client: tokio_rustls::server::TlsStream<TcpStream>,
    server: tokio_rustls::client::TlsStream<TcpStream>,
    meddling: M,
) {
    let meddling = Arc::new(std::sync::Mutex::new(meddling));
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (up, down) = (Arc::clone(&meddling), meddling);
    let upwards = pump(&mut from_client, &mut to_server, limits::MAX_LOGIN_FRAME_BYTES, |body| {
        let Ok(frame) = frame::decode_client(body.clone()) else { return framed(&body) };
        let changed = up.lock().unwrap().to_server(frame.clone());
        if changed == [frame] { framed(&body) } else { encode(changed) }
    });
    let downwards = pump(&mut from_server, &mut to_client, limits::MAX_FRAME_BYTES, |body| {
        let Ok(frame) = frame::decode_server(body.clone()) else { return framed(&body) };
        let changed = down.lock().unwrap().to_client(frame.clone());
        if changed == [frame] { framed(&body) } else { encode(changed) }
    });
    tokio::pin!(upwards, downwards);
    // The end of the one direction is passed on; what is still under way in the other arrives.
    tokio::select! {
        () = &mut upwards => drop(tokio::time::timeout(AFTER_THE_END, downwards).await),
        () = &mut downwards => drop(tokio::time::timeout(AFTER_THE_END, upwards).await),
    }
}

fn framed(body: &[u8]) -> Bytes {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat().into()
}

fn encode<F: prost::Message>(frames: Vec<F>) -> Bytes {
    let mut out = BytesMut::new();
    frames.iter().for_each(|frame| frame::put(frame, &mut out));
    out.freeze()
}

/// Frames from one side to the other. From the first of a wrong length on, everything goes as it is.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    longest: usize,
    change: impl Fn(Bytes) -> Bytes,
) {
    let mut inbound = BytesMut::new();
    let mut is_raw = false;
    loop {
        let mut out = BytesMut::new();
        while !is_raw {
            match frame::take(&mut inbound, longest) {
                Ok(Some(body)) => out.extend_from_slice(&change(body)),
                Ok(None) => break,
                Err(_) => is_raw = true,
            }
        }
        if is_raw {
            out.extend_from_slice(&inbound.split());
        }
        if to.write_all(&out).await.is_err() || to.flush().await.is_err() {
            return;
        }
        match from.read_buf(&mut inbound).await {
            Ok(1..) => {}
            _ => {
                drop(to.shutdown().await);
                return;
            }
        }
    }
}

/// Takes any certificate: who is in the middle does.
fn trusting_config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![limits::ALPN.to_vec()];
    config
}

#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
