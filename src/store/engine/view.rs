//! One group's changes over the rows that are durable: what the sequencer decides on.
//!
//! Nothing is written below until the whole group is decided. Every change can be taken back to a [`Mark`], so that an
//! operation that is refused, and a batch that fails, leave nothing.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::keys::Key;
use super::records::{self, Record};
use crate::store::StoreError;

/// Rows to write, and under `None` those to delete.
pub(super) type Changes = BTreeMap<Key, Option<Vec<u8>>>;

/// Rows in the order of their keys.
pub(super) type Scan<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StoreError>> + 'a>;

/// What keeps rows: the seam under the sequencer. All of a group is applied or none of it, whatever happens between.
pub(super) trait Rows: Send + Sync {
    /// The value under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Rows with `from ≤ key < end`.
    fn scan(&self, from: &[u8], end: &[u8]) -> Scan<'_>;

    /// Writes a group; when it returns `Ok`, the group is on stable storage. After [`StoreError::Full`] nothing of it is
    /// there and later groups may fit; after any other error nothing more is applied.
    fn apply(&self, changes: Changes) -> Result<(), StoreError>;
}

/// Rows as they will be once the group is applied.
pub(super) struct View<'a> {
    rows: &'a dyn Rows,
    changes: Changes,
    /// What each change replaced, oldest first: the outer `None` says that the group had not touched the key.
    undo: Vec<(Key, Option<Option<Vec<u8>>>)>,
    /// Of all changes ever made, also of those replaced or taken back.
    bytes: usize,
}

/// A moment to go back to.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize);

impl<'a> View<'a> {
    pub(super) fn new(rows: &'a dyn Rows) -> Self {
        View { rows, changes: Changes::new(), undo: Vec::new(), bytes: 0 }
    }

    pub(super) fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        match self.changes.get(key) {
            Some(None) => Ok(None),
            Some(Some(value)) => records::unseal(key, value).map(Some),
            None => self.rows.get(key)?.map(|value| records::unseal(key, &value)).transpose(),
        }
    }

    pub(super) fn put(&mut self, key: Key, record: &impl Record) {
        let value = records::seal(&key, record);
        self.change(key, Some(value));
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.change(key, None);
    }

    fn change(&mut self, key: Key, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        let replaced = self.changes.insert(key.clone(), value);
        self.undo.push((key, replaced));
    }

    /// Visits rows with `from ≤ key < end` in order until told to stop.
    pub(super) fn scan<R: Record>(
        &self,
        from: &[u8],
        end: &[u8],
        mut visit: impl FnMut(&[u8], R) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        if from >= end {
            return Ok(());
        }
        let mut below = self.rows.scan(from, end).peekable();
        for (key, value) in self.changes.range::<[u8], _>((Bound::Included(from), Bound::Excluded(end))) {
            while let Some(row) = next_before(&mut below, key)? {
                if visit(&row.0, records::unseal(&row.0, &row.1)?)?.is_break() {
                    return Ok(());
                }
            }
            if let Some(value) = value
                && visit(key, records::unseal(key, value)?)?.is_break()
            {
                return Ok(());
            }
        }
        for row in below {
            let (key, value) = row?;
            if visit(&key, records::unseal(&key, &value)?)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.undo.len())
    }

    /// Takes back every change since `mark`.
    pub(super) fn back_to(&mut self, mark: Mark) {
        while self.undo.len() > mark.0 {
            match self.undo.pop() {
                Some((key, Some(replaced))) => self.changes.insert(key, replaced),
                Some((key, None)) => self.changes.remove(&key),
                None => break,
            };
        }
    }

    /// Bytes of the changes, at least what they will take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the group changes, once it is decided.
    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }
}

/// The next row below that comes before `key`; a row under `key` itself is hidden by the change and dropped.
fn next_before(below: &mut Peekable<Scan<'_>>, key: &[u8]) -> Result<Option<(Bytes, Bytes)>, StoreError> {
    let is_due = |row: &Result<(Bytes, Bytes), StoreError>| row.as_ref().map_or(true, |(at, _)| at.as_ref() <= key);
    match below.next_if(is_due).transpose()? {
        Some((at, _)) if at.as_ref() == key => Ok(None),
        row => Ok(row),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::records::Number;
    use super::*;

    struct Fixed(BTreeMap<Key, Vec<u8>>);

    impl Rows for Fixed {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            Ok(self.0.get(key).map(|value| Bytes::copy_from_slice(value)))
        }

        fn scan(&self, from: &[u8], end: &[u8]) -> Scan<'_> {
            let rows = self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(end)));
            Box::new(rows.map(|(key, value)| Ok((key.clone().into(), value.clone().into()))))
        }

        fn apply(&self, _: Changes) -> Result<(), StoreError> {
            Err(StoreError::Closed)
        }
    }

    fn contents(view: &View<'_>, from: u8, end: u8) -> Vec<(u8, u64)> {
        let mut found = Vec::new();
        let visit = |key: &[u8], Number(value)| {
            found.push((key[0], value));
            Ok(ControlFlow::Continue(()))
        };
        view.scan(&[from], &[end], visit).expect("sound rows");
        found
    }

    proptest! {
        #[test]
        fn a_scan_sees_the_changes_and_going_back_forgets_them(
            below in prop::collection::btree_map(0u8..12, any::<u64>(), 0..8),
            first in prop::collection::vec((0u8..12, any::<Option<u64>>()), 0..8),
            second in prop::collection::vec((0u8..12, any::<Option<u64>>()), 0..8),
            from in 0u8..12, end in 0u8..13,
        ) {
            let rows = Fixed(below.iter().map(|(&key, &value)| (vec![key], records::seal(&[key], &Number(value)))).collect());
            let mut view = View::new(&rows);
            let mut wanted = below;
            let change = |view: &mut View<'_>, changes: &[(u8, Option<u64>)]| {
                for &(key, value) in changes {
                    match value {
                        Some(value) => view.put(vec![key], &Number(value)),
                        None => view.delete(vec![key]),
                    }
                }
            };
            change(&mut view, &first);
            for (key, value) in first {
                match value {
                    Some(value) => wanted.insert(key, value),
                    None => wanted.remove(&key),
                };
            }
            let mark = view.mark();
            change(&mut view, &second);
            view.back_to(mark);
            let wanted: Vec<(u8, u64)> =
                wanted.into_iter().filter(|(key, _)| (from..end).contains(key)).collect();
            prop_assert_eq!(contents(&view, from, end), wanted);
        }
    }
}
