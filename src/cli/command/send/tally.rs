//! What became of what was sent: answers and receipts counted, shown, and waited for.

use std::collections::HashMap;
use std::io;

use postrider_client::ErrorCode;
use postrider_client::{Ack, Event, Receipt, SendError};

use super::Wait;
use super::progress::Progress;
use crate::cli::command::listen::{connection_for_people, json_of};
use crate::cli::exit::Exit;
use crate::cli::lines::Line;
use crate::cli::print;

/// Refusals that are shown one by one; further ones are counted.
const SHOWN_REFUSALS: u64 = 10;

/// Receipts are confirmed in lots of this many.
const CONFIRM_EVERY: u64 = 256;

/// Keeps count of one run of `send`.
pub struct Tally {
    user: String,
    to: String,
    wait: Wait,
    json: bool,
    quiet: bool,
    progress: Progress,
    submitted: u64,
    acked: u64,
    refused: u64,
    expired: bool,
    /// By conversation: the newest of our messages, and how far the recipient has got.
    conversations: HashMap<u64, Marks>,
    confirm: Confirm,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    sent: u64,
    delivered: u64,
    read: u64,
    shown: Option<(Wait, u64)>,
}

/// How much of the inbox may be confirmed: receipts shown, up to the first message.
#[derive(Debug, Default)]
struct Confirm {
    position: u64,
    since: u64,
    blocked: bool,
}

impl Tally {
    /// Nothing yet.
    pub fn new(user: &str, to: &str, wait: Wait, json: bool, quiet: bool, progress: Progress) -> Self {
        Self {
            user: user.to_owned(),
            to: to.to_owned(),
            wait,
            json,
            quiet,
            progress,
            submitted: 0,
            acked: 0,
            refused: 0,
            expired: false,
            conversations: HashMap::new(),
            confirm: Confirm::default(),
        }
    }

    /// A message is on its way.
    pub fn submitted(&mut self, bytes: usize) {
        self.submitted += 1;
        self.progress.submitted(bytes);
    }

    /// A message has its answer.
    pub fn answered(&mut self, answer: Result<Ack, SendError>) -> io::Result<()> {
        match answer {
            Ok(ack) => {
                self.acked += 1;
                let marks = self.conversations.entry(ack.conversation).or_default();
                marks.sent = marks.sent.max(ack.seq);
                self.show_ack(&ack)?;
                self.show_marks(ack.conversation)?;
            }
            // The event that follows says why.
            Err(SendError::Closed) => return Ok(()),
            Err(error) => {
                self.refused += 1;
                self.show_refusal(&error)?;
            }
        }
        self.progress.answered(self.acked + self.refused);
        Ok(())
    }

    /// Something else happened.
    pub fn happened(&mut self, event: &Event, device: &str) -> io::Result<()> {
        match event {
            Event::Message(_) => {
                self.confirm.blocked = true;
                Ok(())
            }
            Event::Delivered(receipt) => self.mark(event, receipt, device, |marks| &mut marks.delivered),
            Event::Read(receipt) => self.mark(event, receipt, device, |marks| &mut marks.read),
            Event::Expired(receipt) => {
                let sent = self.conversations.get(&receipt.conversation).map_or(0, |marks| marks.sent);
                self.expired |= self.wait != Wait::Ack && receipt.user == self.to && sent > 0 && receipt.seq >= sent;
                self.show_event(event, device)
            }
            Event::Disconnected { .. } | Event::Connected { resumed: true } if !self.json => {
                print::complain(&connection_for_people(event));
                Ok(())
            }
            // At the end of the backlog and at the login there is nothing to say to one who sends.
            Event::CaughtUp | Event::Connected { resumed: false } => Ok(()),
            _ => self.show_event(event, device),
        }
    }

    /// Whether everything acked so far has got as far as is waited for.
    pub fn is_satisfied(&self) -> bool {
        self.expired || self.conversations.values().all(|marks| marks.reached(self.wait) >= marks.sent)
    }

    /// A position to confirm now, if enough has gathered.
    pub fn take_confirmable(&mut self) -> Option<u64> {
        if self.confirm.since < CONFIRM_EVERY { None } else { self.take_last_confirmable() }
    }

