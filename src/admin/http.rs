//! Requests in, [`Operator`] calls, answers out.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::{
    Added, BackedUp, Code, Device, Fault, FaultBody, NewBackup, NewUser, Operator, PAGE_USERS, Status, UserPage,
};

/// The largest request body, in bytes: a path and its JSON.
const MAX_BODY_BYTES: usize = 16 * 1024;

type Op = State<Arc<dyn Operator>>;

/// Answers requests until `shutdown`, then finishes what it is at.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: UnixListener,
    operator: Arc<dyn Operator>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, routes(operator)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn routes(operator: Arc<dyn Operator>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/apps/{app}/users", get(list_users).post(add_user))
        .route("/v1/apps/{app}/users/{user}", delete(remove_user))
        .route("/v1/apps/{app}/users/{user}/code", post(add_code))
        .route("/v1/apps/{app}/users/{user}/devices", get(list_devices))
        .route("/v1/apps/{app}/users/{user}/devices/{device}", delete(revoke_device))
        .route("/v1/backup", post(back_up))
        .fallback(async || Fault::BadRequest("there is nothing of this name".into()))
        .method_not_allowed_fallback(async || Fault::BadRequest("this cannot be done to it".into()))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(operator)
}

async fn status(State(operator): Op) -> Result<Json<Status>, Fault> {
    operator.status().await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paging {
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

async fn list_users(
    State(operator): Op,
    Path(app): Path<String>,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<Json<UserPage>, Fault> {
    let Query(Paging { after, limit }) = paging.map_err(|bad| Fault::BadRequest(bad.body_text()))?;
    let limit = limit.unwrap_or(PAGE_USERS).clamp(1, PAGE_USERS);
    operator.list_users(&app, &after, limit).await.map(Json)
}

async fn add_user(
    State(operator): Op,
    Path(app): Path<String>,
    user: Result<Json<NewUser>, JsonRejection>,
) -> Result<Json<Added>, Fault> {
    let Json(NewUser { name }) = user.map_err(|bad| Fault::BadRequest(bad.body_text()))?;
    operator.add_user(&app, &name).await.map(Json)
}

async fn remove_user(State(operator): Op, Path((app, user)): Path<(String, String)>) -> Result<StatusCode, Fault> {
    operator.remove_user(&app, &user).await.map(|()| StatusCode::NO_CONTENT)
}

async fn add_code(State(operator): Op, Path((app, user)): Path<(String, String)>) -> Result<Json<Code>, Fault> {
    operator.add_code(&app, &user).await.map(Json)
}

async fn list_devices(
    State(operator): Op,
    Path((app, user)): Path<(String, String)>,
) -> Result<Json<Vec<Device>>, Fault> {
    operator.list_devices(&app, &user).await.map(Json)
}

async fn revoke_device(
    State(operator): Op,
    Path((app, user, device)): Path<(String, String, String)>,
) -> Result<StatusCode, Fault> {
    operator.revoke_device(&app, &user, &device).await.map(|()| StatusCode::NO_CONTENT)
}

async fn back_up(State(operator): Op, backup: Result<Json<NewBackup>, JsonRejection>) -> Result<Json<BackedUp>, Fault> {
    let Json(NewBackup { to }) = backup.map_err(|bad| Fault::BadRequest(bad.body_text()))?;
    if !std::path::Path::new(&to).is_absolute() {
        return Err(Fault::BadRequest("the path of a backup is absolute".into()));
    }
    operator.back_up(&to).await.map(Json)
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = FaultBody::from(&self);
        let status = StatusCode::from_u16(body.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(body)).into_response()
    }
}
