//! What one connection carried.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};

use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits;
use postrider_protocol::wire::{Deliver, Error, Receipt, ServerFrame, Welcome, deliver::Entry, server_frame::Body};

use prost::Message as _;

use super::{Answer, Clause, Device, Judge};

/// One connection as its client sees it.
#[derive(Debug, Default)]
pub struct Wire {
    user: String,
    name: String,
    device: u64,
    window: u64,
    head: u64,
    /// The highest position delivered here, at first the one that streaming starts after.
    position: u64,
    /// Positions delivered here and not confirmed.
    unconfirmed: BTreeSet<u64>,
    answered: u64,
    /// Sends that were written here and nowhere before.
    new: BTreeSet<u64>,
    /// By conversation: the highest `delivered` or `read` that came here.
    receipts: BTreeMap<u64, u64>,
    caught_up: bool,
    /// Whether the server has said that it closes.
    pub closed: bool,
    /// The network or the client had its part in what became of it.
    pub troubled: bool,
}

impl Wire {
    /// A connection of a user that asks for this window.
    pub fn new((user, name): (&str, &str), window: u32) -> Self {
        let window = if window == 0 { limits::DEFAULT_WINDOW } else { window };
        Self { user: user.into(), name: name.into(), window: window.into(), ..Self::default() }
    }

    /// The client has confirmed.
    pub fn confirms(&mut self, position: u64) {
        self.unconfirmed.retain(|delivered| *delivered > position);
    }

    /// The client has sent what it never sent before.
    pub fn sends(&mut self, send_id: u64) {
        self.new.insert(send_id);
    }
}

impl Judge {
    /// A frame reaches its client.
    pub fn hears(&mut self, wire: &mut Wire, frame: &ServerFrame) {
        self.remember(frame);
        self.check(!wire.closed, Clause::Stream, || format!("after the end: {frame:?}"));
        match &frame.body {
            Some(Body::Welcome(welcome)) => self.welcomed(wire, welcome),
            Some(Body::Ack(ack)) => {
                self.in_turn(wire, ack.send_id);
                let place = (ack.conversation, ack.seq);
                let told = wire.receipts.get(&ack.conversation).copied().unwrap_or(0);
                let late = wire.new.contains(&ack.send_id) && told >= ack.seq;
                self.check(!late, Clause::Stream, || format!("SEND-5: a receipt for {place:?} came before its ack"));
                self.answered(wire.device, ack.send_id, Answer::Ack { place, time: ack.time });
            }
            Some(Body::Refused(refused)) => {
                self.in_turn(wire, refused.send_id);
                let code = refused.error.as_ref().map_or(0, |error| error.code);
                self.see(refused.error.as_ref().map_or("refused without a reason", |error| &error.name));
                self.answered(wire.device, refused.send_id, Answer::Refused { code });
            }
            Some(Body::Deliver(deliver)) => self.delivers(wire, deliver),
            Some(Body::CaughtUp(_)) => {
                let again = std::mem::replace(&mut wire.caught_up, true);
                self.check(!again, Clause::Stream, || "SYNC-3: caught up twice".into());
            }
            Some(Body::Error(error)) => {
                wire.closed |= error.closes;
                self.is_told(wire, error);
            }
            Some(Body::Goodbye(_)) => wire.closed = true,
            Some(Body::Challenge(_) | Body::Pong(_) | Body::LinkCode(_)) | None => {}
        }
    }

