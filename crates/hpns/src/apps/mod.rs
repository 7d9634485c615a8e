//! The apps of a process: those of the configuration and those of the watched directory, their credentials of the
//! moment, and their senders in every serving thread.
//!
//! An app costs nothing before its first push: its credentials are proven when it comes, its senders are made, and its
//! provider is called, when somebody pushes to it.

pub(crate) mod credentials;
pub(crate) mod directory;
mod proofs;
mod swappable_sender;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatch_stream::{AppState, PeerDirectory};
use dispatch_worker::{Guards, RateLimit, SenderSource};
use push_domain::{App, AppCatalogue, AppId, Provider, PushSender};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use self::credentials::{Credentials, FileStamps, Fingerprint};
use self::directory::AppDirectory;
use self::proofs::ProvenCredentials;
use self::swappable_sender::SwappableSender;
use crate::config::{AppConfig, Config};
use crate::expiry::ExpiryMonitor;

pub(crate) use self::credentials::CredentialLoader;

/// App registry of a process: configuration, credentials and senders of every app.
pub(crate) struct Apps {
    pub(crate) catalogue: Arc<AppCatalogue>,
    config: Arc<Config>,
    directory: Mutex<AppDirectory>,
    /// Where credentials are made, if this process delivers.
    loader: Option<CredentialLoader>,
    managed: Mutex<BTreeMap<String, Arc<ManagedApp>>>,
    /// Grows whenever an app goes, or is described anew.
    generation: AtomicU64,
    pub(crate) proven: ProvenCredentials,
}

/// App under management: its configuration, its credentials and its senders.
struct ManagedApp {
    name: String,
    config: Arc<AppConfig>,
    state: Mutex<State>,
}

struct State {
    /// The files as they were when they were last looked at.
    stamps: FileStamps,
    seen: Fingerprint,
    /// The files that the credentials in use came from.
    used: Option<Fingerprint>,
    credentials: Option<Credentials>,
    sender_slots: Vec<SenderSlot>,
    expiry: ExpiryMonitor,
}

/// Sender slot: the app's hot-swappable sender in one serving thread.
struct SenderSlot {
    tasks: TaskTracker,
    sender: Arc<SwappableSender>,
}

/// Sender source of one serving thread.
pub(crate) struct ThreadSenders {
    apps: Arc<Apps>,
    tasks: TaskTracker,
}

impl Apps {
    /// Lists all apps, and reads their credentials, if this process delivers. A broken one does not stop the others: its
    /// app stays in the catalogue, its pushes fail with a code of their own, and the operator is told.
    pub(crate) fn load(config: Arc<Config>, loader: Option<CredentialLoader>) -> anyhow::Result<Self> {
        let apps = Self {
            catalogue: Arc::new(AppCatalogue::new(
                config.apps.iter().map(|(name, app)| described(name, app)),
            )?),
            directory: Mutex::new(AppDirectory::new(&config)),
            config,
            loader,
            managed: Mutex::default(),
            generation: AtomicU64::new(0),
            proven: ProvenCredentials::default(),
        };
        apps.refresh(None);
        Ok(apps)
    }

