//! Objects in memory under their keys, with what is known of where their newest change is.

use std::num::NonZeroU32;

use hashbrown::HashTable;
use rustc_hash::FxHashMap;
use slab::Slab;

use super::{ConversationKey, UserKey};
use crate::ids::AppId;

/// Where an object is, for as long as nothing is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct At(NonZeroU32);

/// A number within an app. Numbers are given one after the other.
pub(in super::super) trait Key: Copy {
    fn parts(self) -> (AppId, u64);
}

impl Key for UserKey {
    fn parts(self) -> (AppId, u64) {
        (self.0, self.1.0)
    }
}

impl Key for ConversationKey {
    fn parts(self) -> (AppId, u64) {
        (self.0, self.1.0)
    }
}

/// Objects of one kind.
pub(in super::super) struct Objects<K, T> {
    index: Index,
    slots: Slab<Object<K, T>>,
}

/// Where the object of each key is. Four bytes each, if most are there: all that are in use stay in a core's cache, which
/// a table of keys does not.
#[derive(Default)]
struct Index {
    pages: FxHashMap<(AppId, u64), Box<Page>>,
}

/// Keys that follow each other.
struct Page {
    /// How many of them have an object.
    objects: u32,
    at: [Option<At>; PAGE_KEYS],
}

const PAGE_KEYS: usize = 64;

/// Finds objects by what they have in them: by a hash of that, and a look at the object. As dense as the index, and for the
/// same reason.
#[derive(Default)]
pub(super) struct Finder(HashTable<At>);

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
    /// Whether it is in the line of what may be forgotten.
    pub in_line: bool,
    pub value: T,
}

impl At {
    fn of_slot(slot: usize) -> At {
        At(NonZeroU32::MIN.saturating_add(slot as u32))
    }

    fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Index {
    fn find(&self, key: impl Key) -> Option<At> {
        let (page, key) = place(key);
        self.pages.get(&page)?.at[key]
    }

    fn insert(&mut self, key: impl Key, at: At) {
        let (page, key) = place(key);
        let page = self.pages.entry(page).or_insert_with(|| Box::new(Page { objects: 0, at: [None; PAGE_KEYS] }));
        page.objects += u32::from(page.at[key].replace(at).is_none());
    }

    fn remove(&mut self, key: impl Key) -> Option<At> {
        let (number, key) = place(key);
        let page = self.pages.get_mut(&number)?;
        let at = page.at[key].take()?;
        page.objects -= 1;
        if page.objects == 0 {
            self.pages.remove(&number);
        }
        Some(at)
    }
}

impl Finder {
    /// The object of this hash that `is` what is looked for.
    pub(super) fn find(&self, hash: u64, is: impl Fn(At) -> bool) -> Option<At> {
        self.0.find(hash, |at| is(*at)).copied()
    }

    /// Adds one that it does not find yet. `hash_of` is asked for others, too.
    pub(super) fn insert(&mut self, at: At, hash_of: impl Fn(At) -> u64) {
        self.0.insert_unique(hash_of(at), at, |at| hash_of(*at));
    }

    pub(super) fn remove(&mut self, hash: u64, at: At) {
        if let Ok(found) = self.0.find_entry(hash, |other| *other == at) {
            found.remove();
        }
    }
}

/// The page of a key, and which of its keys it is.
fn place(key: impl Key) -> ((AppId, u64), usize) {
    let (app, number) = key.parts();
    ((app, number / PAGE_KEYS as u64), (number % PAGE_KEYS as u64) as usize)
}

impl<K, T> Default for Objects<K, T> {
    fn default() -> Self {
        Objects { index: Index::default(), slots: Slab::new() }
    }
}

impl<K: Key, T> Objects<K, T> {
    pub(super) fn find(&self, key: K) -> Option<At> {
        self.index.find(key)
    }

    /// Adds an object whose key is free.
    pub(super) fn add(&mut self, key: K, value: T) -> At {
        let object = Object { key, group: 0, segment: 0, image: 0, touched: false, in_line: false, value };
        let at = At::of_slot(self.slots.insert(object));
        self.index.insert(key, at);
        at
    }

    pub(super) fn remove(&mut self, key: K) -> Option<T> {
        let at = self.index.remove(key)?;
        Some(self.slots.remove(at.slot()).value)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// In no order.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        self.slots.iter().map(|(_, object)| object.key)
    }
}

impl<K, T> std::ops::Index<At> for Objects<K, T> {
    type Output = Object<K, T>;

    fn index(&self, at: At) -> &Object<K, T> {
        &self.slots[at.slot()]
    }
}

impl<K, T> std::ops::IndexMut<At> for Objects<K, T> {
    fn index_mut(&mut self, at: At) -> &mut Object<K, T> {
        &mut self.slots[at.slot()]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::UserId;

    proptest! {
        #[test]
        fn each_key_finds_its_object_and_pages_without_any_are_given_back(
            steps in vec((any::<bool>(), 0u32..3, 0u64..200), 0..300),
        ) {
            let (mut ours, mut plain) = (Objects::<UserKey, u64>::default(), BTreeMap::new());
            for (value, (adds, app, number)) in (0..).zip(steps) {
                let key = (AppId(app), UserId(number));
                if adds && !plain.contains_key(&key) {
                    plain.insert(key, value);
                    let at = ours.add(key, value);
                    prop_assert_eq!(ours.find(key), Some(at));
                } else {
                    prop_assert_eq!(ours.remove(key), plain.remove(&key));
                }
                prop_assert_eq!(ours.len(), plain.len());
            }
            for (app, number) in (0..3).flat_map(|app| (0..256).map(move |number| (app, number))) {
                let key = (AppId(app), UserId(number));
                let found = ours.find(key).map(|at| (ours[at].key, ours[at].value));
                prop_assert_eq!(found, plain.get(&key).map(|value| (key, *value)));
            }
            for key in plain.into_keys() {
                ours.remove(key);
            }
            prop_assert!(ours.index.pages.is_empty());
        }
    }
}
