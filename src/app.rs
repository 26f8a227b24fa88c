//! The composition root: the only file that names concrete backends and knows every room of the house.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_protocol::error::{CodedError, ErrorCode};
use rustls::ServerConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, BackedUp, Code, Fault, Host, StoreOperator, Vitals};
use crate::bus;
use crate::clock::Clock;
use crate::config::{Config, OnFailure};
use crate::hub::{self, Hub};
use crate::ids::{AppId, DeviceId, UserId};
use crate::net::lobby::Lobby;
use crate::net::renewal::{self, Renewal, Source};
use crate::net::tls::{Files, Shown, TlsError};
use crate::net::{self, listener, tls};
use crate::router::link::MadeCode;
use crate::router::{self, Router};
pub use crate::store::engine::tools as store_tools;
use crate::store::engine::tools::ToolError;
use crate::store::engine::{Around, Engine, EngineConfig};
use crate::store::{self, Health, Operation, Outcome, Store, StoreError};
use crate::sweeper::Sweeper;
use crate::tenant::{Tenant, Tenants};

/// How often expiry is looked at.
const SWEEP_PAUSE: Duration = Duration::from_secs(60 * 60);

/// How often is looked whether there is a new certificate.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// Descriptors that are no client connections: the store's files, listeners, the operator's socket, the log.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Why a server did not start. One line: what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("cannot listen on {address}: {}", listen_advice(.error))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The threads for logins.
    #[error("cannot start: {0}")]
    Threads(io::Error),
    /// The operator's socket.
    #[error("cannot make the operator socket in {data}: {error}")]
    Admin {
        /// The data directory.
        data: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The data directory itself.
    #[error("cannot use the data directory {data}: {error}; give another with --data")]
    Data {
        /// Which.
        data: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
}

fn listen_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use, perhaps by another postrider; stop it, or give --listen another port".into()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; try --listen 127.0.0.1:7222".into(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need root; choose a higher one with --listen".into(),
        _ => error.to_string(),
    }
}

/// A running server.
pub struct Server {
    addresses: Vec<SocketAddr>,
    data: PathBuf,
    ca: Option<PathBuf>,
    first_run: bool,
    notes: Vec<String>,
    max_connections: usize,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    clock: Clock,
    shutdown: crate::config::Shutdown,
    on_failure: OnFailure,
    stop: CancellationToken,
    connections: TaskTracker,
    services: TaskTracker,
    /// Held: where connections come and go.
    lobby: Lobby,
}

