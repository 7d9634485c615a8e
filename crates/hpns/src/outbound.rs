//! Proxy selection for outbound connections: which proxy stands between us and a host, if any.

use anyhow::{bail, ensure};
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use push_domain::OutboundProxy;
use secrecy::{ExposeSecret, SecretString};

use crate::config::OutboundConfig;

/// Where the environment names a proxy for Apple and Google.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Whether the library reads it as an HTTP proxy: what it cannot read it takes for no proxy at all.
fn is_proxy(address: &str) -> bool {
    let is_plain = |uri: Uri| {
        let host = uri.authority().map_or("", |authority| authority.as_str()).rsplit(['@', ']']).next();
        let port = !host.is_some_and(|host| host.contains(':')) || uri.port_u16().is_some();
        uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none() && port
    };
    let matcher = Matcher::builder().all(address.to_owned()).build();
    let used = "https://example.com".parse().is_ok_and(|host| matcher.intercept(&host).is_some());
    used && !address.contains('#') && address.parse().is_ok_and(is_plain)
}

/// A proxy's address as people write it: `proxy:3128` is an HTTP proxy.
fn with_scheme(address: &str) -> String {
    if address.is_empty() || address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    }
}

/// Hosts that need no proxy, as `NO_PROXY` is written: what the library reads, and those with a port, which it does not.
fn exceptions(text: &str) -> (String, Vec<(String, u16)>) {
    let (mut plain, mut with_port) = (Vec::new(), Vec::new());
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        // `*.example.com` is what the library knows as `.example.com`.
        let entry = entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry);
        match entry.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) if !host.contains(':') || host.starts_with('[') => {
                with_port.push((host.to_ascii_lowercase(), port));
            }
            _ => plain.push(entry),
        }
    }
    (plain.join(","), with_port)
}

/// Proxy resolver: the proxy for every outbound host, from the settings or the environment.
#[derive(Debug)]
pub(crate) struct ProxyResolver {
    matcher: Option<Matcher>,
    /// Hosts at these ports need none.
    except: Vec<(String, u16)>,
}

impl ProxyResolver {
    /// Reads the settings, or the environment where they say so.
    pub(crate) fn new(config: &OutboundConfig) -> anyhow::Result<Self> {
        let no_proxy = config.no_proxy.clone();
        Ok(match config.proxy.expose_secret() {
            word @ ("none" | "environment") => {
                ensure!(
                    no_proxy.is_empty(),
                    "`outbound.no_proxy` needs an `outbound.proxy`; with `environment`, NO_PROXY counts"
                );
                if word == "none" {
                    return Ok(Self { matcher: None, except: Vec::new() });
                }
                let mut proxy = String::new();
                for name in VARIABLES {
                    let value = with_scheme(&variable(name));
                    ensure!(
                        value.is_empty() || is_proxy(&value),
                        "the environment's {name} has to be http://[user:password@]host:port; set `outbound.proxy` to override it"
                    );
                    if proxy.is_empty() {
                        proxy = value;
                    }
                }
                let no_proxy = [variable("NO_PROXY"), variable("no_proxy")];
                Self::over(&proxy, no_proxy.iter().find(|list| !list.is_empty()).map_or("", String::as_str))
            }
            address => {
                let address = with_scheme(address);
                ensure!(
                    is_proxy(&address),
                    "`outbound.proxy` has to be `environment`, `none` or http://[user:password@]host:port, special characters of the login percent-encoded (`@` as %40)"
                );
                Self::over(&address, &no_proxy)
            }
        })
    }

    fn over(proxy: &str, no_proxy: &str) -> Self {
        let (plain, except) = exceptions(no_proxy);
        Self { matcher: Some(Matcher::builder().all(proxy.to_owned()).no(plain).build()), except }
    }