    fn managed(&self) -> MutexGuard<'_, BTreeMap<String, Arc<ManagedApp>>> {
        self.managed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, app: &AppId) -> Option<Arc<ManagedApp>> {
        self.managed().get(app.as_str()).cloned()
    }

    /// Looks for apps that came or went and for credential files that have changed, and serves with what is good of
    /// them. Credentials that turn out broken change nothing: the present ones stay in use. Reads files: not for a
    /// thread that serves.
    pub(crate) fn refresh(&self, guards: Option<&Guards>) {
        let listed = self.listed();
        let known = self.managed().clone();
        let mut now = BTreeMap::new();
        for (name, config) in listed {
            let same = known.get(&name).filter(|app| Arc::ptr_eq(&app.config, &config));
            let app = same
                .cloned()
                .unwrap_or_else(|| Arc::new(ManagedApp::new(&name, config, self.loader.as_ref())));
            if same.is_some()
                && let (Some(loader), Some(guards)) = (&self.loader, guards)
            {
                app.refresh(loader, guards);
            }
            now.insert(name, app);
        }
        let gone: Vec<_> = known
            .iter()
            .filter(|(name, app)| now.get(*name).is_none_or(|it| !Arc::ptr_eq(it, app)))
            .map(|(name, _)| AppId::new(name))
            .collect();
        let came = now.keys().filter(|name| !known.contains_key(*name)).count();
        *self.managed() = now;
        if !gone.is_empty() {
            self.generation.fetch_add(1, Ordering::Release);
        }
        for app in &gone {
            if let Some(guards) = guards {
                guards.forget(app);
            }
        }
        if !known.is_empty() && (came > 0 || !gone.is_empty()) {
            info!(came, gone_or_changed = gone.len(), "apps came or went");
        }
    }

    /// Serves the apps of the moment, with their credentials of the moment, until `stop`.
    pub(crate) async fn keep_fresh(self: Arc<Self>, guards: Option<Guards>, stop: CancellationToken) {
        let every = Duration::from_millis(self.config.credentials.poll_ms);
        while goes_on(&stop, every).await {
            let (apps, guards) = (Arc::clone(&self), guards.clone());
            // Files are read on a thread of their own.
            let _ = tokio::task::spawn_blocking(move || apps.refresh(guards.as_ref())).await;
        }
    }

    /// The apps of the configuration and of the directory, in the catalogue too.
    fn listed(&self) -> BTreeMap<String, Arc<AppConfig>> {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = self.config.apps.clone();
        let found = directory.scan(&listed);
        let own = listed.iter().map(|(name, app)| described(name, app)).collect::<Vec<_>>();
        let added = found.iter().map(|(name, app)| described(name, app));
        for left_out in self.catalogue.replace(own.into_iter().chain(added)) {
            directory.broken(left_out.second.as_str(), &left_out.to_string());
        }
        let is_listed = |name: &str| self.catalogue.get(&AppId::new(name)).is_some();
        listed.extend(found.into_iter().filter(|(name, _)| is_listed(name)));
        listed
    }

    /// Makes the guards of all apps, which confer with other processes where there may be some.
    pub(crate) fn guards(self: &Arc<Self>, peers: Option<&Arc<PeerDirectory>>) -> Guards {
        let apps = Arc::clone(self);
        let limit = move |app: &AppId| apps.pace_of(app);
        Guards::new(limit, Arc::clone(self) as _, self.config.worker.slots / 2, peers)
    }

    /// What stands for an app's credentials of the moment, and for where they are used; none while it has none.
    pub(crate) fn standing(&self, app: &AppId) -> Option<String> {
        let app = self.find(app)?;
        let used = app.lock().used?;
        Some(used.at(&app.config).to_string())
    }

    /// How fast pushes to an app may leave: apps under one credential keep to the slowest that any of them asks for.
    fn pace_of(&self, app: &AppId) -> RateLimit {
        let managed = self.managed();
        let Some(own) = managed.get(app.as_str()).map(|app| app.config.pace()) else {
            return RateLimit { credential: String::new(), per_second: 0 };
        };
        let paces = managed.values().map(|app| app.config.pace());
        let rates = paces.filter(|pace| pace.credential == own.credential && pace.per_second > 0);
        RateLimit { per_second: rates.map(|pace| pace.per_second).min().unwrap_or_default(), ..own }
    }

    /// Adds what is known of the credentials, for the operators' eyes.
    pub(crate) fn describe(&self, states: &mut BTreeMap<String, AppState>) {
        let Some(loader) = &self.loader else { return };
        for app in self.managed().values() {
            let state = app.lock();
            let described = states.entry(app.name.clone()).or_default();
            if let Some(credentials) = &state.credentials {
                credentials.kind().clone_into(&mut described.credentials);
                let left = credentials.expires_at().map(|end| end.since(loader.clock.now()).as_secs());
                described.days_left = left.and_then(|seconds| u32::try_from(seconds / 86_400).ok());
            }
            described.fingerprint = state.used.map(|used| used.to_string()).unwrap_or_default();
        }
    }
}

