//! Apps, users, devices and who may attach.

use super::world::World;
use crate::ids::{AppId, DeviceId, Position, SendId, UserId};
use crate::store::{Admission, Attach, Attached, Operation, Outcome, Refusal};

const KEY: [u8; 32] = [7; 32];
const OTHER_KEY: [u8; 32] = [8; 32];
const CODE: [u8; 32] = [9; 32];

fn with(admission: Admission, attach: Attach) -> Attach {
    Attach { admission, ..attach }
}

fn enroll(key: [u8; 32]) -> Admission {
    Admission::Enroll { code_hash: CODE, key }
}

fn add_code(world: &World, user: &str, hash: [u8; 32], expires: u64) -> Outcome {
    world.outcome(Operation::AddCode { app: world.app, user: user.into(), hash, expires })
}

/// Alice has the device `phone` with `KEY`.
fn enrolled(world: &World) -> Attached {
    world.outcome(Operation::AddUser { app: world.app, name: "alice".into() });
    assert_eq!(add_code(world, "alice", CODE, 2_000), Outcome::Done);
    world.login(with(enroll(KEY), world.open_login("alice", "phone"))).expect("a good code")
}

pub fn an_app_has_one_number_and_its_users_are_its_own(world: &mut World) {
    assert_eq!(world.app, AppId(1));
    assert_eq!(world.app_named("other"), AppId(2));
    assert_eq!(world.app_named("dev"), AppId(1));
    world.attach("alice", "phone");
    world.restart();
    assert_eq!(world.apps(), [(1, "dev".into(), 1), (2, "other".into(), 0)]);
    world.app = AppId(2);
    assert_eq!(world.user("alice"), None);
    let alice = world.attach("alice", "phone");
    assert_eq!((alice.user, alice.device), (UserId(1), DeviceId(1)), "counters are the app's own");
    world.app = AppId(3);
    assert_eq!(world.login(world.open_login("alice", "phone")), Err(Refusal::UnknownApp));
}

pub fn an_open_login_makes_user_and_device_once(world: &mut World) {
    let alice = world.attach("alice", "phone");
    let made = Attached {
        user: UserId(1),
        device: DeviceId(1),
        highest_send_id: SendId(0),
        cursor: Position(0),
        head: Position(0),
    };
    assert_eq!(alice, made);
    world.restart();
    world.now = 1_500;
    assert_eq!(world.attach("alice", "phone"), made);
    assert_eq!(world.attach("bob", "phone").user, UserId(2));
    let device = &world.user("alice").expect("made").devices[0];
    assert_eq!((device.name.as_str(), device.linked, device.seen), ("phone", 1_000, 1_500));
}

pub fn an_open_login_is_refused_where_a_device_has_a_key(world: &mut World) {
    enrolled(world);
    for device in ["phone", "laptop"] {
        assert_eq!(world.login(world.open_login("alice", device)), Err(Refusal::LoginFailed));
    }
}

pub fn a_key_opens_only_the_device_that_has_it(world: &mut World) {
    let alice = enrolled(world);
    world.restart();
    let login = |user, device, key| world.login(with(Admission::Key(key), world.open_login(user, device)));
    assert_eq!(login("alice", "phone", KEY), Ok(alice));
    assert_eq!(login("alice", "phone", OTHER_KEY), Err(Refusal::LoginFailed));
    assert_eq!(login("alice", "laptop", KEY), Err(Refusal::LoginFailed));
    assert_eq!(login("bob", "phone", KEY), Err(Refusal::LoginFailed));
    world.attach("carol", "phone");
    assert_eq!(login("carol", "phone", KEY), Err(Refusal::LoginFailed), "a device without a key has none to show");
    assert_eq!(world.user("bob"), None);
}

