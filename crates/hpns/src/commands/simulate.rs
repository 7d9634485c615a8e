//! `hpns simulate`: runs the provider simulator by itself.

use std::io::Write;
use std::time::Duration;

use provider_sim::{Settings, Simulator};

use crate::cli::SimulateOptions;
use crate::serve::shutdown::Signals;

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(options: SimulateOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settings = Settings {
        apns: options.apns,
        fcm: options.fcm,
        control: options.control,
        directory: options.directory,
        topics: options.topic,
        accept_all: options.accept_all,
        delay: Duration::from_millis(options.delay_ms),
        rtt: Duration::from_millis(options.rtt_ms),
        proxy: options.proxy,
        proxy_login: options.proxy_login,
    };
    runtime.block_on(async {
        let simulator = Simulator::start(settings)?;
        let mut out = std::io::stdout();
        writeln!(out, "simulator: http://{}", simulator.control())?;
        writeln!(out, "apns: localhost:{}", simulator.apns().port())?;
        writeln!(out, "fcm: https://localhost:{}", simulator.fcm().port())?;
        writeln!(out, "proxy: http://{}", simulator.proxy())?;
        writeln!(out, "ca_file: {}", simulator.ca_file().display())?;
        writeln!(out, "key_file: {}", simulator.apns_key_file().display())?;
        writeln!(out, "service_account_file: {}", simulator.service_account_file().display())?;
        writeln!(out, "\n# For the configuration of a service that pushes to this simulator:")?;
        writeln!(out, "{}", simulator.configuration())?;
        Signals::listen()?.next().await;
        simulator.stop().await;
        Ok(())
    })
}
