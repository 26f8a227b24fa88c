//! Messages: who may send what, and what is answered.

use super::world::{EVERYTHING, World, refused};
use crate::ids::{ConversationId, DeviceId, SendId, UserId};
use crate::store::{Answer, Attached, Operation, Outcome, ReadLimit, Recipient, Refusal, Send};

fn alice_and_bob(world: &World) -> (Attached, Attached) {
    (world.attach("alice", "phone"), world.attach("bob", "phone"))
}

fn send(world: &World, send: Send) -> Outcome {
    world.outcome(Operation::Send(send))
}

pub fn a_message_gets_its_seq_and_reaches_the_inbox(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    let sending = world.sending(&alice, 1, "bob", "hi");
    let (outcome, published) = world.step(Operation::Send(sending));
    let (conversation, seq) = (ConversationId(1), crate::ids::Seq(1));
    assert_eq!(outcome, Outcome::Answer(Answer::Ack { send_id: SendId(1), conversation, seq, time: 1_000 }));
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].user, bob.user);
    assert_eq!(world.acked(&alice, 2, "bob", "ho"), (1, 2));
    world.restart();
    assert_eq!(world.inbox(&bob), ["1 1.1 alice>bob hi", "2 1.2 alice>bob ho"]);
    assert_eq!(world.page(bob.user, 0, 1, EVERYTHING).entries, [published[0].entry.clone()]);
    assert!(world.inbox(&alice).is_empty());
    assert_eq!(world.user("bob").map(|bob| (bob.head.0, bob.entries)), Some((2, 2)));
    assert_eq!(world.attach("alice", "phone").highest_send_id, SendId(2));
}

pub fn a_resent_send_id_gets_the_first_answer(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    let first = world.send(&alice, 1, "bob", "hi");
    world.now = 2_000;
    assert_eq!(world.send(&alice, 1, "bob", "hi"), first);
    world.restart();
    let (again, published) = world.step(Operation::Send(world.sending(&alice, 1, "bob", "hi")));
    assert_eq!((again, published.len()), (first, 0));
    assert_eq!(world.inbox(&bob).len(), 1);
    let both = vec![Operation::Send(world.sending(&alice, 2, "bob", "ho")); 2];
    let committed = world.commit(both);
    assert_eq!(committed.outcomes[0], committed.outcomes[1], "in one batch too");
    assert_eq!(committed.published.len(), 1);
}

pub fn a_send_id_with_other_content_or_recipient_is_refused(world: &mut World) {
    let (alice, _) = alice_and_bob(world);
    world.send(&alice, 1, "bob", "hi");
    world.restart();
    let reused = Outcome::Refused(Refusal::SendIdReused);
    assert_eq!(world.send(&alice, 1, "bob", "ho"), reused);
    assert_eq!(world.send(&alice, 1, "bobh", "i"), reused);
    let to = Recipient::Conversation(ConversationId(1));
    assert_eq!(send(world, Send { to, ..world.sending(&alice, 1, "", "hi") }), reused);
}

pub fn a_gap_in_send_ids_is_refused_and_changes_nothing(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    for id in [0, 2, u64::MAX] {
        assert_eq!(world.send(&alice, id, "bob", "hi"), Outcome::Refused(Refusal::SendIdGap));
    }
    assert!(world.inbox(&bob).is_empty());
    assert_eq!(world.acked(&alice, 1, "bob", "hi"), (1, 1));
}

pub fn an_answer_is_kept_for_256_send_ids(world: &mut World) {
    let (alice, _) = alice_and_bob(world);
    let sends = (1..=257).map(|id| Operation::Send(world.sending(&alice, id, "bob", "hi"))).collect();
    let answers = world.commit(sends).outcomes;
    world.restart();
    assert_eq!(world.send(&alice, 1, "bob", "hi"), Outcome::Refused(Refusal::SendIdTooOld));
    assert_eq!(world.send(&alice, 2, "bob", "hi"), answers[1]);
    assert_eq!(world.send(&alice, 257, "bob", "hi"), answers[256]);
}

