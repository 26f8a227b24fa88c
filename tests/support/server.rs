//! A real server in this process, on a directory of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postrider::app::{Server, StartError};
use postrider::clock::{Clock, Source};
use postrider::config::Config;
use postrider::store::StoreError;

use super::Target;

/// A server on a free port, with its data in a temporary directory.
pub struct TestServer {
    config: Config,
    time: Arc<FakeTime>,
    running: Option<Server>,
    _directory: tempfile::TempDir,
}

impl TestServer {
    /// With the default configuration: one app, `dev`, with open login.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With a configuration of the test's.
    pub async fn start_with(adapt: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config { data: directory.path().join("data"), ..Config::default() };
        config.listen.address = vec!["127.0.0.1:0".parse().unwrap()];
        // Small, so that tests start fast and rows go through all of the journal's life.
        config.store.segment_bytes = 1024 * 1024;
        config.shutdown.grace_ms = 2_000;
        config.shutdown.spread_ms = 50;
        adapt(&mut config);
        let mut server = Self { config, time: Arc::default(), running: None, _directory: directory };
        server.start_again().await;
        server
    }

    /// Starts on the same directory and port.
    pub async fn start_again(&mut self) {
        let clock = Clock::from_source(Arc::clone(&self.time) as Arc<dyn Source>);
        let deadline = Instant::now() + Duration::from_secs(10);
        let server = loop {
            match Server::start_with(self.config.clone(), clock.clone()).await {
                // A process that another test is just starting has our descriptors until it runs its own program.
                Err(StartError::Store(StoreError::Locked(_))) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await
                }
                started => break started.unwrap(),
            }
        };
        self.config.listen.address = server.addresses().to_vec();
        self.running = Some(server);
    }

    /// Stops in order.
    pub async fn stop(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub fn data(&self) -> PathBuf {
        self.config.data.clone()
    }

    /// The wall clock the server sees.
    pub fn time(&self) -> &FakeTime {
        &self.time
    }
}

impl Target for TestServer {
    fn address(&self) -> SocketAddr {
        self.config.listen.address[0]
    }

    fn ca(&self) -> PathBuf {
        self.config.data.join("tls/ca.pem")
    }
}

/// Real time, but the wall clock can be moved.
pub struct FakeTime {
    started: Instant,
    ahead_ms: AtomicU64,
}

impl Default for FakeTime {
    fn default() -> Self {
        Self { started: Instant::now(), ahead_ms: AtomicU64::new(0) }
    }
}

impl FakeTime {
    pub fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Source for FakeTime {
    fn wall_ms(&self) -> u64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(real.as_millis()).unwrap() + self.ahead_ms.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}
