//! The auditor: keeps a book of what every application did and saw, and in the end says what the guarantee was worth.
//!
//! An application writes down what it is about to do *before* it does it, and what it saw at once; so whatever the
//! server causes comes after its reason in the book, and a receipt can be held against what was confirmed by then.

mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use postrider_client::{Ack, Message, Receipt};

pub use verdict::{Totals, Verdict};

/// The book. Clones are the same book.
#[derive(Clone, Default)]
pub struct Audit(Arc<Mutex<Book>>);

/// One device's pen.
#[derive(Clone)]
pub struct Witness {
    audit: Audit,
    device: Device,
}

/// User and device name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Device {
    user: String,
    name: String,
}

/// Conversation and `seq`.
type Place = (u64, u64);

/// What a receipt is about, or the opinion of one device on it: conversation, whose, and which kind.
type About = (u64, String, Kind);

/// Kinds of watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Delivered,
    Read,
}

#[derive(Default)]
struct Book {
    devices: BTreeMap<Device, Seen>,
    /// By text, which is unique.
    written: HashMap<String, Written>,
    /// By writing device and recipient: the number in the newest text.
    numbers: HashMap<(Device, String), u64>,
    /// By device and `send_id`.
    queued: HashMap<(Device, u64), String>,
    answers: HashMap<(Device, u64), Place>,
    /// Sends that were under way when their application crashed: it may never learn of the answer, but the client has
    /// promised to send them.
    orphans: HashSet<(Device, u64)>,
    /// What stands at each place, from whoever saw it first.
    places: BTreeMap<Place, Message>,
    /// How far each user's devices have confirmed, or marked as read, in each conversation.
    allowed: HashMap<About, u64>,
    /// Receipts as they came, with what was allowed by then.
    receipts: Vec<(About, u64, u64)>,
    /// Faults that are seen when they happen.
    faults: Verdict,
    restarts: u64,
    /// Entries shown again because the application had crashed before it had confirmed them.
    repeats: u64,
}

struct Written {
    by: Device,
    to: String,
    number: u64,
}

/// What one device's application has seen.
#[derive(Default)]
struct Seen {
    shown: BTreeMap<Place, Message>,
    texts: HashSet<String>,
    last_seq: HashMap<u64, u64>,
    /// By writing device and recipient.
    last_number: HashMap<(Device, String), u64>,
    /// Positions of messages, with their places, not yet confirmed.
    unconfirmed: BTreeMap<u64, Place>,
    position: u64,
    confirmed: u64,
    /// After a restart of the application: positions above this one and up to the other may come once more.
    again_after: u64,
    again_up_to: u64,
    watermarks: HashMap<About, u64>,
}

impl Audit {
    /// A device, before its first connection. It is entitled to everything from then on.
    pub fn witness(&self, user: &str, device: &str) -> Witness {
        let device = Device { user: user.into(), name: device.into() };
        self.book().devices.entry(device.clone()).or_default();
        Witness { audit: self.clone(), device }
    }

    pub fn acks(&self) -> usize {
        self.book().answers.len()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }
}

impl Witness {
    /// A text for the next message to a user.
    pub fn writes(&self, to: &str) -> String {
        let mut book = self.audit.book();
        let last = book.numbers.entry((self.device.clone(), to.to_owned())).or_insert(0);
        *last += 1;
        let number = *last;
        let text = format!("{}/{} to {to}: {number}", self.device.user, self.device.name);
        book.written.insert(text.clone(), Written { by: self.device.clone(), to: to.into(), number });
        text
    }

    /// The client has taken the message and will send it, whatever happens.
    pub fn queued(&self, send_id: u64, text: &str) {
        self.audit.book().queued.insert((self.device.clone(), send_id), text.into());
    }

    pub fn acked(&self, ack: &Ack) {
        let mut book = self.audit.book();
        let place = (ack.conversation, ack.seq);
        let first = *book.answers.entry((self.device.clone(), ack.send_id)).or_insert(place);
        if first != place {
            book.faults.differing_answers += 1;
        }
    }

    pub fn refused(&self) {
        self.audit.book().faults.refused += 1;
    }

