//! HTTP/2 client shards: several clients of one Firebase project, with a permit for each stream.
//!
//! reqwest keeps one connection per client and origin, and FCM takes 100 requests at once on it;
//! more would queue unseen inside hyper. So there are several clients, each with its permits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use push_domain::OutboundProxy;
use reqwest::{Client, Proxy};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tracing::warn;

/// FCM allows 100 streams on a connection.
const STREAMS: usize = 90;
/// Shorter than the shortest time that a push has.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The whole of one request; Google wants at least 10 s before a re-send.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// So many requests in a row without any answer, and none for so long, mean that the connection is dead.
const SILENT_REQUESTS: u32 = 3;
const SILENCE: Duration = Duration::from_secs(5);

/// Under the 4 minutes after which Google ends an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(210);
/// How long requests wait for the first one on a new connection.
const COLD_WAIT: Duration = Duration::from_secs(1);

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The proxy is no HTTP address, or its login no header value.
    #[error("the outbound proxy cannot be used: its address has to be http://host:port")]
    Proxy,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[from] reqwest::Error),
}

/// Makes one client: its own connection, no redirects, HTTPS only, keep-alive while requests are open
/// (FCM ends connections that send PINGs without any). Never looks for a proxy by itself.
pub(crate) fn client(
    tls: ClientConfig,
    proxy: Option<&OutboundProxy>,
    ping_interval: Duration,
) -> Result<Client, ClientError> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(SEND_TIMEOUT)
        .http2_keep_alive_interval(ping_interval)
        .http2_keep_alive_timeout(ping_interval / 2)
        .http2_keep_alive_while_idle(false)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .https_only(true)
        .no_proxy()
        .user_agent(concat!("hpns/", env!("CARGO_PKG_VERSION")));
    if let Some(OutboundProxy { address, authorization }) = proxy {
        let mut proxy = Proxy::all(address).map_err(|_| ClientError::Proxy)?;
        if let Some(login) = authorization {
            let mut value = HeaderValue::try_from(login.expose_secret()).map_err(|_| ClientError::Proxy)?;
            value.set_sensitive(true);
            proxy = proxy.custom_http_auth(value);
        }
        builder = builder.proxy(proxy);
    }
    Ok(builder.build()?)
}

/// TLS towards Google: rustls with aws-lc-rs. Trusts `roots`, which all senders of a process share.
pub(crate) fn tls_config(roots: Arc<RootCertStore>) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// One client, and whether its connection still answers.
#[derive(Debug)]
struct Shard {
    /// Made for the first request.
    client: ArcSwapOption<Client>,
    permits: Semaphore,
    /// Whether its connection has answered. Until then requests follow each other: at once, each of them
    /// would open a connection, as hyper does not know yet that one is enough.
    warm: AtomicBool,
    first: tokio::sync::Mutex<()>,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct Health {
    answered_at: Instant,
    unanswered: u32,
}

impl Shard {
    /// Whether its connection answered not long ago; reqwest closes one that is idle.
    fn is_warm(&self) -> bool {
        let busy = self.permits.available_permits() < STREAMS - 1;
        self.warm.load(Ordering::Relaxed) && (busy || self.health().answered_at.elapsed() < IDLE_TIMEOUT)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request that was never answered, and says whether the client should be replaced.
    fn is_dead(&self, sent_at: Instant) -> bool {
        let mut health = self.health();
        if health.answered_at > sent_at {
            return false;
        }
        health.unanswered += 1;
        let dead = health.unanswered >= SILENT_REQUESTS && health.answered_at.elapsed() >= SILENCE;
        if dead {
            // The next client has its own time to prove itself.
            *health = Health { answered_at: Instant::now(), unanswered: 0 };
        }
        dead
    }
}

/// Stream permit: the right to send one request, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    /// The number of the shard.
    pub(crate) shard: usize,
    _permits: [SemaphorePermit<'a>; 2],
    _first: Option<tokio::sync::MutexGuard<'a, ()>>,
}

/// Client shards of one project.
#[derive(Debug)]
pub(crate) struct Shards {
    app: String,
    all: Vec<Shard>,
    /// As many as all shards have together: who holds one finds room in some shard.
    places: Semaphore,
    make: ClientMaker,
}

/// How the clients of a project are made.
#[derive(Debug)]
pub(crate) struct ClientMaker {
    pub(crate) tls: ClientConfig,
    pub(crate) proxy: Option<OutboundProxy>,
    pub(crate) ping_interval: Duration,
}

impl ClientMaker {
    fn client(&self) -> Result<Client, ClientError> {
        client(self.tls.clone(), self.proxy.as_ref(), self.ping_interval)
    }
}

impl Shards {
    /// Makes the shards; what makes a client is tried once, the clients are made by need.
    pub(crate) fn new(app: String, count: usize, make: ClientMaker) -> Result<Self, ClientError> {
        let first = make.client()?;
        let shard = |number| Shard {
            client: ArcSwapOption::new((number == 0).then(|| Arc::new(first.clone()))),
            permits: Semaphore::new(STREAMS),
            warm: AtomicBool::new(false),
            first: tokio::sync::Mutex::new(()),
            health: Mutex::new(Health { answered_at: Instant::now(), unanswered: 0 }),
        };
        let all: Vec<_> = (0..count.max(1)).map(shard).collect();
        let places = Semaphore::new(all.len() * STREAMS);
        Ok(Self { app, all, places, make })
    }

