//! Histories of a store: operations chosen by a fuzzer's bytes, most of them such as a server would hand over.

use std::sync::Arc;

use postrider::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use postrider::store::{
    Admission, Attach, Attached, Batch, Committed, Operation, Outcome, ReadUpTo, Received, Recipient, Refusal, Send,
    Sweep,
};

use crate::dice::Dice;
use crate::world::APP;

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];
const DEVICES: [&str; 3] = ["phone", "laptop", "tablet"];

/// What the clients of a store know by now.
#[derive(Default)]
pub struct Known {
    now: u64,
    /// Devices that have logged in, each with the `send_id` it uses next.
    devices: Vec<(Attached, u64)>,
}

impl Known {
    /// Takes in what a batch came to.
    pub fn learn(&mut self, batch: &Batch, committed: &Committed) {
        for (operation, outcome) in batch.iter().zip(&committed.outcomes) {
            match (operation, outcome) {
                (Operation::Attach(_), Outcome::Attached(attached)) => {
                    self.devices.retain(|(known, _)| known.device != attached.device);
                    self.devices.push((attached.clone(), attached.highest_send_id.0 + 1));
                }
                (Operation::Send(send), Outcome::Answer(_)) => {
                    for (_, next) in self.devices.iter_mut().filter(|(known, _)| known.device == send.device) {
                        *next = (*next).max(send.send_id.0 + 1);
                    }
                }
                (Operation::Send(send), Outcome::Refused(Refusal::DeviceExpired)) => {
                    self.devices.retain(|(known, _)| known.device != send.device);
                }
                _ => {}
            }
        }
    }

    /// The next operation; `None` ends the run. Sends within one batch count on from `unanswered`.
    pub fn operation(&mut self, dice: &mut Dice<'_>, batch: &Batch) -> Option<Operation> {
        let kind = dice.byte()?;
        self.now += u64::from(kind % 4);
        let now = self.now;
        let app = if kind == 0xff { AppId(2) } else { APP };
        Some(match kind {
            0..0x60 => self.send(dice, batch, app)?,
            0x60..0x88 => {
                let (user, device) = self.device(dice)?;
                Operation::Received(Received { app, user, device, position: Position(dice.number()?), now })
            }
            0x88..0xa0 => {
                let (user, device) = self.device(dice)?;
                let (conversation, seq) = (ConversationId(dice.number()?), Seq(dice.number()?));
                Operation::ReadUpTo(ReadUpTo { app, user, device, conversation, seq })
            }
            0xa0..0xd0 | 0xff => Operation::Attach(self.attach(dice, app)?),
            0xd0..0xd4 => Operation::EnsureApp(["one", "two"][usize::from(kind % 2)].into()),
            0xd4..0xd8 => Operation::AddUser { app, name: name(dice)? },
            0xd8..0xdc => Operation::RemoveUser { app, name: name(dice)? },
            0xdc..0xe4 => {
                let (user, hash) = (name(dice)?, [dice.byte()? % 4; 32]);
                Operation::AddCode { app, user, hash, expires: now + dice.number()?.min(1_000) }
            }
            0xe4..0xf0 => Operation::RevokeDevice { app, user: name(dice)?, device: device_name(dice)? },
            _ => {
                let (_, device) = self.device(dice)?;
                let before = now.saturating_sub(dice.number()?);
                let connected = if dice.flag()? { [device].into() } else { (0..30).map(DeviceId).collect() };
                let connected = Arc::new(connected);
                let (after, limit) = (UserId(u64::from(dice.byte()? % 4)), usize::from(dice.byte()? % 5));
                Operation::Sweep(Sweep { app, after, limit, before, connected })
            }
        })
    }

    fn send(&mut self, dice: &mut Dice<'_>, batch: &Batch, app: AppId) -> Option<Operation> {
        let (user, device) = self.device(dice)?;
        let next = self.devices.iter().find(|(known, _)| known.device == device).map_or(1, |(_, next)| *next);
        let earlier =
            batch.iter().filter(|operation| matches!(operation, Operation::Send(sent) if sent.device == device));
        let next = next + earlier.count() as u64;
        let send_id = match dice.byte()? {
            0..0xe0 => next,
            back @ 0xe0..0xfc => next.saturating_sub(u64::from(back - 0xe0)),
            ahead => next + u64::from(ahead - 0xfb),
        };
        let flags = dice.byte()?;
        let to = match flags % 4 {
            0 => Recipient::Conversation(ConversationId(dice.number()?)),
            _ => Recipient::User(name(dice)?),
        };
        let length = dice.byte()?;
        Some(Operation::Send(Send {
            app,
            user,
            device,
            send_id: SendId(send_id),
            to,
            // Some messages need a segment of their own.
            content: vec![length; usize::from(length) * if length > 0xf0 { 30 } else { 1 }].into(),
            refuse: (flags >= 0xf8).then_some(Refusal::ContentTooLarge),
            create_recipient: flags & 4 != 0,
            inbox_limit: if flags & 0x38 == 0 { 3 } else { 1_000 },
            now: self.now,
        }))
    }

    fn attach(&self, dice: &mut Dice<'_>, app: AppId) -> Option<Attach> {
        let (user, device) = (name(dice)?, device_name(dice)?);
        let flags = dice.byte()?;
        let key = [flags >> 7; 32];
        let admission = match flags % 8 {
            0 => Admission::Key(key),
            1 | 2 => Admission::Enroll { code_hash: [dice.byte()? % 4; 32], key },
            _ => Admission::Open,
        };
        let device_id = if flags & 0x18 == 0 { self.device(dice)?.1 } else { DeviceId(0) };
        let cursor = Position(if flags & 0x20 == 0 { 0 } else { dice.number()? });
        Some(Attach { app, user, device, device_id, cursor, admission, now: self.now })
    }

    /// Mostly a device that has logged in; else any number.
    fn device(&self, dice: &mut Dice<'_>) -> Option<(UserId, DeviceId)> {
        let choice = usize::from(dice.byte()?);
        match self.devices.get(choice % self.devices.len().max(1)) {
            Some((known, _)) if choice < 0xf8 => Some((known.user, known.device)),
            _ => Some((UserId(dice.number()?), DeviceId(dice.number()?))),
        }
    }
}

/// The app, and three users with a device each.
pub fn beginning() -> Batch {
    let log_in = |user: &&str| {
        Operation::Attach(Attach {
            app: APP,
            user: (*user).into(),
            device: DEVICES[0].into(),
            device_id: DeviceId(0),
            cursor: Position(0),
            admission: Admission::Open,
            now: 0,
        })
    };
    std::iter::once(Operation::EnsureApp("one".into())).chain(NAMES[..3].iter().map(log_in)).collect()
}

fn name(dice: &mut Dice<'_>) -> Option<String> {
    Some(NAMES[usize::from(dice.byte()?) % NAMES.len()].into())
}

fn device_name(dice: &mut Dice<'_>) -> Option<String> {
    Some(DEVICES[usize::from(dice.byte()?) % DEVICES.len()].into())
}
