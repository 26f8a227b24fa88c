//! What a user's devices were answered and sled may not have: in rows as sled keeps them, and in words.
//!
//! The last answers of all who send are most of what is in memory, and each message adds one. As words in the row that is
//! being filled it goes where the one before it went, which a core's cache still has; on its own in a ring of 256 it takes
//! the place of one that no cache has any more.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::super::keys::{self, ANSWER_ROWS};
use super::super::rows::{AnswerRow, Answers, Reader, Record as _};
use crate::ids::{DeviceId, SendId};

/// Answers of one user's devices. Bounded: of each device the rows with its last answers.
#[derive(Default)]
pub(in super::super) struct HotAnswers {
    /// What the last answer went to; empty when there is none at all.
    open: Row,
    /// The rest, each device's in their order.
    others: VecDeque<Row>,
}

/// Answers that sled has in one row, or will have.
#[derive(Default)]
pub(super) struct Row {
    pub device: DeviceId,
    /// The first send that is answered in it.
    pub first: SendId,
    /// The group of its first answer, and of its last.
    groups: (u64, u64),
    /// [`Answers`], as written.
    pub words: Vec<u8>,
}

/// Room beside what the row before it took.
const SPARE_BYTES: usize = 32;

impl HotAnswers {
    pub(super) fn is_empty(&self) -> bool {
        self.open.words.is_empty()
    }

    /// Keeps an answer that comes with `group`, and returns its words; those that no repetition may ask for any more go, a row
    /// at a time.
    pub(super) fn push(&mut self, device: DeviceId, answer: &AnswerRow, group: u64) -> &[u8] {
        let send_id = answer.send_id();
        if !self.open.is(device, keys::answer_group(send_id)) {
            self.turn_to(device, send_id, group);
        }
        let Row { groups: (_, last), words, .. } = &mut self.open;
        *last = group;
        let start = words.len();
        answer.write(words);
        &words[start..]
    }

    /// Opens the row of an answer.
    fn turn_to(&mut self, device: DeviceId, send_id: SendId, group: u64) {
        let number = keys::answer_group(send_id);
        let room = self.open.words.len() + SPARE_BYTES;
        if !self.open.words.is_empty() {
            self.others.push_back(mem::take(&mut self.open));
        }
        // Another device may have sent meanwhile.
        if let Some(newest) = self.others.iter().rposition(|row| row.device == device)
            && self.others[newest].number() == number
            && let Some(row) = self.others.remove(newest)
        {
            self.open = row;
            return;
        }
        let mut words = None;
        while let Some(oldest) = self.others.iter().position(|row| row.device == device)
            && self.others[oldest].number() + ANSWER_ROWS <= number
        {
            words = self.others.remove(oldest).map(|row| row.words);
        }
        let mut words = words.unwrap_or_else(|| Vec::with_capacity(room));
        words.clear();
        self.open = Row { device, first: send_id, groups: (group, group), words };
    }

    /// An answer that is here.
    pub(in super::super) fn find(&self, device: DeviceId, send_id: SendId) -> Option<AnswerRow> {
        let number = keys::answer_group(send_id);
        let row = self.rows().find(|row| row.is(device, number))?;
        row.answers()?.0.into_iter().find(|answer| answer.send_id() == send_id)
    }

    /// Rows with answers of groups up to this one.
    pub(super) fn up_to_group(&self, group: u64) -> impl Iterator<Item = &Row> {
        self.rows().filter(move |row| row.groups.0 <= group)
    }

    /// Sled has all of groups up to this one. A row that has newer ones, too, stays whole: it is written whole then.
    pub(super) fn cool(&mut self, group: u64) {
        self.retain(|row| row.groups.1 > group);
    }

    /// Nobody asks for this device's.
    pub(super) fn lose_device(&mut self, device: DeviceId) {
        self.retain(|row| row.device != device);
    }

    fn retain(&mut self, stays: impl Fn(&Row) -> bool) {
        self.others.retain(&stays);
        if !stays(&self.open) {
            self.open = self.others.pop_back().unwrap_or_default();
        }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.others.iter().chain((!self.is_empty()).then_some(&self.open))
    }
}

