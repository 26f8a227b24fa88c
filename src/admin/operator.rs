//! [`Operator`] on a store, with what else it needs of the server behind [`Host`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use postrider_protocol::error::CodedError;
use postrider_protocol::name;

use super::{Added, AppStatus, BackedUp, Code, Device, Fault, Operator, Status, StoreStatus, User, UserPage};
use crate::ids::{AppId, DeviceId, UserId};
use crate::store::{self, Health, Operation, Outcome, Refusal, Store, StoreError};

/// What the rest of the server lends to its operators.
pub trait Host: Send + Sync + 'static {
    /// The number of an app that is configured.
    fn app(&self, name: &str) -> Option<AppId>;
    /// Makes a one-time code for a user there is; none where the app has no use for codes.
    fn make_code<'a>(&'a self, app: AppId, user: &'a str) -> BoxFuture<'a, Result<Option<Code>, CodedError>>;
    /// Ends the connections of a user, or of one device of it, which the store no longer knows.
    fn disconnect(&self, app: AppId, user: UserId, device: Option<DeviceId>);
    /// Commits one operation and publishes what follows from it.
    fn commit(&self, operation: Operation) -> BoxFuture<'_, Result<Outcome, CodedError>>;
    /// Backs up the store, while it works, to a directory that does not exist.
    fn back_up<'a>(&'a self, to: &'a str) -> BoxFuture<'a, Result<BackedUp, Fault>>;
    /// How the server is, but for what the store knows.
    fn vitals(&self) -> Vitals;
}

/// How the server is, but for what the store knows. See [`Status`] for each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Vitals {
    pub version: String,
    pub uptime_s: u64,
    pub listen: Vec<String>,
    pub data: String,
    pub connections: u64,
    pub max_connections: u64,
    /// Names of the apps that are configured.
    pub apps: Vec<String>,
}

/// An [`Operator`] whose truth is the store.
pub struct StoreOperator<H> {
    store: Arc<dyn Store>,
    host: H,
}

impl<H: Host> StoreOperator<H> {
    /// On this store, in this server.
    pub fn new(store: Arc<dyn Store>, host: H) -> Self {
        Self { store, host }
    }

    fn app(&self, name: &str) -> Result<AppId, Fault> {
        self.host.app(name).ok_or_else(|| Fault::UnknownApp(name.to_owned()))
    }

    async fn find(&self, app: AppId, user: &str) -> Result<store::User, Fault> {
        self.store.find_user(app, user).await?.ok_or_else(|| Fault::UnknownUser(user.to_owned()))
    }

    async fn commit(&self, operation: Operation) -> Result<Outcome, Fault> {
        self.host.commit(operation).await.map_err(|error| Fault::StoreUnavailable(error.to_string()))
    }

    async fn make_code(&self, app: AppId, user: &str) -> Result<Option<Code>, Fault> {
        self.host.make_code(app, user).await.map_err(|error| match error.code {
            Refusal::NotAccepted => Fault::UnknownUser(user.to_owned()),
            _ => Fault::StoreUnavailable(error.to_string()),
        })
    }
}

impl From<&Health> for StoreStatus {
    fn from(health: &Health) -> Self {
        match health {
            Health::Writing => StoreStatus::Writing,
            Health::Full(why) => StoreStatus::Full { why: why.clone() },
            Health::Failed(error) => StoreStatus::Failed { why: error.to_string() },
        }
    }
}

impl<H: Host> Operator for StoreOperator<H> {
    fn status(&self) -> BoxFuture<'_, Result<Status, Fault>> {
        Box::pin(async {
            let known = self.store.list_apps().await?;
            let vitals = self.host.vitals();
            let users = |name: &String| known.iter().find(|app| app.name == *name).map_or(0, |app| app.users);
            let apps = vitals.apps.iter().map(|name| AppStatus { name: name.clone(), users: users(name) }).collect();
            Ok(Status {
                version: vitals.version,
                pid: std::process::id(),
                uptime_s: vitals.uptime_s,
                listen: vitals.listen,
                data: vitals.data,
                connections: vitals.connections,
                max_connections: vitals.max_connections,
                store: StoreStatus::from(&*self.store.health().borrow()),
                apps,
            })
        })
    }

    fn add_user<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Added, Fault>> {
        Box::pin(async move {
            let app = self.app(app)?;
            name::check("the user's name", user).map_err(|bad| Fault::BadName(bad.detail))?;
            let created = self.store.find_user(app, user).await?.is_none();
            match self.commit(Operation::AddUser { app, name: user.to_owned() }).await? {
                Outcome::Done => {}
                other => return Err(unexpected(&other)),
            }
            let code = self.make_code(app, user).await?;
            Ok(Added { user: user.to_owned(), created, code })
        })
    }

    fn add_code<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Code, Fault>> {
        Box::pin(async move {
            let id = self.app(app)?;
            self.find(id, user).await?;
            self.make_code(id, user).await?.ok_or_else(|| Fault::CodesNotAllowed(app.to_owned()))
        })
    }

    fn list_users<'a>(&'a self, app: &'a str, after: &'a str, limit: usize) -> BoxFuture<'a, Result<UserPage, Fault>> {
        Box::pin(async move {
            let app = self.app(app)?;
            let mut found = self.store.list_users(app, after, limit + 1).await?;
            let more = found.len() > limit;
            found.truncate(limit);
            let view =
                |user: store::User| User { name: user.name, devices: user.devices.len(), inbox_entries: user.entries };
            Ok(UserPage { users: found.into_iter().map(view).collect(), more })
        })
    }

    fn remove_user<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let app = self.app(app)?;
            let found = self.find(app, user).await?;
            match self.commit(Operation::RemoveUser { app, name: user.to_owned() }).await? {
                Outcome::Done => self.host.disconnect(app, found.id, None),
                Outcome::Refused(_) => return Err(Fault::UnknownUser(user.to_owned())),
                other => return Err(unexpected(&other)),
            }
            Ok(())
        })
    }

    fn list_devices<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Vec<Device>, Fault>> {
        Box::pin(async move {
            let app = self.app(app)?;
            let found = self.find(app, user).await?;
            let head = found.head;
            let view = |device: store::Device| Device {
                name: device.name,
                id: device.id.0,
                has_key: device.key.is_some(),
                cursor: device.cursor.0,
                behind: head.0.saturating_sub(device.cursor.0),
                linked: device.linked,
                seen: device.seen,
            };
            Ok(found.devices.into_iter().map(view).collect())
        })
    }

    fn revoke_device<'a>(&'a self, app: &'a str, user: &'a str, device: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let app = self.app(app)?;
            let found = self.find(app, user).await?;
            let operation = Operation::RevokeDevice { app, user: user.to_owned(), device: device.to_owned() };
            match self.commit(operation).await? {
                Outcome::Revoked(gone) => self.host.disconnect(app, found.id, Some(gone)),
                Outcome::Refused(_) => return Err(Fault::UnknownDevice(device.to_owned())),
                other => return Err(unexpected(&other)),
            }
            Ok(())
        })
    }

    fn back_up<'a>(&'a self, to: &'a str) -> BoxFuture<'a, Result<BackedUp, Fault>> {
        self.host.back_up(to)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::StoreUnavailable(error.to_string())
    }
}

fn unexpected(outcome: &Outcome) -> Fault {
    Fault::Internal(format!("the store answered {outcome:?}"))
}
