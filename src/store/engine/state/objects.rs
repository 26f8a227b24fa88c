//! Objects in memory under their keys, with what is known of where their newest change is.

use std::hash::Hash;

use rustc_hash::FxHashMap;
use slab::Slab;

/// Where an object is, for as long as nothing is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct At(u32);

/// Objects of one kind.
pub(in super::super) struct Objects<K, T> {
    index: FxHashMap<K, At>,
    slots: Slab<Object<K, T>>,
}

/// In this order in memory, as its value's.
#[repr(C)]
pub(in super::super) struct Object<K, T> {
    pub key: K,
    /// The last group that changed it.
    pub group: u64,
    /// The newest segment that has a change of it which sled may not have; 0 when sled has all of it.
    pub segment: u64,
    /// The number of its image in that group.
    pub image: u32,
    /// Whether the batch has changed it that is being decided.
    pub touched: bool,
    pub value: T,
}

impl<K, T> Default for Objects<K, T> {
    fn default() -> Self {
        Objects { index: FxHashMap::default(), slots: Slab::new() }
    }
}

impl<K: Copy + Eq + Hash, T> Objects<K, T> {
    pub(super) fn find(&self, key: K) -> Option<At> {
        self.index.get(&key).copied()
    }

    /// Adds an object whose key is free.
    pub(super) fn add(&mut self, key: K, value: T) -> At {
        let at = At(self.slots.insert(Object { key, group: 0, segment: 0, image: 0, touched: false, value }) as u32);
        self.index.insert(key, at);
        at
    }

    pub(super) fn remove(&mut self, key: K) -> Option<T> {
        let at = self.index.remove(&key)?;
        Some(self.slots.remove(at.0 as usize).value)
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// In no order.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        self.index.keys().copied()
    }
}

impl<K, T> std::ops::Index<At> for Objects<K, T> {
    type Output = Object<K, T>;

    fn index(&self, at: At) -> &Object<K, T> {
        &self.slots[at.0 as usize]
    }
}

impl<K, T> std::ops::IndexMut<At> for Objects<K, T> {
    fn index_mut(&mut self, at: At) -> &mut Object<K, T> {
        &mut self.slots[at.0 as usize]
    }
}
