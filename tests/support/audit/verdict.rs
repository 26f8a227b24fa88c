//! What the book adds up to.

use std::collections::{HashMap, HashSet};

use postrider_client::Message;

use super::{About, Audit, Book, Device, Kind};

/// How often the guarantee was broken, by kind. All zeros is what is promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acked messages that a device entitled to them never saw at their place.
    pub acked_but_lost: u64,
    /// Messages or positions that an application saw a second time.
    pub duplicated: u64,
    /// Messages before or beside their place, or with a gap before them.
    pub out_of_order: u64,
    /// Messages that nobody wrote, or that went to somebody else.
    pub invented: u64,
    /// Sends with two answers that differ, and answers that name one place for two sends.
    pub differing_answers: u64,
    /// Sends that were refused.
    pub refused: u64,
    /// Sends without an answer in the end.
    pub unanswered: u64,
    /// Receipts above what the user's devices had confirmed, or marked as read, by then.
    pub false_receipts: u64,
    /// Watermarks below an earlier one.
    pub receipts_going_back: u64,
    /// Devices that were not told in the end that everything was delivered, or read.
    pub receipts_missing: u64,
}

/// What the verdict is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub written: usize,
    pub acked: usize,
    pub shown: usize,
    pub receipts: usize,
    pub restarts: u64,
    pub repeats: u64,
}

impl Audit {
    pub fn verdict(&self) -> Verdict {
        self.judge(&mut |_| {})
    }

    /// The same, and prints a line for each fault that can be named.
    pub fn verdict_with_reasons(&self) -> Verdict {
        self.judge(&mut |reason| println!("{reason}"))
    }

    pub fn totals(&self) -> Totals {
        let book = self.book();
        Totals {
            written: book.written.len(),
            acked: book.answers.len(),
            shown: book.devices.values().map(|seen| seen.shown.len()).sum(),
            receipts: book.receipts.len(),
            restarts: book.restarts,
            repeats: book.repeats,
        }
    }

    fn judge(&self, say: &mut dyn FnMut(String)) -> Verdict {
        let book = self.book();
        let mut verdict = book.faults.clone();
        let mut count = |what: &str, reasons: Vec<String>| {
            let counted = reasons.len() as u64;
            reasons.into_iter().for_each(|reason| say(format!("{what}: {reason}")));
            counted
        };
        verdict.acked_but_lost += count("lost", lost(&book));
        verdict.out_of_order += count("gap", gaps(&book));
        verdict.differing_answers += count("place of two answers", shared_places(&book));
        verdict.unanswered += count("unanswered", unanswered(&book));
        verdict.false_receipts += count("false receipt", false_receipts(&book));
        verdict.receipts_missing += count("missing receipt", missing_receipts(&book));
        verdict
    }
}

/// Each acked message must be at its place for every device of both users but the one that sent it; and so must each that
/// anybody has seen.
fn lost(book: &Book) -> Vec<String> {
    let mut lost = Vec::new();
    for (send, place) in &book.answers {
        match (book.queued.get(send), book.places.get(place).and_then(Message::text)) {
            (Some(text), Some(there)) if text == there => {}
            // A crash kept us from writing down what was sent.
            (None, Some(_)) => {}
            (text, there) => lost.push(format!("{text:?} should be at {place:?}, where {there:?} is")),
        }
    }
    for (place, message) in &book.places {
        let Some((text, written)) = message.text().and_then(|text| Some((text, book.written.get(text)?))) else {
            continue;
        };
        for (device, seen) in book.devices_of([&written.by.user, &written.to], &written.by) {
            if seen.shown.get(place).and_then(Message::text) != Some(text) {
                lost.push(format!("{text:?} at {place:?}, for {device:?}"));
            }
        }
    }
    lost
}

/// What a device has seen of a conversation, with what it sent itself, has no gap up to the newest.
fn gaps(book: &Book) -> Vec<String> {
    let mut gaps = Vec::new();
    for (device, seen) in &book.devices {
        let mine = book.answers.iter().filter(|((by, _), _)| by == device);
        let sent: HashSet<_> = mine.map(|(_, place)| *place).collect();
        let writer =
            |place: &(u64, u64)| book.places.get(place).and_then(Message::text).and_then(|text| book.written.get(text));
        for (conversation, newest) in &seen.last_seq {
            for place in (1..=*newest).map(|seq| (*conversation, seq)) {
                let own = || sent.contains(&place) || writer(&place).is_some_and(|written| written.by == *device);
                if !seen.shown.contains_key(&place) && !own() {
                    gaps.push(format!("{device:?} misses {place:?}"));
                }
            }
        }
    }
    gaps
}

fn shared_places(book: &Book) -> Vec<String> {
    let mut sends: HashMap<_, Vec<_>> = HashMap::new();
    book.answers.iter().for_each(|(send, place)| sends.entry(place).or_default().push(send));
    let shared = sends.into_iter().flat_map(|(place, sends)| sends.into_iter().skip(1).map(move |send| (place, send)));
    shared.map(|(place, send)| format!("{place:?} once more for {send:?}")).collect()
}

fn unanswered(book: &Book) -> Vec<String> {
    let arrived: HashSet<_> = book.places.values().filter_map(Message::text).collect();
    let is_open = |(send, text): &(&(Device, u64), &String)| {
        let is_sent_all_the_same = book.orphans.contains(*send) && arrived.contains(text.as_str());
        !book.answers.contains_key(*send) && !is_sent_all_the_same
    };
    book.queued.iter().filter(is_open).map(|(_, text)| text.clone()).collect()
}

/// A watermark speaks for what others sent; its own user's messages need no confirmation.
fn false_receipts(book: &Book) -> Vec<String> {
    let is_false = |((conversation, user, _), seq, allowed): &&(About, u64, u64)| {
        let above = (*conversation, allowed + 1)..=(*conversation, (*seq).max(allowed + 1));
        seq > allowed && book.places.range(above).any(|(_, message)| message.sender != *user)
    };
    let text = |(about, seq, allowed): &(About, u64, u64)| format!("{about:?} {seq}, not {allowed}");
    book.receipts.iter().filter(is_false).map(text).collect()
}

/// In the end every device knows that the other user has got and read everything that was sent to that user.
fn missing_receipts(book: &Book) -> Vec<String> {
    let mut missing = Vec::new();
    for (conversation, members) in book.conversations() {
        for (device, seen) in book.devices.iter().filter(|(device, _)| members.contains(device.user.as_str())) {
            let Some(other) = members.iter().find(|member| **member != device.user) else { continue };
            let all = book.places.range((conversation, 0)..=(conversation, u64::MAX)).map(|(_, message)| message);
            let to_them = all.filter(|message| message.recipient == *other);
            let newest = to_them.map(|message| message.seq).max().unwrap_or(0);
            for kind in [Kind::Delivered, Kind::Read] {
                let known = seen.watermarks.get(&(conversation, (*other).to_owned(), kind)).copied().unwrap_or(0);
                if known < newest {
                    missing.push(format!("{device:?}: {kind:?} by {other} of {conversation}: {known}, not {newest}"));
                }
            }
        }
    }
    missing
}
