//! The three servers together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::apns::{Apns, ApnsConnection};
use crate::control;
use crate::credentials::{APNS_KEY_ID, APNS_TEAM_ID, CredentialError, Credentials, FCM_PROJECT, Files};
use crate::fcm::{Fcm, FcmConnection};
use crate::http2::{Service, converse};
use crate::oauth::OAuth;
use crate::record::{Received, Record, Stats};
use crate::script::{Script, Scripts};

/// After a failed accept, such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to listen and what to be.
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
    files: Files,
    record: Arc<Record>,
    scripts: Arc<Scripts>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Simulator {
    /// Starts all servers on the current runtime; they accept connections when this returns.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let files = Files::new(&settings.directory);
        let credentials = Credentials::load_or_make(&files)?;
        let (apns_listener, apns) = listen(settings.apns)?;
        let (fcm_listener, fcm) = listen(settings.fcm)?;
        let (control_listener, control) = listen(settings.control)?;
        let (record, scripts) = (Arc::<Record>::default(), Arc::<Scripts>::default());
        let apple = Arc::new(Apns {
            topics: settings.topics,
            key: credentials.apns_public,
            record: Arc::clone(&record),
            scripts: Arc::clone(&scripts),
            accept_all: settings.accept_all,
            delay: settings.delay,
        });
        let google = Arc::new(Fcm {
            oauth: OAuth::new(credentials.fcm_public, format!("https://localhost:{}/token", fcm.port())),
            record: Arc::clone(&record),
            scripts: Arc::clone(&scripts),
            accept_all: settings.accept_all,
            delay: settings.delay,
        });
        let port = Port {
            acceptor: TlsAcceptor::from(credentials.tls),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            connections: Arc::default(),
        };
        let (stop, tasks) = (port.stop.clone(), port.tasks.clone());
        let router = control::router(Arc::clone(&record), Arc::clone(&scripts), Arc::clone(&google));
        tasks.spawn(port.clone().serve(apns_listener, move || ApnsConnection::new(Arc::clone(&apple))));
        tasks.spawn(port.serve(fcm_listener, move || FcmConnection::new(Arc::clone(&google))));
        let limits = http_edge::Limits::default();
        tasks.spawn(http_edge::serve(control_listener, router, limits, stop.clone(), tasks.clone()));
        info!(%apns, %fcm, %control, "simulator started");
        Ok(Self { apns, fcm, control, files, record, scripts, stop, tasks })
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
        self.record.after(0)
    }

    /// Returns the counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.record.stats()
    }

    /// Scripts the answers for a token.
    pub fn script(&self, script: Script) {
        self.scripts.set(script);
    }

    /// Closes every port and connection at once, as a provider that dies does. Returns the last counts.
    pub async fn stop(self) -> Stats {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.record.stats()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = http_edge::bind(address, false).map_err(|error| StartError::Listen(address, error))?;
    let address = listener.local_addr().map_err(|error| StartError::Listen(address, error))?;
    Ok((listener, address))
}

/// One TLS port.
#[derive(Clone)]
struct Port {
    acceptor: TlsAcceptor,
    stop: CancellationToken,
    tasks: TaskTracker,
    connections: Arc<AtomicU64>,
}

impl Port {
    async fn serve<S: Service + Send + 'static>(self, listener: TcpListener, service: impl Fn() -> S) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let id = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
            let (port, service) = (self.clone(), service());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = port.stop.cancelled() => {}
                    () = port.converse(stream, id, service) => {}
                }
            });
        }
    }

    async fn converse<S: Service>(&self, stream: TcpStream, id: u64, service: S) {
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await;
        let Ok(Ok(transport)) = handshake else {
            debug!(connection = id, "TLS handshake failed");
            return;
        };
        if transport.get_ref().1.alpn_protocol() != Some(b"h2") {
            debug!(connection = id, "the client does not speak HTTP/2");
            return;
        }
        if let Err(error) = converse(transport, id, service).await {
            debug!(connection = id, %error, "connection ended");
        }
    }
}
