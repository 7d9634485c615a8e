//! Command-line arguments of the commands about customers, their licences and keys.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Lists tenants by name.
    #[command(after_help = "Example:\n  hpns tenant list --search acme")]
    List {
        /// Only those whose name contains this.
        #[arg(long, default_value = "")]
        search: String,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows a tenant with its licences and its use.
    #[command(after_help = "Example:\n  hpns tenant show ten_…")]
    Show {
        /// ten_…
        tenant: String,
    },
    /// Makes a tenant.
    #[command(after_help = "Example:\n  hpns tenant create 'Acme GmbH' --contact push@acme.example")]
    Create {
        name: String,
        /// Whom to write to.
        #[arg(long, default_value = "")]
        contact: String,
        /// It may push through another region when its own is down.
        #[arg(long)]
        failover_consent: bool,
    },
    /// Changes a tenant; what is not named stays.
    #[command(after_help = "Example:\n  hpns tenant update ten_… --contact push@acme.example")]
    Update {
        /// ten_…
        tenant: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        contact: Option<String>,
        #[arg(long)]
        failover_consent: Option<bool>,
    },
}

/// What is agreed for a licence.
#[derive(Debug, Args)]
pub(crate) struct Terms {
    /// test, professional, enterprise or cloud.
    #[arg(long)]
    pub(crate) plan: Option<String>,
    /// A region in which it holds; once for each.
    #[arg(long = "region")]
    pub(crate) regions: Vec<String>,
    /// Pushes a second.
    #[arg(long)]
    pub(crate) rate: Option<u32>,
    /// Pushes at once.
    #[arg(long)]
    pub(crate) burst: Option<u32>,
    /// Pushes that may wait for their answers at once; 0: any number.
    #[arg(long)]
    pub(crate) in_flight: Option<u32>,
    /// Devices; 0: any number.
    #[arg(long)]
    pub(crate) devices: Option<u32>,
    /// full, generic, `id_only_strip` or `id_only_reject`.
    #[arg(long)]
    pub(crate) privacy: Option<String>,
    /// From when it holds, such as 2027-01-01 or 2027-01-01T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) not_before: Option<String>,
    /// Until when.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// Days for which it still works after that.
    #[arg(long)]
    pub(crate) grace_days: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LicenceCommand {
    /// Lists a tenant's licences.
    #[command(after_help = "Example:\n  hpns licence list ten_…")]
    List {
        /// ten_…
        tenant: String,
    },
    /// Shows a licence.
    #[command(after_help = "Example:\n  hpns licence show lic_… --json")]
    Show {
        /// lic_…
        licence: String,
    },
    /// Gives a tenant a licence. It is active once the terms are accepted.
    #[command(
        after_help = "Example:\n  hpns licence create ten_… --plan professional --region us --expires 2027-12-31 --terms 2026-11 --accepted-by 'Ada, Acme'"
    )]
    Create {
        /// ten_…
        tenant: String,
        #[command(flatten)]
        terms: Terms,
        /// The version of the terms that was accepted.
        #[arg(long = "terms", value_name = "VERSION", requires = "accepted_by")]
        version: Option<String>,
        /// Who accepted them.
        #[arg(long, requires = "version")]
        accepted_by: Option<String>,
    },
    /// Changes a licence; what is not named stays.
    #[command(after_help = "Example:\n  hpns licence update lic_… --rate 500 --burst 1000")]
    Update {
        /// lic_…
        licence: String,
        #[command(flatten)]
        terms: Terms,
        /// It ends no more.
        #[arg(long, conflicts_with = "expires")]
        no_end: bool,
    },
    /// Notes that the terms are accepted.
    #[command(
        after_help = "Example:\n  hpns licence accept-terms lic_… --version 2026-11 --accepted-by 'Ada, Acme'"
    )]
    AcceptTerms {
        /// lic_…
        licence: String,
        /// Which version of them.
        #[arg(long)]
        version: String,
        /// Who accepted them.
        #[arg(long)]
        accepted_by: String,
    },
    /// Switches a licence off.
    #[command(after_help = "Example:\n  hpns licence suspend lic_… --reason 'unpaid since October'")]
    Suspend {
        /// lic_…
        licence: String,
        /// Why; the tenant sees it.
        #[arg(long)]
        reason: String,
    },
    /// Switches a licence on again.
    #[command(after_help = "Example:\n  hpns licence resume lic_…")]
    Resume {
        /// lic_…
        licence: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Lists a licence's keys.
    #[command(after_help = "Example:\n  hpns key list lic_…")]
    List {
        /// lic_…
        licence: String,
    },
    /// Makes a key, and prints the push URL: this is the only time that it is shown.
    #[command(after_help = "Example, a rotation:\n  hpns key issue lic_… --overlap-hours 168")]
    Issue {
        /// lic_…
        licence: String,
        /// For how many hours the key before still works.
        #[arg(long, default_value_t = 168)]
        overlap_hours: u32,
    },
    /// Ends a key at once.
    #[command(after_help = "Example:\n  hpns key revoke mV4snhH61pqE")]
    Revoke {
        /// Its public part, the 12 characters after the region.
        kid: String,
        /// Asks no question.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Lists the servers that a licence is bound to.
    #[command(after_help = "Example:\n  hpns server list lic_…")]
    List {
        /// lic_…
        licence: String,
    },
    /// Binds a licence to a server: it opens for no other any more.
    #[command(after_help = "Example:\n  hpns server bind lic_… kq7m3o1x5bfzjyd9h8wnr4ctse")]
    Bind {
        /// lic_…
        licence: String,
        /// The `server_id` of its pushes.
        server: String,
    },
    /// Lets a server go.
    #[command(after_help = "Example:\n  hpns server unbind lic_… kq7m3o1x5bfzjyd9h8wnr4ctse")]
    Unbind {
        /// lic_…
        licence: String,
        /// The `server_id` of its pushes.
        server: String,
    },
}
