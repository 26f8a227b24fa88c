//! A damaged store: what is sound is saved, what is not is told, and what is made is sound.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::super::super::journal::layout;
use super::super::super::keys;
use super::super::super::tools::{self, Salvaged};
use super::super::damage::{cut, half_spilled, segments, several_segments};
use super::super::{Engine, EngineConfig, copy, rows_in_sled};
use super::{World, inboxes, is_sound, tiny, world, written};
use crate::ids::{AppId, ConversationId, DeviceId, UserId};

const BOB: UserId = UserId(2);

/// A store that is in sled alone, after `damage` was done to its rows.
fn damaged(path: &Path, damage: impl FnOnce(&sled::Tree)) {
    tools::stats(path, 7, &mut |_| {}).expect("its journal goes to sled");
    let rows = rows_in_sled(path);
    damage(&rows);
    rows.flush().unwrap();
}

fn flip(tree: &sled::Tree, key: &[u8]) {
    let mut value = tree.get(key).unwrap().expect("a row").to_vec();
    *value.last_mut().unwrap() ^= 4;
    tree.insert(key, value).unwrap();
}

/// What a device believes of a peer: the messages up to each watermark that no `expired` came before. By
/// conversation and peer, (delivered, expired up to).
#[derive(Default)]
struct Believes(BTreeMap<(u64, String), (Vec<u64>, u64)>);

impl Believes {
    fn take<'e>(&mut self, entries: impl IntoIterator<Item = &'e String>) {
        for entry in entries {
            let words: Vec<&str> = entry.split(' ').filter(|word| !word.starts_with('-')).collect();
            let [_, about, peer, kind @ ("delivered" | "expired")] = words[..] else { continue };
            let (conversation, seq) = about.split_once('.').unwrap();
            let (conversation, seq): (u64, u64) = (conversation.parse().unwrap(), seq.parse().unwrap());
            let (delivered, expired) = self.0.entry((conversation, peer.to_owned())).or_default();
            if kind == "expired" {
                *expired = seq.max(*expired);
            } else {
                let first = delivered.last().copied().unwrap_or(0).max(*expired) + 1;
                delivered.extend(first..=seq);
            }
        }
    }

    fn delivered(&self, conversation: u64, peer: &str) -> &[u64] {
        self.0.get(&(conversation, peer.to_owned())).map_or(&[], |(delivered, _)| delivered)
    }
}

/// The numbers of the messages in a peer's inbox.
fn numbers(inbox: &[String], conversation: u64) -> Vec<u64> {
    let number = |entry: &String| {
        let about = entry.split(' ').find(|word| word.contains('.'))?;
        let (found, seq) = about.split_once('.')?;
        (found == conversation.to_string() && entry.contains('>')).then(|| seq.parse().unwrap())
    };
    inbox.iter().filter_map(number).collect()
}

fn salvage(from: &Path, to: &Path) -> Salvaged {
    let salvaged = tools::salvage(from, to, 7, &mut |_| {}).expect("a new store");
    assert_eq!(salvaged.found.problems, Vec::<String>::new());
    is_sound(to);
    salvaged
}

#[test]
fn of_a_sound_store_nothing_is_lost_and_it_is_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    let before = written(&from);
    let untouched = directory.path().join("untouched");
    copy(&from, &untouched);
    let salvaged = salvage(&from, &to);
    assert!(salvaged.is_whole(), "{salvaged:?}");
    assert_eq!(inboxes(&to), before);
    for file in ["sled/db", "journal/0.segment", "journal/1.segment"] {
        assert!(fs::read(from.join(file)).unwrap() == fs::read(untouched.join(file)).unwrap(), "{file}");
    }
    let world = world(&to);
    let alice = world.attach("alice", "phone");
    assert_eq!(world.acked(&alice, alice.highest_send_id.0 + 1, "bob", "goes on"), (1, 41));
}