impl ManagedApp {
    fn new(name: &str, config: Arc<AppConfig>, loader: Option<&CredentialLoader>) -> Self {
        let mut state = State {
            stamps: FileStamps::default(),
            seen: Fingerprint::default(),
            used: None,
            credentials: None,
            sender_slots: Vec::new(),
            expiry: ExpiryMonitor::new("app_credential_days_left", "app", name),
        };
        if let Some(loader) = loader {
            state.stamps = loader.stamps(&config);
            state.seen = loader.fingerprint(&config);
            match loader.load(name, &config) {
                Ok(good) => (state.credentials, state.used) = (Some(good), Some(state.seen)),
                Err(error) => {
                    let reason = format!("{error:#}");
                    error!(app = name, reason, "an app's credentials cannot be used; its pushes fail");
                }
            }
            show_usable(name, state.credentials.is_some());
            let expires_at = state.credentials.as_ref().and_then(Credentials::expires_at);
            state.expiry.check(expires_at, loader.clock.now());
        }
        Self { name: name.to_owned(), config, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self, loader: &CredentialLoader, guards: &Guards) {
        let name = &self.name;
        let stamps = loader.stamps(&self.config);
        let mut state = self.lock();
        let State { stamps: known, seen, used, credentials, sender_slots, expiry } = &mut *state;
        let expires_at = credentials.as_ref().and_then(Credentials::expires_at);
        expiry.check(expires_at, loader.clock.now());
        if *known == stamps {
            return;
        }
        *known = stamps;
        let now = loader.fingerprint(&self.config);
        if now == *seen {
            return;
        }
        *seen = now;
        if *used == Some(now) {
            return; // As before a change that came to nothing.
        }
        let made = loader.load(name, &self.config).and_then(|new| {
            let senders = sender_slots
                .iter()
                .map(|sender_slot| new.sender(&sender_slot.tasks))
                .collect::<anyhow::Result<Vec<_>>>()?;
            Ok((new, senders))
        });
        match made {
            Ok((new, senders)) => {
                for (sender_slot, sender) in sender_slots.iter().zip(senders) {
                    sender_slot.sender.set(sender);
                }
                expiry.renewed();
                expiry.check(new.expires_at(), loader.clock.now());
                (*credentials, *used) = (Some(new), Some(now));
                // The guards look at what is used now.
                drop(state);
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

    /// Makes the sender of one serving thread.
    fn thread_sender(&self, tasks: &TaskTracker) -> Arc<SwappableSender> {
        let sender = Arc::<SwappableSender>::default();
        let mut state = self.lock();
        match state.credentials.as_ref().map(|credentials| credentials.sender(tasks)) {
            Some(Ok(made)) => sender.set(made),
            Some(Err(error)) => error!(app = self.name, %error, "an app's sender cannot be made"),
            None => {}
        }
        // What threads have forgotten is not renewed any more.
        state.sender_slots.retain(|sender_slot| Arc::strong_count(&sender_slot.sender) > 1);
        state.sender_slots.push(SenderSlot { tasks: tasks.clone(), sender: Arc::clone(&sender) });
        sender
    }
}

impl ThreadSenders {
    /// The senders of a thread, whose work runs on `tasks`.
    pub(crate) fn new(apps: Arc<Apps>, tasks: TaskTracker) -> Self {
        Self { apps, tasks }
    }
}

impl SenderSource for ThreadSenders {
    fn sender(&self, app: &AppId) -> Option<Arc<dyn PushSender>> {
        let app = self.apps.find(app)?;
        Some(app.thread_sender(&self.tasks))
    }

    fn generation(&self) -> u64 {
        self.apps.generation.load(Ordering::Acquire)
    }
}

impl fmt::Debug for ThreadSenders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThreadSenders")
    }
}

fn show_usable(name: &str, usable: bool) {
    metrics::gauge!("app_credentials_usable", "app" => name.to_owned()).set(if usable { 1.0 } else { 0.0 });
}

/// Waits, and says whether to go on.
async fn goes_on(stop: &CancellationToken, wait: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

/// An app without its secrets.
pub(crate) fn described(name: &str, app: &AppConfig) -> App {
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
