//! What `src/sync.rs` names, as shuttle sees it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, LockResult, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub use shuttle::sync::{Mutex, MutexGuard};
use shuttle::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

thread_local! {
    /// Those who wait for no longer than a pause. All threads of a model are one thread of the system.
    static SLEEPERS: RefCell<Vec<Weak<Sleeper>>> = const { RefCell::new(Vec::new()) };
    static PASSED: Cell<bool> = const { Cell::new(false) };
}

/// Time stands still in a model, so that whoever is not woken sleeps for ever and is found. This lets all pauses be over
/// that somebody makes by now.
///
/// Who is about to sleep may miss it, as if their pause had begun later: to be called until what it is for has come.
pub fn let_time_pass() {
    PASSED.set(true);
    let sleepers: Vec<_> = SLEEPERS.with_borrow(|all| all.iter().filter_map(Weak::upgrade).collect());
    for sleeper in sleepers {
        sleeper.over.store(true, Ordering::SeqCst);
        sleeper.wake.notify_all();
    }
}

/// Whether time has passed in this run of a model.
pub fn time_has_passed() -> bool {
    PASSED.get()
}

/// At the start of a run.
pub fn stop_time() {
    PASSED.set(false);
    SLEEPERS.with_borrow_mut(Vec::clear);
}

struct Sleeper {
    wake: Arc<shuttle::sync::Condvar>,
    over: std::sync::atomic::AtomicBool,
}

/// Shuttle's never times out.
pub struct Condvar(Arc<shuttle::sync::Condvar>);

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl Condvar {
    pub fn new() -> Self {
        Self(Arc::new(shuttle::sync::Condvar::new()))
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _pause: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let sleeper = Arc::new(Sleeper { wake: Arc::clone(&self.0), over: std::sync::atomic::AtomicBool::new(false) });
        SLEEPERS.with_borrow_mut(|all| {
            all.retain(|sleeper| sleeper.strong_count() > 0);
            all.push(Arc::downgrade(&sleeper));
        });
        let woken = self.0.wait(guard);
        let waited = WaitTimeoutResult(sleeper.over.load(Ordering::SeqCst));
        match woken {
            Ok(guard) => Ok((guard, waited)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), waited))),
        }
    }
}

pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// As tokio's, as far as all who wait are told at once.
#[derive(Default)]
pub struct Notify(Mutex<Notices>);

#[derive(Default)]
struct Notices {
    given: u64,
    wakers: Vec<Waker>,
}

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    /// Hears every notice that is given from now on.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, given: self.0.lock().expect("no step panics").given }
    }

    pub fn notify_waiters(&self) {
        let wakers = {
            let mut notices = self.0.lock().expect("no step panics");
            notices.given += 1;
            std::mem::take(&mut notices.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

pub struct Notified<'a> {
    notify: &'a Notify,
    given: u64,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut notices = self.notify.0.lock().expect("no step panics");
        if notices.given != self.given {
            return Poll::Ready(());
        }
        notices.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

/// One waker, as `futures_util` has it; each call is one step.
#[derive(Default)]
pub struct AtomicWaker(Mutex<Option<Waker>>);

impl AtomicWaker {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn register(&self, waker: &Waker) {
        *self.0.lock().expect("no step panics") = Some(waker.clone());
    }

    pub fn take(&self) -> Option<Waker> {
        self.0.lock().expect("no step panics").take()
    }

    pub fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}

/// A map of one shard: what `dashmap` guards are, with the same chances of a deadlock.
pub struct DashMap<K, V>(RwLock<HashMap<K, V>>);

impl<K, V> Default for DashMap<K, V> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
    }
}

impl<K: Clone + Eq + Hash, V> DashMap<K, V> {
    pub fn get(&self, key: &K) -> Option<Ref<'_, K, V>> {
        let map = self.0.read().expect("no step panics");
        map.contains_key(key).then(|| Ref { map: Rc::new(map), key: key.clone() })
    }

    pub fn get_mut(&self, key: &K) -> Option<RefMut<'_, K, V>> {
        let map = self.0.write().expect("no step panics");
        map.contains_key(key).then(|| RefMut { map, key: key.clone() })
    }

    pub fn entry(&self, key: K) -> Entry<'_, K, V> {
        Entry(RefMut { map: self.0.write().expect("no step panics"), key })
    }

    pub fn remove_if(&self, key: &K, doomed: impl FnOnce(&K, &V) -> bool) -> Option<(K, V)> {
        let mut map = self.0.write().expect("no step panics");
        if map.get(key).is_some_and(|value| doomed(key, value)) { map.remove_entry(key) } else { None }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.read().expect("no step panics").len()
    }

    pub fn iter(&self) -> std::vec::IntoIter<Ref<'_, K, V>> {
        let map = Rc::new(self.0.read().expect("no step panics"));
        let all: Vec<_> = map.keys().map(|key| Ref { map: Rc::clone(&map), key: key.clone() }).collect();
        all.into_iter()
    }
}

impl<'a, K: Clone + Eq + Hash, V> IntoIterator for &'a DashMap<K, V> {
    type Item = Ref<'a, K, V>;
    type IntoIter = std::vec::IntoIter<Ref<'a, K, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

pub struct Ref<'a, K, V> {
    map: Rc<RwLockReadGuard<'a, HashMap<K, V>>>,
    key: K,
}

impl<K: Eq + Hash, V> Ref<'_, K, V> {
    pub fn key(&self) -> &K {
        &self.key
    }

    pub fn value(&self) -> &V {
        self
    }
}

impl<K: Eq + Hash, V> Deref for Ref<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.map.get(&self.key).expect("guarded")
    }
}

pub struct RefMut<'a, K, V> {
    map: RwLockWriteGuard<'a, HashMap<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Deref for RefMut<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.map.get(&self.key).expect("guarded")
    }
}

impl<K: Eq + Hash, V> DerefMut for RefMut<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.map.get_mut(&self.key).expect("guarded")
    }
}

pub struct Entry<'a, K, V>(RefMut<'a, K, V>);

impl<'a, K: Clone + Eq + Hash, V> Entry<'a, K, V> {
    pub fn or_insert_with(mut self, make: impl FnOnce() -> V) -> RefMut<'a, K, V> {
        let key = self.0.key.clone();
        self.0.map.entry(key).or_insert_with(make);
        self.0
    }

    pub fn or_default(self) -> RefMut<'a, K, V>
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}