    /// A position to confirm at the end.
    pub fn take_last_confirmable(&mut self) -> Option<u64> {
        (std::mem::take(&mut self.confirm.since) > 0).then_some(self.confirm.position)
    }

    /// Clears the progress and prints the summary of many.
    pub fn finish(&mut self, of_many: bool) -> io::Result<()> {
        let elapsed = self.progress.elapsed().as_secs_f64();
        self.progress.finish();
        if !of_many || self.json {
            return Ok(());
        }
        let rate = (self.acked + self.refused) as f64 / elapsed.max(0.001);
        print::line(&format!("{} acked, {} refused in {elapsed:.1} s ({rate:.0}/s)", self.acked, self.refused))?;
        match self.wait {
            Wait::Delivered if self.acked > 0 && self.is_satisfied() && !self.expired => {
                print::line("✓✓ all delivered")
            }
            Wait::Read if self.acked > 0 && self.is_satisfied() && !self.expired => print::line("✓✓ all read"),
            _ => Ok(()),
        }
    }

    /// What an early end left open, and what becomes of it; `left` messages have no answer.
    pub fn what_is_missing(&self, left: usize) -> String {
        if left > 0 {
            let Self { submitted, user, .. } = self;
            return format!(
                "{left} of {submitted} messages have no answer yet; they are kept, and the next command as {user} sends them"
            );
        }
        match self.wait {
            Wait::Ack => "all that was sent has its answer, but there was more to send".into(),
            Wait::Delivered => format!("sent, but not all delivered to {} yet", self.to),
            Wait::Read => format!("sent, but not all read by {} yet", self.to),
        }
    }

    /// How the command ends.
    pub fn exit(&self) -> Exit {
        if self.refused > 0 || self.expired { Exit::Refused } else { Exit::Ok }
    }

    fn mark(
        &mut self,
        event: &Event,
        receipt: &Receipt,
        device: &str,
        mark: impl Fn(&mut Marks) -> &mut u64,
    ) -> io::Result<()> {
        if receipt.user == self.to {
            let marks = mark(self.conversations.entry(receipt.conversation).or_default());
            *marks = receipt.seq.max(*marks);
        }
        self.show_event(event, device)?;
        self.show_marks(receipt.conversation)?;
        if self.wait != Wait::Ack && !self.confirm.blocked {
            self.confirm.position = receipt.position;
            self.confirm.since += 1;
        }
        Ok(())
    }

    fn show_ack(&self, ack: &Ack) -> io::Result<()> {
        match (self.json, self.quiet) {
            (true, _) => print::json(&Line::ack(ack)),
            (false, true) => Ok(()),
            (false, false) => print::line(&format!("✓ ack seq {}", ack.seq)),
        }
    }

    fn show_refusal(&self, error: &SendError) -> io::Result<()> {
        if !self.json {
            if self.refused <= SHOWN_REFUSALS {
                print::complain(&format!("postrider: {}", print::escape(&error.to_string())));
            }
            return Ok(());
        }
        let too_large = ErrorCode::ContentTooLarge;
        // It never got a send_id: 0 is none.
        let line = Line::refused(error).unwrap_or_else(|| Line::Refused {
            send_id: 0,
            code: too_large.number(),
            name: too_large.name().into(),
            detail: error.to_string().into(),
            retry: too_large.retry(),
        });
        print::json(&line)
    }

    /// Receipts are shown to those who wait for some.
    fn show_event(&self, event: &Event, device: &str) -> io::Result<()> {
        let is_receipt = matches!(event, Event::Delivered(_) | Event::Read(_) | Event::Expired(_));
        if !self.json || (is_receipt && self.wait == Wait::Ack) {
            return Ok(());
        }
        json_of(event, device).map_or(Ok(()), |line| print::json(&line))
    }

