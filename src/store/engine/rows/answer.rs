//! What a device was answered: kept for its last sends, several to a row.

use super::{Reader, Record, put_number};
use crate::ids::{ConversationId, SendId, Seq};
use crate::store::{Answer, Refusal};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct AnswerRow {
    /// Tells whether a repeated `send_id` carries the same message.
    pub fingerprint: u64,
    pub answer: Answer,
}

impl AnswerRow {
    pub(in super::super) fn send_id(&self) -> SendId {
        match self.answer {
            Answer::Ack { send_id, .. } | Answer::Refused { send_id, .. } => send_id,
        }
    }
}

/// Answers that lie in one row, in the order of their `send_id`s.
pub(in super::super) struct Answers(pub Vec<AnswerRow>);

/// [`Answers`], as written.
pub(in super::super) struct AnswerWords(pub Vec<u8>);

impl Record for AnswerRow {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        match self.answer {
            Answer::Ack { send_id, conversation, seq, time } => {
                out.push(0);
                for number in [send_id.0, conversation.0, seq.0, time] {
                    put_number(out, number);
                }
            }
            Answer::Refused { send_id, refusal } => {
                out.push(1);
                put_number(out, send_id.0);
                put_number(out, u64::from(refusal.number()));
            }
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let fingerprint = u64::from_le_bytes(from.array()?);
        let (kind, send_id) = (from.u8()?, SendId(from.number()?));
        let answer = match kind {
            0 => Answer::Ack {
                send_id,
                conversation: ConversationId(from.number()?),
                seq: Seq(from.number()?),
                time: from.number()?,
            },
            1 => Answer::Refused { send_id, refusal: Refusal::from_number(u32::try_from(from.number()?).ok()?)? },
            _ => return None,
        };
        Some(AnswerRow { fingerprint, answer })
    }
}

impl Record for Answers {
    fn write(&self, out: &mut Vec<u8>) {
        for answer in &self.0 {
            answer.write(out);
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let mut answers = Vec::new();
        while !from.is_empty() {
            answers.push(AnswerRow::read(from)?);
        }
        Some(Answers(answers))
    }
}

impl Record for AnswerWords {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn read(from: &mut Reader) -> Option<Self> {
        Some(AnswerWords(from.rest().into()))
    }
}
