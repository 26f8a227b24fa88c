//! Device keys: an app that lets nobody in by name alone. Codes, keys and their ends, through our own client.

use std::time::Duration;

use postrider::admin::client::Admin;
use postrider::config::LoginMethod;
use postrider_client::{Client, Error, ErrorCode, Event, Events, Login, Options, SendError, To, content};

use crate::support::{Target, TestServer, open_state};

/// A server for devices with keys, and the states of some devices.
struct World {
    server: TestServer,
    admin: Admin,
    states: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start_with(|config| config.app[0].login = vec![LoginMethod::DeviceKey]).await;
        let admin = Admin::new(&server.data());
        Self { server, admin, states: tempfile::tempdir().unwrap() }
    }

    /// Makes a user, if there is none of this name, and a code.
    async fn code(&self, user: &str) -> String {
        self.admin.add_user("dev", user).await.unwrap().code.expect("a code").code
    }

    /// A new user with one device.
    async fn enrolled(&self, user: &str, device: &str) -> (Client, Events) {
        let code = self.code(user).await;
        self.connect(user, device, Login::Enroll { code }).await.unwrap()
    }

    async fn connect(&self, user: &str, device: &str, login: Login) -> Result<(Client, Events), Error> {
        let state = open_state(&self.states.path().join(format!("{user}-{device}"))).await;
        Client::connect(self.options(user, device).login(login), state).await
    }

    /// The error code that a login fails with, which must be for good.
    async fn refusal(&self, user: &str, device: &str, login: Login) -> ErrorCode {
        let Err(error) = self.connect(user, device, login).await else { panic!("{user}/{device} was let in") };
        assert!(error.is_permanent(), "{error}");
        error.code().unwrap_or_else(|| panic!("{error}"))
    }

    fn options(&self, user: &str, device: &str) -> Options {
        self.server.options(user, device)
    }
}

fn enroll(code: impl Into<String>) -> Login {
    Login::Enroll { code: code.into() }
}

async fn next_text(events: &mut Events) -> String {
    loop {
        match tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("in time") {
            Some(Event::Message(message)) => return message.text().unwrap().to_owned(),
            Some(Event::Stopped(error)) => panic!("{error}"),
            Some(_) => {}
            None => panic!("the end"),
        }
    }
}

async fn stopped_with(events: &mut Events) -> Error {
    loop {
        match tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("in time") {
            Some(Event::Stopped(error)) => return error,
            Some(_) => {}
            None => panic!("the end without a reason"),
        }
    }
}

#[tokio::test]
async fn a_device_enrolled_with_the_operators_code_logs_in_with_its_key_from_then_on() {
    let mut world = World::new().await;
    let (bob, mut to_bob) = world.enrolled("bob", "phone").await;
    let (alice, _) = world.enrolled("alice", "laptop").await;
    alice.send(To::user("bob"), content::text("with a code")).await.unwrap().await.unwrap();
    assert_eq!(next_text(&mut to_bob).await, "with a code");
    alice.close().await.unwrap();

    let (alice, _) = world.connect("alice", "laptop", Login::DeviceKey).await.unwrap();
    let ack = alice.send(To::user("bob"), content::text("with a key")).await.unwrap().await.unwrap();
    assert_eq!((ack.send_id, ack.seq), (2, 2), "it is the same device");
    assert_eq!(next_text(&mut to_bob).await, "with a key");
    alice.close().await.unwrap();
    bob.close().await.unwrap();

    world.server.restart().await;
    let (alice, _) = world.connect("alice", "laptop", enroll("the options may stay as they were")).await.unwrap();
    let ack = alice.send(To::user("bob"), content::text("after a restart")).await.unwrap().await.unwrap();
    assert_eq!(ack.seq, 3);
}

