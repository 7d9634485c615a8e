//! Simulator: the APNs, FCM, control and CONNECT-proxy servers, started and stopped together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_edge::{Edge, Limits};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::apns::{Apns, ApnsConnection};
use crate::clock::VirtualClock;
use crate::control::{self, Control};
use crate::credentials::{
    APNS_KEY_ID, APNS_TEAM_ID, CredentialError, Credentials, FCM_PROJECT, Files, topics_of,
};
use crate::fault::{Fault, FaultController, FaultProfile, ProviderName};
use crate::fcm::{Fcm, FcmConnection};
use crate::oauth::OAuth;
use crate::port::Port;
use crate::proxy::Proxy;
use crate::rates::RateWindows;
use crate::record::{Received, Record, Stats};
use crate::script::{Script, Scripts};

/// Settings of the simulator: addresses, apps, speed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where APNs is.
    pub apns: SocketAddr,
    /// Where FCM and its token endpoint are.
    pub fcm: SocketAddr,
    /// Where the control port and the page are.
    pub control: SocketAddr,
    /// Where keys and certificates are kept.
    pub directory: PathBuf,
    /// The bundle ids of the simulated apps.
    pub topics: Vec<String>,
    /// Accept everything, check and keep nothing: for benchmarks.
    pub accept_all: bool,
    /// How long every answer takes.
    pub delay: Duration,
    /// How much later everything arrives that is said: the round-trip time.
    pub rtt: Duration,
    /// Where the CONNECT proxy is.
    pub proxy: SocketAddr,
    /// `user:password` that the proxy asks for, if it does.
    pub proxy_login: Option<String>,
}

impl Settings {
    /// Free ports on loopback, everything checked.
    #[must_use]
    pub fn on_free_ports(directory: &Path) -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            apns: free,
            fcm: free,
            control: free,
            directory: directory.to_owned(),
            topics: vec!["com.example.mm".into(), "com.example.mm.beta".into()],
            accept_all: false,
            delay: Duration::ZERO,
            rtt: Duration::ZERO,
            proxy: free,
            proxy_login: None,
        }
    }
}

/// Why the simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or forbidden.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The credentials could not be made.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

/// A running simulator. It ends when it is dropped or stopped.
#[derive(Debug)]
pub struct Simulator {
    apns: SocketAddr,
    fcm: SocketAddr,
    control: SocketAddr,
    proxy: SocketAddr,
    files: Files,
    parts: Control,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Simulator {
    /// Starts all servers on the current runtime; they accept connections when this returns.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let files = Files::new(&settings.directory);
        let credentials = Credentials::load_or_make(&files, &settings.topics)?;
        let (apns_listener, apns) = listen(settings.apns)?;
        let (fcm_listener, fcm) = listen(settings.fcm)?;
        let (control_listener, control) = listen(settings.control)?;
        let (proxy_listener, proxy) = listen(settings.proxy)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let tunnels = settings.proxy_login.clone();
        let (tls, tls_with_client) = (credentials.tls.clone(), credentials.tls_with_client.clone());
        let expired = TlsAcceptor::from(Arc::clone(&credentials.tls_expired));
        let parts = assemble(settings, credentials, fcm);
        let connections = Arc::<AtomicU64>::default();
        let port = |tls, controller| Port {
            acceptor: TlsAcceptor::from(tls),
            expired: expired.clone(),
            controller,
            stop: stop.clone(),
            tasks: tasks.clone(),
            connections: Arc::clone(&connections),
        };
        let (apple, google) = (Arc::clone(&parts.apple), Arc::clone(&parts.google));
        let apple_port = port(tls_with_client, Arc::clone(&apple.controller));
        let google_port = port(tls, Arc::clone(&google.controller));
        tasks.spawn(apple_port.serve(apns_listener, move |certificate| {
            let topics = certificate.map(|certificate| topics_of(&certificate));
            ApnsConnection::new(Arc::clone(&apple), topics)
        }));
        tasks.spawn(google_port.serve(fcm_listener, move |_| FcmConnection::new(Arc::clone(&google))));
        let tunnel = Proxy {
            record: Arc::clone(&parts.record),
            login: tunnels,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(tunnel.serve(proxy_listener));
        let router = control::router(parts.clone());
        let limits = Limits { max_body_bytes: 2 * 1024 * 1024, ..Limits::of_a_private_port() };
        let edge = Edge::new("simulator", limits);
        tasks.spawn(http_edge::serve(control_listener, None, router, edge, stop.clone(), tasks.clone()));
        info!(%apns, %fcm, %control, %proxy, "simulator started");
        Ok(Self { apns, fcm, control, proxy, files, parts, stop, tasks })
    }

    /// Returns the address of APNs; its certificate is for `localhost` and for Apple's names.
    #[must_use]
    pub const fn apns(&self) -> SocketAddr {
        self.apns
    }

    /// Returns the address of FCM and, under `/token`, of its token endpoint.
    #[must_use]
    pub const fn fcm(&self) -> SocketAddr {
        self.fcm
    }

    /// Returns the address of the control port and the page.
    #[must_use]
    pub const fn control(&self) -> SocketAddr {
        self.control
    }

    /// Returns the address of the CONNECT proxy.
    #[must_use]
    pub const fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Returns the certificate that a sender has to trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.files.ca()
    }

