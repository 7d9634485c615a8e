//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::operator::OperatorCommand;
use crate::commands::rights::RegistryCommand;
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

/// Where settings come from, besides the defaults and `HPNS_…` variables.
#[derive(Debug, Args)]
pub(crate) struct ConfigOptions {
    /// Configuration file (TOML). Every key with its default: `hpns config reference`.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints every setting with its default and what it means: a configuration file to begin with.
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// Also asks Apple and Google, with a push to a device that does not exist, whether they take the credentials.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hpns import-config /opt/mattermost-push-proxy/config/mattermost-push-proxy.json --output hpns.toml\n  hpns check-config --config hpns.toml --dry-run\n  hpns all --config hpns.toml"
)]
pub(crate) struct ImportOptions {
    /// mattermost-push-proxy's JSON file.
    pub(crate) file: PathBuf,
    /// Where to write the configuration; a file that exists is not touched. Without it, standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AllOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// Also runs the simulator, makes a demo tenant with a licence, and prints what to paste.
    #[arg(long)]
    pub(crate) demo: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RoleOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// Takes from the roles what only the version before needed, and binds the registry to the newest control key. Run it
    /// when no process of the version before, or without that key, is left.
    #[arg(long)]
    pub(crate) finish: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SeedOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// How many tenants to make.
    #[arg(long, default_value_t = 1)]
    pub(crate) tenants: u32,
    /// What their names begin with; a number follows.
    #[arg(long, default_value = "seed-")]
    pub(crate) name: String,
    /// Pushes a second that each licence allows.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u32,
    /// How many devices to spread over them.
    #[arg(long, default_value_t = 0)]
    pub(crate) devices: u32,
    /// Prints no keys.
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateOptions {
    /// Directory for the throw-away CA and credentials.
    #[arg(long, default_value = "var/simulator", value_name = "DIRECTORY")]
    pub(crate) directory: PathBuf,
    /// Control port and page.
    #[arg(long, default_value = "127.0.0.1:8069", value_name = "ADDRESS")]
    pub(crate) control: SocketAddr,
    /// APNs port.
    #[arg(long, default_value = "127.0.0.1:8070", value_name = "ADDRESS")]
    pub(crate) apns: SocketAddr,
    /// Port of FCM and of its token endpoint.
    #[arg(long, default_value = "127.0.0.1:8071", value_name = "ADDRESS")]
    pub(crate) fcm: SocketAddr,
    /// Port of the CONNECT proxy.
    #[arg(long, default_value = "127.0.0.1:8072", value_name = "ADDRESS")]
    pub(crate) proxy: SocketAddr,
    /// Login that the proxy asks for.
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) proxy_login: Option<String>,
    /// Bundle ids that APNs knows.
    #[arg(long, default_values = ["com.example.mm", "com.example.mm.beta"], value_name = "TOPIC")]
    pub(crate) topic: Vec<String>,
    /// Accepts everything, checks and keeps nothing: for benchmarks.
    #[arg(long)]
    pub(crate) accept_all: bool,
    /// How long every answer takes, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(crate) delay_ms: u64,
    /// Round-trip time to the providers: answers and window updates alike arrive so much later.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(crate) rtt_ms: u64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  HPNS_PUSH_URL=http://127.0.0.1:8066/t/KEY hpns send --platform apple_rn-v2 --message 'Hello' < token.txt\n  hpns send --url http://127.0.0.1:8066 --platform android_rn-v2 --type test < token.txt\n\nExit status: 0 for OK, 1 for FAIL or no answer, 3 for REMOVE, 2 for a wrong command line."
)]
pub(crate) struct SendOptions {
    /// The push URL of a service that asks no key. One with a key in it stands in the variable `HPNS_PUSH_URL`: on a command
    /// line other users of the machine would read it. The device token is read from standard input.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Platform name, such as apple_rn-v2 or android_rn-v2.
    #[arg(long)]
    pub(crate) platform: String,
    /// Text to show.
    #[arg(long, default_value = "A test push from hpns")]
    pub(crate) message: String,
    /// Title to show.
    #[arg(long, default_value = "hpns")]
    pub(crate) channel_name: String,
    /// `message`, `clear`, `update_badge`, `session` or `test`.
    #[arg(long = "type", default_value = "message", value_name = "TYPE")]
    pub(crate) kind: String,
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
