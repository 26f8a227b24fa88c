//! Stores in scratch directories, with the few words that the store's targets are written in.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use postrider::ids::{AppId, Position};
use postrider::store::engine::{Around, Engine, EngineConfig};
use postrider::store::{Batch, Committed, Completion, ReadLimit, Store, StoreError};
use tempfile::TempDir;

use crate::scratch::{self, Snapshot};

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
}

/// A journal of segments so small that they are spilled and used again after a few batches.
pub fn open(directory: &Path) -> Result<Engine, StoreError> {
    let small = EngineConfig { segment_bytes: 4096, segments: 3, cache_bytes: 1 << 20, ..EngineConfig::new(directory) };
    Engine::open(&EngineConfig { reserve_bytes: 0, ..small })
}

/// A journal with room for several batches in a group, which is so slow to answer that they come together.
pub fn open_gathering(directory: &Path) -> Result<Engine, StoreError> {
    let pause = || thread::sleep(Duration::from_micros(100));
    let around_completions = Some(Around { before: pause, after: || {} });
    let config = EngineConfig { segment_bytes: 64 << 10, cache_bytes: 1 << 20, ..EngineConfig::new(directory) };
    Engine::open(&EngineConfig { around_completions, reserve_bytes: 0, ..config })
}

/// The directory of a store that was made and never used; making it once and copying it is half the work of opening it.
pub fn new_store() -> TempDir {
    static NEW: OnceLock<Snapshot> = OnceLock::new();
    let made = NEW.get_or_init(|| {
        let directory = scratch::directory();
        close(&open(directory.path()).expect("a new store"));
        Snapshot::of(directory.path())
    });
    made.lay_out()
}

/// Waits for the outcomes; a store in order always has them.
pub fn commit(store: &dyn Store, batch: Batch) -> Committed {
    submit(store, batch)()
}

/// Has a batch decided; what it returns waits for the outcomes.
pub fn submit(store: &dyn Store, batch: Batch) -> impl FnOnce() -> Committed + use<> {
    let (answer, wait) = sync_channel(1);
    let done = move |committed| drop(answer.send(committed));
    RUNTIME.with(|runtime| runtime.block_on(store.commit(batch, Completion::once(done))));
    move || wait.recv().expect("done is always called").expect("nothing is wrong with this store")
}

pub fn close(store: &dyn Store) {
    RUNTIME.with(|runtime| runtime.block_on(store.close())).expect("closes");
}

/// Everything that can be read from a store, or the first error.
pub fn contents(store: &dyn Store) -> Result<String, StoreError> {
    use std::fmt::Write as _;
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let apps = store.list_apps().await?;
            let mut text = format!("{apps:?}");
            for app in apps {
                for user in store.list_users(app.id, "", usize::MAX).await? {
                    let found = store.find_user(app.id, &user.name).await?;
                    assert_eq!(found.as_ref(), Some(&user));
                    let everything = ReadLimit { entries: usize::MAX, bytes: usize::MAX };
                    let page = store.read_inbox(app.id, user.id, Position(0), user.head, everything).await?;
                    write!(text, "\n{user:?}\n{page:?}").expect("a string takes everything");
                }
            }
            Ok(text)
        })
    })
}

/// The app that every store here has.
pub const APP: AppId = AppId(1);
