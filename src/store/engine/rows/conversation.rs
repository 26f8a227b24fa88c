//! A conversation of two.

use super::{NUMBER_BYTES, Reader, Record, put_number};
use crate::ids::{Seq, UserId};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct ConversationRow {
    /// The same user twice for notes to oneself.
    pub members: [UserId; 2],
    pub head: Seq,
    /// Of the members, in their order; the first counts in notes to oneself.
    pub marks: [Marks; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Marks {
    pub delivered: Seq,
    pub read: Seq,
    /// What the user's devices said they have read, however much of it is confirmed.
    pub wanted: Seq,
}

impl ConversationRow {
    /// A row takes no more bytes than this.
    pub(in super::super) const MOST_BYTES: usize = 9 * NUMBER_BYTES;

    /// Whose turn in `members` and `marks` this user has; `None` for who is not a member.
    pub(in super::super) fn index(&self, user: UserId) -> Option<usize> {
        self.members.iter().position(|member| *member == user)
    }

    /// The other member; oneself in notes to oneself. `None` for who is not a member.
    pub(in super::super) fn other(&self, user: UserId) -> Option<UserId> {
        self.index(user).map(|index| self.members[1 - index])
    }
}

impl Record for ConversationRow {
    fn write(&self, out: &mut Vec<u8>) {
        put_number(out, self.head.0);
        for (member, marks) in self.members.iter().zip(&self.marks) {
            for number in [member.0, marks.delivered.0, marks.read.0, marks.wanted.0] {
                put_number(out, number);
            }
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let head = Seq(from.number()?);
        let mut member = || {
            let user = UserId(from.number()?);
            let mut seq = || from.number().map(Seq);
            Some((user, Marks { delivered: seq()?, read: seq()?, wanted: seq()? }))
        };
        let ((a, marks_a), (b, marks_b)) = (member()?, member()?);
        Some(ConversationRow { members: [a, b], head, marks: [marks_a, marks_b] })
    }
}