    fn remember(&mut self, frame: &ServerFrame) {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.heard);
        hasher.write(&frame.encode_to_vec());
        self.heard = hasher.finish();
        if self.tell {
            self.last = format!("hears {frame:?}");
        }
    }

    /// The end of a connection reaches its client.
    pub fn hears_the_end(&mut self, wire: &Wire) {
        let without_reason = !wire.closed && !wire.troubled;
        self.check(!without_reason, Clause::RefusalIsTold, || format!("closed without a word: {wire:?}"));
    }

    fn welcomed(&mut self, wire: &mut Wire, welcome: &Welcome) {
        self.counts.logins += 1;
        wire.device = welcome.device_id;
        (wire.head, wire.position) = (welcome.head, welcome.cursor);
        self.see(if welcome.head > welcome.cursor { "login with a backlog" } else { "login without" });
        let before = self.names.insert((wire.user.clone(), wire.name.clone()), welcome.device_id);
        if let Some(before) = before.filter(|before| *before != welcome.device_id) {
            let has_reason = self.excuses.swept || self.excuses.lost_devices.contains(&wire.user);
            self.check(has_reason, Clause::WrongError, || format!("device {before} is {} now", welcome.device_id));
            self.device_is_gone(before);
        }
        let (user, start, welcomed) = (wire.user.clone(), welcome.cursor, self.now);
        let device = self.devices.entry(welcome.device_id).or_insert_with(|| Device {
            user,
            start,
            welcomed,
            gone: false,
            took: BTreeSet::new(),
            heard: 0,
            delivered: BTreeMap::new(),
            read: BTreeMap::new(),
            expired: BTreeMap::new(),
        });
        let other = device.user != wire.user || device.gone;
        let answers = self.answers.range((wire.device, 0)..=(wire.device, u64::MAX));
        let answered = answers.last().map_or(0, |((_, send_id), _)| *send_id);
        // A twin is welcomed while the other still gets answers.
        let forgot = answered > welcome.highest_send_id && !self.excuses.twins;
        self.check(!other, Clause::WrongError, || format!("device {} is another's or gone", wire.device));
        self.check(!forgot, Clause::FirstAnswer, || format!("{welcome:?}, but {answered} was answered"));
    }

    /// SEND-2: answers come in the order of the sends, which a client sends in the order of their numbers.
    fn in_turn(&mut self, wire: &mut Wire, send_id: u64) {
        let before = std::mem::replace(&mut wire.answered, send_id);
        self.check(send_id > before, Clause::Stream, || format!("SEND-2: answer {send_id} after {before}"));
    }

    fn delivers(&mut self, wire: &mut Wire, deliver: &Deliver) {
        let position = deliver.position;
        let before = std::mem::replace(&mut wire.position, position);
        self.check(position > before, Clause::Stream, || format!("DLVR-1: position {position} after {before}"));
        wire.unconfirmed.insert(position);
        if wire.window > 1 && wire.unconfirmed.len() as u64 == wire.window {
            self.see("full window");
        }
        let many = wire.unconfirmed.len() as u64;
        let within = many <= wire.window;
        self.check(within, Clause::Stream, || format!("DLVR-6: {many} entries up to {position} are unconfirmed"));
        let late = wire.caught_up && position <= wire.head;
        self.check(!late, Clause::Stream, || format!("SYNC-3: {position} comes after CaughtUp"));
        let Some(entry) = &deliver.entry else { return };
        let known = self.entries.entry((wire.user.clone(), position)).or_insert_with(|| entry.clone());
        if known != entry {
            let what = format!("{}'s position {position} was {known:?}, now is {entry:?}", wire.user);
            self.find(Clause::OneOrder, what);
        }
        match entry {
            Entry::Message(message) => {
                let place = (message.conversation, message.seq);
                self.positions.insert((wire.user.clone(), place), position);
                let own = self.origins.get(&message.content).is_some_and(|(device, _)| *device == wire.device);
                let to_others = message.recipient != message.sender;
                self.check(!own || !to_others, Clause::Stream, || format!("SYNC-4: told of its own {place:?}"));
                self.saw(message);
            }
            Entry::Delivered(receipt) => {
                self.counts.receipts += 1;
                let told = wire.receipts.entry(receipt.conversation).or_default();
                *told = receipt.seq.max(*told);
                self.is_delivered(receipt);
                self.rises(wire.device, position, receipt, |device| &mut device.delivered);
            }
            Entry::Read(receipt) => {
                self.counts.receipts += 1;
                let told = wire.receipts.entry(receipt.conversation).or_default();
                if receipt.user != wire.user {
                    *told = receipt.seq.max(*told);
                }
                let marked = self.marked.get(&(receipt.conversation, receipt.user.clone())).copied().unwrap_or(0);
                let holds = receipt.seq <= marked;
                self.check(holds, Clause::ReceiptsAreTrue, || format!("{receipt:?} as read; really {marked}"));
                self.rises(wire.device, position, receipt, |device| &mut device.read);
            }
            Entry::Expired(receipt) => {
                self.counts.expiries += 1;
                self.see("expired");
                let holds = self.excuses.swept || self.excuses.lost_devices.contains(&receipt.user);
                self.check(holds, Clause::ReceiptsAreTrue, || format!("{receipt:?} as expired; nothing was"));
                self.rises(wire.device, position, receipt, |device| &mut device.expired);
            }
        }
        if let Some(device) = self.devices.get_mut(&wire.device) {
            device.heard = position.max(device.heard);
        }
    }

    /// What of it can be seen at once; [`Judge::took`] sees the rest.
    fn is_delivered(&mut self, receipt: &Receipt) {
        let Receipt { conversation, user, seq } = receipt;
        let claimed = self.claimed.entry((*conversation, user.clone())).or_default();
        *claimed = (*seq).max(*claimed);
        let taken = self.taken.get(user);
        let mut covered = self.messages.range((*conversation, 0)..=(*conversation, *seq));
        let missing = covered.find(|(place, fact)| {
            fact.recipient == *user && !taken.is_some_and(|taken| taken.contains(place)) && !self.is_excused(**place)
        });
        if let Some((place, _)) = missing {
            let what = format!("{receipt:?} as delivered; {user} has not taken {place:?}");
            self.find(Clause::ReceiptsAreTrue, what);
        }
    }

    /// RCPT-2: in the order of positions a watermark never goes back.
    fn rises(
        &mut self,
        device: u64,
        position: u64,
        receipt: &Receipt,
        of: impl FnOnce(&mut Device) -> &mut BTreeMap<(u64, String), u64>,
    ) {
        let Some(state) = self.devices.get_mut(&device) else { return };
        let news = position > state.heard;
        let known = of(state).entry((receipt.conversation, receipt.user.clone())).or_default();
        let before = *known;
        *known = receipt.seq.max(before);
        let goes_back = news && receipt.seq < before;
        self.check(!goes_back, Clause::ReceiptsAreTrue, || format!("{receipt:?} after {before} at device {device}"));
    }

    /// Errors that have a reason.
    fn is_told(&mut self, wire: &Wire, error: &Error) {
        self.see(&error.name);
        let excuses = &self.excuses;
        let has_reason = match ErrorCode::from_number(error.code) {
            Some(ErrorCode::StoreUnavailable) => excuses.disk_failed,
            Some(ErrorCode::Internal) => excuses.unreadable,
            Some(ErrorCode::ShuttingDown) => excuses.stopped,
            Some(ErrorCode::Replaced) => {
                excuses.twins || excuses.abandoned.contains(&(wire.user.clone(), wire.name.clone()))
            }
            Some(ErrorCode::IdleTimeout | ErrorCode::LoginTimeout) => wire.troubled || excuses.disk_failed,
            Some(ErrorCode::DeviceExpired) => excuses.swept || excuses.lost_devices.contains(&wire.user),
            _ => false,
        };
        self.check(has_reason, Clause::WrongError, || format!("{}: {} ({})", wire.user, error.name, error.detail));
    }
}