#[test]
fn where_sled_has_cut_its_files_off_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let before = written(&path("data"));
    tools::compact(&path("data"), 7, &mut |_| {}).unwrap();
    let length = fs::metadata(path("data/sled/db")).unwrap().len();
    let mut lost = 0;
    for offset in (5..length).step_by(977).take(60) {
        let (from, to) = (path("damaged"), path("out"));
        copy(&path("data"), &from);
        let mut bytes = fs::read(from.join("sled/db")).unwrap();
        bytes[offset as usize] ^= 1;
        fs::write(from.join("sled/db"), bytes).unwrap();
        let salvaged = salvage(&from, &to);
        if salvaged.is_whole() {
            assert_eq!(inboxes(&to), before, "a bit at byte {offset}: {salvaged:?}");
        }
        lost += u32::from(!salvaged.is_whole());
        assert_eq!(salvaged.damage_count == 0, salvaged.is_whole(), "{salvaged:?}");
        fs::remove_dir_all(&to).unwrap();
        fs::remove_dir_all(&from).unwrap();
    }
    assert!(lost > 5, "{lost}");
}

#[test]
fn what_sled_has_cut_off_is_not_compacted_to_what_looks_sound() {
    let directory = super::super::in_memory();
    let path = |name: &str| directory.path().join(name);
    let world = World::around(Arc::new(Engine::open(&super::super::config(&path("data"))).unwrap()));
    let (alice, _bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    for id in 1..=900 {
        world.acked(&alice, id, "bob", &format!("message {id} {}", "long ".repeat(300)));
    }
    drop(world);
    tools::compact(&path("data"), 7, &mut |_| {}).unwrap();
    let length = fs::metadata(path("data/sled/db")).unwrap().len();
    let (mut opened, mut refused) = (0, 0);
    for offset in (1_003..length).step_by(length as usize / 40) {
        let from = path("damaged");
        copy(&path("data"), &from);
        let mut bytes = fs::read(from.join("sled/db")).unwrap();
        bytes[offset as usize] ^= 1;
        fs::write(from.join("sled/db"), bytes).unwrap();
        let opens = tools::verify(&from, 7, &mut |_| {}).is_ok();
        opened += u32::from(opens);
        let done = tools::compact(&from, 7, &mut |_| {}).is_ok();
        if done {
            let world = world_at(&from);
            let inbox = world.inbox(&world.attach("bob", "phone"));
            assert_eq!(inbox.len(), 900, "a bit at byte {offset} of {length}");
        }
        refused += u32::from(opens && !done);
        fs::remove_dir_all(&from).unwrap();
    }
    assert!(opened > 5 && refused > 0, "{opened} {refused}");
}

fn world_at(path: &Path) -> World {
    World::around(Arc::new(Engine::open(&super::super::config(path)).unwrap()))
}

#[test]
fn of_a_user_whose_every_row_is_lost_it_is_told_that_messages_are() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    written(&from);
    damaged(&from, |tree| {
        tree.remove(keys::user(AppId(1), BOB)).unwrap().expect("bob's row");
        tree.remove(keys::user_name(AppId(1), "bob")).unwrap().expect("bob's name");
        for prefix in [keys::chunks(AppId(1)), keys::ends(AppId(1)), keys::pieces(AppId(1))] {
            let of_bob: Vec<_> = tree.scan_prefix(prefix).keys().map(Result::unwrap).collect();
            of_bob.iter().filter(|key| keys::user_of(key) == Some(BOB)).for_each(|key| drop(tree.remove(key).unwrap()));
        }
        flip(tree, &keys::app(AppId(1)));
    });
    let salvaged = salvage(&from, &to);
    let missing = salvaged.losses.iter().find(|loss| loss.what.contains("user 2, who has conversations"));
    // Bob had taken 7 of alice's 40.
    assert_eq!(missing.map(|loss| loss.conversations.clone()), Some(vec![(1, vec![(8, 40)])]), "{salvaged:?}");
}

