//! Before the first connection: the state, the key, the task.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use postrider_protocol::limits;
use postrider_protocol::session::client::{Device, Inbox, Outbox};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::commit::Committer;
use super::link::Link;
use super::{COMMANDS, Driver, OTHER_EVENTS, Started};
use crate::events::Taken;
use crate::key::DeviceKey;
use crate::tls::Tls;
use crate::{Change, Error, Login, Options, Owner, QueuedSend, Saved, StateError, StateStore};

/// Loads the state and starts the task.
pub(crate) async fn start(options: Options, store: Box<dyn StateStore>) -> Result<Started, Error> {
    let tls = Tls::new(&options)?;
    let owner = Owner { app: options.app.clone(), user: options.user.clone(), device: options.device.clone() };
    let needs_key = !matches!(options.login, Login::Open);
    let may_make_key = matches!(options.login, Login::Enroll { .. });
    let loaded = tokio::task::spawn_blocking(move || load(store, owner, needs_key, may_make_key)).await;
    let Loaded { store, saved, key } =
        loaded.map_err(|error| Error::Options(format!("the state store failed: {error}")))??;

    let capacity = options.window as usize + OTHER_EVENTS;
    let (sends, new_sends) = mpsc::channel(limits::SEND_WINDOW);
    let (commands, new_commands) = mpsc::channel(COMMANDS);
    let (events, receiver) = mpsc::channel(capacity);
    let (ready, is_ready) = oneshot::channel();
    let taken = Arc::new(Taken::default());
    let unanswered = saved.unanswered.into_iter().map(QueuedSend::into_wire);
    let outbox = Outbox::restore(saved.highest_send_id, unanswered);
    let driver = Driver {
        link: Link::connecting(options.server.clone(), tls.clone(), options.connect_timeout),
        earlier: outbox.highest(),
        cursor: saved.cursor,
        device: Device { outbox, inbox: Inbox::restore(saved.cursor) },
        device_id: saved.device_id,
        durable_device_id: saved.device_id,
        key,
        options,
        tls,
        committer: Committer::new(store),
        backoff: Backoff::default(),
        sends: new_sends,
        commands: new_commands,
        commands_gone: false,
        sends_gone: false,
        events,
        backlog: VecDeque::new(),
        taken: taken.clone(),
        ready: Some(ready),
        caught_up_once: false,
        answers: HashMap::new(),
        links: VecDeque::new(),
        flushes: Vec::new(),
        closing: None,
        started: Instant::now(),
    };
    tokio::spawn(driver.run());
    Ok(Started { sends, commands, events: receiver, taken, ready: is_ready })
}

/// Reads the state, claims it for this device, and sees to it that there is a key where one is needed.
fn load(mut store: Box<dyn StateStore>, owner: Owner, needs_key: bool, may_make_key: bool) -> Result<Loaded, Error> {
    let saved = store.load()?;
    match &saved.owner {
        None => store.commit(&[Change::Owner(owner)])?,
        Some(found) if *found == owner => {}
        Some(found) => {
            let path = |owner: &Owner| format!("{}/{}/{}", owner.app, owner.user, owner.device);
            return Err(StateError::WrongOwner { found: path(found), wanted: path(&owner) }.into());
        }
    }
    let key = match &saved.key {
        Some(key) if needs_key => Some(DeviceKey::load(key)?),
        None if may_make_key => {
            let (pair, key) = DeviceKey::generate()?;
            // Durable before the server learns of it: a key that got lost would take the code with it.
            store.commit(&[Change::Key(key)])?;
            Some(pair)
        }
        None if needs_key => {
            return Err(Error::Options(
                "this client state has no device key; enroll the device with a code first".into(),
            ));
        }
        _ => None,
    };
    Ok(Loaded { store, saved, key })
}

struct Loaded {
    store: Box<dyn StateStore>,
    saved: Saved,
    key: Option<DeviceKey>,
}
