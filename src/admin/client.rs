//! The other end of the socket, for our own commands.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Added, BackedUp, Code, Device, FaultBody, NewBackup, NewUser, PAGE_USERS, Status, User, UserPage, socket};

/// The largest answer that is taken, in bytes: a page of users with room to spare.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// What may stand in a path as it is. No dot: a user may be named `..`.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Speaks to the server that runs on a data directory, one connection a request.
#[derive(Clone, Debug)]
pub struct Admin {
    data: PathBuf,
}

/// Why a request was not done, in one line.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no socket, or nobody behind it.
    #[error("no server runs on data directory {0}; start it with `postrider serve --data {0}`, or give --data")]
    NoServer(String),
    /// The socket belongs to somebody else.
    #[error("data directory {0} belongs to another user; run this as the user who runs the server")]
    NotOwner(String),
    /// The server refused.
    #[error("{}", .0.detail)]
    Fault(FaultBody),
    /// The conversation broke off.
    #[error("the server did not answer: {0}; its log may say why")]
    Broken(String),
}

impl Admin {
    /// For the server on this data directory.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self { data: std::path::absolute(data).unwrap_or_else(|_| data.to_owned()) }
    }

    /// How the server is.
    ///
    /// # Errors
    /// [`AdminError`], as every request here.
    pub async fn status(&self) -> Result<Status, AdminError> {
        self.ask(Method::GET, "/v1/status".into(), None::<()>).await
    }

    /// Makes a user, or finds it, with a code.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn add_user(&self, app: &str, user: &str) -> Result<Added, AdminError> {
        self.ask(Method::POST, users(app), Some(NewUser { name: user.to_owned() })).await
    }

    /// Another code for a user there is.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn add_code(&self, app: &str, user: &str) -> Result<Code, AdminError> {
        self.ask(Method::POST, format!("{}/code", one_user(app, user)), None::<()>).await
    }

    /// Every user after `after`, a page at a time.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn list_users(&self, app: &str, after: &str) -> Result<UserPage, AdminError> {
        let path = format!("{}?after={}&limit={PAGE_USERS}", users(app), encode(after));
        self.ask(Method::GET, path, None::<()>).await
    }

    /// Every user of the app, in the order of their names.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn all_users(&self, app: &str) -> Result<Vec<User>, AdminError> {
        let mut all: Vec<User> = Vec::new();
        loop {
            let after = all.last().map(|user| user.name.clone()).unwrap_or_default();
            let page = self.list_users(app, &after).await?;
            let done = !page.more || page.users.is_empty();
            all.extend(page.users);
            if done {
                return Ok(all);
            }
        }
    }

    /// Removes a user with everything that is theirs.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn remove_user(&self, app: &str, user: &str) -> Result<(), AdminError> {
        self.ask(Method::DELETE, one_user(app, user), None::<()>).await
    }

    /// A user's devices.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn list_devices(&self, app: &str, user: &str) -> Result<Vec<Device>, AdminError> {
        self.ask(Method::GET, format!("{}/devices", one_user(app, user)), None::<()>).await
    }

    /// Revokes a device.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn revoke_device(&self, app: &str, user: &str, device: &str) -> Result<(), AdminError> {
        let path = format!("{}/devices/{}", one_user(app, user), encode(device));
        self.ask(Method::DELETE, path, None::<()>).await
    }

    /// Backs up the store to a directory that does not exist; returns when it is made.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn back_up(&self, to: &Path) -> Result<BackedUp, AdminError> {
        let to = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
        let Some(to) = to.to_str() else { return Err(broken("the path of a backup must be UTF-8")) };
        self.ask(Method::POST, "/v1/backup".into(), Some(NewBackup { to: to.to_owned() })).await
    }

    async fn ask<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Option<B>,
    ) -> Result<T, AdminError> {
        let stream = socket::connect(&self.data).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let json = match &body {
            Some(body) => serde_json::to_vec(body).map_err(broken)?,
            None => Vec::new(),
        };
        let mut request = Request::builder().method(method).uri(path).header("host", "postrider");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(json))).map_err(broken)?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(broken)?.to_bytes();
        driver.abort();
        if !status.is_success() {
            return Err(AdminError::Fault(serde_json::from_slice(&bytes).map_err(broken)?));
        }
        // An answer without content reads as `null`, which is how `()` is written.
        serde_json::from_slice(if bytes.is_empty() { b"null" } else { &bytes }).map_err(broken)
    }

    fn unreachable(&self, error: &io::Error) -> AdminError {
        let data = self.data.display().to_string();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AdminError::NoServer(data),
            io::ErrorKind::PermissionDenied => AdminError::NotOwner(data),
            _ => broken(error),
        }
    }
}

impl From<hyper::Error> for AdminError {
    fn from(error: hyper::Error) -> Self {
        broken(error)
    }
}

fn broken(error: impl std::fmt::Display) -> AdminError {
    AdminError::Broken(error.to_string())
}

