//! The operators' commands: the admin API from a terminal, as tables for people and JSON for scripts.

mod arguments;
mod client;
mod commands;
mod customer_arguments;
mod customers;
mod output;
mod report_files;
mod table;

use std::process::ExitCode;

pub(crate) use arguments::OperatorCommand;

use arguments::Connection;

/// Runs one command against the admin API.
pub(crate) fn run(command: &OperatorCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match commands::run(command).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => match error.downcast_ref::<client::Refused>() {
                Some(refused) => {
                    use std::io::Write;
                    writeln!(std::io::stderr(), "hpns: {error:#}")?;
                    Ok(ExitCode::from(refused.exit_code))
                }
                None => Err(error),
            },
        }
    })
}
