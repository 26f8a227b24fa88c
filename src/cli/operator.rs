//! The flags of operator commands: which running server, and which of its apps.

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::Failure;
use crate::admin::AppStatus;
use crate::admin::client::Admin;
use crate::config::{self, Override};

/// Which running server.
#[derive(Args, Clone, Debug)]
pub struct OperatorFlags {
    /// The server's data directory, instead of the configured one
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The server's configuration, instead of ./postrider.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

impl OperatorFlags {
    /// The server's socket.
    ///
    /// # Errors
    /// When the configuration is not right.
    pub fn admin(&self) -> Result<Admin, Failure> {
        let flags: Vec<Override> = self.data.iter().map(|data| data_flag(data)).collect();
        let config = config::load(self.config.as_deref(), &flags)?.config;
        Ok(Admin::new(&config.data))
    }
}

/// Which of its apps.
#[derive(Args, Clone, Debug)]
pub struct AppFlag {
    /// The app; not needed where the server has only one
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
}

impl AppFlag {
    /// The app that is meant: the one named, or the running server's only one.
    ///
    /// # Errors
    /// When there are several and none is named, or the server cannot be asked.
    pub async fn choose(&self, admin: &Admin) -> Result<String, Failure> {
        match &self.app {
            Some(app) => Ok(app.clone()),
            None => the_only_one(admin.status().await?.apps),
        }
    }
}

fn the_only_one(apps: Vec<AppStatus>) -> Result<String, Failure> {
    let mut names: Vec<String> = apps.into_iter().map(|app| app.name).collect();
    match (names.pop(), names.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            names.extend(last);
            Err(Failure::usage(format!("the server has several apps; say which with --app: {}", names.join(", "))))
        }
    }
}

/// `--data` as a layer of the configuration.
pub fn data_flag(data: &Path) -> Override {
    Override { key: "data", flag: "--data", value: toml::Value::from(data.to_string_lossy().into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_need_not_be_named_where_there_is_only_one() {
        let app = |name: &str| AppStatus { name: name.into(), users: 0 };
        assert_eq!(the_only_one(vec![app("dev")]).unwrap(), "dev");
        let failure = the_only_one(vec![app("a"), app("b")]).unwrap_err();
        assert_eq!(failure.message, "the server has several apps; say which with --app: a, b");
    }
}
