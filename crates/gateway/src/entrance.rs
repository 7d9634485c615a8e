//! What is looked at before a licence is: who is at the door, over what kind of connection, and how often it was
//! the wrong door.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http_edge::{Peer, Rates, TrustedProxies, site};
use push_domain::TenantId;
use tenant_registry::{InvalidKey, Keys, LicenceKey};

use crate::Access;

/// Wrong keys of one source: 10 a minute, and 20 at once. Only what fails is counted, and no key is ever locked:
/// whoever knows its public part could switch a customer off.
const WRONG_KEY_EVERY: Duration = Duration::from_secs(6);
const WRONG_KEYS_AT_ONCE: u32 = 20;
/// Sources that are remembered.
const SOURCES: usize = 100_000;

/// How callers may come in.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// Who may push.
    pub access: Access,
    /// The region of this process.
    pub region: String,
    /// Where to send callers whose licence holds in another region: their push URLs.
    pub region_urls: BTreeMap<String, String>,
    /// Whose word for a caller's address is taken, and who may bring licence keys over plain HTTP.
    pub trusted_proxies: TrustedProxies,
    /// What servers without a licence may do, if anything.
    pub test_tier: Option<TestTier>,
}

/// What one source without a licence may push.
#[derive(Debug, Clone, Copy)]
pub struct TestTier {
    /// Pushes a second.
    pub rate_per_second: u32,
    /// Pushes at once.
    pub burst: u32,
}

impl Entrance {
    /// Begins with no test tier, and with trust in this machine alone.
    #[must_use]
    pub fn new(access: Access, region: &str) -> Self {
        let own = ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok());
        Self {
            access,
            region: region.to_owned(),
            region_urls: BTreeMap::new(),
            trusted_proxies: TrustedProxies::new(own.collect()),
            test_tier: None,
        }
    }
}

/// A request as the door sees it.
pub(crate) struct Approach<'a> {
    pub(crate) key: Option<&'a Result<LicenceKey, InvalidKey>>,
    /// The other end of the connection; nobody's where there is none.
    pub(crate) peer: Option<Peer>,
    pub(crate) headers: &'a HeaderMap,
}

/// Counts what each source does.
pub(crate) struct Sources {
    proxies: TrustedProxies,
    wrong_keys: Rates,
    unlicensed: Option<[Rates; 2]>,
    keys: Keys,
}

impl Sources {
    pub(crate) fn new(entrance: &Entrance, keys: &Keys) -> Self {
        let rates = |tier: TestTier| {
            [(); 2].map(|()| Rates::per_second(tier.rate_per_second.max(1), tier.burst, SOURCES))
        };
        Self {
            proxies: entrance.trusted_proxies.clone(),
            wrong_keys: Rates::new(WRONG_KEY_EVERY, WRONG_KEYS_AT_ONCE, SOURCES),
            unlicensed: entrance.test_tier.map(rates),
            keys: keys.clone(),
        }
    }

    /// Says whether a licence key may come this way: encrypted, or from a proxy that we trust.
    pub(crate) fn may_bring_a_key(&self, approach: &Approach<'_>) -> bool {
        approach.peer.is_none_or(|peer| peer.is_tls || self.proxies.contains(peer.address))
    }

    /// Counts a wrong key, and says whether the source may be told so.
    pub(crate) fn may_fail(&self, approach: &Approach<'_>) -> bool {
        self.wrong_keys.lets_through(self.source(approach))
    }

    /// The tenant that stands for a source without a licence; each is one of its own.
    pub(crate) fn tenant(&self, approach: &Approach<'_>) -> TenantId {
        TenantId::unlicensed(self.source(approach))
    }

    /// Counts a push without a licence against its source, and against its server within that.
    pub(crate) fn lets_unlicensed(&self, tenant: TenantId, server: &str) -> bool {
        let Some([sources, servers]) = &self.unlicensed else { return false };
        let (_, source) = tenant.uuid().as_u64_pair();
        let server = self.keys.source_hash(&[&source.to_be_bytes(), server.as_bytes()]);
        servers.lets_through(server) && sources.lets_through(source)
    }

    /// A keyed hash of the address.
    fn source(&self, approach: &Approach<'_>) -> u64 {
        let Some(peer) = approach.peer else { return 0 };
        self.keys.source_hash(&[&site(self.proxies.client(peer.address, approach.headers))])
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}
