//! The command line: arguments in, one command run, an exit code out.
//!
//! # Layout
//! - [`command`]: one file a command
//! - [`exit`]: exit codes, and failures as one line
//! - [`mod@print`]: everything that is printed
//! - [`lines`]: events as JSON
//! - [`target`], [`devices`], [`contexts`], [`home`]: from flags to a connected client
//! - [`operator`]: from flags to a running server's socket
//! - [`invocation`]: commands that are printed to be copied
//! - [`signals`]: SIGINT and SIGTERM

pub mod command;
pub mod contexts;
pub mod devices;
pub mod exit;
pub mod home;
pub mod invocation;
pub mod lines;
pub mod operator;
pub mod print;
pub mod signals;
pub mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::{bench, chat, config, conformance, context, device, enroll, listen, send, serve, status, store, user};
use exit::{EXIT_CODES, Exit, Failure};

/// Postrider: a messaging server that never loses what it acked, and its client.
#[derive(Parser, Debug)]
#[command(name = "postrider", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Write messages back and forth in the terminal
    Chat(chat::Chat),
    /// Send messages
    Send(send::Send),
    /// Print what arrives
    Listen(listen::Listen),
    /// Saved servers
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// The server's configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Users of the server that runs here (for operators)
    #[command(subcommand)]
    User(user::UserCommand),
    /// Devices of a user
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Enrol this machine as a device, with a one-time code
    Enroll(enroll::Enroll),
    /// How the server that runs here is (for operators)
    Status(status::StatusCommand),
    /// The data directory: verify, stats, compact, backup, restore, salvage (for operators)
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Load a server, measure it, and audit every message
    Bench(bench::Bench),
    /// Try the specification's rules on a server, or on a client
    Conformance(conformance::Conformance),
}

/// Runs the command that the process's arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let runtime = match runtime(matches!(command, Command::Serve(_) | Command::Bench(_))) {
        Ok(runtime) => runtime,
        Err(error) => return Failure::other(format!("cannot start: {error}")).report(),
    };
    let done = runtime.block_on(dispatch(command));
    // A thread may be waiting for a line on stdin that never comes.
    runtime.shutdown_background();
    match done {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => failure.report(),
    }
}

/// A server and a load generator use every core.
fn runtime(every_core: bool) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if !every_core {
        builder.worker_threads(2);
    }
    builder.enable_all().build()
}

async fn dispatch(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(serve) => serve::run(serve).await,
        Command::Chat(chat) => chat::run(chat).await,
        Command::Send(send) => send::run(send).await,
        Command::Listen(listen) => listen::run(listen).await,
        Command::Context(context) => context::run(context),
        Command::Config(config) => config::run(config),
        Command::User(user) => user::run(user).await,
        Command::Device(device) => device::run(device).await,
        Command::Enroll(enroll) => enroll::run(enroll).await,
        Command::Status(status) => status::run(status).await,
        Command::Store(store) => store::run(store).await,
        Command::Bench(bench) => bench::run(bench).await,
        Command::Conformance(conformance) => conformance::run(conformance).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_documentation_parse() {
        for line in [
            "serve --data d --listen 127.0.0.1:0 --config f --log-format json",
            "chat --user alice",
            "send --user alice --to bob --wait read --json hello",
            "send --user alice --to bob -",
            "listen --user bob --count 3 --read --json --timeout 5 --server h:1 --ca f --app dev",
            "context ls",
            "context save work --server h:1 --ca f --app dev",
            "context use work",
            "config show --json",
            "user add alice --data d",
            "device list alice",
            "device revoke alice cli-1",
            "device link --user alice",
            "enroll --user alice --code ABCD --device laptop",
            "status --json",
            "store verify d --json",
            "store stats --config f",
            "store compact d",
            "store backup b --data d --json",
            "store restore b d",
            "store salvage d out --json",
            "bench pairs --spawn --pairs 200 --window 32 --duration 10s --json",
            "bench rate --server h:1 --ca f --server-pid 7 --rate 2000 --pairs 1000 --fail-if latency_ms.p99>50",
            "conformance --server h:1 --ca f --app dev --only SEND,LOGIN-4 --json",
            "conformance --client --listen 127.0.0.1:0 --directory d --patience 30",
            "bench connect --spawn --connections 5000 --login-rate 500 --resume --source-addresses 2 --users 9000",
            "bench offline --context work --messages 1000 --size 200 --leave",
            "bench fanout --spawn --senders 2 --recipients 100 --window 64",
            "bench reconnect --spawn --connections 19000 --bystanders 20 --login-concurrency 5000 --calm 3s",
            "bench mixed --spawn --users 1000 --messages 40 --comings 6 --contacts 3 --duration 2m",
            "bench soak --spawn --pairs 100 --rate 500 --duration 1h --chaos kill --chaos-every 5s",
            "bench pairs --spawn --processes 2 --servers 2",
            "bench worker",
        ] {
            let words = std::iter::once("postrider").chain(line.split(' '));
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_arguments_exit_as_the_table_says() {
        let error = Arguments::try_parse_from(["postrider", "sned"]).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(Exit::Usage as u8));
    }
}
