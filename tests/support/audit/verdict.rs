//! What the book adds up to.

use std::collections::HashMap;

use super::{Audit, Book, Kind};

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
        let book = self.book();
        let mut verdict = book.faults.clone();
        verdict.acked_but_lost += lost(&book);
        verdict.out_of_order += gaps(&book);
        verdict.differing_answers += shared_places(&book);
        verdict.unanswered += book.queued.keys().filter(|send| !book.answers.contains_key(send)).count() as u64;
        verdict.false_receipts += false_receipts(&book);
        verdict.receipts_missing += missing_receipts(&book);
        verdict
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
}

/// Each acked message must be at its place for every device of both users but the one that sent it. Of an answer to a
/// message that a crash kept us from writing down, somebody must have seen the place.
fn lost(book: &Book) -> u64 {
    let mut lost = 0;
    for (send, place) in &book.answers {
        let text = book.queued.get(send);
        let Some((sender, to, text)) = text
            .and_then(|text| Some((send.0.user.as_str(), book.written.get(text)?.to.as_str(), text.as_str())))
            .or_else(|| {
                book.places.get(place).and_then(|it| Some((it.sender.as_str(), it.recipient.as_str(), it.text()?)))
            })
        else {
            lost += 1;
            continue;
        };
        for (_, seen) in book.devices_of([sender, to], &send.0) {
            let there = seen.shown.get(place).and_then(|message| message.text());
            lost += u64::from(there != Some(text));
        }
    }
    lost
}

/// What a device has seen of a conversation, with what it sent itself, has no gap up to the newest.
fn gaps(book: &Book) -> u64 {
    let mut gaps = 0;
    for (device, seen) in &book.devices {
        let own = |place: &(u64, u64)| {
            let text = book.places.get(place).and_then(|message| message.text());
            text.and_then(|text| book.written.get(text)).is_some_and(|written| written.by == *device)
                || book.answers.iter().any(|((by, _), answer)| by == device && answer == place)
        };
        for (conversation, newest) in &seen.last_seq {
            let missing = (1..=*newest).map(|seq| (*conversation, seq)).filter(|place| !seen.shown.contains_key(place));
            gaps += missing.filter(|place| !own(place)).count() as u64;
        }
    }
    gaps
}

fn shared_places(book: &Book) -> u64 {
    let mut sends = HashMap::new();
    book.answers.values().for_each(|place| *sends.entry(place).or_insert(0) += 1);
    sends.values().map(|count| count - 1).sum()
}

/// A watermark speaks for what others sent; its own user's messages need no confirmation.
fn false_receipts(book: &Book) -> u64 {
    let is_false = |((conversation, user, _), seq, allowed): &&((u64, String, Kind), u64, u64)| {
        let above = (*conversation, allowed + 1)..=(*conversation, (*seq).max(*allowed));
        seq > allowed && book.places.range(above).any(|(_, message)| message.sender != *user)
    };
    book.receipts.iter().filter(is_false).count() as u64
}

/// In the end every device knows that the other user has got and read everything that was sent to that user.
fn missing_receipts(book: &Book) -> u64 {
    let mut missing = 0;
    for (conversation, members) in book.conversations() {
        for (device, seen) in book.devices.iter().filter(|(device, _)| members.contains(device.user.as_str())) {
            let Some(other) = members.iter().find(|member| **member != device.user) else { continue };
            let to_them = |message: &&postrider_client::Message| message.recipient == *other;
            let all = book.places.range((conversation, 0)..=(conversation, u64::MAX)).map(|(_, message)| message);
            let newest = all.filter(to_them).map(|message| message.seq).max().unwrap_or(0);
            for kind in [Kind::Delivered, Kind::Read] {
                let known = seen.watermarks.get(&(conversation, (*other).to_owned(), kind)).copied().unwrap_or(0);
                missing += u64::from(known < newest);
            }
        }
    }
    missing
}
