//! Command-line options that say where settings come from.

use std::path::PathBuf;

use clap::Args;

/// Where settings come from, besides the defaults and `HPNS_…` variables.
#[derive(Debug, Args)]
pub(crate) struct ConfigOptions {
    /// Configuration file (TOML). Every key with its default: `hpns config reference`.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RoleOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
}
