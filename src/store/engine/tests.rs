//! What only a store on disk can get wrong. The rules that every store keeps are in the conformance suite.

mod at_rest;
pub mod audit;
mod crashes;
mod damage;
mod durability;
mod failing;
mod faulty;
mod flips;
mod halves;
mod kill;
mod missing;
mod opening;
mod pressure;
mod tools;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::files::{Files, SystemFiles};
use super::{Engine, EngineConfig};
use crate::store::{Batch, Committed, Completion, Operation, StoreError};

/// The system's files, with syncs that can be counted, held up and made to fail.
#[derive(Default)]
struct TestFiles {
    syncs: AtomicUsize,
    fail: AtomicBool,
    held: Mutex<bool>,
    /// Whether only syncs of sled's file are held up.
    only_sled: AtomicBool,
    released: Condvar,
    /// Syncs that are held up.
    waiting: AtomicUsize,
    /// The disk says that it has no free space.
    full: AtomicBool,
    /// No file can be made.
    no_new_files: AtomicBool,
    /// Reading a whole file takes this many milliseconds more.
    slow_ms: AtomicUsize,
    /// Opening sled takes this many milliseconds more.
    slow_sled_ms: AtomicUsize,
    /// Writes at an offset: all, and those past the system's cache.
    writes: AtomicUsize,
    direct_writes: AtomicUsize,
}

impl TestFiles {
    fn syncs(&self) -> usize {
        self.syncs.load(Ordering::SeqCst)
    }

    fn fail(&self, fail: bool) {
        self.fail.store(fail, Ordering::SeqCst);
    }

    fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    fn hold_sled(&self) {
        self.only_sled.store(true, Ordering::SeqCst);
        self.hold();
    }

    /// Returns when a sync is held up.
    fn wait_until_held(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.released.notify_all();
    }
}

impl Files for TestFiles {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        SystemFiles.make_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<File> {
        SystemFiles.lock(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        SystemFiles.open(path)
    }

    fn open_direct(&self, path: &Path) -> io::Result<File> {
        SystemFiles.open_direct(path)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        thread::sleep(Duration::from_millis(self.slow_ms.load(Ordering::SeqCst) as u64));
        SystemFiles.read(path)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        SystemFiles.write(file, bytes)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.no_new_files.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        SystemFiles.create(path, bytes)
    }

    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        SystemFiles.read_at(file, offset, bytes)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.direct_writes.fetch_add(usize::from(is_direct(file)), Ordering::SeqCst);
        SystemFiles.write_at(file, offset, bytes)
    }

    fn settle(&self, file: &File) -> io::Result<()> {
        if path_of(file).ends_with("sled/db") {
            thread::sleep(Duration::from_millis(self.slow_sled_ms.load(Ordering::SeqCst) as u64));
        }
        SystemFiles.settle(file)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        if self.full.load(Ordering::SeqCst) { Ok(0) } else { SystemFiles.free_space(path) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemFiles.rename(from, to)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        SystemFiles.list(directory)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove_directory(path)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        if !self.only_sled.load(Ordering::SeqCst) || path_of(file).ends_with("sled/db") {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            drop(self.released.wait_while(self.held.lock().unwrap(), |held| *held).unwrap());
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        if self.fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        SystemFiles.sync_data(file)?;
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        SystemFiles.sync_directory(path)
    }
}

/// More cases than the usual: `POSTRIDER_TEST_CASES=20` runs twenty times as many.
fn cases(usual: usize) -> usize {
    let times = std::env::var("POSTRIDER_TEST_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    usual * times
}

/// A directory whose syncs cost nothing, where there is one: for tests in which no power fails, or only in play.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Does something once for each number below `count`, on several threads.
fn in_parallel(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::SeqCst));
                numbers.take_while(|number| *number < count).for_each(&work);
            });
        }
    });
}

fn config(path: &Path) -> EngineConfig {
    EngineConfig { cache_bytes: 4 << 20, segment_bytes: 1 << 20, ..EngineConfig::new(path) }
}

fn open(path: &Path) -> Result<Engine, StoreError> {
    Engine::open(&config(path))
}

fn open_with(path: &Path, files: &Arc<TestFiles>) -> Engine {
    Engine::open_with(&config(path), Arc::<TestFiles>::clone(files)).expect("opens")
}

/// A batch that changes something: it makes an app.
fn making(app: &str) -> Batch {
    vec![Operation::EnsureApp(app.to_owned())]
}

/// A completion that passes the result on.
fn reporting() -> (Completion, Receiver<Result<Committed, StoreError>>) {
    let (told, result) = channel();
    (Completion::once(move |committed| told.send(committed).expect("somebody listens")), result)
}

/// Whether what is written to a file goes past the system's cache.
#[cfg(target_os = "linux")]
fn is_direct(file: &File) -> bool {
    rustix::fs::fcntl_getfl(file).expect("the flags of a descriptor").contains(rustix::fs::OFlags::DIRECT)
}

#[cfg(not(target_os = "linux"))]
fn is_direct(_: &File) -> bool {
    false
}

fn path_of(file: &File) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("the path of a descriptor")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The rows in sled of a store that is closed; its last thread may not have let go of them yet.
fn rows_in_sled(directory: &Path) -> sled::Tree {
    loop {
        if let Ok(database) = sled::open(directory.join("sled")) {
            return database.open_tree("rows").unwrap();
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}
