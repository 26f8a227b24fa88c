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
use crate::conformance::server::{self, Only, Options};
use crate::conformance::{ConformanceError, client};

/// Try the specification's rules on a server, or on a client
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub struct Conformance {
    /// Play a strict server, and judge the client that connects to it
    #[arg(long, conflicts_with_all = ["server", "ca", "context", "code", "longest_wait"])]
    client: bool,
    /// Where the strict server listens
    #[arg(long, value_name = "ADDR", requires = "client", default_value = "127.0.0.1:7222")]
    listen: String,
    /// Where the strict server keeps its certificates; without it in a temporary directory
    #[arg(long, value_name = "DIR", requires = "client")]
    directory: Option<PathBuf>,
    /// With --code: a user of the server; with --client: as whom the client logs in
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
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with = "client")]
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

/// How long a server's answer may take, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command; what is broken is told in the report.
pub async fn run(conformance: Conformance) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let judged = async {
        if conformance.client { judge_client(&conformance).await } else { judge_server(&conformance).await }
    };
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
        only: Only::of(conformance.only.iter().map(|word| word.to_uppercase())),
    };
    let progress = show::Progress::of(server::catalogue().count());
    let report = server::run(options, Clock::system(), &|name| progress.step(name)).await?;
    progress.end();
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
