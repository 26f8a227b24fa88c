//! A message is sequenced.

use postrider_protocol::encode::{self, MessageParts};
use postrider_protocol::limits::KEPT_ANSWERS;
use postrider_protocol::name;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::cold;
use super::super::keys;
use super::super::rows::{AnswerRow, MessageFacts, corrupt};
use super::super::state::At;
use super::inbox::Told;
use super::{Deciding, Stop};
use crate::ids::{ConversationId, DeviceId, Seq};
use crate::store::{Answer, Recipient, Refusal, Send, StoreError};

/// A recipient that nothing refuses any more.
enum Accepted<'a> {
    Found(At),
    ToBeMade(&'a str),
}

impl Deciding<'_> {
    /// The first answer of a `send_id` stands (SEND-4); a new one consumes the id, whatever becomes of it.
    pub(super) fn send(&mut self, send: &Send) -> Result<Answer, Stop> {
        let (sender, index) = self.device(send.user, send.device)?.ok_or(Refusal::DeviceExpired)?;
        let highest = self.state.user(sender).row.devices[index].highest;
        let id = send.send_id;
        if id.0 == 0 || id.0 > highest.0 + 1 {
            return Err(Refusal::SendIdGap.into());
        }
        let fingerprint = fingerprint(send);
        if id <= highest {
            if highest.0 - id.0 >= KEPT_ANSWERS as u64 {
                return Err(Refusal::SendIdTooOld.into());
            }
            return self.repeated(sender, send, fingerprint);
        }

        let answer = match self.accept(sender, send) {
            Ok((conversation, seq)) => Answer::Ack { send_id: id, conversation, seq, time: send.now },
            Err(Stop::Refused(refusal)) => Answer::Refused { send_id: id, refusal },
            Err(failed) => return Err(failed),
        };
        self.state.moving(sender).set_highest(index, id);
        self.state.push_answer(sender, index, &AnswerRow { fingerprint, answer });
        Ok(answer)
    }

    fn repeated(&self, sender: At, send: &Send, fingerprint: u64) -> Result<Answer, Stop> {
        let kept = match self.state.user(sender).answers.find(send.device, send.send_id) {
            Some(hot) => hot,
            None => {
                let key = self.state.user_key(sender);
                let found = cold::answer(&*self.state.disk()?, key, send.device, send.send_id)?;
                let group = keys::answer_group(send.send_id);
                found.ok_or_else(|| corrupt(&keys::answers(self.app, send.user, send.device, group)))?
            }
        };
        if kept.fingerprint == fingerprint { Ok(kept.answer) } else { Err(Refusal::SendIdReused.into()) }
    }

    /// Takes the message into the conversation. All refusals come before the first change.
    fn accept(&mut self, sender: At, send: &Send) -> Result<(ConversationId, Seq), Stop> {
        if let Some(refusal) = send.refuse {
            return Err(refusal.into());
        }
        let accepted = self.recipient(send)?;
        let waiting = if let Accepted::Found(at) = accepted { self.state.user(at).row.messages } else { 0 };
        if waiting >= send.inbox_limit {
            return Err(Refusal::InboxFull.into());
        }
        let (recipient, known) = match accepted {
            Accepted::Found(at) => {
                let recipient = self.user_id(at);
                (at, self.state.find_direct(self.app, send.user, recipient)?)
            }
            Accepted::ToBeMade(name) => (self.make_user(name)?, None),
        };
        let conversation = match known {
            Some(conversation) => conversation,
            None => self.make_conversation(sender, recipient)?,
        };
        let row = self.state.conversation_mut(conversation);
        row.head.0 += 1;
        let seq = row.head;
        let conversation = self.state.conversation_id(conversation);

        let facts = MessageFacts { conversation, seq, sender: send.user, time: send.now };
        let copied = recipient != sender && self.state.user(sender).row.devices.len() > 1;
        let encoded = encode::message_of(MessageParts {
            conversation: conversation.0,
            seq: seq.0,
            sender: &self.state.user(sender).row.name,
            recipient: &self.state.user(recipient).row.name,
            time: send.now,
            content: &send.content,
        });
        self.append(recipient, DeviceId(0), Told::Message(facts, encoded.clone()))?;
        if copied {
            self.append(sender, send.device, Told::Message(facts, encoded))?;
        }
        Ok((conversation, seq))
    }

    fn recipient<'a>(&mut self, send: &'a Send) -> Result<Accepted<'a>, Stop> {
        match &send.to {
            Recipient::User(to) => match self.state.find_user_named(self.app, to)? {
                Some(at) => Ok(Accepted::Found(at)),
                None if send.create_recipient && name::check("recipient", to).is_ok() => Ok(Accepted::ToBeMade(to)),
                None => Err(Refusal::NotAccepted.into()),
            },
            Recipient::Conversation(id) => {
                let conversation = self.state.find_conversation(self.app, *id)?.ok_or(Refusal::NotAccepted)?;
                let other = self.state.conversation(conversation).other(send.user).ok_or(Refusal::NotAccepted)?;
                // The other member of a conversation may have been removed.
                let other = self.state.find_user(self.app, other)?.ok_or(Refusal::NotAccepted)?;
                Ok(Accepted::Found(other))
            }
        }
    }

    fn make_conversation(&mut self, sender: At, recipient: At) -> Result<At, StoreError> {
        let app = self.known_app()?;
        app.last_conversation += 1;
        let id = ConversationId(app.last_conversation);
        let members = [self.user_id(sender), self.user_id(recipient)];
        Ok(self.state.add_conversation(self.app, id, members))
    }
}

/// Tells whether a repeated `send_id` carries the same message. On disk: the encoding never changes.
fn fingerprint(send: &Send) -> u64 {
    let to = match &send.to {
        Recipient::User(name) => xxh3_64_with_seed(name.as_bytes(), 0),
        Recipient::Conversation(conversation) => xxh3_64_with_seed(&conversation.0.to_le_bytes(), 1),
    };
    xxh3_64_with_seed(&send.content, to)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ids::{AppId, SendId, UserId};

    #[test]
    fn fingerprints_on_disk_keep_their_meaning() {
        let of = |to, content: &'static str| {
            fingerprint(&Send {
                app: AppId(1),
                user: UserId(1),
                device: DeviceId(1),
                send_id: SendId(1),
                to,
                content: Bytes::from_static(content.as_bytes()),
                refuse: None,
                create_recipient: false,
                inbox_limit: 1,
                now: 0,
            })
        };
        assert_eq!(of(Recipient::User("bob".into()), "hi"), FINGERPRINT_OF_HI_TO_BOB);
        assert_ne!(of(Recipient::User("bob".into()), "hi"), of(Recipient::User("bobh".into()), "i"));
        assert_ne!(
            of(Recipient::Conversation(ConversationId(1)), ""),
            of(Recipient::Conversation(ConversationId(2)), "")
        );
    }

    /// Computed once, when format 3 was made.
    const FINGERPRINT_OF_HI_TO_BOB: u64 = 16_231_423_941_764_549_939;
}
