//! The way out: which proxy stands between us and a host, if any.

use anyhow::{bail, ensure};
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use push_domain::OutboundProxy;
use secrecy::{ExposeSecret, SecretString};

use crate::config::OutboundConfig;

/// Knows the proxy for every host.
#[derive(Debug)]
pub(crate) struct Outbound(Option<Matcher>);

impl Outbound {
    /// Reads the settings, or the environment where they say so.
    pub(crate) fn new(config: &OutboundConfig) -> anyhow::Result<Self> {
        let no_proxy = config.no_proxy.clone();
        Ok(match config.proxy.expose_secret() {
            word @ ("none" | "environment") => {
                ensure!(
                    no_proxy.is_empty(),
                    "`outbound.no_proxy` needs an `outbound.proxy`; with `environment`, NO_PROXY counts"
                );
                Self((word == "environment").then(Matcher::from_env))
            }
            address => {
                // The library takes what it cannot read for no proxy at all.
                let plain = address.parse::<Uri>().is_ok_and(|uri| {
                    uri.scheme_str() == Some("http")
                        && matches!(uri.path(), "" | "/")
                        && uri.query().is_none()
                });
                let probe = "https://example.com".parse().map_err(|_| anyhow::anyhow!("no probe"))?;
                let works = Matcher::builder().all(address.to_owned()).build().intercept(&probe).is_some();
                ensure!(
                    plain && works,
                    "`outbound.proxy` has to be `environment`, `none` or http://[user:password@]host:port, other characters than letters and digits of the login written as %40"
                );
                Self(Some(Matcher::builder().all(address.to_owned()).no(no_proxy).build()))
            }
        })
    }

    /// Returns the proxy on the way to `https://host[:port]`.
    pub(crate) fn proxy_for(&self, url: &str) -> anyhow::Result<Option<OutboundProxy>> {
        let Some(matcher) = &self.0 else { return Ok(None) };
        let uri: Uri = url.parse().map_err(|_| anyhow::anyhow!("not a URL with a host"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(proxy: &str, no_proxy: &str) -> anyhow::Result<Outbound> {
        Outbound::new(&OutboundConfig { proxy: proxy.into(), no_proxy: no_proxy.into() })
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
    fn none_means_none_and_other_kinds_of_proxy_are_refused() {
        assert!(outbound("none", "").unwrap().proxy_for("https://fcm.googleapis.com").unwrap().is_none());
        assert!(outbound("socks5://x:1", "").is_err());
        for wrong in ["proxy.example:3128", "http://ada:p^ss@proxy:1", "http://ada:p/ss@proxy:1", "http://"] {
            assert!(outbound(wrong, "").is_err(), "{wrong}");
        }
        assert!(outbound("environment", "localhost").is_err());
    }
}
