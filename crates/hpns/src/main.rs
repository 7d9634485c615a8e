//! `hpns`: the one binary. Reads the command line, and runs what it asks for.

mod apps;
mod cli;
mod commands;
mod config;
mod demo;
mod expiry;
mod hardening;
mod keyfile;
mod lanes;
mod listener_tls;
mod outbound;
mod registry;
mod secret_file;
mod serve;
mod signals;
#[cfg(test)]
mod simulation;
mod telemetry;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, ConfigCommand};
use crate::commands::{check, import, migrate, operator, rights, seed, send, simulate};
use crate::serve::Role;

/// A push allocates some dozens of times: ADR 23.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    hardening::private_files();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hpns: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::All(options) => serve::run(Role::All, &options.config, options.demo)?,
        Command::Gateway(options) => serve::run(Role::Gateway, &options.config, false)?,
        Command::Admin(options) => serve::run(Role::Admin, &options.config, false)?,
        Command::Worker(options) => serve::run(Role::Worker, &options.config, false)?,
        Command::Migrate(options) => migrate::migrate(&options)?,
        Command::Registry(command) => return rights::run(&command),
        Command::Keys(command) => keyfile::run(&command)?,
        Command::Operator(command) => return operator::run(&command),
        Command::FirstToken(options) => migrate::first_token(&options)?,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "hpns", &mut std::io::stdout());
        }
        Command::NewKey(options) => lanes::print_key(&options)?,
        Command::Simulate(options) => simulate::run(options)?,
        Command::CheckConfig(options) => return check::run(&options),
        Command::Config(ConfigCommand::Reference) => {
            std::io::stdout().write_all(config::DEFAULTS.as_bytes())?;
        }
        Command::ImportConfig(options) => import::run(&options)?,
        Command::Seed(options) => seed::run(&options)?,
        Command::Send(options) => return send::run(options),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            writeln!(std::io::stdout(), "hpns {version} ({})", env!("BUILD_COMMIT"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