pub fn a_code_enrols_one_device_and_only_in_time(world: &mut World) {
    let alice = enrolled(world);
    let laptop = with(enroll(OTHER_KEY), world.open_login("alice", "laptop"));
    assert_eq!(world.login(laptop.clone()), Err(Refusal::LoginFailed), "the code is used up");
    assert_eq!(add_code(world, "alice", CODE, 2_000), Outcome::Done);
    world.restart();
    world.now = 2_000;
    assert_eq!(world.login(Attach { now: 2_000, ..laptop.clone() }), Err(Refusal::LoginFailed), "too late");
    assert_eq!(world.login(Attach { now: 1_999, ..laptop }).map(|attached| attached.user), Ok(alice.user));
    assert_eq!(world.user("alice").expect("made").devices[1].key, Some(OTHER_KEY));
    let bob = with(enroll(KEY), world.open_login("bob", "phone"));
    assert_eq!(world.login(bob), Err(Refusal::LoginFailed), "an enrolment makes no user");
    assert_eq!(add_code(world, "bob", CODE, 2_000), Outcome::Refused(Refusal::NotAccepted));
}

pub fn an_enrolment_may_be_repeated_with_the_same_key_only(world: &mut World) {
    let alice = enrolled(world);
    assert_eq!(world.login(with(enroll(KEY), world.open_login("alice", "phone"))), Ok(alice));
    add_code(world, "alice", CODE, 2_000);
    let other = with(enroll(OTHER_KEY), world.open_login("alice", "phone"));
    assert_eq!(world.login(other), Err(Refusal::LoginFailed));
    let laptop = with(enroll(OTHER_KEY), world.open_login("alice", "laptop"));
    world.login(laptop).expect("the refused login left the code alone");
}

pub fn the_oldest_code_gives_way(world: &mut World) {
    world.outcome(Operation::AddUser { app: world.app, name: "alice".into() });
    for code in 0..=8 {
        add_code(world, "alice", [code; 32], 2_000);
    }
    let login = |code: u8| {
        let admission = Admission::Enroll { code_hash: [code; 32], key: [code; 32] };
        world.login(with(admission, world.open_login("alice", &format!("device {code}"))))
    };
    assert_eq!(login(0), Err(Refusal::LoginFailed));
    assert!(login(1).is_ok());
    assert!(login(8).is_ok());
}

pub fn a_code_gives_a_device_without_a_key_its_key(world: &mut World) {
    let phone = world.attach("alice", "phone");
    let login = |admission| world.login(with(admission, world.open_login("alice", "phone")));
    assert_eq!(login(enroll(KEY)), Err(Refusal::LoginFailed), "not without a code");
    add_code(world, "alice", CODE, 2_000);
    assert_eq!(login(enroll(KEY)).map(|attached| attached.device), Ok(phone.device));
    add_code(world, "alice", CODE, 2_000);
    assert!(login(enroll(KEY)).is_ok(), "asked again, the code is not looked at");
    assert_eq!(login(enroll([9; 32])), Err(Refusal::LoginFailed), "and no other key takes its place");
    world.restart();
    assert!(world.login(with(Admission::Key(KEY), world.open_login("alice", "phone"))).is_ok());
    assert_eq!(world.login(world.open_login("alice", "phone")), Err(Refusal::LoginFailed));
}

pub fn a_device_number_that_is_no_more_is_expired(world: &mut World) {
    let alice = world.attach("alice", "phone");
    let again = |name: &str, device_id| Attach { device_id, ..world.open_login("alice", name) };
    assert_eq!(world.login(again("phone", alice.device)), Ok(alice.clone()));
    assert_eq!(world.login(again("phone", DeviceId(9))), Err(Refusal::DeviceExpired));
    assert_eq!(world.login(again("laptop", alice.device)), Err(Refusal::DeviceExpired));
    assert_eq!(world.outcome(world.revoking("alice", "phone")), Outcome::Revoked(alice.device));
    assert_eq!(world.login(again("phone", alice.device)), Err(Refusal::DeviceExpired));
    assert_eq!(world.attach("alice", "phone").device, DeviceId(2), "numbers are never reused");
    assert_eq!(world.outcome(world.revoking("alice", "tablet")), Outcome::Refused(Refusal::NotAccepted));
    assert_eq!(world.outcome(world.revoking("nobody", "phone")), Outcome::Refused(Refusal::NotAccepted));
}

