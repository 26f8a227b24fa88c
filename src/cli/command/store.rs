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
    ///
    /// The server must be stopped. What the journal has is moved to sled first. Exits with 7 when something is wrong, or when
    /// the store does not open for damage: then a line says what it is, and there is no JSON. If you think that it is damaged,
    /// verify a copy: whoever opens sled's files, has it cut them off at the first place that is not what it wrote.
    Verify(verify::Verify),
    /// Say where the bytes are
    ///
    /// Rows by app and table, and files. The server must be stopped. What the journal has is moved to sled first, if there is
    /// room.
    Stats(stats::Stats),
    /// Give back the space of what is gone
    ///
    /// The server must be stopped. What is alive is copied to new files, which take the place of the old ones at once: takes
    /// free space for the copy, and may be interrupted at any time.
    Compact(compact::Compact),
    /// Copy the store to a new directory, also while the server runs
    ///
    /// All that was acked before is in it, and the certificates and keys are: it is as secret as the data directory. On the
    /// store's own disk it ends before it takes the space that the store needs.
    Backup(backup::Backup),
    /// Make a data directory from a backup
    ///
    /// It is verified first, and exits with 7 when the backup is damaged. Nothing is written over.
    Restore(restore::Restore),
    /// Save what is sound of a damaged store into a new one, and say what is not
    ///
    /// Prefer a backup, if it is not old. Takes free space for two copies; the damaged store is not changed. Senders are told
    /// that what is lost has expired, up to where it may have been: some of what they see as expired may still arrive, and
    /// nothing that is lost is ever called delivered. Exits with 7 when something is lost or damaged.
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

/// How progress is drawn before there is a count (a running server gives none), and then.
const BEGUN: &str = "{spinner} {msg} {elapsed}";
const COUNTED: &str = "{spinner} {msg} {human_pos} {elapsed}";

/// How far a command is, on stderr where that is a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn start(what: &'static str) -> Self {
        let is_drawn = std::io::stderr().is_terminal();
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(what);
        if let Ok(style) = ProgressStyle::with_template(BEGUN) {
            bar.set_style(style);
        }
        if is_drawn {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    fn at(&self, count: u64) {
        if let (true, Ok(style)) = (self.0.position() == 0, ProgressStyle::with_template(COUNTED)) {
            self.0.set_style(style);
        }
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