#[test]
fn whichever_row_is_damaged_it_is_told_and_the_rest_fits_together() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    let before = written(&original);
    let mut rows = Vec::new();
    damaged(&original, |tree| rows = tree.iter().keys().map(|key| key.unwrap().to_vec()).collect());
    // The first and the last of each table.
    let tables: Vec<_> = rows.iter().map(|key| key[0]).collect();
    let mut number = 0;
    rows.retain(|_| {
        number += 1;
        number == 1 || tables.get(number - 2) != tables.get(number - 1) || tables.get(number) != tables.get(number - 1)
    });
    assert!(rows.len() > 12, "{}", rows.len());
    for (number, key) in rows.iter().enumerate() {
        let (from, to) = (directory.path().join(format!("{number}")), directory.path().join(format!("{number}.out")));
        copy(&original, &from);
        damaged(&from, |tree| flip(tree, key));
        let salvaged = salvage(&from, &to);
        assert!(salvaged.damage_count == 1 && !salvaged.is_whole(), "{key:?}: {salvaged:?}");
        let world = world(&to);
        let alice = world.attach("alice", "laptop");
        // Who takes a message after the salvage confirms it, and what was taken before was confirmed: bob had 7 of alice's
        // messages of 40, carol 2 of 20.
        let mut believed = [Believes::default(), Believes::default()];
        believed[1].take(&before[0]);
        for (peer, conversation, taken, sent) in [("bob", 1, 7, 40), ("carol", 2, 2, 20)] {
            let phone = world.attach(peer, "phone");
            let (_, seq) = world.acked(&alice, conversation, peer, "it goes on");
            let mut there = numbers(&world.inbox(&phone), conversation);
            assert_eq!(there.pop(), Some(seq), "{key:?}");
            world.received(&phone, world.user(peer).unwrap().head.0);
            for believed in &mut believed {
                believed.take(&world.inbox(&alice));
                let delivered = believed.delivered(conversation, peer);
                let is_true = |number: &u64| *number <= taken || *number > sent || there.contains(number);
                assert!(delivered.iter().all(is_true), "{key:?}: {peer}: {delivered:?} of {there:?}");
                assert!(delivered.contains(&seq), "{key:?}: {peer}: {delivered:?}");
            }
        }
        drop(world);
        is_sound(&to);
        fs::remove_dir_all(&from).unwrap();
        fs::remove_dir_all(&to).unwrap();
    }
}

#[test]
fn messages_that_are_lost_are_told_with_their_user_and_place() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    let before = written(&from);
    let mut chunks = Vec::new();
    damaged(&from, |tree| {
        let found = tree.scan_prefix(keys::chunks_of_user(AppId(1), BOB)).keys();
        chunks = found.map(|key| key.unwrap().to_vec()).collect();
        assert!(chunks.len() > 2, "{}", chunks.len());
        flip(tree, &chunks[1]);
    });
    let salvaged = salvage(&from, &to);
    let last = |chunk: usize| keys::last_of(&chunks[chunk]).unwrap().0;
    let [loss] = &salvaged.losses[..] else { panic!("{salvaged:?}") };
    assert_eq!((loss.app.as_str(), loss.user.as_deref()), ("dev", Some("bob")));
    assert_eq!((loss.messages, &loss.positions[..]), (last(1) - last(0), &[(last(0) + 1, last(1))][..]));
    // Nothing else is in this conversation: numbers and positions go together.
    assert_eq!(loss.conversations, [(1, loss.positions.clone())]);
    // The sender, and bob's own devices, are told that it has expired, up to the last that is lost.
    let expired = |inbox: &[String]| {
        let head: u64 = inbox.last().unwrap().split(' ').next().unwrap().parse().unwrap();
        format!("{} 1.{} bob expired", head + 1, last(1))
    };
    let after = inboxes(&to);
    assert_eq!((&after[0][..before[0].len()], &after[2]), (&before[0][..], &before[2]));
    assert_eq!(after[0][before[0].len()..], [expired(&before[0])]);
    let kept = |entry: &&String| {
        let position: u64 = entry.split(' ').next().unwrap().parse().unwrap();
        !(last(0) < position && position <= last(1))
    };
    let kept: Vec<String> = before[1].iter().filter(kept).cloned().chain([expired(&before[1])]).collect();
    assert_eq!(after[1], kept);
}

