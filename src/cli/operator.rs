//! The flags of operator commands: which running server, and which of its apps.

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::Failure;
use crate::admin::client::Admin;
use crate::config::{self, Config, Override};

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
    /// The server's socket, and its configuration as far as it is known here.
    ///
    /// # Errors
    /// When the configuration is not right.
    pub fn admin(&self) -> Result<(Admin, Config), Failure> {
        let flags: Vec<Override> = self.data.iter().map(|data| data_flag(data)).collect();
        let config = config::load(self.config.as_deref(), &flags)?.config;
        Ok((Admin::new(&config.data), config))
    }
}

/// Which of its apps.
#[derive(Args, Clone, Debug)]
pub struct AppFlag {
    /// The app; not needed where only one is configured
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
}

impl AppFlag {
    /// The app that is meant.
    ///
    /// # Errors
    /// When there are several and none is named.
    pub fn choose(&self, config: &Config) -> Result<String, Failure> {
        match (&self.app, config.app.as_slice()) {
            (Some(app), _) => Ok(app.clone()),
            (None, [only]) => Ok(only.name.clone()),
            (None, apps) => {
                let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
                Err(Failure::usage(format!("there are several apps; say which with --app: {}", names.join(", "))))
            }
        }
    }
}

/// `--data` as a layer of the configuration.
pub fn data_flag(data: &Path) -> Override {
    Override { key: "data", flag: "--data", value: toml::Value::from(data.to_string_lossy().into_owned()) }
}
