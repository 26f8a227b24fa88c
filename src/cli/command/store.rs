//! `postrider store`: the data directory, by the operator's hand.
//!
//! # Layout
//! - this file: what the commands have in common
//! - `verify`, `stats`, `compact`, `backup`, `restore`, `salvage`: one each

mod backup;
mod compact;
mod restore;
mod salvage;
mod stats;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::app::store_tools::Verified;
use crate::cli::exit::{Exit, Failure};
use crate::cli::operator::data_flag;
use crate::cli::print;
use crate::clock::Clock;
use crate::config::{self, Override};

/// The data directory. All but `backup` need the server on it to be stopped.
#[derive(Subcommand, Debug)]
pub enum StoreCommand {
    /// Look at every row: its checksum, and whether it fits the others
    Verify(verify::Verify),
    /// Say where the bytes are
    Stats(stats::Stats),
    /// Give back the space of what is gone
    Compact(compact::Compact),
    /// Copy the store to a new directory, also while the server runs
    Backup(backup::Backup),
    /// Make a data directory from a backup
    Restore(restore::Restore),
    /// Save what is sound of a damaged store into a new one, and say what is not
    Salvage(salvage::Salvage),
}

/// Which data directory.
#[derive(Args, Clone, Debug)]
pub struct Directory {
    /// The data directory, instead of the configured one
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The server's configuration, instead of ./postrider.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Directory {
    fn path(&self) -> Result<PathBuf, Failure> {
        let flags: Vec<Override> = self.directory.iter().map(|data| data_flag(data)).collect();
        Ok(config::load(self.config.as_deref(), &flags)?.config.data)
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(command: StoreCommand) -> Result<Exit, Failure> {
    match command {
        StoreCommand::Verify(verify) => verify::run(&verify),
        StoreCommand::Stats(stats) => stats::run(&stats),
        StoreCommand::Compact(compact) => compact::run(&compact),
        StoreCommand::Backup(backup) => backup::run(backup).await,
        StoreCommand::Restore(restore) => restore::run(&restore),
        StoreCommand::Salvage(salvage) => salvage::run(&salvage),
    }
}

/// Random bytes for a store that is opened.
fn salt() -> u64 {
    u64::from_le_bytes(Clock::system().random_bytes())
}

/// How far a command is, on stderr where that is a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn start(what: &'static str) -> Self {
        let is_drawn = std::io::stderr().is_terminal();
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {human_pos} {elapsed}") {
            bar.set_style(style);
        }
        if is_drawn {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    fn at(&self, count: u64) {
        self.0.set_position(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let unit = (bytes.ilog2() / 10).min(units.len() as u32);
    format!("{:.1} {}", bytes as f64 / 1024_f64.powi(unit as i32), units[unit as usize - 1])
}

/// What a store holds, in lines.
fn show_contents(found: &Verified) -> std::io::Result<()> {
    let Verified { rows, apps, users, devices, conversations, entries, messages, .. } = found;
    print::line(&format!("apps           {apps}"))?;
    print::line(&format!("users          {users} with {devices} devices"))?;
    print::line(&format!("conversations  {conversations}"))?;
    print::line(&format!("inboxes        {entries} entries, {messages} of them messages"))?;
    print::line(&format!("rows           {rows}"))
}

/// Prints an answer: as JSON, or as `show` does it.
fn answer<T: Serialize>(json: bool, answer: &T, show: impl FnOnce(&T) -> std::io::Result<()>) -> Result<(), Failure> {
    let printed = if json { print::json(answer) } else { show(answer) };
    Ok(printed?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let texts = [0, 1023, 1024, 1536 << 10, 5 << 30, 3 << 50].map(size);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB", "3072.0 TiB"]);
    }
}
