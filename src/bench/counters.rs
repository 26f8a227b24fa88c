//! A set of counters that are expected in order: what is in it, and what is missing below the next. Takes memory for
//! gaps only.

use std::collections::BTreeMap;

/// The counters that have come, of 0, 1, 2 …
#[derive(Debug, Default)]
pub struct Counters {
    /// Every counter below is either in the set or in a gap.
    next: u64,
    /// Ranges below `next` that have not come: start → end, exclusive; apart from each other.
    gaps: BTreeMap<u64, u64>,
}

/// How a counter came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// As the next, or ahead of some that may still come.
    New,
    /// After one that is higher.
    Late,
    /// A further time.
    Again,
}

impl Counters {
    /// Puts a counter in.
    pub fn insert(&mut self, counter: u64) -> Arrival {
        if counter >= self.next {
            if counter > self.next {
                self.gaps.insert(self.next, counter);
            }
            self.next = counter + 1;
            return Arrival::New;
        }
        let gap = self.gaps.range(..=counter).next_back().map(|(&start, &end)| (start, end));
        let Some((start, end)) = gap.filter(|(_, end)| counter < *end) else { return Arrival::Again };
        self.gaps.remove(&start);
        if start < counter {
            self.gaps.insert(start, counter);
        }
        if counter + 1 < end {
            self.gaps.insert(counter + 1, end);
        }
        Arrival::Late
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.next - self.gaps.iter().map(|(start, end)| end - start).sum::<u64>()
    }

    /// How many of these are not in `other`.
    #[must_use]
    pub fn count_without(&self, other: &Self) -> u64 {
        let holes = other.gaps.iter().map(|(&start, &end)| (start, end)).chain([(other.next, u64::MAX)]);
        holes.map(|(start, end)| self.count_between(start, end)).sum()
    }

    fn count_between(&self, start: u64, end: u64) -> u64 {
        let end = end.min(self.next);
        let overlap = |(&from, &to): (&u64, &u64)| to.min(end).saturating_sub(from.max(start));
        end.saturating_sub(start) - self.gaps.iter().map(overlap).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(counters: &[u64]) -> Counters {
        let mut set = Counters::default();
        counters.iter().for_each(|&counter| _ = set.insert(counter));
        set
    }

    proptest! {
        #[test]
        fn it_is_a_set(first in proptest::collection::vec(0u64..24, 0..40), second in proptest::collection::vec(0u64..24, 0..40)) {
            let mut model = BTreeSet::new();
            let mut set = Counters::default();
            for &counter in &first {
                let expected = match model.range(counter..).next() {
                    Some(&same) if same == counter => Arrival::Again,
                    Some(_) => Arrival::Late,
                    None => Arrival::New,
                };
                prop_assert_eq!(set.insert(counter), expected);
                model.insert(counter);
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            let other: BTreeSet<u64> = second.iter().copied().collect();
            prop_assert_eq!(set.count_without(&of(&second)), model.difference(&other).count() as u64);
        }
    }
}
