//! From the settings of apps to the catalogue and the senders.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use apns_sender::{ApnsSender, Endpoint, ProviderToken, TokenKey};
use dispatch_worker::Senders;
use fcm_sender::{FcmSender, GOOGLE_FCM, GOOGLE_TOKEN_URL, ServiceAccount, TokenSource};
use push_domain::{AmbiguousApp, App, AppCatalogue, AppId, Clock, Provider, PushEnvironment, PushSender};
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::config::{ApnsConfig, AppConfig, Config, FcmConfig};

/// What the senders of one app share, in whatever thread they run: its proven credentials.
pub(crate) enum Credentials {
    Apns { settings: apns_sender::Settings, token: Arc<ProviderToken> },
    Fcm { settings: fcm_sender::Settings, tokens: TokenSource },
}

/// The apps of a process.
pub(crate) struct Apps {
    pub(crate) catalogue: Arc<AppCatalogue>,
    credentials: BTreeMap<String, Credentials>,
}

impl Apps {
    /// Reads all credentials. A broken one does not stop the others: its app stays in the catalogue,
    /// its pushes fail with a code of their own, and the operator is told.
    pub(crate) fn load(config: &Config, clock: &Arc<dyn Clock>, tasks: &TaskTracker) -> anyhow::Result<Self> {
        let catalogue = catalogue(config)?;
        let mut credentials = BTreeMap::new();
        for (name, app) in &config.apps {
            let usable = match Credentials::load(name, app, config, clock, tasks) {
                Ok(good) => {
                    credentials.insert(name.clone(), good);
                    1.0
                }
                Err(error) => {
                    error!(
                        app = name,
                        reason = format!("{error:#}"),
                        "an app's credentials cannot be used; its pushes fail"
                    );
                    0.0
                }
            };
            metrics::gauge!("app_credentials_usable", "app" => name.clone()).set(usable);
        }
        Ok(Self { catalogue: Arc::new(catalogue), credentials })
    }

    /// Makes the senders of one serving thread.
    pub(crate) fn senders(&self, tasks: &TaskTracker) -> anyhow::Result<Senders> {
        let mut senders = Senders::new();
        for (name, credentials) in &self.credentials {
            let sender: Arc<dyn PushSender> = match credentials {
                Credentials::Apns { settings, token } => {
                    Arc::new(ApnsSender::new(settings.clone(), Arc::clone(token), tasks.clone())?)
                }
                Credentials::Fcm { settings, tokens } => {
                    Arc::new(FcmSender::new(settings, tokens.clone(), tasks.clone())?)
                }
            };
            senders.insert(AppId::new(name), sender);
        }
        Ok(senders)
    }
}

/// Lists the apps without their secrets; fails when two would answer to one name.
pub(crate) fn catalogue(config: &Config) -> Result<AppCatalogue, AmbiguousApp> {
    AppCatalogue::new(config.apps.iter().map(|(name, app)| described(name, app)))
}

fn described(name: &str, app: &AppConfig) -> App {
    let (platform, audience, provider, topic) = match app {
        AppConfig::Apns(app) => (&app.platform, app.audience, Provider::Apns, app.topic.clone()),
        AppConfig::Fcm(app) => (&app.platform, app.audience, Provider::Fcm, String::new()),
    };
    App { id: AppId::new(name), platform: platform.clone(), audience: audience.0, provider, topic }
}

impl Credentials {
    /// Reads and proves the credentials of one app, as far as that goes without asking its provider.
    pub(crate) fn load(
        name: &str,
        app: &AppConfig,
        config: &Config,
        clock: &Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Self> {
        match app {
            AppConfig::Apns(app) => Self::apns(name, app, config, clock, tasks),
            AppConfig::Fcm(app) => Self::fcm(name, app, config, clock, tasks),
        }
    }

    fn apns(
        name: &str,
        app: &ApnsConfig,
        config: &Config,
        clock: &Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Self> {
        let key = TokenKey::new(&app.team_id, &app.key_id, &app.key().read(&config.data_dir)?)?;
        let settings = apns_sender::Settings {
            name: name.to_owned(),
            endpoint: endpoint(app)?,
            topic: app.topic.clone(),
            ca_file: app.ca_file.as_deref().map(|path| config.path(path)),
            max_connections: app.max_connections.max(1),
        };
        let token = Arc::new(ProviderToken::new(key, Arc::clone(clock)));
        ApnsSender::new(settings.clone(), Arc::clone(&token), tasks.clone())?;
        Ok(Self::Apns { settings, token })
    }

    fn fcm(
        name: &str,
        app: &FcmConfig,
        config: &Config,
        clock: &Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Self> {
        let account = ServiceAccount::new(&app.account().read(&config.data_dir)?, &app.project)?;
        let settings = fcm_sender::Settings {
            name: name.to_owned(),
            base_url: app.base_url.clone().unwrap_or_else(|| GOOGLE_FCM.to_owned()),
            token_url: app.token_url.clone().unwrap_or_else(|| GOOGLE_TOKEN_URL.to_owned()),
            ca_file: app.ca_file.as_deref().map(|path| config.path(path)),
            shards: app.shards,
        };
        let tokens = TokenSource::new(&settings, account, Arc::clone(clock), tasks.clone())?;
        Ok(Self::Fcm { settings, tokens })
    }

    /// Says what it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Apns { .. } => "APNs token key",
            Self::Fcm { .. } => "FCM service account",
        }
    }
}

fn endpoint(app: &ApnsConfig) -> anyhow::Result<Endpoint> {
    let Some(custom) = &app.endpoint else {
        let host = match app.environment {
            PushEnvironment::Production => "api.push.apple.com",
            PushEnvironment::Sandbox => "api.sandbox.push.apple.com",
        };
        return Ok(Endpoint { host: host.to_owned(), port: app.port.0 });
    };
    let (host, port) = custom.rsplit_once(':').context("`endpoint` has to be HOST:PORT")?;
    let port = port.parse().context("`endpoint` has to be HOST:PORT")?;
    Ok(Endpoint { host: host.to_owned(), port })
}

/// Returns where a path of the configuration leads, for messages.
pub(crate) fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "the built-in defaults".to_owned(), |path| path.display().to_string())
}
