//! `hpns check-config`: proves a configuration before a start.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use push_domain::{Clock, SystemClock};
use tokio_util::task::TaskTracker;

use crate::apps::{Credentials, shown};
use crate::cli::ConfigOptions;
use crate::config::Config;
use crate::keyfile;

/// Prints a line for every app; fails if any cannot be used.
pub(crate) fn run(options: &ConfigOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(options.config.as_deref())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "configuration: {} can be read", shown(options.config.as_deref()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tasks = TaskTracker::new();
    let mut broken = 0;
    if config.key_path().exists()
        && let Err(error) = keyfile::load_or_make(&config.key_path())
    {
        broken += 1;
        writeln!(out, "{error:#}")?;
    }
    if !config.data_dir.is_dir() {
        broken += 1;
        writeln!(out, "data_dir: {} is no directory", config.data_dir.display())?;
    }
    for (name, app) in &config.apps {
        match Credentials::load(name, app, &config, &clock, &tasks) {
            Ok(credentials) => writeln!(out, "app {name}: ok, {}", credentials.kind())?,
            Err(error) => {
                broken += 1;
                writeln!(out, "app {name}: cannot be used: {error:#}")?;
            }
        }
    }
    if let Err(error) = crate::apps::catalogue(&config) {
        broken += 1;
        writeln!(out, "apps: {error}")?;
    }
    if config.apps.is_empty() {
        writeln!(out, "apps: none; every push will fail with an unknown platform")?;
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