pub fn a_refusal_is_kept_and_consumes_the_send_id(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    let bad = Send { refuse: Some(Refusal::BadRecipient), ..world.sending(&alice, 1, "bob", "hi") };
    assert_eq!(send(world, bad), refused(1, Refusal::BadRecipient));
    assert_eq!(world.send(&alice, 2, "carol", "hi"), refused(2, Refusal::NotAccepted));
    world.attach("carol", "phone");
    world.restart();
    assert_eq!(world.send(&alice, 1, "bob", "hi"), refused(1, Refusal::BadRecipient), "the first answer stands");
    assert_eq!(world.send(&alice, 2, "carol", "hi"), refused(2, Refusal::NotAccepted));
    assert_eq!(world.acked(&alice, 3, "carol", "hi"), (1, 1));
    assert!(world.inbox(&bob).is_empty());
}

pub fn an_unknown_recipient_is_refused_unless_it_may_be_made(world: &mut World) {
    let alice = world.attach("alice", "phone");
    assert_eq!(world.send(&alice, 1, "bob", "hi"), refused(1, Refusal::NotAccepted));
    assert_eq!(world.user("bob"), None);
    let create = |id, to: &str| Send { create_recipient: true, ..world.sending(&alice, id, to, "hi") };
    assert!(matches!(send(world, create(2, "bob")), Outcome::Answer(Answer::Ack { .. })));
    assert_eq!(send(world, create(3, "bo\nb")), refused(3, Refusal::NotAccepted), "no such name can be made");
    let full = Send { inbox_limit: 0, ..create(4, "carol") };
    assert_eq!(send(world, full), refused(4, Refusal::InboxFull));
    assert_eq!(world.user("carol"), None);
    let bob = world.attach("bob", "phone");
    assert_eq!((bob.user, bob.cursor.0, bob.head.0), (UserId(2), 0, 1), "it waits for the first device");
    assert_eq!(world.inbox(&bob), ["1 1.1 alice>bob hi"]);
}

pub fn a_full_inbox_refuses_and_counts_messages_only(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    world.acked(&bob, 1, "alice", "hello");
    world.received(&alice, 1);
    assert_eq!(world.inbox(&bob), ["1 1.1 alice delivered"]);
    let limited = |world: &World, id| Send { inbox_limit: 2, ..world.sending(&alice, id, "bob", "hi") };
    for id in [1, 2] {
        assert!(matches!(send(world, limited(world, id)), Outcome::Answer(Answer::Ack { .. })));
    }
    world.restart();
    assert_eq!(send(world, limited(world, 3)), refused(3, Refusal::InboxFull));
    world.received(&bob, 2);
    assert!(matches!(send(world, limited(world, 4)), Outcome::Answer(Answer::Ack { .. })), "there is room again");
}

pub fn a_conversation_accepts_its_members_only(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    let carol = world.attach("carol", "phone");
    world.acked(&alice, 1, "bob", "hi");
    let into = |from, id, conversation| {
        let to = Recipient::Conversation(ConversationId(conversation));
        send(world, Send { to, ..world.sending(from, id, "", "ho") })
    };
    assert!(matches!(into(&bob, 1, 1), Outcome::Answer(Answer::Ack { conversation: ConversationId(1), .. })));
    assert_eq!(into(&carol, 1, 1), refused(1, Refusal::NotAccepted));
    assert_eq!(into(&bob, 2, 7), refused(2, Refusal::NotAccepted));
    assert_eq!(world.inbox(&alice), ["1 1.2 bob>alice ho"]);
}

pub fn a_message_to_a_removed_user_is_refused_and_the_conversation_keeps_its_seq(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    world.acked(&bob, 1, "alice", "hi");
    world.outcome(Operation::RemoveUser { app: world.app, name: "bob".into() });
    let to = Recipient::Conversation(ConversationId(1));
    let outcome = send(world, Send { to, ..world.sending(&alice, 1, "", "ho") });
    assert_eq!(outcome, refused(1, Refusal::NotAccepted));
    world.restart();
    assert_eq!(world.inbox(&alice), ["1 1.1 bob>alice hi"], "what was sent stays");
    assert_eq!(world.send(&bob, 2, "alice", "ghost"), Outcome::Refused(Refusal::DeviceExpired));
}

