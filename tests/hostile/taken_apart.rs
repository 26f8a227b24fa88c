//! Clients without a runtime, whose TLS can be taken apart.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::BytesMut;
use postrider_protocol::wire::{ClientFrame, client_frame};
use postrider_protocol::{frame, limits};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets};
use rustls_pki_types::ServerName;

use crate::support::{Raw, ServerProcess, Target};

const PATIENCE: Duration = Duration::from_secs(15);

/// What a record says it is.
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

pub fn frame_of(body: client_frame::Body) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put(&ClientFrame { received: 0, body: Some(body) }, &mut out);
    out.to_vec()
}

/// A client without a runtime, whose TLS can be taken apart.
pub struct Blocking {
    pub tls: ClientConnection,
    socket: std::net::TcpStream,
}

impl Blocking {
    pub fn new(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let socket = std::net::TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Self { tls: ClientConnection::new(Arc::clone(config), name).unwrap(), socket }
    }

    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut client = Self::new(address, config);
        client.shake_hands();
        client
    }

    pub fn shake_hands(&mut self) {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.socket).unwrap();
        }
    }

    pub fn say(&mut self, body: client_frame::Body) {
        self.tls.writer().write_all(&frame_of(body)).unwrap();
        self.tls.complete_io(&mut self.socket).unwrap();
    }

    pub fn hears_anything(&mut self) -> bool {
        rustls::Stream::new(&mut self.tls, &mut self.socket).read(&mut [0; 4096]).is_ok_and(|read| read > 0)
    }

    /// Until the end.
    pub fn everything(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        rustls::Stream::new(&mut self.tls, &mut self.socket).read_to_end(&mut all).unwrap();
        all
    }
}

/// A connection whose keys are ours: we write records that no TLS library would.
pub struct Forger {
    socket: std::net::TcpStream,
    outward: Direction,
    inward: Direction,
}

struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another cipher suite") };
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap());
        Self { key, iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Forger {
    /// Logged in, so that everything of the handshake is over.
    pub fn log_in(server: &ServerProcess, user: &str) -> Self {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
            ..rustls::crypto::aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(Raw::roots(server))
            .with_no_client_auth();
        config.alpn_protocols = vec![limits::ALPN.to_vec()];
        config.enable_secret_extraction = true;
        let mut client = Blocking::connect(server.address(), &Arc::new(config));
        client.say(client_frame::Body::Hello(Raw::hello(user, "phone")));
        // Welcome and CaughtUp, whole records.
        assert!(client.hears_anything());
        while client.tls.wants_write() {
            client.tls.write_tls(&mut client.socket).unwrap();
        }
        let secrets = client.tls.dangerous_extract_secrets().unwrap();
        Self { socket: client.socket, outward: Direction::new(secrets.tx), inward: Direction::new(secrets.rx) }
    }

    /// One record of this kind with this in it. The server may have closed.
    pub fn write(&mut self, kind: u8, body: &[u8]) {
        let mut sealed = [body, &[kind]].concat();
        let length = u16::try_from(sealed.len() + AES_128_GCM.tag_len()).unwrap().to_be_bytes();
        let header = [DATA, 3, 3, length[0], length[1]];
        let nonce = self.outward.nonce();
        self.outward.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed).unwrap();
        drop(self.socket.write_all(&[&header[..], &sealed].concat()));
    }

    /// The alert that ends it; `None` if it ends without.
    pub fn alert(mut self) -> Option<u8> {
        loop {
            let mut header = [0; 5];
            self.socket.read_exact(&mut header).ok()?;
            let mut sealed = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            self.socket.read_exact(&mut sealed).ok()?;
            let nonce = self.inward.nonce();
            let opened = self.inward.key.open_in_place(nonce, Aad::from(header), &mut sealed).unwrap();
            if let [.., description, ALERT] = *opened {
                return Some(description);
            }
        }
    }
}
