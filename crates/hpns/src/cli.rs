//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::commands::check::CheckOptions;
use crate::commands::import::ImportOptions;
use crate::commands::migrate::MigrateOptions;
use crate::commands::operator::OperatorCommand;
use crate::commands::rights::RegistryCommand;
use crate::commands::seed::SeedOptions;
use crate::commands::send::SendOptions;
use crate::commands::simulate::SimulateOptions;
use crate::config::{ConfigOptions, RoleOptions};
use crate::keyfile::KeysCommand;
use crate::lanes::NewKeyOptions;

/// Hosted push notification service: customers' servers push through it to Apple and Google.
#[derive(Debug, Parser)]
#[command(name = "hpns", disable_version_flag = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs every role in one process, without Postgres or Redis.
    All(AllOptions),
    /// Takes customers' pushes, and hands them to workers through the lanes (dispatch.lanes).
    Gateway(RoleOptions),
    /// Delivers what gateways hand over. The only role that needs the apps' credentials.
    Worker(RoleOptions),
    /// Serves operators: the admin API and the console.
    Admin(RoleOptions),
    /// Brings the registry's schema up to date. Run it before a new version's other roles.
    Migrate(MigrateOptions),
    /// Whether the registry is as this service wrote it.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// The service's own keys, by purpose.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Makes a new line for the key ring of the lanes.
    NewKey(NewKeyOptions),
    /// Runs an APNs and FCM simulator with a page that shows what arrives.
    Simulate(SimulateOptions),
    /// Checks a configuration and its credentials, and starts nothing.
    CheckConfig(CheckOptions),
    /// Shows what can be configured.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Turns a mattermost-push-proxy configuration into one of ours, and says what it could not carry over.
    ImportConfig(ImportOptions),
    /// Makes tenants with a licence each, and devices, and prints the keys: for tests, demos and benchmarks.
    Seed(SeedOptions),
    /// Sends one push to a push URL, and shows the answer and how long each part took.
    Send(SendOptions),
    /// Gives a security admin's token to who holds the registry: the first one, or a new one after all are lost.
    FirstToken(RoleOptions),
    /// Prints the completion of a shell: bash, zsh, fish, elvish or powershell.
    Completion {
        /// Which one.
        shell: clap_complete::Shell,
    },
    /// Shows the version and the commit.
    Version,
    #[command(flatten)]
    Operator(OperatorCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints every setting with its default and what it means: a configuration file to begin with.
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct AllOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// Also runs the simulator, makes a demo tenant with a licence, and prints what to paste.
    #[arg(long)]
    pub(crate) demo: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Words in the names of arguments that hold a secret, and the arguments of these names that hold none.
    const SECRETS: [&str; 6] = ["token", "key", "password", "secret", "login", "device"];
    const HARMLESS: [&str; 5] = [
        "token-file",
        "key-id", // Apple's public name of a key.
        "key-file",
        "devices",     // A count.
        "proxy-login", // Of a simulator: it guards nothing.
    ];

    fn arguments(command: &clap::Command, found: &mut Vec<String>) {
        let own = command.get_arguments().filter(|it| !it.is_positional());
        found.extend(own.filter_map(|it| it.get_long().map(str::to_owned)));
        command.get_subcommands().for_each(|it| arguments(it, found));
    }

    #[test]
    fn no_secret_can_stand_on_a_command_line() {
        let mut found = Vec::new();
        arguments(&Cli::command(), &mut found);
        let secret = |name: &&String| SECRETS.iter().any(|word| name.contains(word));
        let mut wrong: Vec<_> =
            found.iter().filter(secret).filter(|it| !HARMLESS.contains(&it.as_str())).collect();
        wrong.sort_unstable();
        wrong.dedup();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn no_two_options_of_a_command_have_one_name() {
        Cli::command().debug_assert();
    }
}
