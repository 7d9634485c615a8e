//! Pre-authentication checks: source address, TLS, throttling of invalid keys, and limits of the test tier.
//! Callers are told apart by network, as keyed hashes.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http_edge::{KeyedRateLimiter, NetworkRateLimiter, Peer, TrustedProxies};
use push_domain::TenantId;
use tenant_registry::{InvalidKey, Keys, LicenceKey};

use crate::config::{AdmissionConfig, TestTier};

/// Wrong keys of one source: 10 a minute, and 20 at once. Only what fails is counted, and no key is ever locked:
/// whoever knows its public part could switch a customer off.
const WRONG_KEY_EVERY: Duration = Duration::from_secs(6);
const WRONG_KEYS_AT_ONCE: u32 = 20;
/// Sources that are remembered.
const SOURCES: usize = 100_000;

/// Origin of a request: its key, its peer and its headers, before authentication.
pub(crate) struct RequestOrigin<'a> {
    pub(crate) key: Option<&'a Result<LicenceKey, InvalidKey>>,
    /// The other end of the connection; nobody's where there is none.
    pub(crate) peer: Option<Peer>,
    pub(crate) headers: &'a HeaderMap,
    /// Whether it came to a name that stands for no region.
    pub(crate) is_global: bool,
}

/// The networks that a caller comes from, its site first, as keyed hashes: an IPv4 address has one, an IPv6 one four.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Networks {
    all: [u64; 4],
    count: usize,
}

impl Networks {
    fn hashes(&self) -> &[u64] {
        self.all.get(..self.count.max(1)).unwrap_or_default()
    }

    /// The tenant that stands for a source without a licence; each is one of its own.
    pub(crate) fn tenant(self) -> TenantId {
        TenantId::unlicensed(self.all[0])
    }
}

/// Of larger networks there are fewer.
const fn remembered(times: u32) -> usize {
    SOURCES / times as usize
}

/// Source limiter: throttles invalid keys and unlicensed pushes by network.
pub(crate) struct SourceLimiter {
    proxies: TrustedProxies,
    wrong_keys: NetworkRateLimiter,
    unlicensed: Option<Unlicensed>,
    keys: Keys,
}

/// Limiters of unlicensed callers: pushes by source, and by server within that; receipts.
struct Unlicensed {
    sources: NetworkRateLimiter,
    servers: KeyedRateLimiter,
    receipts: NetworkRateLimiter,
}

impl SourceLimiter {
    pub(crate) fn new(admission: &AdmissionConfig, keys: &Keys) -> Self {
        let rates = |tier: TestTier| {
            let rate = move |times: u32| {
                let per_second = tier.rate_per_second.max(1).saturating_mul(times);
                KeyedRateLimiter::per_second(per_second, tier.burst.saturating_mul(times), remembered(times))
            };
            let receipts = NetworkRateLimiter::new(move |times| rate(times.saturating_mul(2)));
            Unlicensed { sources: NetworkRateLimiter::new(rate), servers: rate(1), receipts }
        };
        Self {
            proxies: admission.trusted_proxies.clone(),
            wrong_keys: NetworkRateLimiter::new(|times| {
                KeyedRateLimiter::new(WRONG_KEY_EVERY / times, WRONG_KEYS_AT_ONCE * times, remembered(times))
            }),
            unlicensed: admission.test_tier.map(rates),
            keys: keys.clone(),
        }
    }

    /// Says whether a licence key may come this way: encrypted, or from a proxy that we trust.
    pub(crate) fn may_present_key(&self, origin: &RequestOrigin<'_>) -> bool {
        origin.peer.is_none_or(|peer| peer.is_tls || self.proxies.contains(peer.address))
    }

    /// Counts a wrong key, and says whether the source may be told so.
    pub(crate) fn check_wrong_key(&self, origin: &RequestOrigin<'_>) -> bool {
        self.wrong_keys.check(self.networks(origin).hashes())
    }

    /// Counts a push without a licence against its networks, and against its server within its source.
    pub(crate) fn check_unlicensed(&self, networks: Networks, server: &str) -> bool {
        let Some(rates) = &self.unlicensed else { return false };
        let server = self.keys.source_hash(&[&networks.all[0].to_be_bytes(), server.as_bytes()]);
        rates.servers.check(server) && rates.sources.check(networks.hashes())
    }

    /// Counts a receipt without a licence.
    pub(crate) fn check_receipt(&self, networks: Networks) -> bool {
        self.unlicensed.as_ref().is_some_and(|rates| rates.receipts.check(networks.hashes()))
    }

    /// Where a request comes from.
    pub(crate) fn networks(&self, origin: &RequestOrigin<'_>) -> Networks {
        let mut networks = Networks::default();
        let Some(peer) = origin.peer else { return networks };
        let address = self.proxies.client(peer.address, origin.headers);
        for (network, place) in http_edge::networks(address).into_iter().zip(&mut networks.all) {
            *place = self.keys.source_hash(&[&network]);
            networks.count += 1;
        }
        networks
    }
}

impl fmt::Debug for SourceLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceLimiter").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}
