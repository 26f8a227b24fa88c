//! Senders and their recipients, and what they ask of a store.

use std::pin::pin;

use bytes::Bytes;
use futures_util::FutureExt as _;
use postrider::ids::{AppId, DeviceId, Position, SendId};
use postrider::store::{
    Admission, Attach, Attached, Operation, Outcome, Received, Recipient, Send, Store, User, commit_and_wait,
};

pub const APP: AppId = AppId(1);

/// A message's content: 100 bytes.
pub const CONTENT: &[u8] = &[b'x'; 100];

/// Devices that log in with one commit.
const LOGINS: usize = 500;

/// A sender, and whom it writes to.
pub struct Pair {
    pub sender: Attached,
    pub recipient: Attached,
    pub recipient_name: String,
}

/// Runs a future of the store to its end, on this thread. Most are ready at once, and cost no runtime.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    if let Some(ready) = future.as_mut().now_or_never() {
        return ready;
    }
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Makes so many pairs, each device logged in. Recipients are named `<kind>0`, `<kind>1` …
pub fn pairs(store: &dyn Store, kind: &str, count: usize) -> Vec<Pair> {
    wait(commit_and_wait(store, vec![Operation::EnsureApp("bench".into())])).unwrap();
    let names: Vec<String> =
        (0..count).flat_map(|pair| [format!("to-{kind}{pair}"), format!("{kind}{pair}")]).collect();
    let mut attached = Vec::with_capacity(names.len());
    for names in names.chunks(LOGINS) {
        let committed = wait(commit_and_wait(store, names.iter().map(|name| attach(name)).collect())).unwrap();
        attached.extend(committed.outcomes.into_iter().map(|outcome| match outcome {
            Outcome::Attached(attached) => attached,
            other => panic!("no login but {other:?}"),
        }));
    }
    let mut attached = attached.into_iter();
    let mut next = || attached.next().unwrap();
    let pair = |index| Pair { sender: next(), recipient: next(), recipient_name: format!("{kind}{index}") };
    (0..count).map(pair).collect()
}

pub fn attach(user: &str) -> Operation {
    Operation::Attach(Attach {
        app: APP,
        user: user.into(),
        device: "phone".into(),
        device_id: DeviceId(0),
        cursor: Position(0),
        admission: Admission::Open,
        now: 1,
    })
}

impl Pair {
    pub fn send(&self, id: u64) -> Operation {
        Operation::Send(Send {
            app: APP,
            user: self.sender.user,
            device: self.sender.device,
            send_id: SendId(id),
            to: Recipient::User(self.recipient_name.clone()),
            content: Bytes::from_static(CONTENT),
            refuse: None,
            create_recipient: false,
            inbox_limit: 100_000_000,
            now: 1,
        })
    }
}

/// A device has taken everything up to here.
pub fn received(by: &Attached, position: Position) -> Operation {
    Operation::Received(Received { app: APP, user: by.user, device: by.device, position, now: 1 })
}

/// A recipient of [`pairs`], as the store knows it.
pub fn recipient(store: &dyn Store, kind: &str, pair: usize) -> User {
    wait(store.find_user(APP, &format!("{kind}{pair}"))).unwrap().expect("a user who was made before")
}
