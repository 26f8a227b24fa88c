//! `postrider store salvage`: what is sound of a damaged store.

use std::path::PathBuf;

use clap::Args;

use super::{Progress, answer, salt, show_contents};
use crate::app::store_tools::{self, Loss, Salvaged};
use crate::cli::exit::{Exit, Failure};
use crate::cli::print;

/// Arguments of `store salvage`.
#[derive(Args, Debug)]
pub struct Salvage {
    /// The damaged data directory; it is not changed
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// The data directory to make: it does not exist, or is empty. Takes free space for two copies
    #[arg(value_name = "OUT")]
    to: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub fn run(Salvage { from, to, json }: &Salvage) -> Result<Exit, Failure> {
    let progress = Progress::start("reading rows");
    let salvaged = store_tools::salvage(from, to, salt(), &mut |rows| progress.at(rows))?;
    drop(progress);
    answer(*json, &salvaged, show)?;
    Ok(if salvaged.is_whole() { Exit::Ok } else { Exit::Failed })
}

fn show(salvaged: &Salvaged) -> std::io::Result<()> {
    let Salvaged { found, damage, damage_count, losses, loss_count } = salvaged;
    show_contents(found)?;
    for what in damage {
        print::line(&format!("damaged        {}", print::escape(what)))?;
    }
    for loss in losses {
        print::line(&format!("lost           {}", print::escape(&describe(loss))))?;
    }
    for problem in &found.problems {
        print::line(&format!("problem        {}", print::escape(problem)))?;
    }
    if salvaged.is_whole() {
        return print::line("nothing is lost");
    }
    print::line(&format!("{damage_count} places are damaged, {loss_count} losses are known"))
}

fn describe(Loss { app, user, conversation, what, positions, conversations, .. }: &Loss) -> String {
    let user = user.as_ref().map(|user| format!(", user {user}")).unwrap_or_default();
    let conversation = conversation.map(|id| format!(", conversation {id}")).unwrap_or_default();
    let mut text = format!("app {app}{user}{conversation}: {what}");
    if !positions.is_empty() {
        text += &format!("; at positions {}", ranges(positions));
    }
    for (conversation, numbers) in conversations {
        text += &format!("; among {} of conversation {conversation}", ranges(numbers));
    }
    text
}

/// The first of them, for a person; JSON has all.
fn ranges(ranges: &[(u64, u64)]) -> String {
    let range = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from}–{to}") };
    let mut shown: Vec<String> = ranges.iter().take(20).map(range).collect();
    if ranges.len() > shown.len() {
        shown.push(format!("{} more", ranges.len() - shown.len()));
    }
    shown.join(", ")
}