#[test]
fn no_later_receipt_speaks_for_a_message_that_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    let before = written(&from);
    let mut lost = Vec::new();
    damaged(&from, |tree| {
        let found = tree.scan_prefix(keys::chunks_of_user(AppId(1), BOB)).keys();
        let chunks: Vec<_> = found.map(|key| key.unwrap().to_vec()).collect();
        let last = |chunk: usize| keys::last_of(&chunks[chunk]).unwrap().0;
        // Numbers and positions go together.
        lost.extend(last(0) + 1..=last(1));
        flip(tree, &chunks[1]);
    });
    salvage(&from, &to);
    let world = world(&to);
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    let mut believed = Believes::default();
    believed.take(&before[0]);
    assert_eq!(believed.delivered(1, "bob"), [1, 2, 3, 4, 5, 6, 7]);
    world.received(&bob, world.user("bob").unwrap().head.0);
    believed.take(&world.inbox(&alice));
    let delivered = believed.delivered(1, "bob");
    assert!(!lost.is_empty() && lost.iter().all(|lost| !delivered.contains(lost)), "{lost:?}: {delivered:?}");
    assert!(delivered.ends_with(&[39, 40]), "{delivered:?}");
}

#[test]
fn an_expiry_that_the_sender_was_told_and_is_lost_is_told_again() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    {
        let mut world = world(&from);
        let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
        for id in 1..=3 {
            world.acked(&alice, id, "bob", "nobody takes it");
        }
        world.now += 1_000;
        world.outcome(world.sweeping(world.now, &[alice.device, bob.device]));
        for id in 4..=5 {
            world.acked(&alice, id, "bob", "it is young");
        }
        assert!(world.inbox(&alice).iter().any(|entry| entry.ends_with("1.3 bob expired")));
    }
    damaged(&from, |tree| {
        let chunk = tree.scan_prefix(keys::chunks_of_user(AppId(1), UserId(1))).keys().next().unwrap().unwrap();
        flip(tree, &chunk);
    });
    salvage(&from, &to);
    let world = world(&to);
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.received(&bob, world.user("bob").unwrap().head.0);
    let mut believed = Believes::default();
    believed.take(&world.inbox(&alice));
    assert_eq!(believed.delivered(1, "bob"), [4, 5]);
}

#[test]
fn a_send_that_is_lost_with_its_recipient_is_expired_in_every_conversation_and_its_number_not_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    {
        let config = EngineConfig { segment_bytes: 1 << 20, ..tiny(&from) };
        let world = World::around(Arc::new(Engine::open(&config).unwrap()));
        let alice = world.attach("alice", "phone");
        world.attach("bob", "phone");
        world.attach("carol", "phone");
        world.acked(&alice, 1, "bob", "the first");
        assert_eq!(world.acked(&alice, 2, "bob", "lost"), (1, 2));
        assert_eq!(world.acked(&alice, 3, "carol", "the last"), (2, 1));
    }
    let segment = from.join("journal/0.segment");
    let mut bytes = fs::read(&segment).unwrap();
    // Groups: the app, three logins, a message; then the one that is lost.
    let lost = (0..5).fold(layout::FIRST_RECORD, |record, _| layout::ends(&bytes, record).1);
    bytes[lost + 30] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let salvaged = salvage(&from, &to);
    assert!(salvaged.losses.iter().any(|loss| loss.what.starts_with("up to 1 of the user's")), "{salvaged:?}");

    let world = world(&to);
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    assert_eq!(world.acked(&alice, 4, "bob", "goes on"), (1, 3));
    world.received(&bob, world.user("bob").unwrap().head.0);
    let mut believed = Believes::default();
    believed.take(&world.inbox(&alice));
    assert_eq!(believed.delivered(1, "bob"), [3]);
}

#[test]
fn a_conversation_whose_head_is_lost_gives_no_number_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    let before = {
        let world = world(&from);
        let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
        world.attach("carol", "phone");
        for id in 1..=300 {
            world.acked(&alice, id, if id <= 20 { "bob" } else { "carol" }, "a message");
        }
        world.received(&bob, 20);
        let before = world.inbox(&alice);
        // Nothing is left that tells how far this conversation has got.
        world.received(&alice, world.user("alice").unwrap().head.0);
        before
    };
    damaged(&from, |tree| flip(tree, &keys::conversation(AppId(1), ConversationId(1))));
    salvage(&from, &to);
    let world = world(&to);
    let alice = world.attach("alice", "phone");
    let mut believed = Believes::default();
    believed.take(&before);
    assert_eq!(believed.delivered(1, "bob").len(), 20);
    let (conversation, seq) = world.acked(&alice, 301, "bob", "nobody has it yet");
    assert!(conversation == 1 && !believed.delivered(1, "bob").contains(&seq), "{seq}");
}

