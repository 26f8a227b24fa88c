//! `postrider context`: saved servers.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::contexts::{Context, Contexts};
use crate::cli::exit::{Exit, Failure};
use crate::cli::home::Home;
use crate::cli::print;
use crate::cli::target::TargetFlags;

/// Saved servers.
#[derive(Subcommand, Debug)]
pub enum ContextCommand {
    /// List the contexts; the current one has a star
    Ls(Json),
    /// Show one, or the current one
    Show(Show),
    /// Make one current
    Use(Named),
    /// Save one, or change it; the first one becomes current
    Save(Save),
    /// Remove one
    Rm(Named),
}

/// How to print.
#[derive(Args, Debug)]
pub struct Json {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// One context, or the current one.
#[derive(Args, Debug)]
pub struct Show {
    /// The context's name
    name: Option<String>,
    #[command(flatten)]
    json: Json,
}

/// One context.
#[derive(Args, Debug)]
pub struct Named {
    /// The context's name
    name: String,
    #[command(flatten)]
    json: Json,
}

/// What to save.
#[derive(Args, Debug)]
pub struct Save {
    /// The context's name
    name: String,
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    json: Json,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub fn run(command: ContextCommand) -> Result<Exit, Failure> {
    let contexts = Contexts::of(&Home::find()?);
    match command {
        ContextCommand::Ls(Json { json }) => list(&contexts, json)?,
        ContextCommand::Show(Show { name, json }) => {
            let name = name.or_else(|| contexts.current()).ok_or_else(|| {
                Failure::usage("no context is current; `postrider context ls` lists them, `context use NAME` chooses")
            })?;
            show(&contexts, &name, json.json)?;
        }
        ContextCommand::Use(Named { name, json }) => {
            contexts.choose(&name)?;
            show(&contexts, &name, json.json)?;
        }
        ContextCommand::Save(Save { name, target, json }) => {
            let context = target.resolve(&contexts)?;
            if !context.ca.is_file() {
                return Err(Failure::usage(format!("there is no file {}; --ca names it", context.ca.display())));
            }
            contexts.save(&name, &context)?;
            show(&contexts, &name, json.json)?;
        }
        ContextCommand::Rm(Named { name, json }) => {
            contexts.remove(&name)?;
            if json.json {
                print::json(&json!({ "name": name, "removed": true }))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn list(contexts: &Contexts, as_json: bool) -> Result<(), Failure> {
    let current = contexts.current();
    let mut rows = Vec::new();
    for name in contexts.names()? {
        if as_json {
            show(contexts, &name, true)?;
            continue;
        }
        let star = if current.as_deref() == Some(&name) { "*" } else { "" };
        let Context { server, ca, app } = contexts.load(&name)?;
        rows.push([star.to_owned(), name, server, app, ca.display().to_string()]);
    }
    if !as_json {
        print::table(["", "NAME", "SERVER", "APP", "CA"], &rows)?;
    }
    Ok(())
}

fn show(contexts: &Contexts, name: &str, as_json: bool) -> Result<(), Failure> {
    let Context { server, ca, app } = contexts.load(name)?;
    let current = contexts.current().as_deref() == Some(name);
    if as_json {
        print::json(&json!({ "name": name, "server": server, "ca": ca, "app": app, "current": current }))?;
    } else {
        print::line(&format!("context  {name}{}", if current { "  (current)" } else { "" }))?;
        print::line(&format!("server   {server}"))?;
        print::line(&format!("ca       {}", ca.display()))?;
        print::line(&format!("app      {app}"))?;
    }
    Ok(())
}