impl Server {
    /// Opens everything and starts to serve.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Clock::system()).await
    }

    /// [`start`](Self::start) with a clock of the caller's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(config: Config, clock: Clock) -> Result<Self, StartError> {
        let first_run = !config.data.exists();
        let data =
            std::path::absolute(&config.data).map_err(|error| StartError::Data { data: config.data.clone(), error })?;
        let engine = EngineConfig {
            cache_bytes: config.store.cache_bytes,
            queue_bytes: usize::try_from(config.store.queue_bytes).unwrap_or(usize::MAX),
            segment_bytes: usize::try_from(config.store.segment_bytes).unwrap_or(usize::MAX),
            segments: config.store.segments as usize,
            serves_after_failure: config.store.on_failure == OnFailure::ReadOnly,
            salt: u64::from_le_bytes(clock.random_bytes()),
            around_completions: Some(Around { before: hub::wakes::hold, after: hub::wakes::release }),
            ..EngineConfig::new(&data)
        };
        let engine = Arc::new(Engine::open(&engine)?);
        let store: Arc<dyn Store> = Arc::<Engine>::clone(&engine);
        let (tls, renewal, ca) = tls_config(&config, &data, &clock)?;
        // Before the port: whoever can connect there can already be administered.
        let socket = admin::bind(&data).map_err(|error| StartError::Admin { data: data.clone(), error })?;
        let listeners = bind(&config.listen.address)?;
        let addresses = listeners.iter().map(|(address, _)| *address).collect::<Vec<_>>();

        let tenants = Arc::new(tenants(&config, &*store).await?);
        let hub = Arc::new(Hub::default());
        let router = Arc::new(Router::new(
            Arc::clone(&store),
            Arc::clone(&hub),
            Arc::new(bus::Local),
            Arc::clone(&tenants),
            clock.clone(),
            router::Config {
                inbox_entries: config.limits.inbox_entries,
                content_bytes: config.limits.content_bytes as usize,
                outbound_bytes: config.limits.outbound_bytes as usize,
            },
        ));
        let max_connections = max_connections(config.listen.max_connections);
        let limits = net::Config {
            login_timeout: Duration::from_millis(config.listen.login_timeout_ms.into()),
            idle_timeout: Duration::from_millis(config.listen.idle_timeout_ms.into()),
            max_frame_bytes: config.listen.max_frame_bytes as usize,
            failures: net::attempts::Bounds {
                per_user: config.limits.failed_logins,
                per_address: config.limits.failed_logins_per_address,
            },
        };
        let lobby = Lobby::open().map_err(StartError::Threads)?;
        let shared = net::Shared::new(Arc::clone(&router), clock.clone(), limits, lobby.handle().clone());
        let shared = Arc::new(shared);
        let server = Self {
            addresses,
            data: data.clone(),
            ca,
            first_run,
            notes: notes(&config),
            max_connections,
            store: Arc::clone(&store),
            hub: Arc::clone(&hub),
            clock: clock.clone(),
            shutdown: config.shutdown.clone(),
            on_failure: config.store.on_failure,
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
            services: TaskTracker::new(),
            lobby,
        };
        let operator = StoreOperator::new(store, server.host(engine, &router, &tenants));
        server.services.spawn(admin::serve(socket, Arc::new(operator), server.stop.clone()));
        let retention = Duration::from_secs(u64::from(config.retention.ttl_days) * 24 * 60 * 60);
        let sweeper = Sweeper { router, hub, tenants, clock, retention };
        server.services.spawn(sweeper.run(SWEEP_PAUSE, server.stop.clone()));
        server.services.spawn(renewal.run(RENEWAL_PAUSE, server.stop.clone()));
        server.accept(listeners, &tls, &shared);
        Ok(server)
    }

    fn accept(
        &self,
        listeners: Vec<(SocketAddr, tokio::net::TcpListener)>,
        tls: &Arc<ServerConfig>,
        shared: &Arc<net::Shared>,
    ) {
        let admission = listener::Admission::new(self.max_connections);
        for (_, listener) in listeners {
            let accepting = listener::accept(
                listener,
                Arc::clone(tls),
                Arc::clone(shared),
                Arc::clone(&admission),
                self.connections.clone(),
                self.stop.clone(),
            );
            self.services.spawn_on(accepting, self.lobby.handle());
        }
    }

    fn host(&self, engine: Arc<Engine>, router: &Arc<Router>, tenants: &Arc<Tenants>) -> ServerHost {
        ServerHost {
            engine,
            router: Arc::clone(router),
            tenants: Arc::clone(tenants),
            hub: Arc::clone(&self.hub),
            clock: self.clock.clone(),
            connections: self.connections.clone(),
            started: self.clock.elapsed(),
            listen: self.addresses.iter().map(ToString::to_string).collect(),
            data: self.data.display().to_string(),
            max_connections: self.max_connections,
        }
    }

    /// Where it listens; the ports are the real ones, also where the configuration said 0.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The data directory, absolute.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The certificate clients are to trust, when the server made its own.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Whether the data directory was made by this start.
    #[must_use]
    pub fn first_run(&self) -> bool {
        self.first_run
    }

    /// What an operator should know about how it is set up, a line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many connections it takes at once.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Serves until SIGTERM or SIGINT, then stops in order. A second signal stops waiting. Stops as well when the store
    /// cannot write any more, unless it is to stay up for those who read.
    ///
    /// # Errors
    /// When the store has failed, or cannot be closed in order.
    pub async fn run_until_signal(self, signals: StopSignals) -> Result<(), RunError> {
        let StopSignals { mut terminate, mut interrupt } = signals;
        let failure = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            failure = self.store_failure() => Some(failure),
        };
        tracing::info!(connections = self.connections.len(), "stopping");
        let goodbye = if failure.is_some() { ErrorCode::StoreUnavailable } else { ErrorCode::ShuttingDown };
        tokio::select! {
            stopped = self.stop_saying(goodbye) => stopped?,
            _ = terminate.recv() => return Err(RunError::Impatient),
            _ = interrupt.recv() => return Err(RunError::Impatient),
        }
        failure.map_or(Ok(()), |failure| Err(RunError::StoreFailed(failure)))
    }

    /// Returns when the server is to stop because its store cannot write any more.
    async fn store_failure(&self) -> StoreError {
        let mut health = self.store.health();
        let failed = health.wait_for(|health| matches!(health, Health::Failed(_))).await;
        match failed.as_deref() {
            Ok(Health::Failed(error)) if self.on_failure == OnFailure::Exit => error.clone(),
            Ok(_) => {
                tracing::error!("known devices can still log in and read; a restart is needed to take messages again");
                std::future::pending().await
            }
            // A store that will never say so.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops: accepts no more, tells clients to reconnect at spread-out times, waits for them within the grace time,
    /// then closes the store.
    ///
    /// # Errors
    /// When the store cannot be closed in order. What was acked is safe all the same.
    pub async fn stop(&self) -> Result<(), RunError> {
        self.stop_saying(ErrorCode::ShuttingDown).await
    }

    async fn stop_saying(&self, goodbye: ErrorCode) -> Result<(), RunError> {
        self.stop.cancel();
        self.connections.close();
        self.services.close();
        let spread = self.shutdown.spread_ms;
        let grace = Duration::from_millis(self.shutdown.grace_ms.into());
        let drained = tokio::time::timeout(grace, async {
            // Logins that were under way when accepting stopped take their seats meanwhile: they are told, too.
            while !self.connections.is_empty() {
                self.hub.close_all(|| CodedError::new(goodbye).after_ms(self.clock.random_up_to(spread)));
                tokio::select! {
                    () = self.connections.wait() => {}
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
        });
        if drained.await.is_err() {
            tracing::warn!(connections = self.connections.len(), "the grace time is over: left without a word");
        }
        self.store.close().await.map_err(RunError::Store)?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Why a server did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Signals cannot be awaited.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// A second signal came while stopping.
    #[error("stopped at the second signal, without waiting for clients; nothing acknowledged is lost")]
    Impatient,
    /// The store could not write any more.
    #[error("{0}; the server has stopped")]
    StoreFailed(StoreError),
    /// The store did not close in order.
    #[error(transparent)]
    Store(StoreError),
}

/// What is shown, who looks after it, and the CA that clients are to trust if the server made its own.
fn tls_config(
    config: &Config,
    data: &Path,
    clock: &Clock,
) -> Result<(Arc<ServerConfig>, Renewal, Option<PathBuf>), TlsError> {
    let now_s = renewal::seconds(clock);
    let source = match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => {
            Source::Operator(Files { certificate: certificate.clone(), key: key.clone() })
        }
        _ => Source::Own { directory: data.join("tls"), names: config.tls.names.clone() },
    };
    let (files, ca) = source.find(now_s)?;
    let shown = Arc::new(Shown::load(&files, now_s)?);
    let renewal = Renewal { source, shown: Arc::clone(&shown), clock: clock.clone() };
    Ok((tls::server_config(shown)?, renewal, ca))
}

fn bind(addresses: &[SocketAddr]) -> Result<Vec<(SocketAddr, tokio::net::TcpListener)>, StartError> {
    let mut listeners = Vec::new();
    for &address in addresses {
        let bound = listener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        listeners.push(bound.map_err(|error| StartError::Listen { address, error })?);
    }
    Ok(listeners)
}

async fn tenants(config: &Config, store: &dyn Store) -> Result<Tenants, StoreError> {
    let batch = config.app.iter().map(|app| Operation::EnsureApp(app.name.clone())).collect();
    let outcomes = store::commit_and_wait(store, batch).await?.outcomes;
    let tenants = config.app.iter().zip(outcomes).map(|(app, outcome)| match outcome {
        Outcome::App(id) => Ok(Tenant::new(id, app.name.clone(), app.login.clone())),
        other => Err(StoreError::Corrupt(format!("the app {:?} got {other:?}", app.name))),
    });
    Ok(Tenants::new(tenants.collect::<Result<Vec<_>, _>>()?))
}

fn notes(config: &Config) -> Vec<String> {
    let open = config.app.iter().filter(|app| app.login.contains(&crate::tenant::LoginMethod::Open));
    let note = |app: &crate::config::App| {
        format!("app {:?} has open login: any name, no credential; only for development", app.name)
    };
    open.map(note).collect()
}

/// As many as asked for, or as the limit of open files leaves room for: connections that are turned away have
/// descriptors, too, and must not take those that the store opens its next file with.
fn max_connections(configured: u32) -> usize {
    let limit = raise_open_files().unwrap_or(1 << 20);
    let room = limit.saturating_sub(RESERVED_DESCRIPTORS + listener::TURNED_AWAY as u64).max(1);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if configured == 0 { room } else { room.min(configured as usize) }
}

/// Raises this process's limit of open files to the most it may have, and returns it; `None` is without limit.
fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { before }
}

/// The signals that stop a server. To be listened to before anybody is told that it is there: what comes earlier ends the
/// process as it is, and what comes while it is begun may be lost.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on these signals end nothing by themselves.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn listen() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signals);
        // A file that may not grow is an error of the write, and no reason to die without a word. Whoever listens once has it
        // ignored for good.
        drop(listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }
}

/// What the operator's side may use of the server.
struct ServerHost {
    engine: Arc<Engine>,
    router: Arc<Router>,
    tenants: Arc<Tenants>,
    hub: Arc<Hub>,
    clock: Clock,
    connections: TaskTracker,
    started: Duration,
    listen: Vec<String>,
    data: String,
    max_connections: usize,
}

impl Host for ServerHost {
    fn app(&self, name: &str) -> Option<AppId> {
        self.tenants.find(name).ok().map(|tenant| tenant.id)
    }

    fn make_code<'a>(&'a self, app: AppId, user: &'a str) -> BoxFuture<'a, Result<Option<Code>, CodedError>> {
        Box::pin(async move {
            if !self.tenants.all().any(|tenant| tenant.id == app && tenant.enrolls()) {
                return Ok(None);
            }
            let MadeCode { code, expires_in_s } = self.router.make_code(app, user).await?;
            Ok(Some(Code { code, expires_in_s }))
        })
    }

    fn commit(&self, operation: Operation) -> BoxFuture<'_, Result<Outcome, CodedError>> {
        Box::pin(self.router.commit_one(operation))
    }

    fn disconnect(&self, app: AppId, user: UserId, device: Option<DeviceId>) {
        self.hub.close_user(app, user, device, &ErrorCode::DeviceExpired.into());
    }

    fn back_up<'a>(&'a self, to: &'a str) -> BoxFuture<'a, Result<BackedUp, Fault>> {
        let (engine, to) = (Arc::clone(&self.engine), PathBuf::from(to));
        Box::pin(async move {
            tracing::info!(to = %to.display(), "backing up");
            let made = tokio::task::spawn_blocking(move || engine.back_up(&to, &mut |_| {})).await;
            match &made {
                Ok(Ok(made)) => tracing::info!(made.rows, made.bytes, "backed up"),
                Ok(Err(error)) => tracing::warn!(%error, "no backup was made"),
                Err(panic) => tracing::error!(%panic, "no backup was made"),
            }
            match made {
                Ok(Ok(store_tools::BackedUp { rows, segments, bytes })) => Ok(BackedUp { rows, segments, bytes }),
                Ok(Err(ToolError::Refused(why))) => Err(Fault::BackupRefused(why)),
                Ok(Err(error)) => Err(Fault::StoreUnavailable(format!("no backup was made: {error}"))),
                Err(panic) => Err(Fault::Internal(panic.to_string())),
            }
        })
    }

    fn vitals(&self) -> Vitals {
        Vitals {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: (self.clock.elapsed() - self.started).as_secs(),
            listen: self.listen.clone(),
            data: self.data.clone(),
            connections: self.connections.len() as u64,
            max_connections: self.max_connections as u64,
            apps: self.tenants.all().map(|tenant| tenant.name.clone()).collect(),
        }
    }
}
