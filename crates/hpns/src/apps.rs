//! The apps of a process: their catalogue, their credentials of the moment, and their senders in every
//! serving thread.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dispatch_stream::{AppState, Board};
use dispatch_worker::{Guards, PaceLimit, Senders};
use push_domain::{AmbiguousApp, App, AppCatalogue, AppId, Provider};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::config::{AppConfig, Config};
use crate::credentials::{Credentials, Fingerprint, Workshop};
use crate::expiry::Expiry;
use crate::switch::Switch;

/// The apps of a process.
pub(crate) struct Apps {
    pub(crate) catalogue: Arc<AppCatalogue>,
    workshop: Workshop,
    managed: Vec<Managed>,
}

/// One app, and where its pushes are sent from.
struct Managed {
    name: String,
    state: Mutex<State>,
}

struct State {
    /// The files as they were when they were last looked at, good or not.
    seen: Fingerprint,
    /// The files that the credentials in use came from.
    used: Option<Fingerprint>,
    credentials: Option<Credentials>,
    seats: Vec<Seat>,
    expiry: Expiry,
}

/// The app's sender in one serving thread.
struct Seat {
    tasks: TaskTracker,
    sender: Arc<Switch>,
}

impl Apps {
    /// Reads all credentials. A broken one does not stop the others: its app stays in the catalogue,
    /// its pushes fail with a code of their own, and the operator is told.
    pub(crate) fn load(workshop: Workshop) -> anyhow::Result<Self> {
        let catalogue = Arc::new(catalogue(&workshop.config)?);
        let manage = |(name, app): (&String, &AppConfig)| {
            let seen = workshop.fingerprint(app);
            let credentials = match workshop.load(name, app) {
                Ok(good) => Some(good),
                Err(error) => {
                    let reason = format!("{error:#}");
                    error!(app = name, reason, "an app's credentials cannot be used; its pushes fail");
                    None
                }
            };
            show_usable(name, credentials.is_some());
            let expiry = Expiry::new("app_credential_days_left", "app", name);
            let used = credentials.is_some().then_some(seen);
            let state = Mutex::new(State { seen, used, credentials, seats: Vec::new(), expiry });
            Managed { name: name.clone(), state }
        };
        let managed = workshop.config.apps.iter().map(manage).collect();
        Ok(Self { catalogue, workshop, managed })
    }

    /// Makes the guards of all apps, which confer with other processes where there may be some.
    pub(crate) fn guards(&self, board: Option<&Arc<Board>>) -> Guards {
        let config = &self.workshop.config;
        let limit = |app: &App| {
            let app = config.apps.get(app.id.as_str());
            app.map_or_else(|| PaceLimit { credential: String::new(), per_second: 0 }, AppConfig::pace)
        };
        Guards::new(&self.catalogue, limit, config.worker.slots / 2, board)
    }

    /// Makes the senders of one serving thread, whose work runs on `tasks`.
    pub(crate) fn senders(&self, tasks: &TaskTracker) -> anyhow::Result<Senders> {
        let mut senders = Senders::new();
        for app in &self.managed {
            let sender = Arc::<Switch>::default();
            let mut state = app.lock();
            if let Some(credentials) = &state.credentials {
                sender.set(credentials.sender(tasks)?);
            }
            state.seats.push(Seat { tasks: tasks.clone(), sender: Arc::clone(&sender) });
            senders.insert(AppId::new(&app.name), sender);
        }
        Ok(senders)
    }

    /// Looks for files that have changed, and serves with what is good of them. Credentials that turn
    /// out broken change nothing: the present ones stay in use.
    pub(crate) fn refresh(&self, guards: &Guards) {
        for app in &self.managed {
            if let Some(config) = self.workshop.config.apps.get(&app.name) {
                self.refresh_one(app, config, guards);
            }
        }
    }

    /// Adds what is known of the credentials, for the operators' eyes.
    pub(crate) fn describe(&self, states: &mut BTreeMap<String, AppState>) {
        for app in &self.managed {
            let state = app.lock();
            let described = states.entry(app.name.clone()).or_default();
            if let Some(credentials) = &state.credentials {
                credentials.kind().clone_into(&mut described.credentials);
                let left = credentials.expires_at().map(|end| end.since(self.workshop.clock.now()).as_secs());
                described.days_left = left.and_then(|seconds| u32::try_from(seconds / 86_400).ok());
            }
            described.fingerprint = state.used.map(|used| used.to_string()).unwrap_or_default();
        }
    }

    fn refresh_one(&self, app: &Managed, config: &AppConfig, guards: &Guards) {
        let name = &app.name;
        let mut state = app.lock();
        let State { seen, used, credentials, seats, expiry } = &mut *state;
        let expires_at = credentials.as_ref().and_then(Credentials::expires_at);
        expiry.check(expires_at, self.workshop.clock.now());
        let now = self.workshop.fingerprint(config);
        if now == *seen {
            return;
        }
        *seen = now;
        if *used == Some(now) {
            return; // As before a change that came to nothing.
        }
        let made = self.workshop.load(name, config).and_then(|new| {
            let senders =
                seats.iter().map(|seat| new.sender(&seat.tasks)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok((new, senders))
        });
        match made {
            Ok((new, senders)) => {
                for (seat, sender) in seats.iter().zip(senders) {
                    seat.sender.set(sender);
                }
                expiry.renewed();
                expiry.check(new.expires_at(), self.workshop.clock.now());
                (*credentials, *used) = (Some(new), Some(now));
                guards.renew(&AppId::new(name));
                show_usable(name, true);
                info!(app = name, fingerprint = %now, "an app has new credentials");
            }
            Err(error) => {
                metrics::counter!("app_credential_reload_failures_total", "app" => name.clone()).increment(1);
                let reason = format!("{error:#}");
                error!(
                    app = name,
                    reason, "an app's new credentials cannot be used; the old ones stay in use"
                );
            }
        }
    }
}

impl Managed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn show_usable(name: &str, usable: bool) {
    metrics::gauge!("app_credentials_usable", "app" => name.to_owned()).set(if usable { 1.0 } else { 0.0 });
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

/// Returns where a path of the configuration leads, for messages.
pub(crate) fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "the built-in defaults".to_owned(), |path| path.display().to_string())
}
