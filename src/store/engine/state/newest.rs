//! Where the newest receipts of an inbox are: few in nearly every inbox, and then looked for one by one, beside the user
//! they belong to and not somewhere else in memory.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::super::rows::ReceiptKind;
use crate::ids::{ConversationId, Position, UserId};

/// What a receipt is about: an inbox has at most one of each.
pub(in super::super) type ReceiptKey = (ReceiptKind, ConversationId, UserId);

/// So many are looked for one by one.
const FEW: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Newest {
    pub position: Position,
    /// Whether sled has a row of it.
    pub cold: bool,
}

/// The newest receipt of each kind, conversation and user.
pub(in super::super) enum NewestReceipts {
    /// In no order.
    Few(SmallVec<[(ReceiptKey, Newest); 1]>),
    /// There were more than [`FEW`] once.
    Many(FxHashMap<ReceiptKey, Newest>),
}

impl Default for NewestReceipts {
    fn default() -> Self {
        NewestReceipts::Few(SmallVec::new())
    }
}

impl NewestReceipts {
    pub(in super::super) fn len(&self) -> usize {
        match self {
            NewestReceipts::Few(few) => few.len(),
            NewestReceipts::Many(many) => many.len(),
        }
    }

    pub(super) fn get(&self, key: &ReceiptKey) -> Option<&Newest> {
        match self {
            NewestReceipts::Few(few) => few.iter().find(|(known, _)| known == key).map(|(_, newest)| newest),
            NewestReceipts::Many(many) => many.get(key),
        }
    }

    pub(super) fn get_mut(&mut self, key: &ReceiptKey) -> Option<&mut Newest> {
        match self {
            NewestReceipts::Few(few) => few.iter_mut().find(|(known, _)| known == key).map(|(_, newest)| newest),
            NewestReceipts::Many(many) => many.get_mut(key),
        }
    }

    /// Returns the one that was there before.
    pub(super) fn insert(&mut self, key: ReceiptKey, newest: Newest) -> Option<Newest> {
        if let Some(known) = self.get_mut(&key) {
            return Some(std::mem::replace(known, newest));
        }
        match self {
            NewestReceipts::Few(few) if few.len() < FEW => few.push((key, newest)),
            NewestReceipts::Few(few) => {
                let many = few.drain(..).chain([(key, newest)]).collect();
                *self = NewestReceipts::Many(many);
            }
            NewestReceipts::Many(many) => {
                many.insert(key, newest);
            }
        }
        None
    }

    pub(super) fn remove(&mut self, key: &ReceiptKey) {
        match self {
            NewestReceipts::Few(few) => few.retain(|(known, _)| known != key),
            NewestReceipts::Many(many) => {
                many.remove(key);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ReceiptKey, Newest)> {
        let (few, many) = match self {
            NewestReceipts::Few(few) => (Some(few), None),
            NewestReceipts::Many(many) => (None, Some(many)),
        };
        let many = many.into_iter().flatten().map(|(key, newest)| (*key, *newest));
        few.into_iter().flatten().copied().chain(many)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn however_many_there_are_they_are_a_map(steps in vec((any::<bool>(), 1u64..20, any::<u64>()), 0..80)) {
            let (mut ours, mut plain) = (NewestReceipts::default(), BTreeMap::new());
            for (inserts, conversation, position) in steps {
                let key = (ReceiptKind::Read, ConversationId(conversation), UserId(1));
                let newest = Newest { position: Position(position), cold: false };
                if inserts {
                    prop_assert_eq!(ours.insert(key, newest), plain.insert(key.1, newest));
                } else {
                    ours.remove(&key);
                    plain.remove(&key.1);
                }
                prop_assert_eq!(ours.get(&key), plain.get(&key.1));
                prop_assert_eq!(ours.len(), plain.len());
                let all: BTreeMap<_, _> = ours.iter().map(|((_, conversation, _), newest)| (conversation, newest)).collect();
                prop_assert_eq!(&all, &plain);
            }
        }
    }
}
