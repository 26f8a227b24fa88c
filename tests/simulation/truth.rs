//! What decides, below the simulated disk: the reference model, or the engine that servers run.
//!
//! The engine keeps its own files and its own thread; each batch is decided and synced before anything else moves, so that
//! it brings no order of its own into the simulation. Time, crashes and faults are the simulated disk's.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use postrider::store::engine::{Engine, EngineConfig};
use postrider::store::memory::Memory;
use postrider::store::{Batch, Committed, Store, commit_and_wait};
use tempfile::TempDir;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Model,
    Engine,
}

/// A store that decides at once.
pub struct Truth {
    store: Arc<dyn Store>,
    directory: Option<TempDir>,
}

/// What a process leaves of a [`Truth`], when everything it had decided is durable.
#[derive(Default)]
pub struct Left(Option<TempDir>);

impl Truth {
    /// An empty one.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Model => Self { store: Arc::new(Memory::new()), directory: None },
            Kind::Engine => Self::in_directory(directory()),
        }
    }

    /// Opens what is left; `None` if there is nothing.
    pub fn reopen(left: Left) -> Option<Self> {
        left.0.map(Self::in_directory)
    }

    fn in_directory(directory: TempDir) -> Self {
        // So small that every few groups a segment is full.
        let config = EngineConfig {
            segment_bytes: 4096,
            segments: 3,
            cache_bytes: 1 << 20,
            reserve_bytes: 1 << 20,
            ..EngineConfig::new(&directory.path().join("store"))
        };
        Self { store: Arc::new(Engine::open(&config).expect("opens")), directory: Some(directory) }
    }

    /// The process is gone.
    pub fn leave(self) -> Left {
        let Truth { store, directory } = self;
        block_on(store.close()).expect("closes");
        Left(directory)
    }

    /// Decides a batch.
    pub fn commit(&self, batch: Batch) -> Committed {
        block_on(commit_and_wait(&*self.store, batch)).expect("the store works")
    }

    /// Asks it something.
    pub fn ask<'a, F: Future>(&'a self, question: impl FnOnce(&'a dyn Store) -> F) -> F::Output {
        block_on(question(&*self.store))
    }
}

/// In memory where there is such a place: the engine syncs each batch.
fn directory() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    let made = if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for what does not wait for the simulation.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
