//! What operators do, on the reference store: users, codes, devices.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use postrider::admin::{AppStatus, BackedUp, Code, Fault, Host, Operator, StoreOperator, Vitals};
use postrider::ids::{AppId, DeviceId, Position, UserId};
use postrider::store::memory::Memory;
use postrider::store::{Admission, Attach, Operation, Outcome, commit_and_wait};
use postrider_protocol::error::CodedError;

const APP: AppId = AppId(1);

/// An app with device keys, and a note of whom it was told to disconnect.
struct Fake {
    store: Arc<Memory>,
    gone: Arc<Mutex<Vec<Option<DeviceId>>>>,
}

impl Host for Fake {
    fn app(&self, name: &str) -> Option<AppId> {
        (name == "shop").then_some(APP)
    }
    fn make_code<'a>(&'a self, app: AppId, user: &'a str) -> BoxFuture<'a, Result<Option<Code>, CodedError>> {
        Box::pin(async move {
            let add = Operation::AddCode { app, user: user.to_owned(), hash: [7; 32], expires: 61_000 };
            match self.commit(add).await? {
                Outcome::Done => Ok(Some(Code { code: "CODE".into(), expires_in_s: 60 })),
                Outcome::Refused(refusal) => Err(refusal.into()),
                other => panic!("no code: {other:?}"),
            }
        })
    }
    fn disconnect(&self, _: AppId, _: UserId, device: Option<DeviceId>) {
        self.gone.lock().unwrap().push(device);
    }
    fn commit(&self, operation: Operation) -> BoxFuture<'_, Result<Outcome, CodedError>> {
        Box::pin(async {
            let committed = commit_and_wait(&*self.store, vec![operation]).await.unwrap();
            Ok(committed.outcomes.into_iter().next().unwrap())
        })
    }
    fn back_up<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<BackedUp, Fault>> {
        Box::pin(async { Err(Fault::BackupRefused("a store in memory has no files".into())) })
    }
    fn vitals(&self) -> Vitals {
        Vitals {
            version: "1".into(),
            uptime_s: 2,
            listen: Vec::new(),
            data: "/d".into(),
            connections: 3,
            max_connections: 4,
            apps: vec!["shop".into()],
        }
    }
}

async fn shop() -> (StoreOperator<Fake>, Arc<Memory>, Arc<Mutex<Vec<Option<DeviceId>>>>) {
    let (store, gone) = (Arc::new(Memory::new()), Arc::default());
    let made = commit_and_wait(&*store, vec![Operation::EnsureApp("shop".into())]).await.unwrap();
    assert_eq!(made.outcomes[..], [Outcome::App(APP)]);
    let host = Fake { store: Arc::clone(&store), gone: Arc::clone(&gone) };
    (StoreOperator::new(store.clone(), host), store, gone)
}

async fn enroll(store: &Memory) -> DeviceId {
    let attach = Attach {
        app: APP,
        user: "alice".into(),
        device: "laptop".into(),
        device_id: DeviceId(0),
        cursor: Position(0),
        admission: Admission::Enroll { code_hash: [7; 32], key: [1; 32] },
        now: 1_001,
    };
    let committed = commit_and_wait(store, vec![Operation::Attach(attach)]).await.unwrap();
    match &committed.outcomes[..] {
        [Outcome::Attached(attached)] => attached.device,
        other => panic!("not enrolled: {other:?}"),
    }
}

#[tokio::test]
async fn a_user_is_made_once_and_its_code_enrols_a_device() {
    let (operator, store, _) = shop().await;
    let added = operator.add_user("shop", "alice").await.unwrap();
    assert_eq!((added.created, added.code.unwrap().expires_in_s), (true, 60));
    enroll(&store).await;
    assert!(!operator.add_user("shop", "alice").await.unwrap().created);
    let devices = operator.list_devices("shop", "alice").await.unwrap();
    assert_eq!((devices.len(), devices[0].name.as_str(), devices[0].has_key), (1, "laptop", true));
    assert_eq!(operator.status().await.unwrap().apps, [AppStatus { name: "shop".into(), users: 1 }]);
}

#[tokio::test]
async fn what_is_revoked_or_removed_is_disconnected() {
    let (operator, store, gone) = shop().await;
    operator.add_user("shop", "alice").await.unwrap();
    let device = enroll(&store).await;
    operator.revoke_device("shop", "alice", "laptop").await.unwrap();
    let again = operator.revoke_device("shop", "alice", "laptop").await;
    assert_eq!(again, Err(Fault::UnknownDevice("laptop".into())));
    operator.remove_user("shop", "alice").await.unwrap();
    assert_eq!(operator.remove_user("shop", "alice").await, Err(Fault::UnknownUser("alice".into())));
    assert_eq!(*gone.lock().unwrap(), [Some(device), None]);
}

#[tokio::test]
async fn users_come_in_pages_and_bad_names_do_not_come_at_all() {
    let (operator, _, _) = shop().await;
    for name in ["carol", "alice", "bob"] {
        operator.add_user("shop", name).await.unwrap();
    }
    let page = operator.list_users("shop", "", 2).await.unwrap();
    assert_eq!((page.users.len(), page.users[1].name.as_str(), page.more), (2, "bob", true));
    let page = operator.list_users("shop", "bob", 2).await.unwrap();
    assert_eq!((page.users.len(), page.more), (1, false));
    assert!(matches!(operator.add_user("shop", "a\nb").await, Err(Fault::BadName(_))));
    assert_eq!(operator.list_users("dev", "", 2).await, Err(Fault::UnknownApp("dev".into())));
}
