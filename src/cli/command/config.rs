//! `postrider config`: the server's configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::print;
use crate::config::{self, REFERENCE};

/// The server's configuration.
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Check file and environment, as serve would
    Check(Layers),
    /// Print every value in force, and where it comes from; the output is a configuration itself
    Show(Layers),
    /// Print a configuration with every key, its default and what it means
    Default,
}

/// What to look at, and how to print.
#[derive(Args, Debug)]
pub struct Layers {
    /// The configuration, instead of ./postrider.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub fn run(command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Default => print::line(REFERENCE.trim_end())?,
        ConfigCommand::Check(Layers { config, json }) => {
            let file = config::load(config.as_deref(), &[])?.file;
            if json {
                print::json(&json!({ "ok": true, "file": file }))?;
            } else {
                let what = file.map_or("no file; the environment".to_owned(), |file| file.display().to_string());
                print::line(&format!("{what}: ok"))?;
            }
        }
        ConfigCommand::Show(Layers { config, json }) => show(config, json)?,
    }
    Ok(Exit::Ok)
}

fn show(config: Option<PathBuf>, as_json: bool) -> Result<(), Failure> {
    let values = config::load(config.as_deref(), &[])?.values();
    let lines: Vec<String> = values.iter().map(|(key, value, _)| format!("{key} = {value}")).collect();
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).min(60);
    for (line, (key, value, origin)) in lines.iter().zip(&values) {
        if as_json {
            print::json(&json!({ "key": key, "value": value, "from": origin.to_string() }))?;
        } else {
            print::line(&format!("{line:width$}  # {origin}"))?;
        }
    }
    Ok(())
}
