//! A message is sequenced.

use postrider_protocol::limits::KEPT_ANSWERS;
use postrider_protocol::{encode, name, wire};
use xxhash_rust::xxh3::Xxh3;

use super::super::keys;
use super::super::records::{AnswerRow, ConversationRow, Marks, MessageFacts, Number, UserRow, corrupt};
use super::inbox::Told;
use super::{Deciding, Stop};
use crate::ids::{ConversationId, DeviceId, Seq, UserId};
use crate::store::{Answer, Recipient, Refusal, Send, StoreError};

/// A recipient that nothing refuses any more.
enum Accepted<'a> {
    Found(UserId, UserRow),
    ToBeMade(&'a str),
}

impl Deciding<'_, '_> {
    /// The first answer of a `send_id` stands (SEND-4); a new one consumes the id, whatever becomes of it.
    pub(super) fn send(&mut self, send: &Send) -> Result<Answer, Stop> {
        let highest = self.device(send.user, send.device)?.ok_or(Refusal::DeviceExpired)?.highest;
        let id = send.send_id;
        if id.0 == 0 || id.0 > highest.0 + 1 {
            return Err(Refusal::SendIdGap.into());
        }
        let fingerprint = fingerprint(send);
        if id <= highest {
            if highest.0 - id.0 >= KEPT_ANSWERS as u64 {
                return Err(Refusal::SendIdTooOld.into());
            }
            return self.repeated(send, fingerprint);
        }

        let answer = match self.accept(send) {
            Ok((conversation, seq)) => Answer::Ack { send_id: id, conversation, seq, time: send.now },
            Err(Stop::Refused(refusal)) => Answer::Refused { send_id: id, refusal },
            Err(failed) => return Err(failed),
        };
        // Read again: the message's copy may have moved the device's cursor.
        let mut device = self.known_device(send.user, send.device)?;
        device.highest = id;
        self.put_device(send.user, send.device, &device);
        self.view.put(keys::answer(self.app, send.user, send.device, id), &AnswerRow { fingerprint, answer });
        Ok(answer)
    }

    fn repeated(&self, send: &Send, fingerprint: u64) -> Result<Answer, Stop> {
        let key = keys::answer(self.app, send.user, send.device, send.send_id);
        let kept: AnswerRow = self.view.get(&key)?.ok_or_else(|| corrupt(&key))?;
        let (Answer::Ack { send_id, .. } | Answer::Refused { send_id, .. }) = kept.answer;
        if send_id != send.send_id {
            return Err(corrupt(&key).into());
        }
        if kept.fingerprint == fingerprint { Ok(kept.answer) } else { Err(Refusal::SendIdReused.into()) }
    }

    /// Takes the message into the conversation. All refusals come before the first change.
    fn accept(&mut self, send: &Send) -> Result<(ConversationId, Seq), Stop> {
        if let Some(refusal) = send.refuse {
            return Err(refusal.into());
        }
        let accepted = self.recipient(send)?;
        let waiting = if let Accepted::Found(_, row) = &accepted { row.messages } else { 0 };
        if waiting >= send.inbox_limit {
            return Err(Refusal::InboxFull.into());
        }
        let (recipient, recipient_name) = match accepted {
            Accepted::Found(user, row) => (user, row.name),
            Accepted::ToBeMade(name) => (self.make_user(name)?, name.to_owned()),
        };
        let sender = self.known_user(send.user)?;
        let copied = recipient != send.user && sender.devices.len() > 1;

        let (conversation, seq) = self.next_seq(send.user, recipient)?;
        let facts = MessageFacts { conversation, seq, sender: send.user, time: send.now };
        let encoded = encode::message(&wire::Message {
            conversation: conversation.0,
            seq: seq.0,
            sender: sender.name,
            recipient: recipient_name,
            time: send.now,
            content: send.content.clone(),
        });
        self.put_body(conversation, seq, if copied { 2 } else { 1 }, &encoded);
        self.append(recipient, DeviceId(0), Told::Message(facts, encoded.clone()))?;
        if copied {
            self.append(send.user, send.device, Told::Message(facts, encoded))?;
        }
        Ok((conversation, seq))
    }

    fn recipient<'a>(&self, send: &'a Send) -> Result<Accepted<'a>, Stop> {
        let user = match &send.to {
            Recipient::User(to) => match self.user_named(to)? {
                Some(user) => user,
                None if send.create_recipient && name::check("recipient", to).is_ok() => {
                    return Ok(Accepted::ToBeMade(to));
                }
                None => return Err(Refusal::NotAccepted.into()),
            },
            Recipient::Conversation(id) => {
                let conversation = self.conversation(*id)?.ok_or(Refusal::NotAccepted)?;
                conversation.other(send.user).ok_or(Refusal::NotAccepted)?
            }
        };
        // The other member of a conversation may have been removed.
        let row = self.user(user)?.ok_or(Refusal::NotAccepted)?;
        Ok(Accepted::Found(user, row))
    }

    /// The next number in the direct conversation of two users, which is made if this is its first message.
    fn next_seq(&mut self, sender: UserId, recipient: UserId) -> Result<(ConversationId, Seq), StoreError> {
        let pair = keys::direct(self.app, sender, recipient);
        if let Some(Number(id)) = self.view.get(&pair)? {
            let id = ConversationId(id);
            let mut conversation = self.known_conversation(id)?;
            conversation.head.0 += 1;
            self.put_conversation(id, &conversation);
            return Ok((id, conversation.head));
        }
        let mut app = self.app_row()?.ok_or_else(|| corrupt(&keys::app(self.app)))?;
        app.last_conversation += 1;
        let id = ConversationId(app.last_conversation);
        self.put_app(&app);
        self.view.put(pair, &Number(id.0));
        let conversation = ConversationRow { members: [sender, recipient], head: Seq(1), marks: [Marks::default(); 2] };
        self.put_conversation(id, &conversation);
        Ok((id, conversation.head))
    }
}

/// Tells whether a repeated `send_id` carries the same message. On disk: the encoding never changes. The length keeps
/// (`ab`, `c`) and (`a`, `bc`) apart.
fn fingerprint(send: &Send) -> u64 {
    let mut hash = Xxh3::new();
    match &send.to {
        Recipient::User(name) => {
            hash.update(&[0]);
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
        }
        Recipient::Conversation(conversation) => {
            hash.update(&[1]);
            hash.update(&conversation.0.to_le_bytes());
        }
    }
    hash.update(&send.content);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ids::{AppId, SendId};

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

    /// Computed once, when format 1 was made.
    const FINGERPRINT_OF_HI_TO_BOB: u64 = 16_310_845_233_002_026_383;
}