#[test]
fn answers_that_are_lost_are_told_and_their_sends_are_refused_when_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    written(&from);
    damaged(&from, |tree| flip(tree, &keys::answers(AppId(1), UserId(1), DeviceId(1), 1)));
    let salvaged = salvage(&from, &to);
    let [loss] = &salvaged.losses[..] else { panic!("{salvaged:?}") };
    assert!(loss.user.as_deref() == Some("alice") && loss.what.contains("16 of its last sends"), "{loss:?}");
    let world = world(&to);
    let alice = world.attach("alice", "phone");
    let refused = format!("{:?}", world.send(&alice, 17, "bob", "message 17"));
    assert!(refused.contains("SendIdReused"), "{refused}");
}

/// A store whose journal is one segment, with so many messages of alice to bob. Groups: the app, two logins, and then a message
/// each.
fn sent(path: &Path, messages: u64) {
    let config = EngineConfig { segment_bytes: 1 << 20, ..tiny(path) };
    let world = World::around(Arc::new(Engine::open(&config).unwrap()));
    let alice = world.attach("alice", "phone");
    world.attach("bob", "phone");
    for id in 1..=messages {
        world.acked(&alice, id, "bob", &format!("message {id}"));
    }
}

/// Damages a group of that journal, and returns where it begins.
fn damage_group(path: &Path, group: usize) -> usize {
    let segment = path.join("journal/0.segment");
    let mut bytes = fs::read(&segment).unwrap();
    let record = (0..group).fold(layout::FIRST_RECORD, |record, _| layout::ends(&bytes, record).1);
    bytes[record + 30] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    record
}

#[test]
fn groups_behind_a_damaged_one_in_the_journal_are_saved() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    sent(&from, 20);
    let tenth = damage_group(&from, 12);
    let error = tools::verify(&from, 7, &mut |_| {}).unwrap_err();
    assert!(error.is_damage(), "{error}");

    let salvaged = salvage(&from, &to);
    let [damage] = &salvaged.damage[..] else { panic!("{salvaged:?}") };
    assert!(damage.contains(&format!("bytes {tenth} to")), "{damage}");
    let world = world(&to);
    let bob = world.inbox(&world.attach("bob", "phone"));
    assert!(bob.len() == 20 && bob[19].ends_with("1.10 bob expired"), "{bob:?}");
    assert!(bob[8].ends_with("message 9") && bob[9].ends_with("message 11"), "{bob:?}");
    let lost = salvaged.losses.iter().find(|loss| loss.user.as_deref() == Some("bob")).expect("bob's");
    assert_eq!((lost.messages, &lost.positions[..]), (1, &[(10, 10)][..]));
}

#[test]
fn who_was_made_in_a_damaged_group_is_saved_from_where_the_journal_has_the_whole_row_again() {
    let directory = tempfile::tempdir().unwrap();
    for (messages, saved) in [(10, false), (40, true)] {
        let (from, to) =
            (directory.path().join(format!("{messages}")), directory.path().join(format!("{messages}.out")));
        sent(&from, messages);
        damage_group(&from, 2);
        let salvaged = salvage(&from, &to);
        let goes_on = "segment 1: user 2 of app 1 goes on from a record that is lost";
        assert!(salvaged.damage_count == 2 && salvaged.damage.iter().any(|what| what == goes_on), "{salvaged:?}");
        let world = world(&to);
        assert_eq!(world.user("bob").is_some(), saved, "{messages}");
        let lost: u64 = salvaged.losses.iter().map(|loss| loss.messages).sum();
        if saved {
            let bob = world.inbox(&world.attach("bob", "phone"));
            let kept = numbers(&bob, 1);
            assert!(kept.len() as u64 + lost == messages && (1..=16).contains(&lost), "{lost}: {kept:?}");
            assert_eq!(kept.last(), Some(&messages));
        }
    }
}

