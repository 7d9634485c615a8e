//! `hpns simulate`: runs the provider simulator by itself.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use provider_sim::{Settings, Simulator};

use crate::signals::Signals;

#[derive(Debug, clap::Args)]
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