pub fn notes_to_oneself_are_one_entry_and_get_receipts(world: &mut World) {
    let alice = world.attach("alice", "phone");
    let laptop = world.attach("alice", "laptop");
    let told = world.published(Operation::Send(world.sending(&alice, 1, "alice", "milk")));
    assert_eq!(told, ["1: 1 1.1 alice>alice milk"]);
    assert_eq!(world.published(world.receiving(&laptop, 1)), ["1: 2 1.1 alice delivered"]);
    assert_eq!(world.published(world.reading(&laptop, 1, 1)), ["1: 3 1.1 alice read"]);
    world.restart();
    assert_eq!(world.inbox(&alice), ["1 1.1 alice>alice milk", "2 1.1 alice delivered", "3 1.1 alice read"]);
}

pub fn a_device_that_is_gone_sends_nothing(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    let stranger = Attached { device: bob.device, ..alice.clone() };
    let nobody = Attached { device: DeviceId(0), user: UserId(0), ..alice.clone() };
    world.outcome(world.revoking("alice", "phone"));
    world.restart();
    for from in [&alice, &stranger, &nobody] {
        assert_eq!(world.send(from, 1, "bob", "hi"), Outcome::Refused(Refusal::DeviceExpired));
        assert_eq!(world.read(from, 1, 1), Outcome::Refused(Refusal::DeviceExpired));
        assert_eq!(world.received(from, 0), Outcome::Refused(Refusal::DeviceExpired));
    }
    let elsewhere = Send { app: crate::ids::AppId(9), ..world.sending(&bob, 1, "alice", "hi") };
    assert_eq!(send(world, elsewhere), Outcome::Refused(Refusal::DeviceExpired));
}

pub fn a_long_message_comes_back_whole(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    let laptop = world.attach("alice", "laptop");
    let text: String = (0..150_000u32).map(|n| char::from(b'a' + (n % 1009 % 26) as u8)).collect();
    world.acked(&alice, 1, "bob", &text);
    world.restart();
    assert_eq!(world.inbox(&bob), [format!("1 1.1 alice>bob {text}")]);
    world.received(&bob, 1);
    assert_eq!(world.inbox(&laptop)[0], format!("1 -{} 1.1 alice>bob {text}", alice.device), "while a copy needs it");
}

pub fn both_sides_share_one_order(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    assert_eq!(world.acked(&alice, 1, "bob", "one"), (1, 1));
    assert_eq!(world.acked(&bob, 1, "alice", "two"), (1, 2));
    world.restart();
    assert_eq!(world.acked(&alice, 2, "bob", "three"), (1, 3));
    assert_eq!(world.inbox(&bob), ["1 1.1 alice>bob one", "2 1.3 alice>bob three"]);
    assert_eq!(world.inbox(&alice), ["1 1.2 bob>alice two"]);
}

pub fn a_page_keeps_within_its_limits(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    for id in 1..=5 {
        world.acked(&alice, id, "bob", "0123456789");
    }
    let positions = |after, up_to, entries, bytes| {
        let page = world.page(bob.user, after, up_to, ReadLimit { entries, bytes });
        (page.entries.iter().map(|entry| entry.position.0).collect::<Vec<_>>(), page.complete)
    };
    assert_eq!(positions(0, 5, 9, 9_999), (vec![1, 2, 3, 4, 5], true));
    assert_eq!(positions(1, 4, 9, 9_999), (vec![2, 3, 4], true));
    assert_eq!(positions(0, 5, 2, 9_999), (vec![1, 2], false));
    assert_eq!(positions(3, 5, 2, 9_999), (vec![4, 5], true));
    assert_eq!(positions(0, 5, 9, 1), (vec![1], false), "at least one");
    assert_eq!(positions(0, 5, 0, 9_999), (vec![1], false), "at least one");
    assert_eq!(positions(0, 5, 9, 70), (vec![1, 2], false));
    assert_eq!(positions(5, 9, 9, 9_999), (vec![], true));
    assert_eq!(world.page(UserId(77), 0, 9, EVERYTHING).entries, []);
}
