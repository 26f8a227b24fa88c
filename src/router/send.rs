//! `Send` → operation, answer → `Ack` or `Refused`.

use bytes::Bytes;
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::session::server::frame as server_frame;
use postrider_protocol::wire::{self, send, server_frame::Body};
use postrider_protocol::{encode, frame, name};

use super::{Peer, Router};
use crate::hub::Sender;
use crate::ids::{ConversationId, SendId};
use crate::store::{Answer, Operation, Recipient, Refusal, Send};

impl Router {
    /// What can be refused without looking anything up is refused here, but in the store's order: a refusal consumes
    /// its `send_id` like any answer (SEND-3).
    pub(super) fn send(&self, peer: &Peer, send_id: u64, to: Option<send::To>, content: Bytes, now: u64) -> Operation {
        let too_large = content.len() > self.config.content_bytes;
        let (to, bad_recipient) = recipient(to);
        Operation::Send(Send {
            app: peer.app(),
            user: peer.user,
            device: peer.device,
            send_id: SendId(send_id),
            to,
            content,
            refuse: bad_recipient.or(too_large.then_some(ErrorCode::ContentTooLarge)),
            create_recipient: peer.tenant.is_open(),
            inbox_limit: self.config.inbox_entries,
            now,
        })
    }
}

fn recipient(to: Option<send::To>) -> (Recipient, Option<Refusal>) {
    match to {
        None => (Recipient::User(String::new()), Some(ErrorCode::BadRecipient)),
        Some(send::To::Conversation(id)) => (Recipient::Conversation(ConversationId(id)), None),
        Some(send::To::User(user)) => {
            let bad = name::check("recipient", &user).is_err();
            (Recipient::User(user), bad.then_some(ErrorCode::BadRecipient))
        }
    }
}

/// Appends the answer to one send.
pub(super) fn put_answer(answer: &Answer, sender: &mut Sender<'_>) {
    sender.answer(|out| match *answer {
        Answer::Ack { send_id, conversation, seq, time } => {
            encode::ack(&wire::Ack { send_id: send_id.0, conversation: conversation.0, seq: seq.0, time }, out);
        }
        Answer::Refused { send_id, refusal } => {
            let error = Some(CodedError::new(refusal).to_wire());
            frame::put(&server_frame(Body::Refused(wire::Refused { send_id: send_id.0, error })), out);
        }
    });
}