/// LOGIN-4, LOGIN-8.
#[tokio::test]
async fn a_code_that_is_wrong_used_or_too_old_is_refused_and_which_is_not_told() {
    let world = World::new().await;
    let code = world.code("alice").await;
    for wrong in ["", "AAAA-BBBB-CCCC-DDDD", "not a code at all"] {
        assert_eq!(world.refusal("alice", "laptop", enroll(wrong)).await, ErrorCode::LoginFailed, "{wrong:?}");
    }
    assert_eq!(world.refusal("nobody", "laptop", enroll(&*code)).await, ErrorCode::LoginFailed, "another user's");

    let (alice, _) = world.connect("alice", "laptop", enroll(&*code)).await.unwrap();
    alice.close().await.unwrap();
    assert_eq!(world.refusal("alice", "tablet", enroll(&*code)).await, ErrorCode::LoginFailed, "used");

    let added = world.admin.add_code("dev", "alice").await.unwrap();
    world.server.time().advance(Duration::from_secs(u64::from(added.expires_in_s) + 1));
    assert_eq!(world.refusal("alice", "tablet", enroll(added.code)).await, ErrorCode::LoginFailed, "too old");
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_is_refused() {
    let world = World::new().await;
    let (alice, _) = world.enrolled("alice", "laptop").await;
    alice.close().await.unwrap();
    // A state with a key of its own, which a wrong code did not make the server's.
    assert_eq!(world.refusal("alice", "thief", enroll("AAAA-BBBB")).await, ErrorCode::LoginFailed);
    assert_eq!(world.refusal("alice", "thief", Login::DeviceKey).await, ErrorCode::LoginFailed);
    world.connect("alice", "laptop", Login::DeviceKey).await.unwrap();
}

#[tokio::test]
async fn a_message_to_a_user_there_is_not_is_refused_and_the_next_one_goes() {
    let world = World::new().await;
    world.code("bob").await;
    let (alice, _) = world.enrolled("alice", "laptop").await;
    let refused = alice.send(To::user("nobody"), content::text("hello?")).await.unwrap().await;
    let Err(SendError::Refused { send_id, code, retry, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((send_id, code, retry), (1, ErrorCode::NotAccepted.number(), false));
    let ack = alice.send(To::user("bob"), content::text("hello")).await.unwrap().await.unwrap();
    assert_eq!((ack.send_id, ack.seq), (2, 1), "a user without a device is a user");
}

#[tokio::test]
async fn a_device_links_another_one_with_a_code_that_works_once() {
    let world = World::new().await;
    world.code("bob").await;
    let (laptop, _) = world.enrolled("alice", "laptop").await;
    let link = laptop.link_device().await.unwrap();
    assert!(link.expires_in > Duration::ZERO);
    let (_phone, mut to_phone) = world.connect("alice", "phone", enroll(&*link.code)).await.unwrap();
    assert_eq!(world.refusal("alice", "tablet", enroll(&*link.code)).await, ErrorCode::LoginFailed);
    laptop.send(To::user("bob"), content::text("from the laptop")).await.unwrap().await.unwrap();
    assert_eq!(next_text(&mut to_phone).await, "from the laptop", "the other device has a copy");

    let names: Vec<_> = world.admin.list_devices("dev", "alice").await.unwrap();
    let names: Vec<_> = names.iter().map(|device| (device.name.as_str(), device.has_key)).collect();
    assert_eq!(names, [("laptop", true), ("phone", true)]);
}

/// SYNC-7.
#[tokio::test]
async fn a_revoked_device_is_closed_at_once_and_cannot_return() {
    let world = World::new().await;
    let (phone, mut to_phone) = world.enrolled("alice", "phone").await;
    let code = phone.link_device().await.unwrap().code;
    let (laptop, _) = world.connect("alice", "laptop", enroll(code)).await.unwrap();
    world.admin.revoke_device("dev", "alice", "phone").await.unwrap();

    let error = stopped_with(&mut to_phone).await;
    assert_eq!(error.code(), Some(ErrorCode::DeviceExpired), "{error}");
    drop(phone);
    let refusal = world.refusal("alice", "phone", Login::DeviceKey).await;
    assert!(matches!(refusal, ErrorCode::LoginFailed | ErrorCode::DeviceExpired), "{refusal}");
    laptop.send(To::user("alice"), content::text("a note")).await.unwrap().await.expect("the other device stays");
}

#[tokio::test]
async fn a_removed_user_is_closed_at_once_and_unknown_from_then_on() {
    let world = World::new().await;
    let (_bob, mut to_bob) = world.enrolled("bob", "phone").await;
    let (alice, _) = world.enrolled("alice", "laptop").await;
    world.admin.remove_user("dev", "bob").await.unwrap();
    let error = stopped_with(&mut to_bob).await;
    assert!(error.is_permanent(), "{error}");
    let refused = alice.send(To::user("bob"), content::text("still there?")).await.unwrap().await;
    assert!(matches!(refused, Err(SendError::Refused { code: 300, .. })), "{refused:?}");
}

/// LOGIN-3, LOGIN-11.
#[tokio::test]
async fn a_name_alone_does_not_let_anybody_in() {
    let world = World::new().await;
    world.code("alice").await;
    assert_eq!(world.refusal("alice", "laptop", Login::Open).await, ErrorCode::MethodNotAllowed);
    assert_eq!(world.refusal("a stranger", "laptop", Login::Open).await, ErrorCode::MethodNotAllowed);
    assert_eq!(world.admin.all_users("dev").await.unwrap().len(), 1, "a failed login makes no user");
}
