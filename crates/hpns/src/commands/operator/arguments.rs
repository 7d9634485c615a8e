//! Command-line arguments of the operators' commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::customer_arguments::{KeyCommand, LicenceCommand, ServerCommand, TenantCommand};
use crate::commands::app_files::{AddOptions, RemoveOptions};
use crate::config::RoleOptions;

/// Where the admin API is, and who asks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The admin API.
    #[arg(
        long,
        env = "HPNS_ADMIN_URL",
        default_value = "http://127.0.0.1:8067",
        global = true,
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// A file with the admin token; without it, the token stands in the variable `HPNS_ADMIN_TOKEN`. (On a command line other
    /// users of the machine would read it.)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The certificate (PEM) of the API's authority, if it is one of your own.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Sends the token over plain HTTP to another machine.
    #[arg(long, global = true)]
    pub(crate) plain_http: bool,
    /// Prints what the API says, in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

const EXITS: &str = "Exit status: 0 done, 1 the API cannot be reached or has a fault, 2 a wrong command line, \
                     3 no such thing, 4 not allowed, 5 refused (a rule, a conflict, or changed in the meantime; a test push; no yes), \
                     6 the audit log is broken.";

/// A group of commands, and where they go.
#[derive(Debug, Args)]
#[command(after_help = EXITS)]
pub(crate) struct Operate<T: Subcommand> {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: T,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// The service at a glance, and what to look at.
    Status(Connection),
    /// Customers of the service.
    Tenant(Operate<TenantCommand>),
    /// Tenants' rights to push.
    Licence(Operate<LicenceCommand>),
    /// Licence keys.
    Key(Operate<KeyCommand>),
    /// Servers that licences are bound to.
    Server(Operate<ServerCommand>),
    /// Devices.
    Device(Operate<DeviceCommand>),
    /// Apps and their credentials' health.
    App(Operate<AppCommand>),
    /// What was promised to tenants, and kept.
    Sla(Operate<SlaCommand>),
    /// What waits, and where.
    Queue(Connection),
    /// The audit log.
    Audit(Operate<AuditCommand>),
    /// Tokens for the admin API and the console.
    AdminToken(Operate<AdminTokenCommand>),
}