    /// The application sees a message.
    pub fn shown(&self, message: &Message) {
        let mut book = self.audit.book();
        let Some(news) = book.position(&self.device, message.position) else { return };
        let place = (message.conversation, message.seq);
        let Some(text) = message.text().map(str::to_owned) else {
            book.faults.invented += 1;
            return;
        };
        let Some((by, to, number)) = book.written.get(&text).map(|it| (it.by.clone(), it.to.clone(), it.number)) else {
            book.faults.invented += 1;
            return;
        };
        let there = book.places.entry(place).or_insert_with(|| message.clone());
        let same = there.content == message.content && there.sender == message.sender;
        let seen = book.devices.get_mut(&self.device).unwrap();
        if !news {
            seen.unconfirmed.insert(message.position, place);
            return;
        }
        let known = !seen.texts.insert(text);
        let last_seq = seen.last_seq.insert(place.0, place.1).unwrap_or(0);
        let last_number = seen.last_number.insert((by.clone(), to.clone()), number).unwrap_or(0);
        seen.unconfirmed.insert(message.position, place);
        let again = seen.shown.insert(place, message.clone()).is_some();
        let mine = message.sender == by.user
            && message.recipient == to
            && (to == self.device.user || by.user == self.device.user);
        if known || again {
            book.faults.duplicated += 1;
        } else if place.1 <= last_seq || number <= last_number || !same {
            book.faults.out_of_order += 1;
        }
        if !mine {
            book.faults.invented += 1;
        }
    }

    /// The application is about to confirm everything up to here.
    pub fn confirms(&self, position: u64) {
        let mut book = self.audit.book();
        let seen = book.devices.get_mut(&self.device).unwrap();
        let rest = seen.unconfirmed.split_off(&(position + 1));
        let confirmed = std::mem::replace(&mut seen.unconfirmed, rest);
        for (conversation, seq) in confirmed.into_values() {
            book.allow((conversation, self.device.user.clone(), Kind::Delivered), seq);
        }
    }

    /// It is durably confirmed.
    pub fn confirmed(&self, position: u64) {
        self.audit.book().devices.get_mut(&self.device).unwrap().confirmed = position;
    }

    /// The application is about to mark everything up to here as read.
    pub fn reads(&self, conversation: u64, seq: u64) {
        self.audit.book().allow((conversation, self.device.user.clone(), Kind::Read), seq);
    }

    /// The newest message of each conversation that the application has seen.
    pub fn newest(&self) -> Vec<Place> {
        let book = self.audit.book();
        book.devices[&self.device].last_seq.iter().map(|(conversation, seq)| (*conversation, *seq)).collect()
    }

    /// The application sees a receipt.
    pub fn told(&self, receipt: &Receipt, kind: Kind) {
        let mut book = self.audit.book();
        if book.position(&self.device, receipt.position) != Some(true) {
            return;
        }
        let about = (receipt.conversation, receipt.user.clone(), kind);
        let allowed = book.allowed.get(&about).copied().unwrap_or(0);
        book.receipts.push((about.clone(), receipt.seq, allowed));
        let watermark = book.devices.get_mut(&self.device).unwrap().watermarks.entry(about).or_insert(0);
        if receipt.seq < *watermark {
            book.faults.receipts_going_back += 1;
        } else {
            *watermark = receipt.seq;
        }
    }

    /// The application has crashed, and starts with what was durable.
    pub fn restarts(&self) {
        let mut book = self.audit.book();
        book.restarts += 1;
        let open = |send: &&(Device, u64)| send.0 == self.device && !book.answers.contains_key(*send);
        let open: Vec<_> = book.queued.keys().filter(open).cloned().collect();
        book.orphans.extend(open);
        let seen = book.devices.get_mut(&self.device).unwrap();
        (seen.again_after, seen.again_up_to) = (seen.confirmed, seen.position);
    }
}

impl Book {
    /// Takes note of an inbox position. `Some(true)` for a new one, `Some(false)` for one that an application may see
    /// again after its own crash; else the position came twice, or went back, which is noted.
    fn position(&mut self, device: &Device, position: u64) -> Option<bool> {
        let seen = self.devices.get_mut(device).unwrap();
        if position > seen.position {
            seen.position = position;
            return Some(true);
        }
        if position > seen.again_after && position <= seen.again_up_to {
            seen.again_after = position;
            self.repeats += 1;
            return Some(false);
        }
        self.faults.duplicated += 1;
        None
    }

    fn allow(&mut self, about: About, seq: u64) {
        let allowed = self.allowed.entry(about).or_insert(0);
        *allowed = seq.max(*allowed);
    }

    /// The devices of these users, but for one.
    fn devices_of<'b>(&'b self, users: [&'b str; 2], but: &'b Device) -> impl Iterator<Item = (&'b Device, &'b Seen)> {
        let theirs = move |device: &Device| users.contains(&device.user.as_str()) && device != but;
        self.devices.iter().filter(move |(device, _)| theirs(device))
    }

    /// Conversations with the two who are in them.
    fn conversations(&self) -> BTreeMap<u64, BTreeSet<&str>> {
        let mut members: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
        for ((conversation, _), message) in &self.places {
            members.entry(*conversation).or_default().extend([message.sender.as_str(), message.recipient.as_str()]);
        }
        members
    }
}
