//! The server under test, and how the peers of a check come to be.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, client_frame, hello};

use super::dial::Dialer;
use super::peer::{Peer, describe};
use super::{NotKept, Options, broken};
use crate::clock::Clock;
use crate::conformance::ConformanceError;

/// How long nothing must come for it to count as nothing.
pub const SILENCE: Duration = Duration::from_millis(300);

/// What this tool calls itself.
const AGENT: &str = concat!("postrider-conformance/", env!("CARGO_PKG_VERSION"));

/// The name of every check's first device.
pub const DEVICE: &str = "first";

/// How often a login that the server puts off is tried.
const LOGIN_ATTEMPTS: usize = 5;

/// One server, and names that nobody else has.
pub struct World {
    pub(super) options: Options,
    pub(super) dialer: Dialer,
    pub(super) clock: Clock,
    run: String,
    next_user: AtomicU32,
}

impl World {
    /// For a run against this server.
    ///
    /// # Errors
    /// When the CA cannot be read or the address does not resolve.
    pub async fn new(options: Options, clock: Clock) -> Result<Self, ConformanceError> {
        let dialer = Dialer::new(&options.server, &options.ca).await?;
        let run = clock.random_bytes::<4>().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { options, dialer, clock, run, next_user: AtomicU32::new(1) })
    }

    /// Finds out whether a server is there; its name, if it lets us in.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn reach(&self) -> Result<String, ConformanceError> {
        let connecting = tokio::time::timeout(self.options.patience, self.dialer.tls(Some(limits::ALPN))).await;
        let why = match connecting {
            Ok(Ok(_)) => {
                let peer = self.login(&self.user("reach"), DEVICE).await;
                return Ok(peer.map(|peer| peer.welcome.server).unwrap_or_default());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no TLS within {} s", self.options.patience.as_secs()),
        };
        Err(ConformanceError::Unreachable {
            server: format!("{} ({})", self.options.server, self.dialer.address()),
            why,
        })
    }

    /// A user that no check had before.
    pub fn user(&self, role: &str) -> String {
        format!("conf-{}-{}-{role}", self.run, self.next_user.fetch_add(1, Ordering::Relaxed))
    }

    /// TLS, and nothing said yet.
    pub(super) async fn connect(&self) -> Result<Peer, NotKept> {
        let connecting = tokio::time::timeout(self.options.patience, self.dialer.tls(Some(limits::ALPN))).await;
        match connecting {
            Ok(Ok(stream)) => Ok(Peer::new(stream, self.options.patience)),
            Ok(Err(error)) => Err(broken("a TLS connection", error.to_string())),
            Err(_) => Err(broken("a TLS connection", format!("nothing within {:?}", self.options.patience))),
        }
    }

    /// A good `Hello` with open login.
    pub fn hello(&self, user: &str, device: &str) -> wire::Hello {
        wire::Hello {
            version: limits::VERSION,
            app: self.options.app.clone(),
            user: user.to_owned(),
            device: device.to_owned(),
            agent: AGENT.to_owned(),
            method: Some(hello::Method::Open(wire::OpenLogin {})),
            ..Default::default()
        }
    }

    /// A device, logged in by name.
    pub(super) async fn login(&self, user: &str, device: &str) -> Result<Peer, NotKept> {
        self.login_with(self.hello(user, device)).await
    }

    /// Another connection of a device; `cursor` is what it has taken.
    pub(super) async fn resume(
        &self,
        user: &str,
        device: &str,
        last: &wire::Welcome,
        cursor: u64,
    ) -> Result<Peer, NotKept> {
        self.login_with(wire::Hello { device_id: last.device_id, cursor, ..self.hello(user, device) }).await
    }

    /// Logs in with this `Hello`, and waits where the server says so.
    pub(super) async fn login_with(&self, hello: wire::Hello) -> Result<Peer, NotKept> {
        let mut attempts = LOGIN_ATTEMPTS;
        loop {
            let mut peer = self.connect().await?;
            peer.say(client_frame::Body::Hello(hello.clone())).await;
            match peer.next("Welcome").await? {
                Body::Welcome(welcome) => {
                    peer.welcomed(welcome);
                    return Ok(peer);
                }
                Body::Error(error) if error.code == ErrorCode::MethodNotAllowed.number() => {
                    let app = &self.options.app;
                    return Err(NotKept::Skipped(format!(
                        "the app \"{app}\" does not allow open login; name one that does with --app"
                    )));
                }
                Body::Error(error) if error.retry && attempts > 1 => {
                    attempts -= 1;
                    let wait = Duration::from_millis(error.retry_after_ms.max(100).into());
                    tokio::time::sleep(wait.min(self.options.patience)).await;
                }
                other => return Err(broken("Welcome", describe(&other))),
            }
        }
    }

    /// Two users, logged in: who writes, and who gets.
    pub(super) async fn pair(&self) -> Result<Pair, NotKept> {
        let (alice, bob) = (self.user("alice"), self.user("bob"));
        let to_alice = self.login(&alice, DEVICE).await?;
        let to_bob = self.login(&bob, DEVICE).await?;
        Ok(Pair { alice: to_alice, bob: to_bob, names: (alice, bob) })
    }
}

/// Two users.
pub struct Pair {
    pub(super) alice: Peer,
    pub(super) bob: Peer,
    /// Theirs, in the same order.
    pub(super) names: (String, String),
}