    /// Tells a person how far the newest message has got, each step once.
    fn show_marks(&mut self, conversation: u64) -> io::Result<()> {
        let Some(marks) = self.conversations.get_mut(&conversation) else { return Ok(()) };
        let reached = [Wait::Read, Wait::Delivered].into_iter().find(|step| marks.reached(*step) >= marks.sent);
        let Some(step) = reached.filter(|_| marks.sent > 0 && !self.json && !self.quiet && self.wait != Wait::Ack)
        else {
            return Ok(());
        };
        if marks.shown.replace((step, marks.sent)) == Some((step, marks.sent)) {
            return Ok(());
        }
        print::line(if step == Wait::Read { "✓✓ read" } else { "✓✓ delivered" })
    }
}

impl Marks {
    /// What was read was delivered.
    fn reached(&self, step: Wait) -> u64 {
        match step {
            Wait::Ack => u64::MAX,
            Wait::Delivered => self.delivered.max(self.read),
            Wait::Read => self.read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(wait: Wait) -> Tally {
        Tally::new("alice", "bob", wait, false, true, Progress::start(false))
    }

    fn ack(seq: u64) -> Result<Ack, SendError> {
        Ok(Ack { send_id: seq, conversation: 1, seq, time: 0 })
    }

    fn receipt(position: u64, user: &str, seq: u64) -> Receipt {
        Receipt { position, conversation: 1, user: user.into(), seq }
    }

    #[test]
    fn delivery_is_waited_for_up_to_the_newest_message() {
        let mut tally = tally(Wait::Delivered);
        tally.answered(ack(4)).unwrap();
        tally.answered(ack(5)).unwrap();
        assert!(!tally.is_satisfied());
        tally.happened(&Event::Delivered(receipt(1, "bob", 4)), "d").unwrap();
        tally.happened(&Event::Delivered(receipt(2, "alice", 5)), "d").unwrap();
        assert!(!tally.is_satisfied());
        tally.happened(&Event::Read(receipt(3, "bob", 5)), "d").unwrap();
        assert!(tally.is_satisfied());
        assert_eq!(tally.exit(), Exit::Ok);
    }

    #[test]
    fn a_receipt_may_come_before_the_ack() {
        let mut tally = tally(Wait::Read);
        tally.happened(&Event::Read(receipt(1, "bob", 1)), "d").unwrap();
        tally.answered(ack(1)).unwrap();
        assert!(tally.is_satisfied());
    }

    #[test]
    fn only_shown_receipts_before_the_first_message_are_confirmed() {
        let mut waiting = tally(Wait::Delivered);
        waiting.happened(&Event::Delivered(receipt(1, "bob", 1)), "d").unwrap();
        let message = postrider_client::Message {
            position: 2,
            conversation: 1,
            seq: 2,
            sender: "bob".into(),
            recipient: "alice".into(),
            time: 0,
            content: bytes::Bytes::new(),
        };
        waiting.happened(&Event::Message(message), "d").unwrap();
        waiting.happened(&Event::Delivered(receipt(3, "bob", 2)), "d").unwrap();
        assert_eq!(waiting.take_confirmable(), None);
        assert_eq!(waiting.take_last_confirmable(), Some(1));
        assert_eq!(waiting.take_last_confirmable(), None);

        let mut hasty = tally(Wait::Ack);
        hasty.happened(&Event::Delivered(receipt(1, "bob", 1)), "d").unwrap();
        assert_eq!(hasty.take_last_confirmable(), None);
    }

    #[test]
    fn what_expired_is_not_waited_for() {
        let mut tally = tally(Wait::Read);
        tally.answered(ack(2)).unwrap();
        tally.happened(&Event::Expired(receipt(1, "bob", 2)), "d").unwrap();
        assert!(tally.is_satisfied());
        assert_eq!(tally.exit(), Exit::Refused);
    }

    #[test]
    fn an_early_end_tells_what_is_left() {
        let mut tally = tally(Wait::Delivered);
        tally.submitted(3);
        assert!(tally.what_is_missing(1).starts_with("1 of 1 messages have no answer yet; they are kept"));
        tally.answered(ack(1)).unwrap();
        assert_eq!(tally.what_is_missing(0), "sent, but not all delivered to bob yet");
    }

    #[test]
    fn a_refusal_shows_in_the_exit_code() {
        let mut tally = tally(Wait::Ack);
        tally.answered(Err(SendError::TooLarge { detail: "too large".into() })).unwrap();
        assert_eq!(tally.exit(), Exit::Refused);
    }
}
