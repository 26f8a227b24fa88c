//! A bad network: forwards bytes, and breaks connections at random places.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Longer than any idle timeout in the tests: both sides must have noticed by themselves.
const HALF_OPEN_TIME: Duration = Duration::from_secs(20);

/// What may happen to a connection.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// It breaks after fewer bytes than this, counted in both directions.
    pub within_bytes: i64,
    /// How often, in percent, it then goes silent instead of being closed.
    pub half_open_percent: u32,
}

/// A proxy in front of a server.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    calm: AtomicBool,
    cut: AtomicU64,
    silenced: AtomicU64,
}

struct Wire {
    budget: AtomicI64,
    goes_silent: bool,
    shared: Arc<Shared>,
}

impl Proxy {
    pub async fn start(server: SocketAddr, faults: Faults, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut chance = StdRng::seed_from_u64(seed);
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let calm = accepting.calm.load(Ordering::SeqCst);
                let budget = if calm { i64::MAX } else { chance.random_range(1..faults.within_bytes) };
                let goes_silent = chance.random_range(0..100) < faults.half_open_percent;
                let shared = Arc::clone(&accepting);
                tokio::spawn(forward(client, server, Wire { budget: budget.into(), goes_silent, shared }));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections last.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::SeqCst);
    }

    /// How many connections were cut, and how many went silent.
    pub fn broken(&self) -> (u64, u64) {
        (self.shared.cut.load(Ordering::SeqCst), self.shared.silenced.load(Ordering::SeqCst))
    }
}

async fn forward(client: TcpStream, server: SocketAddr, wire: Wire) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let broken = tokio::select! {
        broken = pump(&mut from_client, &mut to_server, &wire) => broken,
        broken = pump(&mut from_server, &mut to_client, &wire) => broken,
    };
    if !broken {
        return;
    }
    if wire.goes_silent {
        wire.shared.silenced.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(HALF_OPEN_TIME).await;
    } else {
        wire.shared.cut.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether the budget ran out, rather than that one side closed. The byte that is one too many is not forwarded, nor
/// what came with it.
async fn pump(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, wire: &Wire) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return false };
        let left = wire.budget.fetch_sub(i64::try_from(read).unwrap(), Ordering::SeqCst);
        let passes = usize::try_from(left.max(0)).unwrap().min(read);
        if to.write_all(&buffer[..passes]).await.is_err() {
            return false;
        }
        if passes < read {
            return true;
        }
    }
}
