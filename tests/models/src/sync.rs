//! What `src/sync.rs` names, as shuttle sees it.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::task::Waker;

pub use shuttle::sync::atomic::{AtomicUsize, Ordering};
pub use shuttle::sync::{Mutex, MutexGuard};
use shuttle::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

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
