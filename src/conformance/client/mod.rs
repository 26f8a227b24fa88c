//! A strict server for anyone who writes a client: it plays one act after the other, and its referee watches.
//!
//! It keeps everything in memory, and knows one device of one user; a robot writes to it. What clients do by themselves
//! is judged all the time; what they only do when something happens has its act.
//!
//! # Layout
//! - [`acts`]: what happens to the client, and what must come of it
//! - [`stage`]: connections and answers; `door`: how a connection comes to be logged in
//! - [`watch`]: judges frames as they come
//! - [`account`]: what the server knows of the device
//! - [`referee`]: the requirements on clients, and what was seen of each
//! - `odd`: frames that are strange, and allowed

pub mod account;
pub mod acts;
mod acts_broken;
mod acts_sending;
mod door;
mod odd;
pub mod referee;
pub mod stage;
pub mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postrider_protocol::limits;
use rustls::ServerConfig;
use rustls::server::ServerSessionMemoryCache;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

use super::ConformanceError;
use super::report::Report;
use super::requirement::Only;
use crate::clock::Clock;
use crate::net::certificate;
use crate::net::tls::Files;
use stage::{Props, Stage};

/// The code that enrols the client, for those that log in by key.
pub const CODE: &str = "PR-C0NF0-RMANC-E0000-00000";

/// Bytes of early data that our tickets allow; no client may send any (TLS-4).
const EARLY_DATA_BYTES: u32 = 16 * 1024;

/// TLS sessions kept for resumption.
const SESSIONS: usize = 64;

/// A strict server.
#[derive(Clone, Debug)]
pub struct Options {
    /// host:port.
    pub listen: String,
    /// Where its certificates are, or are made.
    pub directory: PathBuf,
    /// The only app.
    pub app: String,
    /// How long the client may be away.
    pub patience: Duration,
    /// What is to be tried.
    pub only: Only,
}

/// A strict server that listens.
pub struct Host {
    options: Options,
    clock: Clock,
    listener: TcpListener,
    address: SocketAddr,
    ca: PathBuf,
    config: Arc<ServerConfig>,
    stranger: Arc<ServerConfig>,
}

impl Host {
    /// Makes certificates and listens.
    ///
    /// # Errors
    /// When the address or the directory cannot be used.
    pub async fn bind(options: Options, clock: Clock) -> Result<Self, ConformanceError> {
        let wrong = |why: String| ConformanceError::Listen { address: options.listen.clone(), why };
        let listener = TcpListener::bind(&options.listen).await.map_err(|error| wrong(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| wrong(error.to_string()))?;
        let host = options.listen.rsplit_once(':').map_or("localhost", |(host, _)| host).trim_matches(['[', ']']);
        let (ca, config) = tls(&options.directory, host, &clock)?;
        let (_, stranger) = tls(&options.directory.join("stranger"), host, &clock)?;
        Ok(Self { options, clock, listener, address, ca, config, stranger })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CA for the client to trust.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Plays every act. `news` hears what happens, a line each.
    ///
    /// # Errors
    /// When no client came.
    pub async fn judge(self, news: &(dyn Fn(&str) + Sync)) -> Result<Report, ConformanceError> {
        let Self { options, clock, listener, address, config, stranger, .. } = self;
        let patience = options.patience;
        let mut stage = Stage::new(Props {
            clock,
            listener,
            config,
            stranger,
            patience,
            app: options.app.clone(),
            code: CODE,
            news,
        });
        let wanted = |act: &&acts::Act| options.only.covers(act.requirements);
        // Nothing goes without a first login.
        let first = acts::all().take(1);
        for act in first.chain(acts::all().skip(1).filter(wanted)) {
            news(act.doing);
            stage.referee.act(act.doing);
            if (act.play)(&mut stage).await.is_err() {
                news("the client is gone, or cannot be logged in");
                break;
            }
        }
        if stage.referee.is_blank() {
            return Err(ConformanceError::NobodyCame { seconds: patience.as_secs() });
        }
        stage.hang_up().await;
        let mut findings = stage.referee.findings();
        findings.retain(|finding| options.only.covers(&finding.requirements));
        Ok(Report::new("client", address.to_string(), stage.agent, findings))
    }
}

/// A CA, and TLS with a certificate under it.
fn tls(directory: &Path, host: &str, clock: &Clock) -> Result<(PathBuf, Arc<ServerConfig>), ConformanceError> {
    let unusable = |why: String| ConformanceError::Certificate { directory: directory.to_owned(), why };
    let now_s = i64::try_from(clock.wall_ms() / 1000).unwrap_or(i64::MAX);
    let names = [host, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = certificate::find_or_make(directory, &names, now_s).map_err(|error| unusable(error.to_string()))?;
    let config = server_config(&made.server).map_err(unusable)?;
    Ok((made.ca, Arc::new(config)))
}

/// Unlike a real server's, it allows early data, to see whether it is used.
fn server_config(files: &Files) -> Result<ServerConfig, String> {
    let chain = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect);
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(|error| error.to_string())?, key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![limits::ALPN.to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.max_early_data_size = EARLY_DATA_BYTES;
    Ok(config)
}
