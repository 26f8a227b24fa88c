//! What an operator can set: one struct, made of one part per module, with the defaults that need no configuration.
//!
//! A value comes from the defaults, the file, the environment or a flag, the later winning; [`load`](load::load)
//! lays them over one another and remembers where each came from. Unknown keys and variables are errors. The keys are
//! documented for operators in `reference.toml`, which `postrider config default` prints.
//!
//! # Layout
//! - [`mod@load`]: the layers, and the errors with file, line and what was probably meant
//! - `keys`: the keys by name, variable and place
//! - [`check`]: what must hold between values

pub mod check;
mod keys;
pub mod load;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use postrider_protocol::limits;
use serde::{Deserialize, Deserializer, Serialize};

pub use crate::tenant::LoginMethod;
pub use load::{ConfigError, Loaded, Origin, Override, load};

/// `reference.toml`: every key with its default and what it means.
pub const REFERENCE: &str = include_str!("reference.toml");

/// Everything an operator can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data directory, relative to the working directory; made with private permissions if it does not exist.
    pub data: PathBuf,
    /// Where and how connections are taken.
    pub listen: Listen,
    /// The server's certificate.
    pub tls: Tls,
    /// The tenants; at least one.
    pub app: Vec<App>,
    /// Bounds on what users and connections may hold.
    pub limits: Limits,
    /// How long the server keeps what nobody fetches.
    pub retention: Retention,
    /// The store's memory.
    pub store: Store,
    /// The log.
    pub log: Log,
    /// An orderly stop.
    pub shutdown: Shutdown,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("postrider-data"),
            listen: Listen::default(),
            tls: Tls::default(),
            app: vec![App::development()],
            limits: Limits::default(),
            retention: Retention::default(),
            store: Store::default(),
            log: Log::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// Where and how connections are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// One address with its port, or a list of them.
    #[serde(deserialize_with = "one_or_many")]
    pub address: Vec<SocketAddr>,
    /// Connections at once; 0 is as many as the open-file limit allows.
    pub max_connections: u32,
    /// From the TCP connection to `Welcome`, TLS included, in milliseconds.
    pub login_timeout_ms: u32,
    /// How long a connection may send nothing, in milliseconds; at least [`limits::MIN_IDLE_TIMEOUT_MS`].
    pub idle_timeout_ms: u32,
    /// The largest frame taken after login, in bytes; at most [`limits::MAX_FRAME_BYTES`] (LIMIT-1).
    pub max_frame_bytes: u32,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), limits::DEFAULT_PORT)],
            max_connections: 0,
            login_timeout_ms: limits::DEFAULT_LOGIN_TIMEOUT_MS,
            idle_timeout_ms: limits::DEFAULT_IDLE_TIMEOUT_MS,
            max_frame_bytes: limits::DEFAULT_FRAME_BYTES as u32,
        }
    }
}

/// The server's certificate: the operator's, or one made on the first run in `<data>/tls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// A PEM file with the server's certificate and what signed it; with `key` or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// A PEM file with the private key; with `certificate` or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// DNS names and IP addresses that a certificate made here is good for.
    pub names: Vec<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { certificate: None, key: None, names: ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec() }
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// What clients call it; 1–64 bytes without control characters.
    pub name: String,
    /// How clients may log in; at least one.
    #[serde(default = "device_keys_only")]
    pub login: Vec<LoginMethod>,
    /// Whether open login is meant even where others than this machine can reach it.
    #[serde(default)]
    pub allow_open_off_loopback: bool,
}

impl App {
    /// The app there is without any configuration.
    #[must_use]
    pub fn development() -> Self {
        Self { name: "dev".into(), login: vec![LoginMethod::Open], allow_open_off_loopback: false }
    }

    /// Whether a client may log in this way.
    #[must_use]
    pub fn allows(&self, method: LoginMethod) -> bool {
        self.login.contains(&method)
    }
}

fn device_keys_only() -> Vec<LoginMethod> {
    vec![LoginMethod::DeviceKey]
}

/// Bounds on what users and connections may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Entries an inbox may hold before sends into it are refused with `INBOX_FULL`.
    pub inbox_entries: u64,
    /// The longest content of one message, in bytes; with its frame it fits `max_frame_bytes`.
    pub content_bytes: u32,
    /// Deliveries waiting in memory for one connection, in bytes; what is beyond is read from the store.
    pub outbound_bytes: u32,
    /// Logins of one user that may fail from one address, a minute; 0 is without bound.
    pub failed_logins: u32,
    /// Logins that may fail from one address, a minute; 0 is without bound.
    pub failed_logins_per_address: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inbox_entries: 1_000_000,
            content_bytes: 60_000,
            outbound_bytes: 64 * 1024,
            failed_logins: 20,
            failed_logins_per_address: 300,
        }
    }
}

/// How long the server keeps what nobody fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Undelivered entries and unseen devices expire after this many days; 1–3650.
    pub ttl_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { ttl_days: 30 }
    }
}

/// The store's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// What can be read again and stays in memory, in bytes; at least 1 MiB.
    pub cache_bytes: u64,
    /// Operations waiting to be durable, in bytes; connections wait when it is full. At least 1 MiB.
    pub queue_bytes: u64,
    /// A segment of the journal, in bytes; 1 MiB to 1 GiB.
    pub segment_bytes: u64,
    /// Segments of the journal, at most; 2 to 64.
    pub segments: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            queue_bytes: 16 * 1024 * 1024,
            segment_bytes: 32 * 1024 * 1024,
            segments: 4,
        }
    }
}

/// The log, which goes to stderr.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives per module such as `info,postrider::net=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `human` on a terminal, else `json`.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// An orderly stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// Clients are told to reconnect after a random part of this many milliseconds, so that they do not come at once.
    pub spread_ms: u32,
    /// How long connections may take to finish, in milliseconds.
    pub grace_ms: u32,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { spread_ms: 5_000, grace_ms: 10_000 }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Addresses {
        One(String),
        Many(Vec<String>),
    }
    let texts = match Addresses::deserialize(deserializer) {
        Ok(Addresses::One(text)) => vec![text],
        Ok(Addresses::Many(texts)) => texts,
        Err(_) => return Err(serde::de::Error::custom("expected an address such as \"127.0.0.1:7222\", or a list")),
    };
    let parse = |text: String| {
        text.parse().map_err(|_| {
            serde::de::Error::custom(format!("`{text}` is not an IP address with a port, such as 127.0.0.1:7222"))
        })
    };
    texts.into_iter().map(parse).collect()
}
