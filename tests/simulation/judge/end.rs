//! What must be true when everything has come to rest: all faults are over, every device is back, nothing is under way.

use super::{Clause, Device, Fact, Judge, Place};
use crate::runtime::Micros;

/// What may still be missing at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    None,
    /// Receipts were not kept and are not said again yet.
    ReceiptsMayBeLate,
}

impl Judge {
    /// Looks at every message that is known.
    pub fn rests(&mut self, patience: Patience) {
        let places: Vec<Place> = self.messages.keys().copied().collect();
        for place in places {
            let fact = self.messages[&place].clone();
            self.was_taken(place, &fact);
            if patience == Patience::None {
                self.has_receipts(place, &fact);
            }
        }
        self.has_no_gaps();
    }

    fn was_taken(&mut self, place: Place, fact: &Fact) {
        let excused = self.is_excused(place);
        let recipient_is_there = self.of_user(&fact.recipient).next().is_some();
        let taken = self.taken.get(&fact.recipient).is_some_and(|taken| taken.contains(&place));
        if recipient_is_there && !taken {
            if excused {
                return self.was_told_expired(place, fact);
            }
            return self.find(Clause::AckedSurvives, format!("nobody has {place:?}: {fact:?}"));
        }
        let copied = fact.sender != fact.recipient;
        for user in [Some(&fact.recipient), copied.then_some(&fact.sender)].into_iter().flatten() {
            // Not in the sender's inbox as far as anybody knows, though there were devices that must get a copy.
            let position = self.positions.get(&(user.clone(), place)).copied();
            let (origin, sent) = self.origin(fact);
            let is_entitled = |device: &Device| match position {
                Some(position) => position > device.start,
                None => device.welcomed < sent,
            };
            let missing = self
                .of_user(user)
                .filter(|(id, _)| !copied || *id != origin)
                .find(|(_, device)| is_entitled(device) && !device.took.contains(&place))
                .map(|(id, _)| id);
            let excused = excused || self.excuses.lost_devices.contains(user);
            if let (Some(device), false) = (missing, excused) {
                self.find(
                    Clause::AckedSurvives,
                    format!("{user}'s device {device} has not got {place:?} at {position:?}: {fact:?}"),
                );
            }
        }
    }

    /// RCPT-8, to the device that sent it.
    fn was_told_expired(&mut self, place: Place, fact: &Fact) {
        let (origin, _) = self.origin(fact);
        let Some(device) = self.devices.get(&origin).filter(|device| !device.gone) else { return };
        let told = device.expired.get(&(place.0, fact.recipient.clone())).copied().unwrap_or(0);
        if told < place.1 {
            let what = format!("{place:?} is gone and device {origin} knows of {told} only: {fact:?}");
            self.find(Clause::ExpiryIsTold, what);
        }
    }

    /// Everything was taken, and marked as read: whoever sent it knows.
    fn has_receipts(&mut self, place: Place, fact: &Fact) {
        let of_conversation = self.messages.range((place.0, 0)..=(place.0, u64::MAX));
        let any_excused = of_conversation.map(|(place, _)| *place).any(|place| self.is_excused(place));
        let recipient_is_there = self.of_user(&fact.recipient).next().is_some();
        if any_excused || !recipient_is_there || self.excuses.lost_devices.contains(&fact.sender) {
            return;
        }
        let (_, sent) = self.origin(fact);
        let key = (place.0, fact.recipient.clone());
        let marks = |device: &Device| {
            let told = |marks: &std::collections::BTreeMap<(u64, String), u64>| marks.get(&key).copied().unwrap_or(0);
            (told(&device.delivered), told(&device.read))
        };
        let note = fact.sender == fact.recipient;
        let uninformed = self
            .of_user(&fact.sender)
            .filter(|(_, device)| device.welcomed < sent)
            .map(|(id, device)| (id, marks(device)))
            .find(|(_, (delivered, read))| *delivered < place.1 || (*read < place.1 && !note));
        if let Some((device, marks)) = uninformed {
            let what = format!("{}'s device {device} knows of {marks:?} only: {place:?} {fact:?}", fact.sender);
            self.find(Clause::ReceiptsCome, what);
        }
    }

    /// Everybody is there and nothing waits: the messages that are known are all there are.
    fn has_no_gaps(&mut self) {
        if self.devices.values().any(|device| device.gone) || self.excuses.swept {
            return;
        }
        let mut before: Place = (0, 0);
        let mut gap = None;
        for &place in self.messages.keys() {
            let expected = if place.0 == before.0 { before.1 + 1 } else { 1 };
            if place.1 != expected {
                gap.get_or_insert(format!("conversation {}: {} comes after {}", place.0, place.1, expected - 1));
            }
            before = place;
        }
        if let Some(what) = gap {
            self.find(Clause::OneOrder, what);
        }
    }

    fn of_user<'a>(&'a self, user: &'a str) -> impl Iterator<Item = (u64, &'a Device)> {
        let there = self.devices.iter().filter(move |(_, device)| device.user == user && !device.gone);
        there.map(|(id, device)| (*id, device))
    }

    /// Which device sent it, and when for the first time.
    fn origin(&self, fact: &Fact) -> (u64, Micros) {
        let key = self.origins.get(&fact.content).copied().unwrap_or_default();
        (key.0, self.sent.get(&key).map_or(0, |sent| sent.at))
    }
}
