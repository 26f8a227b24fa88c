//! A server under attack, and a pair that does not care.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postrider_protocol::wire::{deliver, server_frame::Body};
use tokio::task::JoinHandle;

use crate::support::{Raw, ServerProcess};

/// A small journal and small caches, so that memory that grows is not the store's; and clients that are let in soon
/// after they were turned away.
const CONFIGURATION: &str = "[store]\ncache_bytes = 4194304\nqueue_bytes = 4194304\nsegment_bytes = 1048576\nsegments = 2\n\n[log]\nlevel = \"error\"\n";

/// Exchanges before the attack, to know what is usual.
const CALM: usize = 20;

/// The pause between two exchanges.
const PACE: Duration = Duration::from_millis(10);

/// No exchange takes longer, on however busy a machine. Half of them take far less.
const LONGEST: Duration = Duration::from_secs(8);
const USUALLY: Duration = Duration::from_millis(1_500);

/// Whether the server gives memory back. The system's allocator keeps for the next time what was freed between what is
/// still in use.
const GIVES_BACK: bool = cfg!(feature = "jemalloc");

/// How long memory may take to come back.
const MEMORY_TIME: Duration = Duration::from_secs(if GIVES_BACK { 30 } else { 10 });

/// What memory may differ by, whatever it was: the allocator's mood.
const MEMORY_NOISE: u64 = if GIVES_BACK { 0 } else { 2 * 1024 * 1024 };

/// Connections that a test may itself still hold.
const STILL_HELD: usize = 4;

pub struct Siege {
    pub server: ServerProcess,
    calm_memory: u64,
    calm_sockets: usize,
    over: Arc<AtomicBool>,
    bystanders: JoinHandle<Vec<Duration>>,
}

impl Siege {
    /// A server with this added to its configuration, and bystanders who are talking.
    pub async fn begin(configuration: &str) -> Self {
        Self::around(ServerProcess::start(&format!("{CONFIGURATION}\n{configuration}"))).await
    }

    /// The same, with no more than so many open files for the server.
    pub async fn begin_limited(configuration: &str, descriptors: u32) -> Self {
        Self::around(ServerProcess::start_limited(&format!("{CONFIGURATION}\n{configuration}"), Some(descriptors)))
            .await
    }

    async fn around(server: ServerProcess) -> Self {
        let mut pair = Pair::meet(&server).await;
        for _ in 0..CALM {
            pair.exchange().await;
        }
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let (calm_memory, calm_sockets) = (server.memory(), sockets(&server));
        let bystanders = tokio::spawn(async move {
            let mut taken = Vec::new();
            while !told.load(Ordering::SeqCst) {
                taken.push(pair.exchange().await);
                tokio::time::sleep(PACE).await;
            }
            // It has ended, and they still talk.
            taken.push(pair.exchange().await);
            taken
        });
        Self { server, calm_memory, calm_sockets, over, bystanders }
    }

    /// Forgets what memory was, after a first wave: the store keeps a bounded memory of what it took. A second wave must add
    /// nothing to it.
    pub fn get_used_to_it(&mut self) {
        self.calm_memory = self.server.memory();
    }

    /// The same for what the allocator may have kept of a first wave, if it gives nothing back.
    pub fn allow_for_the_allocator(&mut self) {
        if !GIVES_BACK {
            self.get_used_to_it();
        }
    }

    /// Bytes the process has grown by since the calm.
    pub fn grown(&self) -> u64 {
        self.server.memory().saturating_sub(self.calm_memory)
    }

    /// `connections` hold no more than 32 KiB each.
    pub fn costs_little(&self, connections: usize) {
        let each = self.grown() / connections as u64;
        println!("{connections} connections: {each} bytes each");
        assert!(each <= 32 * 1024, "{each} bytes for each of {connections} connections");
    }

    /// The attack is over: nothing was lost, nobody waited, and nothing is left of it.
    pub async fn lift(mut self) {
        self.over.store(true, Ordering::SeqCst);
        let mut taken = self.bystanders.await.expect("the bystanders have lost nothing");
        taken.sort_unstable();
        let (usual, longest) = (taken[taken.len() / 2], taken[taken.len() - 1]);
        println!("bystanders: {} exchanges, usually {usual:?}, at most {longest:?}", taken.len());
        assert!(usual < USUALLY && longest < LONGEST, "usually {usual:?}, at most {longest:?}");
        assert!(self.server.is_running(), "the same process");
        let allowed = self.calm_memory + self.calm_memory / 5 + MEMORY_NOISE;
        let allowed_sockets = self.calm_sockets + STILL_HELD;
        let deadline = Instant::now() + MEMORY_TIME;
        while (self.server.memory() > allowed || sockets(&self.server) > allowed_sockets) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sockets = sockets(&self.server);
        assert!(sockets <= allowed_sockets, "there were {} sockets and are {sockets}", self.calm_sockets);
        let left = self.server.memory();
        println!("memory: {} KiB, after it {} KiB", self.calm_memory / 1024, left / 1024);
        assert!(left <= allowed, "memory was {} KiB and is {} KiB", self.calm_memory / 1024, left / 1024);
    }
}

/// Connections, and a few that are always there.
fn sockets(server: &ServerProcess) -> usize {
    server.descriptors().iter().filter(|open| open.to_string_lossy().starts_with("socket:")).count()
}

/// Two who take turns: each message is acknowledged, delivered once, in order, and told delivered.
struct Pair {
    alice: Raw,
    bob: Raw,
    exchanged: u64,
}

impl Pair {
    async fn meet(server: &ServerProcess) -> Self {
        let mut alice = Raw::login(server, "bystander alice", "laptop").await;
        alice.backlog().await;
        let mut bob = Raw::login(server, "bystander bob", "phone").await;
        bob.backlog().await;
        Self { alice, bob, exchanged: 0 }
    }

    /// How long it took from the send to the receipt.
    async fn exchange(&mut self) -> Duration {
        self.exchanged += 1;
        let seq = self.exchanged;
        let start = Instant::now();
        self.alice.send("bystander bob", &seq.to_string()).await;
        let (position, message) = self.bob.next_message().await;
        assert_eq!((message.seq, message.sender.as_str()), (seq, "bystander alice"));
        assert_eq!(message.content, seq.to_string());
        self.bob.confirm(position).await;
        assert_eq!(self.alice.next_ack().await.seq, seq);
        match self.alice.next().await {
            Body::Deliver(receipt) => {
                assert!(matches!(&receipt.entry, Some(deliver::Entry::Delivered(delivered)) if delivered.seq == seq));
                self.alice.confirm(receipt.position).await;
            }
            other => panic!("no receipt but {other:?}"),
        }
        start.elapsed()
    }
}
