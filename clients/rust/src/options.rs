//! Where to connect, as whom, and how.

use std::path::PathBuf;
use std::time::Duration;

use postrider_protocol::{limits, name};

use crate::Error;

/// How far past what the application has confirmed the server streams, in positions, unless
/// [`Options::window`] says otherwise.
pub const DEFAULT_WINDOW: u32 = 1024;

/// How to connect. Made with [`Options::new`]; everything else has a default.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) server: String,
    pub(crate) server_name: Option<String>,
    pub(crate) app: String,
    pub(crate) user: String,
    pub(crate) device: String,
    pub(crate) trust: Option<Trust>,
    pub(crate) login: Login,
    pub(crate) window: u32,
    pub(crate) agent: String,
    pub(crate) retry_first: bool,
    pub(crate) manual_confirm: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) close_timeout: Duration,
}

/// Whose word about the server's identity is taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trust {
    /// The CA certificates in this PEM file.
    CaFile(PathBuf),
    /// The CA certificates in this PEM text.
    CaPem(Vec<u8>),
}

/// How to prove who this is. The key of the last two is made by the client and kept in its state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Login {
    /// By name alone, where the operator allows it.
    Open,
    /// With the key that this state was enrolled with.
    DeviceKey,
    /// With a one-time code, the first time; with the device's key from then on, so the same options serve every start.
    Enroll {
        /// The code, as it was given.
        code: String,
    },
}

impl Options {
    /// A client of `user` in `app`, at `server` (host:port).
    #[must_use]
    pub fn new(server: impl Into<String>, app: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            server_name: None,
            app: app.into(),
            user: user.into(),
            device: "default".to_owned(),
            trust: None,
            login: Login::Open,
            window: DEFAULT_WINDOW,
            agent: concat!("postrider-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry_first: false,
            manual_confirm: false,
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
        }
    }

    /// The device's name, unique within the user; `default` unless set. Two clients under one name take turns in
    /// replacing each other, so give each its own.
    #[must_use]
    pub fn device(mut self, name: impl Into<String>) -> Self {
        self.device = name.into();
        self
    }

    /// Whose certificates to trust. There is no default: a server that nobody vouches for is not connected to.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// The name that the server's certificate must be for; the host part of the address unless set.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How to log in; [`Login::Open`] unless set.
    #[must_use]
    pub fn login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    /// How many inbox entries may wait for the application, 1 to 65,536. It bounds the client's memory: each entry takes
    /// up to the server's largest frame, usually far less.
    #[must_use]
    pub fn window(mut self, positions: u32) -> Self {
        self.window = positions.clamp(1, limits::MAX_WINDOW);
        self
    }

    /// Name and version of the program, for the operator's logs; cut at 64 bytes.
    #[must_use]
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        let cut = self.agent.floor_char_boundary(limits::MAX_AGENT_BYTES);
        self.agent.truncate(cut);
        self
    }

    /// Whether [`Client::connect`](crate::Client::connect) keeps trying when the server cannot be reached, rather than
    /// returning the first such error. What no retry can mend is returned either way.
    #[must_use]
    pub fn retry_first(mut self, retry: bool) -> Self {
        self.retry_first = retry;
        self
    }

    /// The application confirms what it has taken by [`Client::confirm`](crate::Client::confirm), instead of by asking
    /// for the next event.
    #[must_use]
    pub fn manual_confirm(mut self) -> Self {
        self.manual_confirm = true;
        self
    }

    /// How long one attempt to connect and log in may take; 10 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long [`Client::close`](crate::Client::close) waits for answers; 10 s unless set.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        for (field, value) in [("app", &self.app), ("user", &self.user), ("device", &self.device)] {
            name::check(field, value).map_err(|error| Error::Options(error.detail))?;
        }
        self.host().map(|_| ())
    }

    /// The host part of the address, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> Result<&str, Error> {
        let wrong = || Error::Options(format!("\"{}\" is not an address of the form host:port", self.server));
        let (host, port) = self.server.rsplit_once(':').ok_or_else(wrong)?;
        port.parse::<u16>().map_err(|_| wrong())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() { Err(wrong()) } else { Ok(host) }
    }
}
