//! Peer address of a connection, and the client address behind trusted proxies (`X-Forwarded-For`).

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;
use serde::Deserialize;

use crate::connection_table::Network;

/// Peer of a connection; every request carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

/// Trusted proxies: networks whose word for a client's address is taken.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
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
    /// is not one of theirs; of `Forwarded` (RFC 7239) where the former is not there. What a caller writes further to the left
    /// counts for nothing. An entry that is no address is counted, and the proxy stands for its client.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return client;
        }
        let listed = |name: &str| -> Vec<&str> {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).collect()
        };
        let mut hops = listed("x-forwarded-for");
        if hops.is_empty() {
            hops = listed("forwarded").into_iter().map(forwarded_for).collect();
        }
        for hop in hops.into_iter().rev() {
            let Some(hop) = address(hop) else {
                metrics::counter!("http_forwarded_unreadable_total").increment(1);
                break;
            };
            client = hop.to_canonical();
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

/// The `for` of one element of `Forwarded`; empty if it has none.
fn forwarded_for(element: &str) -> &str {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
        .map(|(_, value)| value)
        .next()
        .unwrap_or_default()
}

/// An address as proxies write it: with a port, in brackets, in quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()))
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
    fn the_standard_header_is_read_where_the_usual_one_is_not_there() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let client = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            proxies.client("10.0.0.1".parse().unwrap(), &headers).to_string()
        };

        assert_eq!(client(&[("forwarded", "for=203.0.113.7, for=198.51.100.9;proto=https")]), "198.51.100.9");
        assert_eq!(client(&[("forwarded", "proto=https;For=\"[2001:db8::1]:4711\"")]), "2001:db8::1");
        assert_eq!(client(&[("forwarded", "for=_hidden")]), "10.0.0.1");
        let both = [("x-forwarded-for", "198.51.100.9"), ("forwarded", "for=203.0.113.7")];
        assert_eq!(client(&both), "198.51.100.9");
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
            ("10.0.0.1", &["198.51.100.9:4711"], "198.51.100.9"),
            ("10.0.0.1", &["203.0.113.7, \"198.51.100.9\""], "198.51.100.9"),
            ("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["198.51.100.9:port"], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }
}