pub fn a_seventeenth_device_is_refused_and_keeps_its_code(world: &mut World) {
    world.outcome(Operation::AddUser { app: world.app, name: "alice".into() });
    let login = |number: u8| {
        let name = format!("device {number}");
        world.login(with(Admission::Enroll { code_hash: CODE, key: [number; 32] }, world.open_login("alice", &name)))
    };
    for number in 0..16 {
        add_code(world, "alice", CODE, 2_000);
        assert!(login(number).is_ok());
    }
    add_code(world, "alice", CODE, 2_000);
    assert_eq!(login(16), Err(Refusal::TooManyDevices));
    world.outcome(world.revoking("alice", "device 3"));
    assert!(login(16).is_ok(), "the code was not consumed");
}

pub fn a_cursor_above_the_inbox_is_refused(world: &mut World) {
    let alice = world.attach("alice", "phone");
    let ahead =
        Attach { device_id: alice.device, cursor: Position(1), now: 5_000, ..world.open_login("alice", "phone") };
    assert_eq!(world.login(ahead.clone()), Err(Refusal::CursorAhead));
    assert_eq!(world.user("alice").expect("made").devices[0].seen, 1_000, "nothing changed");
    assert_eq!(
        world.login(Attach { device_id: DeviceId(0), ..ahead }).map(|attached| attached.cursor),
        Ok(Position(0))
    );
}

pub fn a_login_confirms_what_its_cursor_says(world: &mut World) {
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.acked(&alice, 1, "bob", "hi");
    world.acked(&alice, 2, "bob", "ho");
    let login = Attach { device_id: bob.device, cursor: Position(2), ..world.open_login("bob", "phone") };
    let told = world.published(Operation::Attach(login.clone()));
    assert_eq!(told, ["1: 1 1.2 bob delivered"]);
    assert!(world.inbox(&bob).is_empty());
    world.restart();
    let attached = world.login(Attach { cursor: Position(1), ..login }).expect("an older cursor is no error");
    assert_eq!((attached.cursor, attached.head), (Position(2), Position(2)));
}

pub fn a_refused_login_leaves_nothing_behind(world: &mut World) {
    let stale = Attach { device_id: DeviceId(4), ..world.open_login("alice", "phone") };
    assert_eq!(world.login(stale), Err(Refusal::DeviceExpired));
    assert_eq!(world.user("alice"), None);
    assert_eq!(world.attach("bob", "phone").user, UserId(1));
}

pub fn users_are_listed_by_name(world: &mut World) {
    for name in ["carol", "al", "bob", "alice"] {
        world.outcome(Operation::AddUser { app: world.app, name: name.into() });
        world.outcome(Operation::AddUser { app: world.app, name: name.into() });
    }
    world.restart();
    let names =
        |after: &str, limit| -> Vec<String> { world.users(after, limit).into_iter().map(|user| user.name).collect() };
    assert_eq!(names("", 9), ["al", "alice", "bob", "carol"]);
    assert_eq!(names("al", 2), ["alice", "bob"]);
    assert!(names("carol", 9).is_empty());
    assert_eq!(world.user("bob").map(|user| user.id), Some(UserId(3)));
}

pub fn a_removed_user_is_gone_and_its_successor_is_another(world: &mut World) {
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.acked(&alice, 1, "bob", "hi");
    let remove = Operation::RemoveUser { app: world.app, name: "bob".into() };
    assert_eq!(world.outcome(remove.clone()), Outcome::Done);
    assert_eq!(world.outcome(remove), Outcome::Refused(Refusal::NotAccepted));
    world.restart();
    assert!(world.inbox(&bob).is_empty());
    assert_eq!(world.received(&bob, 1), Outcome::Refused(Refusal::DeviceExpired));
    let successor = world.attach("bob", "phone");
    assert_eq!((successor.user, successor.device, successor.head), (UserId(3), DeviceId(3), Position(0)));
    assert_eq!(world.apps(), [(1, "dev".into(), 2)]);
    assert_eq!(world.acked(&alice, 2, "bob", "who?"), (2, 1), "another user, another conversation");
}
