//! Opens the registry that the configuration names.

use anyhow::Context;
use tenant_registry::{Keys, SqliteRegistry};

use crate::config::Config;
use crate::keyfile;

/// Opens it with the service's own keys; makes both when they are missing.
pub(crate) async fn open(config: &Config) -> anyhow::Result<(SqliteRegistry, Keys)> {
    let keys = Keys::derive(&keyfile::load_or_make(&config.key_path())?);
    let path = config.registry_path();
    let opened = SqliteRegistry::open(&path, keys.clone()).await;
    let registry = opened.with_context(|| format!("registry.url: cannot open {}", path.display()))?;
    Ok((registry, keys))
}