fn encode(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

fn users(app: &str) -> String {
    format!("/v1/apps/{}/users", encode(app))
}

fn one_user(app: &str, user: &str) -> String {
    format!("{}/{}", users(app), encode(user))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::BoxFuture;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::admin::{AppStatus, Fault, Operator, StoreStatus};

    /// Says back what it was asked, and knows three users.
    #[derive(Default)]
    struct Fake {
        asked: Mutex<Vec<String>>,
    }

    impl Fake {
        fn note<T: Send + 'static>(&self, what: String, answer: Result<T, Fault>) -> BoxFuture<'_, Result<T, Fault>> {
            self.asked.lock().unwrap().push(what);
            Box::pin(async { answer })
        }
    }

    impl Operator for Fake {
        fn status(&self) -> BoxFuture<'_, Result<Status, Fault>> {
            self.note("status".into(), Ok(a_status()))
        }
        fn add_user<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Added, Fault>> {
            let code = Some(Code { code: "ABCD-EFGH".into(), expires_in_s: 600 });
            self.note(format!("add {app} {user}"), Ok(Added { user: user.into(), created: true, code }))
        }
        fn add_code<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Code, Fault>> {
            self.note(format!("code {app} {user}"), Err(Fault::CodesNotAllowed(app.into())))
        }
        fn list_users<'a>(
            &'a self,
            app: &'a str,
            after: &'a str,
            limit: usize,
        ) -> BoxFuture<'a, Result<UserPage, Fault>> {
            let names = ["alice", "bob & co", "zoë"].into_iter().filter(|name| *name > after).take(limit.min(2));
            let users: Vec<User> = names.map(|name| User { name: name.into(), devices: 1, inbox_entries: 0 }).collect();
            let more = users.len() == 2;
            self.note(format!("list {app} after {after:?}"), Ok(UserPage { users, more }))
        }
        fn remove_user<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
            self.note(format!("remove {app} {user}"), Ok(()))
        }
        fn list_devices<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Vec<Device>, Fault>> {
            self.note(format!("devices {app} {user}"), Err(Fault::UnknownUser(user.into())))
        }
        fn revoke_device<'a>(
            &'a self,
            app: &'a str,
            user: &'a str,
            device: &'a str,
        ) -> BoxFuture<'a, Result<(), Fault>> {
            self.note(format!("revoke {app} {user} {device}"), Ok(()))
        }
        fn back_up<'a>(&'a self, to: &'a str) -> BoxFuture<'a, Result<BackedUp, Fault>> {
            self.note(format!("back up {to}"), Ok(BackedUp { rows: 3, segments: 1, bytes: 9 }))
        }
    }

    fn a_status() -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 7,
            uptime_s: 61,
            listen: vec!["127.0.0.1:7222".into()],
            data: "/d".into(),
            connections: 3,
            max_connections: 100,
            store: StoreStatus::Full { why: "no space".into() },
            apps: vec![AppStatus { name: "dev".into(), users: 3 }],
        }
    }

    struct Running {
        admin: Admin,
        fake: Arc<Fake>,
        data: tempfile::TempDir,
        shutdown: CancellationToken,
        server: tokio::task::JoinHandle<io::Result<()>>,
    }

    fn run() -> Running {
        let data = tempfile::tempdir().unwrap();
        let (fake, shutdown) = (Arc::new(Fake::default()), CancellationToken::new());
        let listener = socket::bind(data.path()).unwrap();
        let server = tokio::spawn(crate::admin::serve(listener, fake.clone(), shutdown.clone()));
        Running { admin: Admin::new(data.path()), fake, data, shutdown, server }
    }

    #[tokio::test]
    async fn every_request_reaches_the_operator_with_its_names_whole() {
        let Running { admin, fake, shutdown, server, data: _data } = run();
        assert_eq!(admin.status().await.unwrap(), a_status());
        let added = admin.add_user("dev", "zoë/../?x").await.unwrap();
        assert_eq!(added.code.unwrap().code, "ABCD-EFGH");
        admin.remove_user("dev", "..").await.unwrap();
        admin.revoke_device("dev", "a b", "%2e").await.unwrap();
        assert_eq!(admin.back_up(Path::new("/b a c/k")).await.unwrap().rows, 3);
        let asked = std::mem::take(&mut *fake.asked.lock().unwrap());
        assert_eq!(asked, ["status", "add dev zoë/../?x", "remove dev ..", "revoke dev a b %2e", "back up /b a c/k"]);
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn users_are_listed_page_by_page() {
        let running = run();
        let names: Vec<_> = running.admin.all_users("dev").await.unwrap().into_iter().map(|user| user.name).collect();
        assert_eq!(names, ["alice", "bob & co", "zoë"]);
        assert_eq!(*running.fake.asked.lock().unwrap(), ["list dev after \"\"", "list dev after \"bob & co\""]);
    }

    #[tokio::test]
    async fn faults_come_back_with_code_name_and_detail() {
        let running = run();
        let Err(AdminError::Fault(fault)) = running.admin.list_devices("dev", "bob").await else { panic!("a fault") };
        assert_eq!((fault.code, fault.name.as_str()), (404, "UNKNOWN_USER"));
        assert_eq!(fault.detail, "there is no user named \"bob\"");
        let Err(AdminError::Fault(fault)) = running.admin.add_code("dev", "bob").await else { panic!("a fault") };
        assert_eq!((fault.code, fault.name.as_str()), (409, "CODES_NOT_ALLOWED"));
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered_in_json_too() {
        let running = run();
        for (method, path) in [(Method::GET, "/v2"), (Method::PUT, "/v1/status"), (Method::POST, "/v1/apps/dev/users")]
        {
            let answer: Result<(), _> = running.admin.ask(method, path.into(), None::<()>).await;
            let Err(AdminError::Fault(fault)) = answer else { panic!("a fault for {path}") };
            assert_eq!(fault.name, "BAD_REQUEST", "{path}");
        }
    }

    #[tokio::test]
    async fn without_a_server_the_way_to_start_it_is_told() {
        let data = tempfile::tempdir().unwrap();
        let error = Admin::new(data.path()).status().await.unwrap_err().to_string();
        let path = data.path().display();
        assert_eq!(
            error,
            format!(
                "no server runs on data directory {path}; start it with `postrider serve --data {path}`, or give --data"
            )
        );
    }

    #[test]
    fn a_code_is_not_shown_in_debug_output() {
        assert!(!format!("{:?}", Code { code: "SECRET".into(), expires_in_s: 1 }).contains("SECRET"));
    }
}