impl Row {
    /// Which of the device's rows.
    pub fn number(&self) -> u64 {
        keys::answer_group(self.first)
    }

    fn is(&self, device: DeviceId, number: u64) -> bool {
        self.device == device && self.number() == number && !self.words.is_empty()
    }

    fn answers(&self) -> Option<Answers> {
        Answers::read(&mut Reader(Bytes::copy_from_slice(&self.words)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use postrider_protocol::limits::KEPT_ANSWERS;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ConversationId, Seq};
    use crate::store::Answer;

    /// What happens to a user's answers.
    #[derive(Clone, Debug)]
    enum Step {
        /// A device sends so often, in a group each or in one together.
        Send {
            device: u64,
            count: u64,
            groups: bool,
        },
        /// Sled has got all but the last so many groups.
        Cool {
            but: u64,
        },
        Lose {
            device: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let device = 1..4u64;
        prop_oneof![
            6 => (device.clone(), 1..40u64, any::<bool>())
                .prop_map(|(device, count, groups)| Step::Send { device, count, groups }),
            1 => (1..4u64, 250..300u64).prop_map(|(device, count)| Step::Send { device, count, groups: true }),
            2 => (0..60u64).prop_map(|but| Step::Cool { but }),
            1 => device.prop_map(|device| Step::Lose { device }),
        ]
    }

    fn answer(device: u64, id: u64) -> AnswerRow {
        let answer =
            Answer::Ack { send_id: SendId(id), conversation: ConversationId(device), seq: Seq(id), time: id << 20 };
        AnswerRow { fingerprint: id * 31, answer }
    }

    proptest! {
        #[test]
        fn what_sled_may_not_have_is_found_and_spilled_once(steps in vec(step(), 1..40)) {
            let mut ours = HotAnswers::default();
            // All there were, and the group that each came with.
            let mut plain: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            let mut highest: BTreeMap<u64, u64> = BTreeMap::new();
            let (mut group, mut cold) = (1, 0);
            for step in steps {
                match step {
                    Step::Send { device, count, groups } => for _ in 0..count {
                        group += u64::from(groups);
                        let id = highest.entry(device).or_default();
                        *id += 1;
                        let mut words = Vec::new();
                        answer(device, *id).write(&mut words);
                        prop_assert_eq!(ours.push(DeviceId(device), &answer(device, *id), group), words);
                        plain.insert((device, *id), group);
                    },
                    Step::Cool { but } => {
                        cold = cold.max(group.saturating_sub(but));
                        ours.cool(cold);
                    }
                    Step::Lose { device } => {
                        ours.lose_device(DeviceId(device));
                        plain.retain(|(whose, _), _| *whose != device);
                    }
                }
                group += 1;
                plain.retain(|(device, id), _| id + KEPT_ANSWERS as u64 > highest[device]);
                let hot: Vec<_> = plain.iter().filter(|(_, came)| **came > cold).map(|(key, _)| *key).collect();
                for &(device, id) in &hot {
                    prop_assert_eq!(ours.find(DeviceId(device), SendId(id)), Some(answer(device, id)));
                }
                prop_assert_eq!(ours.is_empty(), hot.is_empty());
                prop_assert!(ours.rows().count() <= 3 * ANSWER_ROWS as usize);
                for up_to in [cold, group.saturating_sub(10), group] {
                    let mut rows = BTreeMap::new();
                    for row in ours.up_to_group(up_to) {
                        let ids: Vec<_> = row.answers().unwrap().0.iter().map(|answer| answer.send_id()).collect();
                        prop_assert!(ids.windows(2).all(|two| two[1].0 == two[0].0 + 1));
                        prop_assert!(ids[0] == row.first && ids.iter().all(|id| keys::answer_group(*id) == row.number()));
                        prop_assert!(rows.insert((row.device.0, row.number()), ids).is_none(), "a row twice");
                    }
                    for (device, id) in hot.iter().copied().filter(|key| plain[key] <= up_to) {
                        let row = &rows[&(device, keys::answer_group(SendId(id)))];
                        prop_assert!(row.contains(&SendId(id)));
                    }
                }
            }
        }
    }
}