    /// Returns the proxy on the way to `https://host[:port]`.
    pub(crate) fn proxy_for(&self, url: &str) -> anyhow::Result<Option<OutboundProxy>> {
        let Some(matcher) = &self.matcher else { return Ok(None) };
        let uri: Uri = url.parse().map_err(|_| anyhow::anyhow!("not a URL with a host"))?;
        let (host, port) =
            (uri.host().unwrap_or_default().to_ascii_lowercase(), uri.port_u16().unwrap_or(443));
        let is_excepted = |(name, at): &(String, u16)| {
            *at == port && (host == *name || (name.starts_with('.') && host.ends_with(name.as_str())))
        };
        if self.except.iter().any(is_excepted) {
            return Ok(None);
        }
        let Some(found) = matcher.intercept(&uri) else { return Ok(None) };
        if found.uri().scheme_str() != Some("http") {
            bail!("the outbound proxy has to be an http:// proxy that takes CONNECT");
        }
        let (Some(host), port) = (found.uri().host(), found.uri().port_u16().unwrap_or(80)) else {
            bail!("the outbound proxy has no host");
        };
        let authorization = match found.basic_auth().map(|value| value.to_str()) {
            Some(value) => Some(SecretString::from(value?)),
            None => None,
        };
        Ok(Some(OutboundProxy { address: format!("http://{host}:{port}"), authorization }))
    }
}

#[expect(clippy::disallowed_methods, reason = "the setting says so; read once, at the start")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Says whether a URL leads to this machine, so that nobody on the way reads what is sent in the clear.
pub(crate) fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(proxy: &str, no_proxy: &str) -> anyhow::Result<ProxyResolver> {
        ProxyResolver::new(&OutboundConfig { proxy: proxy.into(), no_proxy: no_proxy.into() })
    }

    #[test]
    fn a_proxy_with_a_login_stands_before_every_host_but_the_excepted() {
        let outbound = outbound("http://ada:s%40crt@proxy.example:3128", "localhost, .example.com").unwrap();

        let proxy = outbound.proxy_for("https://api.push.apple.com:2197").unwrap().unwrap();
        assert_eq!(proxy.address, "http://proxy.example:3128");
        assert_eq!(proxy.authorization.as_ref().unwrap().expose_secret(), "Basic YWRhOnNAY3J0");
        assert!(!format!("{proxy:?}").contains("YWRh"));
        assert!(outbound.proxy_for("https://localhost:8070").unwrap().is_none());
        assert!(outbound.proxy_for("https://a.example.com").unwrap().is_none());
    }

    #[test]
    fn exceptions_and_proxies_are_read_as_people_write_them() {
        let outbound =
            outbound("proxy.example:3128", "*.example.com, fcm.googleapis.com:443, .test:8443,::1").unwrap();
        let goes_direct = |url: &str| outbound.proxy_for(url).unwrap().is_none();

        for direct in ["https://a.example.com", "https://fcm.googleapis.com", "https://x.test:8443"] {
            assert!(goes_direct(direct), "{direct}");
        }
        for proxied in ["https://api.push.apple.com", "https://fcm.googleapis.com:444", "https://x.test"] {
            assert!(!goes_direct(proxied), "{proxied}");
        }
        let proxy = outbound.proxy_for("https://api.push.apple.com").unwrap().unwrap();
        assert_eq!(proxy.address, "http://proxy.example:3128");
    }

    #[test]
    fn none_means_none_and_other_kinds_of_proxy_are_refused() {
        assert!(outbound("none", "").unwrap().proxy_for("https://fcm.googleapis.com").unwrap().is_none());
        assert!(outbound("socks5://x:1", "").is_err());
        for wrong in [
            "http://ada:p^ss@proxy:1",
            "http://ada:p/ss@proxy:1",
            "http://proxy:99999",
            "http://a:b#c@d:1",
            "http://",
        ] {
            assert!(outbound(wrong, "").is_err(), "{wrong}");
        }
        assert!(outbound("environment", "localhost").is_err());
    }
}
