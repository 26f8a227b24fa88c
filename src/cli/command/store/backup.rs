//! `postrider store backup`: a copy of the store, from the running server or without one.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Progress, salt, size};
use crate::admin::BackedUp;
use crate::admin::client::AdminError;
use crate::app::store_tools;
use crate::cli::exit::{Exit, Failure};
use crate::cli::operator::{OperatorFlags, data_flag};
use crate::cli::print;
use crate::config::{self, Override};

/// Arguments of `store backup`.
#[derive(Args, Debug)]
pub struct Backup {
    /// The directory to make; it holds secrets, as the data directory does
    #[arg(value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    operator: OperatorFlags,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(Backup { to, operator }: Backup) -> Result<Exit, Failure> {
    let progress = Progress::start("backing up");
    let (made, is_online) = match operator.admin()?.back_up(&to).await {
        Ok(made) => (made, true),
        Err(AdminError::NoServer(_)) => (offline(&to, &operator, &progress)?, false),
        Err(error) => return Err(error.into()),
    };
    drop(progress);
    let BackedUp { rows, segments, bytes } = made;
    if operator.json {
        let line = json!({ "to": to, "rows": rows, "segments": segments, "bytes": bytes, "online": is_online });
        print::json(&line)?;
    } else {
        let from = if is_online { "the running server" } else { "the stopped store" };
        print::line(&format!("backup  {}, from {from}", print::escape(&to.display().to_string())))?;
        print::line(&format!("has     {rows} rows and {segments} journal segments, {}", size(bytes)))?;
    }
    Ok(Exit::Ok)
}

fn offline(to: &std::path::Path, operator: &OperatorFlags, progress: &Progress) -> Result<BackedUp, Failure> {
    let flags: Vec<Override> = operator.data.iter().map(|data| data_flag(data)).collect();
    let data = config::load(operator.config.as_deref(), &flags)?.config.data;
    let made = store_tools::back_up(&data, to, salt(), &mut |rows| progress.at(rows))?;
    Ok(BackedUp { rows: made.rows, segments: made.segments, bytes: made.bytes })
}
