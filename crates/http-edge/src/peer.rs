//! Who is at the other end of a connection, and who is behind the proxies in between.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use crate::floor::Network;

/// The other end of a connection; every request carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

/// Networks whose word for a client's address is taken.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts these networks and no others.
    #[must_use]
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Says whether an address is one of a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns the client's address: the peer, or behind trusted proxies the last entry of `X-Forwarded-For` that
    /// is not one of theirs. What a caller writes further to the left counts for nothing.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return client;
        }
        let values = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        for hop in hops.into_iter().rev() {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            client = hop.to_canonical();
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

/// What stands for a source in limits, the narrowest first: an IPv4 address; or of an IPv6 address the /64 that names its
/// site, and the /56, /48 and /32 that the site is part of. Whoever has one address of a site has all of it.
#[must_use]
pub fn networks(address: IpAddr) -> Vec<Vec<u8>> {
    Network::of(address).into_iter().map(Network::bytes).collect()
}

/// The narrowest of [`networks`].
#[must_use]
pub fn site(address: IpAddr) -> Vec<u8> {
    networks(address).into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn an_ipv6_site_is_one_source() {
        let site = |address: &str| site(address.parse().unwrap());
        assert_eq!(site("2001:db8::1"), site("2001:db8::2:1"));
        assert_ne!(site("2001:db8::1"), site("2001:db8:0:1::1"));
        assert_ne!(site("192.0.2.1"), site("192.0.2.2"));
        assert_eq!(site("::ffff:192.0.2.1"), site("192.0.2.1"));
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_what_they_saw_themselves() {
        for (peer, forwarded, expected) in [
            ("192.0.2.1", &["198.51.100.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", &["203.0.113.7, 198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", &["203.0.113.7, 198.51.100.9, 10.9.9.9"], "198.51.100.9"),
            ("10.0.0.1", &["203.0.113.7", "198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", &["203.0.113.7, nonsense"], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("::1", &["198.51.100.9"], "198.51.100.9"),
        ] {
            assert_eq!(client(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }
}