    /// Waits for the right to send one request, in order. Fills one shard to half before it opens the
    /// next, so that low load keeps few connections; then the shard with most room serves.
    ///
    /// A later attempt prefers another shard than the first.
    ///
    /// Cancel safe.
    pub(crate) async fn permit(&self, attempt: u32) -> Option<Permit<'_>> {
        let place = self.places.acquire().await.ok()?;
        let free = |(_, shard): &(usize, &Shard)| shard.permits.available_permits();
        let from = attempt.saturating_sub(1) as usize % self.all.len();
        let (before, after) =
            (self.all.iter().enumerate().take(from), self.all.iter().enumerate().skip(from));
        let roomy = after.chain(before).find(|shard| free(shard) > STREAMS / 2);
        let (number, shard) = roomy.or_else(|| self.all.iter().enumerate().max_by_key(free))?;
        let permit = shard.permits.acquire().await.ok()?;
        let mut first = None;
        if !shard.is_warm() {
            let waited = timeout(COLD_WAIT, shard.first.lock()).await.ok();
            first = waited.filter(|_| !shard.is_warm());
        }
        // Dropped in this order: who gets the place finds the permit free.
        Some(Permit { shard: number, _permits: [permit, place], _first: first })
    }

    /// Returns the present client of a shard; makes it for the first request.
    pub(crate) fn client(&self, number: usize) -> Result<Arc<Client>, ClientError> {
        let shard = &self.all[number];
        if let Some(client) = shard.client.load_full() {
            return Ok(client);
        }
        // Two may make one each: the second one stays.
        let made = Arc::new(self.make.client()?);
        shard.client.store(Some(Arc::clone(&made)));
        Ok(made)
    }

    /// Notes that a shard's connection answers.
    pub(crate) fn answered(&self, number: usize) {
        self.all[number].warm.store(true, Ordering::Relaxed);
        *self.all[number].health() = Health { answered_at: Instant::now(), unanswered: 0 };
    }

    /// Notes that a request was not answered in its time, and replaces a client that answers nothing:
    /// its connection is open to the eye, and hyper would never open another.
    pub(crate) fn unanswered(&self, number: usize, sent_at: Instant) {
        let shard = &self.all[number];
        if !shard.is_dead(sent_at) {
            return;
        }
        match self.make.client() {
            Ok(client) => {
                shard.client.store(Some(Arc::new(client)));
                shard.warm.store(false, Ordering::Relaxed);
                metrics::counter!("fcm_connections_replaced_total", "app" => self.app.clone()).increment(1);
                warn!(app = self.app, "a connection to FCM answers nothing; it is replaced");
            }
            Err(error) => {
                warn!(app = self.app, %error, "a connection to FCM answers nothing and cannot be replaced");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards() -> Shards {
        let tls = tls_config(Arc::new(RootCertStore::empty())).unwrap();
        Shards::new("test".into(), 1, ClientMaker { tls, proxy: None, ping_interval: SILENCE }).unwrap()
    }

    /// Whether a shard's client is another one after requests that were sent now and not answered.
    async fn is_replaced(shards: &Shards, unanswered: u32, wait: Duration) -> bool {
        let (before, sent_at) = (shards.client(0).unwrap(), Instant::now());
        tokio::time::advance(wait).await;
        (0..unanswered).for_each(|_| shards.unanswered(0, sent_at));
        !Arc::ptr_eq(&before, &shards.client(0).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_answers_nothing_is_replaced() {
        assert!(is_replaced(&shards(), SILENT_REQUESTS, SILENCE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_slow_answers_or_a_short_silence_replace_nothing() {
        assert!(!is_replaced(&shards(), SILENT_REQUESTS - 1, SILENCE).await);
        assert!(!is_replaced(&shards(), SILENT_REQUESTS, SILENCE / 2).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_another_request_clears_the_connection() {
        let shards = shards();
        let sent_at = Instant::now();
        tokio::time::advance(SILENCE).await;
        shards.answered(0);

        let before = shards.client(0).unwrap();
        (0..10).for_each(|_| shards.unanswered(0, sent_at));
        assert!(Arc::ptr_eq(&before, &shards.client(0).unwrap()));
    }
}
