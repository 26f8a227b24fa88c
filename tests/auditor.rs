//! The auditor that the other tests rely on: what it counts as a broken promise, and what it does not.

use postrider_client::{Ack, Message, Receipt, content};

use crate::support::{Audit, Kind, Verdict, Witness};

/// Alice has written three messages to Bob, and has their acks.
struct Story {
    audit: Audit,
    alice: Witness,
    bob: Witness,
    texts: Vec<String>,
}

fn story() -> Story {
    let audit = Audit::default();
    let (alice, bob) = (audit.witness("alice", "laptop"), audit.witness("bob", "phone"));
    let texts: Vec<String> = (1..=3).map(|_| alice.writes("bob")).collect();
    for (send_id, text) in (1..).zip(&texts) {
        alice.queued(send_id, text);
        alice.acked(&Ack { send_id, conversation: 1, seq: send_id, time: 0 });
    }
    Story { audit, alice, bob, texts }
}

impl Story {
    fn shows(&self, position: u64, seq: u64, text: usize) {
        let (sender, recipient) = ("alice".into(), "bob".into());
        let content = content::text(&self.texts[text]);
        self.bob.shown(&Message { position, conversation: 1, seq, sender, recipient, time: 0, content });
    }

    fn tells(&self, position: u64, seq: u64, kind: Kind) {
        self.alice.told(&Receipt { position, conversation: 1, user: "bob".into(), seq }, kind);
    }

    /// Bob has everything, has said so, and Alice knows.
    fn ends_well(&self) {
        (0..3).for_each(|index| self.shows(index + 1, index + 1, index as usize));
        self.bob.confirms(3);
        self.bob.reads(1, 3);
        self.tells(1, 3, Kind::Delivered);
        self.tells(2, 3, Kind::Read);
    }

    /// Of a story in its middle: nobody has been told everything yet.
    fn verdict(&self) -> Verdict {
        Verdict { receipts_missing: 0, ..self.audit.verdict() }
    }
}

#[test]
fn the_auditor_has_nothing_to_say_when_all_is_well() {
    let story = story();
    story.ends_well();
    assert_eq!(story.audit.verdict(), Verdict::default());
}

#[test]
fn the_auditor_counts_a_lost_message() {
    let story = story();
    story.shows(1, 1, 0);
    story.shows(2, 3, 2);
    assert_eq!(story.verdict(), Verdict { acked_but_lost: 1, out_of_order: 1, ..Verdict::default() });
    story.shows(3, 4, 1);
    assert_eq!(story.verdict().acked_but_lost, 1, "beside its place it is lost all the same");
}

#[test]
fn the_auditor_counts_a_doubled_message_and_a_doubled_position() {
    let story = story();
    story.ends_well();
    story.shows(4, 4, 2);
    assert_eq!(story.verdict(), Verdict { duplicated: 1, ..Verdict::default() });
    story.shows(4, 4, 2);
    assert_eq!(story.verdict().duplicated, 2);
    story.bob.confirmed(3);
    story.bob.restarts();
    story.shows(3, 3, 2);
    assert_eq!(story.verdict().duplicated, 3, "a crash excuses only what was not confirmed");
}

#[test]
fn the_auditor_excuses_what_an_application_had_not_confirmed_when_it_crashed_and_only_once() {
    let story = story();
    story.shows(1, 1, 0);
    story.shows(2, 2, 1);
    story.bob.confirmed(1);
    story.bob.restarts();
    story.shows(2, 2, 1);
    story.shows(3, 3, 2);
    assert_eq!(story.verdict(), Verdict::default());
    story.shows(2, 2, 1);
    assert_eq!(story.verdict(), Verdict { duplicated: 1, ..Verdict::default() });
}

#[test]
fn the_auditor_counts_swapped_messages() {
    let story = story();
    story.shows(1, 1, 0);
    story.shows(2, 3, 2);
    story.shows(3, 2, 1);
    assert_eq!(story.verdict(), Verdict { out_of_order: 1, ..Verdict::default() });

    let story = self::story();
    story.shows(1, 1, 1);
    assert_ne!(story.verdict().acked_but_lost, 0, "another message stands at its place");
    story.shows(2, 2, 0);
    assert_eq!(story.verdict().out_of_order, 1, "the writer's own order");
}

#[test]
fn the_auditor_counts_answers_that_differ_or_name_one_place_twice() {
    let story = story();
    story.ends_well();
    story.alice.acked(&Ack { send_id: 3, conversation: 1, seq: 3, time: 0 });
    assert_eq!(story.verdict(), Verdict::default(), "the first answer again");
    story.alice.acked(&Ack { send_id: 3, conversation: 1, seq: 4, time: 0 });
    story.alice.acked(&Ack { send_id: 4, conversation: 1, seq: 2, time: 0 });
    assert_eq!(story.verdict().differing_answers, 2);
    let text = story.alice.writes("bob");
    story.alice.queued(5, &text);
    assert_eq!(story.verdict().unanswered, 1);
}

#[test]
fn the_auditor_counts_false_receipts_and_watermarks_that_go_back() {
    let story = story();
    (0..3).for_each(|index| story.shows(index + 1, index + 1, index as usize));
    story.bob.confirms(2);
    story.tells(1, 2, Kind::Delivered);
    assert_eq!(story.verdict(), Verdict::default());
    story.tells(2, 3, Kind::Delivered);
    story.tells(3, 1, Kind::Read);
    assert_eq!(story.verdict(), Verdict { false_receipts: 2, ..Verdict::default() });
    story.bob.confirms(3);
    story.tells(4, 2, Kind::Delivered);
    assert_eq!(story.verdict().receipts_going_back, 1);
    assert_eq!(story.audit.verdict().receipts_missing, 1, "read up to 3 is not told; nobody wrote to alice");
}

#[test]
fn the_auditor_counts_messages_that_nobody_wrote() {
    let mut story = story();
    story.ends_well();
    story.texts.push("boo".into());
    story.shows(4, 4, 3);
    assert_eq!(story.verdict(), Verdict { invented: 1, ..Verdict::default() });
}
