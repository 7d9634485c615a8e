//! Several HTTP/2 clients to one project.
//!
//! reqwest keeps one connection per client and origin, and FCM takes 100 requests at once on it;
//! more would queue unseen inside hyper. So there are several clients, each with its permits.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client};
use tokio::sync::{Semaphore, SemaphorePermit};

/// FCM allows 100 streams on a connection.
const STREAMS: usize = 90;
/// Shorter than the shortest time that a push has.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The whole of one request; Google wants at least 10 s before a re-send.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA file is missing, unreadable or holds no certificate.
    #[error("the CA file holds no readable PEM certificate")]
    CaFile,
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[from] reqwest::Error),
}

/// Makes one client: its own connection, no redirects, HTTPS only, keep-alive while requests are open
/// (FCM ends connections that send PINGs without any).
pub(crate) fn client(ca_file: Option<&Path>) -> Result<Client, ClientError> {
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(SEND_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(5))
        .http2_keep_alive_while_idle(false)
        .pool_idle_timeout(Duration::from_secs(210))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .https_only(true)
        .user_agent(concat!("hpns/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|_| ClientError::CaFile)?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| ClientError::CaFile)?;
        if certificates.is_empty() {
            return Err(ClientError::CaFile);
        }
        builder = builder.tls_certs_only(certificates);
    }
    Ok(builder.build()?)
}

#[derive(Debug)]
struct Shard {
    client: Client,
    permits: Semaphore,
}

/// The clients of one project.
#[derive(Debug)]
pub(crate) struct Shards {
    shards: Vec<Shard>,
    /// As many as all shards have together: who holds one finds room in some shard.
    places: Semaphore,
}

impl Shards {
    pub(crate) fn new(count: usize, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let shard = |_| Ok(Shard { client: client(ca_file)?, permits: Semaphore::new(STREAMS) });
        let shards = (0..count.max(1)).map(shard).collect::<Result<Vec<_>, ClientError>>()?;
        let places = Semaphore::new(shards.len() * STREAMS);
        Ok(Self { shards, places })
    }

    /// Waits for the right to send one request, in order. Fills one shard to half before it opens the
    /// next, so that low load keeps few connections; then the shard with most room serves.
    ///
    /// Cancel safe.
    pub(crate) async fn permit(&self) -> Option<(&Client, [SemaphorePermit<'_>; 2])> {
        let place = self.places.acquire().await.ok()?;
        let roomy = self.shards.iter().find(|shard| shard.permits.available_permits() > STREAMS / 2);
        let shard =
            roomy.or_else(|| self.shards.iter().max_by_key(|shard| shard.permits.available_permits()))?;
        let permit = shard.permits.acquire().await.ok()?;
        Some((&shard.client, [permit, place]))
    }
}
