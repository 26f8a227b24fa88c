//! Tenants: the apps this server serves and how their users log in.
//!
//! # Layout
//! - [`Tenants`]: the apps by name
//! - [`code`]: one-time enrolment codes
//! - [`proof`]: device keys and their signatures

pub mod code;
pub mod proof;

use std::collections::HashMap;
use std::sync::Arc;

use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::session::server::Method;

use crate::ids::AppId;

/// A way to log in that an app allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginMethod {
    /// Any name, no credential; names exist from their first use.
    Open,
    /// An Ed25519 key per device, enrolled with a one-time code.
    DeviceKey,
}

impl LoginMethod {
    /// The name in configuration and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LoginMethod::Open => "open",
            LoginMethod::DeviceKey => "device-key",
        }
    }

    /// The method that a `Hello` of this kind uses, if it is one that there is.
    const fn of(method: &Method) -> Option<Self> {
        match method {
            Method::Unknown => None,
            Method::Open => Some(LoginMethod::Open),
            Method::DeviceKey | Method::Enroll { .. } => Some(LoginMethod::DeviceKey),
        }
    }
}

/// One app.
#[derive(Debug)]
pub struct Tenant {
    /// Its number in the store.
    pub id: AppId,
    /// Its name.
    pub name: String,
    login: Vec<LoginMethod>,
}

impl Tenant {
    /// An app with the login methods it allows.
    #[must_use]
    pub fn new(id: AppId, name: String, login: Vec<LoginMethod>) -> Self {
        Self { id, name, login }
    }

    /// Whether names exist from their first use.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.login.contains(&LoginMethod::Open)
    }

    /// Whether devices are enrolled with codes.
    #[must_use]
    pub fn enrolls(&self) -> bool {
        self.login.contains(&LoginMethod::DeviceKey)
    }

    /// Checks that the app allows this method (LOGIN-3).
    ///
    /// # Errors
    /// `METHOD_NOT_ALLOWED`, naming those it allows.
    pub fn check_method(&self, method: &Method) -> Result<(), CodedError> {
        let wanted = LoginMethod::of(method);
        if wanted.is_some_and(|wanted| self.login.contains(&wanted)) {
            return Ok(());
        }
        let allowed: Vec<_> = self.login.iter().map(|method| method.name()).collect();
        let detail = format!("this app allows: {}", allowed.join(", "));
        Err(CodedError::with(ErrorCode::MethodNotAllowed, detail))
    }
}

/// Every app of this server, by name. Fixed while the server runs.
#[derive(Debug, Default)]
pub struct Tenants(HashMap<String, Arc<Tenant>>);

impl Tenants {
    /// The apps of a server.
    pub fn new(tenants: impl IntoIterator<Item = Tenant>) -> Self {
        Self(tenants.into_iter().map(|tenant| (tenant.name.clone(), Arc::new(tenant))).collect())
    }

    /// The app of this name.
    ///
    /// # Errors
    /// `UNKNOWN_APP`.
    pub fn find(&self, name: &str) -> Result<Arc<Tenant>, CodedError> {
        self.0.get(name).cloned().ok_or_else(|| ErrorCode::UnknownApp.into())
    }

    /// Every app, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_allows_only_its_own_login_methods_and_says_which() {
        let tenant = Tenant::new(AppId(1), "shop".into(), vec![LoginMethod::DeviceKey]);
        assert!(tenant.check_method(&Method::DeviceKey).is_ok());
        assert!(tenant.check_method(&Method::Enroll { code: String::new(), public_key: [0; 32] }).is_ok());
        let error = tenant.check_method(&Method::Open).expect_err("LOGIN-3");
        assert_eq!(error.code, ErrorCode::MethodNotAllowed);
        assert!(error.detail.contains("device-key"), "{}", error.detail);
    }

    #[test]
    fn an_unknown_app_has_its_own_code() {
        assert_eq!(Tenants::default().find("nope").expect_err("LOGIN-2").code, ErrorCode::UnknownApp);
    }
}
