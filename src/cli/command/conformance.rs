//! `postrider conformance`: tries the specification's rules on a server, or plays a strict server for a client.

mod show;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::listen::seconds;
use crate::cli::contexts::Contexts;
use crate::cli::exit::{EXIT_CODES, Exit, Failure};
use crate::cli::home::Home;
use crate::cli::print;
use crate::cli::signals::Signals;
use crate::cli::target::TargetFlags;
use crate::clock::Clock;
use crate::conformance::report::Report;
use crate::conformance::requirement::{self, Only};
use crate::conformance::server::{self, Options};
use crate::conformance::{ConformanceError, client};

/// Try the specification's rules on a server, or on a client
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub struct Conformance {
    /// Play a strict server, and judge the client that connects to it
    #[arg(long, conflicts_with_all = ["server", "ca", "context", "code", "user"])]
    client: bool,
    /// Where the strict server listens
    #[arg(long, value_name = "ADDR", requires = "client", default_value = "127.0.0.1:7222")]
    listen: String,
    /// Where the strict server keeps its certificates; without it in a temporary directory
    #[arg(long, value_name = "DIR", requires = "client")]
    directory: Option<PathBuf>,
    /// The user that --code enrols a device of
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A fresh enrolment code for --user, for servers that give none to a device that logged in by name
    #[arg(long, value_name = "CODE", requires = "user")]
    code: Option<String>,
    /// How long an answer, or a client, may take
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    patience: Option<Duration>,
    /// Timeouts of the server's that are longer are not waited for
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "15")]
    longest_wait: Duration,
    /// Only what stands for these requirements, such as SEND-4, or these sections, such as LOGIN,FRAME
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = requirement)]
    only: Vec<String>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// Say more: every requirement in its own words
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    target: TargetFlags,
}

/// An id or a section of the specification.
fn requirement(word: &str) -> Result<String, String> {
    let word = word.to_uppercase();
    if !requirement::is_known(&word) {
        return Err("no requirement of SPEC.md; name one, such as SEND-4, or a section, such as SEND".into());
    }
    Ok(word)
}

/// How long a server's answer may take, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client may be away, unless told otherwise.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command; what is broken is told in the report.
pub async fn run(conformance: Conformance) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let judged =
        async { if conformance.client { judge_client(&conformance).await } else { judge_server(&conformance).await } };
    tokio::select! {
        report = judged => conclude(&report?, &conformance),
        _ = signals.next() => Ok(Exit::Interrupted),
    }
}

async fn judge_server(conformance: &Conformance) -> Result<Report, Failure> {
    let context = conformance.target.resolve(&Contexts::of(&Home::find()?))?;
    let code = conformance.user.clone().zip(conformance.code.clone());
    let options = Options {
        server: context.server,
        ca: context.ca,
        app: context.app,
        code,
        patience: conformance.patience.unwrap_or(PATIENCE),
        longest_wait: conformance.longest_wait,
        only: Only::of(conformance.only.iter().cloned()),
    };
    let wanted = server::catalogue().filter(|check| options.only.covers(check.requirements));
    let progress = show::Progress::of(wanted.count());
    let report = server::run(options, Clock::system(), &|name| progress.step(name)).await?;
    progress.end();
    Ok(report)
}

async fn judge_client(conformance: &Conformance) -> Result<Report, Failure> {
    let temporary = match &conformance.directory {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(|error| Failure::other(format!("no temporary directory: {error}")))?),
    };
    let directory = conformance.directory.clone().or_else(|| temporary.as_ref().map(|made| made.path().to_owned()));
    let options = client::Options {
        listen: conformance.listen.clone(),
        directory: directory.unwrap_or_default(),
        app: conformance.target.app.clone().unwrap_or_else(|| "dev".to_owned()),
        patience: conformance.patience.unwrap_or(CLIENT_PATIENCE),
        only: Only::of(conformance.only.iter().cloned()),
    };
    let (app, patience) = (options.app.clone(), options.patience);
    let host = client::Host::bind(options, Clock::system()).await?;
    // Where the report is JSON, stdout is for it alone.
    let say = |line: &str| if conformance.json { print::complain(line) } else { drop(print::line(line)) };
    show::invitation(&host, &app, patience).iter().for_each(|line| say(line));
    let report = host.judge(&|news| say(&show::news(news))).await?;
    Ok(report)
}

fn conclude(report: &Report, conformance: &Conformance) -> Result<Exit, Failure> {
    if conformance.json {
        print::json(report)?;
    } else {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        show::show(report, coloured, conformance.verbose)?;
    }
    Ok(if report.is_clean() { Exit::Ok } else { Exit::Failed })
}

impl From<ConformanceError> for Failure {
    fn from(error: ConformanceError) -> Self {
        let exit = match &error {
            ConformanceError::Unreachable { .. } => Exit::Unreachable,
            ConformanceError::NobodyCame { .. } => Exit::TimedOut,
            ConformanceError::Ca { .. } | ConformanceError::Address { .. } | ConformanceError::Listen { .. } => {
                Exit::Usage
            }
            ConformanceError::Certificate { .. } => Exit::Other,
        };
        Failure::new(exit, error.to_string())
    }
}
