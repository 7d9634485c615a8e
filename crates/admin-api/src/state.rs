//! Application state of the admin API, shared by all requests.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use dispatch_stream::PeerDirectory;
use http_edge::{KeyedRateLimiter, NetworkRateLimiter};
use push_domain::{AppCatalogue, Clock, Objectives, SecretBytes};
use tenant_registry::{ControlAdmin, HomeAdmin, Keys};

use crate::Config;
use crate::identity::Oidc;
use crate::registry_watch::RegistryWatch;
use crate::sign_in_failures::FailedSignIns;

/// Failed sign-ins of one source: 10 a minute, and 20 at once.
const FAILURE_EVERY: Duration = Duration::from_secs(6);
const FAILURES_AT_ONCE: u32 = 20;
const SOURCES: usize = 50_000;
/// Deeds of one caller that change nothing and are noted: one a second, thirty at once.
const NOTE_EVERY: Duration = Duration::from_secs(1);
const NOTES_AT_ONCE: u32 = 30;
/// How long a gateway may take for a test push.
const TEST_PUSH: Duration = Duration::from_secs(30);

/// Dependencies of the admin API.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// The region of this process.
    pub region: String,
    /// What is promised of plans with a service level.
    pub objectives: Objectives,
    /// The plain HTTP port of a gateway of the same process, if there is one.
    pub own_gateway: Option<SocketAddr>,
    /// What is sold, and to whom.
    pub control: Arc<dyn ControlAdmin>,
    /// What happened in this region.
    pub home: Arc<dyn HomeAdmin>,
    /// The service's own keys.
    pub keys: Keys,
    /// What the processes know of each other.
    pub peers: Arc<PeerDirectory>,
    /// The apps.
    pub apps: Arc<AppCatalogue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The admin API of one process. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<State>);

/// Shared state behind [`Admin`].
pub struct State {
    pub(crate) config: Config,
    pub(crate) region: String,
    pub(crate) objectives: Objectives,
    /// Under which reports are signed: the first signs.
    pub(crate) report_keys: Vec<Ed25519KeyPair>,
    /// Where test pushes go.
    pub(crate) gateway_url: String,
    pub(crate) control: Arc<dyn ControlAdmin>,
    pub(crate) home: Arc<dyn HomeAdmin>,
    pub(crate) keys: Keys,
    /// Under which sessions are signed: the first signs.
    pub(crate) session_keys: Vec<SecretBytes>,
    pub(crate) peers: Arc<PeerDirectory>,
    pub(crate) apps: Arc<AppCatalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) oidc: Option<Oidc>,
    pub(crate) failures: NetworkRateLimiter,
    pub(crate) failed: FailedSignIns,
    pub(crate) watch: RegistryWatch,
    /// What one caller may have noted that changes nothing.
    pub(crate) noted: KeyedRateLimiter,
    pub(crate) client: reqwest::Client,
}

impl Admin {
    /// Puts the parts together. Fails when no HTTP client can be made.
    pub fn new(parts: Parts) -> Result<Self, reqwest::Error> {
        let Parts { config, region, objectives, own_gateway, control, home, keys, peers, apps, clock } =
            parts;
        let own = own_gateway.map(|address| match address.ip() {
            any if any.is_unspecified() => format!("http://127.0.0.1:{}", address.port()),
            _ => format!("http://{address}"),
        });
        let gateway_url = config.gateway_url.clone().or(own).unwrap_or_else(|| config.push_url.clone());
        // Only the gateway of the configuration is ever asked; nobody leads us elsewhere.
        let client = reqwest::Client::builder()
            .timeout(TEST_PUSH)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let oidc = config.oidc.clone().map(Oidc::new);
        let session_keys = keys.purpose_keys("console session");
        let pair = |seed: SecretBytes| Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok();
        let report_keys = keys.purpose_keys("service-level report").into_iter().filter_map(pair).collect();
        let (failed, noted) =
            (FailedSignIns::default(), KeyedRateLimiter::new(NOTE_EVERY, NOTES_AT_ONCE, SOURCES));
        let failures = NetworkRateLimiter::new(|times| {
            KeyedRateLimiter::new(FAILURE_EVERY / times, FAILURES_AT_ONCE * times, SOURCES / times as usize)
        });
        let state = State {
            config,
            region,
            objectives,
            report_keys,
            gateway_url,
            control,
            home,
            keys,
            session_keys,
            peers,
            apps,
            clock,
            oidc,
            failures,
            failed,
            watch: RegistryWatch::default(),
            noted,
            client,
        };
        Ok(Self(Arc::new(state)))
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("config", &self.config).finish_non_exhaustive()
    }
}

impl std::ops::Deref for Admin {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("config", &self.config).finish_non_exhaustive()
    }
}