impl OperatorCommand {
    /// Where the command goes.
    pub(crate) const fn connection(&self) -> &Connection {
        match self {
            Self::Status(connection) | Self::Queue(connection) => connection,
            Self::Tenant(it) => &it.connection,
            Self::Licence(it) => &it.connection,
            Self::Key(it) => &it.connection,
            Self::Server(it) => &it.connection,
            Self::Device(it) => &it.connection,
            Self::App(it) => &it.connection,
            Self::Sla(it) => &it.connection,
            Self::Audit(it) => &it.connection,
            Self::AdminToken(it) => &it.connection,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SlaCommand {
    /// Shows a calendar month of a tenant, or of all, against what was promised.
    #[command(after_help = "Example:\n  hpns sla report ten_… --month 2026-11 --json > report.json")]
    Report {
        /// ten_…; without it, all tenants of the region together.
        tenant: Option<String>,
        /// In UTC; this one, if it is not said.
        #[arg(long, value_name = "YYYY-MM")]
        month: Option<String>,
    },
    /// Prints the hours that a tenant's report is computed from, as CSV (docs/SLA.md).
    #[command(after_help = "Example:\n  hpns sla hours ten_… --month 2026-11 > hours.csv")]
    Hours {
        /// ten_…
        tenant: String,
        /// In UTC; this one, if it is not said.
        #[arg(long, value_name = "YYYY-MM")]
        month: Option<String>,
    },
    /// Writes the signed report of a tenant's month and its hours into a directory.
    #[command(after_help = "Example:\n  hpns sla export ten_… --month 2026-11 acme-2026-11")]
    Export {
        /// ten_…
        tenant: String,
        /// Where to; files that are there stay as they are.
        directory: PathBuf,
        /// In UTC; this one, if it is not said.
        #[arg(long, value_name = "YYYY-MM")]
        month: Option<String>,
    },
    /// Says whether such a directory is as it was signed. Asks nobody: the signers' keys are at
    /// `/.well-known/hpns-report-signers` of the admin API.
    #[command(after_help = "Example:\n  hpns sla verify acme-2026-11 --signers hpns-report-signers")]
    Verify {
        /// What `hpns sla export` wrote.
        directory: PathBuf,
        /// The keys that may have signed, as OpenSSH lists them.
        #[arg(long, value_name = "FILE")]
        signers: PathBuf,
    },
    /// Prints rules for Prometheus, made of this configuration's objectives: burn rates, and when they are worth waking
    /// somebody. Asks nobody.
    #[command(after_help = "Example:\n  hpns sla rules --config hpns.toml > /etc/prometheus/hpns.rules.yml")]
    Rules(RoleOptions),
    /// Lists the tenants of the last hours: those with most failures that are not their own first.
    Tenants,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Counts a tenant's devices.
    #[command(after_help = "Example:\n  hpns device count ten_…")]
    Count {
        /// ten_…
        tenant: String,
    },
    /// Shows what is remembered of a device. The token is read from standard input.
    #[command(after_help = "Example:\n  hpns device find ten_… --app ios < token.txt")]
    Find {
        /// ten_…
        tenant: String,
        /// The app's name.
        #[arg(long)]
        app: String,
    },
    /// Forgets devices: those whose tokens stand on standard input, one a line, or all.
    #[command(after_help = "Example:\n  hpns device erase ten_… --app ios --yes < tokens.txt")]
    Erase {
        /// ten_…
        tenant: String,
        /// The app's name.
        #[arg(long, required_unless_present = "all")]
        app: Option<String>,
        /// All devices of the tenant, and what their hashes were made with.
        #[arg(long, conflicts_with = "app")]
        all: bool,
        /// Asks no question.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Puts an app into the watched directory of apps, once its credentials are proven. Run it on workers first.
    Add(Box<AddOptions>),
    /// Takes an app out of the watched directory, with its credentials. Run it on gateways first.
    Remove(RemoveOptions),
    #[command(flatten)]
    Api(AppQuestion),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppQuestion {
    /// Lists apps with the health of their credentials.
    #[command(after_help = "Example:\n  hpns app list")]
    List,
    /// Sends a test push through a gateway, and shows each hop. The licence key is read from standard input.
    #[command(
        after_help = "Example:\n  printf '%s\\n' \"$KEY\" \"$DEVICE_TOKEN\" | hpns app test-push --platform apple_rn-v2"
    )]
    TestPush {
        /// Platform name, such as apple_rn-v2.
        #[arg(long)]
        platform: String,
        /// What the phone shows.
        #[arg(long, default_value = "A test push from hpns")]
        message: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Lists what was done, the newest first.
    #[command(after_help = "Example:\n  hpns audit list --tenant ten_… --limit 20")]
    List {
        /// Only what concerns this tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Checks the whole chain; fails if it is broken.
    #[command(
        after_help = "Examples:\n  hpns audit verify || page-somebody\n  hpns audit verify --head 4711:07ab…"
    )]
    Verify {
        /// An end of the log that was noted, from the service's log: its number and its hash.
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminTokenCommand {
    /// Lists tokens.
    #[command(after_help = "Example:\n  hpns admin-token list")]
    List,
    /// Makes a token, and prints it: this is the only time that it is shown.
    #[command(after_help = "Example:\n  hpns admin-token issue --name 'billing job' --role viewer --days 90")]
    Issue {
        /// What it is for.
        #[arg(long)]
        name: String,
        /// viewer, support, operator, security-admin, auditor or tenant.
        #[arg(long)]
        role: String,
        /// Of which tenant, for the role tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// For how many days it opens anything.
        #[arg(long, default_value_t = 90)]
        days: u32,
    },
    /// Ends a token at once.
    #[command(after_help = "Example:\n  hpns admin-token revoke 2b7Mf9a1kcXS")]
    Revoke {
        /// Its public part.
        id: String,
        /// Asks no question.
        #[arg(long)]
        yes: bool,
    },
}