    /// Returns the APNs key that a sender has to sign with.
    #[must_use]
    pub fn apns_key_file(&self) -> PathBuf {
        self.files.apns_key()
    }

    /// Returns the certificate and key that a sender may use in place of the key.
    #[must_use]
    pub fn apns_certificate_file(&self) -> PathBuf {
        self.files.apns_certificate()
    }

    /// Returns the service account that a sender has to use.
    #[must_use]
    pub fn service_account_file(&self) -> PathBuf {
        self.files.service_account()
    }

    /// Returns the piece of configuration with which hpns pushes to this simulator: two iOS apps and
    /// an Android app.
    #[must_use]
    pub fn configuration(&self) -> String {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path).display().to_string();
        let (ca, key) = (absolute(self.ca_file()), absolute(self.apns_key_file()));
        let (account, apns, fcm) = (absolute(self.service_account_file()), self.apns.port(), self.fcm.port());
        let apple = |name: &str, platform: &str, topic: &str| {
            format!(
                r#"[apps.{name}]
provider = "apns"
platform = "{platform}"
topic = "{topic}"
team_id = "{APNS_TEAM_ID}"
key_id = "{APNS_KEY_ID}"
key_file = "{key}"
endpoint = "localhost:{apns}"
ca_file = "{ca}"
"#
            )
        };
        format!(
            r#"[development]
custom_endpoints = true
{}{}[apps.android]
provider = "fcm"
platform = "android_rn"
project = "{FCM_PROJECT}"
service_account_file = "{account}"
base_url = "https://localhost:{fcm}"
token_url = "https://localhost:{fcm}/token"
ca_file = "{ca}"
"#,
            apple("ios", "apple_rn", "com.example.mm"),
            apple("ios-beta", "apple_rnbeta", "com.example.mm.beta"),
        )
    }

    /// Returns what was received, oldest first.
    #[must_use]
    pub fn notifications(&self) -> Vec<Received> {
        self.parts.record.after(0)
    }

    /// Returns the counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.parts.record.stats()
    }

    /// Scripts the answers for a token.
    pub fn script(&self, script: Script) {
        self.parts.scripts.set(script);
    }

    /// Changes how a provider treats its connections.
    pub fn adjust_profile(&self, provider: ProviderName, change: impl FnOnce(&mut FaultProfile)) {
        let controller = self.parts.controller(provider);
        let mut profile = FaultProfile::clone(&controller.profile());
        change(&mut profile);
        controller.set(profile);
    }

    /// Strikes the connections that are open at the moment.
    pub fn inject_fault(&self, provider: ProviderName, fault: Fault) {
        self.parts.controller(provider).inject_fault(fault);
    }

    /// Moves the providers' clock forward.
    pub fn advance_clock(&self, by: Duration) {
        self.parts.clock.advance(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
    }

    /// Makes FCM refuse every access token granted so far.
    pub fn revoke_access_tokens(&self) {
        self.parts.google.oauth.revoke_all();
    }

    /// Makes APNs know another bundle id; open connections do not learn of it.
    pub fn add_topic(&self, topic: &str) {
        self.parts.apple.add_topic(topic.to_owned());
    }

    /// Closes every port and connection at once, as a provider that dies does. Returns the last counts.
    pub async fn stop(self) -> Stats {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.parts.record.stats()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Puts the two providers together.
fn assemble(settings: Settings, credentials: Credentials, fcm: SocketAddr) -> Control {
    let Settings { topics, accept_all, delay, rtt, .. } = settings;
    let clock = Arc::<VirtualClock>::default();
    let (record, scripts) = (Arc::new(Record::new(Arc::clone(&clock))), Arc::<Scripts>::default());
    let rtt_ms = u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX);
    let controller = |usual: FaultProfile| {
        let profile = if accept_all {
            FaultProfile::unlimited(usual.streams, rtt_ms)
        } else {
            FaultProfile { rtt_ms, ..usual }
        };
        Arc::new(FaultController::new(profile))
    };
    let apple = Arc::new(Apns {
        topics: Mutex::new(Arc::new(topics)),
        key: credentials.apns_public,
        record: Arc::clone(&record),
        scripts: Arc::clone(&scripts),
        controller: controller(FaultProfile::apple()),
        clock: Arc::clone(&clock),
        devices: RateWindows::default(),
        accept_all,
        delay,
    });
    let audience = format!("https://localhost:{}/token", fcm.port());
    let google = Arc::new(Fcm {
        oauth: OAuth::new(credentials.fcm_public, audience, Arc::clone(&clock)),
        record: Arc::clone(&record),
        scripts: Arc::clone(&scripts),
        controller: controller(FaultProfile::google()),
        clock: Arc::clone(&clock),
        rates: RateWindows::default(),
        accept_all,
        delay,
    });
    Control { record, scripts, clock, apple, google }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = http_edge::bind(address, false).map_err(|error| StartError::Listen(address, error))?;
    let address = listener.local_addr().map_err(|error| StartError::Listen(address, error))?;
    Ok((listener, address))
}
