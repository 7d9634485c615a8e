//! `hpns check-config`: proves a configuration before a start.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use push_domain::{
    ApnsRequest, AppCatalogue, Attempt, Clock, Content, DeviceToken, FcmRequest, InvalidToken, JobId,
    Outcome, Priority, Provider, ProviderRequest, PushType, SystemClock,
};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::apps::credentials::{CredentialLoader, Credentials};
use crate::apps::directory;
use crate::apps::{described, shown};
use crate::config::{AppConfig, Config, ConfigOptions};
use crate::keyfile;
use crate::listener_tls::ListenerTls;

#[derive(Debug, clap::Args)]
pub(crate) struct CheckOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// Also asks Apple and Google, with a push to a device that does not exist, whether they take the credentials.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How long a provider may take for a dry run.
const DRY_RUN: Duration = Duration::from_secs(20);
const DAY_SECONDS: u64 = 86_400;

/// Prints a line for every part; fails if any cannot be used.
pub(crate) fn run(options: &CheckOptions) -> anyhow::Result<ExitCode> {
    let config = Arc::new(Config::load(options.config.config.as_deref())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report { broken: 0 };
    report.good("configuration", &format!("{} can be read", shown(options.config.config.as_deref())))?;
    for (before, now) in &config.renamed {
        report.good(
            "configuration",
            &format!("`{before}` is called `{now}` now: the next version does not know the old name"),
        )?;
    }
    check_files(&config, &mut report)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match ListenerTls::load(&config) {
        Ok(None) => {}
        Ok(Some(listener)) => {
            let (end, now) = (listener.tls.expires_at(), clock.now());
            let days = end.since(now).as_secs() / DAY_SECONDS;
            let text = if end > now {
                format!("certificate, {days} days left")
            } else {
                "the certificate has expired".into()
            };
            report.judge("gateway.tls", end > now, &text)?;
        }
        Err(error) => report.bad("gateway.tls", &format!("{error:#}"))?,
    }
    let loader = CredentialLoader::new(Arc::clone(&config), clock, TaskTracker::new())?;
    let apps = all_apps(&config, &mut report)?;
    runtime.block_on(check_apps(&loader, &apps, options.dry_run, &mut report))?;
    if let Err(error) = AppCatalogue::new(apps.iter().map(|(name, app)| described(name, app))) {
        report.bad("apps", &error.to_string())?;
    }
    if apps.is_empty() {
        report.good("apps", "none; every push will fail with an unknown platform")?;
    }
    Ok(if report.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check_files(config: &Config, report: &mut Report) -> anyhow::Result<()> {
    let is_made = !config.key_files().is_empty() || config.key_path().exists();
    if is_made && let Err(error) = keyfile::load(config, keyfile::KeyHolder::Registry) {
        report.bad("registry", &format!("{error:#}"))?;
    }
    if !config.data_dir.is_dir() {
        report.bad("data_dir", &format!("{} is no directory", config.data_dir.display()))?;
    }
    Ok(())
}

/// The apps of the configuration and of the directory.
fn all_apps(config: &Config, report: &mut Report) -> anyhow::Result<BTreeMap<String, Arc<AppConfig>>> {
    let mut apps = config.apps.clone();
    let directory = config.path(&config.apps_dir);
    for name in directory::names(&directory).unwrap_or_default() {
        match directory::read(&directory, &name, config.development.custom_endpoints) {
            Ok(_) if apps.contains_key(&name) => {
                report.bad(&format!("app {name}"), "an app of the configuration has this name")?;
            }
            Ok(app) => drop(apps.insert(name, Arc::new(app))),
            Err(error) => report.bad(&format!("app {name}"), &format!("{error:#}"))?,
        }
    }
    Ok(apps)
}

async fn check_apps(
    loader: &CredentialLoader,
    apps: &BTreeMap<String, Arc<AppConfig>>,
    dry_run: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (name, app) in apps {
        let what = format!("app {name}");
        let credentials = match loader.load(name, app) {
            Ok(credentials) => credentials,
            Err(error) => {
                report.bad(&what, &format!("{error:#}"))?;
                continue;
            }
        };
        let mut text = format!("{}, fingerprint {}", credentials.kind(), loader.fingerprint(app));
        if let Some(end) = credentials.expires_at() {
            let days = end.since(loader.clock.now()).as_secs() / DAY_SECONDS;
            let _ = write!(text, ", {days} days left");
        }
        report.good(&what, &text)?;
        if dry_run {
            let (good, text) = probe_credentials(&credentials, &loader.tasks).await?;
            report.judge(&format!("{what}: dry run"), good, &text)?;
        }
    }
    Ok(())
}

/// Asks the provider, with a push to a device that does not exist: what it says tells whether it takes
/// our credentials.
pub(crate) async fn probe_credentials(
    credentials: &Credentials,
    tasks: &TaskTracker,
) -> anyhow::Result<(bool, String)> {
    let sender = credentials.sender(tasks)?;
    let attempt = Attempt { number: 1, deadline: Instant::now() + DRY_RUN, isolate: false };
    let outcome = sender.send(&to_nobody(credentials)?, attempt).await;
    let word = outcome.reason().map(ToString::to_string).unwrap_or_default();
    Ok(match outcome {
        Outcome::Accepted => (true, "the provider takes the credentials".into()),
        Outcome::TokenDead { .. } | Outcome::WrongApp { .. } => (
            true,
            format!(
                "the provider takes the credentials ({word} for the device of the test, as it should be)"
            ),
        ),
        Outcome::Misconfigured { .. } => {
            (false, format!("the provider refuses the credentials or the app: {word}"))
        }
        Outcome::Refused { .. } => (false, format!("the provider refuses the test: {word}")),
        Outcome::TryLater { .. } => (false, format!("the provider cannot be asked at the moment: {word}")),
    })
}

fn to_nobody(credentials: &Credentials) -> Result<ProviderRequest, InvalidToken> {
    Ok(match credentials {
        Credentials::Apns { .. } => ProviderRequest::Apns(ApnsRequest {
            token: DeviceToken::parse(Provider::Apns, "00".repeat(32))?,
            id: JobId::new(),
            push_type: PushType::Background,
            priority: Priority::Normal,
            expires_at: None,
            collapse_id: None,
            body: Content::new(r#"{"aps":{"content-available":1}}"#),
        }),
        Credentials::Fcm { .. } => ProviderRequest::Fcm(FcmRequest {
            token: DeviceToken::parse(Provider::Fcm, "hpns-dry-run".into())?,
            body: Content::new(
                r#"{"validate_only":true,"message":{"token":"hpns-dry-run","data":{"type":"test"}}}"#,
            ),
            data_bytes: 8,
        }),
    })
}

/// Report of the check: prints its lines, and counts those about something broken.
struct Report {
    broken: u32,
}

impl Report {
    #[expect(clippy::unused_self, reason = "a line of the report")]
    fn good(&mut self, what: &str, text: &str) -> std::io::Result<()> {
        writeln!(std::io::stdout(), "{what}: ok, {text}")
    }

    fn bad(&mut self, what: &str, text: &str) -> std::io::Result<()> {
        self.broken += 1;
        writeln!(std::io::stdout(), "{what}: cannot be used: {text}")
    }

    fn judge(&mut self, what: &str, good: bool, text: &str) -> std::io::Result<()> {
        if good { self.good(what, text) } else { self.bad(what, text) }
    }
}
