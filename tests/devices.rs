//! Several devices of one user, and what becomes of one that stays away.

use std::time::Duration;

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, client_frame, deliver};

use crate::support::{Raw, TestServer};

fn texts(entries: &[(u64, deliver::Entry)]) -> Vec<String> {
    let text = |entry: &deliver::Entry| match entry {
        deliver::Entry::Message(message) => Some(String::from_utf8(message.content.to_vec()).unwrap()),
        _ => None,
    };
    entries.iter().filter_map(|(_, entry)| text(entry)).collect()
}

#[tokio::test]
async fn each_of_three_devices_gets_everything_and_the_first_confirmation_counts_as_delivered() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut devices = Vec::new();
    for name in ["phone", "tablet", "desk"] {
        devices.push(Raw::login(&server, "bob", name).await);
    }
    alice.send("bob", "to all of you").await;
    alice.next_ack().await;
    let mut positions = Vec::new();
    for device in &mut devices {
        positions.push(device.next_message().await.0);
    }
    devices[1].confirm(positions[1]).await;
    assert_eq!(alice.next_delivered("bob").await.1, 1);
    devices[0].confirm(positions[0]).await;
    devices[2].confirm(positions[2]).await;
    alice.nothing_comes().await;
}

#[tokio::test]
async fn what_one_device_sends_and_reads_appears_on_the_others_and_not_on_itself() {
    let server = TestServer::start().await;
    let mut laptop = Raw::login(&server, "alice", "laptop").await;
    let mut phone = Raw::login(&server, "alice", "phone").await;
    let mut bob = Raw::login(&server, "bob", "phone").await;

    laptop.send("bob", "from the laptop").await;
    laptop.next_ack().await;
    let copy = phone.next_message().await.1;
    assert_eq!((copy.sender.as_str(), copy.recipient.as_str()), ("alice", "bob"));
    laptop.nothing_comes().await;

    bob.next_message().await;
    bob.send("alice", "an answer").await;
    bob.next_ack().await;
    let (position, answer) = phone.next_message().await;
    laptop.next_message().await;
    phone.confirm(position).await;
    phone.read_up_to(answer.conversation, answer.seq).await;
    assert_eq!(laptop.next_read("alice").await.1, answer.seq);
    phone.nothing_comes().await;
}

/// SYNC-6.
#[tokio::test]
async fn the_inbox_is_trimmed_when_all_devices_have_passed() {
    let server = TestServer::start().await;
    let admin = postrider::admin::client::Admin::new(&server.data());
    let waiting = async || {
        admin
            .list_users("dev", "")
            .await
            .unwrap()
            .users
            .into_iter()
            .find(|user| user.name == "Bob")
            .unwrap()
            .inbox_entries
    };

    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut phone = Raw::login(&server, "Bob", "phone").await;
    let mut tablet = Raw::login(&server, "Bob", "tablet").await;
    alice.send("Bob", "hello").await;
    alice.next_ack().await;
    let position = phone.next_message().await.0;
    tablet.next_message().await;
    assert_eq!(waiting().await, 1);
    phone.confirm(position).await;
    alice.next_delivered("Bob").await;
    assert_eq!(waiting().await, 1, "the tablet has not passed");
    tablet.confirm(position).await;
    // The commit that trims is answered to nobody.
    while waiting().await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// SYNC-2.
#[tokio::test]
async fn a_first_device_starts_at_the_beginning_of_the_inbox_and_a_later_one_where_it_was_linked() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send("bob", "before any device").await;
    alice.next_ack().await;
    let mut phone = Raw::login(&server, "bob", "phone").await;
    assert_eq!(texts(&phone.backlog().await), ["before any device"]);
    let mut tablet = Raw::login(&server, "bob", "tablet").await;
    assert_eq!(texts(&tablet.backlog().await), Vec::<String>::new());
    alice.send("bob", "to both").await;
    phone.next_message().await;
    tablet.next_message().await;
}

/// RCPT-3.
#[tokio::test]
async fn delivered_never_claims_what_only_a_silent_device_was_entitled_to() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let silent = Raw::login(&server, "bob", "silent").await;
    alice.send("bob", "for the silent one only").await;
    alice.next_ack().await;
    drop(silent);
    let mut later = Raw::login(&server, "bob", "later").await;
    later.backlog().await;
    alice.send("bob", "for both").await;
    alice.next_ack().await;
    let position = later.next_message().await.0;
    later.confirm(position).await;
    alice.nothing_comes().await;
    let mut silent = Raw::login(&server, "bob", "silent").await;
    let position = silent.backlog().await[0].0;
    silent.confirm(position).await;
    assert_eq!(alice.next_delivered("bob").await.1, 2);
}

#[tokio::test]
async fn a_seventeenth_device_is_refused() {
    let server = TestServer::start().await;
    for number in 1..=16 {
        Raw::login(&server, "bob", &format!("device {number}")).await;
    }
    let mut one_more = Raw::connect(&server).await;
    one_more.say(client_frame::Body::Hello(Raw::hello("bob", "device 17"))).await;
    one_more.closed_with(ErrorCode::TooManyDevices).await;
}

/// CONN-4.
#[tokio::test]
async fn a_newer_connection_of_the_same_device_replaces_the_older_one() {
    let server = TestServer::start().await;
    let mut older = Raw::login(&server, "bob", "phone").await;
    let mut newer = Raw::login(&server, "bob", "phone").await;
    older.backlog().await;
    older.closed_with(ErrorCode::Replaced).await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send("bob", "hello").await;
    newer.next_message().await;
}

/// SYNC-7, RCPT-8, LOGIN-14.
#[tokio::test]
async fn a_device_unseen_for_the_retention_is_expired_and_told_so_when_it_returns() {
    let mut server = TestServer::start().await;
    let (mut phone, welcome) = Raw::resume(&server, "bob", "phone", &wire::Welcome::default()).await;
    phone.backlog().await;
    drop(phone);
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send("bob", "too late").await;
    alice.next_ack().await;
    drop(alice);

    server.time().advance(Duration::from_secs(31 * 24 * 60 * 60));
    server.restart().await;
    let mut alice = Raw::login(&server, "alice", "new laptop").await;
    // The sweep runs at start; wait until it has passed by bob.
    let admin = postrider::admin::client::Admin::new(&server.data());
    while !admin.list_devices("dev", "bob").await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut phone = Raw::connect(&server).await;
    phone
        .say(client_frame::Body::Hello(wire::Hello { device_id: welcome.device_id, ..Raw::hello("bob", "phone") }))
        .await;
    phone.closed_with(ErrorCode::DeviceExpired).await;

    let (_, expired) = alice.backlog().await.into_iter().next().expect("the sender is told");
    assert!(
        matches!(&expired, deliver::Entry::Expired(receipt) if receipt.user == "bob" && receipt.seq == 1),
        "{expired:?}"
    );
    let mut phone = Raw::login(&server, "bob", "phone").await;
    assert_eq!(texts(&phone.backlog().await), Vec::<String>::new(), "as a new device it starts anew");
}

#[tokio::test]
async fn a_cursor_from_another_server_is_refused() {
    let server = TestServer::start().await;
    let (phone, welcome) = Raw::resume(&server, "bob", "phone", &wire::Welcome::default()).await;
    drop(phone);
    let mut phone = Raw::connect(&server).await;
    let hello = wire::Hello { device_id: welcome.device_id, cursor: 99, ..Raw::hello("bob", "phone") };
    phone.say(client_frame::Body::Hello(hello)).await;
    phone.closed_with(ErrorCode::CursorAhead).await;
}
