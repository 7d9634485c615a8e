//! `hpns simulate`: the simulator by itself.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use provider_sim::{APNS_KEY_ID, APNS_TEAM_ID, FCM_PROJECT, Settings, Simulator};

use crate::cli::SimulateOptions;
use crate::lifecycle::Signals;

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
    };
    runtime.block_on(async {
        let simulator = Simulator::start(settings)?;
        let mut out = std::io::stdout();
        writeln!(out, "simulator: http://{}", simulator.control())?;
        writeln!(out, "apns: localhost:{}", simulator.apns().port())?;
        writeln!(out, "fcm: https://localhost:{}", simulator.fcm().port())?;
        writeln!(out, "ca_file: {}", simulator.ca_file().display())?;
        writeln!(out, "key_file: {}", simulator.apns_key_file().display())?;
        writeln!(out, "service_account_file: {}", simulator.service_account_file().display())?;
        writeln!(out, "\n# For the configuration of a service that pushes to this simulator:")?;
        writeln!(out, "[development]\ncustom_endpoints = true\n{}", apps_of(&simulator))?;
        Signals::listen()?.next().await;
        simulator.stop().await;
        Ok(())
    })
}

/// The apps whose phones the simulator has, as configuration.
pub(crate) fn apps_of(simulator: &Simulator) -> String {
    let (apns, fcm) = (simulator.apns().port(), simulator.fcm().port());
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path).display().to_string();
    let (ca, key) = (absolute(simulator.ca_file()), absolute(simulator.apns_key_file()));
    let account = absolute(simulator.service_account_file());
    let apple = |name: &str, platform: &str, topic: &str| {
        format!(
            "[apps.{name}]\nprovider = \"apns\"\nplatform = \"{platform}\"\ntopic = \"{topic}\"\nteam_id = \"{APNS_TEAM_ID}\"\nkey_id = \"{APNS_KEY_ID}\"\nkey_file = \"{key}\"\nendpoint = \"localhost:{apns}\"\nca_file = \"{ca}\"\n"
        )
    };
    let google = format!(
        "[apps.android]\nprovider = \"fcm\"\nplatform = \"android_rn\"\nproject = \"{FCM_PROJECT}\"\nservice_account_file = \"{account}\"\nbase_url = \"https://localhost:{fcm}\"\ntoken_url = \"https://localhost:{fcm}/token\"\nca_file = \"{ca}\"\n"
    );
    apple("ios", "apple_rn", "com.example.mm")
        + &apple("ios-beta", "apple_rnbeta", "com.example.mm.beta")
        + &google
}
