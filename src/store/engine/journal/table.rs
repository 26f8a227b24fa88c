//! Rows in memory: one table a segment, with the newest value of each row the segment changed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;

use super::super::keys::Key;
use super::super::view::Scan;
use crate::store::StoreError;

/// Rows taken from a table under one lock: few at first, since most scans are short.
const FIRST_CHUNK: usize = 16;
const LARGEST_CHUNK: usize = 256;

/// The rows that one segment changed: the newest value of each, `None` where it was deleted. A group is in it wholly or
/// not at all.
#[derive(Default)]
pub(super) struct Table(RwLock<BTreeMap<Key, Option<Bytes>>>);

impl Table {
    /// The outer `None` says that the segment did not change the row.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.rows().get(key).cloned()
    }

    /// Applies a group.
    pub(super) fn insert(&self, rows: impl IntoIterator<Item = (Key, Option<Bytes>)>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(rows);
    }

    pub(super) fn rows(&self) -> RwLockReadGuard<'_, BTreeMap<Key, Option<Bytes>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Roughly what the rows take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.rows().iter().map(|(key, value)| (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64).sum()
    }
}

/// Rows with `from ≤ key < end` of the tables, newest first, over those below.
pub(super) fn merge<'a>(tables: &[Arc<Table>], below: Scan<'a>, from: &[u8], end: &[u8]) -> Scan<'a> {
    let cursors = tables.iter().map(|table| Cursor::new(Arc::clone(table), from, end)).collect();
    Box::new(Merge { cursors, below: below.peekable() })
}

struct Merge<'a> {
    /// Newest first.
    cursors: Vec<Cursor>,
    below: Peekable<Scan<'a>>,
}

impl Iterator for Merge<'_> {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut first: Option<(Bytes, Option<Bytes>)> = None;
            for cursor in &mut self.cursors {
                if let Some((key, value)) = cursor.peek()
                    && first.as_ref().is_none_or(|(first, _)| key < first)
                {
                    first = Some((key.clone(), value.clone()));
                }
            }
            let Some((key, value)) = first else { return self.below.next() };
            match self.below.peek() {
                Some(Err(_)) => return self.below.next(),
                Some(Ok((below, _))) => match below.cmp(&key) {
                    Ordering::Less => return self.below.next(),
                    Ordering::Equal => drop(self.below.next()),
                    Ordering::Greater => {}
                },
                None => {}
            }
            for cursor in &mut self.cursors {
                cursor.skip(&key);
            }
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
    }
}

/// A place in a table. Others may change the table meanwhile: what lies before the place is not looked at again.
struct Cursor {
    table: Arc<Table>,
    from: Bound<Bytes>,
    end: Bytes,
    taken: VecDeque<(Bytes, Option<Bytes>)>,
    chunk: usize,
    at_end: bool,
}

impl Cursor {
    fn new(table: Arc<Table>, from: &[u8], end: &[u8]) -> Cursor {
        Cursor {
            table,
            from: Bound::Included(Bytes::copy_from_slice(from)),
            end: Bytes::copy_from_slice(end),
            taken: VecDeque::new(),
            chunk: FIRST_CHUNK,
            at_end: from >= end,
        }
    }

    fn peek(&mut self) -> Option<&(Bytes, Option<Bytes>)> {
        if self.taken.is_empty() && !self.at_end {
            self.take_more();
        }
        self.taken.front()
    }

    /// Goes past `key` if that is where it is.
    fn skip(&mut self, key: &[u8]) {
        self.taken.pop_front_if(|(at, _)| at == key);
    }

    fn take_more(&mut self) {
        let rows = self.table.rows();
        let range = (self.from.as_ref().map(|key| &key[..]), Bound::Excluded(&self.end[..]));
        let rows = rows.range::<[u8], _>(range).take(self.chunk);
        self.taken.extend(rows.map(|(key, value)| (Bytes::copy_from_slice(key), value.clone())));
        self.at_end = self.taken.len() < self.chunk;
        self.chunk = (self.chunk * 2).min(LARGEST_CHUNK);
        if let Some((last, _)) = self.taken.back() {
            self.from = Bound::Excluded(last.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Rows = BTreeMap<u8, Option<u8>>;

    fn table(rows: &Rows) -> Arc<Table> {
        let table = Table::default();
        table.insert(rows.iter().map(|(&key, value)| (vec![key], value.map(|value| vec![value].into()))));
        Arc::new(table)
    }

    fn rows(most: usize) -> impl Strategy<Value = Rows> {
        prop::collection::btree_map(any::<u8>(), any::<Option<u8>>(), 0..most)
    }

    proptest! {
        #[test]
        fn newer_tables_hide_what_older_ones_and_the_rows_below_say(
            newest in rows(60), older in rows(60), below in rows(60), from in any::<u8>(), end in any::<u8>(),
        ) {
            let mut wanted = below.clone();
            wanted.extend(older.clone());
            wanted.extend(newest.clone());
            let wanted: Vec<(u8, u8)> = wanted
                .into_iter()
                .filter(|(key, _)| from <= *key && *key < end)
                .filter_map(|(key, value)| Some((key, value?)))
                .collect();
            let below = below.into_iter().filter(|(key, _)| from <= *key && *key < end);
            let below = below.filter_map(|(key, value)| Some(Ok((vec![key].into(), vec![value?].into()))));
            let found: Vec<(u8, u8)> = merge(&[table(&newest), table(&older)], Box::new(below), &[from], &[end])
                .map(|row| row.map(|(key, value)| (key[0], value[0])).expect("sound rows"))
                .collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