#[test]
fn without_sleds_files_what_the_journal_has_is_saved() {
    for damage in ["missing", "garbled"] {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("data"), directory.path().join("out"));
        written(&from);
        if damage == "missing" {
            fs::remove_dir_all(from.join("sled")).unwrap();
        } else {
            let mut bytes = fs::read(from.join("sled/db")).unwrap();
            bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
            fs::write(from.join("sled/db"), bytes).unwrap();
        }
        let salvaged = salvage(&from, &to);
        assert!(salvaged.damage.iter().any(|what| what.contains("sled")), "{damage}: {salvaged:?}");
        let mut world = world(&to);
        // The name of the app was in the first segment. Whether that has been used again since is the spill's affair: if so,
        // the app gets a name.
        world.app = AppId(1);
        assert!(world.apps().iter().any(|(id, name, _)| *id == 1 && ["app-1", "dev"].contains(&name.as_str())));
        let alice = world.attach("alice", "phone");
        let inbox = world.inbox(&alice);
        assert!(inbox.iter().any(|entry| entry.ends_with("carol>alice an answer")), "{inbox:?}");
    }
}

#[test]
fn a_journal_that_ends_before_what_sled_has_is_told_and_the_rest_fits_together() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    half_spilled(&original);
    for (newest, segment) in segments(&original.join("journal")).iter().enumerate().skip(1) {
        for record in (0..segment.records.len() - 2).step_by(4) {
            let name = format!("{newest}.{record}");
            let (from, to) = (directory.path().join(&name), directory.path().join(format!("{name}.out")));
            copy(&original, &from);
            cut(&from.join("journal"), newest, record);
            let salvaged = salvage(&from, &to);
            let told = salvaged.damage.iter().any(|what| what.contains("the journal ends at byte"));
            assert!(told && salvaged.loss_count == 0, "{name}: {salvaged:?}");
            let world = world(&to);
            let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
            assert_eq!(numbers(&world.inbox(&bob), 1), (1..=40).collect::<Vec<u64>>(), "{name}: sled has them");
            assert_eq!(alice.highest_send_id.0, 40, "{name}: no number is taken for a new one");
            let mut believed = Believes::default();
            believed.take(&world.inbox(&alice));
            let (_, seq) = world.acked(&alice, 41, "bob", "goes on");
            let expired = believed.0.get(&(1, "bob".to_owned())).map_or(0, |(_, expired)| *expired);
            assert!(seq > expired.max(40), "{name}: {seq}");
        }
    }
}

#[test]
fn a_segment_whose_head_is_lost_is_read_by_what_the_one_before_says() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("data"), directory.path().join("out"));
    let before = written(&from);
    // The newest segment: what is in it is nowhere else.
    let newest = fs::read_dir(from.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &std::path::PathBuf| u64::from_le_bytes(*fs::read(path).unwrap()[16..].first_chunk().unwrap());
    let newest = newest.max_by_key(number).unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    bytes[20] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let salvaged = salvage(&from, &to);
    assert!(salvaged.damage.iter().any(|what| what.contains("its head is not")), "{salvaged:?}");
    assert_eq!(inboxes(&to), before);
}

#[test]
fn after_a_crash_a_newest_segment_that_is_missing_is_told_and_one_without_a_head_is_read() {
    let crashed = several_segments();
    let directory = tempfile::tempdir().unwrap();
    let apps = |store: &Path| world(store).apps().len();
    let whole = directory.path().join("whole");
    assert!(salvage(crashed.path(), &whole).is_whole());
    for (damage, told) in [("missing", "which is missing"), ("headless", "its head is not what was written")] {
        let (from, to) = (directory.path().join(damage), directory.path().join(format!("{damage}.out")));
        copy(crashed.path(), &from);
        let newest = &segments(&from.join("journal"))[0].path;
        if damage == "missing" {
            fs::remove_file(newest).unwrap();
        } else {
            let mut bytes = fs::read(newest).unwrap();
            bytes[..layout::FIRST_RECORD].fill(0);
            fs::write(newest, bytes).unwrap();
        }
        let salvaged = salvage(&from, &to);
        let [only] = &salvaged.damage[..] else { panic!("{salvaged:?}") };
        assert!(only.contains(newest.to_str().unwrap()) && only.contains(told), "{only}");
        assert_eq!(apps(&to) == apps(&whole), damage == "headless");
    }
}
